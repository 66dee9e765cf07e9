"""Checkpoints: the whole training state, saved atomically, restored exactly.

    policy/policy_N.ckpt  value_net_1/model_1_N.ckpt  value_net_2/model_2_N.ckpt   the networks, for users
    train_state/state_N.npz                                                        everything else, to resume
    manifest_N.json                                                                sizes, SHA-256, config: written last

A checkpoint without a sound manifest is ignored. `replay/` holds the online rows in append-only pieces, so that a
save writes only what is new.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import awac.algorithm.backend  # noqa: F401  before MindSpore is imported

# isort: split
import mindspore as ms
import numpy as np

from awac.errors import CheckpointError, NoCheckpointError, first_line
from awac.runs import ckpt_file, files, replay_log
from awac.runs.folder import MANIFEST, NETWORKS, STATE, episodes, known_episodes

FORMAT = 1


def save(folder: Path, episode: int, networks: dict, state: dict | None, about: dict, keep: int) -> None:
    """Writes checkpoint `episode`, then drops all but the newest `keep`.

    Args:
        folder: the run's checkpoint folder.
        episode: training episodes done.
        networks: arrays by name for each key of `NETWORKS`.
        state: arrays of the training state, or None for a checkpoint to evaluate only; text goes as 0-d str arrays.
        about: JSON-able facts that are needed before anything is loaded (config, spaces).
        keep: checkpoints kept.

    Raises:
        CheckpointError: the disk is full or the folder is not writable; earlier checkpoints are untouched.
    """
    written: dict[str, dict] = {}
    try:
        for name, pattern in NETWORKS.items():
            data = [{"name": key, "data": ms.Tensor(value)} for key, value in networks[name].items()]
            path = pattern.format(episode)
            written[path] = files.write(folder / path, lambda temp, data=data: ms.save_checkpoint(data, str(temp)))
        if state is not None:
            path = STATE.format(episode)
            written[path] = files.write_npz(folder / path, state)
        manifest = json.dumps({"format": FORMAT, "episode": episode, **about, "files": written}, indent=1)
        files.write_text(folder / MANIFEST.format(episode), manifest)
    except (OSError, RuntimeError, ValueError) as error:
        if not (folder / MANIFEST.format(episode)).exists():
            remove(folder, episode)  # what was written takes room, and nothing else would remove it
        reason = first_line(error)
        raise CheckpointError(f"checkpoint {episode} could not be written to {folder} ({reason})") from error
    # Higher numbers are damaged ones that training went back behind: they may not push out sound ones.
    numbers = [number for number in episodes(folder) if number <= episode]
    for old in numbers[keep:]:
        remove(folder, old)


def remove(folder: Path, episode: int) -> None:
    """Deletes one checkpoint, its manifest first."""
    for pattern in (MANIFEST, *NETWORKS.values(), STATE):
        with contextlib.suppress(OSError):
            (folder / pattern.format(episode)).unlink()


def newest(
    folder: Path, episode: int | None = None, need_state: bool = False, need_rows: bool = False, warn=print
) -> dict:
    """The manifest of the newest sound checkpoint, or of a given one.

    Args:
        folder: a run's checkpoint folder.
        episode: a certain checkpoint, or None.
        need_state: skip checkpoints that hold no training state.
        need_rows: skip checkpoints whose online rows are not all there.
        warn: called with a line for each skipped one.

    Raises:
        CheckpointError: there is no such folder, or that checkpoint can't be used.
        NoCheckpointError: none in the folder is sound.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such checkpoint folder")
    candidates = episodes(folder)
    if episode is not None and episode not in candidates:
        raise CheckpointError(f"{folder}: no checkpoint {episode} in it{known_episodes(folder)}")
    candidates = candidates if episode is None else [episode]
    for candidate in candidates:
        manifest, fault = _verify(folder, candidate)
        if fault is None and need_state and STATE.format(candidate) not in manifest["files"]:
            fault = "it holds no training state"
        if fault is None and need_rows:
            fault = _rows_fault(folder, manifest)
        if fault is None:
            return manifest
        if episode is not None:
            raise CheckpointError(f"{folder}: checkpoint {episode} can't be used: {fault}")
        warn(f"Skip checkpoint {candidate}: {fault}")
    raise NoCheckpointError(f"{folder}: no complete checkpoint in it (a checkpoint has a {MANIFEST.format('N')})")


def oldest_insertion(folder: Path) -> int:
    """Online rows added before the oldest checkpoint kept."""
    counts = []
    for episode in episodes(folder):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            counts.append(int(json.loads(files.read_text(folder / MANIFEST.format(episode)))["inserted"]))
    return min(counts, default=0)


def load_network(folder: Path, name: str, episode: int, display: str) -> dict[str, np.ndarray]:
    """Arrays of one network; prints the line `Load file`."""
    path = NETWORKS[name].format(episode)
    print(f"Load file  {display}/{path}", flush=True)
    return ckpt_file.read(folder / path)


def load_state(folder: Path, episode: int) -> dict[str, np.ndarray]:
    """Arrays of the training state.

    Raises:
        CheckpointError: the file is damaged.
    """
    return files.read_npz(folder / STATE.format(episode))


def _verify(folder: Path, episode: int) -> tuple[dict, str | None]:
    path = folder / MANIFEST.format(episode)
    try:
        manifest = json.loads(files.read_text(path))
        listed, needed = manifest["files"], {pattern.format(episode) for pattern in NETWORKS.values()}
        if manifest["format"] != FORMAT or manifest["episode"] != episode or not needed <= set(listed):
            return {}, f"{path.name} is of another format"
        for name, expected in listed.items():
            if name not in needed | {STATE.format(episode)}:
                return {}, f"{path.name} names an unexpected file"
            if not files.matches(folder / name, expected):
                return {}, f"{name} is damaged"
    except OSError as error:
        return {}, f"{Path(error.filename or path).name} is missing or unreadable"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}, f"{path.name} is damaged"
    return manifest, None


def _rows_fault(folder: Path, manifest: dict) -> str | None:
    """Why the online rows of a sound checkpoint can't be used, or None."""
    try:
        return replay_log.fault(folder, manifest.get("replay", {}))
    except OSError as error:
        return f"replay/{Path(error.filename or '').name} is missing or unreadable"
    except (TypeError, KeyError, AttributeError):
        return "its manifest is damaged"
