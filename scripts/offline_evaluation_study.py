"""Fitted Q evaluation against values measured by rollouts, for policies on generated data sets.

    python scripts/offline_evaluation_study.py halfcheetah --out halfcheetah.csv
    python scripts/offline_evaluation_study.py CartPole-v1 --runs runs/cartpole --out cartpole.csv

A robot's policies are the modes of its shipped behaviour policies, those of CartPole are checkpoints of runs.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np

from awac import load_policy, make_env
from awac.data.behaviour import shipped_policy
from awac.data.sources import resolve_dataset
from awac.envs.mujoco_v2 import ROBOTS
from awac.runs.folder import episodes
from awac.training.fitted_q import Settings, fitted_q, rank_correlation
from awac.training.session import select_device

LADDER = ("1", "2", "3", "4", "medium", "5", "6", "7", "8", "expert")


def ladder(robot: str, names) -> dict:
    """The mode of each of a robot's shipped behaviour policies, for batches of raw observations."""

    def mode(layers):
        def act(observations):
            hidden = np.asarray(observations, np.float32)[:, : len(layers[0][0])]
            for i, (weight, bias) in enumerate(layers):
                hidden = (np.maximum(hidden, 0) if i else hidden) @ weight + bias
            return np.tanh(hidden[:, : hidden.shape[1] // 2])

        return act

    return {name: mode(shipped_policy(f"{robot}_{name}").layers) for name in names}


def checkpoints(texts: list[str]) -> dict:
    """The policies of some checkpoints, each FOLDER:N; a folder alone means all its checkpoints."""
    found = {}
    for text in texts:
        folder, _, number = text.partition(":")
        for episode in [int(number)] if number else sorted(episodes(Path(folder))):
            found[f"{Path(folder).name} {episode}"] = load_policy(folder, episode).network
    return found


def rollouts(task: str, policy, gamma: float, count: int, seed: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Discounted and plain returns of `count` episodes of a policy's mode."""
    env = make_env(task)
    discounted, plain = np.zeros(count), np.zeros(count)
    for i in range(count):
        observation, _ = env.reset(seed=seed + i)
        factor, done = 1.0, False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(policy(np.asarray(observation)[None])[0])
            discounted[i] += factor * float(reward)
            plain[i] += float(reward)
            factor, done = factor * gamma, terminated or truncated
    env.close()
    return discounted, plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=(*ROBOTS, "CartPole-v1"))
    parser.add_argument("--dataset", help="(default: the robot's -medium-replay-v2, or CartPole-v1)")
    parser.add_argument("--ladder", nargs="+", choices=LADDER, default=LADDER, help="policies of a robot")
    parser.add_argument("--runs", nargs="+", default=[], metavar="FOLDER[:N]", help="checkpoints, for CartPole")
    parser.add_argument("--rollouts", type=int, default=50)
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--critics", type=int, default=Settings.critics)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    args = parser.parse_args()
    robot = args.case in ROBOTS
    task = f"{args.case}-medium-v2" if robot else args.case
    dataset = args.dataset or (f"{args.case}-medium-replay-v2" if robot else args.case)
    settings = Settings(steps=args.steps, critics=args.critics, seed=args.seed)
    policies = ladder(args.case, args.ladder) if robot else checkpoints(args.runs)
    env = make_env(task)
    data, origin = resolve_dataset(dataset, env=env)
    print(origin.describe(), flush=True)
    truth = {name: rollouts(task, policy, settings.gamma, args.rollouts) for name, policy in policies.items()}
    select_device("CPU")
    begin, cpu = time.perf_counter(), time.process_time()
    count = int(env.action_space.n) if data.discrete else None
    estimates = fitted_q(data, list(policies.values()), count, settings, progress=True)
    print(f"{time.perf_counter() - begin:.0f} s, {time.process_time() - cpu:.0f} s of CPU time", flush=True)
    with open(args.out, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("policy", "estimate", "std", "drift", "off_data", "true_value", "true_error", "true_return"))
        for (name, (discounted, plain)), e in zip(truth.items(), estimates, strict=True):
            error = discounted.std(ddof=1) / np.sqrt(len(discounted))
            row = (e.value, e.std, e.drift, e.off_data, discounted.mean(), error, plain.mean())
            table.writerow((name, *(f"{x:.4g}" for x in row)))
            print(name, *(f"{x:.4g}" for x in row), sep="\t", flush=True)
    found, true = np.array([e.value for e in estimates]), np.array([d.mean() for d, _ in truth.values()])
    print(
        f"rank correlation {rank_correlation(found, true):.3f}, mean absolute error {np.abs(found - true).mean():.2f}"
    )


if __name__ == "__main__":
    main()
