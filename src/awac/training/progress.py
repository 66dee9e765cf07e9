"""Progress bars of training and evaluation, on a terminal only; printed lines appear above them."""

from __future__ import annotations

import contextlib
import sys

from tqdm import tqdm

from awac.algorithm.mindrl import Callback


def bar(total: int | None, label: str, unit: str, initial: int = 0) -> tqdm:
    """A bar on stderr that is removed when it is done; nothing is shown if stderr is not a terminal."""
    return tqdm(
        total=total, initial=initial, desc=label, unit=f" {unit}", leave=False, dynamic_ncols=True, disable=None
    )


class Progress(Callback):
    """A bar over the training episodes of a run, with the phase and the last critic loss."""

    def __init__(self):
        super().__init__()
        self._stack = contextlib.ExitStack()
        self._bar: tqdm | None = None

    def begin(self, params):
        """Shows the bar; a resumed run's starts at the episodes done."""
        self._bar = bar(params.episodes_num, "training", "episodes", params.cur_episode)
        if not self._bar.disable:
            self._stack.enter_context(contextlib.redirect_stdout(_LinesAboveBars(sys.stdout)))

    def episode_end(self, params):
        """Advances it."""
        assert self._bar is not None, "begin() makes it"
        self._bar.set_postfix_str(f"{params.phase}, critic_loss {params.metrics['critic_loss']:.4g}", refresh=False)
        self._bar.update(params.cur_episode - self._bar.n)

    def __exit__(self, *error):
        if self._bar is not None:
            self._bar.close()
        self._stack.close()


class _LinesAboveBars:
    """Replaces stdout: each line is written above the bars."""

    def __init__(self, stream):
        self._stream, self._begun = stream, ""

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        lines, end, rest = (self._begun + text).rpartition("\n")
        self._begun = rest
        if end:
            with tqdm.external_write_mode(file=sys.stderr):
                self._stream.write(lines + end)
                self._stream.flush()
        return len(text)
