"""A trained policy as a function, without MindSpore: `policy = awac.load_policy("runs/s1")`."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces

from awac.algorithm.numpy_policy import NumpyPolicy
from awac.config import Config
from awac.data.normalizer import Normalizer
from awac.envs.actions import PolicyActions, to_environment
from awac.envs.make import make_env
from awac.envs.tasks import Task
from awac.errors import AWACError, CheckpointError, ConfigError, DataError, TaskError, first_line
from awac.runs import ckpt_file, files
from awac.runs.folder import MANIFEST, NETWORKS, episodes, known_episodes


class DeployedPolicy:
    """Maps raw observations to actions in the environment's own units.

    They fit `make_env` of this class and `gymnasium.make`. An environment of `awac.make_env` takes [−1, 1] and scales
    it by itself: give it `policy.network(observation[None])[0]`.

    Attributes:
        network: the same in the policy's own units, for observations (B, O): actions in [−1, 1], or indices from 0.
        space: of the environment's actions, a flat Box or a Discrete.
        task: the id of the task that it was trained for.
        episode: training episodes that its checkpoint was saved after.
        manifest: what the checkpoint says about its run.
    """

    def __init__(self, network: NumpyPolicy, space: spaces.Box | spaces.Discrete, manifest: dict):
        self.network, self.space, self.manifest = network, space, manifest
        self.task, self.episode = manifest["config"]["env"]["task"], manifest["episode"]
        self._env = Config.from_dict(manifest["config"]).env

    def __call__(self, observation, rng: np.random.Generator | None = None):
        """The action for one observation, or for a batch of them.

        Args:
            observation: (O,) or (B, O), as the environment of `make_env` gives it: Dict (by key), Tuple and matrices
                flattened.
            rng: draws from the policy; None takes its mode.

        Returns:
            (A,) or (B, A) float32 inside the environment's bounds; for discrete actions an int or (B,), counted from
            the environment's first index.

        Raises:
            DataError: the observation is of another kind or shape, or a value of it is NaN; infinities are clipped.
            ConfigError: `rng` is no generator.
        """
        if not isinstance(rng, np.random.Generator | None):
            raise ConfigError(f"rng = {rng!r} is no generator such as np.random.default_rng(0), or None for the mode")
        rows = self._rows(observation)
        single = rows.ndim == 1
        action = to_environment(self.space, self.network(rows[None] if single else rows, rng))
        return action[0] if single else action

    def make_env(self, render_mode: str | None = None) -> gymnasium.Env:
        """The environment of the run, with its `env_kwargs` and step limit, in the units of this policy.

        It is one of `awac.make_env` without the scaling of the actions: observations are flat, actions are in the
        environment's own units. Where these are a matrix, reshape the policy's vector to it. For a checkpoint that does
        not hold the environment's bounds the scaling stays.

        Raises:
            TaskError: the run had no environment, or it cannot be made here.
        """
        if self._env.no_env:
            raise TaskError("the policy was trained without an environment (no_env), so there is none to make")
        env = make_env(Task.of(self._env), render_mode=render_mode)
        return env.env if self.knows_units and isinstance(env, PolicyActions) else env

    @property
    def knows_units(self) -> bool:
        """Whether `space` is that of the run's environment: its checkpoint holds the bounds, or they are D4RL's."""
        known = isinstance(self.space, spaces.Discrete) or "action_bounds" in self.manifest
        return known or Task.of(self._env).is_d4rl  # D4RL's robots act in [-1, 1]

    def _rows(self, observation) -> np.ndarray:
        """An observation, or a batch of them, as float32."""
        size = self.network.normalizer.obs_size
        try:
            rows = np.asarray(observation, np.float32)
        except (ValueError, TypeError):
            raise DataError(
                f"an observation is {size} numbers, not a {type(observation).__name__}; make_env() flattens "
                "those of a Dict (by key) or Tuple"
            ) from None
        if rows.ndim not in (1, 2) or rows.shape[-1] != size:
            raise DataError(f"the observation has shape {rows.shape}, expected ({size},) or (B, {size})")
        if np.isnan(rows).any():
            *row, value = np.argwhere(np.isnan(rows))[0].tolist()
            raise DataError(f"value {value} of the observation{f' in row {row[0]}' if row else ''} is nan")
        return rows


def load_policy(ckpt_path: str, episode: int | None = None) -> DeployedPolicy:
    """Loads the policy of a run, or of a folder that `awac export --out` wrote; needs no MindSpore and no data set.

    A checkpoint of a version that did not store the environment's bounds gives actions in [−1, 1], with a warning if
    that may not be the environment's unit. A damaged checkpoint is skipped for an older one, with a warning.

    Args:
        ckpt_path: the folder.
        episode: a certain checkpoint, or None for the newest sound one.

    Raises:
        CheckpointError: no sound checkpoint there.
    """
    folder = Path(ckpt_path).expanduser()
    if folder.is_file():
        raise CheckpointError(f"{folder} is a file; load_policy takes the folder of a run or of `awac export --out`")
    numbers = episodes(folder) if folder.is_dir() else []
    if episode is not None and episode not in numbers:
        known = known_episodes(folder) if numbers else ""
        raise CheckpointError(f"{folder}: no checkpoint {episode} in it{known}")
    if not numbers:
        raise CheckpointError(f"{folder}: no checkpoint in it")
    numbers = numbers if episode is None else [episode]
    faults: dict[int, CheckpointError] = {}
    for number in numbers:
        try:
            policy = _read(folder, number)
            break
        except CheckpointError as error:
            faults[number] = error
    else:
        raise faults[numbers[0]]
    for number, fault in faults.items():
        warnings.warn(f"Skip checkpoint {number}: {fault}", stacklevel=2)
    if not policy.knows_units:
        warnings.warn(
            f"{folder} does not say the action bounds of {policy.task}: the policy's actions are in [-1, 1], "
            f"scale them yourself",
            stacklevel=2,
        )
    return policy


def _read(folder: Path, number: int) -> DeployedPolicy:
    """The policy of one checkpoint.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        manifest = json.loads(files.read_text(folder / MANIFEST.format(number)))
        name = NETWORKS["policy"].format(number)
        if not files.matches(folder / name, manifest["files"][name]):
            raise CheckpointError(f"{name} is damaged")
        config, discrete = Config.from_dict(manifest["config"]), bool(manifest["spaces"]["discrete"])
        arrays = ckpt_file.read(folder / name)
        network = NumpyPolicy(arrays, Normalizer.from_policy(arrays), config.algo, discrete)
        return DeployedPolicy(network, _action_space(manifest, config), manifest)
    except AWACError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    except files.READ_ERRORS as error:
        raise CheckpointError(f"{folder}: checkpoint {number} is damaged ({first_line(error)})") from error


def _action_space(manifest: dict, config: Config) -> spaces.Box | spaces.Discrete:
    """The environment's actions; [−1, 1] if the checkpoint does not hold their bounds."""
    size = int(manifest["spaces"]["action_size"])
    if manifest["spaces"]["discrete"]:
        return spaces.Discrete(size, start=int(manifest.get("action_start", 0)))
    low, high = (np.asarray(side, np.float64) for side in manifest.get("action_bounds", ([-1.0] * size, [1.0] * size)))
    return spaces.Box(*_inside(low, high), (size,), dtype=np.float32)


def _inside(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds as the float32 numbers next to them on the inside; on either side where there is none inside."""
    lowest, highest = low.astype(np.float32), high.astype(np.float32)
    lowest_in = np.where(lowest < low, np.nextafter(lowest, np.float32(np.inf)), lowest)
    highest_in = np.where(highest > high, np.nextafter(highest, np.float32(-np.inf)), highest)
    between = lowest_in <= highest_in  # not so where low = high, a value that the environment locks
    return np.where(between, lowest_in, lowest), np.where(between, highest_in, highest)
