"""Weights & Biases. `WANDB_MODE=offline` keeps the run in the run's folder `wandb/`, for `wandb sync` later."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path

import wandb

from awac.algorithm.mindrl import Callback
from awac.errors import LogError, first_line
from awac.training.loggers import figures, owed, run_id

STEP = "gradient_steps"


@contextlib.contextmanager
def _one_line():
    try:
        yield
    except wandb.Error as error:
        reason = first_line(error).rstrip(".")
        raise LogError(f"logger wandb: {reason}; WANDB_MODE=offline needs no account") from error


class Logger(Callback):
    """One run of W&B for a run of awac, also over `--resume`. W&B's own variables (WANDB_PROJECT, …) count.

    Raises:
        LogError: there is no login, and the mode is online.
    """

    def __init__(self, folder: Path, config):
        super().__init__()
        self._folder, self._config = folder.resolve(), dataclasses.asdict(config)
        self._run: wandb.Run | None = None
        with _one_line():
            wandb.login()

    def begin(self, params):
        """Opens the run.

        Raises:
            LogError: W&B can't open it.
        """
        with _one_line():
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "awac"),
                name=os.environ.get("WANDB_NAME", self._folder.name),
                dir=str(self._folder),
                id=run_id(self._folder / "wandb", new=not params.cur_episode),
                resume="allow",
                config=self._config,
                settings=wandb.Settings(console="off"),  # the log has what is printed
            )
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)
        if owed(params):
            self.episode_end(params)

    def episode_end(self, params):
        """Writes the episode's metrics."""
        assert self._run is not None, "begin() opens it"
        self._run.log({STEP: params.gradient_steps, **figures(params)})

    def __exit__(self, kind, *error):
        if self._run is not None:
            self._run.finish(exit_code=0 if kind is None else 1)
