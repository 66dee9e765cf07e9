"""RLDS's steps as transitions.

In RLDS (Ramos et al. 2021, arXiv 2111.02767) the last step of an episode has an observation, but no action and no
reward, and `is_terminal` belongs to that step. In a transition the flag belongs to the action that led there.
"""

from __future__ import annotations

import numpy as np

from awac.data.columns import PHYSICS, named
from awac.data.ends import CUTS, before_starts, flags
from awac.errors import DataError


def is_rlds(columns: dict[str, np.ndarray]) -> bool:
    """Whether the columns are steps with RLDS's flags and no next observations."""
    keys = named(columns)
    complete = {"observations", "actions", "rewards"} <= keys.keys() and "next_observations" not in keys
    return complete and {"is_last", "is_terminal"} <= columns.keys()


def transitions_of_steps(columns: dict[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """Transitions under D4RL's names, from N steps with RLDS's flags.

    The last step of an episode that was broken off, without `is_last`, is not a transition either: nothing follows it.

    Raises:
        DataError: columns differ in length, a flag is NaN, or no step has a successor.
    """
    keys = named(columns)
    used = [keys[name] for name in ("observations", "actions", "rewards")]
    lengths = {name: len(columns[name]) for name in (*used, "is_last", "is_terminal")}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{source}: columns differ in length ({', '.join(f'{k} {n}' for k, n in lengths.items())})")
    last, terminal, *cuts = (
        flags(columns[name], f"{source}: key '{name}'") for name in ("is_last", "is_terminal", *CUTS) if name in columns
    )
    last = np.logical_or.reduce([last, terminal, *cuts, before_starts(columns, len(terminal), source)[0]])
    steps = np.flatnonzero(~last[:-1])
    if not len(steps):
        raise DataError(f"{source}: no step has a successor in its episode; record it again")
    made = {name: columns[keys[name]][steps] for name in ("observations", "actions", "rewards")}
    made["next_observations"] = columns[keys["observations"]][steps + 1]
    made["terminals"] = terminal[steps + 1]
    # The file's last row ends its episode, with or without a flag.
    made["timeouts"] = (last | (np.arange(len(last)) == len(last) - 1))[steps + 1] & ~made["terminals"]
    return {**made, **{name: columns[name][steps] for name in PHYSICS if name in columns}}
