"""Takes gradient steps with several settings and saves each result; test_distributed runs it under msrun and alone."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from tiny import ACT, BATCH, OBS, STEPS, algo, learner

from awac.algorithm.ranks import Ranks, join
from awac.training.session import select_device

CASES = {
    "softmax": {"weighting": "softmax"},
    "sum": {"weighting": "softmax", "loss_reduction": "sum"},
    "exp": {"weighting": "exp", "weight_clip": 5.0, "lam_unit": "td_error"},
    "critic_first": {"update_order": "critic_first", "actor_ema": 0.9},
}


def main(folder: Path) -> None:
    select_device("CPU")
    join()
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((STEPS, BATCH, 2 * OBS + ACT + 2)).astype(np.float32)
    rows[..., -1] = rows[..., -1] > 1
    noise = rng.standard_normal((STEPS, 2, BATCH, ACT), np.float32)
    for name, changes in CASES.items():
        our = learner(algo("paper", lam=0.3, **changes))
        metrics, bad_step = our.learn((rows, noise))
        result = {**our.state_dict(), "metrics": metrics, "bad_step": np.array(bad_step)}
        np.savez(folder / f"{name}_{Ranks().rank}of{Ranks().size}.npz", **result)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
