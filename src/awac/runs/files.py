"""Atomic writes, checksums, the cache folder, and safe reading of untrusted arrays."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import math
import os
import re
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from awac.errors import AWACError, CheckpointError, DataError, HomeError, first_line

READ_ERRORS = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    MemoryError,
    SyntaxError,
    AttributeError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Errors that parsers raise on damaged files."""

# DEFLATE cannot do better than 1032:1, so a larger declared size than that is a damaged or malicious header.
MAX_RATIO = 1032
SLACK = 1 << 20


def cache_folder() -> Path:
    """$AWAC_CACHE_DIR, else awac/ in $XDG_CACHE_HOME or ~/.cache: generated data sets and the compiled learner."""
    if os.environ.get("AWAC_CACHE_DIR"):
        return Path(os.environ["AWAC_CACHE_DIR"]).expanduser()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "awac"
    except RuntimeError:
        raise HomeError from None


@contextlib.contextmanager
def alone(path: Path, remedy: str) -> Iterator[None]:
    """Lets one process at a time make a file: all trials of a sweep start with the same data set.

    Raises:
        DataError: the folder can't be written to; it ends in `remedy`.
    """
    lock = path.with_suffix(".lock")
    with contextlib.ExitStack() as stack:
        try:
            file = _locked(lock)
            while file is None:
                file = _locked(lock)
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}); {remedy}") from None
        stack.enter_context(file)
        stack.callback(lock.unlink, missing_ok=True)
        yield


def _locked(lock: Path) -> BinaryIO | None:
    """The lock file, held by this process; None if the one that held it before has removed it.

    In a file system without locks nobody holds it: then two may make one file, each whole.
    """
    file = open(lock, "wb")  # noqa: SIM115
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.samestat(os.fstat(file.fileno()), os.stat(lock)):
            return file
    except FileNotFoundError:
        pass
    except OSError:
        file.close()
        raise
    file.close()
    return None


def write(target: Path, fill, mark: str = "tmp") -> dict:
    """Writes a file atomically: `fill` writes a temporary file beside `target`, which is synced and then renamed.

    Args:
        target: the file.
        fill: gets the temporary file's path and writes it.
        mark: part of the temporary name; several processes that write one target need one each.

    Returns:
        The file's fingerprint.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temp = target.with_name(f".{target.stem}.{mark}{target.suffix}")
    try:
        fill(temp)
        os.chmod(temp, _new_mode())  # MindSpore leaves its files read-only
        with open(temp, "rb+") as file:
            os.fsync(file.fileno())
        written = fingerprint(temp)
        os.replace(temp, target)
        _sync_folder(target.parent)
        return written
    finally:
        with contextlib.suppress(OSError):
            temp.unlink()


def write_text(target: Path, text: str) -> dict:
    """Writes text in UTF-8 as `write` does."""
    return write(target, lambda temp: temp.write_text(text, encoding="utf-8", newline=""))


def _new_mode() -> int:
    """The permissions of a file that `open` makes."""
    try:
        status = Path("/proc/self/status").read_bytes()  # `os.umask` would set it, for all threads
    except OSError:
        return 0o644
    mask = re.search(rb"^Umask:\s*([0-7]+)", status, re.MULTILINE)
    return 0o666 & ~int(mask[1], 8) | 0o600 if mask else 0o644


def write_npz(target: Path, arrays: dict[str, np.ndarray]) -> dict:
    """Writes arrays as `write` does; the zip is built in memory, since zipfile prints a traceback when a disk is full.

    Returns:
        The file's fingerprint.
    """
    content = io.BytesIO()
    np.savez(content, **arrays)
    return write(target, lambda temp: temp.write_bytes(content.getbuffer()))


def fingerprint(path: Path) -> dict:
    """Size and SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
        return {"size": file.tell(), "sha256": digest.hexdigest()}


def matches(path: Path, expected: dict) -> bool:
    """Whether a regular file, not a link to one, has this fingerprint; the size is compared first.

    Raises:
        OSError: it is not there.
    """
    status = path.lstat()
    regular = stat.S_ISREG(status.st_mode)
    return regular and status.st_size == expected["size"] and fingerprint(path) == expected


def read_text(path: Path, limit: int = 64 << 20) -> str:
    """The text of a regular file of limited size.

    Raises:
        OSError: it is not there.
        ValueError: it is not a regular file, too large, or not UTF-8.
    """
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
        raise ValueError(f"{path.name} is not a file of that kind")
    return path.read_text(encoding="utf-8")


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; declared sizes are checked against the file's before memory is allocated.

    Raises:
        CheckpointError: it is damaged.
    """
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                npy_header(archive, info, str(path))
                with archive.open(info) as file:
                    arrays[info.filename.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
    except (AWACError, *READ_ERRORS) as error:
        raise CheckpointError(f"{path} is damaged ({first_line(error)})") from error
    return arrays


def npy_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an .npy member; its declared size must fit its bytes."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    declared = math.prod(shape) * dtype.itemsize
    if declared > info.file_size or info.file_size > info.compress_size * MAX_RATIO + SLACK:
        raise DataError(f"{where} declares {declared} bytes, more than the file holds; record it again")
    return shape, dtype


def make_folder(folder: Path, remedy: str) -> None:
    """Makes a folder, or raises a DataError that ends in `remedy`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made ({error.strerror}); {remedy}") from None


def _sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power loss, if the file system supports it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
