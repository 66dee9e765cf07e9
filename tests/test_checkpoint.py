"""Checkpoints are written atomically; damaged ones are skipped or refused in one line."""

from __future__ import annotations

import errno
import gc
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from awac.data.normalizer import Normalizer
from awac.data.replay import Replay
from awac.errors import CheckpointError
from awac.runs import checkpoint, ckpt_file
from awac.runs import folder as run_folder
from awac.runs.replay_log import ReplayLog

ABOUT = {"config": {"algo": {}}, "spaces": {"obs_size": 2}}
EVERYTHING = [pattern.format(5) for pattern in (*checkpoint.NETWORKS.values(), checkpoint.STATE)]


def networks(value):
    weights = {"0.weight": np.full((3, 2), value, np.float32), "0.bias": np.full((1, 2), -value, np.float32)}
    return {name: weights for name in checkpoint.NETWORKS}


def state(value):
    return {"counters": np.array([value, 7]), "rng/batch": np.array('{"state": 1}'), "x": np.full(4, value, np.float32)}


def save(folder, episode, keep=5, **changes):
    arguments = {"networks": networks(episode), "state": state(episode), "about": ABOUT, "keep": keep, **changes}
    checkpoint.save(folder, episode, **arguments)


def tree(folder):
    """Every file below the folder with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def folder(tmp_path):
    """Checkpoints 4 and 5."""
    save(tmp_path, 4)
    save(tmp_path, 5)
    return tmp_path


def usable(folder):
    """The newest sound checkpoint's episode, and the lines about the others."""
    said: list[str] = []
    return checkpoint.newest(folder, warn=said.append)["episode"], said


def test_what_was_saved_comes_back(folder, capsys):
    manifest = checkpoint.newest(folder)
    assert manifest["episode"] == 5 and manifest["config"] == ABOUT["config"] and manifest["spaces"] == ABOUT["spaces"]
    for name, path in checkpoint.NETWORKS.items():
        arrays = checkpoint.load_network(folder, name, 5, "./ckpt/")
        assert capsys.readouterr().out == f"Load file  ./ckpt//{path.format(5)}\n"
        assert {key: value.tolist() for key, value in arrays.items()} == {
            key: value.tolist() for key, value in networks(5)[name].items()
        }
    loaded = checkpoint.load_state(folder, 5)
    assert set(loaded) == set(state(5))
    for name, value in loaded.items():
        np.testing.assert_array_equal(value, state(5)[name])


def test_the_files_have_the_names_that_users_know(folder):
    names = {"policy/policy_5.ckpt", "value_net_1/model_1_5.ckpt", "value_net_2/model_2_5.ckpt"}
    assert names <= set(tree(folder))


def test_a_certain_checkpoint_can_be_asked_for(folder):
    assert checkpoint.newest(folder, 4)["episode"] == 4
    with pytest.raises(CheckpointError, match="no checkpoint 3 in it; it has 5, 4"):
        checkpoint.newest(folder, 3)


def test_only_the_newest_are_kept(tmp_path):
    for episode in (8, 9, 10, 11):
        save(tmp_path, episode, keep=2)
    assert checkpoint.newest(tmp_path)["episode"] == 11
    assert len(tree(tmp_path)) == 2 * 5
    assert not any("_8." in name or "_9." in name for name in tree(tmp_path))


def test_a_damaged_one_of_a_higher_number_pushes_out_no_sound_one(tmp_path):
    save(tmp_path, 40, keep=1)
    (tmp_path / "manifest_50.json").write_text("{")
    save(tmp_path, 43, keep=1)
    assert checkpoint.newest(tmp_path)["episode"] == 43
    assert not (tmp_path / "manifest_40.json").exists()


def fail(*_, **__):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "function, call",
    [
        ("ms.save_checkpoint", 0),
        ("ms.save_checkpoint", 2),
        ("np.savez", 0),
        ("json.dumps", 0),
        ("os.fsync", 0),
        ("os.replace", 0),
        ("os.replace", 4),
    ],
)
def test_a_save_that_fails_midway_leaves_the_older_checkpoint(folder, monkeypatch, function, call):
    before = tree(folder)
    module, name = function.split(".")
    owner = {"ms": ms, "np": np, "json": json, "os": os}[module]
    real, calls = getattr(owner, name), []

    def sometimes(*args, **kwargs):
        calls.append(1)
        return fail() if len(calls) > call else real(*args, **kwargs)

    monkeypatch.setattr(owner, name, sometimes)
    with pytest.raises(CheckpointError, match="checkpoint 6 could not be written.*No space left"):
        save(folder, 6, keep=1)
    monkeypatch.undo()
    after = tree(folder)
    assert all(after[name] == content for name, content in before.items())
    assert not any(".tmp" in name for name in after)
    assert set(after) == set(before), "a part of it would stay for ever"
    assert usable(folder) == (5, [])
    save(folder, 6)
    assert usable(folder) == (6, [])


def test_a_full_disk_leaves_no_traceback_in_the_log(folder, monkeypatch):
    """The state's file is cut at any place: an unclosed zip would print a warning when it is collected."""
    complaints = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    big = {f"x{i}": np.zeros(2000, np.float32) for i in range(4)}
    for limit in (2000, 15000, 30000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, former[1]))
        try:
            with pytest.raises(CheckpointError, match="checkpoint 6 could not be written"):
                save(folder, 6, state=big)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, former)
        gc.collect()
    assert not complaints and usable(folder) == (5, [])


def test_a_save_killed_midway_leaves_the_older_checkpoint(folder):
    code = (
        "import os, signal, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "import test_checkpoint as t\n"
        "t.checkpoint.np.savez = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        "t.save(Path(sys.argv[2]), 6)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, os.path.dirname(__file__), str(folder)], capture_output=True)
    assert result.returncode == -9, result.stderr.decode()
    assert (folder / "policy" / "policy_6.ckpt").exists()
    assert usable(folder) == (5, [])


def test_a_state_free_checkpoint_is_for_evaluation_only(folder, tmp_path):
    save(folder, 6, state=None)
    said = []
    assert checkpoint.newest(folder)["episode"] == 6
    assert checkpoint.newest(folder, need_state=True, warn=said.append)["episode"] == 5
    assert said == ["Skip checkpoint 6: it holds no training state"]


def empty(path):
    path.write_bytes(b"")


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", EVERYTHING)
@pytest.mark.parametrize("damage", [os.unlink, empty, truncate, flip, replace_by_folder])
def test_a_damaged_or_missing_file_is_skipped_with_a_line(folder, name, damage):
    (folder / name).chmod(0o644)
    damage(folder / name)
    episode, said = usable(folder)
    assert episode == 4
    assert len(said) == 1 and said[0].startswith("Skip checkpoint 5: ") and os.path.basename(name) in said[0]
    with pytest.raises(CheckpointError, match="checkpoint 5 can't be used"):
        checkpoint.newest(folder, 5)


def edit(**changes):
    def change(path):
        manifest = json.loads(path.read_text())
        manifest.update(changes)
        path.write_text(json.dumps(manifest))

    return change


@pytest.mark.parametrize(
    "damage",
    [
        empty,
        truncate,
        replace_by_folder,
        edit(format=99),
        edit(episode=4),
        edit(files={}),
        edit(files=[1]),
        edit(files=None),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text("[" * 100000),
        lambda path: path.write_bytes(b"\xff\xfe\x00"),
    ],
)
def test_a_damaged_manifest_is_skipped_with_a_line(folder, damage):
    damage(folder / "manifest_5.json")
    episode, said = usable(folder)
    assert episode == 4
    assert len(said) == 1 and said[0].startswith("Skip checkpoint 5: ") and "\n" not in said[0]


@pytest.mark.parametrize(
    "name", ["../outside.txt", "/etc/hostname", "policy/../../outside.txt", "policy/policy_4.ckpt"]
)
def test_a_manifest_that_names_other_files_is_refused(folder, name):
    (folder.parent / "outside.txt").write_text("x")
    path = folder / "manifest_5.json"
    manifest = json.loads(path.read_text())
    manifest["files"][name] = {"size": 1, "sha256": "0" * 64}
    path.write_text(json.dumps(manifest))
    episode, said = usable(folder)
    assert (episode, said) == (4, ["Skip checkpoint 5: manifest_5.json names an unexpected file"])


def test_no_sound_checkpoint_is_an_error(folder):
    for episode in (4, 5):
        flip(folder / f"policy/policy_{episode}.ckpt")
    said = []
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        checkpoint.newest(folder, warn=said.append)
    assert len(said) == 2


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_folder_that_is_none_is_an_error(tmp_path, name):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="no such checkpoint folder"):
        checkpoint.newest(tmp_path / name)


def test_a_file_that_is_no_mindspore_checkpoint_is_an_error(tmp_path):
    (tmp_path / "x.ckpt").write_bytes(b"\x00garbage" * 10)
    with pytest.raises(CheckpointError, match="x.ckpt is not a MindSpore checkpoint"):
        ckpt_file.read(tmp_path / "x.ckpt")


def test_clear_removes_the_run_and_nothing_else(folder):
    ours = ("keep.txt", "policy_notes.md", "sub/manifest_1.json")
    (folder / "sub").mkdir()
    for name in ours:
        (folder / name).write_text("mine")
    (folder / "train.csv").write_text("episode\n")
    assert run_folder.holds_a_run(folder)
    run_folder.clear(folder)
    assert not run_folder.holds_a_run(folder)
    assert set(tree(folder)) == set(ours)


def test_clear_does_not_follow_a_link_out_of_the_folder(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "mine.txt").write_text("mine")
    shutil.rmtree(folder / "policy")
    (folder / "policy").symlink_to(outside)
    run_folder.clear(folder)
    assert (outside / "mine.txt").read_text() == "mine" and (folder / "policy").is_symlink()  # nor removes the link


class TestLock:
    def test_a_second_run_is_refused_with_the_first_ones_pid(self, tmp_path):
        code = (
            "import sys; from pathlib import Path; from awac.runs import folder as run_folder\n"
            "with run_folder.exclusive(Path(sys.argv[1])):\n"
            "    print('locked', flush=True); sys.stdin.read()\n"
        )
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        first = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], **pipes)
        try:
            assert first.stdout.readline() == "locked\n"
            refusal = f"in use by the run with pid {first.pid}$"
            with pytest.raises(CheckpointError, match=refusal), run_folder.exclusive(tmp_path):
                pass
        finally:
            first.kill()
            first.communicate()
        with run_folder.exclusive(tmp_path):  # a killed run's lock does not block others
            assert (tmp_path / "run.lock").read_text() == str(os.getpid())
        assert not (tmp_path / "run.lock").exists()

    def test_a_forked_helper_does_not_keep_a_killed_runs_lock(self, tmp_path):
        code = (
            "import os, signal, sys, time; from pathlib import Path; from awac.runs import folder as run_folder\n"
            "with run_folder.exclusive(Path(sys.argv[1])):\n"
            "    if os.fork():\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "    print(os.getpid(), flush=True); time.sleep(60); os._exit(0)\n"
        )
        killed = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        helper = int(killed.stdout.readline())
        try:
            killed.wait()
            with run_folder.exclusive(tmp_path):
                pass
        finally:
            os.kill(helper, signal.SIGKILL)
            killed.stdout.close()

    def test_a_file_system_without_locks_is_said(self, tmp_path, monkeypatch, capsys):
        def none(*_):
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(run_folder.fcntl, "flock", none)
        with run_folder.exclusive(tmp_path):
            pass
        assert f"{tmp_path} can't be locked (Function not implemented)" in capsys.readouterr().out

    def test_it_is_released_when_the_run_fails(self, tmp_path):
        with pytest.raises(ZeroDivisionError), run_folder.exclusive(tmp_path):
            raise ZeroDivisionError
        with run_folder.exclusive(tmp_path):
            pass

    def test_a_run_that_never_began_leaves_the_folders_that_were_there_and_no_others(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mine").mkdir()
        for folder in ("mine/a/b", "mine", "c/../c/d"):
            with run_folder.exclusive(Path(folder)):
                pass
        assert [path.name for path in tmp_path.rglob("*")] == ["mine"]
        with run_folder.exclusive(Path("mine/a/b")):
            (tmp_path / "mine/a/notes.txt").write_text("kept")
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "mine", "notes.txt"]

    def test_a_folder_that_cannot_be_made_is_an_error(self, tmp_path):
        (tmp_path / "file").write_text("x")
        with pytest.raises(CheckpointError, match="file"), run_folder.exclusive(tmp_path / "file" / "ckpt"):
            pass


class TestReplayLog:
    CAPACITY = 10

    def replay(self, rows=0):
        replay = Replay(None, Normalizer.identity(2), self.CAPACITY, 1)
        self.add(replay, rows)
        return replay

    @staticmethod
    def add(replay, rows):
        for _ in range(rows):
            n = float(replay.inserted)
            replay.add(np.array([n / 100, 0.5]), np.array([0.1]), n, np.array([n / 100, -0.5]), False)

    @pytest.mark.parametrize("pieces", [[4], [3, 4, 2], [4, 4, 4], [10], [10, 10], [25], [3, 25], [1] * 23, [4, 0, 5]])
    def test_rows_come_back_after_any_number_of_pieces(self, tmp_path, pieces):
        replay, log = self.replay(), ReplayLog(tmp_path)
        for rows in pieces:
            saved = replay.inserted
            self.add(replay, rows)
            log.append(replay, saved)
            log.forget(replay.inserted - self.CAPACITY)
        kept = min(replay.inserted, self.CAPACITY)
        table = log.load(replay.inserted, kept, replay.width)
        np.testing.assert_array_equal(table, replay.rows_since(0))
        assert table[:, -2].tolist() == list(range(replay.inserted - kept, replay.inserted))

    def test_a_save_writes_only_what_is_new(self, tmp_path):
        replay, log = self.replay(4), ReplayLog(tmp_path)
        log.append(replay, 0)
        before = tree(tmp_path)
        self.add(replay, 3)
        log.append(replay, 4)
        new = {name: content for name, content in tree(tmp_path).items() if name not in before}
        assert list(new) == ["replay/rows_4_7.npy"]
        assert all(tree(tmp_path)[name] == content for name, content in before.items())

    def test_the_log_on_disk_does_not_grow_for_ever(self, tmp_path):
        replay, log = self.replay(), ReplayLog(tmp_path)
        for _ in range(50):
            saved = replay.inserted
            self.add(replay, 5)
            log.append(replay, saved)
            log.forget(replay.inserted - self.CAPACITY)
        assert len(tree(tmp_path)) == 2

    def test_an_older_checkpoint_keeps_its_rows_until_it_goes(self, tmp_path):
        """A save that fails between its rows and its manifest must leave the previous one intact."""
        replay, log = self.replay(), ReplayLog(tmp_path)
        for episode, rows in enumerate([4, 6, 6], 1):
            saved = replay.inserted
            self.add(replay, rows)
            log.append(replay, saved)
            if episode < 3:
                save(tmp_path, episode, keep=1, about={**ABOUT, "inserted": replay.inserted})
                log.forget(checkpoint.oldest_insertion(tmp_path) - self.CAPACITY)
        assert checkpoint.oldest_insertion(tmp_path) == 10
        assert log.load(10, 10, replay.width)[:, -2].tolist() == list(range(10))

    def test_rows_newer_than_the_checkpoint_are_forgotten(self, tmp_path):
        replay, log = self.replay(4), ReplayLog(tmp_path)
        log.append(replay, 0)
        expected = replay.rows_since(0)
        self.add(replay, 3)
        log.append(replay, 4)
        np.testing.assert_array_equal(log.load(4, 4, replay.width), expected)
        assert list(tree(tmp_path)) == ["replay/rows_0_4.npy"]

    @pytest.mark.parametrize("damage", [os.unlink, empty, truncate, lambda path: np.save(path, np.zeros((3, 2)))])
    def test_a_damaged_or_missing_piece_is_an_error(self, tmp_path, damage):
        replay, log = self.replay(4), ReplayLog(tmp_path)
        log.append(replay, 0)
        damage(tmp_path / "replay" / "rows_0_4.npy")
        with pytest.raises(CheckpointError, match="rows_0_4|rows 0 to 4"):
            log.load(4, 4, replay.width)

    def test_an_empty_log_gives_no_rows(self, tmp_path):
        assert ReplayLog(tmp_path).load(0, 0, 7).shape == (0, 7)
