"""Training in several processes that msrun has started: what differs from a single one.

Rank 0 writes the log and the folder and handles signals. The others train in a temporary copy of the folder, so that
they resume from the same checkpoint.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from awac.algorithm.ranks import Ranks, join
from awac.errors import AWACError, ConfigError
from awac.runs import folder as run_folder
from awac.training.interrupt import SIGNALS

_GRACE = 10.0
"""Seconds that another rank delays an error: rank 0 usually has the same one, and its line goes to the log."""


@contextlib.contextmanager
def own_folder(folder: Path, batch_size: int) -> Iterator[Path]:
    """Joins the other processes; gives the folder of this process's run.

    Args:
        folder: of the run.
        batch_size: rows of a batch, which the processes divide.

    Raises:
        ConfigError: they can't be divided.
    """
    join()
    ranks = Ranks()
    try:
        if batch_size % ranks.size:
            raise ConfigError(f"batch_size {batch_size} can't be divided among {ranks.size} workers")
        with contextlib.nullcontext(folder) if ranks.rank == 0 else _copy(folder) as own:
            ranks.wait()
            yield own
    except AWACError:
        if ranks.rank:
            time.sleep(_GRACE)
        raise


@contextlib.contextmanager
def _copy(folder: Path) -> Iterator[Path]:
    """A temporary copy of the run; signals are left to rank 0, after which msrun ends this process."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    with tempfile.TemporaryDirectory(prefix="awac-") as place:
        own = Path(place) / "run"
        if folder.is_dir():
            for path in run_folder.run_files(folder):
                target = own / path.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        yield own
