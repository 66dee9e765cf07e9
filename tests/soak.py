"""Leaks of a long run: memory over online steps, file handles over evaluations. Linux only: it reads /proc.

python tests/soak.py --steps 200000 --evaluations 1000   prints the figures that test_soak.py holds against bounds.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import gc
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tiny import RECORDED, settings

SOURCE = Path(__file__).resolve().parents[1] / "src"
PAGE = os.sysconf("SC_PAGE_SIZE")


class Sample(NamedTuple):
    """A process at one moment; `count` says how far it is."""

    count: int
    memory: int
    handles: int
    threads: int


class Soak(NamedTuple):
    """Growth of a process: bytes per count after the warm-up, and the total from then to the end."""

    slope: float
    memory: int
    gained_memory: int
    gained_handles: int
    gained_threads: int

    def describe(self, what: str, count: int) -> str:
        return (
            f"{count} {what}: memory {self.slope:+.2f} bytes each ({self.gained_memory / 2**20:+.2f} MiB after the "
            f"warm-up, {self.memory / 2**20:.0f} MiB in all), file handles {self.gained_handles:+d}, threads "
            f"{self.gained_threads:+d}"
        )


def look(process: int | str, count: int) -> Sample:
    """Resident memory, open files and threads of a process."""
    place = Path("/proc", str(process))
    resident = int((place / "statm").read_text().split()[1]) * PAGE
    return Sample(count, resident, len(os.listdir(place / "fd")), len(os.listdir(place / "task")))


def judge(samples: list[Sample], warm_up: float = 0.25) -> Soak:
    """Least squares after the warm-up; a handle that is open for a moment only is not a leak."""
    begun = samples[0].count + warm_up * (samples[-1].count - samples[0].count)
    kept = np.array([sample for sample in samples if sample.count >= begun])
    third = max(len(kept) // 3, 1)
    first, last = kept[:third], kept[-third:]
    gained = last.min(axis=0) - first.min(axis=0)
    slope = float(np.polyfit(kept[:, 0], kept[:, 1], 1)[0])
    return Soak(slope, int(kept[-1, 1]), *(int(n) for n in gained[1:]))


def train(folder: Path, steps: int, episode: int, **changes) -> Soak:
    """Trains for `steps` online steps in another process and watches it from outside.

    The ring of online rows is full long before the warm-up ends, so that memory has no reason left to grow.
    """
    wanted = {
        "n_steps_per_episode": episode,
        "steps_per_call": 50,
        "offline_train_steps": episode,
        "online_warmup": 0,
        "save_every": 5,
    }
    wanted |= {"online_capacity": 10 * episode if episode < 1000 else 5000, "eval_every": 10, "log_every": 10}
    command = [sys.executable, "-m", "awac.cli", "train", "--dataset", str(RECORDED), "--ckpt_path", str(folder)]
    command += ["--episode", str(1 + steps // episode), *settings(**{**wanted, **changes})]
    paths = os.pathsep.join([str(SOURCE), *filter(None, map(os.path.abspath, sys.path))])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    table, samples = folder / "train.csv", []
    with tempfile.TemporaryFile("w+") as log:
        with subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process:
            while process.poll() is None:
                done = _env_steps(table)
                if done > (samples[-1].count if samples else 0):
                    with contextlib.suppress(OSError, IndexError):  # it has just ended
                        samples.append(look(process.pid, done))
                time.sleep(0.01)
        log.seek(0)
        assert process.returncode == 0, log.read()
    return judge(samples)


def evaluate(folder: Path, evaluations: int) -> Soak:
    """Evaluates a checkpoint again and again in this process, each time from the files on.

    Networks and environments hang in cycles until Python's collector comes by; it is called, for that is no leak.
    """
    from awac.training import session

    samples = []
    for number in range(evaluations):
        with contextlib.redirect_stdout(io.StringIO()):
            session.evaluate(str(folder))
        gc.collect()
        samples.append(look("self", number + 1))
    return judge(samples, warm_up=0.1)


def _env_steps(table: Path) -> int:
    try:
        with open(table, newline="", encoding="utf-8") as file:
            return max((int(row["env_steps"] or 0) for row in csv.DictReader(file)), default=0)
    except (OSError, TypeError, ValueError, KeyError):
        return 0  # not there yet, or a row is being written


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--evaluations", type=int, default=1000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="awac-soak-") as place:
        folder, began = Path(place, "ckpt"), time.monotonic()
        print(train(folder, args.steps, 1000).describe("online steps", args.steps), flush=True)
        print(f"    {time.monotonic() - began:.0f} s", flush=True)
        began = time.monotonic()
        print(evaluate(folder, args.evaluations).describe("evaluations", args.evaluations))
        print(f"    {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
