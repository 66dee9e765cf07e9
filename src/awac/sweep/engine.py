"""Runs a plan's trials through Ray, one worker process each; a restarted trial is resumed."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from awac import processors
from awac.data.sources.resolve import check_there, has_dataset
from awac.envs.make import make_env
from awac.envs.tasks import Task
from awac.errors import (
    EXTRAS,
    AWACError,
    CheckpointError,
    ConfigError,
    DataError,
    Interrupted,
    NoCheckpointError,
    TaskError,
    first_line,
)
from awac.runs import folder as run_folder
from awac.sweep import trial as trial_run
from awac.sweep.plan import PLAN, Trial, describe, write_plan
from awac.sweep.progress import Progress
from awac.training.interrupt import GracefulStop

RESTARTS = 10
"""How often a trial whose worker was killed or stopped is restarted."""

_POLL = 1.0  # seconds
_GRACE = 120.0  # seconds for the trials to save when the sweep is stopped
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",  # MindSpore 2.7 needs it, and Ray loads protobuf first
}
_FOLDERS = ("AWAC_CACHE_DIR", "D4RL_DATASET_DIR", "MINARI_DATASETS_PATH")  # of data sets; the workers get them too


def sweep(
    trials: list[Trial],
    results: str | os.PathLike,
    *,
    address: str | None = None,
    workers: int | None = None,
    every: float = 60.0,
    dry: bool = False,
) -> int:
    """Runs the trials that are not done yet, one per core; prints a table meanwhile, and the failed ones at the end.

    Args:
        trials: of `read_plan`.
        results: the results folder; on a cluster one that all machines share.
        address: of a Ray cluster; None starts Ray on this machine for the sweep.
        workers: trials side by side on this machine; None takes its cores.
        every: seconds between tables.
        dry: print the table and run nothing; a trial whose data file is missing counts as failed.

    Returns:
        The exit code: 0, or 1 if not all trials are done.

    Raises:
        ConfigError: Ray is missing, or no cluster answers.
        TaskError, DataError: a task that can't be made, or has no data.
        CheckpointError: the results folder is in use, can't be written to, or holds runs with other settings.
        Interrupted: a signal stopped it; all trials can be continued.
    """
    folder = Path(results).expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; --results takes a folder")
    if folder.is_dir() and not (folder / PLAN).is_file() and run_folder.is_run(folder):
        raise CheckpointError(f"{folder} holds a single run; choose another --results")
    _check_tasks(trials)
    progress = Progress(trials, folder, every)
    print(f"{describe(trials)}, in {folder}", flush=True)
    reasons: dict[str, str] = {}
    for trial in trials:
        try:
            if trial_run.is_done(trial, folder / trial.name):
                progress.states[trial.name] = "done"
        except NoCheckpointError as error:  # the others can run
            progress.states[trial.name], reasons[trial.name] = "failed", str(error)
    if dry:
        for trial in trials:
            try:
                if progress.states[trial.name] == "waiting" and trial.config.env.dataset:
                    check_there(trial.config.env.dataset)
            except DataError as error:
                progress.states[trial.name], reasons[trial.name] = "failed", str(error)
        return _summary(trials, reasons, progress, {"failed"})
    ray = _ray()
    with run_folder.exclusive(folder):
        write_plan(trials, folder)
        waiting = [trial for trial in trials if progress.states[trial.name] == "waiting"]
        if waiting:
            reasons |= _run(ray, waiting, folder, address, workers, progress)
    return _summary(trials, reasons, progress, {"failed", "stopped"})


def _summary(trials: list[Trial], reasons: dict[str, str], progress: Progress, wrong: set[str]) -> int:
    """Prints the table and the trials in a state that is wrong; returns the exit code."""
    progress.show(now=True)
    for trial in trials:
        if progress.states[trial.name] in wrong:
            print(f"{progress.states[trial.name]}: {trial.name}: {reasons[trial.name]}", flush=True)
    return 1 if wrong & set(progress.states.values()) else 0


def _check_tasks(trials: list[Trial]) -> None:
    """Makes each task once, so that a wrong name is reported before anything runs."""
    settings = {(trial.task, repr(trial.config.env)): trial.config.env for trial in trials}
    for env in settings.values():
        if env.no_env:
            raise TaskError("a sweep compares evaluations, and no_env has none; train such runs with awac train")
        task = Task.of(env)
        make_env(task).close()
        if env.dataset is None and not has_dataset(task.id):
            raise TaskError(f"task '{task.id}' has no data set of its own; give it one with the setting `dataset`")


def _run(ray, trials: list[Trial], folder: Path, address, workers, progress: Progress) -> dict[str, str]:
    _start(ray, address, workers or processors.available())
    try:
        variables = _ENVIRONMENT | {name: os.environ[name] for name in _FOLDERS if name in os.environ}
        task = ray.remote(num_cpus=1, max_calls=1, max_retries=RESTARTS, runtime_env={"env_vars": variables})(
            trial_run.run
        )
        place = os.getcwd()

        def submit(trial: Trial):
            return task.remote(trial, str(folder / trial.name), place)

        pending = {submit(trial): trial for trial in trials}
        reasons: dict[str, str] = {}
        restarts = dict.fromkeys((trial.name for trial in trials), 0)
        with GracefulStop() as stop:
            try:
                progress.show(now=True)
                while pending:
                    stop.check()
                    for trial in _collect(ray, pending, reasons, progress):  # by a signal that only they got
                        stop.check()
                        if restarts[trial.name] < RESTARTS:
                            restarts[trial.name] += 1
                            progress.restarted(trial, f"{restarts[trial.name]} of {RESTARTS} times")
                            pending[submit(trial)] = trial
                    progress.show()
            except Interrupted as signal:
                _stop(ray, pending, reasons, progress)
                signal.text = "all trials are kept as they were; the same command continues them"
                raise
        return reasons
    finally:
        ray.shutdown()


def _ray():
    os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports usage to its developers
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"awac sweep needs the package {error.name}: pip install {EXTRAS['sweep']}") from None
    return ray


def _start(ray, address: str | None, workers: int) -> None:
    options: dict = {"log_to_driver": False, "logging_level": "ERROR", "address": address or "local"}
    if not address:
        options |= {"num_cpus": workers, "object_store_memory": 100 << 20, "include_dashboard": False}
    try:
        ray.init(**options)
    except Exception as error:  # Ray raises a plain Exception if its processes take more than 30 s to start
        raise ConfigError(f"Ray can't be started ({first_line(error)})") from None


def _collect(ray, pending: dict, reasons: dict[str, str], progress: Progress) -> list[Trial]:
    """Collects the trials that end within a second; returns those that were stopped."""
    stopped = []
    ended, _ = ray.wait(list(pending), num_returns=1, timeout=_POLL)
    for ref in ended:
        trial = pending.pop(ref)
        try:
            state, reason = ray.get(ref)
        except ray.exceptions.TaskCancelledError:
            state, reason = "stopped", ""
        except ray.exceptions.WorkerCrashedError:
            state, reason = "failed", f"its worker was killed {RESTARTS + 1} times"
        except ray.exceptions.RayError as error:  # the machine is out of memory, or gone
            state, reason = "failed", f"Ray gave up on it: {first_line(error)}"
        reasons[trial.name] = reason
        progress.ended(trial, state, reason)
        if state == "stopped":
            stopped.append(trial)
    return stopped


def _stop(ray, pending: dict, reasons: dict[str, str], progress: Progress) -> None:
    """Lets the running trials save their state."""
    progress.line("stopping: the running trials save their last whole episode; a second signal does not wait")
    for ref in pending:
        with contextlib.suppress(AWACError, ray.exceptions.RayError):
            ray.cancel(ref)
    end = time.monotonic() + _GRACE
    while pending and time.monotonic() < end:
        _collect(ray, pending, reasons, progress)
