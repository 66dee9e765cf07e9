"""The errors a user can cause. Each message is one line: what is wrong, where, and what to do about it.

The command line prints `awac: error: <message>` for these and exits with 1; anything else is a bug with a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like `name`, regardless of case."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    return by_lower[difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.0)[0]]


def did_you_mean(name, known: Iterable[str]) -> str:
    """`: did you mean 'x'?` if a known name is like `name`, else nothing."""
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f": did you mean {close[0]!r}?" if close else ""


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def one_line(error: BaseException) -> str:
    """An exception's type and message without line breaks."""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


NO_HOME = (
    "the home folder is not known (HOME is not set, and the user has no passwd entry); set HOME, or AWAC_CACHE_DIR for "
    "generated data and D4RL_DATASET_DIR for D4RL's files"
)


EXTRAS = {
    "completion": "'shtab>=1.7'",
    "minari": "'minari==0.5.3'",
    "onnx": "'onnx>=1.17,<2' 'onnxruntime>=1.20,<2'",
    "parquet": "'pyarrow<24'",
    "swanlab": "'swanlab>=0.10'",
    "sweep": "'ray>=2.40,<3' 'rliable>=1.2,<2' 'pandas<3' 'pyarrow<24'",
    "tensorboard": "'tensorboardX>=2.6'",
    "video": "'imageio-ffmpeg>=0.5' 'pygame>=2.1.3'",
    "wandb": "'wandb>=0.31'",
}
"""What pip installs for an extra of pyproject.toml: awac itself may run from its source, without being installed."""


class AWACError(Exception):
    """Any mistake that the user can fix."""


class DataError(AWACError):
    """A data set is missing, damaged, or does not fit the environment."""


class HomeError(AWACError, RuntimeError):
    """A folder in the user's home is needed, but the home folder is not known."""

    def __init__(self):
        super().__init__(NO_HOME)


class ConfigError(AWACError):
    """A config key or value is unknown or out of range."""


class TaskError(AWACError):
    """A task is unknown, or its spaces are of a kind that AWAC does not handle."""


class EnvironmentFault(AWACError):  # noqa: N818
    """An environment raised, or gave a value that cannot be used, in `reset` or `step`.

    The message names the environment, the step and the error. The training state from before it is valid.
    """


class CheckpointError(AWACError):
    """A checkpoint folder is missing, incomplete, in use, or made for other sizes."""


class NoCheckpointError(CheckpointError):
    """A run's folder holds no sound checkpoint."""


class ExportError(AWACError):
    """A policy can't be written in a format, or the written file does not act as its checkpoint does."""


class LogError(AWACError):
    """The run's own records can't be written."""


class DivergenceError(AWACError):
    """A loss or a weight became NaN or infinite."""


class Interrupted(Exception):  # noqa: N818
    """A signal stopped the run at a consistent state; the command line exits with 128 + its number.

    Attributes:
        number: of the signal.
        text: what was kept, once that is known.
    """

    def __init__(self, number: int, text: str = ""):
        super().__init__(text)
        self.number, self.text = number, text
