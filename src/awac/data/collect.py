"""Records data sets in D4RL's v2 layout from a policy, reproducibly to the byte.

Every episode has its own reset seed and its own noise generator, both derived from (seed, part, episode number), so the
rows do not depend on how many processes record them.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
from gymnasium import spaces
from tqdm import tqdm

from awac import processors
from awac.data.behaviour import BehaviourPolicy, shipped_names, shipped_policy
from awac.data.hdf5_writer import provenance, write_hdf5
from awac.data.recording_processes import Recorder, episodes_of
from awac.envs.actions import environment_action_space, to_environment
from awac.envs.make import make_env, notes
from awac.envs.tasks import Task
from awac.errors import DataError
from awac.runs.files import make_folder

DEFAULT_ROWS = 500_000
_ROWS_WORTH_A_WORKER = 5000  # below, starting a process takes longer than the rows
_MAX_WORKERS = 16


def collect(
    task: str | Task,
    policy: BehaviourPolicy,
    *,
    rows: int | None = None,
    episodes: int | None = None,
    seed: int = 0,
    part: int = 0,
    deterministic: bool = False,
    workers: int = 1,
    progress: bool = False,
) -> dict[str, np.ndarray]:
    """Runs a policy and returns the rows in D4RL's v2 layout.

    Args:
        task: a task of `make_env`.
        policy: acts on raw observations.
        rows: number of rows; the last episode is cut there and marked as a timeout.
        episodes: number of whole episodes, instead of `rows`.
        seed: of everything random.
        part: further seed, for the parts of a mix.
        deterministic: record mean actions.
        workers: processes that share the episodes; the result is the same for any number, if an episode depends on its
            reset seed alone.
        progress: show a bar on stderr if that is a terminal.

    Returns:
        observations, next_observations (N, O), actions (N, A) in the environment's units or int32 (N,), rewards,
        infos/action_log_probs (N,), all float32; terminals, timeouts (N,) bool; infos/qpos, infos/qvel before the step,
        if the task runs on MuJoCo.

    Raises:
        DataError: neither or both of `rows` and `episodes`, or not positive; a policy made for other sizes.
        TaskError: from `make_env`.
        EnvironmentFault: the environment failed.
    """
    target = rows or episodes or 0
    if (rows is None) == (episodes is None) or target < 1:
        raise DataError("collecting needs a positive number of either rows or episodes")
    task = Task.parse(task)
    with contextlib.closing(make_env(task)) as env:  # a wrong task or policy is an error here, not in a worker
        policy.check_env(env)
        action_space = environment_action_space(env)
        for line in notes(env):
            print(line, flush=True)
    recorder = Recorder(task, policy, seed, part, deterministic)
    label, unit = f"collecting {task.id} ({policy.name})", " rows" if rows else " episodes"
    recorded: list[dict[str, np.ndarray]] = []
    done = 0
    with (
        contextlib.closing(recorder),
        contextlib.closing(episodes_of(recorder, workers)) as stream,
        tqdm(total=target, desc=label, unit=unit, disable=None if progress else True) as bar,
    ):
        for episode in stream:
            recorded.append(episode)
            done += len(episode["rewards"]) if rows else 1
            bar.update(min(done, target) - bar.n)
            if done >= target:
                break
    columns = {key: np.concatenate([episode.pop(key) for episode in recorded])[:rows] for key in list(recorded[0])}
    columns["timeouts"][-1] = not columns["terminals"][-1]
    _to_environment_units(columns, action_space)
    return columns


def _to_environment_units(columns: dict[str, np.ndarray], space: spaces.Space) -> None:
    """Actions from [-1, 1] to the environment's units, and their log-densities with them."""
    actions = columns["actions"]
    columns["actions"] = to_environment(space, actions).astype(actions.dtype)
    if isinstance(space, spaces.Box):
        half = (space.high.astype(np.float64) - space.low).ravel() / 2
        shift = np.log(half[half > 0]).sum()
        columns["infos/action_log_probs"] = (columns["infos/action_log_probs"] - shift).astype(np.float32)


def record(
    task: str | Task,
    policy: str | BehaviourPolicy,
    out: str | os.PathLike,
    *,
    rows: int | None = None,
    seed: int = 0,
    deterministic: bool = False,
    progress: bool = True,
    workers: int | None = None,
) -> str:
    """Records a data set file; the command `awac collect`.

    Args:
        task: a task of `make_env`.
        policy: `random`, a shipped policy (`ant_expert`, `expert` if the task is an Ant), a path to an .npz, or the
            policy itself.
        out: the HDF5 file to write; it must not exist yet.
        rows: number of rows; None for DEFAULT_ROWS.
        seed: of everything random.
        deterministic: record mean actions.
        progress: show a bar on stderr if that is a terminal.
        workers: processes; None for one a core that this process may use, and fewer for few rows.

    Returns:
        One line that says what was recorded.

    Raises:
        DataError: no such policy, or one for other sizes; `out` exists or cannot be written.
        TaskError: from `make_env`.
        EnvironmentFault: the environment failed; nothing is written.
    """
    task = Task.parse(task)
    path = Path(out).expanduser()
    if path.exists():
        raise DataError(f"{path}: exists already; remove it or name another file")
    actor = policy if isinstance(policy, BehaviourPolicy) else named_policy(task, policy)
    if deterministic and policy == "random":
        raise DataError("a random policy has no mean actions; leave --deterministic out")
    make_folder(path.parent, "name a folder you can write")
    _check_writable(path)
    rows = DEFAULT_ROWS if rows is None else rows
    workers = workers or worker_count(rows)
    with nothing_written(path):
        columns = collect(
            task, actor, rows=rows, seed=seed, deterministic=deterministic, workers=workers, progress=progress
        )
        write_hdf5(path, columns, provenance(task, [actor], seed, deterministic))
    ends = np.flatnonzero(columns["terminals"] | columns["timeouts"])
    returns = np.add.reduceat(columns["rewards"], np.append(0, ends[:-1] + 1), dtype=np.float64)
    return (
        f"{path}: {rows} rows of {task.id}, {len(returns)} episodes, "
        f"mean return {returns.mean():.1f} ± {returns.std():.1f}, "
        f"terminated early {columns['terminals'].sum() / len(returns):.0%}"
    )


def _check_writable(path: Path) -> None:
    """Better known before a recording than after it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        draft.touch()
        draft.unlink()
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); name a folder you can write") from None


@contextlib.contextmanager
def nothing_written(path: Path):
    """Gives Ctrl-C its message while a file is being recorded."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{path} was not finished, and nothing of it was written") from None


def worker_count(rows: int) -> int:
    """Processes worth starting for a recording of `rows` rows."""
    return max(1, min(processors.available(), _MAX_WORKERS, rows // _ROWS_WORTH_A_WORKER))


def named_policy(task: str | Task, name: str) -> BehaviourPolicy:
    """`random`, a shipped policy, or one from a file."""
    task = Task.parse(task)
    if name == "random":
        with contextlib.closing(make_env(task)) as env:
            return BehaviourPolicy.random(env.action_space)
    shipped = shipped_names()
    stem = f"{task.robot}_{name}" if task.is_d4rl and name in ("medium", "expert") else name.removesuffix(".npz")
    if stem in shipped and not os.path.isfile(name):
        return shipped_policy(stem)
    if name in ("medium", "expert"):
        robot = (task.robot or task.id.partition("-")[0].lower()) + "_"
        own = "".join(f"{other}, " for other in shipped if other.startswith(robot))
        raise DataError(
            f"no {name} policy ships for {task.id}; give --policy random, {own}a run's folder or an .npz file"
        )
    return BehaviourPolicy.load(name)
