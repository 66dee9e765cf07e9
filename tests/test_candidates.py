"""Optimistic collection: several actions are drawn, the critics choose."""

from __future__ import annotations

import numpy as np
import pytest
from mindspore import Tensor
from tiny import ACT, OBS, algo, networks

from awac.algorithm.mindrl import COLLECT, EVAL
from awac.algorithm.numpy_critic import NumpyCritic
from awac.algorithm.numpy_policy import NumpyPolicy
from awac.algorithm.policy import parameter_arrays
from awac.data.normalizer import Normalizer
from awac.training.actor import AWACActor


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_the_numpy_critic_gives_the_networks_values(graph_mode, discrete, layer_norm):
    critic = networks(algo(critic_layer_norm=layer_norm), discrete)["critic_net"]
    normalizer = Normalizer(np.arange(OBS), np.full(OBS, 0.3, np.float32), np.full(OBS, 2.0, np.float32), OBS)
    rng = np.random.default_rng(0)
    observation = rng.normal(size=OBS)
    actions = np.arange(ACT) if discrete else rng.uniform(-1, 1, (7, ACT)).astype(np.float32)
    ours = NumpyCritic(parameter_arrays(critic), normalizer, layer_norm, discrete)(observation, actions)
    rows = Tensor(np.repeat(normalizer(observation[None]), len(actions), axis=0))
    theirs = critic(rows, Tensor(actions.reshape(len(actions), -1).astype(np.float32))).asnumpy().min(axis=0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


class Still:
    """An environment that records its actions."""

    def __init__(self):
        self.taken = []

    def step(self, action):
        self.taken.append(action)
        return np.zeros(OBS), 0.0, False, False


@pytest.mark.parametrize("phase, best", [(COLLECT, True), (EVAL, False)])
def test_the_best_candidate_is_taken_while_collecting_only(graph_mode, phase, best):
    policy = NumpyPolicy(parameter_arrays(networks(algo())["actor_net"]), Normalizer.identity(OBS), algo(), False)
    environment, observation = Still(), np.ones(OBS)
    actor = AWACActor({"collect_environment": environment})
    actor.use(policy, lambda _, actions: actions[:, 0], candidates=9)
    actor.act(phase, (observation, np.random.default_rng(3)))
    drawn = policy(np.repeat(observation[None], 9 if best else 1, axis=0), np.random.default_rng(3) if best else None)
    assert environment.taken[0][0] == drawn[:, 0].max() and len(drawn) == (9 if best else 1)
