"""How many threads the native operator may use."""

from __future__ import annotations

import os

from awac import processors

_VARIABLE = "OMP_NUM_THREADS"


def free_children() -> None:
    """Undoes that MindSpore sets the variable to 1 when imported: processes started from here would inherit it."""
    if _VARIABLE not in os.environ:  # Python does not see what MindSpore sets in C
        os.unsetenv(_VARIABLE)


def threads() -> int:
    """The first number of OMP_NUM_THREADS, else the processors that this process may use."""
    # Asked here, not in C++, where MindSpore has changed it.
    first = os.environ.get(_VARIABLE, "").split(",")[0].strip()
    if first.isdecimal() and int(first):
        return int(first)
    return processors.available()
