"""`awac bench`: the short form without the other code bases, its JSON, the check that guards the figures, growth."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from awac import cli
from awac.bench import growth, machine, output, run
from awac.bench.peers import libraries
from awac.bench.workloads import WORKLOADS

FIELDS = {
    "workload",
    "implementation",
    "processor",
    "isa",
    "threads",
    "libraries",
    "steps_per_s",
    "ratio_to_torch_eager",
    "ratio_to_jax_scan",
    "share_of_ceiling",
    "ceiling_gflops",
    "ceiling_library",
}
CPUINFO = Path("/proc/cpuinfo").read_text()


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """A folder without an environment of the other code bases."""
    monkeypatch.setenv("AWAC_BENCH_PYTHON", str(tmp_path / "none" / "python"))
    monkeypatch.chdir(tmp_path)


def rows(**speeds):
    return [
        {
            "workload": "default",
            "implementation": name.replace("_", "-"),
            "steps_per_s": speed,
            "ratio_to_torch_eager": None,
            "share_of_ceiling": 0.5,
        }
        for name, speed in speeds.items()
    ]


def test_the_short_form_measures_what_is_there(alone, capsys, tmp_path):
    arguments = ["--workload", "default", "--rounds", "1", "--seconds", "0.1", "--threads", "1", "--json", "out.json"]
    assert cli.main(["bench", *arguments]) == 0
    printed = capsys.readouterr().out
    for name in ("torch-eager", "torch-compile", "jax-scan"):
        assert f"{name}: skipped" in printed
    assert "mindspore-rl: skipped" in printed
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert set(row) == FIELDS
    assert (row["workload"], row["implementation"], row["ratio_to_torch_eager"]) == ("default", "awac", None)
    assert row["steps_per_s"] > 0 and 0 < row["share_of_ceiling"] < 2
    assert row["ceiling_gflops"] > 1 and row["ceiling_library"] in ("numpy", "mindspore") and row["threads"] == 1
    assert f"| {row['isa']}, 1 thread | steps/s |" in printed and row["processor"] in printed


def test_what_can_not_be_measured_or_written_is_said_before_or_after_but_costs_no_figures(alone, capsys, tmp_path):
    assert cli.main(["bench", "--workload", "w3", "--implementation", "torch-eager"]) == 1
    assert "nothing to measure" in capsys.readouterr().err
    for option, words in (
        ("--json none/a.json", "can't be written"),
        ("--plot a.foo", "name a .png or .svg or .pdf file"),
    ):
        assert cli.main(["bench", *option.split()]) == 1
        said = capsys.readouterr()
        assert words in said.err and said.out == ""
    short = ["--workload", "w2", "w3", "--implementation", "mindspore-rl", "--rounds", "1", "--seconds", "0.05"]
    assert cli.main(["bench", *short, "--threads", "1", "--json", "a.json"]) == 0
    assert "w3: no implementation was measured" in capsys.readouterr().out
    assert [row["workload"] for row in json.loads((tmp_path / "a.json").read_text())] == ["w2"]


@pytest.mark.skipif("avx2" not in CPUINFO, reason="this processor has no AVX2")
def test_avx2_is_set_for_every_library_and_undone_afterwards(tmp_path):
    before, processors = dict(os.environ), os.sched_getaffinity(0)
    with machine.limited("avx2", 1) as limits:
        run._write_batches(WORKLOADS["w3"], tmp_path, False)
        answers = {}
        for name, implementation in {"awac": run.IMPLEMENTATIONS["awac"], "numpy": run.PRODUCTS["sgemm numpy"]}.items():
            worker = run.Worker(name, implementation, sys.executable, tmp_path)
            worker.ask(do="load", settings=WORKLOADS["w3"].settings(), arrays=str(tmp_path / "load.npz"))
            answers[name] = worker.ask(do="about")
            worker.close()
    for name, answer in answers.items():
        assert set(answer["isa"].values()) == {"AVX2"}, answer
        limits.check(name, answer)
    assert {"numpy", "OpenBLAS", "oneDNN"} <= set(answers["awac"]["isa"])
    assert dict(os.environ) == before and os.sched_getaffinity(0) == processors


def test_an_implementation_that_is_not_limited_as_asked_is_refused():
    limits = machine.Machine("a processor", "AVX2", 1)
    limits.check("it", {"isa": {"BLAS": "AVX2"}, "threads": 1})
    with pytest.raises(machine.BenchError, match="BLAS should use AVX2 and uses AVX-512"):
        limits.check("it", {"isa": {"BLAS": "AVX-512"}, "threads": 1})
    with pytest.raises(machine.BenchError, match="should use 1 threads and uses 2"):
        limits.check("it", {"isa": {}, "threads": 2})


@pytest.mark.parametrize(
    ("line", "isa"),
    [
        ("MKL_VERBOSE for Intel(R) 64 architecture Intel(R) Advanced Vector Extensions 512 (AVX-512)", "AVX-512"),
        ("MKL_VERBOSE for Intel(R) 64 architecture Intel(R) AVX2 enabled processors", "AVX2"),
        ("MKL_VERBOSE for Intel(R) 64 architecture Intel(R) Architecture processors, Lnx", "AVX2"),
        ("onednn_verbose,info,cpu,isa:Intel AVX10.1/512", "AVX-512"),
        ("onednn_verbose,info,cpu,isa:SSE4.1", "onednn_verbose,info,cpu,isa:SSE4.1"),
    ],
)  # fmt: skip
def test_libraries_name_their_instructions_or_are_on_amd(line, isa):
    assert libraries._family(line) == isa


@pytest.mark.parametrize(
    ("flags", "isa", "widest"),
    [
        ("sse2 avx avx2 avx512f", "native", "AVX-512"),
        ("sse2 avx avx2", "native", "AVX2"),
        ("sse2 avx2", "avx2", "AVX2"),
        ("sse2 avx", "avx2", None),
    ],
)
def test_the_processor_says_what_it_has(tmp_path, flags, isa, widest):
    file = tmp_path / "cpuinfo"
    file.write_text(
        f"processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel\t\t: 7\ncpu family\t: 6\nflags\t\t: {flags}\n\n"
    )
    if widest is None:
        with pytest.raises(machine.BenchError, match="no AVX2"):
            machine._machine(2, isa, file)
        return
    found = machine._machine(2, isa, file)
    assert str(found) == f"Some CPU @ 2 GHz (family 6, model 7), {widest}, 2 threads"


def test_more_threads_than_processors_are_refused(alone, capsys):
    assert cli.main(["bench", "--threads", "4096"]) == 1
    assert "--threads 4096: this process may use" in capsys.readouterr().err


def test_an_unknown_workload_is_refused(alone, capsys):
    with pytest.raises(SystemExit):
        cli.main(["bench", "--workload", "w9"])
    assert "w9" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_chunk_that_is_no_length_of_time_is_refused(alone, capsys, seconds):
    with pytest.raises(SystemExit):
        cli.main(["bench", f"--seconds={seconds}"])
    assert "not a number of seconds" in capsys.readouterr().err


def test_an_implementation_that_computes_something_else_is_left_out():
    same = {"critic_loss": np.float32(2), "actor_loss": np.float32(1), "policy.0.weight": np.ones((3, 3), np.float32)}
    run._compare(dict(same), same, 1e-4)
    for key in same:
        with pytest.raises(run.BenchError, match="differ"):
            run._compare({**same, key: same[key] * 1.001}, same, 1e-4)
    with pytest.raises(run.BenchError):
        run._compare({**same, "actor_loss": np.float32("nan")}, same, 1e-4)


def test_a_process_that_dies_says_why(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("raise SystemExit('no such thing')\n")
    worker = run.Worker("it", run.Implementation(str(script)), sys.executable, tmp_path)
    with pytest.raises(run.BenchError, match="it died .no such thing"):
        worker.ask(do="load")
    worker.close()


def test_the_operations_are_those_of_the_paper_s_step():
    """The default: 14 passes forward or backward of about 2·B·weights each, less the gradients of the inputs."""
    default = WORKLOADS["default"]
    critic, actor = 35 * 256 + 256 * 256 + 256, 27 * 256 + 256 * 256 + 256 * 16
    passes = 2 * 256 * (2 * (5 * critic - 35 * 256) + 4 * actor - 27 * 256)
    assert default.flops() == passes
    assert Counter(default.products())[256, 256, 256] == 2 * (3 + 1 + 1) + (2 + 1 + 1)
    assert WORKLOADS["w3"].critic_sizes == (4, 128, 128, 2)


@pytest.mark.parametrize(
    ("speeds", "heights", "base"),
    [
        ({"awac": 3.0, "torch_eager": 1.5}, {"awac": 2.0, "torch-eager": 1.0}, "torch-eager"),
        ({"awac": 3.0, "jax": 1.5}, {"awac": 1.0, "jax": 0.5}, "awac"),
    ],
)
def test_the_chart_shows_speeds_relative_to_pytorch_or_to_this_package(monkeypatch, speeds, heights, base):
    axes = Figure().subplots()
    monkeypatch.setattr(output, "figure", lambda path: contextlib.nullcontext(axes))
    output.plot(rows(**speeds), "bars.png")
    assert {bars.get_label(): bars[0].get_height() for bars in axes.containers} == heights
    assert axes.get_ylabel() == f"training steps/s, {base} = 1"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["default"]


def test_growth_measures_each_size_by_itself(capsys):
    found = growth.growth(rows=(400_000,), batches=(32,), widths=())
    sizes = [("rows", 400_000, 256), ("batch", 100_000, 32)]
    assert [(row["axis"], row["rows"], row["batch"]) for row in found] == sizes
    assert all(row["ms_per_step"] > 0 and row["peak_mb"] > row["rows_mb"] for row in found)
    assert all(row["peak_mb"] <= 1.2 * row["rows_mb"] + 600 for row in found)  # no second copy of the data
    assert capsys.readouterr().out.count("\n") == 4
