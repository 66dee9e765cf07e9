"""One way to draw a figure into an image file."""

from __future__ import annotations

import contextlib
import os

from awac.errors import ConfigError


@contextlib.contextmanager
def figure(path: str | os.PathLike):
    """Gives axes at README width and writes them to `path`; the suffix says the format.

    Raises:
        ConfigError: the image can't be written, or not in that format.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(figsize=(7.5, 4.2), dpi=150)
    try:
        yield axes
        drawn.tight_layout()
        try:
            drawn.savefig(path)
        except OSError as error:
            raise ConfigError(f"{path}: the figure can't be written ({error.strerror}); name a file that can") from None
        except ValueError:
            raise ConfigError(f"{path}: no image format has this suffix; name a .png, .svg or .pdf") from None
    finally:
        pyplot.close(drawn)
