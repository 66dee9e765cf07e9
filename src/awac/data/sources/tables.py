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

import contextlib
import csv
import itertools
import re
from pathlib import Path

import numpy as np

from awac.data.columns import VECTORS, named
from awac.data.ends import IDS, STEPS
from awac.data.precision import Losses
from awac.data.sources.registry import Columns, Recording, Request, source
from awac.data.sources.table_names import columns_of, listed
from awac.errors import EXTRAS, DataError, first_line

_BLANK = ("", "na", "nan", "null", "none")  # legal in the next observation of a last row, else refused later
_WORDS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0, **dict.fromkeys(_BLANK, np.nan)}
_BLOCK = 4096  # rows converted at once


@source(suffix=(".csv", ".tsv"))
def table(name: str, request: Request) -> Recording:
    """A table of text."""
    path = Path(name).expanduser()
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            first = next((line for line in iter(file.readline, "") if line.strip()), "")
            excel = re.fullmatch(r"sep=(.)\s*", first, re.IGNORECASE)  # a line that says which delimiter follows
            file.seek(0)
            delimiter = excel[1] if excel else max(",;\t", key=first.count)
            rows = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
            headers = (row for row in rows if any(map(str.strip, row)))  # without empty lines before it
            if excel:
                next(headers)
            header = [part.strip() for part in next(headers, [])]
            groups, warnings = columns_of(header, path)
            numbers, cells = _read(rows, header, groups, path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from None
    return _recording(path, groups, numbers, cells, warnings)


@source(suffix=(".parquet",))
def parquet(name: str, request: Request) -> Recording:
    """A Parquet table; a column may hold a list of numbers a row."""
    path = Path(name).expanduser()
    try:
        from pyarrow import ArrowException, types
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError(f"{path}: reading Parquet needs pyarrow: pip install {EXTRAS['parquet']}") from None
    try:
        with ParquetFile(path) as file:
            schema = file.schema_arrow
            groups, warnings = columns_of(schema.names, path)
            times = [key for key in STEPS if key in groups and types.is_temporal(schema.field(groups[key][0]).type)]
            groups = {key: members for key, members in groups.items() if key not in times}  # as a date in a text
            used, exact = _used(groups)
            read = file.read(columns=list(dict.fromkeys((*used, *exact))))
            numbers = {column: _numbers(read[column], f"{path}: column '{column}'") for column in used}
            cells = {column: _cells(read[column]) for column in exact}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except (OSError, ArrowException, ValueError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as a table of numbers ({first_line(error)})") from None
    return _recording(path, groups, numbers, cells, warnings)


def _cells(column) -> list:
    """The values of a column of Parquet; times of nanoseconds, which Python has none for, as whole numbers."""
    try:
        return column.to_pylist()
    except ValueError:
        return column.cast("int64").to_pylist()


def _numbers(column, where: str) -> np.ndarray:
    """(N,) or (N, …) float64 of a column of Parquet; a list that is missing is NaN in every place.

    Raises:
        DataError: it holds something else, or lists of several lengths.
    """
    try:
        cells = column.to_pylist()
        lists = [cell for cell in cells if isinstance(cell, list)]
        lengths = sorted({len(cell) for cell in lists})
        if len(lengths) > 1:
            raise DataError(
                f"{where} holds lists of {lengths[0]} to {lengths[-1]} values; all rows need the same number"
            )
        blank = np.full(np.shape(lists[0]), np.nan).tolist() if lists else None
        return np.array([blank if cell is None else cell for cell in cells], np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"{where} holds {column.type}, not numbers ({first_line(error)[:60]}); store numbers") from None


def _used(groups: dict[str, list[str]]) -> tuple[list[str], list[str]]:
    """The columns to read as numbers, and those of ids and steps: an id may be a text, or more than float64 holds."""
    exact = [column for key, members in groups.items() if key in (*IDS, *STEPS) for column in members]
    others = [column for key, members in groups.items() if key not in (*IDS, *STEPS) for column in members]
    return list(dict.fromkeys(others)), list(dict.fromkeys(exact))


def _read(rows, header: list[str], groups: dict[str, list[str]], path: Path) -> tuple[Columns, dict[str, list]]:
    """The rows below the header: (N,) float64 of each column that holds numbers, and the texts of ids and steps.

    Raises:
        DataError: a row has another number of fields than the header, or a value is not a number.
    """
    used, exact = _used(groups)
    indices = [header.index(column) for column in used]
    texts: dict[str, list[str]] = {column: [] for column in exact}
    blocks: dict[str, list[np.ndarray]] = {column: [np.empty(0)] for column in used}
    width, first = len(header), True
    while block := [(row, rows.line_num) for row in itertools.islice(rows, _BLOCK)]:
        for row, line in block:
            if row and len(row) != width:
                _check_width(row, header, f"{path}: line {line}", first)
            first = first and not row
        whole, lines = zip(*[pair for pair in block if pair[0]] or [((), 0)], strict=True)  # without empty lines
        if whole == ((),):
            continue
        for column, index in zip(used, indices, strict=True):
            blocks[column].append(_floats([row[index] for row in whole], lines, path, column))
        for column, cells in texts.items():
            index = header.index(column)
            cells.extend(row[index].strip() for row in whole)
    return {column: np.concatenate(parts) for column, parts in blocks.items()}, texts


def _check_width(row: list[str], header: list[str], where: str, first: bool) -> None:
    """Refuses a row whose fields may stand under another column's name; blanks beyond the header are none.

    Raises:
        DataError: it has more fields than the header, or fewer.
    """
    names = len(header) - next((i for i, name in enumerate(reversed(header)) if name), 0)
    numbered = first and row[0] == "1"  # a name of a row, as R writes them, and the last column may be blank
    beyond = row[len(header) :]
    if (not numbered and not any(map(str.strip, beyond))) if beyond else len(row) >= names:
        return
    hint = "; is the first one a row's name? Leave it out (row.names=FALSE in R)" if len(row) == len(header) + 1 else ""
    raise DataError(f"{where} has {len(row)} fields, the header has {len(header)} names; they must match{hint}")


def _floats(texts: list[str], lines: tuple[int, ...], path: Path, column: str) -> np.ndarray:
    """(n,) float64 of a column's cells: numbers, words for flags, or blanks."""
    if "_" not in "".join(texts):  # to Python 1_2 is 12
        with contextlib.suppress(ValueError):
            return np.array([*map(float, texts)])
    values = np.empty(len(texts))
    for i, (text, line) in enumerate(zip(texts, lines, strict=True)):
        word = text.strip().lower()
        try:
            values[i] = _WORDS[word] if word in _WORDS else float(word.replace("_", "?"))
        except ValueError:
            hint = "write it with a decimal point, without separators of thousands"
            raise DataError(f"{path}: line {line}, column '{column}': {text[:40]!r} is not a number; {hint}") from None
    return values


def _recording(
    path: Path, groups: dict[str, list[str]], numbers: Columns, cells: dict[str, list], warnings: list[str]
) -> Recording:
    if not len(next(iter(numbers.values()))):
        raise DataError(f"{path}: holds no rows; record it again")
    columns: Columns = {}
    lost = Losses()
    names: list[str] = []
    for key, members in groups.items():
        vector = key in VECTORS and key != "rewards"
        several = len(members) > 1 or numbers.get(members[0], np.zeros(1))[:1].size > 1
        if several and not vector:
            raise DataError(f"{path}: {key} has several columns ({listed(members)}); name one of them")
        if key in IDS:
            columns[key] = _codes(cells[members[0]], f"{path}: column '{members[0]}'")
        elif key in STEPS:
            with contextlib.suppress(ValueError, TypeError):  # a date, say; only the order of numbers is checked
                steps = np.array(cells[members[0]], np.float64)
                columns.update({key: steps} if steps.ndim == 1 and np.isfinite(steps).all() else {})
        elif vector:
            parts = [numbers[column].reshape(len(numbers[column]), -1) for column in members]
            values = np.concatenate(parts, axis=1)
            lost.look(next(name for name, aliases in VECTORS.items() if key in aliases), values)
            if key in VECTORS["observations"]:
                names = [
                    column if part.shape[1] == 1 else f"{column}_{i}"
                    for column, part in zip(members, parts, strict=True)
                    for i in range(part.shape[1])
                ]
            columns[key] = values.astype(np.float32)
        else:
            columns[key] = numbers[members[0]].reshape(-1)
            lost.look("rewards" if key in VECTORS["rewards"] else None, columns[key])
    keys = [key for key in ("observations", "next_observations", "actions") if key in named(groups)]
    taken = "; ".join(f"{key} from {listed(groups[named(groups)[key]])}" for key in keys)
    detail = f"table {path}: {taken}"
    warned = (*warnings, *lost.warnings)
    return Recording("table", path, detail, columns, warnings=warned, names=tuple(names), rounded=tuple(lost.rounded))


def _codes(ids: list, where: str) -> np.ndarray:
    """(N,) int64, one number for each id."""
    seen: dict[object, int] = {}
    if any(isinstance(cell, (list, dict)) for cell in ids):
        raise DataError(f"{where} holds lists, not ids; store one number or text a row")
    blank = [cell is None or cell != cell or str(cell).lower() in _BLANK for cell in ids]
    if any(blank):
        raise DataError(f"{where} names no episode in row {blank.index(True)}; fill it in")
    return np.array([seen.setdefault(cell, len(seen)) for cell in ids], np.int64)
