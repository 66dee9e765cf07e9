"""A run interrupted at random resumes exactly; suspicious metrics warn once, metrics that are not finite stop it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from tiny import RECORDED, settings

from awac import cli
from awac.config import AlgoConfig
from awac.errors import CheckpointError, ConfigError, Interrupted, LogError
from awac.runs.store import CheckpointStore
from awac.runs.tables import Table, keep_copies
from awac.training import sanity
from awac.training.callbacks import TRAIN_COLUMNS
from awac.training.interrupt import GracefulStop
from awac.training.session import select_device
from awac.training.trainer import AWACTrainer

ROOT = Path(__file__).resolve().parents[1]


def test_a_run_that_was_killed_equals_one_that_never_stopped():
    inject("--times", "1", "--faults", "SIGKILL")


@pytest.mark.nightly
def test_every_fault_ten_times():
    inject()


def inject(*arguments):
    command = [sys.executable, str(ROOT / "scripts/fault_injection.py"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_is_acted_on_at_the_next_check(self, number):
        former = signal.getsignal(number)
        with GracefulStop() as stop:
            stop.check()
            os.kill(os.getpid(), number)
            with pytest.raises(Interrupted) as raised:
                stop.check()
        assert raised.value.number == number
        assert signal.getsignal(number) is former

    def test_a_second_signal_is_no_longer_held_back(self):
        with GracefulStop():
            os.kill(os.getpid(), signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_the_last_whole_episode(tmp_path, monkeypatch, graph_mode, capsys, number):
    learn, calls = AWACTrainer.learn, []

    def send(self):
        calls.append(1)
        if len(calls) == 5:  # two calls an episode
            os.kill(os.getpid(), number)
        return learn(self)

    monkeypatch.setattr(AWACTrainer, "learn", send)
    former = signal.signal(number, lambda *_: None)
    command = ["train", "--dataset", str(RECORDED), "--ckpt_path", str(tmp_path / "run"), "--episode", "6"]
    try:
        assert cli.main([*command, *settings(save_every=100)]) == 128 + number
    finally:
        signal.signal(number, former)
    error = capsys.readouterr().err
    assert f"stopped by {number.name}: checkpoint 2 saved" in error and "takes the 10 steps since again" in error
    assert [path.name for path in (tmp_path / "run").glob("manifest_*")] == ["manifest_2.json"]


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(tmp_path, monkeypatch, graph_mode, capsys):
    write, failed = CheckpointStore.write, []

    def full(self, snapshot):
        if snapshot.episode == 2 and not failed:
            failed.append(snapshot)
            raise CheckpointError("checkpoint 2 could not be written (no space left on device)")
        return write(self, snapshot)

    monkeypatch.setattr(CheckpointStore, "write", full)
    command = ["train", "--dataset", str(RECORDED), "--ckpt_path", str(tmp_path / "run"), "--episode", "3"]
    assert cli.main([*command, *settings()]) == 0
    assert "Warning: checkpoint 2 could not be written" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "run").glob("manifest_*")) == ["manifest_1.json", "manifest_3.json"]


def run(tmp_path, name, *arguments, **changes):
    data = changes.pop("dataset", RECORDED)
    changes = {"n_steps_per_episode": 4, "steps_per_call": 4, "offline_train_steps": 8, **changes}
    folder = str(tmp_path / name)
    return cli.main(["train", "--dataset", str(data), "--ckpt_path", folder, *arguments, *settings(**changes)])


def state(tmp_path, name, episode):
    with np.load(tmp_path / name / f"train_state/state_{episode}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


class TestInitFrom:
    def test_a_new_run_starts_at_the_switch_with_the_whole_learner(self, tmp_path, graph_mode, capsys):
        assert run(tmp_path, "offline", "--episode", "2") == 0
        capsys.readouterr()
        assert run(tmp_path, "online", "--episode", "1", "--init_from", str(tmp_path / "offline"), "--seed", "5") == 0
        out = capsys.readouterr().out
        assert (
            "Switch to online training after the offline phase of the run that this one starts from" in out
            and "Episode 0: " in out
        )
        source, begun = state(tmp_path, "offline", 2), state(tmp_path, "online", 0)
        learner = [key for key in source if key.startswith("parameter/")]
        assert all(source[key].tobytes() == begun[key].tobytes() for key in learner) and len(learner) > 30
        assert str(source["rng/batch"]) != str(begun["rng/batch"])
        assert begun["counters"].tolist() == [0, 8, 0, 0]
        assert run(tmp_path, "online", "--episode", "2", "--resume", "--seed", "5") == 0

    def test_networks_of_other_sizes_and_its_own_folder_are_refused(self, tmp_path, graph_mode, capsys):
        assert run(tmp_path, "offline", "--episode", "1") == 0
        source = str(tmp_path / "offline")
        assert run(tmp_path, "a", "--episode", "1", "--init_from", source, actor_hidden="[4]") == 1
        assert "doesn't fit this run" in capsys.readouterr().err
        assert not (tmp_path / "a").exists(), "the folder of a run that never began"
        assert run(tmp_path, "offline", "--episode", "1", "--init_from", source, "--overwrite") == 1
        assert "own folder" in capsys.readouterr().err

    @pytest.mark.parametrize("prefix", ["parameter/", "parameter/msrl.learner."])  # version 0.1 has the second
    def test_a_policy_without_average_begins_the_average(self, tmp_path, graph_mode, prefix):
        assert run(tmp_path, "source", "--episode", "2", actor_ema=0) == 0
        arrays = {key.replace("parameter/", prefix): value for key, value in state(tmp_path, "source", 2).items()}
        np.savez(tmp_path / "source/train_state/state_2.npz", **arrays)
        manifest = json.loads((tmp_path / "source/manifest_2.json").read_text(encoding="utf-8"))
        content = (tmp_path / "source/train_state/state_2.npz").read_bytes()
        known = manifest["files"]["train_state/state_2.npz"]
        known.update({"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)})
        (tmp_path / "source/manifest_2.json").write_text(json.dumps(manifest), encoding="utf-8")
        assert run(tmp_path, "a", "--episode", "1", "--init_from", str(tmp_path / "source"), actor_ema=0.9997) == 0
        begun = state(tmp_path, "a", 0)
        names = [name for name in begun if name.startswith("parameter/policy.")]
        assert len(names) > 3
        for name in names:
            np.testing.assert_array_equal(begun[name.replace("/policy.", "/average_policy.")], begun[name])

    def test_the_switch_lies_between_episodes(self, tmp_path, graph_mode, capsys):
        assert run(tmp_path, "source", "--episode", "1") == 0
        source = ("--episode", "2", "--init_from", str(tmp_path / "source"))
        assert run(tmp_path, "a", *source, n_steps_per_episode=8, offline_train_steps=16) == 1
        error = capsys.readouterr().err
        assert "made by 4 offline steps, and the other 12 of offline_train_steps = 16 are no whole episodes" in error
        assert run(tmp_path, "a", *source, n_steps_per_episode=8, offline_train_steps=20) == 1  # 20 is no multiple of 8
        assert run(tmp_path, "a", *source, n_steps_per_episode=4, offline_train_steps=8) == 0
        assert "Switch to online training after 8 offline steps" in capsys.readouterr().out

    def test_the_online_rows_of_the_source_are_not_needed(self, tmp_path, graph_mode, capsys):
        assert run(tmp_path, "source", "--episode", "3") == 0
        shutil.rmtree(tmp_path / "source" / "replay")
        assert run(tmp_path, "a", "--episode", "1", "--init_from", str(tmp_path / "source")) == 0
        assert "Switch to online training" in capsys.readouterr().out
        assert run(tmp_path, "source", "--episode", "4", "--resume") == 0
        out = capsys.readouterr().out
        assert "Skip checkpoint 3: replay/" in out and "Resume after episode 2" in out

    def test_a_run_is_not_overwritten_by_one_that_cannot_begin(self, tmp_path, graph_mode, capsys):
        for name in ("source", "run"):
            assert run(tmp_path, name, "--episode", "1") == 0
        before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
        arguments = ("--overwrite", "--init_from", str(tmp_path / "source"))
        assert run(tmp_path, "run", "--episode", "1", *arguments, actor_hidden="[4]") == 1
        assert "doesn't fit this run" in capsys.readouterr().err
        assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}

    @pytest.mark.parametrize(
        ("key", "value"), [("critic_layer_norm", False), ("log_std_min", -2.5), ("squash_mean", False)]
    )
    def test_weights_are_not_read_as_another_function(self, tmp_path, graph_mode, capsys, key, value):
        assert run(tmp_path, "offline", "--episode", "1", **{key: value}) == 0
        assert run(tmp_path, "a", "--episode", "1", "--init_from", str(tmp_path / "offline")) == 1
        error = capsys.readouterr().err
        assert f"was trained with {key} = {value}" in error and f"set {key} to {value}" in error

    def test_critics_on_another_scale_are_said(self, tmp_path, graph_mode, capsys):
        assert run(tmp_path, "offline", "--episode", "1") == 0
        assert run(tmp_path, "a", "--episode", "1", "--init_from", str(tmp_path / "offline"), gamma=0.9) == 0
        assert "gamma is 0.9, it was 0.99 in " in capsys.readouterr().out

    def test_the_card_counts_its_own_steps(self, tmp_path, graph_mode):
        assert run(tmp_path, "offline", "--episode", "2") == 0
        assert run(tmp_path, "online", "--episode", "1", "--init_from", str(tmp_path / "offline")) == 0
        assert run(tmp_path, "online", "--episode", "3", "--resume") == 0
        for folder in (tmp_path / "online", tmp_path / "slim"):
            assert cli.main(["export", "--ckpt_path", str(folder), "--format", "npz"]) == 0
            text = (folder / "export" / "policy_3.npz.md").read_text(encoding="utf-8")
            assert "; 0 gradient steps on the data set alone, 12 online." in text
            assert "It started with the networks of checkpoint 2 of the run offline." in text
            if folder.name == "online":
                assert cli.main(["export", "--ckpt_path", str(folder), "--out", str(tmp_path / "slim")]) == 0


@pytest.mark.parametrize("rewards", [1e6, -1e6, 0.0, "sparse", 3e38], ids=str)
def test_adversarial_rewards_end_in_a_clear_stop_or_a_finite_result(tmp_path, graph_mode, capsys, rewards):
    path = tmp_path / "data.hdf5"
    with h5py.File(RECORDED) as old, h5py.File(path, "w") as new:
        for key in ("observations", "actions", "terminals", "timeouts", "next_observations"):
            new[key] = old[key][()]
        count = len(new["terminals"])
        new["rewards"] = (np.arange(count) % 500 == 0 if rewards == "sparse" else np.full(count, rewards)).astype("f4")
    code = run(tmp_path, "run", "--episode", "4", dataset=path, critic_lr=0.1)
    said = capsys.readouterr()
    if code == 0:
        assert all(np.isfinite(v).all() for k, v in state(tmp_path, "run", 4).items() if k.startswith("parameter/"))
    else:
        assert code == 1 and "is not finite" in said.err and "Traceback" not in said.err


class TestWarnings:
    GOOD = {"ess": 0.9, "q_mean": 50.0, "mean_std": 0.3}

    @pytest.mark.parametrize(
        "changes, kinds",
        [
            ({}, []),
            ({"ess": 0.16}, ["ess"]),
            ({"ess": 0.18}, []),
            ({"q_mean": -1001.0}, ["q"]),
            ({"mean_std": 0.0026}, ["std"]),
            ({"mean_std": 0.99}, ["std"]),
        ],
    )
    def test_each_figure_has_its_bound(self, changes, kinds):
        metrics = {**self.GOOD, **changes}
        config = AlgoConfig(gamma=0.99, log_std_min=-6.0, log_std_max=0.0, reward_scale=1.0)
        assert [kind for kind, _ in sanity.warnings(metrics, 1.0, config, False)] == kinds

    def test_the_share_of_a_batch_has_the_bound_of_its_weights(self):
        near = {"weight_floor": 0.5, "weight_clip": 1.5}  # of these weights 0.75 is the least, so it tells nothing
        assert not list(sanity.warnings({**self.GOOD, "ess": 0.76}, 1.0, AlgoConfig(gamma=0.99, **near), False))
        for options, bound in (({"weight_floor": 0.0}, 0.064), ({"weighting": "softmax"}, 0.064), ({}, 0.170)):
            config = AlgoConfig(gamma=0.99, **options)
            for ess, kinds in ((bound - 1e-3, ["ess"]), (bound + 1e-3, [])):
                metrics = {**self.GOOD, "ess": ess}
                assert [kind for kind, _ in sanity.warnings(metrics, 1.0, config, False)] == kinds

    def test_each_is_said_once_a_phase(self, capsys):
        class Params(dict):
            __getattr__ = dict.__getitem__

        callback = sanity.Warnings(AlgoConfig(), False)
        for episode, phase in enumerate(["offline", "offline", "online", "online"]):
            metrics = {**self.GOOD, "ess": 0.12}
            callback.episode_end(Params(metrics=metrics, reward_max=1.0, phase=phase, cur_episode=episode))
        assert capsys.readouterr().out.count("Warning: ") == 2


def test_a_table_that_cannot_be_written_is_one_line(tmp_path):
    table = Table(tmp_path / "train.csv", ("episode",), 0)
    (tmp_path / "train.csv").unlink()
    (tmp_path / "train.csv").mkdir()
    with pytest.raises(LogError, match="continue with --resume"):
        table.add({"episode": 1})


def test_lines_that_come_a_second_time_are_announced(tmp_path, graph_mode, capsys):
    """As after a SIGKILL with three episodes logged since the last checkpoint."""
    assert run(tmp_path, "a", "--episode", "1") == 0
    with open(tmp_path / "a/train.csv", "a", encoding="utf-8") as file:
        file.writelines(f"{number}{',' * (len(TRAIN_COLUMNS) - 1)}\n" for number in (2, 3, 4))
    capsys.readouterr()
    assert run(tmp_path, "a", "--episode", "2", "--resume") == 0
    out = capsys.readouterr().out
    assert "Resume after episode 1\nTraining repeats episodes 2 to 4, not saved before it stopped: " in out
    assert run(tmp_path, "a", "--episode", "3", "--resume") == 0
    assert "Training repeats" not in capsys.readouterr().out


@pytest.mark.parametrize("kept", range(0, 26, 5))
def test_a_table_cut_anywhere_gets_its_rows_back(tmp_path, kept):
    path = tmp_path / "train.csv"
    path.write_bytes(b"episode,x\r\n1,20\r\n2,30\r\n")
    keep_copies(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:kept])
    Table(path, ("episode", "x"), 2)
    assert path.read_bytes() == whole
    (tmp_path / "train_state/train.csv").write_bytes(whole[:kept])  # or the copy
    Table(path, ("episode", "x"), 2)
    assert path.read_bytes() == whole


def test_a_torn_table_keeps_its_whole_rows(tmp_path):
    path = tmp_path / "train.csv"
    path.write_bytes(b"episode,x\r\n1,2\r\n2,3\r\n3\r\n4,5\x00\x00\r\n5,1\x00\x00\x00\r\n6,12")
    Table(path, ("episode", "x"), 9)
    assert path.read_bytes() == b"episode,x\r\n1,2\r\n2,3\r\n"


def test_a_table_of_an_older_version_gets_the_new_columns(tmp_path):
    path = tmp_path / "train.csv"
    path.write_bytes(b"episode,x\r\n1,20\r\n2,30\r\n")
    table = Table(path, ("episode", "x", "y"), 2)
    table.add({"episode": 3, "x": 4, "y": 5})
    assert path.read_bytes() == b"episode,x,y\r\n1,20,\r\n2,30,\r\n3,4,5\r\n"


def test_a_table_that_cannot_be_rewritten_stays_as_it_was_and_leaves_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "train.csv"
    path.write_text("episode,x\n1,5\n2,6\n")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(LogError, match="No space left"):
        Table(path, ("episode", "x"), 1)
    assert path.read_text() == "episode,x\n1,5\n2,6\n"
    assert [file.name for file in tmp_path.iterdir()] == ["train.csv"]


def test_a_device_error_without_a_message_is_named_by_its_type(monkeypatch):
    def refuse(**_):
        raise RuntimeError

    monkeypatch.setattr("mindspore.set_context", refuse)
    with pytest.raises(ConfigError, match="device CPU is not available to MindSpore here .RuntimeError."):
        select_device("CPU")
