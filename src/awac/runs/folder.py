"""The folder of one run: how it is recognised, who may write to it, and which files in it are the run's.

A run writes a marker file first. Only files that a run wrote, by their exact names, are ever removed; other files are
not touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from pathlib import Path

from awac.errors import CheckpointError, first_line
from awac.runs import files

NETWORKS = {
    "policy": "policy/policy_{}.ckpt",
    "value_net_1": "value_net_1/model_1_{}.ckpt",
    "value_net_2": "value_net_2/model_2_{}.ckpt",
}
STATE = "train_state/state_{}.npz"
MANIFEST = "manifest_{}.json"
MARKER = "awac_run.json"
ORIGIN = "init_from.json"
LOCK = "run.lock"
TABLES = ("train.csv", "eval.csv")
TABLE_COPIES = "train_state"
PIECE = re.compile(r"rows_(\d{1,18})_(\d{1,18})\.npy")
"""Online rows, `replay/rows_FIRST_END.npy`, numbered by insertion count."""

_NUMBERED = (*NETWORKS.values(), STATE, MANIFEST)
_FIXED = (MARKER, ORIGIN, *TABLES, *(f"{TABLE_COPIES}/{name}" for name in TABLES))
_FOLDERS = (*(pattern.split("/")[0] for pattern in NETWORKS.values()), TABLE_COPIES, "replay")
_TABLE_START = "episode,phase,"  # of both tables; identifies a run of an older version, which has no marker


def begin(folder: Path, version: str, config: dict, episodes: int, origin: tuple[Path, int] | None) -> None:
    """Takes the folder for a new run: removes a former run's files and notes what the new one is.

    Args:
        folder: of the run.
        version: awac's.
        config: the run's configuration, in case it has to be resumed before its first checkpoint.
        episodes: training episodes in all; likewise.
        origin: folder and checkpoint of the run that this one starts from; likewise.

    Raises:
        CheckpointError: the folder can't be written to.
    """
    clear(folder)
    if origin:  # before the marker: a run that has one can be resumed as it was begun
        _write_json(folder / ORIGIN, {"init_from": str(origin[0].resolve()), "episode": origin[1]})
    _write_json(folder / MARKER, {"format": 1, "awac": version, "config": config, "episodes": episodes})


def note_resumed(folder: Path, config: dict, episodes: int, after: int) -> None:
    """Notes what a resumed run is to do, in case it stops before its next checkpoint.

    Args:
        folder: of the run.
        config: its configuration now.
        episodes: training episodes in all.
        after: the checkpoint that it goes on from.

    Raises:
        CheckpointError: the folder can't be written to, or the marker is damaged.
    """
    if noted := marker(folder):  # else an older version's run
        _write_json(folder / MARKER, {**noted, "config": config, "episodes": episodes, "noted_after": after})


def marker(folder: Path) -> dict:
    """What a run noted when it began or was resumed; {} if there is no marker, as in an older version's folder.

    Raises:
        CheckpointError: the marker is damaged.
    """
    try:
        return dict(json.loads(files.read_text(folder / MARKER)))
    except FileNotFoundError:
        return {}
    except files.READ_ERRORS as error:
        raise CheckpointError(f"{folder / MARKER} is damaged ({first_line(error)}); --overwrite starts over") from error


def is_run(folder: Path) -> bool:
    """Whether a run wrote to the folder: it has a marker, or files that only an older version of awac writes."""
    if not folder.is_dir():
        return False
    if (folder / MARKER).is_file() or (folder / ORIGIN).is_file():
        return True
    return any(_is_manifest(folder / MANIFEST.format(n)) for n in episodes(folder)) or any(
        _is_table(folder / name) for name in TABLES
    )


def holds_a_run(folder: Path) -> bool:
    """Whether a run has left files in the folder that a new one would overwrite."""
    return is_run(folder) and any(True for _ in run_files(folder))


def refuse_foreign(folder: Path) -> None:
    """Refuses a folder that holds no run but files under names that a run writes.

    Raises:
        CheckpointError: names the first such file.
    """
    if is_run(folder):
        return
    names = [name for name in (*_FIXED[:4], *_FOLDERS) if os.path.lexists(folder / name)]
    names += [MANIFEST.format(n) for n in episodes(folder)]
    if names:
        raise CheckpointError(
            f"{folder} holds {names[0]}, which no awac run wrote: nothing was changed; choose another --ckpt_path"
        )


def run_files(folder: Path):
    """The files that a run wrote, by exact name, temporary ones of a killed run included."""
    for relative in (".", *_FOLDERS):
        place = folder / relative
        if place.is_dir() and (relative == "." or not place.is_symlink()):  # the run folder itself may be a link
            for path in sorted(place.iterdir()):
                if _is_ours(path.name if relative == "." else f"{relative}/{path.name}"):
                    yield path


def clear(folder: Path) -> None:
    """Removes a former run's files, and its sub-folders if they are then empty."""
    for path in list(run_files(folder)):
        path.unlink()
    for name in _FOLDERS:
        with contextlib.suppress(OSError):
            (folder / name).rmdir()


def episodes(folder: Path) -> list[int]:
    """The checkpoints that have a manifest, sound or not, newest first."""
    names = (re.fullmatch(r"manifest_(\d{1,12})\.json", path.name) for path in folder.iterdir())
    return sorted((int(match[1]) for match in names if match), reverse=True)


def known_episodes(folder: Path) -> str:
    """`; it has 20, 15, 10` for an error that misses a checkpoint; nothing if there is none."""
    numbers = episodes(folder)
    listed = ", ".join(map(str, numbers[:10])) + (", …" if len(numbers) > 10 else "")
    return f"; it has {listed}" if numbers else ""


def read_origin(folder: Path) -> tuple[str, int] | None:
    """Folder and checkpoint of the run that the one in `folder` starts from, or None.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        origin = json.loads(files.read_text(folder / ORIGIN))
        return str(origin["init_from"]), int(origin["episode"])
    except FileNotFoundError:
        return None
    except files.READ_ERRORS as error:
        raise CheckpointError(f"{folder / ORIGIN} is damaged; start over with --overwrite and --init_from") from error


_locks: set = set()
"""Open lock files. A forked child, such as an environment's helper, would keep a dead run's lock."""


def _close_locks() -> None:
    for lock in _locks:
        lock.close()
    _locks.clear()


os.register_at_fork(after_in_child=_close_locks)


@contextlib.contextmanager
def exclusive(folder: Path):
    """Holds the folder for one run; a second one is refused with the first one's pid.

    It uses flock, so the lock ends with the process. Where the file system has no locks, a line says so.

    Raises:
        CheckpointError: another run has it, it can't be written to, or its `run.lock` is somebody else's file.
    """
    path = folder / LOCK
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8", errors="replace")  # noqa: SIM115
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be written to ({error.strerror})") from None
    with file as lock:
        lock.seek(0)
        holder = lock.read(100)
        if not re.fullmatch(r"\d{0,20}\s*", holder):
            raise CheckpointError(f"{path} was not written by awac: it is not touched; choose another --ckpt_path")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = os.fstat(lock.fileno()).st_ino == path.stat().st_ino  # else the run that just ended removed it
        except (BlockingIOError, FileNotFoundError):
            free = False
        except OSError as error:
            free = True
            print(f"{folder} can't be locked ({error.strerror}): start no second run in it", flush=True)
        if not free:
            raise CheckpointError(f"{folder} is in use by the run with pid {holder.strip() or '?'}")
        with contextlib.suppress(OSError):  # on a full disk the pid is missing, the lock still holds
            os.ftruncate(lock.fileno(), 0)
            os.write(lock.fileno(), str(os.getpid()).encode())
        _locks.add(lock)
        try:
            yield
        finally:
            _locks.discard(lock)
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a run that never began leaves no empty folders
                for place in made:
                    place.rmdir()


def _is_ours(name: str) -> bool:
    folder, _, base = name.rpartition("/")
    temporary = re.fullmatch(r"\.(.+)\.tmp((?:\.\w+)?)", base)
    if temporary:  # `files.write` names them so
        name = "/".join(filter(None, (folder, temporary[1] + temporary[2])))
    if name in _FIXED:
        return True
    if folder == "replay":
        return bool(PIECE.fullmatch(name.rpartition("/")[2]))
    return any(re.fullmatch(re.escape(p).replace(r"\{\}", r"\d{1,12}"), name) for p in _NUMBERED)


def _is_manifest(path: Path) -> bool:
    try:
        manifest = json.loads(files.read_text(path))
        return isinstance(manifest, dict) and {"format", "episode", "files"} <= set(manifest)
    except files.READ_ERRORS:
        return False


def _is_table(path: Path) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(len(_TABLE_START)) == _TABLE_START
    except OSError:
        return False


def _write_json(path: Path, content: dict) -> None:
    text = json.dumps(content)
    try:
        files.write_text(path, text)
    except OSError as error:
        raise CheckpointError(f"{path.parent} cannot be written to ({error.strerror})") from error
