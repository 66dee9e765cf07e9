"""How far a sweep is: a table of tasks and presets, redrawn in place on a terminal."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from awac.runs.tables import last_row
from awac.sweep.plan import Trial


class Progress:
    """Follows the trials of a sweep by their states and their train.csv.

    Args:
        trials: all of them.
        folder: the results folder.
        every: seconds between tables.

    Attributes:
        states: "waiting", "done", "failed" or "stopped" by trial name.
    """

    def __init__(self, trials: list[Trial], folder: Path, every: float):
        self._trials, self._folder, self._every = trials, folder, every
        self.states = {trial.name: "waiting" for trial in trials}
        self._start = self._shown = time.monotonic()
        self._drawn = 0  # lines of the table on the terminal
        self._first: int | None = None  # episodes done before the sweep began

    def table(self) -> str:
        """The summary line, and one row per task: trials done, episodes done in percent, trials failed."""
        episodes = {trial.name: self._episodes(trial) for trial in self._trials}
        lines = [self._summary(sum(episodes.values()))]
        presets = list(dict.fromkeys(trial.preset for trial in self._trials))
        rows = [["task", *presets]]
        for task in dict.fromkeys(trial.task for trial in self._trials):
            cells = [[t for t in self._trials if (t.task, t.preset) == (task, preset)] for preset in presets]
            rows.append([task, *(self._cell(cell, episodes) for cell in cells)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines += ["  ".join(text.ljust(n) for text, n in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(lines)

    def show(self, now: bool = False) -> None:
        """Prints the table if it is time; on a terminal it replaces the last one."""
        if not now and time.monotonic() - self._shown < self._every:
            return
        self._shown = time.monotonic()
        text, terminal = self.table(), sys.stdout.isatty()
        if terminal:  # a line that wraps would be two to go back over
            text = "\n".join(line[: shutil.get_terminal_size().columns] for line in text.splitlines())
        self._clear()
        print(text, flush=True)
        if terminal:
            self._drawn = text.count("\n") + 1

    def line(self, text: str) -> None:
        """Prints a line above the table."""
        self._clear()
        print(text, flush=True)

    def ended(self, trial: Trial, state: str, reason: str) -> None:
        """Records and prints how a trial ended."""
        self.states[trial.name] = state
        if state == "done":
            _, row = last_row(self._folder / trial.name, "eval.csv")
            score = f", normalised {float(row['normalized_score']):.1f}" if row.get("normalized_score") else ""
            reason = f"last return {float(row['mean_return']):.1f}{score}" if row else ""
        if state != "stopped" or reason:  # not for those that had not begun
            self.line(f"{state}: {trial.name}" + (f": {reason}" if reason else ""))

    def restarted(self, trial: Trial, times: str) -> None:
        """Records and prints that a trial runs again."""
        self.states[trial.name] = "waiting"
        self.line(f"restarted: {trial.name} ({times})")

    def _clear(self) -> None:
        if self._drawn:
            print(f"\x1b[{self._drawn}A\x1b[J", end="")
            self._drawn = 0

    def _episodes(self, trial: Trial) -> int:
        if self.states[trial.name] == "done":
            return trial.episodes
        return min(last_row(self._folder / trial.name, "train.csv")[0], trial.episodes)

    def _summary(self, done: int) -> str:
        counts = {state: list(self.states.values()).count(state) for state in ("done", "failed", "stopped")}
        words = [f"{counts['done']} of {len(self._trials)} trials done"]
        words += [f"{n} {state}" for state, n in counts.items() if n and state != "done"]
        spent = time.monotonic() - self._start
        if self._first is None:
            self._first = done
        total = sum(trial.episodes for trial in self._trials if self.states[trial.name] == "waiting")
        have = sum(self._episodes(trial) for trial in self._trials if self.states[trial.name] == "waiting")
        left = f", about {_clock((total - have) * spent / (done - self._first))} left" if done > self._first else ""
        return f"{', '.join(words)}; {_clock(spent)} so far{left}"

    def _cell(self, trials: list[Trial], episodes: dict[str, int]) -> str:
        states = [self.states[trial.name] for trial in trials]
        share = sum(episodes[trial.name] for trial in trials) / sum(trial.episodes for trial in trials)
        failed = f" {states.count('failed')} failed" if "failed" in states else ""
        return f"{states.count('done')}/{len(trials)} {share:.0%}{failed}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
