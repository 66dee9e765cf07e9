"""Writes the training state as checkpoints, and reads it back.

Between training episodes the state consists of networks, targets, optimiser moments, generators, counters and online
rows. `TrainingState` gives it as arrays; the online rows are written in pieces beside them.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from awac.errors import CheckpointError, first_line
from awac.runs import checkpoint, tables
from awac.runs.replay_log import ReplayLog


class Snapshot(NamedTuple):
    """A copy of the training state at the end of an episode.

    Attributes:
        episode: training episodes done.
        gradient_steps: taken so far.
        inserted: online rows ever added.
        networks: arrays by name for each key of `folder.NETWORKS`.
        arrays: everything that `TrainingState.load_state_dict` needs.
    """

    episode: int
    gradient_steps: int
    inserted: int
    networks: dict[str, dict[str, np.ndarray]]
    arrays: dict[str, np.ndarray]


class CheckpointStore:
    """Writes snapshots of one run into its folder and reads them back.

    Args:
        folder: the run's folder.
        replay: the memory whose online rows are written beside the state.
        about: JSON-able facts of the run for the manifest (config, spaces, data, versions).
        keep: checkpoints kept; the oldest go first.
    """

    def __init__(self, folder: Path, replay, about: dict, keep: int):
        self._folder, self._replay, self._about, self._keep = folder, replay, about, keep
        self._log = ReplayLog(folder)
        self._saved: int | None = None
        self._rows_saved = 0

    def write(self, snapshot: Snapshot) -> None:
        """Writes a checkpoint.

        Raises:
            CheckpointError: the disk is full or the folder not writable; earlier checkpoints are untouched.
        """
        replay, inserted = self._replay, snapshot.inserted
        self._log.append(replay, self._rows_saved, inserted)
        try:
            tables.keep_copies(self._folder)
        except OSError as error:
            reason = first_line(error)
            raise CheckpointError(f"the tables could not be copied to {self._folder} ({reason})") from error
        rows = {"inserted": inserted, "replay": self._log.needed(inserted, min(inserted, replay.online_capacity))}
        about = {**self._about, "gradient_steps": snapshot.gradient_steps, **rows}
        checkpoint.save(self._folder, snapshot.episode, snapshot.networks, snapshot.arrays, about, self._keep)
        self._saved, self._rows_saved = snapshot.episode, inserted
        self._log.forget(checkpoint.oldest_insertion(self._folder) - replay.online_capacity)

    def keep(self, boundary: Snapshot, gradient_steps: int) -> str:
        """Writes the state of the last whole episode after training was interrupted.

        Args:
            boundary: that state.
            gradient_steps: how many had been taken by then.

        Returns:
            What is kept, for the last line of the log.
        """
        lost = gradient_steps - boundary.gradient_steps
        again = "--resume continues from it" + (f" and takes the {lost} steps since again" if lost else "")
        if self._saved == boundary.episode:
            return f"checkpoint {boundary.episode} is kept; {again}"
        if boundary.episode == 0:
            return "no training episode was complete, so nothing is kept; --resume starts from the beginning"
        if self._replay.inserted - self._rows_saved > self._replay.online_capacity:
            return "the last checkpoint is kept (online rows since then are overwritten); --resume continues from it"
        try:
            self.write(boundary)
        except CheckpointError as error:
            return f"{error}; the last checkpoint is kept, --resume continues from it"
        return f"checkpoint {boundary.episode} saved, the end of the last whole training episode; {again}"

    def restore(self, episode: int, inserted: int) -> None:
        """Puts the online rows of checkpoint `episode` back into the memory.

        Raises:
            CheckpointError: online rows are missing or damaged.
        """
        replay = self._replay
        replay.restore(self._log.load(inserted, min(inserted, replay.online_capacity), replay.width), inserted)
        self._rows_saved, self._saved = inserted, episode
