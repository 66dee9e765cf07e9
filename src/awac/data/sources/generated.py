"""Data sets that the shipped behaviour policies record when they are first asked for, kept in the cache folder."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import gymnasium
import mujoco
import numpy as np

from awac.data.behaviour import BehaviourPolicy, shipped_names
from awac.data.collect import DEFAULT_ROWS, collect, named_policy, nothing_written, worker_count
from awac.data.hdf5_writer import provenance, write_hdf5
from awac.data.sources.files import read_file
from awac.data.sources.registry import Recording, Request, source
from awac.envs.mujoco_v2 import ROBOTS
from awac.envs.tasks import MIXES, VERSIONS, Task
from awac.errors import DataError
from awac.runs.files import alone, cache_folder, make_folder

# Of each robot's ten policies, 1 to 4 lie below medium and 5 to 8 between medium and expert (ckpt/behaviour/README.md).
# Each policy of a mix records an equal share of its rows, in this order.
_BELOW, _ABOVE = ("1", "2", "3", "4", "medium"), ("5", "6", "7", "8", "expert")
_MIXES = {
    "random": ("random",),
    "medium": ("medium",),
    "expert": ("expert",),
    "medium-expert": ("medium", "expert"),
    "medium-replay": _BELOW,
    "full-replay": _BELOW + _ABOVE,
}
RECORDING = 1
"""Part of the cached files' names: a change of what is recorded, other than of policies and packages, gets the next."""
_EPISODES = {"CartPole-v1": 50}  # generated whole instead of a number of rows
_FULL_ROWS = {"medium-expert": 2_000_000}
_FULL_REPLAY_ROWS = {"hopper": 402_000, "halfcheetah": 202_000, "walker2d": 302_000, "ant": 302_000}


def _generated() -> dict[str, tuple[str, ...]]:
    """The data sets that can be generated, and the behaviour policies with equal shares of their rows."""
    shipped = {"random", *shipped_names()}
    mixes: dict[str, tuple[str, ...]] = {"CartPole-v1": ("cartpole_dqn",)}
    for robot in ROBOTS:
        for mix in MIXES:
            policies = tuple(name if name == "random" else f"{robot}_{name}" for name in _MIXES[mix])
            if shipped.issuperset(policies):
                mixes |= {f"{robot}-{mix}-{version}": policies for version in VERSIONS}
    return mixes


GENERATED = _generated()


def full_rows(dataset_id: str) -> int:
    """Rows of D4RL's own v2 file, to the nearest thousand. `generate` makes at most 500,000 by default.

    Raises:
        DataError: it is not a D4RL id.
    """
    task = Task.parse(dataset_id)
    if not task.is_d4rl:
        raise DataError(f"'{dataset_id}' is not a D4RL id, so D4RL has no number of rows for it")
    if task.mix == "medium-replay":
        return _FULL_REPLAY_ROWS[task.robot]
    return _FULL_ROWS.get(task.mix, 1_000_000)


def generate(
    dataset_id: str, rows: int | None = None, seed: int = 0, progress: bool = True, workers: int | None = None
) -> Path:
    """Makes a data set with the shipped behaviour policies, or finds it in the cache.

    The cached file's name holds seed, size and a digest of the policies, the engine's and gymnasium's versions (robots
    and tasks are theirs) and `RECORDING`, so that a change of any of them makes a new file.

    Args:
        dataset_id: an id in GENERATED.
        rows: number of rows, such as `full_rows(dataset_id)`; None for a size that takes about a minute on two cores
            and is enough for training, or 50 episodes of CartPole.
        seed: of everything random.
        progress: show a bar on stderr if that is a terminal.
        workers: processes; None for one a core that this process may use, and fewer for few rows.

    Raises:
        DataError: there are no behaviour policies for that id, or the cache folder cannot be written.
    """
    path = cache_file(dataset_id, rows, seed)
    if path.is_file():
        return path
    remedy = "set AWAC_CACHE_DIR to a folder you can write"
    make_folder(path.parent, remedy)
    whole, size = _size(dataset_id, rows)
    policies = _policies(dataset_id)
    workers = workers or worker_count(size)
    shares = np.diff(np.linspace(0, size, len(policies) + 1).astype(int)).tolist()
    with alone(path, remedy), nothing_written(path):
        if path.is_file():  # another process made it while this one waited
            return path
        parts = [
            collect(
                dataset_id,
                policy,
                rows=None if whole else share,
                episodes=share if whole else None,
                seed=seed,
                part=part,
                workers=workers,
                progress=progress,
            )
            for part, (policy, share) in enumerate(zip(policies, shares, strict=True))
        ]
        columns = {key: np.concatenate([part.pop(key) for part in parts]) for key in list(parts[0])}
        write_hdf5(path, columns, provenance(dataset_id, policies, seed))
    return path


def cache_file(dataset_id: str, rows: int | None = None, seed: int = 0) -> Path:
    """Where `generate` keeps a data set, whether it exists or not.

    Raises:
        DataError: it can't be generated, or not with so few rows.
    """
    if dataset_id not in GENERATED:
        raise DataError(f"{dataset_id} cannot be generated: no behaviour policies ship for it")
    whole, size = _size(dataset_id, rows)
    if size < (least := max(2, len(GENERATED[dataset_id]))):  # a row of each policy
        raise DataError(f"{dataset_id}: {size} rows are too few; ask for at least {least}")
    packages = [mujoco.__version__] if Task.parse(dataset_id).is_d4rl else []
    digests = [policy.digest() for policy in _policies(dataset_id)]
    made_by = "-".join([*digests, *packages, gymnasium.__version__, str(RECORDING)])
    digest = hashlib.sha256(made_by.encode()).hexdigest()[:8]
    return cache_folder() / f"{dataset_id}-seed{seed}-{'episodes' if whole else 'rows'}{size}-{digest}.hdf5"


def _size(dataset_id: str, rows: int | None) -> tuple[bool, int]:
    """Whether a data set's size is in episodes, and the size."""
    if rows is None and dataset_id in _EPISODES:
        return True, _EPISODES[dataset_id]
    return False, _default_rows(dataset_id) if rows is None else rows


def _policies(dataset_id: str) -> list[BehaviourPolicy]:
    return [named_policy(dataset_id, name) for name in GENERATED[dataset_id]]


def _default_rows(dataset_id: str) -> int:
    return min(DEFAULT_ROWS, full_rows(dataset_id)) if Task.parse(dataset_id).is_d4rl else DEFAULT_ROWS


@source(ids=tuple(name for name in GENERATED if not Task.parse(name).is_d4rl))
def generated(name: str, request: Request) -> Recording:
    """The rows of `generate`; used for D4RL's ids as well if D4RL's own file isn't on the machine."""
    path = generate(name, request.rows, request.seed, request.progress)
    names = GENERATED[name]
    makers = f"the shipped behaviour polic{'ies' if len(names) > 1 else 'y'} {' and '.join(names)}"
    remark = "; not D4RL's recording" if Task.parse(name).is_d4rl else ""
    detail = f"generated by {makers}, seed {request.seed}{remark}"
    return replace(read_file(path, request.extra), kind="generated", detail=detail)
