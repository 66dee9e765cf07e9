"""Data sets that the shipped policies record: which there are, shares, sizes and bytes; how a ladder is picked."""

import importlib.util
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from awac.data.behaviour import shipped_names, shipped_policy
from awac.data.sources import load_dataset
from awac.data.sources.generated import GENERATED, full_rows, generate
from awac.envs.mujoco_v2 import ROBOTS
from awac.errors import DataError

ROOT = Path(__file__).parents[1]
WHOLE = [robot for robot in ROBOTS if f"{robot}-full-replay-v2" in GENERATED]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AWAC_CACHE_DIR", str(tmp_path / "cache"))


def test_policies_stay_small():
    files = list((ROOT / "ckpt" / "behaviour").glob("*.npz"))
    assert sum(file.stat().st_size for file in files) <= 8 * 2**20
    assert {f"{robot}_{name}" for robot in WHOLE for name in ("1", "8", "medium", "expert")} <= set(shipped_names())


@pytest.mark.parametrize("robot", ROBOTS)
def test_uniform_actions_need_no_policy(robot):
    data = load_dataset(generate(f"{robot}-random-v2", rows=50, progress=False))
    assert len(data) == 50 and np.abs(data.actions).max() <= 1.0


@pytest.mark.parametrize("robot", WHOLE)
def test_a_replay_has_an_equal_share_of_each_snapshot(robot):
    path = generate(f"{robot}-medium-replay-v2", rows=100, progress=False)
    data = load_dataset(path)
    assert len(data) == 100
    assert (data.terminated | data.truncated)[19::20].all(), "every share ends an episode"
    with h5py.File(path) as file:
        assert {f"policy_{robot}_{name}" for name in ("1", "2", "3", "4", "medium")} <= set(file["metadata"])
        assert b"not D4RL" in file["metadata/description"][()]
    first = path.read_bytes()
    path.unlink()
    again = generate(f"{robot}-medium-replay-v2", rows=100, progress=False, workers=2)
    assert again == path and path.read_bytes() == first
    assert generate(f"{robot}-medium-replay-v2", rows=100, seed=1, progress=False).read_bytes() != first


@pytest.mark.parametrize("robot", WHOLE)
def test_a_full_replay_is_all_ten_in_turn(robot):
    assert GENERATED[f"{robot}-full-replay-v2"] == tuple(
        f"{robot}_{name}" for name in ("1", "2", "3", "4", "medium", "5", "6", "7", "8", "expert")
    )


@pytest.mark.parametrize("robot", WHOLE)
def test_better_policies_get_more(robot):
    """Rewards over 150 rows: enough to tell the worst from the best."""
    returns = {}
    for name in ("1", "expert"):
        policy = shipped_policy(f"{robot}_{name}")
        env, rng = ROBOTS[robot](), np.random.default_rng(0)
        observation, total = env.reset(seed=0)[0], 0.0
        for _ in range(150):
            observation, reward, terminated, *_ = env.step(policy(observation, rng))
            total += reward
            if terminated:
                break
        returns[name] = total
    assert returns["expert"] > returns["1"] + 50


@pytest.mark.parametrize(
    ("dataset_id", "rows"),
    [
        ("hopper-medium-v2", 1_000_000),
        ("walker2d-medium-expert-v2", 2_000_000),
        ("hopper-medium-replay-v2", 402_000),
        ("halfcheetah-medium-replay-v2", 202_000),
    ],
)
def test_full_size_is_d4rls(dataset_id, rows):
    assert full_rows(dataset_id) == rows


def test_full_size_of_another_task_is_an_error():
    with pytest.raises(DataError, match="is not a D4RL id"):
        full_rows("CartPole-v1")


@pytest.fixture
def ladder():
    spec = importlib.util.spec_from_file_location("behaviour_ladder", ROOT / "scripts" / "behaviour_ladder.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["behaviour_ladder"] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["behaviour_ladder"]


def test_selecting_a_ladder(ladder, tmp_path, monkeypatch):
    """Twenty snapshots that score 0, 5, …, 95: the choice is even, medium and expert by their rule."""
    work, out = tmp_path / "work", tmp_path / "out"
    (work / "snapshots").mkdir(parents=True)
    low, high = ladder.ROBOTS["hopper"].score_range
    rows = []
    for i in range(20):
        layers = {f"layers.{n}.{part}": np.full((2, 2), i) for n in range(3) for part in ("weight", "bias")}
        ladder.save_snapshot(ladder.snapshot_path(work, i * 100), layers)
        values = (i * 100, 0, low + 0.05 * i * (high - low), 1.0, 0.0, 5.0 * i)
        rows.append(dict(zip(ladder.FIELDS, values, strict=True)))
    ladder.write_curve(work / "curve.csv", rows)
    assert ladder.read_curve(work / "curve.csv") == rows

    def scored(robot, layers, episodes, seed):
        i = float(layers["layers.0.bias"][0, 0])
        return ladder.Score(low + 0.05 * i * (high - low), 2000.0 if i == 19 else 1.0, 0.0)  # the last one is unsteady

    monkeypatch.setattr(ladder, "evaluate", scored)
    table = {file: steps / 20 for file, steps in ladder.select("hopper", work, out)}
    assert sorted(path.name for path in out.iterdir()) == sorted(table)
    assert table["hopper_expert.npz"] == 90 and table["hopper_medium.npz"] == 45
    numbered = [table[f"hopper_{n}.npz"] for n in range(1, 9)]
    assert numbered == sorted(numbered) and numbered[0] == 0 and numbered[3] < 45 < numbered[4]
    assert len(set(table.values())) == 10


def test_too_few_snapshots_are_no_ladder(ladder, tmp_path):
    with pytest.raises(SystemExit, match="only 0 snapshots"):
        ladder.select("hopper", tmp_path, tmp_path / "out")
