"""Bars on a terminal with complete lines above them, and no bars in a file."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios

import pytest
from tiny import RECORDED, settings

TRAIN = ["train", "--dataset", str(RECORDED), "--ckpt_path", "run", "--episode", "5", *settings(eval_episodes=2)]
LINES = [
    r"Episode 2: critic_loss is [-\d.]+, actor_loss is [-\d.]+, mean_std is [\d.]+, per_step_time [\d.]+ ms",
    "Evaluate for episode 2 total rewards is [-0-9.]+",
    "Switch to online training after 60 offline steps",
    "training end",
]


def on_a_terminal(command, cwd):
    """(exit code, what a terminal of 100 columns got)."""
    outer, inner = os.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=inner, stderr=inner) as run:
        os.close(inner)
        content = b""
        while True:
            try:
                block = os.read(outer, 65536)
            except OSError:  # Linux's error at the end
                break
            content += block
    os.close(outer)
    return run.returncode, content.decode()


def awac(*arguments):
    return [sys.executable, "-m", "awac.cli", *arguments]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """The folder of a run on a terminal, and what was seen."""
    folder = tmp_path_factory.mktemp("terminal")
    code, text = on_a_terminal(awac(*TRAIN), folder)
    assert code == 0, text
    return folder, text


def test_training_and_evaluation_have_bars(seen):
    _, text = seen
    assert "training:   0%" in text and re.search(r"training: 100%.*5/5 .*online, critic_loss", text)
    assert "evaluating:  50%" in text


def test_lines_are_whole_and_above_the_bars(seen):
    _, text = seen
    for line in LINES:
        assert re.search(rf"(^|[\r\n]){line}\r\n", text), f"{line} is torn"


def test_evaluation_and_recording_have_bars_of_their_own(seen):
    folder, _ = seen
    code, text = on_a_terminal(awac("eval", "--ckpt_path", "run"), folder)
    assert code == 0 and "evaluating:  50%" in text
    assert re.search(r"[\r\n]Evaluate result is [\d.]+, checkpoint file in ./run/\r\n", text)
    record = awac("collect", "--task", "CartPole-v1", "--policy", "random", "--rows", "200", "--out", "rows.hdf5")
    code, text = on_a_terminal(record, folder)
    assert code == 0 and re.search(r"collecting CartPole-v1 \(random\): 100%", text)


def test_a_file_gets_plain_lines(tmp_path):
    with open(tmp_path / "log.txt", "wb") as log:
        subprocess.run(awac(*TRAIN), cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
    text = (tmp_path / "log.txt").read_text()
    assert "\r" not in text and "\x1b" not in text and "%|" not in text
    for line in LINES:
        assert re.search(rf"(?m)^{line}$", text)


def test_a_log_file_is_plain_though_errors_go_to_a_terminal(tmp_path):
    command = f"{' '.join(awac(*TRAIN))} >log.txt"
    code, seen = on_a_terminal(["bash", "-c", command], tmp_path)
    text = (tmp_path / "log.txt").read_text()
    assert code == 0 and "training: 100%" in seen and "Episode" not in seen
    assert "\r" not in text and re.search(rf"(?m)^{LINES[0]}$", text)
