"""Bad input through the command line: one clear line on stderr, an exit code, and no partial files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
from tiny import RECORDED, settings

from awac import cli

ROWS = 40


def columns():
    """A small valid data set of Ant's sizes."""
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(ROWS + 1, 111)).astype(np.float32)
    return {
        "observations": observations[:-1].copy(),
        "actions": rng.uniform(-1, 1, (ROWS, 8)).astype(np.float32),
        "rewards": rng.normal(size=ROWS).astype(np.float32),
        "terminals": np.arange(ROWS) == 20,
        "timeouts": np.arange(ROWS) == ROWS - 1,
        "next_observations": observations[1:].copy(),
    }


def tree(folder):
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in sorted(folder.rglob("*"))}


@pytest.fixture
def refused(tmp_path, monkeypatch, capfd):
    """Returns refused(*arguments): runs the command in an empty folder, gives its one error line.

    Checks that it is one line, the exit code, and that the working folder is as it was.
    """
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("D4RL_DATASET_DIR", raising=False)

    def call(*arguments, code=1):
        before = tree(work)
        capfd.readouterr()
        assert cli.main(list(arguments)) == code
        out, err = capfd.readouterr()
        assert err.startswith("awac: error: ") and err.count("\n") == 1 and err.endswith("\n"), err
        assert "Traceback" not in out + err and len(err) < 600
        assert tree(work) == before
        return err

    call.work = work
    return call


def train(*more, dataset=RECORDED):
    return ["train", "--episode", "2", "--dataset", str(dataset), *more, *settings()]


def hdf5(path, data):
    with h5py.File(path, "w") as file:
        for key, value in data.items():
            file[key] = value
    return path


class TestData:
    @pytest.mark.parametrize("name", ["missing.hdf5", "no/such/folder/x.npz", "@odd: name.hdf5", "123", "null"])
    def test_a_missing_file(self, refused, name):
        assert name in refused(*train(dataset=name))

    def test_a_folder(self, refused, tmp_path):
        assert "is a folder" in refused(*train(dataset=tmp_path))

    @pytest.mark.parametrize("content", [b"", b"garbage" * 100, RECORDED.read_bytes()[:5000], b"PK\x03\x04garbage"])
    def test_a_file_that_is_truncated_or_not_a_data_set(self, refused, tmp_path, content):
        path = tmp_path / "data.hdf5"
        path.write_bytes(content)
        assert str(path) in refused(*train(dataset=path))

    @pytest.mark.parametrize("key", ["observations", "actions", "rewards", "terminals"])
    def test_a_missing_key(self, refused, tmp_path, key):
        data = columns()
        del data[key]
        assert f"key '{key}' is missing" in refused(*train(dataset=hdf5(tmp_path / "data.hdf5", data)))

    @pytest.mark.parametrize("key", columns())
    def test_lengths_that_differ(self, refused, tmp_path, key):
        data = columns()
        data[key] = data[key][:-1]
        assert "rows" in refused(*train(dataset=hdf5(tmp_path / "data.hdf5", data)))

    @pytest.mark.parametrize("key, width", [("observations", 11), ("actions", 3)])
    def test_sizes_other_than_the_environments(self, refused, tmp_path, key, width):
        data = columns()
        for name in (key, "next_observations") if key == "observations" else (key,):
            data[name] = data[name][:, :width]
        message = refused(*train(dataset=hdf5(tmp_path / "data.hdf5", data)))
        assert key in message and str(width) in message and "the task ant-expert-v2" in message and "--task" in message

    @pytest.mark.parametrize("key", ["observations", "actions", "rewards", "next_observations"])
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_values_that_are_not_finite(self, refused, tmp_path, key, value):
        data = columns()
        data[key][7] = value
        message = refused(*train(dataset=hdf5(tmp_path / "data.hdf5", data)))
        assert key in message and "first in row 7" in message

    def test_actions_outside_the_bounds(self, refused, tmp_path):
        data = columns()
        data["actions"][5, 2] = 1.5
        message = refused(*train(dataset=hdf5(tmp_path / "data.hdf5", data)))
        assert "outside the task's bounds, first in row 5" in message

    def test_constant_observations(self, refused, tmp_path):
        data = columns()
        data["observations"][:] = data["next_observations"][:] = 1
        assert "constant" in refused(*train(dataset=hdf5(tmp_path / "data.hdf5", data)))

    @pytest.mark.parametrize("name", ["ant-expret-v2", "walker2d-expret-v2"])
    def test_a_data_set_that_is_nowhere(self, refused, name):
        assert name in refused(*train("--task", "ant-expert-v2", dataset=name))


class TestNames:
    def test_an_unknown_task(self, refused):
        assert "the nearest known one is 'ant-expert-v2'" in refused(*train("--task", "ant-expret-v2"))

    @pytest.mark.parametrize("task", ["FrozenLake-v1", "no/such:thing", ""])
    def test_a_task_that_cannot_be_used(self, refused, task):
        assert f"'{task}'" in refused(*train("--task", task))

    def test_an_unknown_preset(self, refused):
        assert "did you mean 'paper'" in refused(*train("--preset", "papers"))

    @pytest.mark.parametrize("device", ["cpu", "TPU", ""])
    def test_an_unknown_device(self, refused, device):
        assert f"device '{device}' is unknown" in refused(*train("--device_target", device))

    def test_a_device_that_is_not_there(self, refused):
        import mindspore as ms

        if os.path.exists("/dev/davinci0"):
            pytest.skip("this machine has an Ascend device")
        try:
            assert "device Ascend is not available" in refused(*train("--device_target", "Ascend"))
        finally:
            ms.set_context(device_target="CPU")

    @pytest.mark.parametrize(
        "setting, says",
        [
            ("batchsize=8", "unknown key 'batchsize': did you mean 'batch_size'"),
            ("batch_size", "--set takes KEY=VALUE"),
            ("batch_size=", "batch_size = None is not a valid int"),
            ("batch_size=many", "batch_size = 'many' is not a valid int"),
            ("batch_size=.inf", "batch_size = inf is not a valid int"),
            ("batch_size=0", "batch_size = 0 must be positive"),
            ("actor_hidden=[1", "is not readable"),
            ("lam=!!python/object:os.system {}", "is not readable"),
            ("=3", "unknown key ''"),
            ('weighting="a\\nb"', "weighting"),
        ],
    )
    def test_a_setting(self, refused, setting, says):
        assert says in refused("train", "--episode", "2", "--dataset", str(RECORDED), "--set", setting)

    @pytest.mark.parametrize("flag", ["--env_yaml", "--algo_yaml"])
    @pytest.mark.parametrize(
        "text, says", [(None, "no such YAML file"), ("[1", "not readable"), ("lamb: 1", "unknown key")]
    )
    def test_a_yaml_file(self, refused, tmp_path, flag, text, says):
        path = tmp_path / "a.yaml"
        if text is not None:
            path.write_text(text)
        message = refused(*train(flag, str(path)))
        assert says in message and str(path) in message


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--episode", "0"],
        ["train", "--episode", "-5"],
        ["train", "--episode", "1.5"],
        ["train", "--episode", "ten"],
        ["train", "--episode", ""],
        ["train", "--episode", "٣"],
        ["train", "--episode", "9" * 5000],
        ["eval", "--ckpt_path", "x", "--seed", "-1"],
        ["train", "--resume", "--overwrite"],
        ["train", "--epis", "3"],
        ["train", "extra"],
        ["eval"],
        ["eval", "--ckpt_path", "x", "--episode", "0"],
        ["collect"],
        ["collect", "--out", "x.hdf5", "--rows", "0"],
        ["sail"],
        [],
    ],
)
def test_arguments_that_do_not_parse_are_one_line_and_code_2(capfd, arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    out, err = capfd.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert err.startswith("awac: error: ") and err.count("\n") == 1
    assert "--help lists the options" in err


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two episodes."""
    folder = tmp_path_factory.mktemp("finished")
    assert cli.main([*train("--ckpt_path", str(folder))]) == 0
    return folder


class TestCheckpointFolder:
    @pytest.fixture
    def run_folder(self, refused, finished):
        shutil.copytree(finished, refused.work / "ckpt")
        return refused.work / "ckpt"

    def manifest(self, folder, **changes):
        """Changes facts in all manifests; the checksums still hold."""
        for path in folder.glob("manifest_*.json"):
            content = json.loads(path.read_text())
            content.update(changes)
            path.write_text(json.dumps(content))

    @pytest.mark.parametrize("command", [["eval"], train("--resume")])
    def test_a_missing_one(self, refused, command):
        assert "no such checkpoint folder" in refused(*command, "--ckpt_path", "nowhere")

    @pytest.mark.parametrize(
        "command, says", [(["eval"], "no complete checkpoint"), (train("--resume"), "no run in it")]
    )
    def test_an_empty_one(self, refused, command, says):
        (refused.work / "ckpt").mkdir()
        assert says in refused(*command, "--ckpt_path", "ckpt")

    @pytest.mark.parametrize("command", [["eval"], train("--resume")])
    def test_an_incomplete_one(self, refused, run_folder, command):
        for path in run_folder.glob("policy/*"):
            path.unlink()
        assert "no complete checkpoint in it" in refused(*command, "--ckpt_path", "ckpt")

    def test_a_checkpoint_that_is_not_there(self, refused, run_folder):
        message = refused("eval", "--ckpt_path", "ckpt", "--episode", "7")
        assert "ckpt: no checkpoint 7 in it; it has " in message

    @pytest.mark.parametrize("command", [["eval"], train(), train("--resume"), train("--overwrite")])
    def test_a_file(self, refused, command):
        (refused.work / "ckpt").write_text("mine")
        assert "ckpt" in refused(*command, "--ckpt_path", "ckpt")

    def test_a_folder_below_a_file(self, refused):
        (refused.work / "file").write_text("mine")
        assert "file/ckpt" in refused(*train("--ckpt_path", "file/ckpt"))

    def test_one_that_holds_a_run_already(self, refused, run_folder):
        assert "pass --resume to continue it or --overwrite to replace it" in refused(*train("--ckpt_path", "ckpt"))

    @pytest.mark.parametrize("flags", [["--resume"], ["--overwrite"]])
    def test_one_that_another_run_is_using(self, refused, run_folder, flags):
        from awac.runs.folder import exclusive

        with exclusive(run_folder):
            message = refused(*train("--ckpt_path", "ckpt", *flags))
        assert f"in use by the run with pid {os.getpid()}" in message

    def test_resuming_with_another_configuration(self, refused, run_folder):
        message = refused(*train("--ckpt_path", "ckpt", "--resume", "--seed", "5"))
        assert "seed = 0" in message and "5" in message

    def test_a_run_on_another_task(self, refused, run_folder):
        config = json.loads((run_folder / "manifest_2.json").read_text())["config"]
        config["env"]["task"] = "hopper-medium-v2"
        self.manifest(run_folder, config=config)
        message = refused("eval", "--ckpt_path", "ckpt")
        assert "11" in message and "111" in message

    @pytest.mark.parametrize(
        "widths", [{"actor_hidden": [8, 8]}, {"critic_hidden": [8, 8]}, {"actor_hidden": [16] * 3}]
    )
    def test_a_run_of_other_widths(self, refused, run_folder, widths):
        config = json.loads((run_folder / "manifest_2.json").read_text())["config"]
        config["algo"].update(widths)
        self.manifest(run_folder, config=config)
        assert "was made for other sizes" in refused("eval", "--ckpt_path", "ckpt")

    @pytest.mark.parametrize(
        "changes",
        [
            {"config": None},
            {"config": []},
            {"config": {"algo": {"lamda": 1}}},
            {"spaces": None},
            {"spaces": "abc"},
            {"spaces": {}},
        ],
    )
    def test_a_manifest_without_usable_facts(self, refused, run_folder, changes):
        self.manifest(run_folder, **changes)
        assert "ckpt" in refused("eval", "--ckpt_path", "ckpt")

    def test_a_damaged_replay_file(self, refused):
        online = refused.work / "online"
        arguments = ["--dataset", str(RECORDED), "--ckpt_path", "online", *settings(offline_train_steps=0)]
        assert cli.main(["train", "--episode", "1", *arguments]) == 0
        for path in (online / "replay").glob("*.npy"):
            path.write_bytes(path.read_bytes()[:-100])
        said = refused("train", "--episode", "2", "--resume", *arguments)
        assert "no complete checkpoint" in said and "--overwrite starts over" in said


class TestDivergence:
    """The first step is fine and is saved; the second one fails on critics ruined by a huge learning rate."""

    RUN = settings(n_steps_per_episode=1, steps_per_call=1, offline_train_steps=2, eval_every=10, critic_lr=1e30)

    def test_training_stops_says_where_and_keeps_the_last_good_checkpoint(self, tmp_path, monkeypatch, capfd):
        monkeypatch.chdir(tmp_path)
        arguments = ["--episode", "5", "--dataset", str(RECORDED), "--ckpt_path", "ckpt", *self.RUN]
        assert cli.main(["train", *arguments]) == 1
        err = capfd.readouterr().err
        assert err.startswith(
            "awac: error: a loss is not finite at gradient step 2; training stops; start a new run with "
        )
        assert "--init_from ckpt and a lower critic_lr" in err and "--resume would come to the same" in err
        assert err.count("\n") == 1
        assert [path.name for path in (tmp_path / "ckpt").glob("manifest_*")] == ["manifest_1.json"]
        assert cli.main(["eval", "--ckpt_path", "ckpt"]) == 0
        assert not (tmp_path / "ckpt" / "run.lock").exists()


def test_a_process_of_its_own_prints_one_line_and_exits_with_1(tmp_path):
    command = [sys.executable, "-m", "awac.cli", "train", "--dataset", "missing.hdf5", "--ckpt_path", "a/b/c"]
    # The command runs elsewhere: a relative PYTHONPATH of the tests would lead nowhere.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, map(os.path.abspath, sys.path)))}
    pipes = {"capture_output": True, "text": True, "timeout": 60}
    result = subprocess.run(command, cwd=tmp_path, env=environment, **pipes)
    assert result.returncode == 1
    assert result.stdout == "" and result.stderr.startswith("awac: error: missing.hdf5: no such file")
    assert result.stderr.count("\n") == 1 and not list(tmp_path.iterdir())
