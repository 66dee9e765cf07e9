"""One learner over several processes that msrun really starts: arithmetic, resume, signals, a killed worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from distributed_steps import CASES
from tiny import RECORDED, settings

pytestmark = pytest.mark.msrun
ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ["bash", str(ROOT / "scripts" / "run_distribute_train.sh")]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "AWAC_NATIVE": "0", "VIRTUAL_ENV": sys.prefix}
TIMEOUT = 900


def flags(**changes) -> list[str]:
    return ["--task", "ant-expert-v2", "--dataset", str(RECORDED), *settings(log_every=1, **changes)]


def distribute(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [*SCRIPT, *arguments], cwd=cwd, env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=TIMEOUT
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def started(cwd: Path, line: str) -> subprocess.Popen:
    """A run of two workers whose log has come to a line; its temporary files are in a folder with a space."""
    (cwd / "a folder").mkdir()
    environment = {**ENVIRONMENT, "TMPDIR": str(cwd / "a folder")}
    process = subprocess.Popen([*SCRIPT, "2", "100000", *flags()], cwd=cwd, env=environment, stdout=subprocess.DEVNULL)
    log, end = cwd / "awac_train_log.txt", time.monotonic() + TIMEOUT
    while not (log.exists() and line in log.read_text()):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.2)
    return process


def workers(process: subprocess.Popen) -> dict[str, psutil.Process]:
    """By rank; msrun's scheduler has none."""
    found = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        variables = child.environ()
        if "awac.cli" in child.cmdline() and variables.get("MS_ROLE") == "MS_WORKER":
            found[variables["MS_NODE_ID"]] = child
    return found


def test_two_workers_take_the_steps_of_one(tmp_path):
    script = [str(ROOT / "tests" / "distributed_steps.py"), str(tmp_path)]
    launcher = ["-m", "mindspore.parallel.cluster.run", "--worker_num=2", "--local_worker_num=2", "--join=True"]
    launcher += ["--master_port=8431", f"--log_dir={tmp_path / 'logs'}"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # msrun starts the `python` on PATH
    for command in ([sys.executable, *launcher, *script], [sys.executable, *script]):
        subprocess.run(command, env={**ENVIRONMENT, "PATH": path}, check=True, timeout=TIMEOUT, cwd=tmp_path)
    for name in CASES:
        alone, first, second = (dict(np.load(tmp_path / f"{name}_{n}.npz")) for n in ("0of1", "0of2", "1of2"))
        for key, values in alone.items():
            np.testing.assert_array_equal(first[key], second[key], err_msg=f"{name} {key}")
            np.testing.assert_allclose(first[key], values, rtol=1e-5, atol=1e-5, err_msg=f"{name} {key}")


def test_a_run_of_two_workers_resumes_and_equals_one_of_one_process(tmp_path):
    out = distribute("2", "2", *flags(), cwd=tmp_path)
    assert "Learner: graph, 2 workers" in out
    distribute("2", "5", *flags(), "--resume", cwd=tmp_path)
    log = (tmp_path / "awac_train_log.txt").read_text()
    assert [log.count(f"Episode {n}: ") for n in range(6)] == [1] * 6
    command = [sys.executable, "-m", "awac.cli", "train", "--episode", "5", "--ckpt_path", "alone", *flags()]
    subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT)
    for episode in (3, 5):  # the end of the offline phase; two episodes online
        ours, theirs = (np.load(tmp_path / name / f"train_state/state_{episode}.npz") for name in ("ckpt", "alone"))
        assert set(ours) == set(theirs)
        for key in (key for key in ours if key.startswith("parameter/")):
            np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-5, atol=1e-5, err_msg=key)


def test_a_killed_worker_ends_all_with_one_line(tmp_path):
    process = started(tmp_path, "Episode 2: ")
    all_workers = workers(process)
    all_workers["1"].kill()
    assert process.wait(TIMEOUT) == 128 + signal.SIGKILL
    last = (tmp_path / "awac_train_log.txt").read_text().splitlines()[-1]
    assert last.startswith("run_distribute_train.sh: worker 1 ended (killed by signal 9"), last
    assert "--resume" in last and not any(worker.is_running() for worker in all_workers.values())
    distribute("2", "4", *flags(), "--resume", cwd=tmp_path)


def test_a_signal_ends_the_run_at_a_whole_episode(tmp_path):
    process = started(tmp_path, "Episode 2: ")
    all_workers = workers(process)
    process.terminate()
    assert process.wait(TIMEOUT) == 128 + signal.SIGTERM
    last = (tmp_path / "awac_train_log.txt").read_text().splitlines()[-1]
    assert last.startswith("awac: stopped by SIGTERM: checkpoint"), last
    assert not any(worker.is_running() for worker in all_workers.values())


def test_a_batch_that_cannot_be_divided_is_one_line(tmp_path):
    command = [*SCRIPT, "3", "1", *flags()]
    done = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=TIMEOUT
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == ["awac: error: batch_size 8 can't be divided among 3 workers"]
