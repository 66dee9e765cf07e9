"""TensorBoard files in a folder for each run in the run's folder `tensorboard/`, written by tensorboardX."""

from __future__ import annotations

from pathlib import Path

from tensorboardX import SummaryWriter

from awac.algorithm.mindrl import Callback
from awac.training.loggers import figures, owed, run_id


class Logger(Callback):
    """Writes every episode's metrics and every evaluation, by gradient step."""

    def __init__(self, folder: Path, config):
        super().__init__()
        self._folder = folder / "tensorboard"
        self._writer: SummaryWriter | None = None

    def begin(self, params):
        """Opens a file beside those of earlier parts of the run; steps that come again replace theirs."""
        own = self._folder
        if not params.cur_episode or not any(own.glob("events*")):  # else a run of version 0.1, which goes on there
            own = own / run_id(own, new=not params.cur_episode)
        part = f".{params.gradient_steps}"  # else a part begun in the same second would have the same name
        self._writer = SummaryWriter(str(own), purge_step=params.gradient_steps + 1, filename_suffix=part)
        if owed(params):
            self.episode_end(params)

    def episode_end(self, params):
        """Writes the episode's metrics."""
        assert self._writer is not None, "begin() opens it"
        for name, value in figures(params).items():
            self._writer.add_scalar(name, value, params.gradient_steps)
        self._writer.flush()

    def __exit__(self, *error):
        if self._writer is not None:
            self._writer.close()
