"""SwanLab. `SWANLAB_MODE=offline` keeps the run in the run's folder `swanlab/`, for `swanlab sync` later."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path

import swanlab
from swanlab.exceptions import AuthenticationError

from awac.algorithm.mindrl import Callback
from awac.errors import Interrupted, LogError, first_line
from awac.training.loggers import figures, owed, run_id


@contextlib.contextmanager
def _one_line():
    try:
        yield
    except (AuthenticationError, RuntimeError, OSError, ValueError) as error:
        reason = first_line(error).rstrip(".")
        raise LogError(f"logger swanlab: {reason}; SWANLAB_MODE=offline needs no account") from error


class Logger(Callback):
    """One run of SwanLab for a run of awac, also over `--resume` if it is online.

    Raises:
        LogError: there is no login, and the mode is online.
    """

    def __init__(self, folder: Path, config):
        super().__init__()
        self._folder, self._config = folder.resolve(), dataclasses.asdict(config)
        self._run: swanlab.Run | None = None
        with _one_line():
            if swanlab.Settings().mode == "online":
                swanlab.login()

    def begin(self, params):
        """Opens the run.

        Raises:
            LogError: SwanLab can't open it.
        """
        with _one_line():
            self._run = swanlab.init(
                project=os.environ.get("SWANLAB_PROJECT", "awac"),
                name=self._folder.name,
                log_dir=str(self._folder / "swanlab"),
                id=run_id(self._folder / "swanlab", new=not params.cur_episode),
                resume="allow",
                config=self._config,
                settings=swanlab.Settings(terminal={"proxy_type": "none"}),  # the log has what is printed
            )
        if owed(params):
            self.episode_end(params)

    def episode_end(self, params):
        """Writes the episode's metrics."""
        assert self._run is not None, "begin() opens it"
        self._run.log(figures(params), step=params.gradient_steps)

    def __exit__(self, kind, error, *trace):
        if self._run is None:
            return
        if kind is None:
            self._run.finish()
        elif issubclass(kind, (Interrupted, KeyboardInterrupt)):
            self._run.finish(state="aborted")
        else:
            self._run.finish(state="crashed", error=first_line(error))
