"""AWACSession: config in, run out. Wires data, environment and networks, then hands over to mindspore-rl's Session."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from gymnasium import spaces as gym_spaces

from awac import checkpoint
from awac._rl import Session
from awac.callbacks import Checkpoints, EvaluateLog, LossLog
from awac.config import Config, algorithm_config, nearest
from awac.data.d4rl import resolve_dataset
from awac.data.normalizer import Normalizer
from awac.data.replay import Replay
from awac.doctor import quick
from awac.envs.registry import make_env
from awac.errors import CheckpointError, ConfigError
from awac.evaluate import Evaluator
from awac.trainer import AWACTrainer

DEVICES = ("CPU", "GPU", "Ascend", "Auto")


class AWACSession(Session):
    """One training or evaluation run.

    Args:
        config: the run.
        folder: checkpoint folder.
        normalizer: fitted observation normaliser.
        spaces: `obs_size`, `action_size`, `discrete` of the networks, `raw_obs_size` of the environment.
        replay: filled with the offline data; None for evaluation.
        manifest: checkpoint to start from, or None.
        eval_seed: seed of the evaluation's episodes.
    """

    def __init__(self, config: Config, folder: Path, normalizer, spaces, replay=None, manifest=None, eval_seed=None):
        seed = config.train.seed if eval_seed is None else eval_seed
        make = functools.partial(make_env, config.env.task)
        params = {
            "config": config,
            "normalizer": normalizer,
            "replay": replay,
            "evaluator": Evaluator(make, config.env.eval_episodes, seed),
            "folder": folder,
            "display": f"{str(folder).rstrip('/')}/" if os.path.isabs(folder) else f"./{folder}/",
            "spaces": spaces,
            "manifest": manifest,
            "ckpt_path": str(folder),
        }
        super().__init__(algorithm_config(config, spaces), None, params, None)

    def run(self, class_type=AWACTrainer, is_train=True, episode=0, duration=0):
        """Trains up to `episode` episodes in all, or evaluates the manifest's checkpoint."""
        # Session builds the trainer itself, while the callbacks need one to save: they ask for it when they are called.
        build = functools.partial(self._build, class_type, is_train)
        super().run(build, is_train, episode, duration)
        self.params["evaluator"].close()

    def _build(self, class_type, is_train, msrl, params):
        trainer = class_type(msrl, params)
        if is_train:
            config, folder = params["config"], params["folder"]
            after = params["manifest"]["episode"] if params["manifest"] else 0
            self.callbacks = [
                LossLog(folder, config.train.log_every, after),
                EvaluateLog(folder, config.train.eval_every, after, config.env.task),
                Checkpoints(config.train.save_every, trainer.save),
            ]
        return trainer


def train(config: Config, ckpt_path: str, episodes: int, *, device="CPU", resume=False, overwrite=False) -> None:
    """Trains: data, normaliser, replay, networks, then offline and online phases.

    Raises:
        AWACError: any mistake that the user can put right.
    """
    start = time.perf_counter()
    select_device(device)
    folder = Path(ckpt_path)
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; --ckpt_path takes a folder")
    if checkpoint.holds_a_run(folder) and not (resume or overwrite):
        raise CheckpointError(
            f"{folder} already holds a run: pass --resume to continue it or --overwrite to replace it"
        )
    manifest = _manifest_to_resume(folder, config) if resume else None
    data, origin = resolve_dataset(config.env.dataset or config.env.task, download=config.env.download)
    print(origin.describe(), flush=True)
    env = make_env(config.env.task)
    data.check_env(str(origin.path), env.observation_space, env.action_space)
    for finding in quick(data, env, config.env.task):
        print(f"Data warning: {finding.check}: {finding.text}", flush=True)
    normalizer = Normalizer.fit(data.observations)
    spaces = _spaces(env, normalizer)
    env.close()
    replay = Replay(data, normalizer, config.train.online_capacity)
    del data  # the packed table is all that training needs
    with checkpoint.exclusive(folder):
        if overwrite and not resume:
            checkpoint.clear(folder)
        session = AWACSession(config, folder, normalizer, spaces, replay, manifest)
        ready = time.perf_counter() - start
        print(
            f"Task {config.env.task}: observations {spaces['raw_obs_size']} (used: {spaces['obs_size']}), "
            f"actions {spaces['action_size']}, seed {config.train.seed}, device {ms.get_context('device_target')}, "
            f"ready in {ready:.1f} s",
            flush=True,
        )
        session.run(is_train=True, episode=episodes)


def evaluate(ckpt_path: str, *, episode=None, seed=None, eval_episodes=None, device="CPU") -> None:
    """Evaluates the newest sound checkpoint of a folder, or a given one; needs no data set.

    Raises:
        AWACError: no sound checkpoint, or one made for other sizes than the task's.
    """
    select_device(device)
    folder = Path(ckpt_path)
    manifest = checkpoint.newest(folder, episode)
    config, spaces = _read_about(folder, manifest)
    if eval_episodes:
        config = dataclasses.replace(config, env=dataclasses.replace(config.env, eval_episodes=eval_episodes))
    name = checkpoint.NETWORKS["policy"].format(manifest["episode"])
    arrays = checkpoint.read_arrays(folder / name)
    normalizer = Normalizer.from_arrays({k[11:]: v for k, v in arrays.items() if k.startswith("normalizer.")})
    env = make_env(config.env.task)
    if _spaces(env, normalizer) != spaces:
        raise CheckpointError(
            f"checkpoint {manifest['episode']} in {folder} doesn't fit the sizes of {config.env.task}"
        )
    env.close()
    AWACSession(config, folder, normalizer, spaces, manifest=manifest, eval_seed=seed).run(is_train=False)


def select_device(target: str) -> None:
    """Graph mode on a device; `Auto` keeps what MindSpore found."""
    if target not in DEVICES:
        raise ConfigError(f"device {target!r} is unknown{nearest(target, DEVICES)} (one of {', '.join(DEVICES)})")
    try:
        ms.set_context(mode=ms.GRAPH_MODE)
        if target != "Auto":
            ms.set_context(device_target=target)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"device {target} is not available to MindSpore here ({reason})") from error


def _manifest_to_resume(folder: Path, config: Config) -> dict:
    manifest = checkpoint.newest(folder, need_state=True)
    stored, _ = _read_about(folder, manifest)
    for section in ("env", "algo", "train"):
        for field in dataclasses.fields(getattr(config, section)):
            was, now = getattr(getattr(stored, section), field.name), getattr(getattr(config, section), field.name)
            if was != now:
                raise CheckpointError(
                    f"{folder} was trained with {field.name} = {was!r}, this command says {now!r}; --resume continues "
                    f"with the same configuration"
                )
    return manifest


def _read_about(folder: Path, manifest: dict) -> tuple[Config, dict]:
    try:
        return Config.from_dict(manifest["config"]), dict(manifest["spaces"])
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise CheckpointError(f"{folder}: checkpoint {manifest['episode']} has no usable config ({error})") from error


def _spaces(env, normalizer) -> dict:
    discrete = isinstance(env.action_space, gym_spaces.Discrete)
    size = int(env.action_space.n) if discrete else int(np.prod(env.action_space.shape))
    raw = math.prod(env.observation_space.shape)
    if raw != normalizer.obs_size:
        raise CheckpointError(f"the task has {raw} observations, the normaliser was fitted to {normalizer.obs_size}")
    return {"obs_size": normalizer.size, "raw_obs_size": raw, "action_size": size, "discrete": discrete}
