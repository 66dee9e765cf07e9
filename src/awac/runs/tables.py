"""The CSV files of a run, and their copies beside the training state."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from pathlib import Path

from awac.errors import LogError
from awac.runs import files
from awac.runs.folder import TABLE_COPIES, TABLES


class Table:
    """A CSV file with a fixed header; a resumed run first drops the rows that it will write again.

    Rows missing from the file (power cut, edited file) are taken from the checkpoint's copy. Columns that an older
    version did not write stay empty.

    Args:
        path: the file.
        columns: the header; the first column counts episodes.
        after: rows beyond this episode are dropped.

    Attributes:
        dropped: the last episode of those rows; `after` if there was none.
    """

    def __init__(self, path: Path, columns, after: int):
        self._path, self._columns = path, columns
        former: dict[int, list[str]] = {}
        for source in (path.parent / TABLE_COPIES / path.name, path) if after else ():
            former.update(self._rows(source))
        self.dropped = max([after, *former])
        rows = [former[episode] for episode in sorted(former) if episode <= after]
        self._episodes = {episode for episode in former if episode <= after}
        text = io.StringIO(newline="")
        csv.writer(text).writerows([columns, *rows])
        with _or_stop(path):
            files.write_text(path, text.getvalue())

    def add(self, values: dict) -> None:
        """Appends one row and syncs it, before a checkpoint refers to it."""
        with _or_stop(self._path), open(self._path, "a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([_text(values[name]) for name in self._columns])
            file.flush()
            os.fsync(file.fileno())

    def has(self, episode: int) -> bool:
        """Whether the table had a row of this episode when it was opened."""
        return episode in self._episodes

    def _rows(self, path: Path) -> dict[int, list[str]]:
        """Complete rows by episode: a line without line end may lack digits, and a lost page reads as zeros."""
        if not path.is_file():
            return {}
        lines = path.read_bytes().decode("utf-8", "replace").split("\n")[:-1]
        header, *rows = [line.rstrip("\r").split(",") for line in lines if "\0" not in line] or [[]]
        if header[:1] != [self._columns[0]]:
            header, rows = list(self._columns), [header, *rows]
        whole = [dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header) and _counts(row[0])]
        return {int(row[self._columns[0]]): [row.get(name, "") for name in self._columns] for row in whole}


def rows_by_episode(folder: Path, table: str) -> dict[int, dict[str, str]]:
    """The whole rows of one of a run's tables by episode, in order; empty if there is no table."""
    try:
        with open(folder / table, newline="", encoding="utf-8", errors="replace") as file:
            rows = [row for row in csv.DictReader(file) if _counts(row.get("episode") or "") and _whole(row)]
    except (OSError, csv.Error):
        return {}
    return {int(row["episode"]): row for row in sorted(rows, key=lambda row: int(row["episode"]))}


def inherited_steps(folder: Path, manifest: dict) -> int:
    """Gradient steps that a run's learner had at its start: not 0 after `--init_from`.

    Args:
        folder: the run's; its train.csv tells if it was made by a version that did not note them.
        manifest: of its newest checkpoint.
    """
    steps = manifest["config"]["train"]["n_steps_per_episode"]
    if "gradient_steps" in manifest:
        return manifest["gradient_steps"] - manifest["episode"] * steps
    try:
        with open(folder / "train.csv", newline="", encoding="utf-8") as file:
            row = next(csv.DictReader(file))
        return int(row["gradient_steps"]) - int(row["episode"]) * steps
    except (OSError, StopIteration, KeyError, ValueError, TypeError):
        return 0


def keep_copies(folder: Path) -> None:
    """Copies a run's tables.

    Raises:
        OSError: the disk is full or the folder not writable; earlier copies are untouched.
    """
    for path in (folder / name for name in TABLES):
        if path.is_file():
            content = path.read_bytes()
            files.write(folder / TABLE_COPIES / path.name, lambda temp, content=content: temp.write_bytes(content))


def last_row(folder: Path, table: str) -> tuple[int, dict[str, str]]:
    """The last whole row of one of a run's tables and its episode; (0, {}) if there is none."""
    return next(reversed(rows_by_episode(folder, table).items()), (0, {}))


def _whole(row: dict) -> bool:
    """Whether a row has all columns; a full disk or a power cut leaves a part of the last one."""
    return None not in row.values()


def _counts(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 12


@contextlib.contextmanager
def _or_stop(path: Path):
    try:
        yield
    except OSError as error:
        raise LogError(
            f"{path} can't be written ({error.strerror}); training stops, the last checkpoint is kept: free some "
            f"space and continue with --resume"
        ) from error


def _text(value):
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value
