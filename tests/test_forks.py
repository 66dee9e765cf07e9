"""After MindSpore has computed something, a forked process gets an error instead of waiting forever."""

import subprocess
import sys

import pytest

SCRIPT = """
import multiprocessing, sys
import numpy as np
from awac import AWAC
import mindspore as ms
from mindspore import nn
from awac.training.session import evaluate

def agent():
    return AWAC(nn.Dense(3, 2), nn.Dense(3, 2), nn.Dense(3, 2))

def act(shared=None):
    return (shared or agent()).get_action(np.zeros((1, 3))).shape

made = agent() if sys.argv[1] == "computed" else None
if made:
    act(made)

def job(kind):
    try:
        return str(act(made) if kind == "shared" else act() if kind == "new" else evaluate("nowhere"))
    except Exception as error:
        return str(error)

with multiprocessing.get_context("fork").Pool(1) as pool:
    print(pool.map_async(job, [sys.argv[2]]).get(timeout=30))
"""


@pytest.mark.parametrize(
    ("before", "then", "words"),
    [
        ("nothing", "new", "(1, 1)"),
        ("computed", "new", "forked from one in which MindSpore had run"),
        ("computed", "shared", "forked from one in which MindSpore had run"),
        ("computed", "command", "forked from one in which MindSpore had run"),
    ],
)
def test_a_fork_after_mindspore_has_run_is_refused(before, then, words):
    done = subprocess.run([sys.executable, "-c", SCRIPT, before, then], capture_output=True, text=True, timeout=60)
    assert words in done.stdout and done.stdout.count("\n") == 1, done.stderr
