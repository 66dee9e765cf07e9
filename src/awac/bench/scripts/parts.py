"""Where the time of a default run goes: seconds by part, as JSON on the last line."""

import json
import time

START = time.perf_counter()

import numpy as np  # noqa: E402

from awac.algorithm.learner import AWACLearner  # noqa: E402
from awac.algorithm.numpy_policy import NumpyPolicy  # noqa: E402
from awac.algorithm.policy import AWACPolicy, parameter_arrays  # noqa: E402
from awac.config import load_config  # noqa: E402
from awac.data.normalizer import Normalizer  # noqa: E402
from awac.data.replay import Replay  # noqa: E402
from awac.data.transitions import Transitions  # noqa: E402
from awac.envs import make_env  # noqa: E402
from awac.training.evaluate import Evaluator  # noqa: E402
from awac.training.session import select_device  # noqa: E402

ROWS, ENV_STEPS, EPISODES = 1_000_000, 1000, 5


def main() -> dict:
    """Measures."""
    found = {"import": time.perf_counter() - START}

    def lap(name, start):
        found[name] = time.perf_counter() - start
        return time.perf_counter()

    rng = np.random.default_rng(0)
    obs = np.zeros((ROWS + 1, 111), np.float32)
    obs[:, :27] = rng.standard_normal((ROWS + 1, 27), np.float32)
    action, reward = rng.uniform(-1, 1, (ROWS, 8)).astype(np.float32), rng.standard_normal(ROWS, np.float32)
    no = np.zeros(ROWS, bool)
    start = time.perf_counter()
    normalizer = Normalizer.fit(obs[:-1])
    replay = Replay(Transitions(obs[:-1], action, reward, obs[1:], no, no), normalizer, ROWS)
    start = lap("normaliser and replay of 1M rows", start)
    select_device("CPU")
    config = load_config()
    algo, steps = config.algo, config.train.steps_per_call
    sizes = {"state_space_dim": normalizer.size, "action_space_dim": 8, "discrete": False}
    policy = AWACPolicy({"config": algo, "seed": 0, **sizes})
    names = ("actor_net", "average_actor_net", "critic_net", "target_critic_net")
    learner = AWACLearner({"config": algo, **{name: getattr(policy, name) for name in names}})

    def learn(count):
        for _ in range(count // steps):
            noise = rng.standard_normal((steps, 2, algo.batch_size, 8), np.float32)
            learner.learn((replay.sample(rng, steps, algo.batch_size), noise))

    start = lap("networks and learner", start)
    learn(steps)
    start = lap(f"first {steps} gradient steps, compilation included", start)
    learn(ENV_STEPS)
    start = lap(f"{ENV_STEPS} gradient steps", start)
    env = make_env(config.env.task)
    observation, _ = env.reset(seed=0)
    start = time.perf_counter()
    acting = NumpyPolicy(parameter_arrays(learner.deployed_actor), normalizer, algo, False)
    for _ in range(ENV_STEPS):
        acting(observation[None], rng)
    start = lap(f"{ENV_STEPS} actions of the policy", start)
    for _ in range(ENV_STEPS):
        following, gain, terminated, truncated, _ = env.step(env.action_space.sample())
        observation = env.reset()[0] if terminated or truncated else following
    start = lap(f"{ENV_STEPS} environment steps", start)
    for _ in range(ENV_STEPS):
        replay.add(observation, action[0], float(gain), observation, False)
    lap(f"{ENV_STEPS} rows added", start)
    evaluator = Evaluator(lambda: make_env(config.env.task), EPISODES, 0)
    start = time.perf_counter()
    evaluator(acting)
    lap(f"evaluation of {EPISODES} episodes (the policy may fall early)", start)
    return found


if __name__ == "__main__":
    print(json.dumps(main()))
