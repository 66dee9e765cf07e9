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

from awac.algorithm.mindrl import Session
from awac.config import Config
from awac.config_values import nearest
from awac.data.doctor import quick
from awac.data.normalizer import Normalizer
from awac.data.replay import Replay
from awac.data.sources import resolve_dataset
from awac.data.sources.resolve import has_dataset
from awac.envs.tasks import make_env
from awac.errors import CheckpointError, ConfigError, DataError
from awac.runs import checkpoint
from awac.training.callbacks import Checkpoints, EvaluateLog, LossLog
from awac.training.evaluate import Evaluator
from awac.training.sanity import Warnings
from awac.training.trainer import AWACTrainer
from awac.training.wiring import algorithm_config

START_OVER = "--overwrite starts over"
DEVICES = ("CPU", "GPU", "Ascend", "Auto")


class AWACSession(Session):
    """One training or evaluation run.

    Args:
        config: the run.
        folder: checkpoint folder.
        normalizer: fitted observation normaliser.
        spaces: `obs_size`, `action_size`, `discrete` of the networks, `raw_obs_size` of the environment.
        replay: filled with the offline data; None for evaluation.
        manifest: checkpoint to go on from, or None.
        eval_seed: seed of the evaluation's episodes.
        source: folder and manifest of the run whose learner a new run starts with, or None.
    """

    def __init__(
        self, config: Config, folder: Path, normalizer, spaces, replay=None, manifest=None, eval_seed=None, source=None
    ):
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
            "source": source,
            "ckpt_path": str(folder),
        }
        super().__init__(algorithm_config(config, spaces), None, params, None)

    def run(self, class_type=AWACTrainer, is_train=True, episode=0, duration=0):
        """Trains up to `episode` episodes in all, or evaluates the manifest's checkpoint."""
        # Session builds the trainer itself, while the callbacks need one to save: they ask for it when they are called.
        build = functools.partial(self._build, class_type, is_train)
        try:
            super().run(build, is_train, episode, duration)
        finally:
            self.params["evaluator"].close()

    def _build(self, class_type, is_train, msrl, params):
        trainer = class_type(msrl, params)
        if is_train:
            config, folder = params["config"], params["folder"]
            after = params["manifest"]["episode"] if params["manifest"] else 0
            self.callbacks = [
                LossLog(folder, config.train.log_every, after),
                Warnings(config.algo, params["spaces"]["discrete"]),
                EvaluateLog(folder, config.train.eval_every, after, config.env.task),
                Checkpoints(config.train.save_every, trainer.save),
            ]
        return trainer


def train(
    config: Config, ckpt_path: str, episodes: int, *, device="CPU", resume=False, overwrite=False, init_from=None
) -> None:
    """Trains: data, normaliser, replay, networks, then offline and online phases.

    Args:
        config: the run.
        ckpt_path: its folder.
        episodes: training episodes in all.
        device: one of `DEVICES`.
        resume: go on with the run in the folder; one that was stopped before its first checkpoint starts over.
        overwrite: replace the run in the folder.
        init_from: folder of a run whose networks, targets, optimiser moments and normaliser this one starts with.

    Raises:
        AWACError: any mistake that the user can put right.
        Interrupted: a signal stopped it where `resume` goes on.
    """
    select_device(device)
    folder = Path(ckpt_path)
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; --ckpt_path takes a folder")
    started = folder.is_dir() and checkpoint.was_started(folder)
    if resume and not started:
        raise CheckpointError(f"{folder}: no such checkpoint folder or no run in it; start it without --resume")
    if init_from and Path(init_from).resolve() == folder.resolve():
        raise CheckpointError(f"--init_from {init_from} is the new run's own folder; give it another --ckpt_path")
    with checkpoint.exclusive(folder):
        manifest = None
        if resume and checkpoint.has_checkpoints(folder):
            manifest = _manifest_to_resume(folder, config)
        elif resume:
            print(f"No checkpoint in {folder} yet: the run starts from the beginning", flush=True)
            init_from = checkpoint.read_origin(folder) or init_from
        elif checkpoint.holds_a_run(folder) and not overwrite:
            raise CheckpointError(
                f"{folder} already holds a run: pass --resume to continue it or --overwrite to replace it"
            )
        source = _source(init_from) if init_from and manifest is None else None
        _train(config, folder, episodes, manifest, source)


def _train(config: Config, folder: Path, episodes: int, manifest: dict | None, source) -> None:
    start = time.perf_counter()
    task = config.env.task
    env = make_env(task)
    if config.env.dataset is None and not has_dataset(task):
        raise DataError(f"task '{task}' has no data set of its own; give one with --dataset (awac collect records it)")
    data, origin = resolve_dataset(
        config.env.dataset or task, env=env, action_unit=config.env.action_unit, download=config.env.download
    )
    print(*origin.lines(), sep="\n", flush=True)
    for finding in quick(data, env, config.env.task):
        print(f"Data warning: {finding.check}: {finding.text}", flush=True)
    normalizer = _stored_normalizer(*source) if source else Normalizer.fit(data.observations)
    if manifest:  # a run that began with another one's normaliser goes on with it
        normalizer = _stored_normalizer(folder, manifest)
    if normalizer.size < normalizer.obs_size:
        print(f"Data: {normalizer.describe()}", flush=True)
    spaces = _spaces(env, normalizer)
    env.close()
    replay = Replay(data, normalizer, config.train.online_capacity)
    del data  # the packed table is all that training needs
    if manifest is None:
        checkpoint.clear(folder)
        checkpoint.note_origin(folder, source)
    session = AWACSession(config, folder, normalizer, spaces, replay, manifest, source=source)
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
    normalizer = _stored_normalizer(folder, manifest)
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
    try:
        manifest = checkpoint.newest(folder, need_state=True)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {START_OVER}") from None
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


def _source(init_from: str) -> tuple[Path, dict]:
    folder = Path(init_from)
    manifest = checkpoint.newest(folder, need_state=True)
    _read_about(folder, manifest)
    return folder, manifest


def _stored_normalizer(folder: Path, manifest: dict) -> Normalizer:
    path = folder / checkpoint.NETWORKS["policy"].format(manifest["episode"])
    arrays = checkpoint.read_arrays(path)
    return Normalizer.from_arrays({k[11:]: v for k, v in arrays.items() if k.startswith("normalizer.")})


def _read_about(folder: Path, manifest: dict) -> tuple[Config, dict]:
    try:
        return Config.from_dict(manifest["config"]), dict(manifest["spaces"])
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise CheckpointError(f"{folder}: checkpoint {manifest['episode']} has no usable config ({error})") from error


def _spaces(env, normalizer) -> dict:
    discrete = isinstance(env.action_space, gym_spaces.Discrete)
    size = int(env.action_space.n) if discrete else int(np.prod(env.action_space.shape))
    raw = math.prod(env.observation_space.shape)
    if raw != normalizer.obs_size:
        raise CheckpointError(f"the task has {raw} observations, the normaliser was fitted to {normalizer.obs_size}")
    return {"obs_size": normalizer.size, "raw_obs_size": raw, "action_size": size, "discrete": discrete}
