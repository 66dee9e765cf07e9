"""AWACSession: wires data, environment and networks, and runs them through mindspore-rl's Session."""

from __future__ import annotations

import contextlib
import dataclasses
import operator
import time
from pathlib import Path

import mindspore as ms
import numpy as np

from awac.algorithm.forks import refuse_after_fork
from awac.algorithm.mindrl import Session
from awac.algorithm.ranks import Ranks
from awac.config import KEYS, Config
from awac.data.normalizer import Normalizer
from awac.data.replay import Replay
from awac.envs import Task, make_env
from awac.errors import CheckpointError, ConfigError, TaskError, did_you_mean, first_line
from awac.runs import checkpoint
from awac.runs import folder as run_folder
from awac.training.callbacks import Checkpoints, EvaluateLog, LossLog, NoEvaluation, weights_in_words
from awac.training.context import RunContext, make_evaluator, network_spaces
from awac.training.distributed import own_folder
from awac.training.evaluate import Evaluation
from awac.training.loggers import make as make_loggers
from awac.training.material import check_environment, collect_material
from awac.training.progress import Progress
from awac.training.resume import (
    about,
    action_facts,
    check_data,
    manifest_to_resume,
    read_about,
    same_interface,
    same_networks,
    same_settings,
    stored_normalizer,
    stored_run,
)
from awac.training.sanity import Warnings
from awac.training.trainer import AWACTrainer
from awac.training.video import Film, check_format, open_film
from awac.training.wiring import algorithm_config

DEVICES = ("CPU", "GPU", "Ascend", "Auto")


class AWACSession(Session):
    """One training or evaluation run, through mindspore-rl's Session.

    Args:
        context: what the trainer needs.
        callbacks: further mindspore-rl callbacks, called after the run's own.
    """

    def __init__(self, context: RunContext, callbacks=()):
        config, folder = context.config, context.folder
        own: list = []
        if context.replay:
            after = context.manifest["episode"] if context.manifest else 0
            own = [
                Progress(),
                LossLog(folder, config.train.log_every, after),
                Warnings(config.algo, context.spaces["discrete"]),
                Checkpoints(config.train.save_every),  # before the evaluation, which a signal may interrupt
                NoEvaluation()
                if config.env.no_env
                else EvaluateLog(folder, config.train.eval_every, context.manifest, context.task, _switch(context)),
            ]
        params = {"context": context, "ckpt_path": str(folder)}
        super().__init__(algorithm_config(config, context.spaces, context.env), None, params, [*own, *callbacks])
        self.context = context


def _switch(context: RunContext) -> int | None:
    """Gradient steps at the switch; None for a run that has no policy from offline training."""
    taken_over = context.source or "init_from" in (context.manifest or {})
    return context.config.train.offline_train_steps or (0 if taken_over else None)


def train(
    config: Config,
    ckpt_path: str,
    episodes: int,
    *,
    device="CPU",
    resume=False,
    overwrite=False,
    init_from=None,
    loggers=(),
    callbacks=(),
) -> None:
    """Trains: data, normaliser, replay, networks, then offline and online phases.

    Args:
        config: the run.
        ckpt_path: its folder.
        episodes: training episodes in all.
        device: one of `DEVICES`.
        resume: continue the run in the folder; one that was stopped before its first checkpoint starts over.
        overwrite: replace the run in the folder.
        init_from: folder of a run whose networks, targets, optimiser moments and normaliser this one starts with.
        loggers: names of `awac.training.loggers` besides the log and the CSV files; of several workers only the first
            has them.
        callbacks: mindspore-rl callbacks, called after the run's own. `params` of `episode_end` has `cur_episode`,
            `phase`, `metrics`, `train_return`, `optimistic`, `gradient_steps`, `env_steps`, `evaluation` (or None) and
            the functions `evaluate` and `save`.

    Raises:
        AWACError: any mistake that the user can fix.
        Interrupted: a signal stopped it; `resume` continues from there.
    """
    episodes = _whole(episodes)
    select_device(device)
    config = check_environment(config, episodes)
    with own_folder(Path(ckpt_path).expanduser(), config.algo.batch_size) as folder:
        made = make_loggers(loggers, folder, config) if Ranks().rank == 0 else []
        _begin(config, folder, episodes, resume, overwrite, init_from, [*made, *callbacks])


def _whole(episodes) -> int:
    try:
        number = operator.index(episodes)
    except TypeError:
        number = 0
    if number < 1:
        raise ConfigError(f"episodes = {episodes!r} must be a positive whole number")
    return number


def _begin(config: Config, folder: Path, episodes: int, resume, overwrite, init_from, callbacks) -> None:
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; --ckpt_path takes a folder")
    if resume and not run_folder.is_run(folder):
        raise CheckpointError(f"{folder}: no such checkpoint folder or no run in it; start it without --resume")
    others = [p for p in folder.iterdir() if p.name != run_folder.LOCK] if folder.is_dir() else []
    if overwrite and others and not run_folder.is_run(folder):
        raise CheckpointError(
            f"{folder} holds files but no run of awac, so --overwrite is refused; choose another --ckpt_path"
        )
    if init_from and Path(init_from).expanduser().resolve() == folder.resolve():
        raise CheckpointError(f"--init_from {init_from} is the new run's own folder; give it another --ckpt_path")
    if folder.is_dir():
        run_folder.refuse_foreign(folder)
    with run_folder.exclusive(folder):
        manifest = number = None
        if resume and run_folder.episodes(folder):
            manifest = manifest_to_resume(folder, config)
            if init_from:
                print(f"--init_from is not used: the run in {folder} goes on from its own checkpoint", flush=True)
        elif resume:
            print(f"No checkpoint in {folder} yet: the run starts from the beginning", flush=True)
            if stored := stored_run(folder)[0]:
                same_settings(folder, stored, config)
            init_from, number = run_folder.read_origin(folder) or (init_from, None)
        elif run_folder.holds_a_run(folder) and not overwrite:
            raise CheckpointError(
                f"{folder} already holds a run: pass --resume to continue it or --overwrite to replace it (in Python "
                "resume=True or overwrite=True)"
            )
        source = None
        if init_from and manifest is None:
            place = Path(init_from).expanduser()
            source = (place, checkpoint.newest(place, number, need_state=True))
            read_about(*source)
        with contextlib.ExitStack() as stack:
            _train(config, folder, episodes, manifest, source, callbacks, stack)


def _train(config: Config, folder: Path, episodes: int, manifest: dict | None, source, callbacks, stack) -> None:
    start = time.perf_counter()
    task, env, data, origin = collect_material(config, stack)
    if manifest:
        check_data(folder, manifest, data, origin)
        if manifest["episode"] >= episodes:
            done = manifest["episode"]
            print(
                f"Nothing to do: {folder} has {done} episodes done and is to have {episodes}; --episode asks for more",
                flush=True,
            )
        normalizer = stored_normalizer(folder, manifest)  # also if the run started with another run's
    else:
        normalizer = stored_normalizer(*source) if source else Normalizer.fit(data.observations)
    if normalizer.size < normalizer.obs_size:
        print(f"Data: {normalizer.describe()}", flush=True)
    spaces = network_spaces(env, normalizer)
    facts = {**about(config, spaces, data, origin, env), "episodes": episodes}
    if source:
        place, start_manifest = source
        facts["init_from"] = f"checkpoint {start_manifest['episode']} of the run {place.resolve().name}"
        same_interface(place, start_manifest, facts)
        same_networks(place, start_manifest, config.algo, spaces["discrete"])
    elif manifest and "init_from" in manifest:
        facts["init_from"] = manifest["init_from"]
    replay = Replay(data, normalizer, config.train.online_capacity, release=True)
    del data  # the packed table is all that training needs
    evaluator = stack.enter_context(contextlib.closing(make_evaluator(config, task, env, config.train.seed)))
    context = RunContext(config, folder, normalizer, task, env, evaluator, manifest, replay, source, facts)
    session = AWACSession(context, callbacks)
    ready = time.perf_counter() - start
    place = f"Task {config.env.task}" if config.env.task else "No task"
    print(
        f"{place}: observations {spaces['raw_obs_size']} (used: {spaces['obs_size']}), "
        f"actions {spaces['action_size']}, seed {config.train.seed}, device {ms.get_context('device_target')}, "
        f"ready in {ready:.1f} s",
        flush=True,
    )
    path, before = session.msrl.learner.path, (manifest or {}).get("learner_path")
    print(f"Learner: {path}", flush=True)
    print(f"Weights: {weights_in_words(config.algo)}", flush=True)
    if before and before.split(",")[0] != path.split(",")[0]:
        print(f"The run began with {before}: from here on, results may differ in the last digits", flush=True)
    session.run(AWACTrainer, is_train=True, episode=episodes)


def evaluate(
    ckpt_path: str,
    *,
    episode=None,
    seed=None,
    eval_episodes=None,
    stochastic=False,
    device="CPU",
    video=None,
    video_steps=300,
    video_size=320,
) -> Evaluation:
    """Evaluates the newest sound checkpoint of a folder, or a given one; needs no data set.

    Args:
        ckpt_path: folder of a training run.
        episode: a certain checkpoint, or None for the newest.
        seed: of the evaluation's episodes; None: the run's.
        eval_episodes: how many; None: as trained.
        stochastic: sampled actions in place of the policy's mode.
        device: one of `DEVICES`.
        video: file for a film of the first episode, .gif or .mp4; None makes none.
        video_steps: environment steps in it, at most.
        video_size: its longest side in pixels, at most.

    Returns:
        The episodes' returns and the share that ended early.

    Raises:
        AWACError: no sound checkpoint, one made for other sizes than the task's, or a film that can't be made here.
    """
    target = Path(video).expanduser() if video else None
    if target:
        check_format(target)
    select_device(device)
    folder = Path(ckpt_path).expanduser()
    manifest = checkpoint.newest(folder, episode)
    config, spaces = read_about(folder, manifest)
    if config.env.no_env:
        raise TaskError(f"{folder} was trained without an environment (no_env); awac.load_policy gives its actions")
    if eval_episodes is not None:
        count = KEYS["eval_episodes"].check(eval_episodes, "evaluate")
        config = dataclasses.replace(config, env=dataclasses.replace(config.env, eval_episodes=count))
    seed = config.train.seed if seed is None else KEYS["seed"].check(seed, "evaluate")
    normalizer = stored_normalizer(folder, manifest)
    task = Task.of(config.env)
    with contextlib.ExitStack() as stack:
        # A film is an environment too, and there may be one only.
        env = open_film(task, video_steps, video_size) if target else make_env(task)
        stack.callback(env.close)
        if network_spaces(env, normalizer) != spaces:
            raise CheckpointError(
                f"checkpoint {manifest['episode']} in {folder} doesn't fit the sizes of {config.env.task}"
            )
        same_interface(folder, manifest, action_facts(env))
        evaluator = make_evaluator(config, task, env, seed)
        stack.callback(evaluator.close)
        sampler = np.random.default_rng([seed, 11]) if stochastic else None
        context = RunContext(config, folder, normalizer, task, env, evaluator, manifest, sampler=sampler)
        AWACSession(context).run(AWACTrainer, is_train=False)
        if isinstance(env, Film) and target:
            print(env.save(target), flush=True)
        return context.results[-1]


def select_device(target: str) -> None:
    """Graph mode on a device; `Auto` keeps MindSpore's own choice."""
    refuse_after_fork()
    if target not in DEVICES:
        raise ConfigError(f"device {target!r} is unknown{did_you_mean(target, DEVICES)} (one of {', '.join(DEVICES)})")
    try:
        ms.set_context(mode=ms.GRAPH_MODE)
        if target != "Auto":
            ms.set_context(device_target=target)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"device {target} is not available to MindSpore here ({first_line(error)})") from error
