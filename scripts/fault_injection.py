"""Interrupts tiny training runs at random moments, resumes them, and compares them with an uninterrupted run.

Compared are parameters, optimiser moments and generators byte by byte, train.csv (except for the step time) and
eval.csv row by row. Prints a table; the exit code is 0 if nothing was lost and nothing differs, 1 otherwise.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
EPISODES = 12
SETTINGS = [
    *(
        "n_steps_per_episode=20",
        "steps_per_call=4",
        "offline_train_steps=80",
        "online_warmup=0",
        "batch_size=8",
        "online_capacity=100",
    ),
    *("actor_hidden=[8,8]", "critic_hidden=[8,8]"),
    *("log_every=2", "eval_every=4", "save_every=1", "eval_episodes=1"),
]
DATA = str(ROOT / "tests/data/ant_recorded.hdf5")
FILE_LIMIT = 16_000  # bytes; a checkpoint's files are larger
SECONDS_TO_STOP = 10
LAST_DIGITS = 1e-3  # relative difference of an offline loss between the native operator and MindSpore's graph

# An Ant that fails where AWAC_FAIL says "raise 150" or "nan 150": at that step, counted over all episodes.
FAULTY_ENVIRONMENT = """
import os
import gymnasium
from awac.envs.mujoco_v2 import AntV2

class Faulty(AntV2):
    steps = 0
    def step(self, action):
        Faulty.steps += 1
        observation, reward, *rest = super().step(action)
        kind, _, at = os.environ.get("AWAC_FAIL", "none 0").partition(" ")
        if Faulty.steps == int(at) and kind == "raise":
            raise RuntimeError("simulator lost its connection")
        return observation, float("nan") if Faulty.steps == int(at) and kind == "nan" else reward, *rest

gymnasium.register("Faulty-v0", entry_point=Faulty, max_episode_steps=1000)
"""


class Lost(Exception):  # noqa: N818
    """A run could not be resumed, took too long to stop, or printed something unexpected."""


class Trial:
    """One run that is interrupted and resumed.

    Args:
        folder: of the run.
        rng: chooses the moments.
        span: seconds that a run trains for.
        task: `ant-expert-v2`, or the faulty one.
    """

    def __init__(self, folder: Path, rng: random.Random, span: float, task: str):
        self.folder, self.rng, self.span, self.task = folder, rng, span, task
        self.slowest = 0.0

    def start(self, *flags: str, limit: int | None = None, **environment: str) -> subprocess.Popen:
        """Starts training; `limit` is the largest file it may write."""
        command = [sys.executable, "-u", "-m", "awac.cli", "train", "--task", self.task, "--dataset", DATA]
        command += ["--ckpt_path", str(self.folder), "--episode", str(EPISODES), *flags, "--set", *SETTINGS]
        return _process(command, self.folder.parent, limit, environment)

    def go_on(self) -> str:
        """`--resume` if there is something to resume; a run stopped before it made its folder starts again."""
        return "--resume" if self.folder.is_dir() and any(self.folder.iterdir()) else "--overwrite"

    def stop(self, process: subprocess.Popen, number: int, span: float | None = None, after: str | None = None) -> None:
        """Sends a signal at a random moment, one time in five before training begins, or after a line of the log."""
        if after or self.rng.random() >= 0.2:
            next((line for line in process.stdout if line.startswith(after or "Task ")), None)
        time.sleep(self.rng.uniform(0, 0.1 if after else self.span if span is None else span))
        process.send_signal(number)
        sent = time.monotonic()
        process.communicate(timeout=600)
        if number != signal.SIGKILL:
            self.slowest = max(self.slowest, time.monotonic() - sent)

    def finish(self, *flags: str, **environment: str) -> None:
        """Resumes to the end; if no sound checkpoint is left, the run says so and starts over as it says."""
        out, code = _end(self.start(*(flags or (self.go_on(),)), **environment))
        if code == 1 and "--overwrite starts over" in out:
            out, code = _end(self.start("--overwrite", **environment))
        if code:
            raise Lost(f"{self.folder.name} ended with {code}: {out[-300:]}")


def kill(trial: Trial) -> None:
    """SIGKILL at a random moment."""
    trial.stop(trial.start(), signal.SIGKILL)


def terminate(trial: Trial) -> None:
    """SIGTERM at a random moment."""
    trial.stop(trial.start(), signal.SIGTERM)


def interrupt(trial: Trial) -> None:
    """SIGINT at a random moment."""
    trial.stop(trial.start(), signal.SIGINT)


def kill_in_evaluation(trial: Trial) -> None:
    """SIGKILL or SIGTERM as soon as episode 4 or 8 is logged, which is when it is evaluated."""
    after = f"Episode {trial.rng.choice((4, 8))}:"
    trial.stop(trial.start(), trial.rng.choice((signal.SIGKILL, signal.SIGTERM)), after=after)


def kills_in_a_row(trial: Trial) -> None:
    """24 SIGKILLs in sequence."""
    for _ in range(24):
        trial.stop(trial.start(trial.go_on()), signal.SIGKILL, trial.span / 4)


def cut_file(trial: Trial) -> None:
    """SIGKILL, then one of the latest files is truncated and half a temporary file is left, as after a power loss."""
    kill(trial)
    files = sorted((p for p in trial.folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_mtime_ns)
    newest = [p for p in files if p.name != "run.lock"][-6:]
    if newest:
        path = trial.rng.choice(newest)
        content = path.read_bytes()
        path.write_bytes(content[: trial.rng.randrange(len(content) + 1)])
        path.with_name(f".{path.stem}.tmp{path.suffix}").write_bytes(content[: len(content) // 2])


def full_disk(trial: Trial) -> None:
    """SIGTERM, then a run in which no file may grow beyond a few kB."""
    terminate(trial)
    out, code = _end(trial.start(trial.go_on(), limit=FILE_LIMIT))
    _expect(code in (0, 1) and "Traceback" not in out, f"a full disk ended the run with {code}: {out[-300:]}")


def full_cache(trial: Trial) -> None:
    """The data set is generated into a cache on a full disk: one line, no partial file; with space it works."""
    cache = trial.folder.parent / f"{trial.folder.name}_cache"
    command = [sys.executable, "-m", "awac.cli", "doctor", "CartPole-v1"]
    place = {"AWAC_CACHE_DIR": str(cache)}
    out, code = _end(_process(command, trial.folder.parent, FILE_LIMIT, place))
    _expect(code == 1 and "Traceback" not in out, f"a full cache ended with {code}: {out[-300:]}")
    left = [path.name for path in cache.rglob("*") if path.is_file()]
    _expect(not left, f"a full cache left {left}")
    out, code = _end(_process(command, trial.folder.parent, None, place))
    _expect(code == 0, f"after a full cache: {out[-300:]}")


def environment_raises(trial: Trial) -> None:
    """The environment raises at a random online step or in an evaluation."""
    _fail(trial, "raise", "simulator lost its connection")


def environment_gives_nan(trial: Trial) -> None:
    """The environment gives a NaN reward at a random online step or in an evaluation."""
    _fail(trial, "nan", "nan")


def two_writers(trial: Trial) -> None:
    """A second run into the same folder while the first one trains: refused, and the first one is not affected."""
    first = trial.start()
    next(line for line in first.stdout if line.startswith("Task "))
    first.send_signal(signal.SIGSTOP)  # it keeps its lock until the second one has started
    out, code = _end(trial.start(trial.rng.choice(("--resume", "--overwrite"))))
    first.send_signal(signal.SIGCONT)
    _expect(code == 1 and "is in use by the run with pid" in out, f"a second writer ended with {code}: {out[-300:]}")
    _end(first)


def clock_set_back(trial: Trial) -> None:
    """SIGKILL, then every file of the run is a year newer than the clock."""
    kill(trial)
    later = time.time() + 365 * 86400
    for path in trial.folder.rglob("*"):
        os.utime(path, (later, later))


def moved(trial: Trial) -> None:
    """SIGKILL, then the folder is moved and resumed there."""
    kill(trial)
    if trial.folder.is_dir():
        place = trial.folder.with_name(f"{trial.folder.name}_moved")
        shutil.move(trial.folder, place)
        trial.folder = place


def no_compiler(trial: Trial) -> None:
    """SIGKILL, then the run is resumed without a compiler, or was started without one."""
    here, there = {"AWAC_NATIVE": "1"}, {"CXX": "/nonexistent/g++", "AWAC_CACHE_DIR": f"{trial.folder}_cache"}
    first, second = trial.rng.sample((here, there), 2)
    trial.stop(trial.start(**first), signal.SIGKILL)
    trial.finish(**second)


FAULTS: dict[str, Callable[[Trial], None]] = {
    "SIGKILL": kill,
    "SIGTERM": terminate,
    "SIGINT": interrupt,
    "kill_in_evaluation": kill_in_evaluation,
    "kills_in_a_row": kills_in_a_row,
    "cut_file": cut_file,
    "full_disk": full_disk,
    "full_cache": full_cache,
    "environment_raises": environment_raises,
    "environment_gives_nan": environment_gives_nan,
    "two_writers": two_writers,
    "clock_set_back": clock_set_back,
    "moved": moved,
    "no_compiler": no_compiler,
}
FAULTY_TASK = {"environment_raises", "environment_gives_nan"}


def outcome(folder: Path) -> dict:
    """The content that two runs are compared by."""
    with np.load(folder / f"train_state/state_{EPISODES}.npz", allow_pickle=False) as state:
        found: dict = {key: state[key] for key in state.files}
    for name in ("train.csv", "eval.csv"):
        with open(folder / name, newline="", encoding="utf-8") as file:
            found[name] = [{k: v for k, v in row.items() if k != "per_step_time_ms"} for row in csv.DictReader(file)]
    return found


def differences(found: dict, expected: dict, offline_only: bool) -> list[str]:
    """Names of what differs; `offline_only` compares the losses of the offline phase, to `LAST_DIGITS`.

    Online, a difference in the last digit of an action becomes another episode.
    """
    if offline_only:
        pairs = [(row, other) for row, other in zip(found["train.csv"], expected["train.csv"], strict=True)]
        losses = [(float(a["critic_loss"]), float(b["critic_loss"])) for a, b in pairs if b["phase"] == "offline"]
        return ["critic_loss"] if any(abs(a - b) > LAST_DIGITS * abs(b) for a, b in losses) else []
    return [key for key in expected if not np.array_equal(found.get(key), expected[key])]


def _fail(trial: Trial, kind: str, text: str) -> None:
    out, code = _end(trial.start(AWAC_FAIL=f"{kind} {trial.rng.randrange(5, 150)}"))
    _expect(code == 1 and text in out and "Traceback" not in out, f"{kind} ended with {code}: {out[-300:]}")


def _process(command: list[str], cwd: Path, limit: int | None, environment: dict[str, str]) -> subprocess.Popen:
    paths = [str(ROOT / "src"), str(cwd), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths), **environment}
    limits = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) if limit else None
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=cwd, env=environment, preexec_fn=limits, **pipes)


def _end(process: subprocess.Popen) -> tuple[str, int]:
    return process.communicate(timeout=600)[0], process.returncode


def _expect(holds: bool, text: str) -> None:
    if not holds:
        raise Lost(text)


def main() -> int:
    names = "; ".join(f"{name}: {fault.__doc__}" for name, fault in FAULTS.items())
    parser = argparse.ArgumentParser(prog="fault_injection.sh", description=__doc__, epilog=names)
    parser.add_argument("--times", type=int, default=10, choices=range(1, 1001), metavar="N", help="(default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default: 0)")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS), help="(default: all)")
    args = parser.parse_args()
    rng, bad = random.Random(args.seed), 0
    with tempfile.TemporaryDirectory(prefix="awac-faults-") as name:
        place = Path(name)
        (place / "faulty.py").write_text(FAULTY_ENVIRONMENT, encoding="utf-8")
        expected, span = {}, 0.0
        tasks = {"faulty:Faulty-v0" if fault in FAULTY_TASK else "ant-expert-v2" for fault in args.faults}
        for task in sorted(tasks):
            reference = Trial(place / f"reference_{len(expected)}", rng, 0.0, task)
            process = reference.start()
            next(line for line in process.stdout if line.startswith("Task "))
            began = time.monotonic()
            out, code = _end(process)
            _expect(code == 0, f"the reference run ended with {code}: {out[-300:]}")
            span, expected[task] = time.monotonic() - began, outcome(reference.folder)
        print(f"a run of {EPISODES} episodes trains for {span:.1f} s\n")
        print("| fault | times tried | lost | differing | slowest stop |\n|---|---|---|---|---|", flush=True)
        for fault in args.faults:
            times = 1 if fault == "kills_in_a_row" else args.times
            lost, differing, slowest, notes = 0, 0, 0.0, []
            for number in range(times):
                task = "faulty:Faulty-v0" if fault in FAULTY_TASK else "ant-expert-v2"
                trial = Trial(place / f"{fault}_{number}", rng, span, task)
                try:
                    FAULTS[fault](trial)
                    trial.finish()
                    _expect(trial.slowest <= SECONDS_TO_STOP, f"{fault} took {trial.slowest:.1f} s to stop")
                    wrong = differences(outcome(trial.folder), expected[task], fault == "no_compiler")
                    differing += bool(wrong)
                    notes += [f"{trial.folder.name}: {', '.join(wrong[:3])}"] if wrong else []
                except (Lost, OSError, subprocess.TimeoutExpired) as error:
                    lost += 1
                    notes.append(str(error))
                slowest = max(slowest, trial.slowest)
            stop = f"{slowest:.1f} s" if slowest else "–"
            print(f"| {fault} | {times} | {lost} | {differing} | {stop} |", flush=True)
            for note in notes:
                print(f"    {note}", file=sys.stderr)
            bad += lost + differing
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
