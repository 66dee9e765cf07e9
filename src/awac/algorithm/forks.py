"""Refuses to compute in a forked process: MindSpore's threads don't survive a fork, and waiting for them never ends."""

from __future__ import annotations

import os
from pathlib import Path

from awac.errors import AWACError

_MARKS = ("ActorThread", "KernelThread")  # names of the threads that MindSpore starts when it first computes something
_at_fork = False
_inherited = False


def refuse_after_fork() -> None:
    """Call before MindSpore computes anything.

    Raises:
        AWACError: this process was forked from one in which MindSpore had computed something.
    """
    if _inherited:
        raise AWACError(
            "this process was forked from one in which MindSpore had run, and its threads do not survive a fork: start "
            "processes with multiprocessing.get_context('spawn'), or fork before the first training or evaluation"
        )


def _threads() -> list[str]:
    try:
        return [
            (task / "comm").read_text(encoding="utf-8", errors="replace") for task in Path("/proc/self/task").iterdir()
        ]
    except OSError:
        return []


def _before() -> None:
    global _at_fork
    _at_fork = _inherited or any(name.startswith(_MARKS) for name in _threads())


def _in_child() -> None:
    global _inherited
    _inherited = _at_fork


os.register_at_fork(before=_before, after_in_child=_in_child)
