"""The default learner at one size, its data from a file: time of a step and peak memory, as JSON on the last line."""

import dataclasses
import json
import statistics
import sys
import time

import numpy as np

from awac.algorithm.learner import AWACLearner
from awac.algorithm.policy import AWACPolicy
from awac.config import load_config
from awac.data.normalizer import Normalizer
from awac.data.replay import Replay
from awac.data.sources import resolve_dataset
from awac.training.session import select_device

STEPS, CALLS = 50, 15


def main(path: str, batch: int, width: int) -> dict:
    """Measures what a run does before its first step, and some steps."""
    select_device("CPU")
    algo = load_config().algo
    algo = dataclasses.replace(algo, batch_size=batch, actor_hidden=(width,) * 2, critic_hidden=(width,) * 2)
    rng = np.random.default_rng(0)
    data, _ = resolve_dataset(path)
    rows, action_size = len(data), data.actions.shape[1]
    normalizer = Normalizer.fit(data.observations)
    replay = Replay(data, normalizer, 0, release=True)
    del data
    policy = AWACPolicy({"config": algo, "seed": 0, "state_space_dim": normalizer.size, "action_space_dim": action_size,
                         "discrete": False})  # fmt: skip
    names = ("actor_net", "average_actor_net", "critic_net", "target_critic_net")
    learner = AWACLearner({"config": algo, **{name: getattr(policy, name) for name in names}})
    times = []
    for _ in range(CALLS + 1):
        start = time.perf_counter()
        noise = rng.standard_normal((STEPS, 2, batch, action_size), np.float32)
        learner.learn((replay.sample(rng, STEPS, batch), noise))
        times.append((time.perf_counter() - start) / STEPS)
    with open("/proc/self/status", encoding="utf-8") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    size = 4 * rows * replay.width
    return {"ms_per_step": 1e3 * statistics.median(times[1:]), "peak_mb": peak / 1024, "rows_mb": size / 2**20}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
