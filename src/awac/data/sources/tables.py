"""Tables with one row per step: `.csv` (also with semicolons or tabs) and `.parquet` (with pyarrow).

Columns are recognised by name: `reward`, `terminated`, `truncated`, `done`, `episode` and so on as in
`awac.data.columns`, and vectors with one column per value, such as `obs_0, obs_1, action_0, next_obs_0, next_obs_1` or
`observation.x`. A file beside the table maps other names, `logs.columns.yaml` for `logs.csv`:

    observations: [temperature, pressure]
    actions: [valve]
    rewards: profit
    timeouts: end_of_day
"""

from __future__ import annotations

import csv
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from awac.data.columns import REQUIRED, VECTORS, missing_key, named
from awac.data.ends import FLAGS
from awac.data.sources.registry import Columns, Recording, Request, source
from awac.errors import DataError
from awac.runs.files import first_line

_PARTS = {
    "observations": r"([_.\[ -].*)?",
    "next_observations": r"([_.\[ -].*)?",
    "actions": r"([_\[ -]?\d+\]?|\..*)?",  # not action_log_prob
}
"""What may come after the name of a vector's column."""
_TRUTH = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}


@source(suffix=(".csv", ".tsv"))
def table(name: str, request: Request) -> Recording:
    """A table of text."""
    path = Path(name).expanduser()
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            delimiter = max(",;\t", key=first.count)
            header = [part.strip() for part in next(csv.reader([first], delimiter=delimiter), [])]
            groups = _mapped(path, header) or _by_name(header, str(path))
            _check_complete(groups, header, str(path))
            used = list(dict.fromkeys(column for columns in groups.values() for column in columns))
            values = _numbers(file, delimiter, header, used, str(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from None
    return _recording(path, groups, {column: values[:, i] for i, column in enumerate(used)})


@source(suffix=(".parquet",))
def parquet(name: str, request: Request) -> Recording:
    """A Parquet table; a column may hold a list of numbers a row."""
    path = Path(name).expanduser()
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError(f"{path}: reading Parquet needs pyarrow: pip install 'awac[parquet]'") from None
    try:
        with ParquetFile(path) as file:
            header = file.schema_arrow.names
            groups = _mapped(path, header) or _by_name(header, str(path))
            _check_complete(groups, header, str(path))
            used = list(dict.fromkeys(column for columns in groups.values() for column in columns))
            read = file.read(columns=used)
            values = {column: np.array(read[column].to_pylist(), np.float64) for column in used}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except (OSError, ArrowException, ValueError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as a table of numbers ({first_line(error)})") from None
    return _recording(path, groups, values)


def _recording(path: Path, groups: dict[str, list[str]], values: Columns) -> Recording:
    if any(len(array) == 0 for array in values.values()):
        raise DataError(f"{path}: holds no rows; record it again")
    columns: Columns = {}
    for key, members in groups.items():
        parts = [values[column].reshape(len(values[column]), -1) for column in members]
        vector = key in VECTORS and key != "rewards"
        if not vector and (len(parts) > 1 or parts[0].shape[1] > 1):
            raise DataError(f"{path}: {key} has several columns ({_listed(members)}); name one of them")
        columns[key] = np.concatenate(parts, axis=1).astype(np.float32) if vector else parts[0][:, 0]
    taken = "; ".join(f"{key} from {_listed(groups[named(groups)[key]])}" for key in ("observations", "actions"))
    return Recording("table", path, f"table {path}: {taken}", columns)


def _listed(names: list[str]) -> str:
    return ", ".join(names if len(names) <= 4 else [*names[:2], "…", names[-1]])


def _by_name(header: list[str], source: str) -> dict[str, list[str]]:
    """The columns of each key, from names such as `obs_0`, `obs.speed`, `action[1]` or `reward`."""
    groups: dict[str, list[str]] = {}
    parts: dict[str, list[str]] = {}  # what follows a vector's name in each of its columns
    for column in header:
        lowered = column.lower()
        if lowered in FLAGS:
            groups.setdefault(lowered, []).append(column)
            continue
        for key, aliases in VECTORS.items():
            found = [re.fullmatch(f"{alias}({_PARTS.get(key, '')})", lowered) for alias in aliases]
            if match := next(filter(None, found), None):
                groups.setdefault(key, []).append(column)
                parts.setdefault(key, []).append(match[1].strip("_.[] -"))
                break
    return _ordered(groups, parts, source)


def _ordered(groups: dict[str, list[str]], parts: dict[str, list[str]], source: str) -> dict[str, list[str]]:
    """A vector's columns by their numbers, else as in the header; the next observation's as the observation's.

    Columns under several names, such as `obs_0` and `state_0`, stay as in the header.

    Raises:
        DataError: the columns of the next observation have other names than those of the observation.
    """
    numbered = {key for key, names in parts.items() if all(name.isdecimal() for name in names)}
    for key in numbered:
        if len({int(name) for name in parts[key]}) == len(parts[key]):
            groups[key] = [column for _, column in sorted(zip(map(int, parts[key]), groups[key], strict=True))]
    own, following = (parts.get(key, []) for key in ("observations", "next_observations"))
    alike = {"observations", "next_observations"} <= numbered  # paired by order
    several = min(len(own), len(following)) > 1 and len(set(own)) == len(own) and len(set(following)) == len(following)
    if alike or not several:
        return groups
    column_of = dict(zip(following, groups["next_observations"], strict=True))
    if odd := set(own) ^ set(following):
        columns = [*groups["observations"], *groups["next_observations"]]
        odd_column = next(column for column, part in zip(columns, [*own, *following], strict=True) if part in odd)
        raise DataError(
            f"{source}: '{odd_column}' has no partner among observations and next_observations; rename the columns, or "
            "map them in a file .columns.yaml"
        )
    groups["next_observations"] = [column_of[part] for part in own]
    return groups


def _mapped(path: Path, header: list[str]) -> dict[str, list[str]] | None:
    """The mapping in the file beside the table; None if there is none."""
    beside = path.with_name(f"{path.stem}.columns.yaml")
    if not beside.is_file():
        return None
    try:
        mapping = yaml.safe_load(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{beside}: not readable as YAML ({first_line(error)})") from None
    known = (*VECTORS, *FLAGS)
    if not isinstance(mapping, dict) or not all(key in known for key in mapping):
        raise DataError(f"{beside}: must map {', '.join(VECTORS)} or a flag such as timeouts to names of columns")
    listed = {key: names if isinstance(names, list) else [names] for key, names in mapping.items()}
    groups = {key: [str(name) for name in names] for key, names in listed.items()}
    for key, names in groups.items():
        if not names:
            raise DataError(f"{beside}: {key}: names no column; write its columns or leave the line out")
        unknown = [name for name in names if name not in header]
        if unknown:
            has = ", ".join(header[:12])
            raise DataError(f"{beside}: {key}: {path.name} has no column '{unknown[0]}', it has {has}")
    return groups


def _check_complete(groups: dict[str, list[str]], header: list[str], name: str) -> None:
    present = named(groups)
    for key in REQUIRED:
        if key not in present:
            beside = f"{Path(name).stem}.columns.yaml"
            raise DataError(f"{missing_key(name, key, header)}; a file {beside} beside it can say which column it is")


def _numbers(file, delimiter: str, header: list[str], used: list[str], name: str) -> np.ndarray:
    """The used columns, (N, len(used)) float64."""
    indices = [header.index(column) for column in used]
    text: dict[str, Any] = dict(delimiter=delimiter, usecols=indices, ndmin=2, comments=None, encoding="utf-8")
    in_words: dict[str, Any] = {**text, "converters": _number}
    start = file.tell()
    try:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of a table without rows, which is refused later
                values = np.loadtxt(file, **text)
        except ValueError:  # flags in words; numpy reads plain numbers ten times as fast
            file.seek(start)
            values = np.loadtxt(file, **in_words)
    except ValueError as error:
        reason = str(error).split(";")[0]
        raise DataError(f"{name}: a value is not a number ({reason}); rows count from 0 below the header") from None
    return values


def _number(text: str) -> float:
    word = text.strip().strip('"').lower()
    return _TRUTH[word] if word in _TRUTH else float(word)
