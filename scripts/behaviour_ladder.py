"""Scores snapshots of actors and picks a robot's ladder from them; `train_behaviour.py` uses it.

    python scripts/behaviour_ladder.py hopper     # the table of ckpt/behaviour/README.md, in Markdown

A snapshot is an .npz with `layers.{0,1,2}.weight` (in, out) and `.bias` (out,), float16, ReLU between them; the last
layer gives mean and log-std of a Gaussian that tanh squashes. ckpt/behaviour/README.md describes the format.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from awac.envs.mujoco_v2 import ROBOTS, TIME_LIMIT

LOG_STD_BOUNDS = (-5.0, 2.0)
FIELDS = ("env_steps", "seconds", "mean_return", "std_return", "early_ends", "normalised")
MEDIUM = {"hopper": 44.0, "halfcheetah": 41.0, "walker2d": 62.0, "ant": 80.0}  # normalised, as D4RL's own files
MEDIUM_TOLERANCE = 8.0
BELOW, ABOVE = 4, 4  # numbered snapshots below medium, and between medium and expert


@dataclass(frozen=True)
class Score:
    """Result of `evaluate`: returns of the episodes, and the share of them that ended before the time limit."""

    mean: float
    std: float
    early: float

    def normalised(self, robot: str) -> float:
        low, high = ROBOTS[robot].score_range
        return 100.0 * (self.mean - low) / (high - low)


def observed(robot: str) -> int:
    """Observation values that a policy gets: all except the Ant's last 84, which are always zero."""
    return 27 if robot == "ant" else ROBOTS[robot].observation_size


def save_snapshot(path: Path, layers: dict[str, np.ndarray]) -> None:
    """Writes one snapshot; a file under that name is replaced at once."""
    draft = path.with_name(f"{path.stem}_draft.npz")
    np.savez_compressed(draft, **{key: np.asarray(value, np.float16) for key, value in layers.items()})
    draft.replace(path)


def load_snapshot(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return {key: arrays[key].astype(np.float32) for key in arrays}


def evaluate(robot: str, layers: dict[str, np.ndarray], episodes: int, seed: int, deterministic: bool = False) -> Score:
    """Runs whole episodes side by side, one forward pass for all.

    Args:
        robot: a name in ROBOTS.
        layers: as `load_snapshot` gives them.
        episodes: how many; episode i is reset with `seed + i`.
        seed: also of the noise.
        deterministic: mean actions instead of sampled ones.
    """
    rng = np.random.default_rng(seed)
    envs = [ROBOTS[robot]() for _ in range(episodes)]
    inputs = len(layers["layers.0.weight"])
    seen = np.stack([env.reset(seed=seed + i)[0][:inputs] for i, env in enumerate(envs)])
    returns, running = np.zeros(episodes), list(range(episodes))
    early = 0
    for _ in range(TIME_LIMIT):
        hidden = seen[running].astype(np.float32)
        for i in (0, 1):
            hidden = np.maximum(hidden @ layers[f"layers.{i}.weight"] + layers[f"layers.{i}.bias"], 0)
        mean, log_std = np.split(hidden @ layers["layers.2.weight"] + layers["layers.2.bias"], 2, axis=1)
        noise = 0.0 if deterministic else np.exp(np.clip(log_std, *LOG_STD_BOUNDS)) * rng.standard_normal(mean.shape)
        actions = np.tanh(mean + noise)
        ended = []
        for index, action in zip(running, actions, strict=True):
            observation, reward, terminated, _, _ = envs[index].step(action)
            returns[index] += reward
            seen[index] = observation[:inputs]
            if terminated:
                ended.append(index)
        early += len(ended)
        running = [index for index in running if index not in ended]
        if not running:
            break
    for env in envs:
        env.close()
    return Score(float(returns.mean()), float(returns.std()), early / episodes)


def read_curve(path: Path) -> list[dict[str, float]]:
    """The rows of a training's curve.csv with numbers as float; empty if there is no such file."""
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def write_curve(path: Path, rows: list[dict[str, float]]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows({**row, "env_steps": int(row["env_steps"]), "seconds": int(row["seconds"])} for row in rows)


def select(robot: str, work: Path, out: Path, episodes: int = 50, seed: int = 50_000) -> list[tuple[str, int]]:
    """Picks the ladder from a work folder's snapshots and copies it.

    `<robot>_expert.npz` has the largest mean less its standard deviation, `<robot>_medium.npz` the least deviation of
    those within 8 normalised points of D4RL's medium, or is the nearest; `<robot>_1` … `_4` lie below medium, `_5` …
    `_8` between medium and expert, evenly by score. The curve only proposes candidates; the choice is by `episodes` new
    episodes each, with sampled actions.

    Returns:
        (file, env_steps) of each, from the worst to the best; also in `ladder.csv` in the work folder.

    Raises:
        SystemExit: there are too few snapshots.
    """
    curve = read_curve(work / "curve.csv")
    if len(curve) < BELOW + ABOVE + 2:
        raise SystemExit(f"{work}: only {len(curve)} snapshots; train for longer")
    scored: dict[int, Score] = {}

    def score(row: dict[str, float]) -> Score:
        steps = int(row["env_steps"])
        if steps not in scored:
            scored[steps] = evaluate(robot, load_snapshot(snapshot_path(work, steps)), episodes, seed)
        return scored[steps]

    def close(level: float, rows: list[dict[str, float]], candidates: int) -> list[dict[str, float]]:
        return sorted(rows, key=lambda row: abs(row["normalised"] - level))[:candidates]

    def normalised(row: dict[str, float]) -> float:
        return score(row).normalised(robot)

    best = sorted(curve, key=lambda row: row["std_return"] - row["mean_return"])[:8]
    expert = max(best, key=lambda row: score(row).mean - score(row).std)
    left = [row for row in curve if row["env_steps"] < expert["env_steps"]]
    goal = MEDIUM[robot]
    # A policy that is always mediocre is a better medium than one that is sometimes good and sometimes falls.
    medium = min(
        close(goal, left, 6), key=lambda row: (max(abs(normalised(row) - goal), MEDIUM_TOLERANCE), score(row).std)
    )
    chosen = {"expert": expert, "medium": medium}
    left.remove(medium)
    middle, top = normalised(medium), normalised(expert)
    bottom = left[0]["normalised"]
    levels = [bottom + (middle - bottom) * i / BELOW for i in range(BELOW)]
    levels += [middle + (top - middle) * i / (ABOVE + 1) for i in range(1, ABOVE + 1)]
    ranked: list[dict[str, float]] = []
    for level in levels:
        row = min(
            close(level, left, 4),
            key=lambda row: ((normalised(row) < middle) != (level < middle), abs(normalised(row) - level)),
        )
        left.remove(row)
        ranked.append(row)
    ranked.sort(key=lambda row: score(row).mean)
    chosen |= {str(name): row for name, row in enumerate(ranked, 1)}
    out.mkdir(parents=True, exist_ok=True)
    ladder = []
    for name, row in sorted(chosen.items(), key=lambda item: score(item[1]).mean):
        steps = int(row["env_steps"])
        shutil.copy(snapshot_path(work, steps), out / f"{robot}_{name}.npz")
        ladder.append((f"{robot}_{name}.npz", steps))
    with open(work / "ladder.csv", "w", newline="") as file:
        csv.writer(file).writerows([("file", "env_steps"), *ladder])
    return ladder


def snapshot_path(work: Path, steps: int) -> Path:
    return work / "snapshots" / f"{steps:09d}.npz"


def score_table(robot: str, folder: Path, episodes: int, seed: int, deterministic: bool) -> list[str]:
    """Markdown rows of a robot's policies in `folder`, worst first, on episodes that were not used to choose them."""
    scored = []
    for path in folder.glob(f"{robot}_*.npz"):
        score = evaluate(robot, load_snapshot(path), episodes, seed, deterministic)
        scored.append((score.mean, f"`{path.name}`", score))
    return [
        f"| {name} | {score.mean:.0f} ± {score.std:.0f} | {score.normalised(robot):.1f} | {score.early:.0%} |"
        for _, name, score in sorted(scored, key=lambda row: row[:2])
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("robot", choices=sorted(ROBOTS))
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parents[1] / "ckpt" / "behaviour")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=70_000)
    parser.add_argument("--deterministic", action="store_true", help="mean actions instead of sampled ones")
    arguments = parser.parse_args()
    print("| file | return | normalised | ended early |\n|---|---|---|---|")
    rows = score_table(arguments.robot, arguments.folder, arguments.episodes, arguments.seed, arguments.deterministic)
    print(*rows, sep="\n")


if __name__ == "__main__":
    main()
