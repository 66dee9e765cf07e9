"""The shell scripts: arguments, exit codes, logs, signals. `awac` itself is replaced by a stub, so this is cheap."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TRAIN, EVAL = "run_standalone_train.sh", "run_standalone_eval.sh"

# Stands in for the active environment's interpreter: answers set-up's questions, and plays `python -u -m awac.cli ...`.
STUB = """#!/bin/sh
case "$*" in
"-u -m awac.cli "*)
    echo "called with: $*"
    echo "on stderr" >&2
    {body}
    ;;
*) exec "{python}" "$@" ;;
esac
"""


@pytest.fixture
def call(tmp_path):
    """Returns call(script, *arguments, body=...), which runs a script in tmp_path/work with the stub interpreter."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "env" / "bin").mkdir(parents=True)
    stub = tmp_path / "env" / "bin" / "python"

    def start(script, *arguments, body="exit 0", scripts=ROOT / "scripts", variables=None, **kwargs):
        stub.write_text(STUB.format(body=body, python=sys.executable))
        stub.chmod(0o755)
        environment = {**os.environ, "VIRTUAL_ENV": str(tmp_path / "env"), **(variables or {})}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(
            ["bash", str(scripts / script), *arguments], cwd=work, env=environment, **pipes, **kwargs
        )

    def run(script, *arguments, **kwargs):
        process = start(script, *arguments, **kwargs)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    run.start, run.work = start, work
    return run


@pytest.mark.parametrize("script", [TRAIN, EVAL, "run_tests.sh", "setup.sh"])
def test_help_goes_to_stdout(call, script):
    result = call(script, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: bash ")
    assert not any(call.work.iterdir())


@pytest.mark.parametrize("arguments", [["5"], ["--times", "0"], ["--faults"], ["--faults", "SIGKILL", "fire"]])
def test_fault_injection_refuses_wrong_arguments(call, arguments):
    result = call("fault_injection.sh", *arguments)
    assert (result.returncode, result.stdout) == (2, "") and "usage: fault_injection.sh" in result.stderr


@pytest.mark.parametrize(
    "script, arguments",
    [
        (TRAIN, ["0"]),
        (TRAIN, ["-5"]),
        (TRAIN, ["ten"]),
        (TRAIN, ["1.5"]),
        (TRAIN, [""]),
        (TRAIN, ["10", "TPU"]),
        (TRAIN, ["10", "CPU", "more"]),
        (EVAL, []),
        (EVAL, [""]),
        (EVAL, ["--seed", "1"]),
        (EVAL, ["ckpt", "cpu"]),
        (EVAL, ["ckpt", "CPU", "more"]),
        ("setup.sh", ["now"]),
    ],
)
def test_wrong_arguments_are_answered_with_usage(call, script, arguments):
    result = call(script, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Usage: bash " in result.stderr
    assert not any(call.work.iterdir())


@pytest.mark.parametrize(
    "arguments, passed",
    [
        ([], "--ckpt_path ./ckpt --episode 500 --device_target CPU"),
        (["40"], "--ckpt_path ./ckpt --episode 40 --device_target CPU"),
        (["40", "Auto", "--seed", "1"], "--ckpt_path ./ckpt --episode 40 --device_target Auto --seed 1"),
        (["--preset", "paper"], "--ckpt_path ./ckpt --episode 500 --device_target CPU --preset paper"),
        (["--resume"], "--ckpt_path ./ckpt --device_target CPU --resume"),
        (["40", "--resume"], "--ckpt_path ./ckpt --episode 40 --device_target CPU --resume"),
    ],
)
def test_training_command(call, arguments, passed):
    result = call(TRAIN, *arguments)
    assert result.returncode == 0
    assert result.stdout.splitlines()[0] == f"called with: -u -m awac.cli train {passed}"


def test_evaluation_command(call):
    result = call(EVAL, "my ckpt", "GPU", "--episode", "40")
    assert result.returncode == 0
    passed = "--ckpt_path my ckpt --device_target GPU --episode 40"
    assert result.stdout.splitlines()[0] == f"called with: -u -m awac.cli eval {passed}"


@pytest.mark.parametrize(
    "script, arguments, log", [(TRAIN, ["1"], "awac_train_log.txt"), (EVAL, ["ckpt"], "awac_eval_log.txt")]
)
def test_log_holds_what_the_terminal_shows_and_the_exit_code_is_passed_on(call, script, arguments, log):
    result = call(script, *arguments, body="exit 7")
    assert result.returncode == 7
    text = (call.work / log).read_text()
    assert text == result.stdout and "on stderr\n" in text and "setup:" not in text
    assert [path.name for path in call.work.iterdir()] == [log]


def test_the_examples_scripts_work_in_copies_without_links(call, tmp_path):
    """As of `cp -rL`, `scp -r` or an archive; the sdist takes no linked folder at all."""
    for name in ("scripts", "example/awac"):
        shutil.copytree(ROOT / name, tmp_path / "copy" / name)
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / "copy")
    scripts = tmp_path / "copy" / "example" / "awac" / "scripts"
    assert {path.name for path in scripts.iterdir()} == {TRAIN, EVAL, "run_distribute_train.sh"}
    result = call(TRAIN, "500", "--seed", "1", scripts=scripts)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("called with: -u -m awac.cli train --ckpt_path ./ckpt --episode 500 ")
    assert (call.work / "awac_train_log.txt").read_text() == result.stdout
    assert call(EVAL, "./ckpt", scripts=scripts, body="exit 7").returncode == 7
    assert (call.work / "awac_eval_log.txt").exists()
    assert "Usage: bash run_distribute_train.sh" in call("run_distribute_train.sh", scripts=scripts).stderr


def test_the_repository_holds_no_links_and_no_crlf_in_scripts():
    for path in (*(ROOT / "scripts").rglob("*"), *(ROOT / "example").rglob("*")):
        assert not path.is_symlink(), path
        assert path.suffix != ".sh" or b"\r" not in path.read_bytes(), path
    assert "* text=auto eol=lf" in (ROOT / ".gitattributes").read_text().splitlines()


def test_resume_continues_the_log_and_a_fresh_run_keeps_the_earlier_one(call):
    log = call.work / "awac_train_log.txt"
    for arguments, body in ((["1"], "echo first"), (["2", "--resume"], "echo second"), (["3"], "echo third")):
        assert call(TRAIN, *arguments, body=body).returncode == 0
    assert "third" in log.read_text() and "first" not in log.read_text()
    earlier = log.with_name(log.name + ".1").read_text()
    assert earlier.index("first") < earlier.index("second")


def test_refused_run_leaves_the_earlier_log(call):
    log = call.work / "awac_train_log.txt"
    call(TRAIN, "1", body="echo Episode 0: fine")
    before = log.read_text()
    result = call(TRAIN, "1", body="echo 'awac: error: ./ckpt is not empty'; exit 1")
    assert result.returncode == 1 and "not empty" in result.stdout
    assert log.read_text() == before
    assert "not empty" in log.with_name(log.name + ".failed").read_text()
    assert not log.with_name(log.name + ".1").exists()


@pytest.mark.parametrize(
    "script, arguments, log", [(TRAIN, ["3"], "awac_train_log.txt"), (EVAL, ["x"], "awac_eval_log.txt")]
)
def test_two_runs_in_one_folder_do_not_mix_their_logs(call, script, arguments, log):
    first = call.start(script, *arguments, body="touch began; while [ ! -e go ]; do sleep 0.05; done; echo first")
    while not (call.work / "began").exists():
        assert first.poll() is None, first.communicate()
        time.sleep(0.02)
    second = call(script, *arguments, "--seed", "2", body="echo second")
    (call.work / "go").touch()
    out, _ = first.communicate(timeout=60)
    assert second.returncode == 1 and second.stderr.count("\n") == 1
    assert f"{log} is being written by another run in this folder" in second.stderr
    assert "second" not in (call.work / log).read_text() and (call.work / log).read_text() == out
    assert call(script, *arguments, body="echo third").returncode == 0  # free again
    assert not (call.work / f"{log}.failed").exists()


@pytest.fixture
def command_first(tmp_path):
    """Returns command_first(name, source), PATH with a shell script of that name before all others."""

    def add(name, source):
        (tmp_path / "first").mkdir(exist_ok=True)
        (tmp_path / "first" / name).write_text(f"#!/bin/sh\n{source}\n")
        (tmp_path / "first" / name).chmod(0o755)
        return {"PATH": f"{tmp_path / 'first'}{os.pathsep}{os.environ['PATH']}"}

    return add


@pytest.mark.parametrize("script, arguments", [(TRAIN, ["3"]), (EVAL, ["x"])])
def test_a_file_system_without_locks_is_said_and_the_run_goes_on(call, command_first, script, arguments):
    result = call(script, *arguments, variables=command_first("flock", "echo 'flock: 8: no locks' >&2; exit 71"))
    assert result.returncode == 0 and "called with" in result.stdout
    assert result.stderr.count("\n") == 1 and "this file system has no locks" in result.stderr


def test_a_log_that_cannot_be_written_is_one_line(call):
    (call.work / "awac_train_log.txt").mkdir()
    result = call(TRAIN, "1")
    assert (result.returncode, result.stdout) == (1, "") and result.stderr.count("\n") == 1
    assert "awac_train_log.txt can't be written here" in result.stderr


@pytest.mark.parametrize("name", ["mkfifo", "mktemp"])
@pytest.mark.parametrize(
    "script, arguments, log", [(TRAIN, ["1"], "awac_train_log.txt"), (EVAL, ["ckpt"], "awac_eval_log.txt")]
)
def test_a_pipe_that_cannot_be_made_leaves_the_earlier_log(call, command_first, tmp_path, name, script, arguments, log):
    (call.work / log).write_text("earlier\n")
    (tmp_path / "free").mkdir()
    variables = {**command_first(name, "exit 1"), "TMPDIR": str(tmp_path / "free")}
    result = call(script, *arguments, variables=variables)
    assert (result.returncode, result.stdout) == (1, "") and result.stderr.count("\n") == 1
    assert "no pipe can be made" in result.stderr and "set TMPDIR" in result.stderr
    assert [path.name for path in call.work.iterdir()] == [log] and (call.work / log).read_text() == "earlier\n"
    assert not list((tmp_path / "free").iterdir())


def test_the_bench_needs_a_newer_python_in_one_line(call, tmp_path):
    shutil.copytree(ROOT / "scripts", tmp_path / "copy" / "scripts")
    result = call("bench_setup.sh", scripts=tmp_path / "copy" / "scripts", variables={"PYTHON": "/nowhere/python3.11"})
    assert (result.returncode, result.stdout) == (1, "") and result.stderr.count("\n") == 1
    assert "needs Python 3.11 or newer; set PYTHON" in result.stderr


def test_a_temporary_folder_whose_programs_do_not_run_is_one_line(call, command_first):
    """As on a file system that is mounted noexec."""
    result = call("run_distribute_train.sh", "2", "1", variables=command_first("chmod", ":"))
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.count("\n") == 1 and "set TMPDIR to another folder" in result.stdout


def test_a_worker_that_ends_before_it_is_known_is_one_line(call):
    body = """;;
*mindspore.parallel.cluster.run*)
    for word; do case "$word" in --log_dir=*) echo "its last words" >"${word#*=}/worker_1.log" ;; esac; done
    echo "Worker process 999999 exit with exception. Error code: 3"
    exit 1"""
    result = call("run_distribute_train.sh", "2", "1", body=body)
    assert (result.returncode, result.stderr) == (3, "")
    assert result.stdout.startswith("run_distribute_train.sh: worker ended (exit code 3: its last words); ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_training_and_its_last_line_is_logged(call, number):
    body = f"""exec "{sys.executable}" -c '
import signal, sys, time
def stop(number, frame):
    print("got", number, flush=True)
    time.sleep(0.3)
    print("last line", flush=True)
    sys.exit(128 + number)
signal.signal(signal.{number.name}, stop)
print("started", flush=True)
time.sleep(30)
'"""
    process = call.start(TRAIN, "1", body=body, start_new_session=True)
    log = call.work / "awac_train_log.txt"
    deadline = time.monotonic() + 30
    while not (log.exists() and "started" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, number)  # as a terminal's Ctrl-C, or `timeout`
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert log.read_text().splitlines()[-2:] == [f"got {int(number)}", "last line"]


def test_an_environment_with_the_pins_is_used_as_it_is(call, tmp_path):
    result = call("setup.sh")
    assert (result.returncode, result.stdout.strip()) == (0, str(tmp_path / "env" / "bin" / "python"))
    assert result.stderr == ""


# Stands in for the Python that .venv is made with and for .venv's own. pip writes its settings to pip.log and fails if
# pip.fails is there.
BASE = """#!/bin/sh
[ -z "$PYTHONHOME" ] || exit 1
case "$*" in
*"-m venv --without-pip "*) echo "placed" >>"{root}/pip.log" ;;
*"-m venv "*) for folder; do :; done; mkdir -p "$folder/bin"; cp "$0" "$folder/bin/python" ;;
*"-m pip "*)
    echo "pip $PIP_USER $PIP_CONSTRAINT $PIP_ONLY_BINARY $PIP_INDEX_URL" >>"{root}/pip.log"
    [ ! -e "{root}/pip.fails" ]
    ;;
esac
"""


class TestSetUp:
    """In a copy of the repository, without an active environment."""

    @pytest.fixture
    def copy(self, tmp_path):
        if shutil.which("bash") is None:
            pytest.skip("needs bash")
        (tmp_path / "copy" / "scripts").mkdir(parents=True)
        for name in ("requirements.lock", "pyproject.toml", "scripts/setup.sh"):
            shutil.copy(ROOT / name, tmp_path / "copy" / name)
        base = tmp_path / "python3"
        base.write_text(BASE.format(root=tmp_path))
        base.chmod(0o755)
        return tmp_path / "copy"

    def run(self, copy, **variables):
        environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
        return subprocess.run(
            ["bash", str(copy / "scripts" / "setup.sh")],
            env={**environment, "PYTHON": str(copy.parent / "python3"), **variables},
            capture_output=True,
            text=True,
            timeout=60,
        )

    @pytest.fixture
    def ready(self, copy):
        """The copy with its .venv, in which somebody has installed something."""
        assert self.run(copy).returncode == 0
        (copy / ".venv" / "mine").touch()
        return copy

    def outdate(self, copy):
        with open(copy / "requirements.lock", "a") as lock:
            lock.write("# of a later version\n")

    def test_wrong_python_gets_one_line(self, copy, tmp_path):
        old = tmp_path / "python3.9"
        old.write_text("#!/bin/sh\nexit 1\n")
        old.chmod(0o755)
        result = self.run(copy, PYTHON=str(old))
        assert (result.returncode, result.stdout) == (1, "")
        assert len(result.stderr.splitlines()) == 1 and "Python 3.10 to 3.12" in result.stderr
        assert not (copy / ".venv").exists()

    def test_a_second_run_installs_nothing(self, ready, tmp_path):
        (tmp_path / "pip.log").unlink()
        result = self.run(ready)
        assert (result.returncode, result.stdout) == (0, f"{ready / '.venv' / 'bin' / 'python'}\n")
        assert result.stderr == "" and not (tmp_path / "pip.log").exists()

    def test_pip_settings_of_the_user_do_not_keep_the_lock_from_being_installed(self, copy, tmp_path):
        unfit = {"PIP_USER": "1", "PIP_CONSTRAINT": "/x", "PIP_ONLY_BINARY": ":all:", "PYTHONHOME": "/x"}
        assert self.run(copy, **unfit, PIP_INDEX_URL="https://mirror.example/").returncode == 0
        lines = set((tmp_path / "pip.log").read_text().splitlines())
        assert lines == {"pip 0 /dev/null :none: https://mirror.example/"}

    def test_a_first_build_that_failed_starts_over(self, copy, tmp_path):
        (tmp_path / "pip.fails").touch()
        result = self.run(copy)
        assert result.returncode == 1 and "the next run starts over" in result.stderr
        (copy / ".venv" / "half").touch()
        (tmp_path / "pip.fails").unlink()
        assert self.run(copy).returncode == 0
        assert not (copy / ".venv" / "half").exists()

    def test_an_update_that_failed_keeps_the_environment_and_is_tried_again(self, ready, tmp_path):
        self.outdate(ready)
        (tmp_path / "pip.fails").touch()
        for _ in range(2):
            result = self.run(ready)
            assert result.returncode == 1 and "the next run tries again" in result.stderr
            assert (ready / ".venv" / "mine").exists()
        (tmp_path / "pip.fails").unlink()
        assert self.run(ready).returncode == 0
        assert (ready / ".venv" / "mine").exists() and self.run(ready).stderr == ""
        assert "placed" in (tmp_path / "pip.log").read_text()

    @pytest.mark.parametrize("outdated", [False, True])
    def test_an_environment_that_does_not_run_here_is_not_deleted(self, ready, outdated):
        """Other machines may share the folder and have its Python."""
        if outdated:
            self.outdate(ready)
        python = ready / ".venv" / "bin" / "python"
        python.unlink()
        python.symlink_to("/nowhere/python3.11")
        result = self.run(ready)
        assert (result.returncode, result.stdout) == (1, "") and result.stderr.count("\n") == 1
        assert ".venv does not run on this machine" in result.stderr and str(python) in result.stderr
        assert (ready / ".venv" / "mine").exists()

    def test_a_folder_that_cannot_be_written_to_is_one_line(self, copy):
        (copy / ".venv.lock").mkdir()  # root, who runs these tests in a container, may write anywhere
        result = self.run(copy)
        assert (result.returncode, result.stdout) == (1, "") and result.stderr.count("\n") == 1
        assert f"{copy} can't be written to" in result.stderr
        assert not (copy / ".venv").exists()
