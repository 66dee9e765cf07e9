"""The CartPole experiment over several seeds: results as CSV and Markdown, and the figures.

python example/cartpole/train.py --seeds 10     into ./cartpole_results: results.csv, results.md, lengths.npz, figures/
python example/cartpole/train.py --fast         the same in miniature, under a minute, into ./cartpole_fast

Each run is kept in runs/ there as it ends; the same command, after a stop, does the others.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import hashlib
import itertools
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the networks are small: one core a seed is the fastest

import experiment
import figures
import mindspore as ms
import numpy as np

from awac.cli.options import path, positive
from awac.errors import AWACError, CheckpointError, first_line
from awac.runs import files
from awac.training.resume import versions

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
WINDOW = 50
COLUMNS = ("recipe", "seed", "behaviour", "offline", "ratio", "lowest_kept", "final_kept", "lowest_cleared",
           "final_cleared")  # fmt: skip


def one_seed(recipe: experiment.Recipe, seed: int, folder: str) -> tuple[dict[str, np.ndarray], float]:
    """One run, in a process of its own: its lengths and the seconds it took."""
    began = time.perf_counter()
    ms.set_context(mode=ms.GRAPH_MODE)
    lengths = experiment.run(seed, recipe, folder)
    return lengths, time.perf_counter() - began


def pin(cores) -> None:
    """Keeps a process on one core of its own: MindSpore's threads get in each other's way otherwise."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores.get()})


def run_all(recipes: dict[str, experiment.Recipe], seeds: int, jobs: int, out: Path) -> dict[str, list] | None:
    """Every recipe with every seed, each run kept in `out`/runs as it ends; those that are there are not run again.

    Returns:
        The lengths by recipe and seed, or None if a run failed.

    Raises:
        CheckpointError: a file there has other settings, or is damaged.
    """
    places = {(name, seed): out / "runs" / f"{name}_{seed}.npz" for name in recipes for seed in range(seeds)}
    found = {run: kept(place, recipes[run[0]]) for run, place in places.items() if place.is_file()}
    for run in found:
        print(f"{run[0]}, seed {run[1]}: is in {places[run]}", flush=True)
    context = multiprocessing.get_context("spawn")
    cores = context.SimpleQueue()
    for _, core in zip(range(jobs), itertools.cycle(CORES), strict=False):
        cores.put(core)
    with (
        tempfile.TemporaryDirectory() as temp,
        ProcessPoolExecutor(jobs, context, initializer=pin, initargs=(cores,)) as pool,
    ):
        try:
            handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the workers inherit it: Ctrl-C ends them below
            waiting = {
                pool.submit(one_seed, recipes[name], seed, f"{temp}/{name}"): (name, seed)
                for name, seed in places
                if (name, seed) not in found
            }
            signal.signal(signal.SIGINT, handler)
            for future in as_completed(waiting):
                name, seed = waiting[future]
                try:
                    lengths, seconds = future.result()
                except BrokenProcessPool:
                    text = "a worker was killed, and the other runs end with it; the same command does the missing ones"
                    print(text, file=sys.stderr, flush=True)
                    break
                except Exception as error:  # the other runs go on
                    print(f"{name}, seed {seed}, failed: {first_line(error)}", file=sys.stderr, flush=True)
                    continue
                files.write_npz(places[name, seed], {**lengths, "settings": np.asarray(settings_of(recipes[name]))})
                found[name, seed] = lengths
                means = {key: f"{value.mean():.0f}" for key, value in lengths.items() if "online" not in key}
                print(f"{name}, seed {seed}: {means}, {seconds:.0f} s", flush=True)
        except BaseException:
            for child in multiprocessing.active_children():
                child.terminate()
            raise
    complete = len(found) == len(places)
    return {name: [found[name, seed] for seed in range(seeds)] for name in recipes} if complete else None


def settings_of(recipe: experiment.Recipe) -> str:
    """What decides a run's lengths: its recipe, the experiment's code and the versions."""
    code = hashlib.sha256(Path(experiment.__file__).read_bytes()).hexdigest()
    return json.dumps({**dataclasses.asdict(recipe), "code": code, **versions()}, sort_keys=True)


def kept(place: Path, recipe: experiment.Recipe) -> dict[str, np.ndarray]:
    """The lengths of a run that was done before."""
    lengths = files.read_npz(place)
    if str(lengths.pop("settings", "")) != settings_of(recipe):
        raise CheckpointError(f"{place} is of other settings, code or versions; remove it or name another --out")
    return lengths


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=positive, default=1, help="seeds 0 to N-1 (default: %(default)s)")
    parser.add_argument("--preset", choices=[*experiment.RECIPES, "both"], default="both", help="(default: both)")
    parser.add_argument("--jobs", type=positive, default=len(CORES), help="runs at a time (default: one a core)")
    parser.add_argument("--fast", action="store_true", help="a miniature that shows that everything works")
    parser.add_argument(
        "--out", type=path, help="folder to write to (default: ./cartpole_results, ./cartpole_fast with --fast)"
    )
    args = parser.parse_args()
    names = experiment.RECIPES if args.preset == "both" else [args.preset]
    change = experiment.FAST if args.fast else {}
    recipes = {name: dataclasses.replace(experiment.RECIPES[name], **change) for name in names}
    out = Path(args.out or ("cartpole_fast" if args.fast else "cartpole_results"))
    began = time.perf_counter()
    try:
        for folder in ("runs", "figures"):  # before the runs: they take long
            (out / folder).mkdir(parents=True, exist_ok=True)
        found = run_all(recipes, args.seeds, args.jobs, out)
        if found is None:
            print(f"no tables: not all runs are done; those that are lie in {out / 'runs'}", file=sys.stderr)
            return 1
        print(write(found, out))
    except KeyboardInterrupt:
        print(f"\nstopped; finished runs are in {out / 'runs'}, the same command does the others", file=sys.stderr)
        return 130
    except AWACError as error:
        print(f"train.py: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"train.py: error: {error.filename or out}: cannot be written ({error.strerror})", file=sys.stderr)
        return 1
    print(f"{time.perf_counter() - began:.0f} s; tables and figures are in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
