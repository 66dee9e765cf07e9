"""A run's folder: foreign files are never touched, and a run resumes only with its own settings and data."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from tiny import RECORDED, settings

from awac import cli
from awac.data.transitions import Transitions
from awac.errors import EnvironmentFault, Interrupted
from awac.runs import folder as run_folder
from awac.training.evaluate import Evaluator
from awac.training.resume import fingerprint
from awac.training.trainer import AWACTrainer

TRAIN = ["train", "--dataset", str(RECORDED), "--ckpt_path", "run"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, graph_mode):
    """A tiny run of four episodes, the last one online, with data of its own."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copy(RECORDED, folder / "data.hdf5")
    command = ["train", "--dataset", str(folder / "data.hdf5"), "--ckpt_path", str(folder / "run"), "--episode", "4"]
    assert cli.main([*command, *settings()]) == 0
    return folder


@pytest.fixture
def copy(finished, tmp_path, monkeypatch):
    """That run in the current folder as `run`, its data beside it as `data.hdf5`."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestOtherPeoplesFiles:
    FILES = ("sweep.csv", "policy/mine.txt", "train.csv", "notes.md")

    @pytest.fixture
    def foreign(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in self.FILES:
            path = tmp_path / "run" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("mine")
        return tmp_path / "run"

    @pytest.mark.parametrize("flag", ["--resume", "--overwrite", None])
    def test_a_folder_that_no_run_wrote_is_refused_and_left_as_it_is(self, foreign, flag, graph_mode, capsys):
        before = contents(foreign)
        assert cli.main([*TRAIN, *filter(None, [flag]), *settings()]) == 1
        error = capsys.readouterr().err
        assert error.startswith("awac: error: run") and error.count("\n") == 1
        assert contents(foreign) == before

    @pytest.mark.parametrize("flag", ["--overwrite", None])
    def test_a_file_with_the_locks_name_does_not_make_it_a_runs_folder(self, foreign, flag, graph_mode, capsys):
        (foreign / "run.lock").write_text("mine")
        before = contents(foreign)
        assert cli.main([*TRAIN, *filter(None, [flag]), *settings()]) == 1
        assert contents(foreign) == before and capsys.readouterr().err.count("\n") == 1
        for name in ("train.csv", "policy/mine.txt"):
            (foreign / name).unlink()
        (foreign / "policy").rmdir()
        assert cli.main([*TRAIN, *settings()]) == 1
        assert "run.lock was not written by awac" in capsys.readouterr().err
        assert (foreign / "run.lock").read_text() == "mine"

    def test_overwrite_removes_only_what_the_run_wrote(self, copy, graph_mode):
        mine = ("sweep.csv", "policy/mine.txt", "policy/policy_1.ckpt.bak", "replay/rows.npy", "manifest_x.json")
        for name in mine:
            (copy / name).write_text("mine")
        arguments = ["train", "--dataset", "data.hdf5", "--ckpt_path", "run", "--overwrite", "--episode", "1"]
        assert cli.main([*arguments, *settings()]) == 0
        assert all((copy / name).read_text() == "mine" for name in mine)
        assert not (copy / "manifest_4.json").exists() and (copy / "manifest_1.json").exists()

    def test_a_folder_with_unrelated_files_only_can_take_a_run(self, tmp_path, monkeypatch, graph_mode):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "README.md").write_text("mine")
        assert cli.main([*TRAIN, "--episode", "1", *settings()]) == 0
        assert (tmp_path / "run" / "README.md").read_text() == "mine"

    def test_a_run_of_an_older_version_has_no_marker_and_still_counts(self, copy, graph_mode, capsys):
        (copy / "awac_run.json").unlink()
        arguments = ["train", "--dataset", "data.hdf5", "--ckpt_path", "run", "--episode", "5"]
        assert cli.main([*arguments, *settings()]) == 1
        assert "already holds a run" in capsys.readouterr().err
        assert cli.main([*arguments, "--resume"]) == 0


class TestResume:
    def resume(self, *arguments) -> int:
        return cli.main(["train", "--ckpt_path", "run", "--resume", *arguments])

    def test_nothing_has_to_be_typed_again(self, copy, finished, graph_mode, capsys):
        assert self.resume("--episode", "5", "--dataset", "data.hdf5") == 0
        assert "Resume after episode 4" in capsys.readouterr().out
        assert (copy / "manifest_5.json").exists()

    def test_other_rows_under_the_same_name_are_refused(self, copy, graph_mode, capsys):
        with h5py_file(copy.parent / "data.hdf5") as file:
            file["rewards"][7] += 1.0
        before = contents(copy)
        assert self.resume("--episode", "5", "--dataset", "data.hdf5") == 1
        error = capsys.readouterr().err
        assert "data.hdf5" in error and "not those that run was trained on" in error
        assert contents(copy) == before

    def test_other_rows_are_refused_even_where_nothing_is_left_to_do(self, copy, graph_mode, capsys):
        with h5py_file(copy.parent / "data.hdf5") as file:
            file["rewards"][7] += 1.0
        assert self.resume("--episode", "4", "--dataset", "data.hdf5") == 1

    def test_the_same_rows_at_another_place_are_fine(self, copy, graph_mode):
        (copy.parent / "data.hdf5").rename(copy.parent / "moved.hdf5")
        assert self.resume("--episode", "5", "--dataset", "moved.hdf5") == 0

    @pytest.mark.parametrize("episodes", ["4", "2"])
    def test_no_more_episodes_than_are_done_is_said(self, copy, graph_mode, capsys, episodes):
        assert self.resume("--episode", episodes, "--dataset", "data.hdf5") == 0
        assert f"Nothing to do: run has 4 episodes done and is to have {episodes}" in capsys.readouterr().out

    def test_a_setting_that_changes_the_result_is_refused_by_name(self, copy, graph_mode, capsys):
        assert self.resume("--episode", "5", "--dataset", "data.hdf5", "--set", "lam=3") == 1
        assert "lam = 0.4, this command says 3.0" in capsys.readouterr().err

    def test_how_often_it_logs_may_change(self, copy, graph_mode, capsys):
        assert self.resume("--episode", "5", "--dataset", "data.hdf5", "--set", "log_every=1", "eval_episodes=2") == 0
        assert "Episode 5:" in capsys.readouterr().out


def test_a_run_folder_may_be_a_link(copy):
    """What is removed, copied and asked for is the same as in the folder itself."""
    link = copy.parent / "link"
    link.symlink_to(copy)
    assert [p.name for p in run_folder.run_files(link)] == [p.name for p in run_folder.run_files(copy)]
    run_folder.clear(link)
    assert not run_folder.is_run(copy) and not (copy / "eval.csv").exists()


class TestBeforeTheFirstCheckpoint:
    """A run that was killed in its first episode is the same run when it is resumed."""

    def begun(self, tmp_path, monkeypatch, *arguments) -> None:
        monkeypatch.chdir(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(AWACTrainer, "train_one_episode", lambda _: (_ for _ in ()).throw(Interrupted(15)))
            assert cli.main([*TRAIN, "--episode", "2", *arguments, *settings()]) == 128 + signal.SIGTERM

    def test_its_settings_need_not_be_typed_again(self, tmp_path, monkeypatch, graph_mode, capsys):
        self.begun(tmp_path, monkeypatch, "--seed", "3")
        assert "nothing is kept; --resume starts from the beginning" in capsys.readouterr().err
        assert cli.main(["train", "--ckpt_path", "run", "--resume", "--episode", "1"]) == 0
        assert "No checkpoint in run yet" in capsys.readouterr().out
        config = json.loads((tmp_path / "run" / "manifest_1.json").read_text())["config"]
        assert (config["train"]["seed"], config["algo"]["actor_hidden"]) == (3, [16, 16])

    def test_its_length_need_not_be_typed_again(self, tmp_path, monkeypatch, graph_mode, capsys):
        self.begun(tmp_path, monkeypatch)  # with --episode 2
        assert cli.main(["train", "--ckpt_path", "run", "--resume"]) == 0
        assert (tmp_path / "run" / "manifest_2.json").is_file()
        assert cli.main(["train", "--ckpt_path", "run", "--resume", "--episode", "3"]) == 0
        capsys.readouterr()
        assert cli.main(["train", "--ckpt_path", "run", "--resume"]) == 0
        assert "run has 3 episodes done and is to have 3" in capsys.readouterr().out

    @pytest.mark.parametrize("flag", ["--resume", "--overwrite"])
    def test_one_that_was_killed_before_it_began_left_no_settings(
        self, tmp_path, monkeypatch, capsys, graph_mode, flag
    ):
        """Its lock is all there is: the defaults would be another task."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "run.lock").write_text("123")
        code = cli.main([*TRAIN, flag, "--episode", "1", *settings()])
        if flag == "--resume":
            assert code == 1 and "no run in it; start it without --resume" in capsys.readouterr().err
        else:
            assert code == 0

    def test_other_settings_are_refused(self, tmp_path, monkeypatch, graph_mode, capsys):
        self.begun(tmp_path, monkeypatch, "--seed", "3")
        assert cli.main(["train", "--ckpt_path", "run", "--resume", "--seed", "4"]) == 1
        assert "was trained with seed = 3, this command says 4" in capsys.readouterr().err

    def test_it_starts_from_the_checkpoint_that_it_started_from(self, copy, monkeypatch, graph_mode, capsys):
        copy.rename("source")
        self.begun(Path.cwd(), monkeypatch, "--init_from", "source")
        for file in (*copy.rglob("*_0.*"),):
            file.unlink()
        command = ["train", "--ckpt_path", "source", "--resume", "--episode", "5", "--dataset", "data.hdf5"]
        assert cli.main(command) == 0
        capsys.readouterr()
        assert cli.main(["train", "--ckpt_path", "run", "--resume", "--episode", "1"]) == 0
        assert "Start from checkpoint 4 in" in capsys.readouterr().out


def h5py_file(path):
    import h5py

    return h5py.File(path, "r+")


def test_the_fingerprint_is_of_the_rows():
    rng = np.random.default_rng(0)

    def rows(**changes):
        values = {
            "observations": rng.normal(size=(6, 2)).astype(np.float32),
            "actions": np.zeros((6, 1), np.float32),
            "rewards": np.ones(6, np.float32),
            "next_observations": np.ones((6, 2), np.float32),
            "terminated": np.zeros(6, bool),
            "truncated": np.zeros(6, bool),
        }
        return Transitions(**{**values, **changes})

    one = rows()
    same = Transitions(*(getattr(one, name).copy() for name in one.__dataclass_fields__))
    assert fingerprint(one) == fingerprint(same)
    for name in one.__dataclass_fields__:
        other = getattr(one, name).copy()
        other.reshape(-1)[3] = 1 - other.reshape(-1)[3]
        changed = Transitions(**{**{n: getattr(one, n) for n in one.__dataclass_fields__}, name: other})
        if not np.array_equal(other, getattr(one, name)):
            assert fingerprint(changed) != fingerprint(one), name


class TestBrokenOff:
    """What is kept when a run is interrupted."""

    def begin(self, *changes) -> list[str]:
        return [*TRAIN, "--episode", "6", *settings(save_every=100, eval_every=2)]

    def broken(self, monkeypatch, error, call: int):
        """The evaluation number `call` raises."""
        real, calls = Evaluator.__call__, []

        def evaluation(evaluator, choose):
            calls.append(1)
            if len(calls) == call:
                raise error
            return real(evaluator, choose)

        monkeypatch.setattr(Evaluator, "__call__", evaluation)

    def test_a_signal_during_an_evaluation_keeps_the_episode_before_it(self, tmp_path, monkeypatch, graph_mode, capsys):
        monkeypatch.chdir(tmp_path)
        self.broken(monkeypatch, Interrupted(signal.SIGTERM), 3)
        assert cli.main(self.begin()) == 128 + signal.SIGTERM
        captured = capsys.readouterr()
        assert "checkpoint 4 saved" in captured.err and "again" not in captured.err
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
        assert cli.main(["train", "--ckpt_path", "run", "--resume", "--episode", "6"]) == 0
        out = capsys.readouterr().out
        assert "Resume after episode 4" in out and "Evaluate for episode 4 total rewards is" in out
        rows = (tmp_path / "run" / "eval.csv").read_text().splitlines()
        assert [row.split(",")[0] for row in rows] == ["episode", "2", "3", "4", "6"]

    def test_an_environment_that_fails_keeps_the_last_whole_episode(self, tmp_path, monkeypatch, graph_mode, capsys):
        monkeypatch.chdir(tmp_path)
        self.broken(monkeypatch, EnvironmentFault("environment 'x' failed at step 3"), 3)
        assert cli.main(self.begin()) == 1
        error = capsys.readouterr().err
        assert "environment 'x' failed at step 3; checkpoint 4 saved" in error and error.count("\n") == 1


class Counter(gymnasium.Env):
    """Counts its steps, for 35 of them; its reward is the count."""

    observation_space = gymnasium.spaces.Box(-100, 100, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    noisy = False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self._observe(), {}

    def step(self, action):
        self.count += 1
        return self._observe(), float(self.count), self.count == 35, False, {}

    def _observe(self):
        noise = np.random.random() if self.noisy else 0.0
        return np.array([self.count, noise + self.np_random.random()], np.float32)


class TestLongEpisodes:
    """Environment episodes of 35 steps in training episodes of 20."""

    @pytest.fixture
    def task(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        gymnasium.register("Counter-v0", entry_point=Counter)
        rng = np.random.default_rng(0)
        ends = np.arange(200) % 35 == 34
        np.savez(
            "rows.npz",
            observations=rng.normal(size=(200, 2)),
            actions=rng.integers(0, 2, 200),
            rewards=np.ones(200),
            terminals=ends,
            next_observations=rng.normal(size=(200, 2)),
        )
        yield ["train", "--task", "Counter-v0", "--dataset", "rows.npz", "--ckpt_path"]
        del gymnasium.registry["Counter-v0"]

    def test_an_episode_runs_to_its_own_end(self, task, graph_mode):
        assert cli.main([*task, "run", "--episode", "8", *settings()]) == 0
        returns = [row.split(",")[-2] for row in Path("run/train.csv").read_text().splitlines()[1:]]
        assert returns == ["", "", "", "", "630", "", "630", ""]  # 35·36/2, ended in online steps 35 and 70

    def test_a_resumed_run_takes_the_episode_up_where_it_was(self, task, graph_mode):
        assert cli.main([*task, "straight", "--episode", "8", *settings()]) == 0
        assert cli.main([*task, "parts", "--episode", "4", *settings()]) == 0
        assert cli.main([*task, "parts", "--episode", "8", "--resume"]) == 0
        straight, parts = (np.load(f"{name}/train_state/state_8.npz") for name in ("straight", "parts"))
        assert set(straight.files) == set(parts.files)
        assert all(np.array_equal(straight[key], parts[key]) for key in straight.files)

    def test_a_robot_is_not_driven_without_looking(self, task, graph_mode, monkeypatch, capsys):
        """It takes no seed and there is one of it: after an evaluation in it, repeating the actions would be blind."""

        def once(self):
            if Counter.made:
                raise RuntimeError("the robot is in use")
            Counter.made = True

        def unseeded(self):
            self.count = 0
            return self._observe()

        steps, step = [], Counter.step
        monkeypatch.setattr(Counter, "made", False, raising=False)
        monkeypatch.setattr(Counter, "__init__", once)
        monkeypatch.setattr(Counter, "reset", unseeded)
        monkeypatch.setattr(Counter, "step", lambda self, action: steps.append(1) or step(self, action))
        assert cli.main([*task, "run", "--episode", "6", *settings(eval_every=1)]) == 0
        out = capsys.readouterr().out
        assert len(steps) == 6 * 35 + 3 * 20 and out.count("the episode under way is dropped") == 1

    def test_an_environment_that_does_not_repeat_itself_is_named(self, task, graph_mode, monkeypatch, capsys):
        monkeypatch.setattr(Counter, "noisy", True)
        assert cli.main([*task, "run", "--episode", "4", *settings()]) == 0
        assert cli.main([*task, "run", "--episode", "5", "--resume"]) == 0
        assert "does not repeat an episode" in capsys.readouterr().out


def test_a_damaged_state_is_one_line(copy, graph_mode, capsys):
    from awac.runs import files

    state = files.read_npz(copy / "train_state" / "state_4.npz")
    del state["counters"]
    noted = files.write_npz(copy / "train_state" / "state_4.npz", state)
    manifest = (copy / "manifest_4.json").read_text()
    import json

    content = json.loads(manifest)
    content["files"]["train_state/state_4.npz"] = noted
    (copy / "manifest_4.json").write_text(json.dumps(content))
    command = ["train", "--ckpt_path", "run", "--resume", "--episode", "5", "--dataset", "data.hdf5"]
    assert cli.main(command) == 1
    assert "checkpoint 4 in run can't be resumed" in capsys.readouterr().err
