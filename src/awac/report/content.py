"""What a report says, in sections; `markdown` and `page` write it down."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from awac.config import KEYS, Config
from awac.errors import ConfigError, DataError
from awac.report import aggregates as rliable
from awac.report.curves import draw
from awac.report.measures import at_switch, best, best_offline, held, held_by_chance, is_normalised, last, scores
from awac.report.results import Results, Table, score_table
from awac.report.run import Run
from awac.runs.tables import rows_by_episode

_COLOURS = (*(f"C{i}" for i in range(10)), "black", "navy", "gold", "lime", "crimson", "teal", "orchid", "sienna")
_FEW = 10
"""Seeds below which a percentile bootstrap is too narrow: its 95 % are 50 % with 2, 75 % with 3, 91 % with 10."""
_FOLLOWED = {
    "ess": ("ESS/B", "effective share of a batch under the weights"),
    "q_mean": ("mean Q", "mean Q of the data's actions"),
}
"""Columns of train.csv that the report draws: the axis and the caption of each."""


@dataclass(frozen=True)
class Picture:
    """A figure: its file's stem, what it shows, and how it is drawn on matplotlib's axes."""

    name: str
    caption: str
    draw: Callable


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; a folded one is closed at first where that can be."""

    title: str
    text: str = ""
    blocks: Sequence[Table | Picture] = ()
    folded: bool = False


def score_sections(results: Results) -> Iterator[Section]:
    """The scores and their aggregates, which the terminal shows too."""
    yield from _scores(results)
    yield from _aggregates(results, _colours(results))


def other_sections(results: Results) -> Iterator[Section]:
    """Curves, training figures, settings and data."""
    colours = _colours(results)
    text = "Mean over the seeds and its 95 % interval by bootstrap. The dotted line is the switch to online training."
    seeds = max(map(len, results.runs.values()))
    if 1 < seeds < _FEW:
        text += f" With {seeds} seeds the interval is too narrow: with three it holds the mean in 75 of 100 cases."
    yield Section("Curves", text, curves(results))
    pictures = [
        picture for task in results.tasks for key in _FOLLOWED if (picture := _followed(results, task, key, colours))
    ]
    if pictures:
        text = "The effective share of a batch under the weights, and the critics' values."
        yield Section("Training", text, pictures)
    yield _settings(results)
    yield _data(results)


def curves(results: Results) -> list[Picture]:
    """A figure a task: its evaluations over training, the data's mean and the clones' level."""
    colours = _colours(results)
    return [_curves(results, task, colours) for task in results.tasks]


def _colours(results: Results) -> dict[str, str]:
    return {preset: _COLOURS[i % len(_COLOURS)] for i, preset in enumerate(results.presets)}


def _scores(results: Results) -> Iterator[Section]:
    pairs = [(task, preset) for task in results.tasks for preset in results.presets]
    seeds = sorted({len(results.runs.get(pair, [])) for pair in pairs})
    counts = (count(len(results.tasks), "task"), count(len(results.presets), "preset"))
    text = f"{count(len(_runs(results)), 'run')}: {', '.join(counts)}, {' or '.join(map(str, seeds))} of each."
    if results.missing:
        text += f" Without an evaluation or a sound checkpoint: {_some(results.missing)}."
    if results.unfinished:
        text += f" Not at their last evaluation, so left out of it: {_some(results.unfinished)}."
    text += "".join(f" {line}." for line in results.mixed())
    ends = {preset: sorted({int(run.episodes[-1]) for run in _finished(results, preset)}) for preset in results.presets}
    if len(set(map(tuple, ends.values()))) > 1:
        lengths = (f"{preset} {' or '.join(map(str, episodes))}" for preset, episodes in ends.items() if episodes)
        text += f" Training episodes: {', '.join(lengths)}."
    unit = "normalised score" if any(map(is_normalised, _runs(results))) else "return"
    yield Section(
        "Last evaluation",
        f"{text} Mean {unit} ± standard deviation over the seeds. This evaluation is the one that counts.",
        [score_table(results, last)],
    )
    if any(at_switch(run) is not None for run in _runs(results)):
        text = "The last evaluation of the offline phase; the second table has the best one of that phase."
        tables = [score_table(results, at_switch), score_table(results, best_offline)]
        yield Section("At the switch", text, tables)
    if any(held(run) is not None for run in _runs(results)):
        text = "Lowest return of the first ten evaluations after the switch ÷ return at the switch."
        tables = [score_table(results, held, digits=2, mean=False)]
        if any(held_by_chance(run) is not None for run in _runs(results)):
            text += " The second table gives its median by chance alone: for ten more evaluations of the policy at the"
            text += " switch, from other start states, by the spread of that evaluation's returns."
            tables.append(score_table(results, held_by_chance, digits=2, mean=False))
        yield Section("After the switch", text, tables)
    yield Section(
        "Best evaluation", "Selected afterwards, so it does not replace the last one.", [score_table(results, best)]
    )


def _aggregates(results: Results, colours: dict[str, str]) -> Iterator[Section]:
    try:
        found = rliable.aggregate(results)
    except (ConfigError, DataError) as error:
        yield Section("Aggregates", f"Left out: {error}.")
        return
    if found is None:
        return
    text = (
        f"Interquartile mean over {count(len(found.tasks), 'task')} and {count(found.seeds, 'seed')}, with its 95 % "
        "interval by stratified bootstrap (rliable)."
    )
    if found.seeds == 1:
        text += " One seed has no spread: the intervals say nothing."
    yield Section(
        "Aggregates",
        text,
        [
            rliable.iqm_table(found),
            Picture("iqm", "Interquartile mean", lambda axes: rliable.draw_iqm(axes, found, colours)),
            Picture(
                "profile",
                "Performance profile of the last scores",
                lambda axes: rliable.draw_profile(axes, found, colours),
            ),
        ],
    )


def _curves(results: Results, task: str, colours: dict[str, str]) -> Picture:
    runs = [
        run
        for preset in results.presets
        for run in _finished(results, preset, task) or results.runs.get((task, preset), [])
    ]
    cloned = [run for run in runs if run.manifest["config"]["algo"]["weighting"] == "uniform"]
    levels = {}
    if len(cloned) < len(runs):  # else the clones are what there is to see
        for name in dict.fromkeys(run.name for run in cloned):
            values = [value for run in cloned if run.name == name and (value := at_switch(run)) is not None]
            if values:
                levels[name] = float(np.mean(values))
                runs = [run for run in runs if run.name != name]
    drawn = [dataclasses.replace(run, returns=scores(run)) for run in runs]
    unit = "normalised score" if is_normalised(runs[0]) else "mean return"
    draw_it = functools.partial(
        _draw, runs=drawn, reference=results.data_score(task), levels=levels, unit=unit, colours=colours, title=task
    )
    return Picture(f"curves_{_stem(task)}", f"{task}: evaluations", draw_it)


def _followed(results: Results, task: str, key: str, colours: dict[str, str]) -> Picture | None:
    runs = [run for run in (_column(run, key) for run in results.of_task(task)) if run is not None]
    if not runs:
        return None
    unit, caption = _FOLLOWED[key]
    draw_it = functools.partial(_draw, runs=runs, unit=unit, colours=colours, title=task)
    return Picture(f"{key}_{_stem(task)}", f"{task}: {caption}", draw_it)


def _draw(axes, runs: list[Run], reference=None, *, title: str, **options) -> None:
    try:
        draw(axes, runs, reference, title, **options)
    except DataError as error:  # no episode in common
        axes.set_title(title)
        axes.text(0.5, 0.5, str(error), ha="center", va="center", wrap=True, transform=axes.transAxes)


def _column(run: Run, key: str) -> Run | None:
    """A run with a column of its train.csv in the place of the returns."""
    try:
        table = rows_by_episode(run.folder, "train.csv")
        rows = [(episode, float(row[key])) for episode, row in table.items()]
    except (KeyError, ValueError):
        return None
    if not rows:
        return None
    episodes, values = zip(*rows, strict=True)
    return dataclasses.replace(run, episodes=np.array(episodes), returns=np.array(values))


def _settings(results: Results) -> Section:
    """Keys that differ from the defaults or between presets, then all keys."""
    columns = {preset: _values(results, preset) for preset in results.presets}
    rows = {
        name: [columns[preset][name] for preset in results.presets] for name in KEYS if name not in ("task", "seed")
    }
    changed = {name: row for name, row in rows.items() if {*row} != {_text(KEYS[name].default)}}
    header = ["key", "default", *results.presets]

    def table(chosen: dict[str, list[str]]) -> Table:
        return Table(header, [[name, _text(KEYS[name].default), *row] for name, row in chosen.items()])

    text = f"The {len(changed)} keys that differ from the defaults; the other {len(rows) - len(changed)} are at them."
    versions = dict.fromkeys(_versions(run) for run in _runs(results))
    return Section("Settings", f"{text} Versions: {'; '.join(versions)}.", [table(changed)], folded=True)


def _values(results: Results, preset: str) -> dict[str, str]:
    """A preset's settings as text; `differs` where they are not the same for all its runs."""
    runs = [run for (_, name), runs in results.runs.items() if name == preset for run in runs]
    configs = [dataclasses.asdict(Config.from_dict(run.manifest["config"])) for run in runs]  # what older ones lack too
    flat = [{key: value for part in config.values() for key, value in part.items()} for config in configs]
    same = {key: {_text(config[key]) for config in flat} for key in flat[0]}
    return {key: next(iter(values)) if len(values) == 1 else "differs" for key, values in same.items()}


def _data(results: Results) -> Section:
    rows = {}
    for task in results.tasks:
        for run in results.of_task(task):
            data = run.manifest.get("data", {})
            mean = data.get("mean_return")
            rows[task, data.get("sha256")] = [
                task,
                str(data.get("dataset", "–")),
                str(data.get("kind", "–")),
                f"{data['rows']:,}" if "rows" in data else "–",
                "–" if mean is None else f"{mean:.1f}",
                str(data.get("sha256", "–"))[:16],
            ]
    header = ["task", "data set", "kind", "rows", "mean return", "SHA-256 of the rows"]
    text = "Data of the kind `generated` are not D4RL's: scores on them compare with others on the same rows only."
    if not any(row[2] == "generated" for row in rows.values()):
        text = ""
    return Section("Data", text, [Table(header, list(rows.values()))])


def _versions(run: Run) -> str:
    return ", ".join(f"{name} {version}" for name, version in run.manifest.get("versions", {}).items()) or "unknown"


def _finished(results: Results, preset: str, task: str | None = None) -> list[Run]:
    pairs = [(task, preset)] if task else [pair for pair in results.runs if pair[1] == preset]
    return [run for pair in pairs for run in results.runs.get(pair, []) if run.finished]


def _runs(results: Results) -> list[Run]:
    return [run for runs in results.runs.values() for run in runs]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _text(value) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def count(number: int, word: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def _stem(task: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in task)
