"""The register of data sources. A source is one module in this folder with a function under `@source`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Request:
    """The options of a request to a source.

    Attributes:
        download: fetch the file if it is not on the machine.
        rows: rows to generate; None for the source's default.
        seed: of a generation.
        progress: show bars on stderr if that is a terminal.
        extra: further columns to read if the file has them, such as `infos/qpos`.
    """

    download: bool = False
    rows: int | None = None
    seed: int = 0
    progress: bool = True
    extra: tuple[str, ...] = ()


@dataclass
class Recording:
    """What a source returns.

    Attributes:
        kind: of the source, for `Origin`: "file", "d4rl", "generated", "minari", …
        path: the file that was read.
        detail: for the log, such as `D4RL's recording, /path`.
        columns: new arrays of N rows under any of the names that `awac.data.columns` knows; training frees their
            memory, so a source that keeps them for later returns copies.
        action_unit: `env` or `scaled` if the source knows it.
        warnings: what may have been read wrongly; one line each.
        types: of the columns in the file, as far as they are known; in `columns` floats may be float32.
        names: (O,) of a table's columns that make up an observation; empty for other sources.
        notes: how it was read; one line each.
        rounded: D4RL's names of the columns that had more digits in the file than float32 holds.
    """

    kind: str
    path: Path
    detail: str
    columns: Columns
    action_unit: str | None = None
    warnings: tuple[str, ...] = ()
    types: dict[str, np.dtype] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rounded: tuple[str, ...] = ()


Find = Callable[[str, Request], Recording]


@dataclass(frozen=True)
class Source:
    """A registered source: `claims` says whether a data set's name belongs to it."""

    claims: Callable[[str], bool]
    find: Find
    ids: tuple[str, ...] = ()


SOURCES: list[Source] = []
Layout = Callable[[h5py.File, str], "tuple[Columns, str | None] | None"]
LAYOUTS: list[Layout] = []


def source(
    *, prefix: str | None = None, suffix: tuple[str, ...] = (), ids: tuple[str, ...] = ()
) -> Callable[[Find], Find]:
    """Registers a source by what its data sets' names start with, end with, or are.

    The function gets the full name, prefix included, and the request; it returns a `Recording` or raises a DataError.
    Exact ids come before prefixes and suffixes; of these, the last registered wins.
    """

    def claims(name: str) -> bool:
        return name in ids or bool(prefix and name.startswith(prefix)) or name.lower().endswith(suffix or ("\0",))

    def register(find: Find) -> Find:
        SOURCES.append(Source(claims, find, ids))
        return find

    return register


def hdf5_layout(read: Layout) -> Layout:
    """Registers a reader for HDF5 files of another layout than D4RL's.

    It gets the open file and the name for messages. It returns columns and the unit of the actions (`env`, `scaled`, or
    None where it isn't known); or None if the file is not of its layout.
    """
    LAYOUTS.append(read)
    return read


def claimed(name: str) -> Source | None:
    """The source that `name` belongs to; None for a file."""
    exact = [entry for entry in SOURCES if name in entry.ids]
    return next(iter(exact or [entry for entry in reversed(SOURCES) if entry.claims(name)]), None)


def known_ids() -> list[str]:
    """Every exact id that a source has registered."""
    return [name for entry in SOURCES for name in entry.ids]
