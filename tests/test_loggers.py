"""Loggers write the same figures as the CSV files."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import types

import pytest
from tiny import RECORDED, settings

from awac import cli
from awac.errors import Interrupted
from awac.training import session
from awac.training.trainer import AWACTrainer

TRAIN = ["train", "--dataset", str(RECORDED), "--ckpt_path", "run", "--episode", "4", *settings()]


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_tensorboard_gets_the_figures_of_the_tables(tmp_path, monkeypatch, graph_mode):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    monkeypatch.chdir(tmp_path)
    assert cli.main([*TRAIN, "--logger", "tensorboard"]) == 0
    (path,) = (tmp_path / "run" / "tensorboard").glob("*/events*")
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
    resume = ["train", "--ckpt_path", "run", "--resume", "--episode", "5", "--logger", "tensorboard"]
    assert cli.main(resume) == 0
    assert len(list(path.parent.glob("events*"))) == 2, "the parts of one run lie together"
    assert cli.main([*TRAIN, "--overwrite", "--logger", "tensorboard"]) == 0
    assert len(list((tmp_path / "run" / "tensorboard").glob("*/events*"))) == 3
    assert len(list(path.parent.glob("events*"))) == 2, "another run's curves are not mixed with it"


def test_an_episode_whose_evaluation_was_interrupted_is_written_after_it_is_repeated(tmp_path, monkeypatch, graph_mode):
    pytest.importorskip("tensorboardX")
    from tensorboardX import SummaryWriter

    written, add = {}, SummaryWriter.add_scalar

    def note(self, name, value, step):
        written[name, step] = value
        add(self, name, value, step)

    def stop(self, policy=None):
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(SummaryWriter, "add_scalar", note)
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(AWACTrainer, "evaluate", stop)
        assert cli.main([*TRAIN, "--logger", "tensorboard"]) == 128 + signal.SIGTERM
    assert ("train/ess", 40) not in written
    assert cli.main(["train", "--ckpt_path", "run", "--resume", "--logger", "tensorboard"]) == 0
    for row in rows("run/train.csv"):
        assert written["train/ess", int(row["gradient_steps"])] == pytest.approx(float(row["ess"]), rel=1e-4)
    assert {step for name, step in written if name == "eval/return"} == {40, 60, 80}


def test_an_evaluation_that_a_resumed_run_adds_is_written_alone(tmp_path, monkeypatch, graph_mode):
    """The run stops after episode 5 of 6, where none was due; a run of five episodes ends with one."""
    pytest.importorskip("tensorboardX")
    from tensorboardX import SummaryWriter

    written, train = [], AWACTrainer.train_one_episode

    def stop(self):
        if self.state.episode == 5:
            raise Interrupted(signal.SIGTERM)
        return train(self)

    monkeypatch.setattr(SummaryWriter, "add_scalar", lambda self, name, value, step: written.append((name, step)))
    monkeypatch.setattr(AWACTrainer, "train_one_episode", stop)
    monkeypatch.chdir(tmp_path)
    assert cli.main([*TRAIN, "--episode", "6", "--logger", "tensorboard"]) == 128 + signal.SIGTERM
    assert ("train/ess", 100) in written and ("eval/return", 100) not in written
    assert cli.main(["train", "--ckpt_path", "run", "--resume", "--episode", "5", "--logger", "tensorboard"]) == 0
    assert ("eval/return", 100) in written and len(written) == len(set(written))


def test_of_several_workers_only_the_first_has_loggers(tmp_path, monkeypatch, graph_mode):
    pytest.importorskip("tensorboardX")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "Ranks", lambda: types.SimpleNamespace(rank=1))
    assert cli.main([*TRAIN, "--logger", "tensorboard"]) == 0
    assert not (tmp_path / "run" / "tensorboard").exists()


def leveldb_records(content):
    """The records of a log in LevelDB's format, which W&B and SwanLab write, behind a header of 7 bytes."""
    position, parts = 7, []
    while position < len(content):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
        length, kind = int.from_bytes(content[position + 4 : position + 6], "little"), content[position + 6]
        parts.append(content[position + 7 : position + 7 + length])
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


def wandb_figures(path):
    """By name and gradient step, and the settings that were sent."""
    from wandb.proto.wandb_internal_pb2 import Record

    found, config, ids = {}, {}, set()
    for content in leveldb_records(path.read_bytes()):
        record = Record.FromString(content)
        if record.HasField("run"):
            config = {item.key: json.loads(item.value_json) for item in record.run.config.update} or config
            ids.add(record.run.run_id)
        if record.HasField("history"):
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            found.update({(name, row["gradient_steps"]): value for name, value in row.items()})
    return found, config, ids


def swanlab_figures(path):
    from swanlab.proto.swanlab.record.v1.record_pb2 import Record

    records = [Record.FromString(content) for content in leveldb_records(path.read_bytes())]
    return {
        (record.scalar.key, record.scalar.step): record.scalar.value.number
        for record in records
        if record.HasField("scalar")
    }


def check_figures(found):
    for row in rows("run/train.csv"):
        step = int(row["gradient_steps"])
        assert found["train/critic_loss", step] == pytest.approx(float(row["critic_loss"]), rel=1e-4)
    for row in rows("run/eval.csv"):
        step = 20 * int(row["episode"])
        assert found["eval/return", step] == pytest.approx(float(row["mean_return"]), rel=1e-4)


@pytest.fixture
def offline(tmp_path, monkeypatch, graph_mode):
    """A folder to run in, with both services offline."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("SWANLAB_MODE", "offline")
    return tmp_path


def test_wandb_gets_the_figures_of_the_tables_offline(offline):
    pytest.importorskip("wandb")
    assert cli.main([*TRAIN, "--logger", "csv", "wandb"]) == 0
    (path,) = (offline / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    found, config, ids = wandb_figures(path)
    check_figures(found)
    assert (config["train"]["seed"], config["algo"]["batch_size"]) == (0, 8)
    assert cli.main(["train", "--ckpt_path", "run", "--resume", "--episode", "6", "--logger", "wandb"]) == 0
    later = next(other for other in (offline / "run" / "wandb").glob("offline-run-*/run-*.wandb") if other != path)
    found, _, again = wandb_figures(later)
    assert again == ids and ("train/critic_loss", 120) in found and ("train/critic_loss", 80) not in found
    assert cli.main([*TRAIN, "--overwrite", "--logger", "wandb"]) == 0
    assert (offline / "run" / "wandb" / "awac_run_id").read_text() not in ids, "a new run took the old one's id"


def test_swanlab_gets_the_figures_of_the_tables_offline(offline):
    pytest.importorskip("swanlab")
    assert cli.main([*TRAIN, "--logger", "swanlab"]) == 0
    (path,) = (offline / "run" / "swanlab").glob("run-*/run-*.swanlab")
    check_figures(swanlab_figures(path))
    assert "batch_size" in (path.parent / "files" / "config.yaml").read_text()


@pytest.mark.parametrize("name", ["wandb", "swanlab"])
def test_without_a_login_nothing_begins(offline, name):
    pytest.importorskip(name)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "SWANLAB_"))}
    done = subprocess.run(
        [sys.executable, "-m", "awac.cli", *TRAIN, "--logger", name],
        env={**environment, "HOME": str(offline)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    error = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert error.startswith(f"awac: error: logger {name}: ") and f"{name.upper()}_MODE=offline" in error
    assert not (offline / "run").exists()


@pytest.mark.parametrize("name", ["wandb", "swanlab"])
def test_a_stopped_run_closes_its_file(offline, name):
    pytest.importorskip(name)
    command = [sys.executable, "-m", "awac.cli", *TRAIN, "--episode", "100000", "--logger", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8") as run:
        lines = []
        for line in run.stdout:
            lines.append(line)
            if line.startswith("Episode 4:"):  # training is in an evaluation, so episode 3 is the last one logged
                run.send_signal(signal.SIGTERM)
                break
        rest = run.stdout.read()
    assert run.returncode == 128 + signal.SIGTERM, "".join(lines) + rest
    assert "awac: stopped by SIGTERM: checkpoint" in rest and "Traceback" not in rest
    (path,) = (offline / "run" / name).glob("*run-*/run-*")
    found = wandb_figures(path)[0] if name == "wandb" else swanlab_figures(path)
    assert ("train/critic_loss", 60) in found


@pytest.mark.parametrize("first", ["package", "awac"])
@pytest.mark.parametrize("name", ["wandb", "swanlab", "tensorboardX", "onnx", "ray", "minari", "google.protobuf"])
def test_a_package_and_mindspore_are_imported_in_either_order(tmp_path, name, first):
    pytest.importorskip(name)
    imports = [f"import {name}", "import awac.training.session"]
    source = "\n".join(imports if first == "package" else imports[::-1])
    check = """
import mindspore as ms
ms.save_checkpoint([{"name": "a", "data": ms.Tensor([1.5])}], "a.ckpt")
print(ms.load_checkpoint("a.ckpt")["a"].asnumpy())
"""
    done = subprocess.run(
        [sys.executable, "-c", source + check], cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=180
    )
    assert (done.returncode, done.stdout) == (0, "[1.5]\n"), done.stderr


@pytest.mark.parametrize("name", ["wandb", "swanlab", "tensorboard"])
def test_a_logger_works_where_its_package_came_first(offline, name):
    pytest.importorskip({"tensorboard": "tensorboardX"}.get(name, name))
    package = {"tensorboard": "tensorboardX"}.get(name, name)
    source = f"import {package}, sys; from awac import cli; sys.exit(cli.main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", source, *TRAIN, "--logger", name], capture_output=True, encoding="utf-8", timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert len(rows("run/train.csv")) == 4 and (offline / "run" / name).is_dir()


def test_a_package_that_is_missing_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.delitem(sys.modules, "awac.training.loggers.tensorboard", raising=False)
    assert cli.main([*TRAIN, "--logger", "tensorboard"]) == 1
    assert (
        "logger tensorboard needs the package tensorboardX: pip install 'tensorboardX>=2.6'" in capsys.readouterr().err
    )
    assert cli.main([*TRAIN, "--logger", "tensorbord"]) == 1
    assert "did you mean 'tensorboard'" in capsys.readouterr().err
