"""Warnings while training: finite metrics that indicate a problem. Each is printed once per phase."""

from __future__ import annotations

import math

from awac.algorithm.mindrl import Callback

MIN_ESS = 0.05
"""ESS/B below which a handful of rows decide a step."""
NEAR = 0.064
"""Or its share of the way from the least ESS/B that the weights' bounds allow to 1: with the default's, below 0.17."""
Q_EXCESS = 10.0
"""Times r_max/(1 − γ) that the mean Q may be: untrained critics overshoot, diverging ones go on."""
STD_MARGIN = 0.02
"""Share of the log-std's range that counts as being at its bound."""


class Warnings(Callback):
    """Checks every episode's metrics and prints what is out of bounds.

    Args:
        config: AlgoConfig of the run.
        discrete: whether the actions are indices, which have no log-std.
    """

    def __init__(self, config, discrete: bool):
        super().__init__()
        self._config, self._discrete = config, discrete
        self._said: set[tuple[str, str]] = set()

    def episode_end(self, params):
        """Prints new warnings."""
        for kind, text in warnings(params.metrics, params.reward_max, self._config, self._discrete):
            if (kind, params.phase) not in self._said:
                self._said.add((kind, params.phase))
                print(f"Warning: episode {params.cur_episode}, {text}", flush=True)


def least_ess(config) -> float:
    """The smallest ESS/B of weights from `weight_floor` to `weight_clip`; 0 where they have no such bounds."""
    low, high = config.weight_floor, config.weight_clip
    return 4 * low * high / (low + high) ** 2 if config.weighting == "exp" and low > 0 and math.isfinite(high) else 0.0


def warnings(metrics: dict, reward_max: float, config, discrete: bool):
    """Yields (kind, text) for each metric that is out of bounds.

    Args:
        metrics: means over an episode.
        reward_max: largest |r| seen.
        config: AlgoConfig of the run.
        discrete: whether the actions are indices, which have no log-std.
    """
    least = least_ess(config)
    if metrics["ess"] < max(MIN_ESS, least + NEAR * (1 - least)) and least < 0.5:
        yield "ess", f"ESS/B is {metrics['ess']:.3f}: a handful of rows decide the policy's steps; raise lam"
    if config.gamma < 1:
        bound = max(reward_max * config.reward_scale / (1 - config.gamma), 1.0)  # untrained critics are not 0
        if abs(metrics["q_mean"]) > Q_EXCESS * bound:
            yield (
                "q",
                (
                    f"mean Q is {metrics['q_mean']:.4g}, more than {Q_EXCESS:.0f} times r_max/(1-gamma) = "
                    f"{bound:.4g}: the critics diverge; lower critic_lr or tau"
                ),
            )
    if not discrete:
        low, high = config.log_std_min, config.log_std_max
        place = (math.log(max(metrics["mean_std"], 1e-30)) - low) / (high - low)
        side = "lower" if place < STD_MARGIN else "upper" if place > 1 - STD_MARGIN else None
        if side:
            key = "log_std_min" if side == "lower" else "log_std_max"
            yield "std", f"the policy's std {metrics['mean_std']:.3g} is at its {side} bound; see {key}"
