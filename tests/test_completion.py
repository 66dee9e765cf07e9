"""awac completion: the scripts complete in real shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import pytest

from awac import cli
from awac.cli import COMMANDS


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """A folder with `bash` and `zsh/_awac`."""
    pytest.importorskip("shtab")
    folder = tmp_path_factory.mktemp("completion")
    (folder / "zsh").mkdir()
    for shell, path in (("bash", folder / "bash"), ("zsh", folder / "zsh" / "_awac")):
        with open(path, "w", encoding="utf-8") as file:
            subprocess.run([sys.executable, "-m", "awac.cli", "completion", shell], stdout=file, check=True)
    return folder


def bash(scripts, *words):
    """What bash offers for the last word."""
    source = f"""
source {scripts}/bash
COMP_WORDS=(awac {" ".join(f"'{word}'" for word in words)}) COMP_CWORD={len(words)}
function=$(complete -p awac | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function awac '{words[-1]}' '{words[-2] if len(words) > 1 else "awac"}'
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", source], cwd=scripts, capture_output=True, encoding="utf-8", check=True)
    return [word.strip() for word in done.stdout.split("\n") if word.strip()]


def test_bash_completes_commands(scripts):
    assert set(bash(scripts, "")) == set(COMMANDS)
    assert bash(scripts, "tr") == ["train"]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["train", "--actor_h"], ["--actor_hidden"]),
        (["train", "--preset", "pa"], ["paper"]),
        (["train", "--weighting", "so"], ["softmax"]),
        (["train", "--device_target", "As"], ["Ascend"]),
        (["eval", "--video_"], ["--video_steps", "--video_size"]),
        (["train", "--dataset", "ba"], ["bash"]),
        (["train", "--ckpt_path", "z"], ["zsh"]),
        (["completion", "z"], ["zsh"]),
    ],
)
def test_bash_completes_options_values_and_files(scripts, words, offered):
    assert sorted(bash(scripts, *words)) == sorted(offered)


def test_every_option_of_every_command_is_offered(scripts):
    _, commands = cli.full_parser()
    for name, command in commands.items():
        flags = {flag for action in command._actions for flag in action.option_strings if flag.startswith("--")}
        assert flags <= set(bash(scripts, name, "--")), name


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
def test_zsh_completes(scripts):
    import pty

    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(scripts)
        os.execvpe("zsh", ["zsh", "-f", "-i"], {**os.environ, "TERM": "dumb", "PS1": "> "})

    def type_(text, expected):
        os.write(terminal, text.encode())
        seen, end = "", time.monotonic() + 60
        while expected not in seen and time.monotonic() < end:
            seen += os.read(terminal, 4096).decode()
        return seen

    try:
        type_("fpath=($PWD/zsh $fpath); autoload -Uz compinit; compinit -u -D; print rea''dy\n", "ready")
        assert "awac doctor" in type_("awac doc\t", "awac doctor")
        assert "--action_unit" in type_("--action_u\t", "--action_unit")
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def test_without_shtab_it_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert cli.main(["completion", "bash"]) == 1
    assert "pip install 'shtab>=1.7'\n" in capsys.readouterr().err
