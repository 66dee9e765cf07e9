"""awac eval --video: real pictures of the first episode, in real time, without a display."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tiny import RECORDED, settings

from awac import cli
from awac.envs import Task
from awac.errors import TaskError
from awac.training import video

STEPS = 12
TRAIN = ["train", "--ckpt_path", "run", "--episode", "1"]
EVAL = ["eval", "--ckpt_path", "run", "--eval_episodes", "2"]


@pytest.fixture(scope="module")
def backend():
    try:
        return video._backend()
    except TaskError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def ant(tmp_path_factory, graph_mode):
    """A folder with an Ant's run whose episodes last 12 steps."""
    folder = tmp_path_factory.mktemp("ant")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main([*TRAIN, "--dataset", str(RECORDED), *settings(), "--max_episode_steps", str(STEPS)]) == 0
    return folder


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory, graph_mode):
    """A folder with a CartPole run."""
    folder = tmp_path_factory.mktemp("cartpole")
    rng = np.random.default_rng(0)
    np.savez(
        folder / "rows.npz",
        observations=rng.normal(size=(64, 4)).astype(np.float32),
        actions=rng.integers(0, 2, 64),
        rewards=np.ones(64, np.float32),
        terminals=np.arange(64) % 16 == 15,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main([*TRAIN, "--task", "CartPole-v1", "--dataset", "rows.npz", *settings()]) == 0
    return folder


def result(text):
    return next(line for line in text.splitlines() if line.startswith("Evaluate result"))


def test_a_gif_shows_the_first_episode_in_real_time(ant, backend, monkeypatch, capsys):
    monkeypatch.chdir(ant)
    assert cli.main([*EVAL, "--video", "film.gif", "--video_size", "101"]) == 0
    text = capsys.readouterr().out
    assert f"Video film.gif: {STEPS + 1} pictures, 100x100, 20 a second" in text
    with Image.open("film.gif") as film:
        assert (film.n_frames, film.size, film.info["loop"]) == (STEPS + 1, (100, 100), 0)
        pictures, times = [], []
        for i in range(film.n_frames):
            film.seek(i)
            pictures.append(np.asarray(film.convert("RGB")).astype(int))
            times.append(film.info["duration"])
    assert times == [50] * (STEPS + 1)
    assert pictures[0].std() > 20, "the picture is of one colour"
    assert np.abs(pictures[-1] - pictures[0]).mean() > 1, "nothing moves"
    assert cli.main(EVAL) == 0
    assert result(capsys.readouterr().out) == result(text), "filming changed the episodes"


def test_a_film_ends_after_video_steps(ant, backend, monkeypatch, capsys):
    monkeypatch.chdir(ant)
    assert cli.main([*EVAL, "--video", "short.gif", "--video_steps", "5"]) == 0
    assert "Video short.gif: 6 pictures, 320x320" in capsys.readouterr().out


def test_an_mp4_has_the_same_pictures(ant, backend, monkeypatch):
    pytest.importorskip("imageio_ffmpeg")
    import imageio.v3 as imageio

    monkeypatch.chdir(ant)
    assert cli.main([*EVAL, "--video", "film.mp4"]) == 0
    meta = imageio.immeta("film.mp4", plugin="FFMPEG")
    assert (meta["fps"], tuple(meta["size"])) == (20.0, (320, 320))
    frames = imageio.imread("film.mp4", plugin="FFMPEG")
    assert frames.shape == (STEPS + 1, 320, 320, 3) and frames[0].std() > 20


def test_classic_control_is_filmed_with_pygame(cartpole, monkeypatch, capsys):
    pytest.importorskip("pygame")
    monkeypatch.chdir(cartpole)
    assert cli.main([*EVAL, "--video", "pole.gif"]) == 0
    captured = capsys.readouterr()
    assert "pictures, 320x212, 25 a second" in captured.out and "pygame" not in captured.out
    assert "XDG_RUNTIME_DIR" not in captured.err
    with Image.open("pole.gif") as film:
        assert film.info["duration"] == 40


def test_without_pygame_it_is_one_line(cartpole, monkeypatch, capsys):
    monkeypatch.chdir(cartpole)
    monkeypatch.setitem(sys.modules, "pygame", None)
    assert cli.main([*EVAL, "--video", "none.gif"]) == 1
    error = capsys.readouterr().err
    assert "no picture can be rendered" in error and "pygame" in error and error.count("\n") == 1
    assert not (cartpole / "none.gif").exists()


def test_without_egl_and_osmesa_it_names_the_packages(ant, monkeypatch, capsys):
    monkeypatch.chdir(ant)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(video, "BACKENDS", ("nothing",))
    assert cli.main([*EVAL, "--video", "film2.gif"]) == 1
    error = capsys.readouterr().err
    assert "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri (or libosmesa6)" in error and error.count("\n") == 1


@pytest.mark.skipif(ctypes.util.find_library("OSMesa") is None, reason="no OSMesa here")
def test_osmesa_is_taken_where_egl_fails(monkeypatch):
    monkeypatch.setenv("MUJOCO_EGL_DEVICE_ID", "99")
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM"):  # a film made in this process has set them
        monkeypatch.delenv(name, raising=False)
    assert video._backend() == "osmesa"


@pytest.mark.parametrize("name", ["nonsense", "egl"])
def test_a_renderer_that_was_asked_for_and_does_not_work_is_one_line(ant, name):
    environment = {**os.environ, "MUJOCO_GL": name, "PYOPENGL_PLATFORM": "osmesa"}
    done = subprocess.run(
        [sys.executable, "-m", "awac.cli", *EVAL], cwd=ant, env=environment, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert f"awac: error: MUJOCO_GL={name}: MuJoCo can't be imported" in done.stderr


def test_what_cannot_be_written_is_refused_before_the_evaluation(ant, monkeypatch, capsys):
    monkeypatch.chdir(ant)
    assert cli.main([*EVAL, "--video", "film.avi"]) == 1
    assert "it is .gif or .mp4" in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.main([*EVAL, "--video", "film.mp4"]) == 1
    captured = capsys.readouterr()
    assert "pip install 'imageio-ffmpeg" in captured.err and "Evaluate" not in captured.out


@pytest.mark.parametrize(("task", "fps"), [("ant-expert-v2", 20), ("hopper-medium-v2", 25), ("walker2d-medium-v2", 25)])
def test_fast_robots_are_filmed_every_few_steps(task, fps):
    film = video.Film(video.make_env(Task.parse(task)), 10, 320)
    assert film.fps == fps
    film.close()


def test_rounding_a_gif_s_times_keeps_its_length(tmp_path):
    frames = [np.full((2, 2, 3), i, np.uint8) for i in range(60)]
    video._write_gif(tmp_path / "a.gif", frames, 30)
    with Image.open(tmp_path / "a.gif") as film:
        times = []
        for i in range(film.n_frames):
            film.seek(i)
            times.append(film.info["duration"])
    assert sum(times) == 2000 and set(times) == {30, 40}
