"""Data sets that the shipped behaviour policies record when they are first asked for, kept in the cache folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import gymnasium
import mujoco
import numpy as np

from awac.data.record import DEFAULT_ROWS, collect, make_folder, named_policy, provenance, worker_count, write_hdf5
from awac.envs.tasks import VERSIONS, parse_d4rl_id
from awac.errors import DataError
from awac.runs.files import cache_folder

# The data sets that can be generated, and the behaviour policies with equal shares of their rows.
GENERATED: dict[str, tuple[str, ...]] = {"CartPole-v1": ("cartpole_dqn",)}
for _version in VERSIONS:
    GENERATED[f"ant-random-{_version}"] = ("random",)
    GENERATED[f"ant-medium-{_version}"] = ("ant_medium",)
    GENERATED[f"ant-expert-{_version}"] = ("ant_expert",)
    GENERATED[f"ant-medium-expert-{_version}"] = ("ant_medium", "ant_expert")
_EPISODES = {"CartPole-v1": 50}  # generated whole instead of DEFAULT_ROWS rows


def generate(
    dataset_id: str, rows: int | None = None, seed: int = 0, progress: bool = True, workers: int | None = None
) -> Path:
    """Makes a data set with the shipped behaviour policies, or finds it in the cache.

    The cached file's name holds seed, size and a digest of the policies and the engine's version, so that a change of
    any of them makes a new file.

    Args:
        dataset_id: an id in GENERATED.
        rows: number of rows; None for DEFAULT_ROWS, or 50 episodes of CartPole.
        seed: of everything random.
        progress: show a bar on stderr if that is a terminal.
        workers: processes; None for one a core, at most four and fewer for few rows.

    Raises:
        DataError: there are no behaviour policies for that id, or the cache folder cannot be written.
    """
    if dataset_id not in GENERATED:
        raise DataError(f"{dataset_id} cannot be generated: no behaviour policies ship for it")
    whole = rows is None and dataset_id in _EPISODES
    size = _EPISODES[dataset_id] if whole else DEFAULT_ROWS if rows is None else rows
    if size < 2:
        raise DataError(f"{dataset_id}: {size} rows are too few; ask for at least 2")
    policies = [named_policy(dataset_id, name) for name in GENERATED[dataset_id]]
    engine = mujoco.__version__ if parse_d4rl_id(dataset_id) else gymnasium.__version__
    made_by = "-".join([policy.digest() for policy in policies] + [engine])
    digest = hashlib.sha256(made_by.encode()).hexdigest()[:8]
    path = cache_folder() / f"{dataset_id}-seed{seed}-{'episodes' if whole else 'rows'}{size}-{digest}.hdf5"
    if path.is_file():
        return path
    make_folder(path.parent, "set AWAC_CACHE_DIR to a folder you can write")
    workers = workers or worker_count(size)
    shares = np.diff(np.linspace(0, size, len(policies) + 1).astype(int)).tolist()
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
