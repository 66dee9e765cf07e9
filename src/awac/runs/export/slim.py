"""A checkpoint without its training state: a folder that `awac eval` and `load_policy` take."""

from __future__ import annotations

from pathlib import Path

from awac.errors import CheckpointError
from awac.runs import ckpt_file
from awac.runs.checkpoint import newest, save
from awac.runs.folder import NETWORKS, is_run, refuse_foreign

_KEPT = (
    "config",
    "spaces",
    "data",
    "episode_limit",
    "action_bounds",
    "action_start",
    "init_from",
    "gradient_steps",
    "versions",
)


def export(folder: Path, out: Path, episode: int | None = None) -> str:
    """Copies a checkpoint's networks and config without the training state: for others to evaluate.

    Args:
        folder: a run's checkpoint folder.
        out: folder to write to; it must not hold a run.
        episode: a certain checkpoint, or None for the newest.

    Returns:
        One line that says what was written.

    Raises:
        CheckpointError: no sound checkpoint in `folder`, or a run or another program's checkpoints in `out`.
    """
    manifest = newest(folder, episode)
    if is_run(out):
        raise CheckpointError(f"{out} already holds a run; export to a new folder")
    if out.is_dir():
        refuse_foreign(out)
    number = manifest["episode"]
    about = {key: manifest[key] for key in _KEPT if key in manifest}
    networks = {name: ckpt_file.read(folder / pattern.format(number)) for name, pattern in NETWORKS.items()}
    save(out, number, networks, None, about, keep=1)
    return f"Checkpoint {number} of {folder} exported to {out}"
