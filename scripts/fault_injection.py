"""Strikes training runs at random instants and compares what they become; scripts/fault_injection.sh runs it."""

from __future__ import annotations

import argparse
import csv
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
EPISODES = 12
SETTINGS = ("n_steps_per_episode=20 steps_per_call=4 offline_train_steps=80 batch_size=8 actor_hidden=[8,8] "
            "critic_hidden=[8,8] log_every=2 eval_every=4 save_every=1 eval_episodes=1 "
            "online_capacity=100")  # fmt: skip
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
FAULTS = (*SIGNALS, "truncate", "disk_full", "row")
FILE_LIMIT = 16_000
SECONDS_TO_STOP = 10


class Lost(Exception):  # noqa: N818
    """A run could not go on, or took too long to stop."""


def start(folder: Path, *flags: str, limit: int | None = None) -> subprocess.Popen:
    command = [sys.executable, "-u", "-m", "awac.cli", "train", "--ckpt_path", str(folder), "--episode", str(EPISODES),
               "--dataset", str(ROOT / "tests/data/ant_recorded.hdf5"), *flags, "--set", *SETTINGS.split()]  # fmt: skip
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) if limit else None,
    )  # fmt: skip


def finish(process: subprocess.Popen, folder: Path) -> None:
    out, _ = process.communicate(timeout=600)
    check(process, out, folder)


def check(process: subprocess.Popen, out: str, folder: Path) -> None:
    if process.returncode != 0:
        raise Lost(f"{folder.name} ended with {process.returncode}: {out[-300:]}")


def resume(folder: Path) -> None:
    """Goes on to the end; where a cut hit the only checkpoint there was, the run says so and starts over as it says."""
    process = start(folder, go_on(folder))
    out, _ = process.communicate(timeout=600)
    if process.returncode == 1 and "--overwrite starts over" in out:
        process = start(folder, "--overwrite")
        out, _ = process.communicate(timeout=600)
    check(process, out, folder)


def strike(process: subprocess.Popen, number: int, rng: random.Random, span: float) -> float:
    """Sends a signal at a random instant, one time in five before training begins; returns the seconds to the end."""
    if rng.random() < 0.2:
        time.sleep(rng.uniform(0, span))
    else:
        for line in process.stdout:
            if line.startswith("Task "):
                break
        time.sleep(rng.uniform(0, span))
    process.send_signal(number)
    struck = time.monotonic()
    process.communicate(timeout=600)
    return time.monotonic() - struck


def go_on(folder: Path) -> str:
    """`--resume` where there is something to resume; a run struck before it made its folder starts again."""
    return "--resume" if folder.is_dir() and any(folder.iterdir()) else "--overwrite"


def cut_something(folder: Path, rng: random.Random) -> None:
    """Cuts one of the files written last, and leaves half a temporary file, as a power loss may."""
    files = sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_mtime_ns)
    newest = [p for p in files if p.name != "run.lock"][-6:]
    if newest:
        path = rng.choice(newest)
        content = path.read_bytes()
        path.write_bytes(content[: rng.randrange(len(content) + 1)])
        path.with_name(f".{path.stem}.tmp{path.suffix}").write_bytes(content[: len(content) // 2])


def outcome(folder: Path) -> dict:
    """What two runs are compared by."""
    with np.load(folder / f"train_state/state_{EPISODES}.npz", allow_pickle=False) as state:
        found = {key: state[key].tobytes() for key in state.files}
    for name in ("train.csv", "eval.csv"):
        with open(folder / name, newline="", encoding="utf-8") as file:
            found[name] = [{k: v for k, v in row.items() if k != "per_step_time_ms"} for row in csv.DictReader(file)]
    return found


def inject(fault: str, folder: Path, rng: random.Random, span: float, row: int) -> float:
    """Trains once with a fault; returns the longest time that a polite signal took to end the run."""
    slowest = 0.0
    if fault == "disk_full":
        half = start(folder)
        strike(half, signal.SIGTERM, rng, span)
        full = start(folder, go_on(folder), limit=FILE_LIMIT)
        out, _ = full.communicate(timeout=600)
        if full.returncode not in (0, 1) or "Traceback" in out:
            raise Lost(f"a full disk ended the run with {full.returncode}: {out[-300:]}")
    else:
        for _ in range(row if fault == "row" else 1):
            process = start(folder, go_on(folder)) if folder.exists() else start(folder)
            seconds = strike(process, SIGNALS.get(fault, signal.SIGKILL), rng, span / 4 if fault == "row" else span)
            if fault in ("SIGTERM", "SIGINT"):
                slowest = max(slowest, seconds)
            if fault == "truncate":
                cut_something(folder, rng)
    resume(folder)
    if slowest > SECONDS_TO_STOP:
        raise Lost(f"{fault} took {slowest:.1f} s")
    return slowest


def main() -> int:
    parser = argparse.ArgumentParser(prog="fault_injection.sh")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--row", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=FAULTS)
    args = parser.parse_args()
    rng, bad = random.Random(args.seed), 0
    with tempfile.TemporaryDirectory(prefix="awac-faults-") as place:
        reference = start(Path(place, "reference"))
        next(line for line in reference.stdout if line.startswith("Task "))
        began = time.monotonic()
        finish(reference, Path(place, "reference"))
        span, expected = time.monotonic() - began, outcome(Path(place, "reference"))
        print(f"a run of {EPISODES} episodes, {span:.1f} s of training; strikes at random instants of it\n")
        print("| fault | times tried | lost | differing | slowest stop |\n|---|---|---|---|---|", flush=True)
        for fault in args.faults:
            times, lost, differing, slowest, notes = 1 if fault == "row" else args.times, 0, 0, 0.0, []
            for number in range(times):
                folder = Path(place, f"{fault}_{number}")
                try:
                    slowest = max(slowest, inject(fault, folder, rng, span, args.row))
                    found = outcome(folder)
                    wrong = [key for key in expected if found.get(key) != expected[key]]
                    differing += bool(wrong)
                    notes += [f"{folder.name}: {', '.join(wrong[:3])}"] if wrong else []
                except (Lost, OSError, subprocess.TimeoutExpired) as error:
                    lost += 1
                    notes.append(str(error))
            name = f"{args.row} SIGKILLs in a row" if fault == "row" else fault
            stop = f"{slowest:.1f} s" if slowest else "–"
            print(f"| {name} | {times} | {lost} | {differing} | {stop} |", flush=True)
            for note in notes:
                print(f"    {note}", file=sys.stderr)
            bad += lost + differing
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
