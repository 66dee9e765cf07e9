"""The learner's steps as one operator, compiled at first use from the C++ beside this file.

The library is kept in the user's cache folder, under a name that changes with the source, MindSpore and the processor.
Where there is no compiler, another device than the CPU, or AWAC_NATIVE=0 in the environment, `library` is None and the
learner runs as MindSpore compiles it: the same arithmetic, in many more kernels.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import mindspore as ms
from mindspore import ParameterTuple, Tensor, ops
from mindspore.ops import signature

from awac.runs.files import cache_folder

FOLDER = Path(__file__).parent
FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-mprefer-vector-width=512",
    "-fno-math-errno",
    "-fopenmp-simd",
    "-fPIC",
    "-shared",
    "-pthread",
)


def library() -> str | None:
    """Path of the compiled library, or None where the learner has to do without."""
    wanted = os.environ.get("AWAC_NATIVE", "1") != "0" and ms.get_context("device_target") == "CPU"
    return _build() if wanted and sys.platform == "linux" and platform.machine() == "x86_64" else None


@functools.cache
def _build() -> str | None:
    onednn = Path(ms.__file__).parent / "lib"
    compiler = os.environ.get("CXX", "g++")
    try:
        sources = [(FOLDER / name).read_text(encoding="utf-8") for name in ("pool.h", "mlp.h", "learner.cc")]
        processor = next(
            (
                x
                for x in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
                if x.startswith("flags")
            ),
            "",
        )
        parts = (*sources, *FLAGS, compiler, ms.__version__, str(onednn), processor)
        name = f"learner-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}.so"
        folder = cache_folder()
        if not (folder / name).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as made:  # renamed when whole: runs may build side by side
                command = [compiler, *FLAGS, str(FOLDER / "learner.cc"), "-o", f"{made}/{name}"]
                command += [f"-L{onednn}", "-l:libdnnl.so.2", f"-Wl,-rpath,{onednn}"]
                subprocess.run(command, check=True, capture_output=True, timeout=120)
                os.replace(f"{made}/{name}", folder / name)
        return str(folder / name)
    except (OSError, RuntimeError, subprocess.SubprocessError):
        return None


def state(learner) -> ParameterTuple:
    """Every parameter of an AWACLearner, in the order that the operator takes them."""
    actor, critic = learner.actor_adam, learner.critic_adam
    powers = [p for adam in (actor, critic) for p in (adam.beta1_power, adam.beta2_power)]
    of_actor = [*learner.actor_parameters, *actor.m, *actor.v, *learner.average_parameters]
    of_critic = [*learner.critic_parameters, *critic.m, *critic.v, *learner.target_parameters]
    return ParameterTuple([*powers, *of_actor, *of_critic])


def threads() -> int:
    """As many as OMP_NUM_THREADS says, else one for each processor that this process may use."""
    # Asked here, not in C++: MindSpore sets the variable to 1 there for itself.
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) else len(os.sched_getaffinity(0))


def settings(config, actor, discrete: bool) -> Tensor:
    """An AlgoConfig and a policy's sizes, in the order of `Settings` in learner.cc."""
    flags = (discrete, config.state_dependent_std, config.critic_layer_norm, config.weighting == "softmax",
             config.loss_reduction == "sum")  # fmt: skip
    action_size = actor.trunk.weights[-1].shape[-1] if discrete else actor.action_size
    sizes = (actor.obs_size, action_size, len(config.actor_hidden) + 1, len(config.critic_hidden) + 1)
    values = (config.gamma, config.tau, config.lam, config.weight_clip, config.reward_scale, config.log_std_min,
              config.log_std_max, config.actor_lr, config.critic_lr, config.actor_weight_decay,
              1.0 - config.actor_ema, threads())  # fmt: skip
    return Tensor([float(x) for x in (*flags, *sizes, *values)], ms.float32)


def learn(path: str, metrics: int, parameters: int):
    """The operator (settings, rows, noise, *state) → (metrics, bad_step), which updates the state in place."""
    operator = ops.Custom(
        f"{path}:Learn", lambda *_: ([metrics], [1]), lambda *_: (ms.float32, ms.int32), func_type="aot"
    )
    # Both say that it writes to its parameters: MindSpore hands over the parameters themselves, not copies.
    operator.add_prim_attr("side_effect_mem", True)
    read, write = signature.sig_rw.RW_READ, signature.sig_rw.RW_WRITE
    kinds = [read] * 3 + [write] * parameters
    operator.set_signatures(tuple(signature.make_sig(f"x{i}", kind) for i, kind in enumerate(kinds)))
    return operator
