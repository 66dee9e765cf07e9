"""AWAC (Nair et al. 2020, arXiv 2006.09359) on MindSpore: learn offline from a data set, then keep improving online."""

from __future__ import annotations

import contextlib
import os

os.environ.setdefault("GLOG_v", "3")  # MindSpore's own log: errors only
with contextlib.suppress(ImportError):  # mindspore-rl imports gym, which prints an upgrade notice into every log
    import gym_notices.notices

    gym_notices.notices.notices.clear()

from awac.envs.registry import make_env  # noqa: E402

__all__ = ["make_env"]
