"""The online rows on disk, in append-only pieces, so that a checkpoint writes only what is new."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from awac.errors import CheckpointError, first_line
from awac.runs import files
from awac.runs.folder import PIECE


class ReplayLog:
    """Pieces `replay/rows_FIRST_END.npy`, numbered by insertion count.

    Attributes:
        fingerprints: size and checksum by file name of the pieces written or read.
    """

    def __init__(self, folder: Path):
        self.folder = folder / "replay"
        self.fingerprints: dict[str, dict] = {}

    def append(self, replay, saved: int, until: int | None = None) -> None:
        """Writes the rows added since insertion `saved`, up to insertion `until` (None: all).

        Raises:
            CheckpointError: the disk is full or the folder not writable.
        """
        until = replay.inserted if until is None else until
        if until > saved:
            rows = replay.rows_since(saved)
            first = replay.inserted - len(rows)
            rows = rows[: until - first]
            name = f"rows_{first}_{until}.npy"
            try:
                self.fingerprints[name] = files.write(self.folder / name, lambda temp: np.save(temp, rows))
            except OSError as error:
                reason = first_line(error)
                raise CheckpointError(f"online rows could not be written to {self.folder} ({reason})") from error

    def forget(self, insertion: int) -> None:
        """Deletes the pieces up to `insertion`, which no checkpoint needs any more."""
        for _, end, path in self._pieces():
            if end <= insertion:
                path.unlink()
                self.fingerprints.pop(path.name, None)

    def needed(self, inserted: int, rows: int) -> dict[str, dict]:
        """Fingerprints of the pieces that hold the last `rows` rows up to insertion `inserted`."""
        pieces = {}
        for name, entry in self.fingerprints.items():
            first, end = _span(name)
            if first < inserted and end > inserted - rows:
                pieces[name] = entry
        return pieces

    def load(self, inserted: int, rows: int, width: int) -> np.ndarray:
        """The last `rows` rows up to insertion `inserted`, oldest first.

        Raises:
            CheckpointError: a piece is missing or damaged.
        """
        start = filled = inserted - rows
        pieces = [piece for piece in self._pieces() if filled < piece[1] and piece[0] < inserted]
        table = np.empty((min(rows, sum(end - first for first, end, _ in pieces)), width), np.float32)
        for first, end, path in pieces:
            if end <= filled:
                continue
            try:
                # Memory-mapped: a declared shape larger than the file is an error before memory is allocated.
                piece = np.load(path, mmap_mode="r", allow_pickle=False)
            except files.READ_ERRORS as error:
                raise CheckpointError(f"{path}: damaged replay file ({first_line(error)})") from error
            if first > filled or piece.shape != (end - first, width):
                break
            self.fingerprints[path.name] = files.fingerprint(path)
            end = min(end, inserted)
            table[filled - start : end - start] = piece[filled - first : end - first]
            filled = end
        if filled != inserted:
            raise CheckpointError(
                f"{self.folder}: online rows {filled} to {inserted} are missing; cannot resume from here"
            )
        for first, _, path in self._pieces():
            if first >= inserted:
                path.unlink()  # written after the checkpoint that is being resumed
        return table

    def _pieces(self) -> list[tuple[int, int, Path]]:
        names = [path for path in self.folder.glob("rows_*_*.npy") if PIECE.fullmatch(path.name)]
        return sorted((*_span(path.name), path) for path in names)


def fault(folder: Path, pieces: dict) -> str | None:
    """What is wrong with the pieces that a manifest lists, or None.

    Raises:
        OSError: one is missing.
        TypeError, KeyError: the list is damaged.
    """
    for name, expected in pieces.items():
        if not PIECE.fullmatch(name):
            return "its manifest names an unexpected file"
        if not files.matches(folder / "replay" / name, expected):
            return f"replay/{name} is damaged"
    return None


def _span(name: str) -> tuple[int, int]:
    match = PIECE.fullmatch(name)
    assert match is not None
    return int(match[1]), int(match[2])
