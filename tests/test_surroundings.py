"""Users, locales, folders and signals as found in containers and on other machines."""

from __future__ import annotations

import ast
import errno
import importlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import RECORDED, settings

import awac
from awac import cli
from awac.errors import EXTRAS, HomeError
from awac.runs.files import cache_folder

SOURCES = sorted(Path(awac.__file__).parent.rglob("*.py"))


def environment(**changes):
    """Of a process that runs in another folder: a relative PYTHONPATH of the tests would lead nowhere."""
    path = os.pathsep.join(filter(None, map(os.path.abspath, sys.path)))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **changes}


@pytest.fixture
def no_home(monkeypatch):
    """HOME is not set and the user has no passwd entry."""
    monkeypatch.delenv("HOME", raising=False)
    for name in ("AWAC_CACHE_DIR", "XDG_CACHE_HOME", "D4RL_DATASET_DIR"):
        monkeypatch.delenv(name, raising=False)

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", unknown)


def test_what_an_error_says_to_install_is_the_extra():
    """Not `awac[EXTRA]`: awac may run from its source, and the name is free on PyPI."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    for name, packages in EXTRAS.items():
        wanted = re.search(rf"^{name} = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)
        assert wanted and packages.replace("'", "").split() == re.findall(r'"([^"]+)"', wanted[1]), name


@pytest.mark.parametrize("command", ["eval", "export", "report", "train"])
def test_a_folder_that_one_may_not_enter_is_one_line(command, tmp_path, monkeypatch, capfd):
    """As of another user; root, who runs these tests in a container, may enter all."""

    def refusing(real):
        def method(path, *args, **kwargs):
            if str(path).startswith("/home/other"):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real(path, *args, **kwargs)

        return method

    for name in ("stat", "is_dir", "exists", "is_file", "open"):
        monkeypatch.setattr(Path, name, refusing(getattr(Path, name)))
    options = {"report": [], "export": ["--format", "npz", "--ckpt_path"]}.get(command, ["--ckpt_path"])
    assert cli.main([command, *options, "/home/other/run"]) == 1
    err = capfd.readouterr().err
    assert err.startswith("awac: error: /home/other/run") and "Permission denied" in err and err.count("\n") == 1


def test_a_path_that_is_too_long_is_one_line(tmp_path, capfd):
    assert cli.main(["eval", "--ckpt_path", str(tmp_path / ("x" * 300))]) == 1
    err = capfd.readouterr().err
    assert err.startswith("awac: error: ") and "File name too long" in err and err.count("\n") == 1


class TestNoHome:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["doctor", "hopper-medium-v2"],
            ["train", "--task", "hopper-medium-v2", "--ckpt_path", "run", *settings()],
            ["train", "--task", "hopper-medium-v2", "--download", "--ckpt_path", "run", *settings()],
            ["doctor", "~/data.hdf5"],
            ["doctor", "minari:mujoco/ant/expert-v0"],
        ],
    )
    def test_what_needs_the_home_folder_says_so_in_one_line(self, no_home, tmp_path, monkeypatch, capfd, arguments):
        monkeypatch.chdir(tmp_path)
        assert cli.main(arguments) == 1
        err = capfd.readouterr().err
        assert err.startswith("awac: error: the home folder is not known") and err.count("\n") == 1

    def test_the_cache_variable_is_enough(self, no_home, tmp_path, monkeypatch):
        with pytest.raises(HomeError, match="AWAC_CACHE_DIR"):
            cache_folder()
        monkeypatch.setenv("AWAC_CACHE_DIR", str(tmp_path))
        assert cache_folder() == tmp_path

    def test_a_run_on_a_file_needs_none(self, no_home, tmp_path, monkeypatch, capfd):
        monkeypatch.chdir(tmp_path)
        run = ["--dataset", str(RECORDED), "--episode", "1", "--ckpt_path", "run", *settings()]
        assert cli.main(["train", *run]) == 0


def test_the_home_sign_is_expanded_in_every_path(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["eval", "--ckpt_path=~/missing"],
        ["export", "--ckpt_path", "~/missing", "--out", "~/out"],
        ["report", "~/missing"],
        ["report", "name=~/missing"],
        ["convert", "~/missing", "~/out.npz"],
        ["train", "--dataset", "~/missing", "--ckpt_path", "~/run"],
        ["train", "--env_yaml", "~/missing"],
        ["train", "--algo_yaml=~/missing"],
        ["train", "--init_from", "~/missing", "--ckpt_path", "~/run"],
    ):
        assert cli.main(arguments) == 1
        err = capfd.readouterr().err
        assert f"{tmp_path}/missing" in err, (arguments, err)


class TestLocale:
    @pytest.mark.parametrize("encoding", ["ascii", "gbk", "iso8859-5", "gb18030"])
    def test_a_log_outlives_every_encoding_of_the_stream(self, tmp_path, encoding):
        source = (
            "import sys; from awac import cli; cli._parse = lambda argv: type('A', (), dict(interrupted='', "
            "run=staticmethod(lambda args: print('1 ± 2, λ, \\u9a6c, \\udc80'))))(); sys.exit(cli.main())"
        )
        done = subprocess.run(
            [sys.executable, "-c", source], capture_output=True, env=environment(PYTHONIOENCODING=encoding)
        )
        assert done.returncode == 0 and done.stdout.startswith(b"1 ") and not done.stderr

    @pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
    def test_every_text_file_is_opened_with_its_encoding(self, path):
        for call in (
            node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
        ):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            options = {word.arg for word in call.keywords}
            where = f"{path}:{call.lineno}"
            if name in ("read_text", "write_text") and not ast.unparse(call.func).startswith("files."):
                assert "encoding" in options, where
            if isinstance(call.func, ast.Name) and name == "open":
                assert "encoding" in options or "b" in ast.unparse(call.args[1]), where
            assert "text" not in options or name not in ("run", "Popen", "check_output"), where


def test_a_module_in_the_working_folder_is_found(tmp_path):
    (tmp_path / "my_envs.py").write_text("print('my_envs is imported')\n", encoding="utf-8")
    code = "import sys; sys.path.remove(''); from awac import cli; sys.exit(cli.main())"
    command = [sys.executable, "-c", code, "train", "--task", "my_envs:None-v0", "--dataset", str(RECORDED)]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, encoding="utf-8")
    assert "my_envs is imported" in done.stdout and done.returncode == 1


class TestInterrupt:
    @pytest.mark.parametrize(
        "command, says",
        [
            (["eval", "--ckpt_path", "x"], "the evaluation has no result; the checkpoint is as it was"),
            (["doctor", "x"], "the check is incomplete; the data are as they were"),
            (["report", "x"], "no report was written"),
            (["collect", "--out", "x"], "nothing was recorded"),
            (["train"], "the last checkpoint, if there is one, is kept"),
        ],
    )
    def test_the_line_is_true_for_the_command(self, monkeypatch, capfd, command, says):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(importlib.import_module(f"awac.cli.{command[0]}"), "run", interrupt)
        assert cli.main(command) == 130
        err = capfd.readouterr().err
        assert err.startswith("awac: interrupted; ") and says in err and err.count("\n") == 1

    def test_ctrl_c_while_a_library_loads_is_one_line(self, tmp_path):
        (tmp_path / "h5py.py").write_text(
            "print('loading', flush=True)\nimport time\ntime.sleep(60)\n", encoding="utf-8"
        )
        variables = environment()
        variables["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{variables['PYTHONPATH']}"
        command = [sys.executable, "-m", "awac.cli", "doctor", "x.hdf5"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
        with subprocess.Popen(command, cwd=tmp_path, env=variables, **pipes) as process:
            assert process.stdout.readline() == "loading\n"
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            err = process.communicate(timeout=30)[1]
        assert process.returncode == 130 and err.count("\n") == 1 and "the check is incomplete" in err
