"""AWACTrainer: the offline phase, the switch, the online phase and evaluation.

Rows go from the replay to the learner, weights from the learner to the actor; the trainer computes no gradient. A
training episode is `n_steps_per_episode` gradient steps. An environment episode runs to its own end, over as many
training episodes as it takes.
"""

from __future__ import annotations

import time

import numpy as np
from mindspore import Tensor
from threadpoolctl import threadpool_limits

from awac.algorithm.mindrl import COLLECT, EVAL, CallbackManager, CallbackParam, Trainer
from awac.algorithm.numpy_critic import NumpyCritic
from awac.algorithm.numpy_policy import NumpyPolicy
from awac.algorithm.policy import check_parameter_arrays, parameter_arrays
from awac.algorithm.step import METRICS
from awac.envs.tasks import normalized_score
from awac.errors import CheckpointError, DivergenceError, EnvironmentFault, Interrupted
from awac.runs import checkpoint
from awac.runs import folder as run_folder
from awac.runs.folder import NETWORKS
from awac.runs.store import CheckpointStore
from awac.training.callbacks import RULE, print_details
from awac.training.context import RunContext
from awac.training.evaluate import Evaluation
from awac.training.interrupt import GracefulStop
from awac.training.state import TrainingState


class AWACTrainer(Trainer):
    """Trains and evaluates.

    Args:
        msrl: mindspore-rl's wiring of policy, actor, learner and environment.
        params: `context`, a RunContext; without a replay memory the trainer only evaluates.
    """

    def __init__(self, msrl, params):
        super().__init__(msrl)
        context: RunContext = params["context"]
        self.context, self.config, self.replay = context, context.config, context.replay
        self.stop = GracefulStop()
        if self.replay:
            seed, keep = self.config.train.seed, self.config.train.max_checkpoints
            self.state = TrainingState(seed, msrl.learner, msrl.actors, self.replay, context.normalizer)
            about = {**(context.about or {}), "learner_path": msrl.learner.path}
            self.store = CheckpointStore(context.folder, self.replay, about, keep)

    def train(self, episodes, callbacks=None, ckpt_path=None):
        """Trains until `episodes` are done in all, from the manifest's state if there is one.

        Raises:
            Interrupted: a signal came; the state of the last training episode's end is saved.
            EnvironmentFault: the environment failed; the same.
            DivergenceError: a loss or a weight is not finite; the same.
        """
        state, context = self.state, self.context
        if context.manifest:
            state.restore(self.store, context.folder, context.manifest["episode"])
            if episodes > state.episode:
                assert context.about is not None
                run_folder.note_resumed(context.folder, context.about["config"], episodes, state.episode)
        else:
            self.begin_run()
        with CallbackManager(callbacks) as callback_list, self.stop:
            params = CallbackParam(
                episodes_num=episodes,
                cur_episode=state.episode,
                evaluate=self.evaluate,
                save=self.save,
                phase=state.phase,
                gradient_steps=state.gradient_steps,
                env_steps=state.env_steps,
            )
            boundary = state.snapshot()
            try:
                callback_list.begin(params)
                while state.episode < episodes:
                    callback_list.episode_begin(params)
                    (params.metrics, params.first), acting, params.steps = self.train_one_episode()
                    params.train_return, params.optimistic = acting or (None, None)
                    boundary = state.snapshot()
                    params.phase, params.cur_episode = state.phase, state.episode
                    params.gradient_steps, params.env_steps = state.gradient_steps, state.env_steps
                    params.reward_max = state.reward_max
                    callback_list.episode_end(params)
            except Interrupted as interrupted:
                raise Interrupted(interrupted.number, self.store.keep(boundary, state.gradient_steps)) from None
            except EnvironmentFault as fault:
                raise EnvironmentFault(f"{fault}; {self.store.keep(boundary, state.gradient_steps)}") from fault
            except DivergenceError as fault:
                self.store.keep(boundary, state.gradient_steps)
                folder, hint = context.folder, "a lower critic_lr (look for outliers in the rewards too)"
                if run_folder.episodes(folder):
                    hint = f"--init_from {folder} and {hint}; --resume would come to the same"
                raise DivergenceError(f"{fault}; training stops; start a new run with {hint}") from fault
            callback_list.end(params)

    def begin_run(self) -> None:
        """Takes another run's learner if there is one; from here on the folder is this run's.

        Raises:
            CheckpointError: the other run doesn't fit, and the folder is as it was; or it can't be written to.
        """
        context, origin = self.context, None
        assert context.about is not None
        if context.source:
            source, manifest = context.source
            self.state.start_from(source, manifest, self.config)
            origin = source, manifest["episode"]
        version, config, episodes = (
            context.about["versions"]["awac"],
            context.about["config"],
            context.about["episodes"],
        )
        run_folder.begin(context.folder, version, config, episodes, origin)
        if origin:
            self.save()

    def train_one_episode(self):
        """Takes `n_steps_per_episode` gradient steps.

        Returns:
            ((metrics, metrics of the first call), acting, steps), where `acting` is the mean return of the environment
            episodes that finished and the share of them that were optimistic, or None if none did.

        Raises:
            DivergenceError: a loss or a weight is not finite.
            EnvironmentFault: the environment failed.
        """
        train, state = self.config.train, self.state
        online = state.gradient_steps >= train.offline_train_steps
        finished: list[tuple[float, bool]] = []
        if online and state.env_steps == 0:
            after = f"{state.gradient_steps} offline steps"
            if state.gradient_steps and not state.episode:  # the counter only says that the phase is over
                after = "the offline phase of the run that this one starts from"
            print(f"Switch to online training after {after}", flush=True)
            if train.online_warmup:
                finished += self.collect(train.online_warmup)
        history, times = [], []
        for _ in range(train.n_steps_per_episode // train.steps_per_call):
            start = time.perf_counter()
            if online:
                finished += self.collect(train.steps_per_call)
            history.append(self.learn())
            times.append(time.perf_counter() - start)
            self.stop.check()
        self.check_weights()
        state.episode += 1
        metrics = dict(zip(METRICS, np.mean(history, axis=0).tolist(), strict=True))
        metrics["per_step_time_ms"] = 1000 * sum(times) / train.n_steps_per_episode
        first = dict(zip(METRICS, history[0].tolist(), strict=True))
        second_call = times[min(1, len(times) - 1)]  # the first one compiles
        first["per_step_time_ms"] = 1000 * second_call / train.steps_per_call
        acting = tuple(np.mean(finished, axis=0).tolist()) if finished else None
        return (metrics, first), acting, train.n_steps_per_episode

    def learn(self) -> np.ndarray:
        """One call of the learner: K gradient steps; returns their mean metrics."""
        assert self.replay is not None
        train, algo, rngs = self.config.train, self.config.algo, self.state.rngs
        share, often = train.offline_share, train.online_oversampling
        rows = self.replay.sample(rngs["batch"], train.steps_per_call, algo.batch_size, share, often)
        shape = (train.steps_per_call, 2, algo.batch_size, self.msrl.learner.actor.noise_size)
        noise = rngs["noise"].standard_normal(shape, np.float32)
        metrics, bad_step = self.msrl.agent_learn((rows, noise))
        if bad_step < train.steps_per_call:
            step = self.state.gradient_steps + bad_step + 1
            raise DivergenceError(f"a loss is not finite at gradient step {step}")
        self.state.gradient_steps += train.steps_per_call
        return metrics

    def check_weights(self) -> None:
        """Checks every parameter, optimiser moments included.

        Raises:
            DivergenceError: one is not finite.
        """
        for parameter in self.msrl.learner.get_parameters():
            if not np.isfinite(parameter.asnumpy()).all():
                raise DivergenceError(f"{parameter.name} is not finite after gradient step {self.state.gradient_steps}")

    @threadpool_limits.wrap(limits=1, user_api="blas")  # numpy's rounding depends on its number of threads
    def collect(self, steps: int) -> list[tuple[float, bool]]:
        """Acts for `steps` environment steps; gives the return of each finished episode, and if it was optimistic."""
        assert self.replay is not None
        state, candidates, actor = self.state, self.config.train.online_candidates, self.msrl.actors
        actor.use(self.numpy_policy(), self.numpy_critic() if candidates > 1 else None, candidates)
        finished: list[tuple[float, bool]] = []
        for _ in range(steps):
            actor.optimistic = state.optimism.active
            try:
                row = state.rollout.step(state.rngs["act"])
            except EnvironmentFault as fault:  # perhaps the evaluation holds what there is one of
                if state.rollout.begun or not self.context.evaluator.give_up(0, fault):
                    raise
                row = state.rollout.step(state.rngs["act"])
            self.replay.add(row.observation, row.action, row.reward, row.next_observation, row.terminated)
            state.env_steps += 1
            state.reward_max = max(state.reward_max, abs(row.reward))
            if row.episode_return is not None:
                finished.append((row.episode_return, state.optimism.active))
                if candidates > 1:
                    state.optimism.finished(row.episode_return, state.rngs["act"])
            self.stop.check()
        return finished

    def evaluate(self, policy: NumpyPolicy | None = None) -> Evaluation:
        """Full episodes with the mode of a policy, or with its samples; None takes the one that is being trained."""
        actor, rng = self.msrl.actors, self.context.sampler
        actor.use(policy or self.numpy_policy())

        def choose(observations):
            self.stop.check()
            return actor.get_action(COLLECT if rng else EVAL, (observations, rng))

        result = self.context.evaluator(choose)
        if self.context.evaluator.uses_spare and self.replay:  # they ran in training's environment: restore its episode
            rollout = self.state.rollout
            rollout.load_state_dict(rollout.state_dict())
        return result

    def numpy_policy(self, weights: dict[str, np.ndarray] | None = None) -> NumpyPolicy:
        """A policy on numpy from arrays; None takes those of the one that is being trained."""
        weights = weights or parameter_arrays(self.msrl.learner.deployed_actor)
        return NumpyPolicy(weights, self.context.normalizer, self.config.algo, self.context.spaces["discrete"])

    def numpy_critic(self) -> NumpyCritic:
        """The critics' numpy copy."""
        weights = parameter_arrays(self.msrl.learner.critic)
        layer_norm, discrete = self.config.algo.critic_layer_norm, self.context.spaces["discrete"]
        return NumpyCritic(weights, self.context.normalizer, layer_norm, discrete)

    def load_and_eval(self, ckpt_path=None):
        """Loads the manifest's checkpoint, evaluates it and prints the result."""
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
        print_details(result, score, self.context.sampler is not None)
        return Tensor(result.mean)

    def trainable_variables(self):
        """The networks by the names of their checkpoint folders; the twin critics are one cell."""
        learner = self.msrl.learner
        return {"policy": learner.deployed_actor, "value_net_1": learner.critic, "value_net_2": learner.critic}

    def save(self) -> None:
        """Writes a checkpoint of the whole training state."""
        self.store.write(self.state.snapshot())
