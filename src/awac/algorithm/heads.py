"""What a policy's outputs mean, Gaussian and categorical: sampling, log-probability, mean std and state value.

A head is a cell that maps observations to a distribution; subclasses hold the network. Noise is an argument: nothing
here draws random numbers.
"""

from __future__ import annotations

import math

import mindspore as ms
from mindspore import Tensor, nn, ops

from awac.algorithm import losses


class GaussianHead(nn.Cell):
    """π(a|s) = N(μ(s), σ²), actions clipped to [−1, 1]; a distribution is (mean (B, A), log-std (B, A) or (1, A)).

    Attributes:
        samples: actions drawn for V(s).
    """

    samples: int | None = 1

    def log_prob(self, dist, action):
        """(B,) log-density of the unclipped Gaussian, as in eq. (13)."""
        mean, log_std = dist
        z = (action - mean) * ops.exp(-log_std)
        return (-0.5 * ops.square(z) - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def mean_std(self, dist):
        """Scalar: the mean standard deviation, for the log."""
        return ops.exp(dist[1]).mean()

    def state_value(self, dist, critic, obs, noise):
        """(B,) V(s) = E_{a∼π} min_i Q_i(s, a), from one sample, noise (B, A), or from several, noise (N, B, A)."""
        if noise.ndim == 2:
            return critic(obs, gaussian_sample(dist, noise)).min(axis=0)
        samples, batch, size = noise.shape
        actions = gaussian_sample(dist, noise).reshape(samples * batch, size)
        q = critic(ops.tile(obs, (samples, 1)), actions).min(axis=0)
        return q.reshape(samples, batch).mean(0)

    def baseline(self, dist, critic, obs, noise):
        """(B,) the baseline of eq. (12)."""
        return self.state_value(dist, critic, obs, noise)


class CategoricalHead(nn.Cell):
    """π(a|s) of action indices (B, 1); a distribution is log-probabilities (B, A).

    Attributes:
        samples: actions drawn for V(s); None takes the exact expectation.
    """

    samples: int | None = None

    def log_prob(self, dist, action):
        """(B,) log-probability of actions (B, 1) given as indices."""
        return at_action(dist, action)

    def mean_std(self, dist):
        """Scalar: the mean standard deviation of the action's indicator, √Σπ(1−π)."""
        probs = ops.exp(dist)
        return ops.sqrt((probs * (1.0 - probs)).sum(-1)).mean()

    def state_value(self, dist, critic, obs, noise):
        """(B,) V(s) = Σ_a π(a|s) min_i Q_i(s, a), exactly, or estimated from actions sampled with noise (N, B, A)."""
        if self.samples is None:
            return self.baseline(dist, critic, obs, noise)
        # The Gumbel trick: the largest of log-probabilities plus Gumbel noise is a sample.
        probs = one_hot(ops.argmax(dist + noise, -1), dist.shape[-1]).mean(0)
        return losses.expected_value(probs, critic.all_actions(obs).min(axis=0))

    def baseline(self, dist, critic, obs, noise):
        """(B,) the baseline of eq. (12): always the exact expectation."""
        return losses.expected_value(ops.exp(dist), critic.all_actions(obs).min(axis=0))


def gaussian_sample(dist, noise):
    """(…, B, A) actions from a distribution (mean, log-std) and standard normal noise, clipped to the bounds."""
    mean, log_std = dist
    return ops.clamp(mean + ops.exp(log_std) * noise, -1.0, 1.0)


def one_hot(action, size):
    """Indices of actions (…,) → (…, size) float32."""
    return ops.one_hot(action.astype(ms.int32), size, Tensor(1.0, ms.float32), Tensor(0.0, ms.float32))


def at_action(values, action):
    """(…, B) entries of values (…, B, A) at actions (B, 1) given as indices."""
    return (values * one_hot(action.reshape(-1), values.shape[-1])).sum(-1)
