"""The default learner at one size: time of a step and peak memory, as JSON on the last line."""

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
from awac.data.transitions import Transitions
from awac.training.session import select_device

OBS, VARYING, ACT, STEPS, CALLS = 111, 27, 8, 50, 15


def main(rows: int, batch: int, width: int) -> dict:
    """Measures; the data is like the Ant's, float32 arrays with 84 columns that are always 0."""
    select_device("CPU")
    algo = load_config("ant").algo
    algo = dataclasses.replace(algo, batch_size=batch, actor_hidden=(width,) * 2, critic_hidden=(width,) * 2)
    rng = np.random.default_rng(0)
    obs, following = np.zeros((rows, OBS), np.float32), np.zeros((rows, OBS), np.float32)
    for column in range(VARYING):
        obs[:, column] = rng.standard_normal(rows, np.float32)
        following[:, column] = rng.standard_normal(rows, np.float32)
    reward, no = rng.standard_normal(rows, np.float32), np.zeros(rows, bool)
    action = rng.random((rows, ACT), np.float32)
    normalizer = Normalizer.fit(obs)
    replay = Replay(Transitions(obs, action, reward, following, no, no), normalizer, 0)
    del obs, following, action, reward
    policy = AWACPolicy(
        {"config": algo, "seed": 0, "state_space_dim": VARYING, "action_space_dim": ACT, "discrete": False}
    )
    names = ("actor_net", "average_actor_net", "critic_net", "target_critic_net")
    learner = AWACLearner({"config": algo, **{name: getattr(policy, name) for name in names}})
    times = []
    for _ in range(CALLS + 1):
        start = time.perf_counter()
        noise = rng.standard_normal((STEPS, 2, batch, ACT), np.float32)
        learner.learn((replay.sample(rng, STEPS, batch), noise))
        times.append((time.perf_counter() - start) / STEPS)
    with open("/proc/self/status", encoding="utf-8") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    size = 4 * rows * (2 * OBS + ACT + 2)
    return {"ms_per_step": 1e3 * statistics.median(times[1:]), "peak_mb": peak / 1024, "rows_mb": size / 2**20}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
