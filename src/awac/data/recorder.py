"""Records single episodes, in this process or in several, always to the same rows."""

from __future__ import annotations

import itertools
import multiprocessing
from collections import deque
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import gymnasium
import numpy as np

from awac.data.behaviour import BehaviourPolicy
from awac.envs.registry import make_env


class Recorder:
    """Records episode number i; picklable, its environment is made where it first records."""

    def __init__(self, env_id: str, policy: BehaviourPolicy, seed: int, part: int, deterministic: bool):
        self.env_id, self.policy, self.seed, self.part, self.deterministic = env_id, policy, seed, part, deterministic
        self.env: gymnasium.Env | None = None

    def __call__(self, episode: int) -> dict[str, np.ndarray]:
        self.env = env = self.env or make_env(self.env_id)
        reset_seed, noise_seed = np.random.SeedSequence(self.seed, spawn_key=(self.part, episode)).spawn(2)
        rng = np.random.default_rng(noise_seed)
        observation, _ = env.reset(seed=int(reset_seed.generate_state(1)[0]))
        physics = getattr(env.unwrapped, "data", None)
        physics = physics if hasattr(physics, "qpos") and hasattr(physics, "qvel") else None
        rows: dict[str, list] = {}
        terminated = truncated = False
        while not (terminated or truncated):
            state = {"infos/qpos": physics.qpos.copy(), "infos/qvel": physics.qvel.copy()} if physics else {}
            action, log_prob = self.policy.sample(observation, rng, self.deterministic)
            successor, reward, terminated, truncated, _ = env.step(action)
            row = {
                "observations": observation,
                "actions": action,
                "rewards": reward,
                "next_observations": successor,
                "terminals": terminated,
                "timeouts": truncated and not terminated,
                "infos/action_log_probs": log_prob,
                **state,
            }
            for key, value in row.items():
                rows.setdefault(key, []).append(value)
            observation = successor
        return {key: _column(values) for key, values in rows.items()}


def _column(values: list) -> np.ndarray:
    array = np.asarray(values)
    return array.astype({"b": bool, "i": np.int32, "u": np.int32}.get(array.dtype.kind, np.float32))


def episodes_of(recorder: Recorder, workers: int) -> Generator[dict[str, np.ndarray], None, None]:
    """Episodes 0, 1, 2, … in order, for as long as the caller takes them."""
    numbers = itertools.count()
    if workers > 1:
        try:
            for number, episode in _parallel(recorder, workers):
                numbers = itertools.count(number + 1)
                yield episode
        except BrokenProcessPool:
            # A script without `if __name__ == "__main__"` cannot start workers: go on here, to the same rows.
            pass
    yield from map(recorder, numbers)


def _parallel(recorder: Recorder, workers: int) -> Generator[tuple[int, dict[str, np.ndarray]], None, None]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(recorder,))
    try:
        waiting: deque = deque()
        for number in itertools.count():
            while len(waiting) < 2 * workers:
                waiting.append(pool.submit(_record, number + len(waiting)))
            yield number, waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker: Recorder | None = None


def _start_worker(recorder: Recorder) -> None:
    global _worker
    _worker = recorder


def _record(episode: int) -> dict[str, np.ndarray]:
    assert _worker is not None, "the pool's initializer sets it"
    return _worker(episode)
