"""Recording in several processes: in a Pool's worker, stopped by Ctrl-C, and without its parent."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import awac
from awac.data.behaviour import shipped_policy
from awac.data.collect import collect
from awac.data.recording_processes import Recorder, episodes_of
from awac.envs.tasks import Task

TASK = "ant-medium-v2"


def few_rows(_):
    return collect(TASK, shipped_policy("ant_medium"), rows=20, workers=2)["rewards"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_of_a_pool_records_itself(method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        rewards = pool.map_async(few_rows, [0]).get(timeout=60)
    np.testing.assert_array_equal(rewards[0], few_rows(0))


def children(pid: int) -> list[int]:
    """Living processes started by `pid`."""
    return [int(part) for part in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds: float):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.fixture
def recording(tmp_path):
    """A recording by two processes that would take minutes, once both are working; killed at the end."""
    command = ["collect", "--task", TASK, "--policy", "medium", "--rows", "2000000", "--out", "d.hdf5"]
    script = (
        "import sys\nfrom awac import cli\nfrom awac.data import collect\n"
        f"collect.worker_count = lambda rows: 2\nsys.exit(cli.main({command}))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(awac.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    if not Path(f"/proc/{process.pid}/task/{process.pid}/children").exists():
        process.kill()
        pytest.skip("this kernel does not list a process's children")
    assert wait_for(lambda: len(children(process.pid)) == 2, 30), process.communicate()
    yield process, children(process.pid)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("to_all", [True, False])
def test_ctrl_c_leaves_no_process_and_no_file(recording, tmp_path, to_all):
    process, workers = recording
    os.killpg(process.pid, signal.SIGINT) if to_all else process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "awac: interrupted; d.hdf5 was not finished, and nothing of it was written\n" and out == ""
    assert wait_for(lambda: not any(map(alive, workers)), 5)
    assert list(tmp_path.iterdir()) == []


def test_workers_end_with_their_parent(recording):
    process, workers = recording
    process.kill()
    process.wait()
    assert wait_for(lambda: not any(map(alive, workers)), 5)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_worker_whose_parent_ends_in_a_message_ends_silently(share):
    message = pickle.dumps(Recorder(TASK, shipped_policy("ant_medium"), 0, 0, False))
    worker = subprocess.run(
        [sys.executable, "-c", "from awac.data.recording_processes import serve; serve()"],
        input=message[: int(share * len(message))],
        env={**os.environ, "PYTHONPATH": str(Path(awac.__file__).parents[1])},
        capture_output=True,
        timeout=30,
    )
    assert (worker.returncode, worker.stdout, worker.stderr) == (0, b"", b"")


def test_an_environment_that_cannot_be_sent_to_a_process_is_recorded_in_this_one(capsys):
    recorder = Recorder(Task.parse(TASK), shipped_policy("ant_medium"), 0, 0, True)
    recorder.unsendable = lambda: None
    with contextlib.closing(episodes_of(recorder, 2)) as stream:
        assert len(next(stream)["rewards"]) > 0
    recorder.close()
    assert "Recording in one process: in another, the environment can't be made" in capsys.readouterr().out


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("no")


def test_whatever_sending_raises_there_is_an_end(capsys):
    recorder = Recorder(Task.parse(TASK), shipped_policy("ant_medium"), 0, 0, True)
    recorder.unsendable = Unpicklable()
    with contextlib.closing(episodes_of(recorder, 2)) as stream:
        assert len(next(stream)["rewards"]) > 0
    recorder.close()
    assert "it can't be sent there (no)" in capsys.readouterr().out
