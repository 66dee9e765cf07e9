"""Draws the CartPole experiment's figures from the episode lengths that `train.py --out` of this folder leaves.

python example/cartpole/figures.py      draws them again from lengths.npz beside this file
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from awac.report.figures import figure

LIMIT = 500
COLOURS = {"behaviour": "tab:gray", "offline": "tab:blue", "online": "tab:green", "cleared": "tab:olive",
           "cartpole": "tab:blue", "reference": "tab:orange"}  # fmt: skip
SMOOTHING = 20


def draw(lengths: dict[str, np.ndarray], folder: Path) -> None:
    """Writes all figures as PNG.

    Args:
        lengths: `recipe/key` → (seeds, episodes), with the keys of `experiment.run`.
        folder: where they go.
    """
    recipes = list(dict.fromkeys(key.split("/")[0] for key in lengths))
    first = {key.split("/")[1]: value for key, value in lengths.items() if key.startswith(f"{recipes[0]}/")}
    seeds = len(first["behaviour"])
    over = f"{seeds} seeds" if seeds > 1 else "one seed"
    with _axes(folder / "behaviour.png", f"The careless DQN: 40 % of its actions are random ({over})") as axes:
        _histograms(axes, first, ["behaviour"])
    with _axes(folder / "offline.png", f"After learning offline from it ({over})") as axes:
        _histograms(axes, first, ["behaviour", "offline"])
    with _axes(folder / "online.png", f"Each phase's mean length; a dot is a seed ({over})") as axes:
        _phases(axes, lengths, recipes)
    for memory in ("kept", "cleared"):
        with _axes(folder / f"switch_{memory}.png", f"From offline to online, memory {memory} ({over})") as axes:
            _switch(axes, lengths, recipes, memory)


@contextlib.contextmanager
def _axes(path: Path, title: str):
    with figure(path) as axes:
        axes.set_title(title)
        axes.grid(alpha=0.3)
        yield axes


def _histograms(axes, lengths, keys):
    longest = max(lengths[key].max() for key in keys)
    for key in keys:
        values = lengths[key].ravel()
        axes.hist(values, np.linspace(0, longest + 1, 41), weights=np.full(len(values), 100 / len(values)), alpha=0.6,
                  color=COLOURS[key], label=f"{key}, mean {values.mean():.0f}")  # fmt: skip
        axes.axvline(values.mean(), color=COLOURS[key], linestyle="--", linewidth=1.5)
    axes.set_xlabel("length of the episode, steps")
    axes.set_ylabel("share of the episodes, %")
    axes.legend(frameon=False)


def _phases(axes, lengths, recipes):
    keys = {"behaviour": "behaviour", "offline": "offline", "online": "final_kept", "cleared": "final_cleared"}
    labels = ("behaviour", "offline", "online", "online,\nmemory cleared")
    width = 0.8 / len(recipes)
    for i, recipe in enumerate(recipes):
        means = [lengths[f"{recipe}/{key}"].mean(1) for key in keys.values()]
        at = np.arange(len(keys)) + (i - (len(recipes) - 1) / 2) * width
        axes.bar(
            at, [x.mean() for x in means], 0.9 * width, color=COLOURS[recipe], alpha=0.5, label=f"recipe `{recipe}`"
        )
        for x, values in zip(at, means, strict=True):
            axes.plot(np.full(len(values), x), values, "o", color=COLOURS[recipe], markersize=4)
            mean = values.mean()
            axes.annotate(f"{mean:.0f}", (x, mean), (-4, 2), textcoords="offset points", ha="right", fontsize=8)
    axes.set_xticks(range(len(keys)), labels)
    axes.set_ylabel("length of the episode, steps")
    axes.set_ylim(0, 1.08 * LIMIT)
    axes.legend(frameon=False, loc="upper left")


def _switch(axes, lengths, recipes, memory):
    for recipe in recipes:
        offline, online = lengths[f"{recipe}/offline"], lengths[f"{recipe}/online_{memory}"]
        width = min(SMOOTHING, offline.shape[1])
        # Windows that never mix the phases: what follows the switch is shown as it is.
        parts = [np.stack([_smooth(x, width) for x in part]) for part in (offline, online)]
        smooth = np.concatenate(parts, 1)
        x = np.arange(smooth.shape[1]) - offline.shape[1]
        axes.plot(x, smooth.mean(0), color=COLOURS[recipe], label=f"recipe `{recipe}`, mean")
        axes.fill_between(x, smooth.min(0), smooth.max(0), color=COLOURS[recipe], alpha=0.2, linewidth=0,
                          label="lowest to highest seed")  # fmt: skip
    behaviour = lengths[f"{recipes[0]}/behaviour"].mean()
    axes.axhline(behaviour, color=COLOURS["behaviour"], linestyle="--", linewidth=1, label="careless DQN, mean")
    axes.axvline(0, color="black", linestyle=":", linewidth=1)
    axes.set_xlabel("episode; before 0: evaluation after the offline phase, after 0: learning online")
    axes.set_ylabel(f"length, running mean of {SMOOTHING}")
    axes.set_ylim(0, 1.05 * LIMIT)
    axes.legend(frameon=False, loc="center right")


def _smooth(values, width):
    """Mean of the `width` episodes up to each one; of those there are, at the start."""
    total = np.cumsum(np.concatenate([[0.0], values]))
    last = np.arange(1, len(values) + 1)
    start = np.maximum(last - width, 0)
    return (total[last] - total[start]) / (last - start)


if __name__ == "__main__":
    here = Path(__file__).parent
    with np.load(here / "lengths.npz", allow_pickle=False) as saved:
        draw(dict(saved), here / "figures")
