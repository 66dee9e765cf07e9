"""Every loss against plain numpy: values, gradients, and where no gradient may flow."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from awac.algorithm import losses

pytestmark = pytest.mark.usefixtures("graph_mode")
BATCH = 8


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def tensor(values):
    return ms.Tensor(np.asarray(values, np.float32))


def call(function, *arrays):
    """The function's value in numpy."""
    return function(*(tensor(a) for a in arrays)).asnumpy()


def gradients(function, *arrays):
    """Gradients of the sum of the function's values with respect to each argument."""
    found = ms.grad(function, tuple(range(len(arrays))))(*(tensor(a) for a in arrays))
    return [g.asnumpy() for g in (found if isinstance(found, tuple) else (found,))]


def softmax_weights_at_2(adv):
    return losses.softmax_weights(adv, 2.0)


def exp_weights_at_2(adv):
    return losses.exp_weights(adv, 2.0, 100.0)


def td_target_at_09(reward, terminated, value):
    return losses.td_target(reward, terminated, value, 0.9)


def softmax_weights(adv, lam):
    shifted = np.exp((adv - adv.max()) / lam)
    return len(adv) * shifted / shifted.sum()


@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
def test_td_target_bootstraps_where_the_episode_goes_on(rng, gamma):
    reward, value = rng.normal(size=(2, BATCH))
    terminated = np.arange(BATCH) % 2
    target = call(lambda r, t, v: losses.td_target(r, t, v, gamma), reward, terminated, value)
    np.testing.assert_allclose(target[1::2], reward[1::2], rtol=1e-6)
    np.testing.assert_allclose(target[::2], (reward + gamma * value)[::2], rtol=1e-5, atol=1e-6)


def test_td_target_lets_no_gradient_through(rng):
    reward, value = rng.normal(size=(2, BATCH))
    for gradient in gradients(td_target_at_09, reward, np.zeros(BATCH), value):
        np.testing.assert_array_equal(gradient, 0)


def test_critic_loss_sums_the_twins_mean_squares(rng):
    q, target = rng.normal(size=(2, BATCH)), rng.normal(size=BATCH)
    expected = ((q[0] - target) ** 2).mean() + ((q[1] - target) ** 2).mean()
    assert call(losses.critic_loss, q, target) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(gradients(losses.critic_loss, q, target)[0], 2 * (q - target) / BATCH, atol=1e-6)


def test_advantage_takes_the_lower_twin_and_lets_no_gradient_through(rng):
    q, value = rng.normal(size=(2, BATCH)), rng.normal(size=BATCH)
    np.testing.assert_allclose(call(losses.advantage, q, value), np.minimum(q[0], q[1]) - value, atol=1e-6)
    for gradient in gradients(losses.advantage, q, value):
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("lam", [0.3, 2.0])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_softmax_weights_have_mean_1_and_stay_finite(rng, lam, scale):
    adv = scale * rng.normal(size=BATCH)
    weights = call(lambda a: losses.softmax_weights(a, lam), adv)
    np.testing.assert_allclose(weights, softmax_weights(adv.astype(np.float32), lam), rtol=1e-3, atol=1e-6)
    assert weights.mean() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("lam", [0.3, 2.0])
@pytest.mark.parametrize("clip", [1.5, 100.0])
def test_exp_weights_are_clipped(lam, clip):
    adv = np.array([-1e4, -1.0, 0.0, 0.2, 1.0, 3.0, 50.0, 1e4])
    expected = np.exp(np.minimum(adv / lam, np.log(clip)))
    np.testing.assert_allclose(call(lambda a: losses.exp_weights(a, lam, clip), adv), expected, rtol=1e-5)


@pytest.mark.parametrize("weigh", [softmax_weights_at_2, exp_weights_at_2])
def test_weights_let_no_gradient_through(rng, weigh):
    np.testing.assert_array_equal(gradients(weigh, rng.normal(size=BATCH))[0], 0)


@pytest.mark.parametrize("weighting", ["softmax", "exp"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_actor_loss_is_the_weighted_negative_log_probability(rng, weighting, reduction):
    log_prob, adv = rng.normal(size=(2, BATCH))
    weights = softmax_weights(adv, 0.7) if weighting == "softmax" else np.minimum(np.exp(adv / 0.7), 2.0)

    def loss(log_prob, adv):
        w = losses.softmax_weights(adv, 0.7) if weighting == "softmax" else losses.exp_weights(adv, 0.7, 2.0)
        return losses.actor_loss(log_prob, w, reduction)

    divisor = BATCH if reduction == "mean" else 1
    assert call(loss, log_prob, adv) == pytest.approx(-(log_prob * weights).sum() / divisor, rel=1e-4)
    by_log_prob, by_adv = gradients(loss, log_prob, adv)
    np.testing.assert_allclose(by_log_prob, -weights / divisor, rtol=1e-4)
    np.testing.assert_array_equal(by_adv, 0)


@pytest.mark.parametrize(
    "weights, expected",
    [(np.ones(8), 1.0), (np.full(8, 3.0), 1.0), (np.eye(8)[2], 1 / 8), ([1, 1, 1, 1, 0, 0, 0, 0], 0.5)],
)
def test_effective_sample_share(weights, expected):
    assert call(losses.effective_sample_share, weights) == pytest.approx(expected, rel=1e-6)
