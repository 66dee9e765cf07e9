"""A film of an evaluation's first episode: `awac eval --video ant.gif`, on machines without a display as well."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from PIL import Image

from awac.envs.make import make_env
from awac.envs.tasks import Task
from awac.errors import EXTRAS, AWACError, ConfigError, TaskError, first_line, one_line
from awac.runs import files

SUFFIXES = (".gif", ".mp4")
MAX_FPS = 30
BACKENDS = ("egl", "osmesa")
NO_BACKEND = (
    "no picture can be rendered: neither EGL nor OSMesa works here; on Debian, "
    "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri (or libosmesa6)"
)


class Film(gymnasium.Wrapper):
    """Records pictures of its first episode; steps are passed through.

    Args:
        env: of `make_env` with `render_mode="rgb_array"`.
        steps: largest number of environment steps filmed.
        size: longest side of a picture in pixels; larger ones are scaled down.

    Attributes:
        fps: pictures per second for real time, at most `MAX_FPS`.
        frames: arrays (H, W, 3) uint8, H and W even.
    """

    def __init__(self, env: gymnasium.Env, steps: int, size: int):
        super().__init__(env)
        rate = env.metadata.get("render_fps") or env.metadata.get("video.frames_per_second") or MAX_FPS
        self._every = math.ceil(rate / MAX_FPS)
        self.fps = rate / self._every
        self.frames: list[np.ndarray] = []
        self._most, self._size, self._step, self._over = steps, size, 0, False

    def reset(self, *, seed=None, options=None):
        result = self.env.reset(seed=seed, options=options)
        self._over = self._step > 0
        if not self._over:  # an evaluation that begins anew resets again
            self.frames.clear()
        self._shoot()
        return result

    def step(self, action):
        result = self.env.step(action)
        self._step += 1
        self._shoot()
        self._over = self._over or result[2] or result[3] or self._step >= self._most
        return result

    def _shoot(self) -> None:
        if self._over or self._step % self._every:
            return
        try:
            picture = np.asarray(self.env.render())
        except gymnasium.error.DependencyNotInstalled as error:
            raise TaskError(f"no picture can be rendered: {one_line(error)}; pip install {EXTRAS['video']}") from error
        except Exception as error:
            raise TaskError(f"no picture can be rendered: {one_line(error)}") from error
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            got = f"{picture.dtype} of shape {picture.shape}"
            raise TaskError(f"no picture can be rendered: render() gave {got}, not uint8 of shape (H, W, 3)")
        scale = min(1.0, self._size / max(picture.shape[:2]))
        width, height = (max(2, int(side * scale) // 2 * 2) for side in (picture.shape[1], picture.shape[0]))
        self.frames.append(np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)))

    def save(self, path: Path) -> str:
        """Writes the film; returns a line about it.

        Raises:
            ConfigError: it can't be written.
        """
        write = _write_gif if path.suffix.lower() == ".gif" else _write_mp4
        try:
            files.write(path, lambda draft: write(draft, self.frames, self.fps))
            mega = path.stat().st_size / 1e6
        except (OSError, RuntimeError) as error:
            raise ConfigError(f"--video {path}: can't be written ({first_line(error)})") from error
        height, width, _ = self.frames[0].shape
        return f"Video {path}: {len(self.frames)} pictures, {width}x{height}, {self.fps:g} a second, {mega:.2f} MB"


def check_format(path: Path) -> None:
    """Refuses a file that can't be written before anything is computed for it.

    Raises:
        ConfigError: another suffix, or mp4 without its package.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--video {path}: the format is told from the suffix; it is {' or '.join(SUFFIXES)}")
    if path.suffix.lower() == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise ConfigError(
            f"--video {path}: .mp4 needs imageio-ffmpeg: pip install {EXTRAS['video']} (.gif needs nothing)"
        )


def open_film(task: Task, steps: int, size: int) -> Film:
    """An environment of the task that keeps its pictures.

    Raises:
        TaskError: the task can't be made with pictures, or nothing on this machine renders a MuJoCo scene.
    """
    for name, value in (("PYGAME_HIDE_SUPPORT_PROMPT", "1"), ("SDL_VIDEODRIVER", "dummy")):  # pygame shows no window
        os.environ.setdefault(name, value)
    try:
        env = make_env(task, render_mode="rgb_array")
    except AWACError as error:
        raise TaskError(f"no picture can be rendered: {error}") from error
    if isinstance(env.unwrapped, MujocoEnv) and "MUJOCO_GL" not in os.environ:
        try:
            os.environ["MUJOCO_GL"] = _backend()  # Gymnasium reads it at the first picture
        except TaskError:
            env.close()
            raise
    return Film(env, steps, size)


def _backend() -> str:
    """The first way to render without a display that works here.

    Each is tried in a separate process: once PyOpenGL is loaded for one of them, it can't be used for another.

    Raises:
        TaskError: none does.
    """
    for name in BACKENDS:
        code = f"from mujoco.{name} import GLContext; GLContext(8, 8).make_current()"
        if subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0:
            return name
    raise TaskError(NO_BACKEND)


def _write_gif(path: Path, frames: list[np.ndarray], fps: float) -> None:
    """GIF delays are hundredths of a second; rounding the cumulative times keeps the film's length right."""
    ends = [round(100 * i / fps) for i in range(len(frames) + 1)]
    times = [10 * (end - start) for start, end in zip(ends, ends[1:], strict=False)]
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(path, save_all=True, append_images=rest, duration=times, loop=0)


def _write_mp4(path: Path, frames: list[np.ndarray], fps: float) -> None:
    import imageio.v3 as imageio

    imageio.imwrite(path, np.stack(frames), plugin="FFMPEG", fps=fps, macro_block_size=2)
