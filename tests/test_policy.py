"""The policy's distribution, and that the numpy copy that acts is the same policy."""

from __future__ import annotations

import contextlib

import mindspore as ms
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits
from tiny import ACT, OBS, algo, networks

from awac import make_env
from awac.algorithm.heads import gaussian_sample
from awac.algorithm.numpy_policy import NumpyPolicy
from awac.algorithm.policy import load_parameter_arrays, parameter_arrays
from awac.data.normalizer import Normalizer
from awac.training.actor import AWACActor
from awac.training.evaluate import Evaluator

pytestmark = pytest.mark.usefixtures("graph_mode")
BATCH = 32
GAUSSIANS = [
    {"state_dependent_std": False},
    {"state_dependent_std": True},
    {"log_std_min": -3.0, "log_std_max": 1.0},
    {"squash_mean": False, "log_std_bound": "clamp", "state_dependent_std": True},
]


def tensor(values):
    return ms.Tensor(np.asarray(values, np.float32))


def scattered(cell, scale=0.3, seed=5):
    """Gives every parameter, the log-std included, a random value, so that no term is multiplied by zero.

    Small ones: where |μ| > 4, MindSpore's tanh on CPU is off by up to 1e-4.
    """
    rng = np.random.default_rng(seed)
    arrays = {k: rng.normal(0, scale, v.shape).astype(np.float32) for k, v in parameter_arrays(cell).items()}
    load_parameter_arrays(cell, arrays)
    return cell


def pair(normalizer=None, discrete=False, **changes):
    """A MindSpore actor and its numpy copy."""
    config = algo(**changes)
    actor = scattered(networks(config, discrete)["actor_net"])
    copy = NumpyPolicy(parameter_arrays(actor), normalizer or Normalizer.identity(OBS), config, discrete)
    return actor, copy


@pytest.fixture
def obs():
    return np.random.default_rng(0).normal(size=(BATCH, OBS)).astype(np.float32)


@pytest.mark.parametrize("changes", GAUSSIANS)
def test_the_numpy_policy_takes_the_mode_of_the_mindspore_actor(obs, changes):
    actor, copy = pair(**changes)
    mean, _ = actor(tensor(obs))
    actions = copy(obs)
    np.testing.assert_allclose(actions, mean.asnumpy().clip(-1, 1), atol=1e-5)
    assert actions.dtype == np.float32 and actions.shape == (BATCH, ACT)
    np.testing.assert_array_equal(actions, copy(obs))


@pytest.mark.parametrize("changes", GAUSSIANS)
def test_the_numpy_policy_samples_as_the_mindspore_actor_does(obs, changes):
    actor, copy = pair(**changes)
    dist = actor(tensor(obs))
    noise = np.random.default_rng(4).standard_normal((BATCH, ACT), np.float32)
    expected = gaussian_sample(dist, tensor(noise)).asnumpy()
    np.testing.assert_allclose(copy(obs, np.random.default_rng(4)), expected, atol=1e-5)


@pytest.mark.parametrize("changes", GAUSSIANS[:2])
def test_samples_have_the_actors_mean_and_std(obs, changes):
    actor, copy = pair(log_std_min=-5.0, log_std_max=-2.0, **changes)
    mean, log_std = (x.asnumpy() for x in actor(tensor(obs[:1])))
    inside = np.abs(mean[0]) + 4 * np.exp(log_std[0]) < 1
    assert inside.any()
    rng = np.random.default_rng(0)
    samples = copy(np.repeat(obs[:1], 20000, axis=0), rng)
    error = np.exp(log_std[0]) / np.sqrt(len(samples))
    assert (np.abs(samples.mean(axis=0) - mean[0]) < 5 * error)[inside].all()
    np.testing.assert_allclose(samples.std(axis=0)[inside], np.exp(log_std[0])[inside], rtol=0.03)


def test_samples_stay_within_the_bounds(obs):
    _, copy = pair(log_std_min=0.0, log_std_max=2.0)
    samples = copy(obs, np.random.default_rng(0))
    assert np.abs(samples).max() == 1.0 and np.abs(samples).min() < 1.0


@pytest.mark.parametrize("changes", GAUSSIANS)
def test_the_log_std_stays_within_its_bounds(obs, changes):
    actor, _ = pair(**changes)
    for raw in (-50.0, 50.0):
        if actor.state_dependent_std:
            bias = np.repeat(np.float32([0, raw]), ACT)[None]
            load_parameter_arrays(actor, {**parameter_arrays(actor), "2.bias": bias})
        else:
            load_parameter_arrays(actor, {**parameter_arrays(actor), "log_std": np.full((1, ACT), raw, np.float32)})
        expected = actor.low if raw < 0 else actor.high
        np.testing.assert_allclose(actor(tensor(obs))[1].asnumpy(), expected, atol=1e-3)


@pytest.mark.parametrize("changes", GAUSSIANS)
def test_log_prob_is_the_unclipped_gaussians(obs, changes):
    actor, _ = pair(**{**changes, "log_std_min": -1.0})  # wide, so that no density underflows
    action = np.random.default_rng(1).uniform(-1, 1, (BATCH, ACT))
    dist = actor(tensor(obs))
    mean, log_std = (x.asnumpy().astype(np.float64) for x in dist)
    density = np.exp(-(((action - mean) / np.exp(log_std)) ** 2) / 2) / (np.exp(log_std) * np.sqrt(2 * np.pi))
    found = actor.log_prob(dist, tensor(action)).asnumpy()
    np.testing.assert_allclose(found, np.log(density).sum(axis=1), rtol=1e-4, atol=1e-4)
    assert float(actor.mean_std(dist).asnumpy()) == pytest.approx(np.exp(log_std).mean(), rel=1e-5)


def test_a_discrete_policy_takes_the_likeliest_action(obs):
    obs = 4 * obs
    actor, copy = pair(discrete=True)
    log_probs = actor(tensor(obs)).asnumpy()
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1, rtol=1e-5)
    actions = copy(obs)
    np.testing.assert_array_equal(actions, log_probs.argmax(axis=1))
    assert actions.dtype == np.int64 and len(set(actions)) > 1


def test_discrete_samples_follow_the_softmax(obs):
    actor, copy = pair(discrete=True)
    probs = np.exp(actor(tensor(obs[:1])).asnumpy()[0])
    assert probs.min() > 0.01
    count = 20000
    samples = copy(np.repeat(obs[:1], count, axis=0), np.random.default_rng(0))
    seen = np.bincount(samples, minlength=ACT) / count
    assert (np.abs(seen - probs) < 5 * np.sqrt(probs * (1 - probs) / count)).all()


def test_a_discrete_state_value_is_the_exact_mean_of_the_lower_twin(obs):
    nets = networks(algo(), discrete=True)
    actor, critic = (scattered(nets[name]) for name in ("actor_net", "critic_net"))
    dist = actor(tensor(obs))
    twins = critic.all_actions(tensor(obs)).asnumpy()
    found = actor.state_value(dist, critic, tensor(obs), None).asnumpy()
    np.testing.assert_allclose(found, (np.exp(dist.asnumpy()) * twins.min(axis=0)).sum(axis=1), atol=1e-4)
    action = np.arange(BATCH)[:, None] % ACT
    taken = critic(tensor(obs), tensor(action)).asnumpy()
    np.testing.assert_allclose(taken, twins[:, np.arange(BATCH), action[:, 0]], atol=1e-6)


@pytest.mark.parametrize("discrete", [False, True])
def test_raw_observations_go_through_the_normaliser(obs, discrete):
    raw = np.insert(5 + 3 * obs, 2, 7.0, axis=1)
    normalizer = Normalizer.fit(raw)
    assert normalizer.size == OBS
    actor, copy = pair(normalizer, discrete)
    out = actor(tensor(normalizer(raw)))
    expected = out.asnumpy().argmax(axis=1) if discrete else out[0].asnumpy()
    np.testing.assert_allclose(copy(raw), expected, atol=1e-5)


@pytest.mark.parametrize("discrete", [False, True])
def test_the_actor_samples_when_collecting_and_takes_the_mode_when_evaluating(obs, discrete):
    from awac.algorithm.mindrl import COLLECT, EVAL

    _, copy = pair(discrete=discrete)
    actor = AWACActor({"collect_environment": None})
    actor.use(copy)
    np.testing.assert_array_equal(actor.get_action(EVAL, (obs, np.random.default_rng(0))), copy(obs))
    sampled = actor.get_action(COLLECT, (obs, np.random.default_rng(0)))
    np.testing.assert_array_equal(sampled, copy(obs, np.random.default_rng(0)))
    assert (sampled != copy(obs)).any()


def test_the_copy_does_not_change_with_the_network(obs):
    actor, copy = pair()
    before = copy(obs)
    scattered(actor, seed=6)
    np.testing.assert_array_equal(copy(obs), before)


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("name", ["actor_net", "critic_net"])
def test_parameter_arrays_go_from_one_network_to_another(discrete, name):
    config = algo(state_dependent_std=False)
    one, other = (networks(config, discrete, seed)[name] for seed in (0, 1))
    load_parameter_arrays(other, parameter_arrays(one))
    ours, theirs = parameter_arrays(one), parameter_arrays(other)
    assert len(ours) == len(one.trainable_params())
    assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(
    "damage, error", [({"0.weight": np.zeros((2, 2))}, ValueError), ({"0.weight": None}, KeyError)]
)
def test_arrays_of_another_network_are_refused(damage, error):
    actor = networks(algo())["actor_net"]
    arrays = {key: value for key, value in {**parameter_arrays(actor), **damage}.items() if value is not None}
    with pytest.raises(error, match="0.weight"):
        load_parameter_arrays(actor, arrays)


def test_an_evaluation_uses_one_thread_of_blas():
    """With more, numpy's products differ in the last digit, and after 1000 steps of a robot so do the returns."""
    seen = []

    def choose(observations):
        seen.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return np.zeros(len(observations), int)

    with threadpool_limits(2, "blas"), contextlib.closing(Evaluator(lambda: make_env("CartPole-v1"), 2, 0)) as evaluate:
        evaluate(choose)
    assert seen and set(seen) == {1}
