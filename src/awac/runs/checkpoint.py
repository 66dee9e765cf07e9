"""Checkpoints: the whole training state, saved atomically, restored exactly.

    policy/policy_N.ckpt  value_net_1/model_1_N.ckpt  value_net_2/model_2_N.ckpt   the networks, for users
    train_state/state_N.npz                                                        everything else, to resume
    manifest_N.json                                                                sizes, SHA-256, config: written last

A checkpoint without a sound manifest does not exist. `replay/` holds the online rows in append-only pieces, so that a
save writes only what is new.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
from pathlib import Path

import mindspore as ms
import numpy as np

from awac.errors import CheckpointError
from awac.runs import files as storage
from awac.runs import replay_log
from awac.runs.replay_log import ReplayLog

__all__ = ["ReplayLog", "clear", "exclusive", "holds_a_run", "load_network", "load_state", "newest", "read_arrays",
           "remove", "save"]  # fmt: skip

NETWORKS = {"policy": "policy/policy_{}.ckpt", "value_net_1": "value_net_1/model_1_{}.ckpt",
            "value_net_2": "value_net_2/model_2_{}.ckpt"}  # fmt: skip
STATE = "train_state/state_{}.npz"
MANIFEST = "manifest_{}.json"
ORIGIN = "init_from.json"
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
    files: dict[str, dict] = {}
    try:
        for name, pattern in NETWORKS.items():
            data = [{"name": key, "data": ms.Tensor(value)} for key, value in networks[name].items()]
            path = pattern.format(episode)
            files[path] = storage.write(folder / path, lambda temp, data=data: ms.save_checkpoint(data, str(temp)))
        if state is not None:
            path = STATE.format(episode)
            files[path] = storage.write_npz(folder / path, state)
        manifest = json.dumps({"format": FORMAT, "episode": episode, **about, "files": files}, indent=1)
        storage.write(folder / MANIFEST.format(episode), lambda temp: temp.write_text(manifest, encoding="utf-8"))
    except (OSError, RuntimeError, ValueError) as error:
        reason = storage.first_line(error)
        raise CheckpointError(f"checkpoint {episode} could not be written to {folder} ({reason})") from error
    for old in _episodes(folder)[keep:]:
        remove(folder, old)


def export(folder: Path, out: Path, episode: int | None = None) -> str:
    """Copies a checkpoint's networks and config without the training state: what one ships for others to evaluate.

    Args:
        folder: a run's checkpoint folder.
        out: folder to write to; it must not hold a run.
        episode: a certain checkpoint, or None for the newest.

    Returns:
        One line that says what was written.

    Raises:
        CheckpointError: no sound checkpoint in `folder`, or a run in `out`.
    """
    manifest = newest(folder, episode)
    if holds_a_run(out):
        raise CheckpointError(f"{out} already holds a run; export to a new folder")
    number = manifest["episode"]
    networks = {name: read_arrays(folder / pattern.format(number)) for name, pattern in NETWORKS.items()}
    save(out, number, networks, None, {key: manifest[key] for key in ("config", "spaces")}, keep=1)
    return f"Checkpoint {number} of {folder} exported to {out}"


def remove(folder: Path, episode: int) -> None:
    """Deletes one checkpoint, its manifest first."""
    for pattern in (MANIFEST, *NETWORKS.values(), STATE):
        with contextlib.suppress(OSError):
            (folder / pattern.format(episode)).unlink()


def newest(folder: Path, episode: int | None = None, need_state: bool = False, warn=print) -> dict:
    """The manifest of the newest sound checkpoint, or of a given one.

    Args:
        folder: a run's checkpoint folder.
        episode: a certain checkpoint, or None.
        need_state: pass over checkpoints that hold no training state.
        warn: told which ones were passed over, and why.

    Raises:
        CheckpointError: none there.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such checkpoint folder")
    candidates = _episodes(folder) if episode is None else [episode]
    for candidate in candidates:
        manifest, fault = _verify(folder, candidate)
        if fault is None and need_state:
            fault = _state_fault(folder, manifest)
        if fault is None:
            return manifest
        if episode is not None:
            raise CheckpointError(f"{folder}: checkpoint {episode} can't be used: {fault}")
        warn(f"Skip checkpoint {candidate}: {fault}")
    raise CheckpointError(f"{folder}: no complete checkpoint in it (a checkpoint has a {MANIFEST.format('N')})")


def oldest_insertion(folder: Path) -> int:
    """Online rows ever added as of the oldest checkpoint kept."""
    counts = []
    for episode in _episodes(folder):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            counts.append(int(json.loads(storage.read_text(folder / MANIFEST.format(episode)))["inserted"]))
    return min(counts, default=0)


def load_network(folder: Path, name: str, episode: int, display: str) -> dict[str, np.ndarray]:
    """Arrays of one network; prints the line that users know."""
    path = NETWORKS[name].format(episode)
    print(f"Load file  {display}/{path}", flush=True)
    return read_arrays(folder / path)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of one .ckpt file.

    Raises:
        CheckpointError: not a MindSpore checkpoint.
    """
    try:
        return {key: value.asnumpy() for key, value in ms.load_checkpoint(str(path)).items()}
    except storage.READ_ERRORS as error:
        raise CheckpointError(f"{path} is not a MindSpore checkpoint ({storage.first_line(error)})") from error


def load_state(folder: Path, episode: int) -> dict[str, np.ndarray]:
    """Arrays of the training state.

    Raises:
        CheckpointError: the file is damaged.
    """
    return storage.read_npz(folder / STATE.format(episode))


@contextlib.contextmanager
def exclusive(folder: Path):
    """Holds the folder for one run; a second one is refused with the first one's pid."""
    path = folder / "run.lock"
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="ascii")  # noqa: SIM115
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be written to ({error.strerror})") from None
    with file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock.fileno()).st_ino != path.stat().st_ino:  # a run that just ended took its file along
                raise OSError
        except OSError:
            lock.seek(0)
            raise CheckpointError(f"{folder} is in use by the run with pid {lock.read().strip() or '?'}") from None
        with contextlib.suppress(OSError):  # a full disk: nobody learns the pid, the lock holds all the same
            os.ftruncate(lock.fileno(), 0)
            os.write(lock.fileno(), str(os.getpid()).encode())
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a run that never began leaves no empty folders
                for place in made:
                    place.rmdir()


def was_started(folder: Path) -> bool:
    """Whether a run was at work here, even if it was stopped before it left anything."""
    return holds_a_run(folder) or (folder / "run.lock").exists()


def has_checkpoints(folder: Path) -> bool:
    """Whether there is a manifest, sound or not."""
    return bool(_episodes(folder))


def note_origin(folder: Path, source: tuple[Path, dict] | None) -> None:
    """Notes which run this one starts from, so that it starts from there again if it is stopped at once."""
    if source:
        text = json.dumps({"init_from": str(source[0].resolve()), "episode": source[1]["episode"]})
        try:
            storage.write(folder / ORIGIN, lambda temp: temp.write_text(text, encoding="utf-8"))
        except OSError as error:
            raise CheckpointError(f"{folder} cannot be written to ({error.strerror})") from error


def read_origin(folder: Path) -> str | None:
    """The folder that `note_origin` noted, or None.

    Raises:
        CheckpointError: the note is damaged.
    """
    try:
        return str(json.loads(storage.read_text(folder / ORIGIN))["init_from"])
    except FileNotFoundError:
        return None
    except storage.READ_ERRORS as error:
        raise CheckpointError(f"{folder / ORIGIN} is damaged; start over with --overwrite and --init_from") from error


def holds_a_run(folder: Path) -> bool:
    """Whether a training run has left anything in the folder."""
    return any(_run_files(folder))


def clear(folder: Path) -> None:
    """Removes a former run's files and nothing else."""
    for path in list(_run_files(folder)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _run_files(folder: Path):
    for pattern in (
        "manifest_*.json",
        "policy",
        "value_net_1",
        "value_net_2",
        "train_state",
        "replay",
        "*.csv",
        ORIGIN,
    ):
        yield from folder.glob(pattern)


def _episodes(folder: Path) -> list[int]:
    names = (re.fullmatch(r"manifest_(\d+)\.json", path.name) for path in folder.iterdir())
    return sorted((int(match[1]) for match in names if match), reverse=True)


def _verify(folder: Path, episode: int) -> tuple[dict, str | None]:
    path = folder / MANIFEST.format(episode)
    try:
        manifest = json.loads(storage.read_text(path))
        files, needed = manifest["files"], {pattern.format(episode) for pattern in NETWORKS.values()}
        if manifest["format"] != FORMAT or manifest["episode"] != episode or not needed <= set(files):
            return {}, f"{path.name} is of another format"
        for name, expected in files.items():
            if name not in needed | {STATE.format(episode)}:
                return {}, f"{path.name} names an unexpected file"
            if not storage.matches(folder / name, expected):
                return {}, f"{name} is damaged"
    except OSError as error:
        return {}, f"{Path(error.filename or path).name} is missing or unreadable"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}, f"{path.name} is damaged"
    return manifest, None


def _state_fault(folder: Path, manifest: dict) -> str | None:
    """Why a sound checkpoint can't be trained on from, or None."""
    if STATE.format(manifest["episode"]) not in manifest["files"]:
        return "it holds no training state"
    try:
        return replay_log.fault(folder, manifest.get("replay", {}))
    except OSError as error:
        return f"replay/{Path(error.filename or '').name} is missing or unreadable"
    except (TypeError, KeyError, AttributeError):
        return "its manifest is damaged"
