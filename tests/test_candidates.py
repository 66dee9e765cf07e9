"""Optimistic episodes: several actions are drawn, the critics choose; returns decide which episodes are optimistic."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from mindspore import Tensor
from tiny import ACT, OBS, RECORDED, algo, networks, settings

from awac import cli
from awac.algorithm.mindrl import COLLECT, EVAL
from awac.algorithm.numpy_critic import NumpyCritic
from awac.algorithm.numpy_policy import NumpyPolicy
from awac.algorithm.policy import parameter_arrays
from awac.data.normalizer import Normalizer
from awac.data.replay import Replay
from awac.errors import CheckpointError
from awac.training.actor import AWACActor
from awac.training.optimism import WINDOW, Optimism


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

    locked = None

    def __init__(self):
        self.taken = []

    def step(self, action):
        self.taken.append(action)
        return np.zeros(OBS), 0.0, False, False


@pytest.mark.parametrize(
    "phase, optimistic, best", [(COLLECT, True, True), (COLLECT, False, False), (EVAL, True, False)]
)
def test_the_best_candidate_is_taken_in_optimistic_episodes_only(graph_mode, phase, optimistic, best):
    policy = NumpyPolicy(parameter_arrays(networks(algo())["actor_net"]), Normalizer.identity(OBS), algo(), False)
    environment, observation = Still(), np.ones(OBS)
    actor = AWACActor({"collect_environment": environment})
    actor.use(policy, lambda _, actions: actions[:, 0], candidates=9)
    actor.optimistic = optimistic
    actor.act(phase, (observation, np.random.default_rng(3)))
    rng = np.random.default_rng(3) if phase == COLLECT else None
    drawn = policy(np.repeat(observation[None], 9 if best else 1, axis=0), rng)
    assert environment.taken[0][0] == drawn[:, 0].max() and len(drawn) == (9 if best else 1)


def share(plain: list[float], best: list[float], episodes: int = 1000, seed: int = 0) -> float:
    """Share of optimistic episodes if both kinds keep returning what they returned."""
    optimism, rng, count = Optimism(), np.random.default_rng(seed), 0
    for _ in range(episodes):
        count += optimism.active
        optimism.finished(float(rng.choice(best if optimism.active else plain)), rng)
    return count / episodes


def test_the_policys_own_actions_come_first_then_both_kinds():
    optimism, rng = Optimism(), np.random.default_rng(0)
    assert not optimism.active
    optimism.finished(5.0, rng)
    assert optimism.active
    optimism.finished(1.0, rng)
    assert not optimism.active, "optimism did worse"


def test_the_better_kind_is_taken_and_the_other_is_tried_again():
    assert share([5.0], [1.0]) == pytest.approx(1 / WINDOW, abs=0.01)
    assert share([1.0], [5.0]) == pytest.approx(1 - 1 / WINDOW, abs=0.01)
    assert share([0.0], [0.0]) == pytest.approx(0.5, abs=0.1), "no returns, no preference"


@pytest.mark.parametrize("seed", range(20))
def test_one_unlucky_episode_does_not_decide(seed):
    falls = [6000.0] * 4 + [200.0]
    assert share([3000.0], falls, 200, seed) > 0.5
    assert share([5000.0] * 9 + [500.0], [1000.0, 2000.0, 3000.0, 4000.0], 200, seed) < 0.4


def test_the_state_is_kept():
    optimism, rng = Optimism(), np.random.default_rng(0)
    for i in range(2 * WINDOW):
        optimism.finished(float(i % 3), rng)
    state = optimism.state_dict()
    assert len(state["kinds"]) == WINDOW and 0 < state["kinds"].sum() < WINDOW
    again = Optimism()
    again.load_state_dict(state)
    assert all(np.array_equal(again.state_dict()[key], values) for key, values in state.items())
    again.load_state_dict({})  # a checkpoint of an older version
    with pytest.raises(CheckpointError, match="damaged"):
        again.load_state_dict({"active": np.array(True)})


def test_training_draws_and_collects_as_configured(tmp_path, graph_mode, monkeypatch):
    """Environment episodes of seven steps, in seven steps of warm-up and three training episodes of 20 online steps."""
    kinds, drawn, act, sample = [], [], AWACActor.act, Replay.sample

    def watched_act(self, phase, params):
        kinds.append(self.optimistic)
        return act(self, phase, params)

    def watched_sample(self, rng, steps, batch_size, *how):
        drawn.append(how)
        return sample(self, rng, steps, batch_size, *how)

    monkeypatch.setattr(AWACActor, "act", watched_act)
    monkeypatch.setattr(Replay, "sample", watched_sample)
    changes = settings(max_episode_steps=7, online_warmup=7, online_oversampling=3, online_candidates=2)
    assert (
        cli.main(["train", "--dataset", str(RECORDED), "--ckpt_path", str(tmp_path), "--episode", "6", *changes]) == 0
    )
    assert set(drawn) == {(None, 3.0)}
    episodes = [set(kinds[i : i + 7]) for i in range(0, len(kinds), 7)]
    assert len(kinds) == 67 and all(len(episode) == 1 for episode in episodes)
    assert episodes[:2] == [{False}, {True}]
    with open(tmp_path / "train.csv", newline="", encoding="utf-8") as file:
        shares = [row["optimistic"] for row in csv.DictReader(file)]
    assert shares[:3] == [""] * 3
    ended = [True in episode for episode in episodes]  # 67 steps: one of warm-up, then 2, 3 and 3 that end
    wanted = [ended[:3], ended[3:6], ended[6:9]]
    assert [float(share) for share in shares[3:]] == pytest.approx([np.mean(kinds) for kinds in wanted], abs=1e-5)
