"""A trained policy as a function, without MindSpore: `policy = awac.load_policy("runs/s1")`."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
from gymnasium import spaces

from awac.algorithm.numpy_policy import NumpyPolicy
from awac.config import Config
from awac.data.normalizer import Normalizer
from awac.envs.actions import to_environment
from awac.envs.tasks import Task
from awac.errors import AWACError, CheckpointError
from awac.runs import ckpt_file, files
from awac.runs.folder import MANIFEST, NETWORKS, episodes


class DeployedPolicy:
    """Maps raw observations to actions in the environment's own units.

    Attributes:
        task: the id of the task that it was trained for.
        episode: training episodes that its checkpoint was saved after.
    """

    def __init__(self, policy: NumpyPolicy, bounds: spaces.Box | None, task: str, episode: int):
        self._policy, self._bounds = policy, bounds
        self.task, self.episode = task, episode

    def __call__(self, observation, rng: np.random.Generator | None = None):
        """The action for one observation, or for a batch of them.

        Args:
            observation: (O,) or (B, O), as the environment gives it.
            rng: draws from the policy; None takes its mode.

        Returns:
            (A,) or (B, A) float32 inside the environment's bounds; an int or (B,) indices for discrete actions.
        """
        observation = np.asarray(observation)
        single = observation.ndim == 1
        action = self._policy(observation[None] if single else observation, rng)
        if self._bounds is not None:
            action = to_environment(self._bounds, action)
        return action[0] if single else action


def load_policy(ckpt_path: str, episode: int | None = None) -> DeployedPolicy:
    """Loads the policy of a run, or of an exported folder; needs no MindSpore and no data set.

    A checkpoint of a version that did not note the environment's bounds gives actions in [−1, 1], with a warning where
    that may not be the environment's unit.

    Args:
        ckpt_path: the folder.
        episode: a certain checkpoint, or None for the newest.

    Raises:
        CheckpointError: no sound checkpoint there.
    """
    folder = Path(ckpt_path).expanduser()
    numbers = episodes(folder) if folder.is_dir() else []
    if episode is not None:
        numbers = [number for number in numbers if number == episode]
    if not numbers:
        raise CheckpointError(f"{folder}: no checkpoint {'' if episode is None else f'{episode} '}in it")
    try:
        manifest = json.loads(files.read_text(folder / MANIFEST.format(numbers[0])))
        name = NETWORKS["policy"].format(numbers[0])
        if not files.matches(folder / name, manifest["files"][name]):
            raise CheckpointError(f"{folder / name} is damaged; give another episode")
        config, discrete = Config.from_dict(manifest["config"]), bool(manifest["spaces"]["discrete"])
        arrays = ckpt_file.read(folder / name)
        normalizer = Normalizer.from_arrays({k[11:]: v for k, v in arrays.items() if k.startswith("normalizer.")})
        policy = NumpyPolicy(arrays, normalizer, config.algo, discrete)
        bounds = None
        if "action_bounds" in manifest:
            low, high = (np.asarray(side, np.float32) for side in manifest["action_bounds"])
            bounds = spaces.Box(low, high, dtype=np.float32)
        elif not discrete and not Task.parse(config.env.task).is_d4rl:  # D4RL's robots act in [-1, 1]
            warnings.warn(
                f"{folder} does not say the action bounds of {config.env.task}: the policy's actions are in [-1, 1], "
                f"scale them yourself",
                stacklevel=2,
            )
    except AWACError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    except files.READ_ERRORS as error:
        raise CheckpointError(f"{folder}: checkpoint {numbers[0]} is damaged ({files.first_line(error)})") from error
    return DeployedPolicy(policy, bounds, config.env.task, numbers[0])
