"""Processor, instruction set and threads of a measurement, set for every implementation alike and checked."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from numpy.core import _multiarray_umath as umath

from awac.errors import AWACError

ISAS = ("native", "avx2")
_AVX2 = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "DNNL_MAX_CPU_ISA": "AVX2",  # the name in oneDNN 2.2, which MindSpore 2.7 brings along
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "AWAC_MARCH": "haswell",
}
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_FAMILIES = (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("avx", "AVX"))


class BenchError(AWACError):
    """An implementation can't be run as asked, or computes something else."""


@dataclass(frozen=True)
class Machine:
    """What every implementation may use.

    Attributes:
        processor: its name, family and model.
        isa: the widest vector instructions.
        threads: of each; the process is tied to as many processors.
    """

    processor: str
    isa: str
    threads: int

    def __str__(self) -> str:
        return f"{self.processor}, {self.isa}, {self.threads} thread{'' if self.threads == 1 else 's'}"

    def fields(self) -> dict:
        """For a row of the JSON file."""
        return asdict(self)

    def check(self, name: str, found: dict) -> None:
        """Holds what a process found out about itself against this.

        Args:
            name: of the implementation.
            found: `isa`, the instruction set by library, and `threads`.

        Raises:
            BenchError: a library uses wider instructions, or there are other than `threads` threads.
        """
        for library, isa in found["isa"].items():
            if self.isa == "AVX2" and isa != "AVX2":
                raise BenchError(f"{name}: {library} should use AVX2 and uses {isa}")
        if found["threads"] != self.threads:
            raise BenchError(f"{name} should use {self.threads} threads and uses {found['threads']}")


@contextlib.contextmanager
def limited(isa: str, threads: int | None) -> Iterator[Machine]:
    """Ties this process and those it starts to an instruction set and a number of processors.

    Args:
        isa: "avx2", or "native" for whatever the processor has.
        threads: None for all that this process may use.

    Raises:
        BenchError: the processor has no AVX2, or there are fewer processors.
    """
    from awac.algorithm.native.cpus import threads as allowed_threads  # it loads MindSpore

    processors, before = sorted(os.sched_getaffinity(0)), dict(os.environ)
    threads = threads or min(allowed_threads(), len(processors))
    if threads > len(processors):
        raise BenchError(f"--threads {threads}: this process may use {len(processors)} processors")
    machine = _machine(threads, isa)
    try:
        os.sched_setaffinity(0, processors[:threads])
        os.environ.update({name: str(threads) for name in _THREADS})
        if isa == "avx2":
            wider = [name for name in umath.__cpu_dispatch__ if "512" in name and umath.__cpu_features__[name]]
            os.environ.update(_AVX2, NPY_DISABLE_CPU_FEATURES=" ".join(wider))
            os.environ["XLA_FLAGS"] = f"{before.get('XLA_FLAGS', '')} --xla_cpu_max_isa=AVX2".strip()
        yield machine
    finally:
        os.sched_setaffinity(0, processors)
        os.environ.clear()
        os.environ.update(before)


def _machine(threads: int, isa: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> Machine:
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    lines = dict(re.findall(r"^(\S.*?)\s*: (.*)$", text.split("\n\n")[0], re.MULTILINE))
    name = f"{lines.get('model name', 'unknown')} (family {lines.get('cpu family')}, model {lines.get('model')})"
    flags = lines.get("flags", "").split()
    widest = next((words for flag, words in _FAMILIES if flag in flags), "SSE")
    if isa == "avx2" and "avx2" not in flags:
        raise BenchError("--isa avx2: this processor has no AVX2")
    return Machine(name, "AVX2" if isa == "avx2" else widest, threads)
