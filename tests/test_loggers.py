"""Loggers: one class in one module; the figures are those of the CSV files."""

from __future__ import annotations

import csv
import sys

import pytest
from tiny import RECORDED, settings

from awac import cli
from awac.training import loggers

TRAIN = ["train", "--dataset", str(RECORDED), "--ckpt_path", "run", "--episode", "4", *settings()]


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_tensorboard_gets_the_figures_of_the_tables(tmp_path, monkeypatch, graph_mode):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    monkeypatch.chdir(tmp_path)
    assert cli.main([*TRAIN, "--logger", "tensorboard"]) == 0
    (path,) = (tmp_path / "run" / "tensorboard").iterdir()
    content, position, found = path.read_bytes(), 0, {}
    while position < len(content):  # TFRecord: length (8), its CRC (4), the event, its CRC (4)
        length = int.from_bytes(content[position : position + 8], "little")
        event = Event.FromString(content[position + 12 : position + 12 + length])
        for value in event.summary.value:
            found[value.tag, event.step] = value.simple_value
        position += length + 16
    for row in rows("run/train.csv"):
        step = int(row["gradient_steps"])
        assert found["train/critic_loss", step] == pytest.approx(float(row["critic_loss"]), rel=1e-4)
    assert found["eval/return", 40] == pytest.approx(float(rows("run/eval.csv")[0]["mean_return"]), rel=1e-4)
    assert ("eval/return", 20) not in found


def test_a_package_that_is_missing_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.delitem(sys.modules, "awac.training.loggers.tensorboard", raising=False)
    assert cli.main([*TRAIN, "--logger", "tensorboard"]) == 1
    assert (
        "logger tensorboard needs the package tensorboardX: pip install 'awac[tensorboard]'" in capsys.readouterr().err
    )
    assert cli.main([*TRAIN, "--logger", "tensorbord"]) == 1
    assert "did you mean 'tensorboard'" in capsys.readouterr().err


def test_a_logger_is_one_class_in_one_module(tmp_path, monkeypatch, graph_mode):
    (tmp_path / "notes.py").write_text(
        "from awac.algorithm.mindrl import Callback\n"
        "class Logger(Callback):\n"
        "    def __init__(self, folder):\n"
        "        super().__init__()\n"
        "        self.path = folder / 'notes.txt'\n"
        "    def episode_end(self, params):\n"
        "        with open(self.path, 'a', encoding='utf-8') as file:\n"
        "            print(params.cur_episode, params.evaluation is not None, file=file)\n"
    )
    monkeypatch.setattr(loggers, "__path__", [*loggers.__path__, str(tmp_path)])
    monkeypatch.chdir(tmp_path)
    assert cli.main([*TRAIN, "--logger", "notes"]) == 0
    assert (tmp_path / "run" / "notes.txt").read_text().splitlines() == ["1 False", "2 True", "3 False", "4 True"]
