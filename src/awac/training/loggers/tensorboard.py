"""TensorBoard files in the run's folder `tensorboard/`, written by tensorboardX."""

from __future__ import annotations

from pathlib import Path

from tensorboardX import SummaryWriter

from awac.algorithm.mindrl import Callback


class Logger(Callback):
    """Writes every episode's metrics and every evaluation, by gradient step."""

    def __init__(self, folder: Path):
        super().__init__()
        self._folder = folder / "tensorboard"
        self._writer: SummaryWriter | None = None

    def begin(self, params):
        """Opens a file beside those of earlier parts of the run."""
        self._writer = SummaryWriter(str(self._folder))

    def episode_end(self, params):
        """Writes the episode's figures."""
        assert self._writer is not None, "begin() opens it"
        figures = {f"train/{name}": value for name, value in params.metrics.items()}
        if params.train_return is not None:
            figures["train/return"] = params.train_return
        if params.evaluation is not None:
            figures["eval/return"] = params.evaluation.mean
            figures["eval/terminated_early"] = params.evaluation.falls
        for name, value in {**figures, "env_steps": params.env_steps}.items():
            self._writer.add_scalar(name, value, params.gradient_steps)
        self._writer.flush()

    def end(self, params):
        """Closes the file."""
        assert self._writer is not None, "begin() opens it"
        self._writer.close()
