"""A control for the benchmark: SAC from nothing, one update an environment step, and the benchmark's evaluations.

    python scripts/sac_control.py hopper --seed 0     # writes ~/.cache/awac-sac/hopper-seed0/curve.csv

Uses SBX's SAC with its own settings (two layers of 256, batches of 256, learning rate 3e-4, the temperature by itself).
The first 5,000 of its 100,000 steps are random; the benchmark's 5,000 of warm-up come before its 100,000. Install the
extra with `pip install -e ".[behaviour]"`. The same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from train_behaviour import RECIPES, Recipe, Training

SAC = Recipe(
    "sac",
    steps=100_000,
    segment=5_000,
    envs=1,
    rate=3e-4,
    decay=None,
    early=0,
    options={"learning_starts": 5_000},
    evaluation=(20, True),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("robot", choices=sorted(RECIPES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder of the state, default ~/.cache/awac-sac/ROBOT-seedN")
    arguments = parser.parse_args()
    default = Path.home() / ".cache" / "awac-sac" / f"{arguments.robot}-seed{arguments.seed}"
    Training(arguments.robot, (arguments.work or default).expanduser(), arguments.seed, SAC).run(float("inf"), 3.0)


if __name__ == "__main__":
    main()
