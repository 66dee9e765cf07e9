"""`awac train`: train offline, then online."""

from __future__ import annotations

from pathlib import Path

from awac.cli.options import add_keys, given_keys, path, positive

ABOUT = "train offline, then online"
INTERRUPTED = "the last checkpoint, if there is one, is kept; --resume continues from it"
"""Printed after Ctrl-C."""


def add(parser) -> None:
    """Adds the options."""
    from awac.config import PRESETS, SECTIONS

    parser.add_argument("--preset", help=f"recipe: {', '.join(PRESETS)} (default: default)")
    parser.add_argument(
        "--episode",
        type=positive,
        help="training episodes in all (default: 500; with --no_env the offline phase's; with --resume the run's)",
    )
    parser.add_argument(
        "--ckpt_path", type=path, default="./ckpt", help="folder for checkpoints and CSV (default: %(default)s)"
    )
    parser.add_argument("--device_target", default="CPU", help="CPU, GPU, Ascend or Auto (default: %(default)s)")
    parser.add_argument("--env_yaml", type=path, metavar="F", help="YAML file with keys of `env`")
    parser.add_argument("--algo_yaml", type=path, metavar="F", help="YAML file with keys of `algo` and `train`")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="set keys; the same as --KEY VALUE"
    )
    parser.add_argument(
        "--logger",
        nargs="+",
        default=[],
        metavar="NAME",
        help="besides the log: csv (always), tensorboard, wandb, swanlab (extras of their names)",
    )
    parser.add_argument(
        "--init_from",
        type=path,
        metavar="CKPT_PATH",
        help="start with the networks, targets, optimisers and normaliser of another run's newest checkpoint: at the "
        "switch to online training if that run has finished its offline phase",
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="continue the run in --ckpt_path with its settings")
    existing.add_argument("--overwrite", action="store_true", help="replace the run in --ckpt_path")
    for section, cls in SECTIONS.items():
        add_keys(parser.add_argument_group(section, cls.__doc__), section)


def run(args) -> None:
    """Runs the command."""
    from awac.config import KEYS, load_config, split_pair
    from awac.training.material import offline_episodes
    from awac.training.resume import stored_run
    from awac.training.session import train

    overrides = {}
    for item in args.set:
        name, value = split_pair(item, "--set")
        overrides[name] = KEYS[name].parse(value, "--set") if name in KEYS else value
    overrides.update(given_keys(args))
    folder = Path(args.ckpt_path)
    base, begun = stored_run(folder) if args.resume else (None, None)
    config = load_config(args.preset, args.env_yaml, args.algo_yaml, overrides, base, "command line")
    if config.env.no_env and (not begun or base and config.train.offline_train_steps != base.train.offline_train_steps):
        begun = offline_episodes(config)  # a resumed run's offline phase may be extended
    train(
        config,
        args.ckpt_path,
        args.episode or begun or 500,
        device=args.device_target,
        resume=args.resume,
        overwrite=args.overwrite,
        init_from=args.init_from,
        loggers=args.logger,
    )
