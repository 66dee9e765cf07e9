"""AWACTrainer: the offline phase, the switch, the online phase, evaluation, and the state that a checkpoint holds.

Rows go from the replay to the learner, weights from the learner to the actor; the trainer computes no gradient. A
training episode is `n_steps_per_episode` gradient steps. An environment episode runs to its own end, over as many
training episodes as it takes.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import gymnasium
import numpy as np
from mindspore import Tensor

from awac.algorithm.mindrl import EVAL, CallbackManager, CallbackParam, Trainer
from awac.algorithm.numpy_critic import NumpyCritic
from awac.algorithm.numpy_policy import NumpyPolicy
from awac.algorithm.policy import check_parameter_arrays, parameter_arrays
from awac.algorithm.step import METRICS
from awac.config import Config
from awac.data.normalizer import Normalizer
from awac.data.replay import Replay
from awac.envs.tasks import Task, normalized_score
from awac.errors import CheckpointError, DivergenceError, EnvironmentFault, Interrupted
from awac.runs import checkpoint, files
from awac.runs.folder import NETWORKS
from awac.runs.state import CheckpointStore, Snapshot
from awac.training.callbacks import RULE, print_details
from awac.training.evaluate import Evaluation, Evaluator
from awac.training.interrupt import GracefulStop
from awac.training.rollout import Rollout

STREAMS = ("batch", "noise", "act", "reset")
"""One random generator for each purpose; all of them are in a checkpoint."""


@dataclass(frozen=True)
class RunContext:
    """What a session hands to its trainer.

    Attributes:
        config: the run.
        folder: of the checkpoints.
        display: that folder as the log shows it.
        normalizer: fitted to the data.
        spaces: `obs_size`, `action_size`, `discrete` of the networks, `raw_obs_size` of the environment.
        task: of the configuration, parsed.
        env: the environment to collect in.
        evaluator: runs evaluation episodes.
        replay: filled with the offline data; None for evaluation.
        manifest: checkpoint to go on from, or None.
        source: folder and manifest of the run whose learner a new one starts with, or None.
        about: JSON-able facts for the manifest.
        results: the trainer's `load_and_eval` adds its Evaluation here.
    """

    config: Config
    folder: Path
    display: str
    normalizer: Normalizer
    spaces: dict
    task: Task
    env: gymnasium.Env
    evaluator: Evaluator
    replay: Replay | None = None
    manifest: dict | None = None
    source: tuple[Path, dict] | None = None
    about: dict | None = None
    results: list[Evaluation] = field(default_factory=list)


class AWACTrainer(Trainer):
    """Trains and evaluates.

    Args:
        msrl: mindspore-rl's wiring of policy, actor, learner and environment.
        params: `context`, a RunContext.
    """

    def __init__(self, msrl, params):
        super().__init__(msrl)
        context: RunContext = params["context"]
        self.context, self.config, self.replay = context, context.config, context.replay
        streams = np.random.SeedSequence(self.config.train.seed).spawn(len(STREAMS))
        self.rngs = {name: np.random.default_rng(s) for name, s in zip(STREAMS, streams, strict=True)}
        self.episode = self.gradient_steps = self.env_steps = 0
        self.reward_max = self.replay.largest_reward() if self.replay else 0.0
        self.stop = GracefulStop()
        self.store: CheckpointStore | None = None
        if self.replay:
            about = {**(context.about or {}), "learner_path": self.msrl.learner.path}
            self.store = CheckpointStore(context.folder, self.replay, about, self.config.train.max_checkpoints)
            self.rollout = Rollout(msrl.actors, self.rngs["reset"])

    def train(self, episodes, callbacks=None, ckpt_path=None):
        """Trains until `episodes` are done in all, from the manifest's state if there is one.

        Raises:
            Interrupted: a signal came; the state of the last training episode's end is saved.
            EnvironmentFault: the environment failed; the same.
        """
        assert self.store is not None, "a trainer without a replay memory only evaluates"
        if self.context.manifest:
            self.restore(self.context.manifest["episode"])
        elif self.context.source:
            self.start_from(*self.context.source)
        with CallbackManager(callbacks) as callback_list, self.stop:
            params = CallbackParam(
                episodes_num=episodes,
                cur_episode=self.episode,
                evaluate=self.evaluate,
                save=self.save,
                phase="online" if self.env_steps else "offline",
                env_steps=self.env_steps,
            )
            boundary = self.snapshot()
            try:
                callback_list.begin(params)
                while self.episode < episodes:
                    callback_list.episode_begin(params)
                    (params.metrics, params.first), params.train_return, params.steps = self.train_one_episode()
                    boundary = self.snapshot()
                    params.phase = "online" if self.env_steps else "offline"
                    params.cur_episode = self.episode
                    params.gradient_steps, params.env_steps = self.gradient_steps, self.env_steps
                    params.reward_max = self.reward_max
                    callback_list.episode_end(params)
            except Interrupted as interrupted:
                raise Interrupted(interrupted.number, self.store.keep(boundary, self.gradient_steps)) from None
            except EnvironmentFault as fault:
                raise EnvironmentFault(f"{fault}; {self.store.keep(boundary, self.gradient_steps)}") from fault
            callback_list.end(params)

    def train_one_episode(self):
        """Takes `n_steps_per_episode` gradient steps.

        Returns:
            ((metrics, metrics of the first call), mean return of the finished environment episodes or None, steps).

        Raises:
            DivergenceError: a loss or a weight is not finite.
            EnvironmentFault: the environment failed.
        """
        train = self.config.train
        online = self.gradient_steps >= train.offline_train_steps
        returns: list[float] = []
        if online and self.env_steps == 0:
            print(f"Switch to online training after {self.gradient_steps} offline steps", flush=True)
            if train.online_warmup:
                returns += self.collect(train.online_warmup)
        history, times = [], []
        for _ in range(train.n_steps_per_episode // train.steps_per_call):
            start = time.perf_counter()
            if online:
                returns += self.collect(train.steps_per_call)
            history.append(self.learn())
            times.append(time.perf_counter() - start)
            self.stop.check()
        self.check_weights()
        self.episode += 1
        metrics = dict(zip(METRICS, np.mean(history, axis=0).tolist(), strict=True))
        metrics["per_step_time_ms"] = 1000 * sum(times) / train.n_steps_per_episode
        first = dict(zip(METRICS, history[0].tolist(), strict=True))
        second_call = times[min(1, len(times) - 1)]  # the first one compiles
        first["per_step_time_ms"] = 1000 * second_call / train.steps_per_call
        return (metrics, first), float(np.mean(returns)) if returns else None, train.n_steps_per_episode

    def learn(self) -> np.ndarray:
        """One call of the learner: K gradient steps; returns their mean metrics."""
        assert self.replay is not None
        train, algo = self.config.train, self.config.algo
        share = train.offline_share if self.replay.offline_size else None
        rows = self.replay.sample(self.rngs["batch"], train.steps_per_call, algo.batch_size, share)
        shape = (train.steps_per_call, 2, algo.batch_size, self.msrl.learner.actor.noise_size)
        noise = self.rngs["noise"].standard_normal(shape, np.float32)
        metrics, bad_step = self.msrl.agent_learn((rows, noise))
        if bad_step < train.steps_per_call:
            raise DivergenceError(
                f"a loss is not finite at gradient step {self.gradient_steps + bad_step + 1}; training stops, the last "
                f"checkpoint in {self.context.folder} is kept (try a lower critic_lr, look for outliers in the rewards)"
            )
        self.gradient_steps += train.steps_per_call
        return metrics

    def check_weights(self) -> None:
        """Looks at every parameter, optimiser moments included.

        Raises:
            DivergenceError: one is not finite.
        """
        for parameter in self.msrl.learner.get_parameters():
            if not np.isfinite(parameter.asnumpy()).all():
                raise DivergenceError(
                    f"{parameter.name} is not finite after gradient step {self.gradient_steps}; training stops, the "
                    f"last checkpoint in {self.context.folder} is kept (try a lower learning rate)"
                )

    def collect(self, steps: int) -> list[float]:
        """Acts for `steps` environment steps with the current policy; returns the returns of finished episodes."""
        assert self.replay is not None
        candidates = self.config.train.online_candidates
        self.msrl.actors.use(self.numpy_policy(), self.numpy_critic() if candidates > 1 else None, candidates)
        returns: list[float] = []
        for _ in range(steps):
            row = self.rollout.step(self.rngs["act"])
            self.replay.add(row.observation, row.action, row.reward, row.next_observation, row.terminated)
            self.env_steps += 1
            self.reward_max = max(self.reward_max, abs(row.reward))
            if row.episode_return is not None:
                returns.append(row.episode_return)
            self.stop.check()
        return returns

    def evaluate(self, policy: NumpyPolicy | None = None) -> Evaluation:
        """Full episodes of the mode of a policy, or of the one that is being trained."""
        actor = self.msrl.actors
        actor.use(policy or self.numpy_policy())

        def choose(observations):
            self.stop.check()
            return actor.get_action(EVAL, (observations, None))

        result = self.context.evaluator(choose)
        if self.context.evaluator.uses_spare and self.replay:  # it was the environment that training is in
            self.rollout.load_state_dict(self.rollout.state_dict())
        return result

    def numpy_policy(self, weights: dict[str, np.ndarray] | None = None) -> NumpyPolicy:
        """A policy on numpy from arrays, or from the one that is being trained."""
        weights = weights or parameter_arrays(self.msrl.learner.deployed_actor)
        return NumpyPolicy(weights, self.context.normalizer, self.config.algo, self.context.spaces["discrete"])

    def numpy_critic(self) -> NumpyCritic:
        """The critics' numpy copy."""
        weights = parameter_arrays(self.msrl.learner.critic)
        layer_norm, discrete = self.config.algo.critic_layer_norm, self.context.spaces["discrete"]
        return NumpyCritic(weights, self.context.normalizer, layer_norm, discrete)

    def load_and_eval(self, ckpt_path=None):
        """Loads the manifest's checkpoint, evaluates it and prints the lines that users know."""
        folder, display = self.context.folder, self.context.display
        assert self.context.manifest is not None
        episode = self.context.manifest["episode"]
        nets = {name: checkpoint.load_network(folder, name, episode, display) for name in NETWORKS}
        try:
            check_parameter_arrays(self.msrl.learner.deployed_actor, nets["policy"])
            twins = {key: np.stack([value, nets["value_net_2"][key]]) for key, value in nets["value_net_1"].items()}
            check_parameter_arrays(self.msrl.learner.critic, twins)
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"checkpoint {episode} in {folder} was made for other sizes ({error})") from error
        result = self.evaluate(self.numpy_policy(nets["policy"]))
        self.context.results.append(result)
        score = normalized_score(self.context.task, result.mean)
        print(RULE)
        print(f"Evaluate result is {result.mean:.3f}, checkpoint file in {display}")
        print(RULE)
        print_details(result, score)
        return Tensor(result.mean)

    def trainable_variables(self):
        """The networks by the names of their checkpoint folders; the twin critics are one cell."""
        learner = self.msrl.learner
        return {"policy": learner.deployed_actor, "value_net_1": learner.critic, "value_net_2": learner.critic}

    def save(self) -> None:
        """Writes a checkpoint of the whole training state."""
        assert self.store is not None
        self.store.write(self.snapshot())

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of everything that `load_state_dict` needs to go on exactly, online rows excepted."""
        assert self.replay is not None
        counters = (self.episode, self.gradient_steps, self.env_steps, self.replay.inserted)
        return {
            **{f"parameter/{name}": value for name, value in self.msrl.learner.state_dict().items()},
            **{f"rng/{name}": np.array(json.dumps(rng.bit_generator.state)) for name, rng in self.rngs.items()},
            **{f"environment/{name}": value for name, value in self.rollout.state_dict().items()},
            "counters": np.array(counters, np.int64),
        }

    def load_state_dict(self, arrays: dict[str, np.ndarray]) -> None:
        """The inverse of `state_dict`; the online rows must be in the memory already.

        Raises:
            CheckpointError: the arrays are those of another run, or damaged.
        """
        self._load_learner(arrays)
        try:
            for name, rng in self.rngs.items():
                rng.bit_generator.state = json.loads(str(arrays[f"rng/{name}"]))
        except files.READ_ERRORS as error:
            raise CheckpointError(f"a generator's state is damaged ({files.first_line(error)})") from error
        self.episode, self.gradient_steps, self.env_steps, _ = _counters(arrays)
        self.rollout.load_state_dict({k[12:]: v for k, v in arrays.items() if k.startswith("environment/")})

    def snapshot(self) -> Snapshot:
        """A copy of the state as it is."""
        assert self.replay is not None
        learner = self.msrl.learner
        critics = parameter_arrays(learner.critic)
        normalizer = {f"normalizer.{key}": value for key, value in self.context.normalizer.arrays().items()}
        networks = {
            "policy": {**parameter_arrays(learner.deployed_actor), **normalizer},
            "value_net_1": {key: value[0] for key, value in critics.items()},
            "value_net_2": {key: value[1] for key, value in critics.items()},
        }
        return Snapshot(self.episode, self.gradient_steps, self.replay.inserted, networks, self.state_dict())

    def restore(self, episode: int) -> None:
        """Takes up a checkpoint of the run's own folder exactly.

        Raises:
            CheckpointError: it doesn't fit this run, or online rows are missing.
        """
        assert self.store is not None and self.replay is not None
        arrays = checkpoint.load_state(self.context.folder, episode)
        try:
            inserted = _counters(arrays)[3]
            self.store.restore(episode, inserted)
            self.load_state_dict(arrays)
        except CheckpointError as error:
            raise CheckpointError(f"checkpoint {episode} in {self.context.folder} can't be resumed: {error}") from error
        self.reward_max = self.replay.largest_reward()
        print(f"Resume after episode {self.episode}", flush=True)

    def start_from(self, folder: Path, manifest: dict) -> None:
        """Begins a new run with another one's learner: networks, targets, optimiser moments.

        Counters, generators and online rows are this run's own. The offline phase goes on where the source stood in
        its own; a source that has finished it starts this run at the switch.

        Raises:
            CheckpointError: the source was made for other sizes.
        """
        source = f"checkpoint {manifest['episode']} in {folder}"
        arrays = checkpoint.load_state(folder, manifest["episode"])
        try:
            self._load_learner(arrays)
            steps = _counters(arrays)[1]
            finished = steps >= int(manifest["config"]["train"]["offline_train_steps"])
        except (CheckpointError, *files.READ_ERRORS) as error:
            raise CheckpointError(f"{source} doesn't fit this run ({files.first_line(error)})") from error
        offline = self.config.train.offline_train_steps
        self.gradient_steps = offline if finished else min(steps, offline)
        print(f"Start from {source}, made by {steps} gradient steps", flush=True)
        self.save()

    def _load_learner(self, arrays: dict[str, np.ndarray]) -> None:
        prefix = "parameter/"
        self.msrl.learner.load_state_dict({k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)})


def _counters(arrays: dict[str, np.ndarray]) -> tuple[int, int, int, int]:
    """Episodes, gradient steps, environment steps and online rows.

    Raises:
        CheckpointError: they are missing or make no sense.
    """
    try:
        episode, gradient_steps, env_steps, inserted = (int(n) for n in arrays["counters"])
    except files.READ_ERRORS as error:
        raise CheckpointError(f"its counters are damaged ({files.first_line(error)})") from error
    if min(episode, gradient_steps, env_steps, inserted) < 0:
        raise CheckpointError("its counters are damaged (negative)")
    return episode, gradient_steps, env_steps, inserted
