"""AWAC (Nair et al. 2020, arXiv 2006.09359) on MindSpore: learn offline from a data set, then keep improving online."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

os.environ.setdefault("GLOG_v", "3")  # MindSpore's own log: errors only
with contextlib.suppress(ImportError):  # mindspore-rl imports gym, which prints an upgrade notice into every log
    import gym_notices.notices

    gym_notices.notices.notices.clear()

from awac.envs.make import make_env  # noqa: E402

if TYPE_CHECKING:
    from awac.agent import AWAC
    from awac.data.sources import load_dataset

__all__ = ["AWAC", "load_dataset", "make_env"]


def __getattr__(name: str):
    """`AWAC` on first use: it needs MindSpore, whose import takes seconds; `load_dataset` with what it reads by."""
    if name == "load_dataset":
        from awac.data.sources import load_dataset

        return load_dataset
    if name != "AWAC":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from awac.agent import AWAC

    return AWAC
