"""`import awac` changes nothing in a process and is quick; MindSpore's import beside other packages."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import time

import pytest

import awac


def run(source):
    """Standard output of a fresh interpreter; its standard error must be empty."""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, encoding="utf-8", timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_the_import_changes_nothing_and_loads_nothing_heavy():
    run(
        """
import logging, os, random, signal, sys, time, warnings
def state():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    loggers = list(logging.root.manager.loggerDict), list(logging.root.handlers)
    return (dict(os.environ), loggers, list(warnings.filters), time.sleep, handlers, random.getstate(), list(sys.path),
            sys.excepthook, sys.stdout, os.getcwd())
before = state()
import awac
assert before == state()
heavy = {"numpy", "mindspore", "gymnasium", "gym", "gym_notices", "h5py", "yaml"} & set(sys.modules)
assert not heavy, heavy
"""
    )


@pytest.mark.parametrize("arguments", [["-c", "import awac"], ["-m", "awac.cli", "--help"]])
def test_import_and_help_are_quick(arguments):
    def seconds():
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, timeout=60)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.3


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_nothing_heavy(option):
    out = run(
        f"""
import sys
from awac import cli
try:
    cli.main([{option!r}])
except SystemExit as end:
    assert not end.code
heavy = {{"numpy", "mindspore", "gymnasium", "gym", "h5py"}} & set(sys.modules)
assert not heavy, heavy
"""
    )
    assert "awac" in out


@pytest.mark.parametrize("name", awac.__all__)
def test_every_public_name_loads_and_is_listed(name):
    assert getattr(awac, name) is not None and name in dir(awac)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        awac.nothing  # noqa: B018


@pytest.mark.parametrize("first", ["protobuf", "awac"])
def test_mindspore_and_protobuf_work_in_either_order(first):
    protobuf = "from google.protobuf import descriptor_pb2, timestamp_pb2"
    imports = [protobuf, "import awac.training.session"]
    out = run(
        "\n".join(imports if first == "protobuf" else imports[::-1])
        + """
import os, sys
from mindspore.train.checkpoint_pb2 import Checkpoint
assert sys.modules["google.protobuf.timestamp_pb2"] is timestamp_pb2
print(timestamp_pb2.Timestamp(seconds=3).SerializeToString(), len(Checkpoint().SerializeToString()))
"""
    )
    assert out.split() == [repr(b"\x08\x03"), "0"]


def test_importing_mindspore_rl_neither_waits_nor_patches_the_clock():
    source = """
import threading, time
real, seen, done = time.sleep, set(), threading.Event()
def watch():
    while not done.is_set():
        seen.add(time.sleep)
        real(0.001)
watcher = threading.Thread(target=watch)
watcher.start()
calls = []
time.sleep = seen_here = lambda seconds: calls.append(seconds)
import awac.algorithm.mindrl, mindspore_rl
done.set()
watcher.join()
assert not calls and seen <= {real, seen_here}, (calls, seen)
assert mindspore_rl.__version__
"""
    assert run(source) == ""


def test_an_operator_that_mindspore_lacks_gets_a_stand_in_while_mindspore_rl_is_imported():
    source = """
from awac.algorithm.mindrl import Learner
from awac.algorithm.removed_ops import stand_ins
import mindspore
from mindspore.ops.operations import _rl_inner_ops as operators
with stand_ins():
    from mindspore.ops.operations._rl_inner_ops import NotThere
    from mindspore.ops.operations import _tensor_array
try:
    NotThere(3)
except NotImplementedError as error:
    print(error)
print(hasattr(operators, "NotThere"))
"""
    line, there = run(source).splitlines()
    assert line == f"MindSpore {importlib.metadata.version('mindspore')} has no operator NotThere; 2.7.0 has it"
    assert there == "False"


def test_without_mindspore_rl_one_line_says_how_to_install_it(tmp_path):
    source = f"""
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "mindspore_rl" else find(name, package)
from awac.cli import main
sys.stderr = sys.stdout
assert main(["eval", "--ckpt_path", {str(tmp_path)!r}]) == 1
"""
    assert run(source) == ("awac: error: mindspore-rl is not installed: pip install --no-deps mindspore-rl==0.7.0\n")
