"""`awac bench`: training speed, against other code bases."""

from __future__ import annotations

from awac.cli.options import path, positive, seconds

ABOUT = "training speed, against other code bases"
INTERRUPTED = "no figures were written"
"""Printed after Ctrl-C."""


def add(parser) -> None:
    """Adds the options."""
    from awac.bench.machine import ISAS
    from awac.bench.run import IMPLEMENTATIONS
    from awac.bench.workloads import TIMED, WORKLOADS

    parser.description = (
        "Times training steps, alternating between implementations; scripts/bench_setup.sh installs PyTorch and JAX, "
        "but not d3rlpy. " + "; ".join(f"{w.name}: {w.about}" for w in WORKLOADS.values())
    )
    parser.add_argument("--workload", nargs="+", choices=WORKLOADS, default=list(TIMED), help="(default: %(default)s)")
    parser.add_argument("--implementation", nargs="+", choices=IMPLEMENTATIONS, help="(default: all)")
    parser.add_argument("--rounds", type=positive, default=5, help="chunks for each (default: %(default)s)")
    parser.add_argument("--seconds", type=seconds, default=1.0, help="length of a chunk (default: %(default)s)")
    parser.add_argument(
        "--isa", choices=ISAS, default=ISAS[0], help="vector instructions of all (default: %(default)s)"
    )
    parser.add_argument("--threads", type=positive, help="threads of each (default: one a processor)")
    parser.add_argument("--python", type=path, help="interpreter with PyTorch and JAX (default: that of .venv-bench)")
    parser.add_argument("--json", type=path, metavar="FILE", help="file for the figures")
    parser.add_argument("--plot", type=path, metavar="PNG", help="bar chart to write")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--growth", action="store_true", help="instead: time and memory by rows, batch and width")
    other.add_argument("--parts", action="store_true", help="instead: where the time of a default run goes")


def run(args) -> None:
    """Runs the command."""
    from awac.bench import growth, output, run
    from awac.bench.machine import limited

    if args.json:
        output.check(args.json)
    if args.plot:
        output.check(args.plot, (".png", ".svg", ".pdf"))
    with limited(args.isa, args.threads) as machine:
        if args.growth or args.parts:
            rows = growth.growth() if args.growth else growth.parts()
            rows = [{**row, **machine.fields()} for row in rows]
        else:
            rows = run.bench(machine, args.workload, args.implementation, args.rounds, args.seconds, args.python)
    if args.json:
        output.write_json(rows, args.json)
    if args.plot and not args.growth and not args.parts:
        output.plot(rows, args.plot)
