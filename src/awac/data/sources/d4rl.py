"""D4RL's own files, on disk or downloaded on request; otherwise data that the shipped behaviour policies record.

`d4rl:ID` reads the same file through the package d4rl, as its `qlearning_dataset`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from awac.data.sources.download import fetch
from awac.data.sources.files import HDF5_MAGIC, read_file
from awac.data.sources.generated import GENERATED, generated
from awac.data.sources.registry import Recording, Request, source
from awac.envs.old_gym import import_gym, register_d4rl
from awac.envs.tasks import Task, known_d4rl_ids
from awac.errors import DataError, HomeError, nearest
from awac.runs.files import alone, make_folder

PREFIX = "d4rl:"
# $AWAC_D4RL_URL replaces the part before the folder, for mirrors.
DATASET_URL = "{base}/{folder}/{file}"
_BASE_URL = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
_FOLDERS = {"v0": "gym_mujoco", "v1": "gym_mujoco_v1", "v2": "gym_mujoco_v2"}


@source(ids=tuple(known_d4rl_ids()))
def d4rl(name: str, request: Request) -> Recording:
    """D4RL's file in `$D4RL_DATASET_DIR` or `~/.d4rl/datasets`, or the same mix recorded with shipped policies."""
    task = Task.parse(name)
    path = _find(task, request)
    if path is not None:
        read = read_file(path, request.extra)
        return replace(read, kind="d4rl", detail=f"D4RL's recording, {path}", action_unit=read.action_unit or "env")
    if name not in GENERATED:
        raise DataError(
            f"data set {name} is not on this machine and cannot be generated: pass --download, or put "
            f"{dataset_file(task)} into ~/.d4rl/datasets or $D4RL_DATASET_DIR, or give a file's path"
        )
    return generated(name, request)


@source(prefix=PREFIX)
def d4rl_package(name: str, request: Request) -> Recording:
    """The rows that d4rl makes of its file: next observations are the next row's, rows at time limits are dropped."""
    dataset_id = name[len(PREFIX) :]
    if dataset_id not in known_d4rl_ids():
        raise DataError(f"'{name}': the nearest D4RL id is '{PREFIX}{nearest(dataset_id, known_d4rl_ids())}'")
    gym = import_gym()
    register_d4rl(dataset_id)
    try:
        import d4rl
    except ImportError:
        raise DataError(f"{name} needs gym 0.23 and d4rl, which scripts/check_legacy.sh installs") from None
    path = _find(Task.parse(dataset_id), request)
    if path is None:
        raise DataError(f"data set {dataset_id} is not on this machine: pass --download")
    env = gym.make(dataset_id)
    columns = d4rl.qlearning_dataset(env, dataset=env.get_dataset(h5path=str(path)))
    return Recording("d4rl", path, f"D4RL's recording through d4rl, {path}", columns, "env")


def dataset_file(task: Task) -> str:
    """D4RL's file name: `ant-medium-expert-v2` → `ant_medium_expert-v2.hdf5`; v0 has no version and says `mixed`."""
    mix = task.mix.replace("-", "_")
    if task.version != "v0":
        return f"{task.robot}_{mix}-{task.version}.hdf5"
    robot = "walker" if (task.robot, task.mix) == ("walker2d", "medium-replay") else task.robot
    return f"{robot}_{'mixed' if task.mix == 'medium-replay' else mix}.hdf5"


def d4rl_files(dataset_id: str) -> list[Path]:
    """Where D4RL's own file of an id may be on this machine; none for other ids."""
    task = Task.parse(dataset_id)
    return _places(task) if task.is_d4rl else []


def _find(task: Task, request: Request) -> Path | None:
    """The task's file on this machine, downloaded on request."""
    path = next((path for path in _places(task) if os.path.isfile(path)), None)  # False too where one may not look
    return _download(task, request.progress) if path is None and request.download else path


def _places(task: Task) -> list[Path]:
    folders = [os.environ.get("D4RL_DATASET_DIR"), os.path.expanduser("~/.d4rl/datasets")]
    # Without a home folder `~` is not expanded.
    return [Path(folder).expanduser() / dataset_file(task) for folder in folders if folder and folder[:2] != "~/"]


def _download(task: Task, progress: bool) -> Path:
    if not _places(task):
        raise HomeError
    target = _places(task)[0]
    remedy = "set D4RL_DATASET_DIR to a folder you can write"
    make_folder(target.parent, remedy)
    with alone(target, remedy):
        if os.path.isfile(target):  # another process fetched it while this one waited
            return target
        base = os.environ.get("AWAC_D4RL_URL", _BASE_URL).rstrip("/")
        url = DATASET_URL.format(base=base, folder=_FOLDERS[task.version], file=dataset_file(task))
        fetch(url, target, HDF5_MAGIC, progress)
    return target
