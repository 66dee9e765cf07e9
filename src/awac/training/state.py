"""TrainingState: everything that a checkpoint holds so that a resumed run continues exactly.

It owns the counters and the random generators; learner, replay and rollout keep their own state. The trainer
advances it; `runs.store` writes its snapshots.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from awac.algorithm.learner import AWACLearner
from awac.algorithm.policy import parameter_arrays
from awac.config import Config
from awac.data.normalizer import PREFIX, Normalizer
from awac.data.replay import Replay
from awac.errors import CheckpointError, first_line
from awac.runs import checkpoint, files
from awac.runs.store import CheckpointStore, Snapshot
from awac.training.actor import AWACActor
from awac.training.optimism import Optimism
from awac.training.resume import read_about
from awac.training.rollout import Rollout

STREAMS = ("batch", "noise", "act", "reset")
"""One random generator for each purpose; all of them are in a checkpoint."""


class TrainingState:
    """The state of a training run between two gradient steps.

    Args:
        seed: of the generators.
        learner: networks, targets and optimiser moments.
        actor: acts in the collect environment.
        replay: the memory.
        normalizer: stored with the policy.

    Attributes:
        episode, gradient_steps, env_steps: done so far.
        rngs: a generator for each of STREAMS.
        rollout: the environment episode under way.
        optimism: whether it is optimistic.
        reward_max: largest |r| seen.
    """

    def __init__(self, seed: int, learner: AWACLearner, actor: AWACActor, replay: Replay, normalizer: Normalizer):
        self._learner, self._replay, self._normalizer = learner, replay, normalizer
        streams = np.random.SeedSequence(seed).spawn(len(STREAMS))
        self.rngs = {name: np.random.default_rng(s) for name, s in zip(STREAMS, streams, strict=True)}
        self.rollout, self.optimism = Rollout(actor, self.rngs["reset"]), Optimism()
        self.episode = self.gradient_steps = self.env_steps = 0
        self.reward_max = replay.largest_reward()

    @property
    def phase(self) -> str:
        """`offline` until the first environment step."""
        return "online" if self.env_steps else "offline"

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of everything that `load_state_dict` needs, online rows excepted."""
        counters = (self.episode, self.gradient_steps, self.env_steps, self._replay.inserted)
        return {
            **{f"parameter/{name}": value for name, value in self._learner.state_dict().items()},
            **{f"rng/{name}": np.array(json.dumps(rng.bit_generator.state)) for name, rng in self.rngs.items()},
            **{f"environment/{name}": value for name, value in self.rollout.state_dict().items()},
            **{f"optimism/{name}": value for name, value in self.optimism.state_dict().items()},
            "counters": np.array(counters, np.int64),
        }

    def load_state_dict(self, arrays: dict[str, np.ndarray]) -> None:
        """The inverse of `state_dict`; the online rows must be in the memory already.

        Raises:
            CheckpointError: the arrays are those of another run, or damaged.
        """
        self._learner.load_state_dict(_part(arrays, "parameter/"))
        try:
            for name, rng in self.rngs.items():
                rng.bit_generator.state = json.loads(str(arrays[f"rng/{name}"]))
        except files.READ_ERRORS as error:
            raise CheckpointError(f"a generator's state is damaged ({first_line(error)})") from error
        self.episode, self.gradient_steps, self.env_steps, _ = _counters(arrays)
        self.rollout.load_state_dict(_part(arrays, "environment/"))
        self.optimism.load_state_dict(_part(arrays, "optimism/"))
        self.reward_max = self._replay.largest_reward()

    def snapshot(self) -> Snapshot:
        """A copy of the state, and of the networks as their checkpoint files hold them."""
        critics = parameter_arrays(self._learner.critic)
        normalizer = {f"{PREFIX}{key}": value for key, value in self._normalizer.arrays().items()}
        networks = {
            "policy": {**parameter_arrays(self._learner.deployed_actor), **normalizer},
            "value_net_1": {key: value[0] for key, value in critics.items()},
            "value_net_2": {key: value[1] for key, value in critics.items()},
        }
        return Snapshot(self.episode, self.gradient_steps, self._replay.inserted, networks, self.state_dict())

    def restore(self, store: CheckpointStore, folder: Path, episode: int) -> None:
        """Restores a checkpoint of the run's own folder exactly.

        Raises:
            CheckpointError: it doesn't fit this run, or online rows are missing.
        """
        arrays = checkpoint.load_state(folder, episode)
        try:
            store.restore(episode, _counters(arrays)[3])
            self.load_state_dict(arrays)
        except CheckpointError as error:
            raise CheckpointError(f"checkpoint {episode} in {folder} can't be resumed: {error}") from error
        print(f"Resume after episode {self.episode}", flush=True)

    def start_from(self, folder: Path, manifest: dict, config: Config) -> None:
        """Takes over another run's learner: networks, targets, optimiser moments.

        Counters, generators and online rows are this run's own. The offline phase continues at the source's gradient
        steps; if the source has finished its own, this run starts at the switch. Without an environment there is no
        switch, and the whole offline phase is this run's.

        Args:
            folder: of the source.
            manifest: of its checkpoint.
            config: of this run.

        Raises:
            CheckpointError: the source was made for other sizes, or this run's offline phase would end within an
                episode.
        """
        source, former = f"checkpoint {manifest['episode']} in {folder}", read_about(folder, manifest)[0]
        arrays = checkpoint.load_state(folder, manifest["episode"])
        try:
            self._learner.load_state_dict(_part(arrays, "parameter/"))
            if not former.algo.actor_ema:  # its average was never updated: the policy itself acted
                self._learner.restart_average()
            elif not config.algo.actor_ema:  # what acted there goes on here
                self._learner.adopt_average()
            steps = _counters(arrays)[1]
        except (CheckpointError, *files.READ_ERRORS) as error:
            raise CheckpointError(f"{source} doesn't fit this run ({first_line(error)})") from error
        offline, length = config.train.offline_train_steps, config.train.n_steps_per_episode
        finished = not config.env.no_env and steps >= former.train.offline_train_steps
        if not config.env.no_env:
            self.gradient_steps = offline if finished else min(steps, offline)
        if (offline - self.gradient_steps) % length:
            raise CheckpointError(
                f"{source} was made by {steps} offline steps, and the other {offline - steps} of offline_train_steps = "
                f"{offline} are no whole episodes of n_steps_per_episode = {length}; change one of the two"
            )
        print(f"Start from {source}, made by {steps} gradient steps", flush=True)
        if finished and offline not in (0, former.train.offline_train_steps):
            print(f"It has finished its offline phase: offline_train_steps = {offline} is not used", flush=True)


def _part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def _counters(arrays: dict[str, np.ndarray]) -> tuple[int, int, int, int]:
    """Episodes, gradient steps, environment steps and online rows.

    Raises:
        CheckpointError: they are missing or make no sense.
    """
    try:
        episode, gradient_steps, env_steps, inserted = (int(n) for n in arrays["counters"])
    except files.READ_ERRORS as error:
        raise CheckpointError(f"its counters are damaged ({first_line(error)})") from error
    if min(episode, gradient_steps, env_steps, inserted) < 0:
        raise CheckpointError("its counters are damaged (negative)")
    return episode, gradient_steps, env_steps, inserted
