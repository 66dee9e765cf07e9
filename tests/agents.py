"""Tiny instances of the class `AWAC` for its tests: 4 observations, 3 actions, one hidden layer of 16, batches of 8."""

from __future__ import annotations

import numpy as np
from mindspore import nn, ops
from tiny import algo

from awac import AWAC
from awac.algorithm.networks import MLP
from awac.algorithm.policy import GaussianActor
from awac.data.normalizer import Normalizer
from awac.data.replay import Replay

S, A, B, HIDDEN = 4, 3, 8, 16
RATES = {"tau": 0.1, "critic_lr": 2e-2, "actor_lr": 1e-2}


class StateActionCritic(nn.Cell):
    """Q(s, a) → (B, 1), as a user would write it."""

    def __init__(self, rng):
        super().__init__()
        self.net = MLP((S + A, HIDDEN, 1), rng, "q")

    def construct(self, state, action):
        return self.net(ops.concat((state, action), -1))


def networks(gaussian=False, twins=False, seed=0):
    """critic, critic_target, actor."""
    rng = np.random.default_rng(seed)

    def critic():
        return StateActionCritic(rng) if gaussian else MLP((S, HIDDEN, A), rng, "q")

    critics, targets = ([critic() for _ in range(1 + twins)] for _ in range(2))
    actor = GaussianActor(S, A, algo(), rng, "pi") if gaussian else MLP((S, HIDDEN, A), rng, "pi")
    return (tuple(critics), tuple(targets), actor) if twins else (critics[0], targets[0], actor)


def agent(gaussian=False, twins=False, net_seed=0, **options) -> AWAC:
    return AWAC(*networks(gaussian, twins, net_seed), **{**RATES, **options})


def batch(gaussian=False, seed=0, size=B):
    """(state, action, reward, next_state, done), a third of them done."""
    rng = np.random.default_rng(seed)
    state, following = rng.normal(size=(2, size, S)).astype(np.float32)
    action = rng.uniform(-1, 1, (size, A)).astype(np.float32) if gaussian else rng.integers(A, size=size)
    return state, action, rng.normal(size=size).astype(np.float32), following, np.arange(size) % 3 == 0


def weights(our) -> list[np.ndarray]:
    return [p.asnumpy().copy() for p in our.get_parameters()]


def memory(rows=20, capacity=100, actions=A, width=1):
    """A `Replay` with online rows."""
    replay, rng = Replay(None, Normalizer.identity(S), capacity, width), np.random.default_rng(0)
    for i in range(rows):
        state, action = rng.normal(size=S), np.full(width, rng.integers(actions))
        replay.add(state, action, rng.normal(), rng.normal(size=S), i % 4 == 0)
    return replay
