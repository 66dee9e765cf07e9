"""A progress bar on stderr for long waits. It shows only on a terminal, so logs never hold carriage returns."""

from __future__ import annotations

import sys
import time

_WIDTH = 30


class Progress:
    """`with Progress("collecting", total) as bar: bar.update(done)`.

    Args:
        label: what is going on.
        total: value of `done` at the end; 0 if it is not known.
        unit: behind the numbers.
        show: False keeps it silent even on a terminal.
    """

    def __init__(self, label: str, total: int, unit: str = "rows", show: bool = True):
        self.label, self.total, self.unit = label, total, unit
        self.show = show and sys.stderr.isatty()
        self.start = time.monotonic()
        self.drawn = 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_) -> None:
        if self.show and self.drawn:
            print(file=sys.stderr)

    def update(self, done: int) -> None:
        """Redraws, at most ten times a second."""
        now = time.monotonic()
        if not self.show or (now - self.drawn < 0.1 and done < self.total):
            return
        self.drawn = now
        share = min(done / self.total, 1.0) if self.total else 0.0
        bar = "#" * round(share * _WIDTH)
        left = (now - self.start) * (1 - share) / share if share else 0.0
        text = f"{self.label} [{bar:<{_WIDTH}}] {done}/{self.total or '?'} {self.unit}, {left:.0f} s left"
        print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)
