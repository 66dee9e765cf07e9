"""AWAC's losses (Nair et al. 2020, arXiv 2006.09359): pure functions of tensors, used by every learner here.

Shapes: B rows; the leading 2 are the twin critics. No function owns parameters or draws random numbers.
"""

from __future__ import annotations

from mindspore import ops


def td_target(reward, terminated, next_value, gamma):
    """y = r + γ·(1 − terminated)·V(s′), the target of eq. (9).

    Args:
        reward: (B,).
        terminated: (B,) 1.0 where the task ended, 0.0 at a time limit.
        next_value: (B,) value of the next state under the target critics.
        gamma: discount factor.

    Returns:
        (B,) targets; no gradient flows through them.
    """
    return ops.stop_gradient(reward + gamma * (1.0 - terminated) * next_value)


def critic_loss(q_data, target):
    """Σ_i mean_B (Q_i(s, a) − y)², eq. (9).

    Args:
        q_data: (C, B) critics at the data's actions.
        target: (B,) from `td_target`.

    Returns:
        Scalar.
    """
    return ops.square(q_data - target).mean(-1).sum()


def td_error(q_data, target):
    """Root mean square of Q_i(s, a) − y over the twins and the batch; no gradient flows through it.

    As a unit of λ it makes the weights independent of the scale of the rewards, and flatter if the critics' errors are
    larger.
    """
    return ops.stop_gradient(ops.sqrt(ops.square(q_data - target).mean()))


def advantage(q_data, value):
    """A(s, a) = min_i Q_i(s, a) − V(s), eq. (12).

    Args:
        q_data: (C, B) critics at the data's actions.
        value: (B,) value of the state under the current policy.

    Returns:
        (B,) advantages; no gradient flows through them.
    """
    return ops.stop_gradient(q_data.min(axis=0) - value)


def expected_value(probs, q):
    """V(s) = Σ_a p(a|s)·Q(s, a): exact for the policy's probabilities, an estimate for sampled actions' shares.

    Args:
        probs: (B, A) probabilities.
        q: (B, A) values of all actions.

    Returns:
        (B,) values.
    """
    return (probs * q).sum(-1)


def softmax_weights(adv, lam, clip=None):
    """B·softmax(A/λ): eq. (13) with the partition function estimated on the batch, so the mean weight is 1."""
    return ops.stop_gradient(ops.softmax(adv / lam, axis=0) * adv.shape[0])


def exp_weights(adv, lam, clip=None):
    """min(exp(A/λ), clip): eq. (13) without its partition function; None does not clip."""
    if clip is None:
        return ops.stop_gradient(ops.exp(adv / lam))
    return ops.stop_gradient(ops.exp(ops.minimum(adv / lam, ops.log(ops.scalar_to_tensor(clip)))))


def uniform_weights(adv, lam, clip=None):
    """1 for every row: behaviour cloning, the limit of softmax and exp for λ → ∞."""
    return ops.ones_like(adv)


WEIGHTINGS = {"softmax": softmax_weights, "exp": exp_weights, "uniform": uniform_weights}
"""Functions of (adv, lam, clip) by the name that `weighting` has in the configuration."""


def actor_loss(log_prob, weights, reduction="mean"):
    """−log π(a|s)·w over the batch, eq. (13).

    Args:
        log_prob: (B,) log-density of the data's actions.
        weights: (B,) advantage weights.
        reduction: `mean` or `sum` over the batch.

    Returns:
        Scalar.
    """
    weighted = -log_prob * weights
    return weighted.mean() if reduction == "mean" else weighted.sum()


def effective_sample_share(weights):
    """ESS/B = (Σw)² / (B·Σw²): 1 for equal weights, near 0 if a few rows dominate, 0 if all weights are 0."""
    weights = weights / ops.maximum(weights.max(), 1e-30)  # the square of a large weight overflows
    return ops.square(weights.sum()) / (weights.shape[0] * ops.maximum(ops.square(weights).sum(), 1e-30))
