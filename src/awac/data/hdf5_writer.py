"""Writes recorded rows as an HDF5 file in D4RL's v2 layout: equal rows give equal bytes, without time stamps."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import mujoco
import numpy as np

from awac.data.behaviour import BehaviourPolicy
from awac.envs.tasks import Task
from awac.errors import DataError
from awac.runs.files import write

_CHUNK_ROWS = 1000


def provenance(task: str | Task, policies: list[BehaviourPolicy], seed: int, deterministic: bool = False) -> dict:
    """Metadata for `write_hdf5`: who recorded what, and the weights under D4RL's names (fc0, …, last_fc; (out, in))."""
    task, names = Task.parse(task), " and ".join(policy.name for policy in policies)
    metadata: dict[str, object] = {
        "algorithm": f"behaviour policy {names}, {'mean' if deterministic else 'sampled'} actions",
        "action_unit": "env",
        "description": "Recorded with awac; not D4RL's own recording",
        "env_id": task.id,
        "engine": f"mujoco {mujoco.__version__}, corrected to 2.1.0" if task.is_d4rl else "",
        "policy_file": names,
        "seed": seed,
    }
    for policy in policies:
        if not policy.layers:
            continue
        group = "policy" if len(policies) == 1 else f"policy_{policy.name}"
        metadata[f"{group}/nonlinearity"] = "relu"
        metadata[f"{group}/output_distribution"] = "tanh_gaussian" if policy.epsilon is None else "epsilon_greedy"
        for i, (weight, bias) in enumerate(policy.layers[:-1]):
            metadata[f"{group}/fc{i}/weight"], metadata[f"{group}/fc{i}/bias"] = weight.T, bias
        weight, bias = policy.layers[-1]
        size = len(bias) // 2
        heads = [("last_fc", slice(size)), ("last_fc_log_std", slice(size, None))]
        if policy.epsilon is not None:
            metadata[f"{group}/epsilon"] = policy.epsilon
            heads = [("last_fc", slice(None))]
        for name, outputs in heads:
            metadata[f"{group}/{name}/weight"], metadata[f"{group}/{name}/bias"] = weight[:, outputs].T, bias[outputs]
    return metadata


def write_hdf5(path: str | os.PathLike, columns: dict[str, np.ndarray], metadata: dict[str, object]) -> None:
    """Writes a data set; the write is atomic, and equal input gives equal bytes.

    Args:
        path: target; an existing file is replaced.
        columns: as `collect` returns them; `a/b` is dataset b in group a.
        metadata: strings, numbers and arrays for the group `metadata`.

    Raises:
        DataError: the file cannot be written.
    """
    path = Path(path).expanduser()
    image = _hdf5_image(columns, metadata)
    try:
        write(path, lambda draft: draft.write_bytes(image), mark=f"{os.getpid()}.part")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({' '.join(str(error).split())[:120]})") from None


def _hdf5_image(columns: dict[str, np.ndarray], metadata: dict[str, object]) -> bytes:
    """The bytes of the file, made in memory: HDF5 crashes the process if a disk is full when it closes a file."""
    with h5py.File("rows", "w", libver=("earliest", "v110"), driver="core", backing_store=False) as file:
        for key in sorted(columns):
            values = columns[key]
            chunks = (min(len(values), _CHUNK_ROWS), *values.shape[1:])
            options = {"chunks": chunks, "compression": "gzip", "compression_opts": 1}
            file.create_dataset(key, data=values, track_times=False, **options)
        for key in sorted(metadata):
            value = metadata[key]
            # Fixed-length bytes: the heap of variable-length strings would make the layout less predictable.
            data = np.bytes_(value.encode()) if isinstance(value, str) else np.asarray(value)
            file.create_dataset(f"metadata/{key}", data=data, track_times=False)
        file.flush()
        return file.id.get_file_image()
