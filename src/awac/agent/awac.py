"""AWAC: the algorithm as one class, for notebooks and scripts that bring their own networks.

It takes the same gradient step as `AWACLearner`, with the critics updated first, on the same replay rows. The actor's
outputs decide the kind of action: logits mean discrete actions, (mean, log-std) continuous ones.
"""

from __future__ import annotations

import math
from itertools import compress

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from awac.agent import checks
from awac.agent import file as agent_file
from awac.agent.noise import action_noise
from awac.algorithm import adapters
from awac.algorithm.forks import refuse_after_fork
from awac.algorithm.policy import assign_array
from awac.algorithm.step import METRICS, GradientSteps, Updates
from awac.config import AlgoConfig
from awac.data.normalizer import Normalizer
from awac.errors import ConfigError, DataError

STREAMS = ("act", "noise", "batch")
FIXED = frozenset(
    ("lam", "tau", "gamma", "num_action_samples", "use_adv", "weight_clip", "critic_lr", "actor_lr", "actor_ema")
    + ("seed", "critics", "targets", "actor")
)
"""Attributes that the compiled step depends on."""


class AWAC(nn.Cell):
    """Advantage-weighted actor-critic, Nair et al. 2020, algorithm 1, with the caller's networks.

    Every update is one compiled call; another batch size or number of steps compiles again. On a CPU `update` and
    `learn` run the native operator if `use_adv` is set and the actor is an `MLP`, the twins one `MLP` with `copies=2`
    and `num_action_samples` None, or a `GaussianActor`, a `ContinuousCritic` and 1; `path` says what runs and why. The
    settings are part of the compiled step and can't be changed afterwards; new weights come by `load` or `ops.assign`.
    Random numbers come from numpy generators, which `save` stores.

    Args:
        critic: maps states (B, S) to Q values (B, A); with a Gaussian actor, states and actions (B, A) to (B, 1). Two
            in a list, or one that gives (2, B, A) or (2, B), are twins: the minimum is taken.
        critic_target: networks of the same shapes; they start as a copy of `critic`.
        actor: maps states to logits (B, A), or to mean and log-std of actions that are clipped to [−1, 1].
        lam: temperature λ of the weights.
        tau: Polyak factor τ of the target critics.
        gamma: discount factor γ.
        num_action_samples: actions drawn to estimate V(s′) in the target, and V(s) in the advantage if actions are
            continuous; for discrete ones V(s) is always the exact expectation, and V(s′) too if it is None.
        critic_lr: Adam's learning rate for the critics.
        actor_lr: Adam's learning rate for the actor.
        use_adv: weigh with exp(A/λ), where A = Q(s, a) − V(s), instead of exp(Q/λ).
        weight_clip: largest weight, or None.
        actor_ema: decay d of the running average of the actor's weights, used by `get_action`; 0: no average.
        seed: of the generators.

    Raises:
        ConfigError: a setting is out of range, or the networks don't match.
    """

    def __init__(self, critic, critic_target, actor, lam=0.3, tau=5e-3, gamma=0.9, num_action_samples=1,
                 critic_lr=3e-4, actor_lr=3e-4, use_adv=False, *, weight_clip=None, actor_ema=0.0, seed=0):  # fmt: skip
        refuse_after_fork()
        super().__init__()
        self.lam = checks.above_0("lam", lam)
        self.weight_clip = None if weight_clip is None else checks.above_0("weight_clip", weight_clip)
        self.tau, self.gamma = checks.share("tau", tau), checks.share("gamma", gamma)
        exact = num_action_samples is None
        self.num_action_samples = None if exact else checks.whole("num_action_samples", num_action_samples, 1)
        self.use_adv, self.actor_ema = bool(use_adv), checks.decay("actor_ema", actor_ema)
        critics, targets = checks.networks(critic, critic_target, actor)
        self.critics, self.targets, self.actor = nn.CellList(critics), nn.CellList(targets), actor
        self.average_actor = checks.copy(actor) if self.actor_ema else actor
        self.config = AlgoConfig(
            lam=self.lam,
            lam_unit="reward",
            weighting="exp",
            weight_floor=0.0,
            weight_clip=self.weight_clip or math.inf,
            tau=self.tau,
            gamma=self.gamma,
            critic_lr=checks.above_0("critic_lr", critic_lr),
            actor_lr=checks.above_0("actor_lr", actor_lr),
            actor_ema=self.actor_ema,
            update_order="critic_first",
        )
        online, target = (list(net.get_parameters()) for net in (self.critics, self.targets))
        trained = [p.requires_grad for p in online]  # the targets follow, whether they are frozen or not
        actors = (net.trainable_params() for net in (actor, self.average_actor))
        self.updates = Updates(self.config, *actors, *(list(compress(nets, trained)) for nets in (online, target)))
        self.online_parameters, self.target_parameters = online, target
        for slow, fast in zip(target, online, strict=True):
            assign_array(slow, fast.asnumpy())
        self.steps: GradientSteps | None = None  # made at the first call, when the sizes are known
        self.state_size, self.action_size, self.discrete = 0, 0, True
        streams = np.random.SeedSequence(checks.whole("seed", seed, 0)).spawn(len(STREAMS))
        self.rngs = {name: np.random.default_rng(s) for name, s in zip(STREAMS, streams, strict=True)}
        self.normalizer: Normalizer | None = None  # taken from the memory at the first `learn`
        self.trained_raw = False
        self.places: dict[str, int] = {}  # where the compiled step has the parameters, as far as it used them
        self.built = True

    @property
    def path(self) -> str:
        """`native, 2 threads` or `graph, REASON`: what runs the steps; empty before the first call."""
        return self.steps.path if self.steps else ""

    def __setattr__(self, name, value):
        if name in FIXED and self.__dict__.get("built"):
            raise ConfigError(
                f"{name} can't be changed after construction: it is part of the compiled step; build a new AWAC"
            )
        super().__setattr__(name, value)

    def get_action(self, state, num_samples=1, deterministic=False) -> np.ndarray:
        """Draws actions from the policy.

        Args:
            state: (B, S).
            num_samples: actions per state.
            deterministic: take the most probable action instead.

        Returns:
            (B, num_samples) int64 indices, or (B, num_samples, A) float32 in [−1, 1].
        """
        refuse_after_fork()
        state = self._normalised(checks.states("state", state))
        self._build(state.shape[1])
        acting = self._named_parameters("actor_average" if self.actor_ema else "actor")
        checks.same_memory(self.places, acting)
        dist = self.distribution(Tensor(state))
        self.places |= checks.places(acting)
        shape = (len(state), checks.whole("num_samples", num_samples, 1), self.action_size)
        if self.discrete:
            logits = dist.asnumpy()[:, None]
            noise = np.zeros(shape) if deterministic else self.rngs["act"].gumbel(size=shape)
            return (logits + noise).argmax(-1)
        mean, log_std = (x.asnumpy()[:, None] for x in dist)
        noise = np.zeros(shape) if deterministic else self.rngs["act"].standard_normal(shape)
        return np.clip(mean + np.exp(log_std) * noise, -1.0, 1.0).astype(np.float32)

    def update_critic(self, state, action, reward, next_state, done) -> float:
        """One step of the critics towards r + γ·(1 − done)·V(s′), eq. (9), then of their targets.

        Args:
            state: (B, S).
            action: (B,) or (B, 1) integers; (B, A) floats in [−1, 1] for a Gaussian actor.
            reward: (B,) or (B, 1).
            next_state: (B, S).
            done: (B,) or (B, 1), true where the task ended, false at a time limit.

        Returns:
            The loss before the step.
        """
        return self._update("critic", state, action, reward, next_state, done)["critic_loss"]

    def update_actor(self, state, action) -> float:
        """One step of the actor towards the data's actions, weighted by the critics, eq. (13).

        Args:
            state: (B, S).
            action: as for `update_critic`.

        Returns:
            The loss before the step.
        """
        state = checks.states("state", state)
        zeros = np.zeros(len(state), np.float32)
        return self._update("actor", state, action, zeros, state, zeros)["actor_loss"]

    def update(self, batch) -> dict[str, float]:
        """`update_critic`, then `update_actor`, in one compiled call.

        Args:
            batch: (state, action, reward, next_state, done), each as for `update_critic`.

        Returns:
            `critic_loss`, `actor_loss`, `q_mean` (the critics at the data's actions) and `ess` (effective sample size
            of the weights over the batch size: 1 for equal weights).
        """
        return self._update("both", *checks.batch_parts(batch))

    def learn(self, memory, batch_size: int, steps=1, offline_share=None) -> dict[str, float]:
        """`update` on `steps` batches of a `Replay`, all in one compiled call.

        The memory's normaliser becomes the agent's; after that `get_action` and `update` take raw states. Normalised
        states are clipped to ±10, also by `Normalizer.identity`.

        Returns:
            The same as `update`, means over the steps.

        Raises:
            DataError: the memory is empty, smaller than a batch, or has another normaliser than the agent.
        """
        checks.memory(memory, checks.whole("batch_size", batch_size, 1))
        checks.same_normalizer(self.normalizer, memory.normalizer, self.trained_raw)
        rows = memory.sample(self.rngs["batch"], checks.whole("steps", steps, 1), batch_size, offline_share)
        self._build(memory.normalizer.size)
        checks.rows(rows, self.state_size, self.action_size, self.discrete)
        metrics = self._run(rows, "both")
        self.normalizer = memory.normalizer  # not before: a refused memory gives none
        return metrics

    def save(self, path) -> None:
        """Writes networks, optimisers, normaliser and generators to a .ckpt file, atomically."""
        agent_file.write(path, self, self._named_parameters(), self.rngs, self.normalizer)

    def load(self, path) -> None:
        """Reads what `save` wrote into networks of the same shapes; on an error nothing is changed.

        Raises:
            CheckpointError: the file is missing, damaged, or of other networks.
        """
        parameters = self._named_parameters()
        arrays, self.rngs, self.normalizer = agent_file.read(path, self, parameters, STREAMS)
        for name, parameter in parameters.items():
            assign_array(parameter, arrays[name])
        powers = [float(adam.beta1_power.asnumpy()) for adam in (self.updates.critic_adam, self.updates.actor_adam)]
        self.trained_raw = self.normalizer is None and min(powers) < 1.0

    def _normalised(self, state: np.ndarray) -> np.ndarray:
        return state if self.normalizer is None else self.normalizer(state)

    def _build(self, state_size: int) -> None:
        """Finds the sizes and builds the step at the first call; later states must have the same size."""
        if self.steps is None:
            self.action_size, self.discrete = checks.probe(self.critics, self.actor, state_size)
            if not self.discrete and self.num_action_samples is None:
                raise ConfigError("num_action_samples=None, the exact expectation, needs discrete actions")
            sizes = (state_size, self.action_size, self.discrete, self.num_action_samples)
            head, self.acting = (adapters.head(actor, *sizes) for actor in (self.actor, self.average_actor))
            critic, target = (adapters.critic(list(nets), self.discrete) for nets in (self.critics, self.targets))
            self.state_size = state_size
            self.steps = GradientSteps(self.config, head, critic, target, self.updates, self.use_adv)
        if state_size != self.state_size:
            raise DataError(f"states have {state_size} values, the ones before had {self.state_size}")

    def _pack(self, state, action, reward, next_state, done) -> np.ndarray:
        """A checked batch in the layout of `Replay`'s rows, (1, B, W)."""
        named = {"state": state, "next_state": next_state}
        state, next_state = (self._normalised(checks.states(name, x)) for name, x in named.items())
        self._build(state.shape[1])
        return checks.pack(state, action, reward, next_state, done, self.action_size, self.discrete)

    def _update(self, part: str, *batch) -> dict[str, float]:
        metrics = self._run(self._pack(*batch), part)
        self.trained_raw |= self.normalizer is None
        return metrics

    def _run(self, rows: np.ndarray, part: str) -> dict[str, float]:
        """One compiled call on rows (K, B, W)."""
        refuse_after_fork()
        parameters = self._named_parameters()
        checks.same_memory(self.places, parameters)
        noise = self._noise(rows.shape[0], rows.shape[1], part)
        before = {name: p.asnumpy().copy() for name, p in parameters.items()}
        metrics = dict(zip(METRICS, self(Tensor(rows), Tensor(noise), part).asnumpy().tolist(), strict=True))
        # A gradient's square can overflow in Adam although the losses are finite: the next step would be NaN.
        sound = math.isfinite(metrics["critic_loss"] + metrics["actor_loss"])
        if not (sound and checks.all_finite(parameters.values())):
            for name, parameter in parameters.items():
                assign_array(parameter, before[name])
            raise checks.diverged(metrics, self.use_adv)
        self.places |= checks.places(parameters) if part == "both" else {}  # else some have none of the device's yet
        return {name: metrics[name] for name in ("critic_loss", "actor_loss", "q_mean", "ess")}

    def _noise(self, steps: int, batch: int, part: str) -> np.ndarray:
        """Noise (K, U, N, B, A), U as in `unpack_noise`; a single 0 if nothing is drawn."""
        uses = (part != "actor") + (part != "critic" and self.use_adv and not self.discrete)
        shape = (steps, uses, self.num_action_samples or 0, batch, self.action_size)
        return action_noise(self.rngs["noise"], shape, self.discrete)

    def _named_parameters(self, only: str | None = None) -> dict:
        """What `save` keeps, by network and position; `only` one network's."""
        groups = {
            "critic": self.online_parameters,
            "critic_target": self.target_parameters,
            "actor": self.actor.get_parameters(),
            "actor_average": self.average_actor.get_parameters() if self.actor_ema else (),
            "critic_adam": self.updates.critic_adam.state(),
            "actor_adam": self.updates.actor_adam.state(),
        }
        chosen = {only: groups[only]} if only else groups
        return {f"{name}.{i}": p for name, group in chosen.items() for i, p in enumerate(group)}

    @ms.jit
    def construct(self, rows, noise, part):
        """Rows (K, B, W), noise (K, U, …, A) → means of `METRICS` over the K steps."""
        return self.steps(rows, noise, part)[0]  # type: ignore[misc]

    @ms.jit
    def distribution(self, state):
        """(B, S) → log-probabilities (B, A), or mean and log-std, of the network that acts."""
        return self.acting(state)
