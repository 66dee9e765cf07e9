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
import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import mindspore as ms
import numpy as np

from awac.errors import CheckpointError

NETWORKS = {"policy": "policy/policy_{}.ckpt", "value_net_1": "value_net_1/model_1_{}.ckpt",
            "value_net_2": "value_net_2/model_2_{}.ckpt"}  # fmt: skip
STATE = "train_state/state_{}.npz"
MANIFEST = "manifest_{}.json"
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
            target = folder / pattern.format(episode)
            data = [{"name": key, "data": ms.Tensor(value)} for key, value in networks[name].items()]
            _write(target, lambda temp, data=data: ms.save_checkpoint(data, str(temp)), files, folder)
        if state is not None:
            target = folder / STATE.format(episode)
            _write(target, lambda temp: np.savez(temp, **state), files, folder)
        manifest = {"format": FORMAT, "episode": episode, **about, "files": files}
        _write(
            folder / MANIFEST.format(episode), lambda temp: temp.write_text(json.dumps(manifest, indent=1)), {}, folder
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {episode} could not be written to {folder} ({_first_line(error)})"
        ) from error
    for old in _episodes(folder)[keep:]:
        remove(folder, old)


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
        if fault is None and need_state and STATE.format(candidate) not in manifest["files"]:
            fault = "it holds no training state"
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
            counts.append(int(json.loads((folder / MANIFEST.format(episode)).read_text(encoding="utf-8"))["inserted"]))
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
    except (ValueError, OSError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{path} is not a MindSpore checkpoint ({_first_line(error)})") from error


def load_state(folder: Path, episode: int) -> dict[str, np.ndarray]:
    """Arrays of the training state."""
    with np.load(folder / STATE.format(episode), allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


class ReplayLog:
    """The online rows on disk, in append-only pieces `replay/rows_FIRST_END.npy` by insertion count."""

    def __init__(self, folder: Path):
        self.folder = folder / "replay"

    def append(self, replay, saved: int) -> None:
        """Writes the rows added since insertion `saved`."""
        if replay.inserted > saved:
            rows = replay.rows_since(saved)
            first = replay.inserted - len(rows)
            target = self.folder / f"rows_{first}_{replay.inserted}.npy"
            _write(target, lambda temp: np.save(temp, rows), {}, self.folder)

    def forget(self, insertion: int) -> None:
        """Drops pieces of rows up to `insertion`: those that no checkpoint needs any more."""
        for _, end, path in self._pieces():
            if end <= insertion:
                path.unlink()

    def load(self, inserted: int, rows: int, width: int) -> np.ndarray:
        """The `rows` newest rows as of insertion `inserted`, oldest first.

        Raises:
            CheckpointError: a piece is missing or damaged.
        """
        table = np.empty((rows, width), np.float32)
        filled = inserted - rows
        for first, end, path in self._pieces():
            if end <= filled or first >= inserted:
                if first >= inserted:
                    path.unlink()  # written after the checkpoint that is being resumed
                continue
            try:
                piece = np.load(path, allow_pickle=False)
            except (ValueError, OSError, EOFError) as error:
                raise CheckpointError(f"{path}: damaged replay file ({_first_line(error)})") from error
            if first > filled or piece.shape != (end - first, width):
                break
            end = min(end, inserted)
            start = inserted - rows
            table[filled - start : end - start] = piece[filled - first : end - first]
            filled = end
        if filled != inserted:
            raise CheckpointError(
                f"{self.folder}: online rows {filled} to {inserted} are missing; cannot resume from here"
            )
        return table

    def _pieces(self):
        found = []
        for path in self.folder.glob("rows_*_*.npy"):
            match = re.fullmatch(r"rows_(\d+)_(\d+)\.npy", path.name)
            if match:
                found.append((int(match[1]), int(match[2]), path))
        return sorted(found)


@contextlib.contextmanager
def exclusive(folder: Path):
    """Holds the folder for one run; a second one is refused with the first one's pid."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / "run.lock", "a+", encoding="ascii")  # noqa: SIM115
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be written to ({error.strerror})") from None
    with file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise CheckpointError(f"{folder} is in use by the run with pid {lock.read().strip() or '?'}") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        try:
            yield
        finally:
            (folder / "run.lock").unlink(missing_ok=True)


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
    for pattern in ("manifest_*.json", "policy", "value_net_1", "value_net_2", "train_state", "replay", "*.csv"):
        yield from folder.glob(pattern)


def _episodes(folder: Path) -> list[int]:
    names = (re.fullmatch(r"manifest_(\d+)\.json", path.name) for path in folder.iterdir())
    return sorted((int(match[1]) for match in names if match), reverse=True)


def _verify(folder: Path, episode: int) -> tuple[dict, str | None]:
    path = folder / MANIFEST.format(episode)
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        files, needed = manifest["files"], {pattern.format(episode) for pattern in NETWORKS.values()}
        if manifest["format"] != FORMAT or manifest["episode"] != episode or not needed <= set(files):
            return {}, f"{path.name} is of another format"
        for name, expected in files.items():
            if name not in needed | {STATE.format(episode)}:
                return {}, f"{path.name} names an unexpected file"
            if _fingerprint(folder / name) != expected:
                return {}, f"{name} is damaged"
    except OSError as error:
        return {}, f"{Path(error.filename or path).name} is missing or unreadable"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}, f"{path.name} is damaged"
    return manifest, None


def _write(target: Path, write, files: dict, folder: Path) -> None:
    """Writes through a temporary file in the same folder; notes size and checksum in `files`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temp = target.with_name(f".{target.stem}.tmp{target.suffix}")
    try:
        write(temp)
        os.chmod(temp, 0o644)  # MindSpore leaves its files read-only
        with open(temp, "rb+") as file:
            os.fsync(file.fileno())
        files[str(target.relative_to(folder))] = _fingerprint(temp)
        os.replace(temp, target)
    finally:
        with contextlib.suppress(OSError):
            temp.unlink()


def _fingerprint(path: Path) -> dict:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read())
        return {"size": file.tell(), "sha256": digest.hexdigest()}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
