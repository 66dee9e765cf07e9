"""`awac doctor`: check a data set before training on it."""

from __future__ import annotations

from awac.cli.options import add_keys, given_keys, named_task, path
from awac.errors import ConfigError

ABOUT = "check a data set before training on it"
INTERRUPTED = "the check is incomplete; the data are as they were"
"""Printed after Ctrl-C."""


def add(parser) -> None:
    """Adds the options."""
    parser.description = "Checks a data set, with a verdict (ok, warn, fail) per line; the exit code is 1 if one fails."
    parser.add_argument(
        "dataset", type=path, metavar="DATASET", help="id, minari:ID, d4rl:ID, or an .hdf5, .npz, .csv or .parquet file"
    )
    parser.add_argument("--task", help="environment to check it against (default: from the id or file name)")
    add_keys(parser, names=("env_kwargs", "max_episode_steps", "no_env", "action_low", "action_high"))
    parser.add_argument("--download", action="store_true", help="fetch D4RL's own file if it is not on this machine")
    parser.add_argument(
        "--action_unit", choices=("auto", "env", "scaled"), default="auto", help="of its actions (default: %(default)s)"
    )


def run(args) -> int:
    """Runs the command."""
    from awac.config import load_config
    from awac.data.doctor import doctor

    keys = given_keys(args)
    env = load_config(overrides=keys, source="command line").env
    bounds = {"low": env.action_low, "high": env.action_high}
    if env.no_env:
        if args.task or "env_kwargs" in keys:
            raise ConfigError("--no_env makes no environment, so --task and --env_kwargs have no use; leave them out")
        alone = {**bounds, "limit": env.max_episode_steps}
        return doctor(args.dataset, None, args.download, args.action_unit, alone)
    if any(bounds.values()):
        raise ConfigError("--action_low and --action_high are for --no_env; an environment has its own bounds")
    if args.task is None and keys.keys() - {"no_env"}:
        raise ConfigError("--env_kwargs and --max_episode_steps need --task")
    return doctor(args.dataset, args.task and named_task(args), args.download, args.action_unit)
