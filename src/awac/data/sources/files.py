"""Data set files, HDF5 or .npz: from bytes to columns.

Any problem raises a `DataError` that names the file and the key. Files are not trusted: declared shapes are checked
against the file's size before memory is allocated, and links to other files are refused.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import re
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np

from awac.data.action_unit import STORED_NAMES
from awac.data.columns import PHYSICS, VECTORS, named, used_keys
from awac.data.ends import IDS, STEPS
from awac.data.precision import Losses
from awac.data.sources.headers import check_declared, is_counter
from awac.data.sources.registry import LAYOUTS, Recording
from awac.errors import DataError
from awac.runs.files import MAX_RATIO, SLACK, npy_header

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC = b"PK\x03\x04"
_FOREIGN = {
    b"\x93NUMPY": "a single .npy array; save all columns with np.savez",
    b"\x80": "a Python pickle, which awac never loads; save the columns with np.savez",
    b"MATLAB 5.0": "a MATLAB file of version 5; save it with -v7.3",
    b"PAR1": "a Parquet table; name it .parquet",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
}
_UNIT_KEYS = ("metadata/action_unit", "action_unit")
_OLD_RECORDING = "Recorded with awac"  # the description in recordings of awac before it stored the unit: [-1, 1]


def read_file(path: str | os.PathLike, extra: tuple[str, ...] = ()) -> Recording:
    """A data set file: its columns under their own names, and the unit of its actions if it says so.

    The format is detected from the content, not from the name.

    Args:
        path: the file.
        extra: further keys to read if the file has them.

    Raises:
        DataError: the file is missing or unreadable, lacks a required key, or has invalid shapes or types.
    """
    path = Path(path).expanduser()
    source = str(path)
    try:
        with open(path, "rb") as file:
            magic = file.read(16)
    except FileNotFoundError:
        raise DataError(f"{source}: no such file; check the path") from None
    except IsADirectoryError:
        raise DataError(f"{source}: is a folder; give the path of an .hdf5 or .npz file in it") from None
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror}); check its permissions") from None
    if magic[:8] == HDF5_MAGIC or _behind_a_user_block(path):
        return _read_hdf5(path, source, extra)
    if magic[:4] == ZIP_MAGIC:
        return _read_npz(path, source, extra)
    what = next((text for start, text in _FOREIGN.items() if magic.startswith(start)), None)
    what = what or f"{'empty' if not magic else 'neither HDF5 nor .npz'}; download or record it again"
    raise DataError(f"{source}: is {what}")


def _behind_a_user_block(path: Path) -> bool:
    """Whether HDF5 begins at byte 512, 1024, 2048, …, as in MATLAB's v7.3 files."""
    with open(path, "rb") as file:
        size, offset = path.stat().st_size, 512
        while offset < min(size, 1 << 20):
            file.seek(offset)
            if file.read(8) == HDF5_MAGIC:
                return True
            offset *= 2
    return False


def _read_hdf5(path: Path, source: str, extra: tuple[str, ...]) -> Recording:
    try:
        with h5py.File(path, "r") as file:
            for layout in LAYOUTS:
                if (recorded := layout(file, source)) is not None:
                    check_declared({key: (values.shape, values.dtype) for key, values in recorded[0].items()}, source)
                    return Recording("file", path, f"file {path}", *recorded)
            keys = (*used_keys(file), *_counters(file), *(key for key in extra if key in file))
            datasets = {key: hdf5_dataset(file, key, source) for key in keys}
            turned = {key: _from_matlab(data) for key, data in datasets.items()}
            declared = {
                key: (data.shape[::-1] if turned[key] else data.shape, data.dtype) for key, data in datasets.items()
            }
            check_declared(declared, source, file)
            columns = {}
            for key, data in datasets.items():
                values = read_dataset(data, path.stat().st_size, f"{source}: key '{key}'", exact=key in (*IDS, *STEPS))
                columns[key] = values.T if turned[key] else values
            description = _hdf5_text(file, ("metadata/description",), source)
            unit = _unit(_hdf5_text(file, _UNIT_KEYS, source), description, source)
            names, lost = _names(datasets), Losses()
            for key, data in datasets.items():
                lost.look(names.get(key), data, turned[key])
            types = {key: data.dtype for key, data in datasets.items()}
            return _recording(path, columns, unit, types, lost)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{source}: {_hdf5_fault(error)}") from None


def _counters(file: h5py.File) -> list[str]:
    """The keys that count steps."""
    rewards = named(file).get("rewards")
    if not rewards or not isinstance(file.get(rewards, getlink=True), h5py.HardLink):
        return []  # which is refused later
    rows = _shape(file[rewards])[:1] if isinstance(file[rewards], h5py.Dataset) else ()
    own = [key for key in STEPS if isinstance(file.get(key, getlink=True), h5py.HardLink)]
    found = [(key, file[key]) for key in own if isinstance(file[key], h5py.Dataset)]
    inside = [(key, data) for key, data in found if not data.is_virtual and not data.external and data.shape]
    written = [(key, data) for key, data in inside if data.id.get_storage_size()]
    return [key for key, data in written if rows and is_counter(_shape(data), data.dtype, rows[0])]


def _shape(data: h5py.Dataset) -> tuple[int, ...]:
    """As numpy would have it; () of a data set without values."""
    return (data.shape[::-1] if _from_matlab(data) else data.shape) if data.shape else ()


def _names(keys) -> dict[str, str]:
    """D4RL's names of the keys that hold numbers, not flags or ids."""
    own = {key: name for name, key in named(keys).items() if name in VECTORS}
    return {**own, **{key: key for key in PHYSICS}}


def _recording(path: Path, columns, unit: str | None, types: dict[str, np.dtype], lost: Losses) -> Recording:
    steps = {key: values.astype(np.float64) for key, values in columns.items() if key in STEPS}  # unsigned ones wrap
    columns = {key: values for key, values in columns.items() if key not in steps}
    columns |= {key: values for key, values in steps.items() if np.isfinite(values).all()}
    warnings, rounded = tuple(lost.warnings), tuple(lost.rounded)
    return Recording("file", path, f"file {path}", columns, unit, warnings, types, rounded=rounded)


def _hdf5_fault(error: Exception) -> str:
    reason = " ".join(str(error).split())
    if isinstance(error, BlockingIOError) or "already open for write" in reason:
        hint = "close it there (`h5clear -s FILE` if that program has ended)"
        return f"is still open in the program that writes it; {hint}"
    if "unable to lock" in reason:
        return "lies in a file system without locks; set HDF5_USE_FILE_LOCKING=FALSE"
    return f"is truncated or damaged ({reason[:120]}); remove it, then download or record it again"


def _from_matlab(data: h5py.Dataset) -> bool:
    """MATLAB stores arrays by column, so HDF5 sees them transposed."""
    return "MATLAB_class" in data.attrs and len(data.shape) == 2


def read_dataset(data: h5py.Dataset, file_bytes: int, where: str, exact: bool = False) -> np.ndarray:
    """Its values; floats become float32 while reading, so that a float64 file is not in memory twice.

    Args:
        data: the data set.
        file_bytes: the file's size.
        where: for messages.
        exact: keep the type, as two ids may be one number in float32.

    Raises:
        DataError: it declares more bytes than the file holds, or is compressed in a way that HDF5 can't read here.
    """
    _check_storage(data, file_bytes, where)
    if _missing_filters(data):
        with contextlib.suppress(ImportError):
            importlib.import_module("hdf5plugin")  # registers its filters
    try:
        return (data if exact or data.dtype.kind in "biu" else data.astype(np.float32))[()]
    except OSError:
        if names := _missing_filters(data):
            hint = "pip install hdf5plugin, or store it with gzip where it was written: h5repack -f GZIP=1 IN OUT"
            raise DataError(f"{where} is compressed with {', '.join(names)}, which is not installed; {hint}") from None
        raise


def _missing_filters(data: h5py.Dataset) -> list[str]:
    settings = data.id.get_create_plist()
    filters = [settings.get_filter(i) for i in range(settings.get_nfilters())]
    return [
        f"{name.decode('utf-8', 'replace')[:20]!r} (HDF5 filter {code})"
        for code, _, _, name in filters
        if not h5py.h5z.filter_avail(code)
    ]


def episode_numbers(file: h5py.File, pattern: str) -> list[str]:
    """The keys of a file that match, in the order of the number in the pattern's group."""
    matches = [match for key in file if (match := re.fullmatch(pattern, key))]
    return [match[0] for match in sorted(matches, key=lambda match: int(match[1]))]


def _hdf5_text(file: h5py.File, keys: tuple[str, ...], source: str) -> str | None:
    """What one of the keys, or the file's attribute of the same name, holds; a description if it is no text."""
    for key in keys:
        value = file.attrs.get(key.rpartition("/")[2])
        if value is None and key in file:
            data = hdf5_dataset(file, key, source)
            value = data[()] if data.size == 1 and data.dtype.itemsize < 4096 else f"of shape {data.shape}"
        if value is not None:
            return _text(value)
    return None


def _text(value) -> str:
    """A text that a file holds, as it is, as bytes, or as an array of one."""
    value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _unit(text: str | None, description: str | None, source: str) -> str | None:
    if text is None:
        return "scaled" if description and description.startswith(_OLD_RECORDING) else None
    if text.lower() not in STORED_NAMES:
        raise DataError(f"{source}: action_unit is {text[:40]!r}; it is one of {', '.join(STORED_NAMES)}")
    return STORED_NAMES[text.lower()]


def hdf5_dataset(file: h5py.File, key: str, source: str) -> h5py.Dataset:
    """The data set under a key, which must lie in the file itself.

    Raises:
        DataError: it is a link, a group, or keeps its values in another file.
    """
    steps = (key[: match.start()] for match in re.finditer("/|$", key))  # the groups on the way, then the key
    if not all(isinstance(file.get(step, getlink=True), h5py.HardLink) for step in steps):
        raise DataError(f"{source}: key '{key}' is a link, not data; store the values in the file itself")
    data = file[key]
    if not isinstance(data, h5py.Dataset):
        raise DataError(f"{source}: key '{key}' is a group, not an array; store an array under that name")
    if data.is_virtual or data.external:
        raise DataError(f"{source}: key '{key}' keeps its values in another file; store them in the file itself")
    return data


def _check_storage(data: h5py.Dataset, file_bytes: int, where: str) -> None:
    """Refuses a declared size that the file's bytes cannot hold, before HDF5 allocates it."""
    packed = data.compression is not None or data.id.get_create_plist().get_nfilters() > 0
    chunk_bytes = math.prod(data.chunks) * data.dtype.itemsize if data.chunks else 0
    limit = min(data.id.get_storage_size(), file_bytes) * (MAX_RATIO if packed else 1) + SLACK
    if data.nbytes > limit or chunk_bytes > max(limit, data.nbytes + SLACK):
        raise DataError(f"{where} declares {data.nbytes} bytes, more than the file holds; download or record it again")


def _read_npz(path: Path, source: str, extra: tuple[str, ...]) -> Recording:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            keys = (*used_keys(members), *(key for key in extra if key in members))
            declared = {key: npy_header(archive, members[key], f"{source}: key '{key}'") for key in keys}
            rows = declared[named(declared)["rewards"]][0][:1] if "rewards" in named(declared) else ()
            for key in (key for key in STEPS if rows and key in members):
                with contextlib.suppress(ValueError, DataError):  # anything may have that name
                    if is_counter(*(header := npy_header(archive, members[key], key)), rows[0]):
                        declared[key] = header
            infos = {key: members[key] for key in declared}
            check_declared(declared, source, members)
            columns, lost, names = {}, Losses(), _names(infos)
            for key, info in infos.items():
                with archive.open(info) as file:
                    values = np.lib.format.read_array(file, allow_pickle=False)
                lost.look(names.get(key), values)
                exact = key in (*IDS, *STEPS) or values.dtype.kind in "biu"
                columns[key] = values if exact else values.astype(np.float32, copy=False)
            unit = next((_npz_text(archive, members[key], source) for key in _UNIT_KEYS if key in members), None)
            types = {key: dtype for key, (_, dtype) in declared.items()}
            return _recording(path, columns, _unit(unit, None, source), types, lost)
    except (OSError, RuntimeError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{source}: is truncated or damaged ({reason[:120]}); record it again") from None


def _npz_text(archive: zipfile.ZipFile, info: zipfile.ZipInfo, source: str) -> str:
    npy_header(archive, info, source)
    with archive.open(info) as file:
        value = np.lib.format.read_array(file, allow_pickle=False)
    return _text(value)
