"""Where files are kept that can be made again: generated data sets, the compiled learner."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$AWAC_CACHE_DIR, else awac/ in $XDG_CACHE_HOME or ~/.cache."""
    if os.environ.get("AWAC_CACHE_DIR"):
        return Path(os.environ["AWAC_CACHE_DIR"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "awac"
