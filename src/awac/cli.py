"""The command `awac` and its subcommands. Every user mistake ends in one line on stderr and exit code 1."""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
import sys
import typing
from pathlib import Path

from awac import __version__
from awac.errors import NO_HOME, AWACError, ConfigError, Interrupted, did_you_mean


def main(argv: list[str] | None = None) -> int:
    """Runs one subcommand; returns the exit code: 0 done, 1 a mistake the user can put right, 128 + n signal n."""
    interrupted = "nothing was done yet"
    try:
        if hasattr(sys.stdout, "reconfigure"):  # a locale without ± must not end a run
            sys.stdout.reconfigure(errors="replace")
        if "" not in sys.path:  # --task my_module:MyEnv-v0, as `python -m` finds it
            sys.path.insert(0, "")
        args = _parse(argv)
        interrupted = args.interrupted
        return args.run(args) or 0
    except AWACError as error:
        sys.stdout.flush()
        print(f"awac: error: {error}", file=sys.stderr)
        return 1
    except Interrupted as stop:
        sys.stdout.flush()
        print(f"awac: stopped by {signal.Signals(stop.number).name}: {stop.text}", file=sys.stderr)
        return 128 + stop.number
    except KeyboardInterrupt as stop:
        sys.stdout.flush()
        kept = str(stop) or interrupted
        print(f"awac: interrupted; {kept}", file=sys.stderr)
        return 130
    except RuntimeError as error:
        if "home directory" not in str(error):  # pathlib's words
            raise
        print(f"awac: error: {NO_HOME}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        _drop_output()
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or error.filename:
            raise
        _drop_output()
        print(
            f"awac: error: the log can't be written ({error.strerror}); make room and go on with --resume",
            file=sys.stderr,
        )
        return 1


def _drop_output() -> None:
    """What is still in stdout's buffer goes nowhere, else Python complains about it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """One line for a mistake, with exit code 2; negative numbers in any notation are values."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)
        self._negative_number_matcher = re.compile(r"^-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")

    def _check_value(self, action, value) -> None:
        if action.choices is not None and value not in action.choices:
            near = did_you_mean(value, action.choices)
            raise argparse.ArgumentError(action, f"{value!r} is unknown{near} (one of {', '.join(action.choices)})")

    def error(self, message: str) -> typing.NoReturn:
        self.exit(2, f"awac: error: {message}; {self.prog} --help lists the options\n")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    argv = sys.argv[1:] if argv is None else argv
    parser, commands = _parser(next((text for text in argv if not text.startswith("-")), None))
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        command = commands[args.command]
        flags = [text.partition("=")[0] for text in unknown if text.startswith("--")]
        if not flags:
            command.error(f"unrecognised argument {unknown[0]!r}")
        command.error(f"unknown option {flags[0]}{did_you_mean(flags[0], command._option_string_actions)}")
    return args


def _parser(chosen: str | None) -> tuple[_Parser, dict[str, _Parser]]:
    parser = _Parser(prog="awac", description="AWAC (arXiv 2006.09359) on MindSpore.")
    parser.add_argument("--version", action="version", version=f"awac {__version__}")
    group = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name, (add, about, interrupted) in COMMANDS.items():
        command = group.add_parser(name, help=about)
        command.set_defaults(interrupted=interrupted)
        if name == chosen:  # the others' options would load what only they need
            add(command)
    return parser, group.choices


def _add_train(parser) -> None:
    from awac.config import PRESETS, SECTIONS

    parser.set_defaults(run=_train)
    parser.add_argument("--preset", help=f"recipe: {', '.join(PRESETS)} (default: ant)")
    parser.add_argument(
        "--episode", type=_positive, default=500, help="training episodes in all (default: %(default)s)"
    )
    parser.add_argument(
        "--ckpt_path", type=_path, default="./ckpt", help="folder for checkpoints and CSV (default: %(default)s)"
    )
    parser.add_argument("--device_target", default="CPU", help="CPU, GPU, Ascend or Auto (default: %(default)s)")
    parser.add_argument("--env_yaml", type=_path, metavar="F", help="YAML file with keys of `env`")
    parser.add_argument("--algo_yaml", type=_path, metavar="F", help="YAML file with keys of `algo` and `train`")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="set keys; the same as --KEY VALUE"
    )
    parser.add_argument(
        "--logger", nargs="+", default=[], metavar="NAME", help="besides log and CSV: tensorboard (extra `tensorboard`)"
    )
    parser.add_argument(
        "--init_from",
        type=_path,
        metavar="CKPT_PATH",
        help="start with the networks, targets, optimisers and normaliser of another run's newest checkpoint: at the "
        "switch to online training if that run has finished its offline phase",
    )
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument("--resume", action="store_true", help="continue the run in --ckpt_path with its settings")
    kept.add_argument("--overwrite", action="store_true", help="replace the run in --ckpt_path")
    for section, cls in SECTIONS.items():
        _add_keys(parser.add_argument_group(section, cls.__doc__), section)


def _add_keys(group, section: str | None = None, names: tuple[str, ...] = ()) -> None:
    """Adds an option for each key of a section, or for those named."""
    from awac.config import KEYS

    for key in KEYS.values():
        if key.section != section and key.name not in names:
            continue
        kinds = key.options()
        several = dict in kinds or any(typing.get_origin(kind) is tuple for kind in kinds)
        shape: dict = {"nargs": "+"} if several else {"nargs": "?", "const": "true"} if bool in kinds else {}
        default = " ".join(map(str, key.default)) if isinstance(key.default, tuple) else key.default
        limits = f"; {key.range.words}" if key.range else f"; one of {', '.join(key.names())}" if key.names() else ""
        word = "KEY=VALUE" if dict in kinds else next(k for k in kinds if k is not type(None))
        group.add_argument(
            f"--{key.name}",
            dest=f"key:{key.name}",
            metavar=word if isinstance(word, str) else getattr(word, "__name__", "int").upper().replace("TUPLE", "INT"),
            default=argparse.SUPPRESS,
            help=f"{key.help} (default: {default}{limits})".replace("%", "%%"),
            **shape,
        )


def _given_keys(args) -> dict:
    """The keys that were given as options."""
    from awac.config import KEYS

    given = {name[4:]: text for name, text in vars(args).items() if name.startswith("key:")}
    return {name: KEYS[name].parse(text, f"--{name}") for name, text in given.items()}


def _add_eval(parser) -> None:
    parser.set_defaults(run=_eval)
    parser.add_argument("--ckpt_path", type=_path, required=True, help="folder of a training run")
    parser.add_argument("--episode", type=_positive, help="a certain checkpoint (default: the newest complete one)")
    parser.add_argument("--eval_episodes", type=_positive, help="episodes to run (default: as trained)")
    parser.add_argument("--seed", type=_natural, help="seed of the evaluation's episodes (default: as trained)")
    parser.add_argument("--device_target", default="CPU", help="CPU, GPU, Ascend or Auto (default: %(default)s)")


def _add_collect(parser) -> None:
    parser.set_defaults(run=_collect)
    parser.add_argument("--task", default="ant-expert-v2", help="environment (default: %(default)s)")
    _add_keys(parser, names=("env_kwargs", "max_episode_steps"))
    parser.add_argument(
        "--policy",
        default="expert",
        help="random, medium, expert, a file name in ckpt/behaviour, or an .npz file (default: %(default)s)",
    )
    parser.add_argument("--rows", type=_positive, help="transitions to record (default: 500000)")
    parser.add_argument("--seed", type=_natural, default=0, help="seed of the recording (default: %(default)s)")
    parser.add_argument("--deterministic", action="store_true", help="record the mean action instead of samples")
    parser.add_argument("--out", type=_path, required=True, help="the .hdf5 file to write")


def _add_convert(parser) -> None:
    parser.set_defaults(run=_convert)
    parser.add_argument("dataset", type=_path, metavar="SRC", help="id, minari:ID, or a file")
    parser.add_argument("out", type=_path, metavar="DST", help="the .hdf5, .npz or .csv file to write")
    parser.add_argument("--download", action="store_true", help="fetch D4RL's own file if it is not on this machine")


def _add_export(parser) -> None:
    parser.set_defaults(run=_export)
    parser.add_argument("--ckpt_path", type=_path, required=True, help="folder of a training run")
    parser.add_argument("--episode", type=_positive, help="a certain checkpoint (default: the newest complete one)")
    parser.add_argument("--out", type=_path, required=True, help="folder to write to")


def _add_report(parser) -> None:
    parser.set_defaults(run=_report)
    parser.add_argument(
        "runs", type=_run, nargs="+", metavar="[NAME=]FOLDER", help="runs; those of one name are seeds of a curve"
    )
    parser.add_argument("--figure", type=_path, metavar="PNG", help="image to write")
    parser.add_argument("--reference", type=float, help="mean return of the behaviour data, drawn as a line")
    parser.add_argument("--title", help="title of the figure (default: the task)")


def _add_doctor(parser) -> None:
    parser.set_defaults(run=_doctor)
    parser.description = "Checks a data set, a verdict (ok, warn, fail) a line; the exit code is 1 where one fails."
    parser.add_argument("dataset", type=_path, metavar="DATASET", help="D4RL id, CartPole-v1 or an .hdf5/.npz file")
    parser.add_argument("--task", help="environment to check it against (default: what the id or file name says)")
    _add_keys(parser, names=("env_kwargs", "max_episode_steps"))
    parser.add_argument("--download", action="store_true", help="fetch D4RL's own file if it is not on this machine")
    parser.add_argument(
        "--action_unit", choices=("auto", "env", "scaled"), default="auto", help="of its actions (default: %(default)s)"
    )


def _add_bench(parser) -> None:
    from awac.bench.run import IMPLEMENTATIONS
    from awac.bench.workloads import WORKLOADS

    parser.set_defaults(run=_bench)
    parser.description = (
        "Times training steps, alternating between implementations; scripts/bench_setup.sh installs the other ones. "
        + "; ".join(f"{w.name}: {w.about}" for w in WORKLOADS.values())
    )
    parser.add_argument("--workload", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), help="(default: all)")
    parser.add_argument("--implementation", nargs="+", choices=IMPLEMENTATIONS, help="(default: all)")
    parser.add_argument("--rounds", type=_positive, default=5, help="chunks for each (default: %(default)s)")
    parser.add_argument("--seconds", type=_seconds, default=1.0, help="length of a chunk (default: %(default)s)")
    parser.add_argument("--python", type=_path, help="interpreter with PyTorch and JAX (default: that of .venv-bench)")
    parser.add_argument("--json", type=_path, metavar="FILE", help="file for the figures")
    parser.add_argument("--plot", type=_path, metavar="PNG", help="bar chart to write")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--growth", action="store_true", help="instead: time and memory by rows, batch and width")
    other.add_argument("--parts", action="store_true", help="instead: where the time of a default run goes")


def _train(args) -> None:
    from awac.config import load_config, parse_yaml, split_pair
    from awac.training import loggers
    from awac.training.resume import stored_config
    from awac.training.session import train

    overrides = {}
    for item in args.set:
        name, value = split_pair(item, "--set")
        overrides[name] = parse_yaml(value, "--set")
    overrides.update(_given_keys(args))
    callbacks = [loggers.make(name, Path(args.ckpt_path)) for name in args.logger]
    base = stored_config(Path(args.ckpt_path)) if args.resume else None
    config = load_config(args.preset, args.env_yaml, args.algo_yaml, overrides, base)
    train(
        config,
        args.ckpt_path,
        args.episode,
        device=args.device_target,
        resume=args.resume,
        overwrite=args.overwrite,
        init_from=args.init_from,
        callbacks=callbacks,
    )


def _eval(args) -> None:
    from awac.training.session import evaluate

    evaluate(
        args.ckpt_path,
        episode=args.episode,
        seed=args.seed,
        eval_episodes=args.eval_episodes,
        device=args.device_target,
    )


def _collect(args) -> None:
    from awac.data.record import record

    print(record(_task(args), args.policy, args.out, rows=args.rows, seed=args.seed, deterministic=args.deterministic))


def _convert(args) -> None:
    from awac.data.convert import convert

    print(convert(args.dataset, args.out, args.download))


def _export(args) -> None:
    from awac.runs.export import export

    print(export(Path(args.ckpt_path), Path(args.out), args.episode))


def _report(args) -> None:
    from awac.report.curves import report

    print(report(args.runs, args.figure, args.reference, args.title))


def _doctor(args) -> int:
    from awac.data.doctor import doctor

    if args.task is None and _given_keys(args):
        raise ConfigError("--env_kwargs and --max_episode_steps need --task")
    return doctor(args.dataset, args.task and _task(args), args.download, args.action_unit)


def _bench(args) -> None:
    from awac.bench import growth, output, run

    if args.growth or args.parts:
        rows = growth.growth() if args.growth else growth.parts()
    else:
        rows = run.bench(args.workload, args.implementation, args.rounds, args.seconds, args.python)
        if args.plot:
            output.plot(rows, args.plot)
    if args.json:
        output.write_json(rows, args.json)


def _task(args):
    """The environment that was named, with its options."""
    from awac.config import load_config
    from awac.envs import Task

    env = load_config(overrides={"task": args.task, **_given_keys(args)}).env
    return Task.parse(env.task, env.env_kwargs, env.max_episode_steps)


def _path(text: str) -> str:
    """A path with ~ expanded, also behind an option's =, where no shell does it."""
    return os.path.expanduser(text)


def _run(text: str) -> str:
    name, sign, folder = text.rpartition("=")
    return name + sign + _path(folder)


def _positive(text: str) -> int:
    return _whole(text, 1, "a positive whole number")


def _natural(text: str) -> int:
    return _whole(text, 0, "a whole number, 0 or more")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 3600.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def _whole(text: str, least: int, wanted: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 12 or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return int(text)


COMMANDS = {
    "train": (
        _add_train,
        "train offline, then online",
        "the last checkpoint, if there is one, is kept; --resume continues from it",
    ),
    "eval": (_add_eval, "evaluate a checkpoint", "the evaluation has no result; the checkpoint is as it was"),
    "collect": (_add_collect, "record a data set in D4RL's layout", "nothing was recorded"),
    "convert": (_add_convert, "a data set in another format", "nothing was written"),
    "export": (_add_export, "a checkpoint without its training state", "the export is incomplete; run it again"),
    "report": (
        _add_report,
        "curves and score table of finished runs",
        "no report was written; the runs are as they were",
    ),
    "doctor": (
        _add_doctor,
        "check a data set before training on it",
        "the check is incomplete; the data are as they were",
    ),
    "bench": (_add_bench, "training speed, against other code bases", "no figures were written"),
}
"""By name: what adds the options, its line in the help, and what is true after Ctrl-C."""


if __name__ == "__main__":
    sys.exit(main())
