"""`awac eval`: evaluate a checkpoint."""

from __future__ import annotations

from awac.cli.options import natural, path, positive

ABOUT = "evaluate a checkpoint"
INTERRUPTED = "the evaluation has no result; the checkpoint is as it was"
"""Printed after Ctrl-C."""


def add(parser) -> None:
    """Adds the options."""
    parser.add_argument("--ckpt_path", type=path, required=True, help="folder of a training run")
    parser.add_argument("--episode", type=positive, help="a certain checkpoint (default: the newest complete one)")
    parser.add_argument("--eval_episodes", type=positive, help="episodes to run (default: as trained)")
    parser.add_argument(
        "--stochastic", action="store_true", help="sample the actions, as in training (default: the policy's mode)"
    )
    parser.add_argument("--seed", type=natural, help="seed of the evaluation's episodes (default: as trained)")
    parser.add_argument(
        "--video",
        type=path,
        metavar="FILE",
        help="film of the first episode, .gif or .mp4 (extra `video`); no display needed",
    )
    parser.add_argument("--video_steps", type=positive, default=300, help="steps in it at most (default: %(default)s)")
    parser.add_argument(
        "--video_size", type=positive, default=320, help="its longest side in pixels, at most (default: %(default)s)"
    )
    parser.add_argument("--device_target", default="CPU", help="CPU, GPU, Ascend or Auto (default: %(default)s)")


def run(args) -> None:
    """Runs the command."""
    from awac.training.session import evaluate

    evaluate(
        args.ckpt_path,
        episode=args.episode,
        seed=args.seed,
        eval_episodes=args.eval_episodes,
        stochastic=args.stochastic,
        device=args.device_target,
        video=args.video,
        video_steps=args.video_steps,
        video_size=args.video_size,
    )
