"""`awac evaluate-offline`: which saved policy is best, from a data set alone."""

from __future__ import annotations

import argparse

from awac.cli.options import natural, path, positive

ABOUT = "estimate saved policies' values from a data set alone (fitted Q evaluation)"
INTERRUPTED = "there are no estimates; the runs are as they were"
"""Printed after Ctrl-C."""


def add(parser) -> None:
    """Adds the options."""
    parser.description = (
        "Estimates the discounted value of saved policies from a data set, without an environment, by fitted Q "
        "evaluation; docs/offline-evaluation.md says how far such estimates can be trusted."
    )
    parser.add_argument("--ckpt_path", type=path, nargs="+", required=True, help="folders of training runs")
    parser.add_argument(
        "--episode", type=_episode, nargs="+", help="checkpoints of each folder, or `all` (default: the newest)"
    )
    parser.add_argument("--dataset", type=path, help="id or file (default: what the policies were trained on)")
    parser.add_argument(
        "--action_unit", choices=("auto", "env", "scaled"), help="of its actions (default: as in training)"
    )
    parser.add_argument("--download", action="store_true", help="fetch D4RL's own file if it is not on this machine")
    parser.add_argument("--gamma", type=_share, help="discount factor (default: the runs' own)")
    parser.add_argument("--steps", type=positive, default=10_000, help="gradient steps (default: %(default)s)")
    parser.add_argument("--critics", type=positive, default=3, help="critics for each policy (default: %(default)s)")
    parser.add_argument("--seed", type=natural, default=0, help="of weights and batches (default: %(default)s)")
    parser.add_argument("--out", type=path, help="CSV file (default: offline_evaluation.csv in the first folder)")
    parser.add_argument("--device_target", default="CPU", help="CPU, GPU, Ascend or Auto (default: %(default)s)")


def run(args) -> None:
    """Runs the command."""
    from awac.training.offline_evaluation import evaluate_offline

    chosen = args.episode or []
    evaluate_offline(
        args.ckpt_path,
        "all" if "all" in chosen else chosen or None,
        dataset=args.dataset,
        action_unit=args.action_unit,
        download=args.download,
        gamma=args.gamma,
        fit={"steps": args.steps, "critics": args.critics, "seed": args.seed},
        out=args.out,
        device=args.device_target,
    )


def _episode(text: str) -> int | str:
    return text if text == "all" else positive(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to below 1")
    return value
