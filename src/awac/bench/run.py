"""`awac bench`: training steps a second, measured in short alternating chunks."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from awac.bench.machine import BenchError, Machine
from awac.bench.output import table
from awac.bench.workloads import CHECK_STEPS, WORKLOADS, Workload

PEERS = Path(__file__).parent / "peers"
ROWS = 200_000


@dataclass(frozen=True)
class Implementation:
    """How one is started.

    Attributes:
        script: in `peers/`.
        arguments: of the script.
        packages: what the other environment must have; none means this one.
        workloads: names of the ones it can run, or None for all.
        noise: whether noise can be given to it from outside; if not, the check takes 0.
        tolerance: of the check, relative.
    """

    script: str
    arguments: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    workloads: tuple[str, ...] | None = None
    noise: bool = True
    tolerance: float = 1e-4


IMPLEMENTATIONS = {
    "awac": Implementation("awac_learner.py"),
    "torch-eager": Implementation("torch_corl.py", packages=("torch",)),
    "torch-compile": Implementation("torch_corl.py", ("--compile",), packages=("torch",)),
    "jax-scan": Implementation(  # its products round otherwise: 1.1e-4 in w1 on a processor with AVX-512
        "jax_scan.py", packages=("jax", "optax"), workloads=("w1", "w2", "w3", "default"), tolerance=2e-4
    ),
    "mindspore-rl": Implementation("mindspore_rl_awac.py", workloads=("w1", "w2"), noise=False, tolerance=1e-3),
    "d3rlpy": Implementation("torch_d3rlpy.py", packages=("d3rlpy",), workloads=("d3rlpy",)),
}
PRODUCTS = {
    "sgemm numpy": Implementation("sgemm.py", ("numpy",)),
    "sgemm mindspore": Implementation("sgemm.py", ("mindspore",)),
    "sgemm torch": Implementation("sgemm.py", ("torch",), packages=("torch",)),
    "sgemm jax": Implementation("sgemm.py", ("jax",), packages=("jax",)),
}
"""One large matrix product; the fastest one's rate is the ceiling."""
SGEMM_FLOPS = 2 * 2048**3
NATIVE = "the native operator"
"""What `peers/awac_learner.py` calls it."""


class Worker:
    """A process that holds one implementation of one workload and waits to be asked.

    Args:
        name: for messages.
        implementation: what to start.
        python: interpreter.
        folder: for the arrays that go to and fro.
    """

    def __init__(self, name: str, implementation: Implementation, python: str, folder: Path):
        self.name, self.folder = name, folder
        self.log = open(folder / f"{name}.log", "w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        environment = dict(os.environ)
        if not implementation.packages:
            environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
        self.process = subprocess.Popen(
            [python, str(PEERS / implementation.script), *implementation.arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, encoding="utf-8", env=environment,
        )  # fmt: skip

    def ask(self, **request) -> dict:
        """Sends a request and waits for the answer.

        Raises:
            BenchError: the process died.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        except (OSError, ValueError):
            self.log.seek(0)
            lines = [line for line in self.log.read().splitlines() if line.strip()]
            raise BenchError(f"{self.name} died ({lines[-1] if lines else 'no message'})") from None

    def check(self, batches: Path) -> dict[str, np.ndarray]:
        """Losses and weights after the steps on given batches and noise."""
        out = self.folder / f"{self.name}.npz"
        self.ask(do="check", arrays=str(batches), out=str(out))
        with np.load(out, allow_pickle=False) as file:
            return dict(file)

    def steps_per_s(self, seconds: float) -> float:
        """Steps a second over a chunk of about that length."""
        answer = self.ask(do="time", seconds=seconds)
        return answer["steps"] / answer["seconds"]

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # a request that a dead process did not take
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def bench(machine: Machine, workloads, implementations, rounds: int, seconds: float, python: str | None) -> list[dict]:
    """Measures and prints a table; returns the rows of the JSON file.

    Args:
        machine: what this process is limited to.
        workloads: names.
        implementations: names, or None for all.
        rounds: alternating chunks each.
        seconds: length of a chunk.
        python: interpreter of the environment with PyTorch and JAX, or None to look for it.
    """
    chosen = {name: IMPLEMENTATIONS[name] for name in implementations or IMPLEMENTATIONS}
    other = peers_python(python)
    started = {"awac": IMPLEMENTATIONS["awac"], **chosen, **PRODUCTS}
    for name, implementation in list(started.items()):
        if implementation.packages and not _has(other, implementation.packages):
            where = other or "no other environment"
            lacks = f"{where} lacks {' and '.join(implementation.packages)} (scripts/bench_setup.sh)"
            print(f"{name}: skipped, {lacks}" if name in chosen else f"{name}: not tried for the ceiling")
            del started[name]
    if not any(name in started for name in chosen):
        raise BenchError("nothing to measure: none of the implementations can run here, see above")
    found = []
    print(machine)
    for workload in (WORKLOADS[name] for name in workloads):
        print(f"\n{workload.name}: {workload.about}; {workload.flops() / 1e9:.3f} GFLOP a step", flush=True)
        speeds, libraries = _measure(workload, machine, started, other, rounds, seconds)
        rows = _rows(workload, machine, chosen, speeds, libraries)
        print(table(rows) if rows else f"{workload.name}: no implementation was measured", flush=True)
        found += rows
    return found


def _measure(workload: Workload, machine: Machine, started, other, rounds, seconds) -> tuple[dict, dict]:
    """Median steps a second, and instruction set by library, of each implementation that can run."""
    with tempfile.TemporaryDirectory() as name:
        folder, workers = Path(name), {}
        for zero in (False, True):
            _write_batches(workload, folder, zero)
        reference: dict[bool, dict] = {}
        libraries: dict[str, dict] = {}
        try:
            for key, implementation in started.items():
                if implementation.workloads and workload.name not in implementation.workloads:
                    print(f"{key}: skipped, it has no such networks")
                    continue
                python = other if implementation.packages else sys.executable
                try:
                    workers[key] = Worker(key, implementation, python, folder)
                    _prepare(workers[key], workload, implementation, folder, reference)
                    machine.check(key, about := workers[key].ask(do="about"))
                    libraries[key] = about["isa"]
                except BenchError as error:
                    if key == "awac":
                        raise
                    print(f"{key}: left out: {error}", flush=True)
                    workers.pop(key).close()
            if NATIVE not in libraries["awac"]:
                print("awac: MindSpore's graph, which is slower: the native operator does not run here", flush=True)
            speeds: dict[str, list[float]] = {key: [] for key in workers}
            for _ in range(rounds):
                for key in list(workers):
                    try:
                        speeds[key].append(workers[key].steps_per_s(seconds))
                    except BenchError as error:
                        if key == "awac":
                            raise
                        print(f"{key}: left out: {error}", flush=True)
                        workers.pop(key).close()
                        del speeds[key]
        finally:
            for worker in workers.values():
                worker.close()
    return {key: median(values) for key, values in speeds.items()}, libraries


def _prepare(worker: Worker, workload: Workload, implementation, folder: Path, reference: dict) -> None:
    worker.ask(do="load", settings=workload.settings(), arrays=str(folder / "load.npz"))
    if worker.name in PRODUCTS:
        worker.steps_per_s(0.1)
        return
    if worker.name == "awac":
        reference.update({zero: worker.check(folder / f"check-{zero}.npz") for zero in (False, True)})
    else:
        expected = reference[not implementation.noise]
        found = worker.check(folder / f"check-{not implementation.noise}.npz")
        _compare(found, expected, implementation.tolerance)
    worker.steps_per_s(0.1)  # compiles


def _compare(found: dict, expected: dict, tolerance: float) -> None:
    """Raises BenchError where a loss, or the weights together, differ.

    By the 2-norm of all weights: where rounding decides whether a ReLU is active, Adam makes whole steps of a few.
    """
    apart = {key: _apart([found[key]], [expected[key]]) for key in ("critic_loss", "actor_loss")}
    weights = sorted(expected.keys() & found.keys() - apart.keys())
    apart["weights"] = _apart([found[key] for key in weights], [expected[key] for key in weights])
    for key, value in apart.items():
        if not value <= tolerance:
            raise BenchError(f"after {CHECK_STEPS} steps its {key} differ from awac's by {value:.1e}, relatively")


def _apart(one, other) -> float:
    difference = sum(float(np.square(a.astype(np.float64) - b).sum()) for a, b in zip(one, other, strict=True))
    return (difference / sum(float(np.square(b.astype(np.float64)).sum()) for b in other)) ** 0.5


def _write_batches(workload: Workload, folder: Path, zero_noise: bool) -> None:
    weights = {f"weights/{key}": value for key, value in workload.weights().items()}
    np.savez(folder / "load.npz", **weights, **{f"rows/{k}": v for k, v in workload.rows(ROWS).items()})
    size = workload.algo.batch_size
    rows = {k: v.reshape(CHECK_STEPS, size, *v.shape[1:]) for k, v in workload.rows(CHECK_STEPS * size, 3).items()}
    noise = workload.noise(CHECK_STEPS) * (0.0 if zero_noise else 1.0)
    np.savez(folder / f"check-{zero_noise}.npz", noise=noise.astype(np.float32),
             **{f"rows/{k}": v for k, v in rows.items()})  # fmt: skip


def _rows(workload: Workload, machine: Machine, chosen, speeds: dict[str, float], libraries: dict) -> list[dict]:
    rates = {key[6:]: speeds[key] * SGEMM_FLOPS / 1e9 for key in PRODUCTS if key in speeds}
    library = max(rates, key=lambda name: rates[name])
    ceiling = rates[library] * 1e9 / workload.flops()
    listed = ", ".join(f"{rate:.0f} GFLOP/s ({name})" for name, rate in rates.items())
    print(f"one 2048 × 2048 × 2048 product: {listed}, so at most {ceiling:.1f} steps/s")
    ratios = {"ratio_to_torch_eager": speeds.get("torch-eager"), "ratio_to_jax_scan": speeds.get("jax-scan")}
    return [
        {
            "workload": workload.name,
            "implementation": key,
            **machine.fields(),
            "libraries": libraries[key],
            "steps_per_s": round(speeds[key], 2),
            **{name: round(speeds[key] / other, 3) if other else None for name, other in ratios.items()},
            "share_of_ceiling": round(speeds[key] / ceiling, 3),
            "ceiling_gflops": round(rates[library], 1),
            "ceiling_library": library,
        }
        for key in chosen
        if key in speeds
    ]


def peers_python(given: str | None) -> str | None:
    """Interpreter of the peers' environment: given, $AWAC_BENCH_PYTHON, or .venv-bench here or in the checkout."""
    given = given or os.environ.get("AWAC_BENCH_PYTHON")
    if given:
        return given
    for folder in (Path.cwd(), Path(__file__).parents[3]):
        python = folder / ".venv-bench" / "bin" / "python"
        if python.exists():
            return str(python)
    return None


def _has(python: str | None, packages) -> bool:
    code = "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, sys.argv[1:])))"
    try:
        return python is not None and subprocess.run([python, "-c", code, *packages], timeout=60).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False
