"""Records episodes in this process or in several, with the same result.

The processes are plain interpreters that get episode numbers through a pipe. Unlike those of `multiprocessing`, they do
not run the calling script again, they can be started from anywhere, and they end with their parent, when the pipe
closes.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Generator

import gymnasium
import numpy as np

from awac.data.behaviour import BehaviourPolicy
from awac.envs.make import make_env
from awac.envs.tasks import Task
from awac.errors import AWACError, TaskError, first_line


class Recorder:
    """Records episode number i. It is picklable: its environment is made at the first episode."""

    def __init__(self, task: Task, policy: BehaviourPolicy, seed: int, part: int, deterministic: bool):
        self.task, self.policy, self.seed, self.part, self.deterministic = task, policy, seed, part, deterministic
        self.env: gymnasium.Env | None = None

    def __call__(self, episode: int) -> dict[str, np.ndarray]:
        self.env = env = self.env or make_env(self.task)
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

    def close(self) -> None:
        """Closes the environment of this process."""
        if self.env is not None:
            self.env.close()


def _column(values: list) -> np.ndarray:
    array = np.asarray(values)
    return array.astype({"b": bool, "i": np.int32, "u": np.int32}.get(array.dtype.kind, np.float32))


def episodes_of(recorder: Recorder, workers: int) -> Generator[dict[str, np.ndarray], None, None]:
    """Episodes 0, 1, 2, … in order, for as long as the caller takes them.

    In a worker of a `multiprocessing.Pool` no further processes are started, as there are enough. This process also
    records alone if others can't make the environment, because it is registered here only, can't be sent there, or may
    exist only once.
    """
    done = 0
    if workers > 1 and not multiprocessing.current_process().daemon:
        try:
            with contextlib.closing(_parallel(recorder, workers)) as stream:
                for episode in stream:
                    yield episode
                    done += 1
        except TaskError as error:
            print(f"Recording in one process: in another, {error}", flush=True)
    yield from map(recorder, itertools.count(done))


def _parallel(recorder: Recorder, workers: int) -> Generator[dict[str, np.ndarray], None, None]:
    started: list[_Worker] = []
    try:
        started.extend(_Worker(recorder, itertools.count(first, workers)) for first in range(workers))
        for number in itertools.count():
            yield started[number % workers].result()
    finally:
        for worker in started:
            worker.end()


class _Worker:
    """A process that records some of the episodes, and the thread that talks to it."""

    def __init__(self, recorder: Recorder, numbers: itertools.count):
        path = [str(entry) for entry in sys.path]
        code = f"import sys; sys.path[:] = {path!a}; from awac.data.recording_processes import serve; serve()"
        # In a new session: Ctrl-C on the terminal reaches only the parent, which then ends its workers.
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self._results: queue.Queue = queue.Queue()
        self._ahead = threading.Semaphore(2)  # finished episodes that wait to be read
        threading.Thread(target=self._talk, args=(recorder, numbers), daemon=True).start()

    def result(self) -> dict[str, np.ndarray]:
        """The next episode.

        Raises:
            AWACError: the process was ended from outside; or what recording raised there.
        """
        episode = self._results.get()
        self._ahead.release()
        if isinstance(episode, Exception):
            raise episode
        return episode

    def end(self) -> None:
        """Ends process and thread at once."""
        self._process.kill()
        self._ahead.release()
        self._process.wait()

    def _talk(self, recorder: Recorder, numbers: itertools.count) -> None:
        commands, replies = self._process.stdin, self._process.stdout
        assert commands and replies, "both are pipes"
        try:
            with commands, replies:
                pickle.dump(recorder, commands)
                for number in numbers:
                    self._ahead.acquire()
                    pickle.dump(number, commands)
                    commands.flush()
                    self._results.put(pickle.load(replies))
        except (OSError, EOFError, pickle.UnpicklingError):
            text = "a process that records data was ended from outside, perhaps for lack of memory"
            self._results.put(AWACError(text))
        except Exception as error:  # of a lambda and the like; without a reply the parent would wait for ever
            self._results.put(TaskError(f"the environment can't be made, since it can't be sent there ({error})"))


def serve() -> None:
    """Runs in the worker: a recorder, then episode numbers come from stdin; episodes or an error go to stdout."""
    commands, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what an environment prints must not get into the replies
    try:
        recorder = pickle.load(commands)
        while True:
            number = pickle.load(commands)
            try:
                reply = pickle.dumps(recorder(number))
            except AWACError as error:
                reply = pickle.dumps(error)
            except Exception as error:  # of the environment; a traceback in the worker would tell the parent nothing
                reply = pickle.dumps(AWACError(f"recording failed: {type(error).__name__}: {first_line(error)}"))
            replies.write(reply)
            replies.flush()
    except (EOFError, OSError, pickle.UnpicklingError):  # the parent has ended, perhaps in the middle of a message
        os._exit(0)
