"""How many processors this process may use."""

from __future__ import annotations

import os
from pathlib import Path


def available() -> int:
    """By affinity and by the limits of its control groups, such as `docker --cpus=2`; at least 1."""
    allowed = len(os.sched_getaffinity(0))
    limit = cpu_limit()
    return allowed if limit is None else max(1, min(allowed, int(limit)))


def cpu_limit(root: Path = Path("/")) -> float | None:
    """The smallest processor limit of this process's cgroups, v1 and v2, or None.

    It is 2.0 under `docker --cpus=2`.

    Args:
        root: what stands for `/`.
    """
    limits = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        parts = [part for part in path.split("/") if part and part != ".."]
        if controllers == "":
            bases = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"]
        elif "cpu" in controllers.split(","):
            bases = [root / "sys/fs/cgroup" / name for name in dict.fromkeys((controllers, "cpu", "cpu,cpuacct"))]
        else:
            continue
        # Every ancestor limits too; inside a container its own group is mounted as the top.
        for base in bases:
            limits += [_limit(base.joinpath(*parts[:depth])) for depth in range(len(parts) + 1)]
    found = [limit for limit in limits if limit is not None]
    return min(found) if found else None


def _limit(folder: Path) -> float | None:
    quota, period = (_text(folder / "cpu.max").split() + ["", ""])[:2]
    if not quota:
        quota, period = (_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    try:
        return float(quota) / float(period) if float(quota) > 0 else None
    except (ValueError, ZeroDivisionError):  # `max`, or no such file
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
