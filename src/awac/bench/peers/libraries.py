"""Which instructions the numerical libraries of this process use, asked of themselves."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_JAX = """
import jax, jax.numpy as jnp
x = jnp.ones((64, 64))
jax.jit(lambda a: a @ a)(x).block_until_ready()
"""


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def numpy_isa() -> dict[str, str]:
    """numpy's own loops, and its OpenBLAS."""
    import numpy as np
    from numpy.core._multiarray_umath import __cpu_features__ as features

    (path,) = (Path(np.__file__).parents[1] / "numpy.libs").glob("libopenblas*.so")
    library = ctypes.CDLL(str(path))
    library.openblas_get_corename64_.restype = ctypes.c_char_p
    core = library.openblas_get_corename64_().decode()
    return {
        "numpy": "AVX-512" if features["AVX512F"] else "AVX2" if features["AVX2"] else "SSE",
        "OpenBLAS": "AVX2" if core in ("Haswell", "Zen") else core,
    }


def mindspore_isa() -> dict[str, str]:
    """The oneDNN that MindSpore brings along, which its matrix products and the native operator use."""
    import mindspore

    (path, *_) = (Path(mindspore.__file__).parent / "lib").glob("libdnnl.so.[0-9]")
    isa = ctypes.CDLL(str(path)).dnnl_get_effective_cpu_isa()
    return {"oneDNN": "AVX-512" if isa & 0x20 else "AVX2" if isa & 0x4 else hex(isa)}


def torch_isa() -> dict[str, str]:
    """PyTorch's own kernels, its MKL and its oneDNN."""
    import torch

    x, backends = torch.ones(64, 64), torch.backends
    with _Printed() as printed:
        with backends.mkl.verbose(backends.mkl.VERBOSE_ON):
            torch.mm(x, x)
        with backends.mkldnn.verbose(backends.mkldnn.VERBOSE_ON):
            x.to_mkldnn().relu()
    lines = printed.text.splitlines()
    found = {"PyTorch": _family(backends.cpu.get_cpu_capability())}
    for library, mark in (("MKL", "Intel(R) 64 architecture"), ("oneDNN", "cpu,isa:")):
        line = next((line for line in lines if mark in line), "")
        found[library] = _family(line) if line else "unknown instructions"
    return found


def jax_isa() -> dict[str, str]:
    """XLA's compiler and the oneDNN in it, as a process beside this one says: both print it at their start only."""
    environment = {**os.environ, "ONEDNN_VERBOSE": "1"}
    run = subprocess.run(
        [sys.executable, "-c", _JAX], env=environment, capture_output=True, encoding="utf-8", check=True
    )
    line = next((line for line in run.stdout.splitlines() if "cpu,isa:" in line), "")
    limited = "xla_cpu_max_isa=AVX2" in os.environ.get("XLA_FLAGS", "") and "Unknown CPU ISA" not in run.stderr
    return {"XLA": "AVX2" if limited else "what the processor has",
            "oneDNN in XLA": _family(line) if line else "unknown instructions"}  # fmt: skip


def _family(line: str) -> str:
    if any(name in line for name in ("AVX-512", "AVX512", "AVX10")):
        return "AVX-512"
    # On AMD, MKL takes its kernels for Zen, which are AVX2's, and names no instructions.
    return "AVX2" if "AVX2" in line or "for Intel(R) 64 architecture Intel(R) Architecture processors" in line else line


class _Printed:
    """What C libraries print to stdout meanwhile."""

    def __enter__(self):
        self._file, self._stdout = tempfile.TemporaryFile("w+"), os.dup(1)  # noqa: SIM115
        os.dup2(self._file.fileno(), 1)
        return self

    def __exit__(self, *_):
        os.dup2(self._stdout, 1)
        os.close(self._stdout)
        self._file.seek(0)
        self.text = self._file.read()
        self._file.close()
