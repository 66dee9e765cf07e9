"""AWACTrainer: offline phase → switch → online phase, with evaluation and the state that a checkpoint holds.

It turns the wheel and knows no gradient: rows go from the replay to the learner, weights from the learner to the actor.
A training episode is `n_steps_per_episode` gradient steps. Online, each starts with a fresh environment episode (one
that the boundary cuts is a truncation, not an end), so that a checkpoint needs no state of the simulator.
"""

from __future__ import annotations

import time

import numpy as np
from mindspore import Tensor

from awac.algorithm.learner import METRICS
from awac.algorithm.mindrl import COLLECT, EVAL, CallbackManager, CallbackParam, Trainer
from awac.algorithm.policy import NumpyPolicy, load_parameter_arrays, parameter_arrays
from awac.envs.tasks import normalized_score
from awac.errors import CheckpointError, DivergenceError, Interrupted
from awac.runs import checkpoint
from awac.runs.state import TrainingState
from awac.training.callbacks import RULE, print_details
from awac.training.interrupt import GracefulStop

STREAMS = ("batch", "noise", "act", "reset")
"""One random generator for each purpose; all of them are in a checkpoint."""


class AWACTrainer(Trainer):
    """Trains and evaluates.

    Args:
        msrl: mindspore-rl's wiring of policy, actor, learner and environments.
        params: `config` (Config), `normalizer`, `replay` (None for evaluation), `evaluator` (Evaluator), `folder` of
            the checkpoints, `display` (that folder as the log shows it), `spaces`, `manifest` to go on from or None,
            and `source`: None, or folder and manifest of the run whose learner a new one starts with.
    """

    def __init__(self, msrl, params):
        super().__init__(msrl)
        self.config, self.normalizer, self.replay = params["config"], params["normalizer"], params["replay"]
        self.evaluator, self.folder, self.display = params["evaluator"], params["folder"], params["display"]
        self.spaces, self.manifest, self.source = params["spaces"], params["manifest"], params["source"]
        streams = np.random.SeedSequence(self.config.train.seed).spawn(len(STREAMS))
        self.rngs = {name: np.random.default_rng(s) for name, s in zip(STREAMS, streams, strict=True)}
        self.episode = self.gradient_steps = self.env_steps = 0
        self.reward_max = self.replay.largest_reward() if self.replay else 0.0
        self.state, self.stop = TrainingState(self), GracefulStop()

    def train(self, episodes, callbacks=None, ckpt_path=None):
        """Trains until `episodes` are done in all, from the manifest's state if there is one.

        Raises:
            Interrupted: a signal came; the state of the last training episode's end is saved.
        """
        if self.manifest:
            self.state.restore(self.manifest["episode"])
        elif self.source:
            self.state.start_from(*self.source)
        with CallbackManager(callbacks) as callback_list, self.stop:
            params = CallbackParam(episodes_num=episodes, cur_episode=self.episode, evaluate=self.evaluate)
            callback_list.begin(params)
            while self.episode < episodes:
                boundary = self.state.snapshot()
                try:
                    callback_list.episode_begin(params)
                    (params.metrics, params.first), params.train_return, params.steps = self.train_one_episode()
                    params.phase = "online" if self.env_steps else "offline"
                    params.cur_episode = self.episode
                    params.gradient_steps, params.env_steps = self.gradient_steps, self.env_steps
                    params.reward_max = self.reward_max
                    callback_list.episode_end(params)
                except Interrupted as interrupted:
                    raise Interrupted(interrupted.number, self.state.keep(boundary)) from None
            callback_list.end(params)

    def train_one_episode(self):
        """Takes `n_steps_per_episode` gradient steps.

        Returns:
            ((metrics, metrics of the first call), mean return of the finished environment episodes or None, steps).

        Raises:
            DivergenceError: a loss or a weight is not finite.
        """
        train = self.config.train
        online = self.gradient_steps >= train.offline_train_steps
        if online and self.env_steps == 0:
            print(f"Switch to online training after {self.gradient_steps} offline steps", flush=True)
        observation, running = self.reset() if online else None, 0.0
        returns: list[float] = []
        if online and self.env_steps == 0 and train.online_warmup:
            observation, running = self.collect(observation, running, returns, train.online_warmup)
        history, times = [], []
        for _ in range(train.n_steps_per_episode // train.steps_per_call):
            start = time.perf_counter()
            if online:
                observation, running = self.collect(observation, running, returns, train.steps_per_call)
            history.append(self.learn())
            times.append(time.perf_counter() - start)
            self.stop.check()
        self.check_weights()
        self.episode += 1
        metrics = dict(zip(METRICS, np.mean(history, axis=0).tolist(), strict=True))
        metrics["per_step_time_ms"] = 1000 * sum(times) / train.n_steps_per_episode
        first = dict(zip(METRICS, history[0].tolist(), strict=True))
        first["per_step_time_ms"] = (
            1000 * times[min(1, len(times) - 1)] / train.steps_per_call
        )  # the first one compiles
        return (metrics, first), float(np.mean(returns)) if returns else None, train.n_steps_per_episode

    def learn(self) -> np.ndarray:
        """One call of the learner: K gradient steps; returns their mean metrics."""
        train, algo = self.config.train, self.config.algo
        share = train.offline_share if self.replay.offline_size else None
        rows = self.replay.sample(self.rngs["batch"], train.steps_per_call, algo.batch_size, share)
        shape = (train.steps_per_call, 2, algo.batch_size, self.msrl.learner.actor.noise_size)
        noise = self.rngs["noise"].standard_normal(shape, np.float32)
        metrics, bad_step = self.msrl.agent_learn((rows, noise))
        if bad_step < train.steps_per_call:
            raise DivergenceError(
                f"a loss is not finite at gradient step {self.gradient_steps + bad_step + 1}; training stops, the last "
                f"checkpoint in {self.folder} is kept (try a lower critic_lr, or look for outliers in the rewards)"
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
                    f"last checkpoint in {self.folder} is kept (try a lower learning rate)"
                )

    def collect(self, observation, running, returns, steps):
        """Acts for `steps` environment steps with the current policy; returns the last observation and its return."""
        actor = self.msrl.actors
        actor.use(self.numpy_policy())
        for _ in range(steps):
            action, reward, following, done, terminated = actor.act(COLLECT, (observation, self.rngs["act"]))
            self.replay.add(observation, action, reward, following, terminated)
            observation, running = following, running + reward
            self.env_steps += 1
            self.reward_max = max(self.reward_max, abs(reward))
            self.stop.check()
            if done:
                returns.append(running)
                observation, running = self.reset(), 0.0
        return observation, running

    def reset(self):
        """Starts an environment episode from a seed of its own."""
        environment = self.msrl.collect_environment
        environment.set_seed(int(self.rngs["reset"].integers(2**31)))
        return environment.reset()

    def evaluate(self):
        """Full episodes of the policy's mode."""
        actor = self.msrl.actors
        actor.use(self.numpy_policy())

        def choose(observations):
            self.stop.check()
            return actor.get_action(EVAL, (observations, None))

        return self.evaluator(choose)

    def numpy_policy(self) -> NumpyPolicy:
        """The deployed policy's numpy copy."""
        weights = parameter_arrays(self.msrl.learner.deployed_actor)
        return NumpyPolicy(weights, self.normalizer, self.config.algo, self.spaces["discrete"])

    def load_and_eval(self, ckpt_path=None):
        """Loads the manifest's checkpoint, evaluates it and prints the lines that users know."""
        episode = self.manifest["episode"]
        nets = {name: checkpoint.load_network(self.folder, name, episode, self.display) for name in checkpoint.NETWORKS}
        try:
            load_parameter_arrays(self.msrl.learner.deployed_actor, nets["policy"])
            twins = {key: np.stack([value, nets["value_net_2"][key]]) for key, value in nets["value_net_1"].items()}
            load_parameter_arrays(self.msrl.learner.critic, twins)
        except (KeyError, ValueError) as error:
            raise CheckpointError(
                f"checkpoint {episode} in {self.folder} was made for other sizes ({error})"
            ) from error
        result = self.evaluate()
        score = normalized_score(self.config.env.task, result.mean)
        print(RULE)
        print(f"Evaluate result is {result.mean:.3f}, checkpoint file in {self.display}")
        print(RULE)
        print_details(result, score)
        return Tensor(result.mean)

    def trainable_variables(self):
        """The networks by the names of their checkpoint folders; the twin critics are one cell."""
        learner = self.msrl.learner
        return {"policy": learner.deployed_actor, "value_net_1": learner.critic, "value_net_2": learner.critic}

    def save(self) -> None:
        """Writes a checkpoint of the whole training state."""
        self.state.write(self.state.snapshot())
