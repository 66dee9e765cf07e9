"""`awac convert`: any data set that can be read, as D4RL's HDF5, .npz, a .csv or .parquet table, or Minari's HDF5."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from awac.data.columns import PHYSICS, VECTORS, load, named
from awac.data.ends import find_ends
from awac.data.hdf5_writer import write_hdf5
from awac.data.minari_writer import write_minari
from awac.data.order import check_order
from awac.data.sources.minari import PREFIX
from awac.data.sources.registry import Columns, Recording, Request
from awac.data.sources.resolve import find
from awac.data.sources.table_names import inner_words
from awac.data.spaces import are_whole
from awac.errors import EXTRAS, DataError, first_line
from awac.runs.files import write, write_npz

FORMATS = (".hdf5", ".h5", ".npz", ".csv", ".parquet")
_TABLE_NAMES = {
    "observations": "obs",
    "actions": "action",
    "rewards": "reward",
    "next_observations": "next_obs",
    "terminals": "terminated",
    "timeouts": "truncated",
}


def convert(dataset: str, out: str | os.PathLike, download: bool = False) -> str:
    """Writes a data set in the format of `out`'s suffix, with D4RL's column names, or in Minari's.

    Args:
        dataset: any name that `awac train --dataset` takes.
        out: the file to write, or `minari:ID`; it must not exist yet.
        download: fetch D4RL's file if it is not on the machine.

    Returns:
        What was written, what was lost, and warnings about how it was read.

    Raises:
        DataError: the data set can't be read, `out` exists, can't be written, or has another suffix.
    """
    if str(out).startswith(PREFIX):
        recording = find(dataset, Request(download, extra=PHYSICS))
        return write_minari(recording, str(out), dataset) + _doubts(recording)
    path = Path(out).expanduser()
    if path.suffix.lower() not in FORMATS:
        raise DataError(f"{path}: the format is told from the suffix, one of {', '.join(FORMATS)}; or it is minari:ID")
    if path.exists():
        raise DataError(f"{path}: exists already; remove it or name another file")
    recording = find(dataset, Request(download, extra=PHYSICS))
    load(recording.columns, str(recording.path))  # raises for rows that can't be trained on
    columns = _d4rl_columns(recording.columns, str(recording.path))
    to_table = path.suffix.lower() in (".csv", ".parquet")
    lost, note, actions = ["metadata and other columns"], "", columns["actions"]
    # A table's rewards keep their digits; physics does not get into one.
    kept = [name for name in recording.rounded if not (to_table and name in PHYSICS)]
    if rounded := [name for name in kept if columns[name].dtype == np.float32]:
        lost.append(f"digits beyond float32 ({', '.join(rounded)})")
    if any(not word.isdecimal() for words in inner_words(recording.names) for word in words):
        lost.append("the names of observation columns, by which a task with a Dict orders them")
    if actions.size == len(actions) and are_whole(actions):  # which are indices in a table, as that has no types
        if recording.kind == "table":
            columns["actions"] = actions.reshape(-1).astype(np.int64)
            note = "" if to_table else f"; actions written as indices 0..{int(actions.max())}"
        elif to_table and actions.dtype.kind == "f":
            hint = "whole numbers in one column are read as indices unless action_low and action_high are given"
            lost.append(f"that the actions are a vector ({hint})")
    try:
        if to_table:
            lost += [key for key in PHYSICS if columns.pop(key, None) is not None]
            lost += ["the unit of the actions"] if recording.action_unit == "scaled" else []
            write_table = _write_csv if path.suffix.lower() == ".csv" else _parquet_writer(path)
            write(path, lambda draft: write_table(draft, _table(columns)))
        elif path.suffix.lower() == ".npz":
            unit = {"action_unit": np.asarray(recording.action_unit)} if recording.action_unit else {}
            write_npz(path, {**columns, **unit})
        else:
            unit_text: dict[str, object] = {"action_unit": recording.action_unit} if recording.action_unit else {}
            write_hdf5(path, columns, unit_text)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None
    line = f"{path}: {len(columns['rewards'])} rows, {', '.join(columns)}; not carried over: {', '.join(lost)}{note}"
    return line + _doubts(recording)


def _doubts(recording: Recording) -> str:
    """What may have been read wrongly; the written file has no column that would show it again."""
    successors = "next_observations" in named(recording.columns)
    order = check_order(recording.columns, successors, str(recording.path))
    return "".join(f"; warning: {text}" for text in (*recording.warnings, *order))


def _d4rl_columns(columns: Columns, source: str) -> Columns:
    """The columns under D4RL's names; timeouts are written only if the file marks them."""
    keys = named(columns)
    result = {name: columns[keys[name]] for name in VECTORS if name in keys}
    ends = find_ends(columns, source)
    result["rewards"] = result["rewards"].reshape(-1)
    result["terminals"] = ends.terminated
    if ends.marked:
        result["timeouts"] = ends.cut
    return {**result, **{key: columns[key] for key in PHYSICS if key in columns}}


def _table(columns: Columns) -> Columns:
    """A column a number, (N,) each: vectors are taken apart as obs_0, obs_1, …."""
    table: Columns = {}
    for key, values in columns.items():
        name, matrix = _TABLE_NAMES[key], values.reshape(len(values), -1)
        if key in VECTORS and key != "rewards":
            table.update({f"{name}_{i}": matrix[:, i] for i in range(matrix.shape[1])})
        else:
            table[name] = matrix[:, 0]
    return table


def _write_csv(path: Path, table: Columns) -> None:
    parts = [values.astype(int) if values.dtype == bool else values for values in table.values()]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        # str() of a float32 has the fewest digits that give the same float32 again.
        writer.writerows([str(part[row]) for part in parts] for row in range(len(parts[0])))


def _parquet_writer(path: Path) -> Callable[[Path, Columns], None]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise DataError(f"{path}: writing Parquet needs pyarrow: pip install {EXTRAS['parquet']}") from None

    def write_table(draft: Path, table: Columns) -> None:
        native = {name: values.astype(values.dtype.newbyteorder("=")) for name, values in table.items()}
        try:
            parquet.write_table(pyarrow.table(native), draft)
        except pyarrow.ArrowException as error:
            raise DataError(f"{path}: cannot be written as Parquet ({first_line(error)})") from None

    return write_table
