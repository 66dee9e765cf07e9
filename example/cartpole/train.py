"""The CartPole experiment over several seeds: results as CSV and Markdown, and the figures.

python example/cartpole/train.py --seeds 10     writes results.csv, results.md, lengths.npz, figures/ beside itself
python example/cartpole/train.py --fast         the same in miniature, under a minute, into ./cartpole_fast
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the networks are small: one core a seed is the fastest

import experiment
import figures
import mindspore as ms
import numpy as np

HERE = Path(__file__).parent
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
WINDOW = 50
COLUMNS = ("recipe", "seed", "behaviour", "offline", "ratio", "lowest_kept", "final_kept", "lowest_cleared",
           "final_cleared")  # fmt: skip


def one_seed(name: str, recipe: experiment.Recipe, seed: int) -> tuple[str, int, dict[str, np.ndarray], float]:
    """One run, in a process of its own."""
    began = time.perf_counter()
    ms.set_context(mode=ms.GRAPH_MODE)
    with tempfile.TemporaryDirectory() as folder:
        lengths = experiment.run(seed, recipe, folder)
    return name, seed, lengths, time.perf_counter() - began


def pin(cores) -> None:
    """Keeps a process on one core of its own: MindSpore's threads get in each other's way otherwise."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores.get()})


def run_all(recipes: dict[str, experiment.Recipe], seeds: int, jobs: int) -> dict[str, list[dict[str, np.ndarray]]]:
    """Every recipe with every seed; lengths by recipe and seed."""
    context = multiprocessing.get_context("spawn")
    cores = context.SimpleQueue()
    for _, core in zip(range(jobs), itertools.cycle(CORES), strict=False):
        cores.put(core)
    found: dict[str, list] = {name: [{}] * seeds for name in recipes}
    with ProcessPoolExecutor(jobs, context, initializer=pin, initargs=(cores,)) as pool:
        waiting = [pool.submit(one_seed, name, recipe, s) for name, recipe in recipes.items() for s in range(seeds)]
        for future in as_completed(waiting):
            name, seed, lengths, seconds = future.result()
            found[name][seed] = lengths
            means = {key: f"{value.mean():.0f}" for key, value in lengths.items() if "online" not in key}
            print(f"{name}, seed {seed}: {means}, {seconds:.0f} s", flush=True)
    return found


def summary(name: str, seed: int, lengths: dict[str, np.ndarray]) -> dict:
    """One row of the results: mean lengths, and the lowest mean of 50 episodes in a row after the switch."""
    window = min(WINDOW, len(lengths["online_kept"]))
    lowest = {m: np.convolve(lengths[f"online_{m}"], np.ones(window) / window, "valid").min()
              for m in experiment.MEMORIES}  # fmt: skip
    behaviour, offline = lengths["behaviour"].mean(), lengths["offline"].mean()
    values = (name, seed, behaviour, offline, offline / behaviour, lowest["kept"], lengths["final_kept"].mean(),
              lowest["cleared"], lengths["final_cleared"].mean())  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def markdown(rows: list[dict]) -> str:
    """The results as a table, a line for the means below each recipe's seeds."""
    heads = ("recipe", "seed", "behaviour", "offline", "ratio", "memory kept: lowest window", "final",
             "memory cleared: lowest window", "final")  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name in dict.fromkeys(row["recipe"] for row in rows):
        group = [row for row in rows if row["recipe"] == name]
        means = {key: np.mean([row[key] for row in group]) for key in COLUMNS[2:]}
        for row in [*group, {"recipe": name, "seed": "mean", **means}]:
            cells = [f"{row[key]:.2f}" if key == "ratio" else f"{row[key]:.0f}" for key in COLUMNS[2:]]
            lines.append("| " + " | ".join([name, str(row["seed"]), *cells]) + " |")
    return "\n".join(lines) + "\n"


def write(found: dict[str, list[dict[str, np.ndarray]]], out: Path) -> str:
    """Writes tables, raw lengths and figures; returns the table."""
    rows = [summary(name, seed, lengths) for name, runs in found.items() for seed, lengths in enumerate(runs)]
    (out / "figures").mkdir(parents=True, exist_ok=True)
    with open(out / "results.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({key: f"{x:.2f}" if isinstance(x, float) else x for key, x in row.items()} for row in rows)
    table = markdown(rows)
    (out / "results.md").write_text(table, encoding="utf-8")
    stacked = {f"{name}/{key}": np.stack([run[key] for run in runs]).astype(np.int16)
               for name, runs in found.items() for key in runs[0]}  # fmt: skip
    np.savez_compressed(out / "lengths.npz", **stacked)
    figures.draw(stacked, out / "figures")
    return table


def positive(text: str) -> int:
    value = int(text) if text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive whole number")
    return value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=positive, default=1, help="seeds 0 to N-1 (default: %(default)s)")
    parser.add_argument("--preset", choices=[*experiment.RECIPES, "both"], default="both", help="(default: both)")
    parser.add_argument("--jobs", type=positive, default=len(CORES), help="runs at a time (default: one a core)")
    parser.add_argument("--fast", action="store_true", help="a miniature that shows that everything works")
    parser.add_argument(
        "--out", type=Path, help="folder to write to (default: beside this file, ./cartpole_fast with --fast)"
    )
    args = parser.parse_args()
    names = experiment.RECIPES if args.preset == "both" else [args.preset]
    change = experiment.FAST if args.fast else {}
    recipes = {name: dataclasses.replace(experiment.RECIPES[name], **change) for name in names}
    out = args.out or (Path("cartpole_fast") if args.fast else HERE)
    began = time.perf_counter()
    found = run_all(recipes, args.seeds, args.jobs)
    print(write(found, out))
    print(f"{time.perf_counter() - began:.0f} s; tables and figures are in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
