"""The CartPole experiment for one seed: record a careless DQN, learn offline from it, go on online.

`run` does the whole of it. The phases are functions of their own, which the notebook calls one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from awac import AWAC, make_env
from awac.algorithm.networks import MLP
from awac.algorithm.numpy_policy import NumpyPolicy
from awac.algorithm.policy import parameter_arrays
from awac.config import AlgoConfig
from awac.data.behaviour import shipped_policy
from awac.data.collect import collect
from awac.data.columns import load
from awac.data.normalizer import Normalizer
from awac.data.replay import Replay
from awac.data.transitions import Transitions
from awac.training.evaluate import Evaluator

TASK, STATE_SIZE, ACTIONS = "CartPole-v1", 4, 2
CRITIC, ACTOR = (128, 128), (128, 64)
EVALUATION_SEED = 10_000
CALLS = 80
"""Parts of the offline phase, at most."""
MEMORIES = ("kept", "cleared")
"""What the online phase starts with: the recorded rows or, as a harder test, nothing."""


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of `AWAC` and of the two phases."""

    lam: float = 0.5
    """Temperature λ of the weights."""
    gamma: float = 0.99
    """Discount factor γ."""
    tau: float = 0.02
    """Polyak factor τ of the target critics."""
    num_action_samples: int | None = None
    """Actions drawn to estimate the next state's value; None takes the exact expectation."""
    learning_rate: float = 3e-4
    """Adam's, for critics and actor."""
    weight_clip: float | None = 20.0
    """Largest weight."""
    critics: int = 2
    """Twins, or a single critic."""
    layer_norm: bool = True
    """LayerNorm in the critics: without it some seeds' values run away offline."""
    normalise: bool = True
    """Networks see states with the recorded rows' mean and standard deviation taken out."""
    behaviour_episodes: int = 50
    """Episodes recorded."""
    offline_steps: int = 8000
    """Gradient steps on the recorded rows."""
    offline_batch: int = 1024
    """Rows per gradient step on them."""
    online_episodes: int = 600
    """Episodes played and learnt from after that."""
    online_batch: int = 128
    """Rows per gradient step then."""
    updates_per_episode: int = 45
    """Gradient steps after each of these episodes."""
    actor_ema: float = 0.998
    """Decay, a gradient step, of the running average of the actor's weights that acts."""
    offline_share: float | None = None
    """Share of recorded rows in those batches while they are in memory; None draws from all rows alike."""
    warmup: int = 1000
    """Online rows before the first of these steps."""
    evaluation_episodes: int = 50
    """Episodes of one evaluation."""


RECIPES = {
    "cartpole": Recipe(),
    "reference": Recipe(
        lam=1.0, gamma=0.9, tau=5e-3, num_action_samples=10, weight_clip=None, critics=1, layer_norm=False,
        normalise=False, online_batch=1024, updates_per_episode=1, actor_ema=0.0, offline_share=None, warmup=1024,
    ),
}  # fmt: skip
"""`reference` has the hyper-parameters of the PyTorch study that this experiment repeats."""

FAST = {"behaviour_episodes": 10, "offline_steps": 160, "offline_batch": 128, "online_episodes": 20, "online_batch": 64,
        "warmup": 64, "evaluation_episodes": 5}  # fmt: skip
"""What makes a recipe run in seconds, to see that everything works; nothing is learnt in that time."""


def make_agent(recipe: Recipe, seed: int) -> AWAC:
    """An untrained agent; the networks' initial weights follow from the seed."""
    rng = np.random.default_rng(seed)
    copies = recipe.critics if recipe.critics > 1 else None
    critic, target = (
        MLP((STATE_SIZE, *CRITIC, ACTIONS), rng, name, copies, recipe.layer_norm) for name in ("critic", "target")
    )
    return AWAC(
        critic, target, MLP((STATE_SIZE, *ACTOR, ACTIONS), rng, "actor"),
        lam=recipe.lam, tau=recipe.tau, gamma=recipe.gamma, num_action_samples=recipe.num_action_samples,
        critic_lr=recipe.learning_rate, actor_lr=recipe.learning_rate, use_adv=True, weight_clip=recipe.weight_clip,
        actor_ema=recipe.actor_ema, seed=seed,
    )  # fmt: skip


def record(recipe: Recipe, seed: int) -> tuple[Transitions, np.ndarray]:
    """Episodes of the careless DQN, as rows and as lengths."""
    policy = shipped_policy("cartpole_dqn")
    columns = collect(TASK, policy, episodes=recipe.behaviour_episodes, seed=seed)
    ends = np.flatnonzero(columns["terminals"] | columns["timeouts"]) + 1
    return load(columns, "the careless DQN's episodes").data, np.diff(ends, prepend=0)


def acting_policy(agent: AWAC, normalizer: Normalizer) -> NumpyPolicy:
    """The agent's policy on numpy, where one action takes 20 µs."""
    return NumpyPolicy(parameter_arrays(agent.average_actor), normalizer, AlgoConfig(actor_hidden=ACTOR), discrete=True)


def evaluate(policy: NumpyPolicy, recipe: Recipe, seed: int) -> np.ndarray:
    """Lengths of evaluation episodes; actions are drawn from the policy, as when it learns online."""
    rng = np.random.default_rng(seed)
    evaluator = Evaluator(lambda: make_env(TASK), recipe.evaluation_episodes, EVALUATION_SEED + seed)
    try:
        return evaluator(lambda states: policy(states, rng)).returns
    finally:
        evaluator.close()


def learn_offline(agent: AWAC, memory: Replay, recipe: Recipe) -> list[dict]:
    """The offline phase; returns the agent's figures after each of its parts."""
    ends = np.linspace(0, recipe.offline_steps, min(CALLS, recipe.offline_steps) + 1).astype(int)
    return [agent.learn(memory, recipe.offline_batch, steps) for steps in np.diff(ends).tolist()]


def learn_online(agent: AWAC, memory: Replay, recipe: Recipe, seed: int) -> tuple[np.ndarray, NumpyPolicy]:
    """The online phase: play an episode, put it into the memory, learn.

    Args:
        agent: after the offline phase.
        memory: with the recorded rows or without.
        recipe: hyper-parameters.
        seed: of the episodes and the actions.

    Returns:
        The episodes' lengths and the policy that acts at the end.
    """
    env, rng = make_env(TASK), np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    policy, lengths = acting_policy(agent, memory.normalizer), np.zeros(recipe.online_episodes, int)
    for episode in range(recipe.online_episodes):
        ended = False
        while not ended:
            action = int(policy(observation[None], rng)[0])
            following, reward, terminated, truncated, _ = env.step(action)
            memory.add(observation, action, float(reward), following, terminated)
            lengths[episode] += 1
            ended = terminated or truncated
            observation = env.reset()[0] if ended else following
        if memory.online_size >= recipe.warmup:
            agent.learn(memory, recipe.online_batch, recipe.updates_per_episode, recipe.offline_share)
            policy = acting_policy(agent, memory.normalizer)
    env.close()
    return lengths, policy


def run(seed: int, recipe: Recipe, folder: str) -> dict[str, np.ndarray]:
    """The whole experiment.

    Args:
        seed: of everything random.
        recipe: hyper-parameters.
        folder: where the agent is saved between the phases.

    Returns:
        Episode lengths: `behaviour` (50,), `offline` (50,), and for each memory M of MEMORIES `online_M` (600,) while
        learning and `final_M` (50,) after it.
    """
    rows, behaviour = record(recipe, seed)
    normalizer = Normalizer.fit(rows.observations) if recipe.normalise else Normalizer.identity(STATE_SIZE)
    capacity = 500 * recipe.online_episodes
    agent = make_agent(recipe, seed)
    learn_offline(agent, Replay(rows, normalizer, 0), recipe)
    policy = acting_policy(agent, normalizer)
    lengths = {"behaviour": behaviour, "offline": evaluate(policy, recipe, seed)}
    saved = f"{folder}/offline_{seed}.ckpt"
    agent.save(saved)
    for memory in MEMORIES:
        agent.load(saved)
        replay = Replay(rows if memory == "kept" else None, normalizer, capacity, action_width=1)
        lengths[f"online_{memory}"], policy = learn_online(agent, replay, recipe, seed)
        lengths[f"final_{memory}"] = evaluate(policy, recipe, seed)
    return lengths
