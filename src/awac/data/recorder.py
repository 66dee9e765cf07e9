"""Records single episodes, in this process or in several, always to the same rows."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator
from concurrent.futures.process import BrokenProcessPool

import gymnasium
import numpy as np
from loky import ProcessPoolExecutor

from awac.data.behaviour import BehaviourPolicy
from awac.envs.make import make_env
from awac.errors import AWACError


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
    yield from _parallel(recorder, workers) if workers > 1 else map(recorder, itertools.count())


def _parallel(recorder: Recorder, workers: int) -> Generator[dict[str, np.ndarray], None, None]:
    # loky's workers don't run the calling script again, so a script without `if __name__ == "__main__"` can use them.
    pool = ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(recorder, os.getpid()))
    waiting: deque = deque()
    finished = False
    try:
        with _sigint_blocked():
            waiting.extend(pool.submit(_record, number) for number in range(2 * workers))
        for number in itertools.count(2 * workers):
            yield waiting.popleft().result()
            with _sigint_blocked():
                waiting.append(pool.submit(_record, number))
    except GeneratorExit:  # the caller has enough
        finished = True
        raise
    except BrokenProcessPool:
        raise AWACError("a process that records data was ended from outside, perhaps for lack of memory") from None
    finally:
        for future in waiting:
            future.cancel()
        pool.shutdown(wait=True, kill_workers=not finished)


@contextlib.contextmanager
def _sigint_blocked():
    """Processes that start meanwhile never get SIGINT: Ctrl-C reaches this process alone, which ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_worker: Recorder | None = None


def _start_worker(recorder: Recorder, parent: int) -> None:
    global _worker
    _worker = recorder
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this process within a second of its parent, however that ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _record(episode: int) -> dict[str, np.ndarray]:
    assert _worker is not None, "the pool's initializer sets it"
    return _worker(episode)
