"""One trial: whether it is done, and how a worker process runs it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import traceback
from pathlib import Path

from awac.errors import AWACError, Interrupted, NoCheckpointError, first_line
from awac.runs import folder as run_folder
from awac.runs.tables import last_row
from awac.sweep.plan import Trial

LOG = "awac_train_log.txt"
_OTHER = "a finished or begun trial keeps its settings: change the file back, or give the new sweep other --results"


def is_done(trial: Trial, folder: Path) -> bool:
    """Whether a trial's folder holds its last checkpoint and its last evaluation.

    Raises:
        CheckpointError: it is a run with other settings, how it is evaluated and where its rows are from included:
            its scores would stand beside others that were not got in the same way.
        NoCheckpointError: its checkpoints are damaged.
    """
    # It imports MindSpore, which a plan does not need.
    from awac.training.resume import FREE, manifest_to_resume, read_about, same_settings

    if not folder.is_dir() or not run_folder.episodes(folder):
        return False
    free = FREE - {"eval_episodes", "eval_every"}
    try:
        manifest = manifest_to_resume(folder, trial.config, free, _OTHER)
    except NoCheckpointError:
        text = f"none of the checkpoints in {folder} is complete; delete that folder, and the trial runs again"
        raise NoCheckpointError(text) from None
    done = manifest["episode"] >= trial.episodes and last_row(folder, "eval.csv")[0] >= trial.episodes
    if done:  # of one that goes on, the rows themselves are compared
        same_settings(folder, read_about(folder, manifest)[0], trial.config, free - {"dataset"}, _OTHER)
    return done


def run(trial: Trial, folder: str, place: str) -> tuple[str, str]:
    """Trains a trial, from its newest checkpoint if it has one; its output goes to `LOG` in its folder.

    Args:
        trial: what to train.
        folder: the trial's folder.
        place: the folder that relative paths in the settings start from.

    Returns:
        "done", "failed" or "stopped", and the reason in one line.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        output = open(target / LOG, "a", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        return "failed", f"{target} cannot be written to ({error.strerror})"
    with output, own_core():
        for stream in (sys.stdout, sys.stderr):  # the descriptors, so that MindSpore's own lines go there too
            stream.flush()
            os.dup2(output.fileno(), stream.fileno())
        with contextlib.suppress(OSError):  # another machine of a cluster may not have it
            os.chdir(place)
        if "" not in sys.path:
            sys.path.insert(0, "")
        # Ray stops a trial by SIGINT, which it would ignore if the sweep is a script's background job.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return _train(trial, target)


def _train(trial: Trial, folder: Path) -> tuple[str, str]:
    from awac.training.session import train

    begun = bool(run_folder.episodes(folder))
    afresh = run_folder.is_run(folder) and not begun  # one without a checkpoint may get other settings
    try:
        train(trial.config, str(folder), trial.episodes, resume=begun, overwrite=afresh)
    except AWACError as error:
        print(f"awac: error: {error}", flush=True)
        return "failed", str(error)
    except (Interrupted, KeyboardInterrupt) as stop:
        text = str(stop) or "it had not begun to train"
        print(f"awac: stopped; {text}", flush=True)
        return "stopped", text
    except Exception as error:  # a bug: the other trials go on
        traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        return "failed", f"{type(error).__name__}: {first_line(error)}; the traceback is in {folder / LOG}"
    if last_row(folder, "eval.csv")[0] < trial.episodes:
        return "failed", f"it ended without its last evaluation; see {folder / LOG}"
    return "done", ""


CORE_NAME = "awac-core"
"""Prefix of the sockets that mark cores as taken; tests use another one, so that a sweep can run beside them."""


@contextlib.contextmanager
def own_core():
    """Pins this process to a core that no other trial on this machine uses; if none is left, it keeps all its cores.

    The name of an abstract socket marks a core as taken; the kernel frees it when the process ends.
    """
    allowed = os.sched_getaffinity(0)
    with contextlib.ExitStack() as stack:
        for core in sorted(allowed):
            marker = stack.enter_context(socket.socket(socket.AF_UNIX))
            try:
                marker.bind(f"\0{CORE_NAME}-{os.getuid()}-{core}")
            except OSError:
                continue
            os.sched_setaffinity(0, {core})
            break
        try:
            yield
        finally:
            os.sched_setaffinity(0, allowed)
