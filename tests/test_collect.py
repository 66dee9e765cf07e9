"""Collected data: D4RL's layout, the same bytes from the same seed, weights that make the recorded actions."""

import contextlib
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pytest
import saved
from gymnasium import spaces

import awac
from awac import cli
from awac.data.behaviour import BehaviourPolicy, shipped_names, shipped_policy
from awac.data.collect import collect, record
from awac.data.hdf5_writer import provenance, write_hdf5
from awac.data.sources import load_dataset
from awac.data.sources.generated import generate
from awac.envs import make_env
from awac.errors import DataError, TaskError
from awac.runs.behaviour import trained_policy

SHIPPED = Path(__file__).parents[1] / "ckpt" / "ant-expert-v2"
ANT = "ant-expert-v2"


@pytest.fixture(scope="module")
def steady():
    return shipped_policy("ant_5")


@pytest.fixture(scope="module")
def recorded(steady, tmp_path_factory):
    """1,100 rows of a steady policy: a whole episode and a cut one (or more, shorter ones)."""
    columns = collect(ANT, steady, rows=1100, seed=4)
    path = tmp_path_factory.mktemp("collect") / "ant.hdf5"
    write_hdf5(path, columns, provenance(ANT, [steady], 4))
    return columns, path


def test_the_file_has_d4rls_keys_types_and_shapes(recorded):
    _, path = recorded
    expected = {
        "observations": ((1100, 111), "float32"),
        "actions": ((1100, 8), "float32"),
        "rewards": ((1100,), "float32"),
        "next_observations": ((1100, 111), "float32"),
        "terminals": ((1100,), "bool"),
        "timeouts": ((1100,), "bool"),
        "infos/qpos": ((1100, 15), "float32"),
        "infos/qvel": ((1100, 14), "float32"),
        "infos/action_log_probs": ((1100,), "float32"),
    }
    with h5py.File(path) as file:
        assert {key: (file[key].shape, str(file[key].dtype)) for key in expected} == expected
        assert file["metadata/policy/fc0/weight"].shape == (256, 27)
        assert file["metadata/policy/last_fc/bias"].shape == file["metadata/policy/last_fc_log_std/bias"].shape == (8,)
        assert file["metadata/env_id"][()] == b"ant-expert-v2"
        assert file["metadata/seed"][()] == 4
        assert b"not D4RL" in file["metadata/description"][()]


def test_the_loader_reads_it_back(recorded):
    columns, path = recorded
    data = load_dataset(path)
    np.testing.assert_array_equal(data.observations, columns["observations"])
    np.testing.assert_array_equal(data.terminated, columns["terminals"])
    np.testing.assert_array_equal(data.truncated, columns["timeouts"])
    assert data.terminated[-1] or data.truncated[-1]
    assert data.episode_returns().max() > 500


def test_infos_hold_the_state_before_the_step(recorded):
    columns, _ = recorded
    np.testing.assert_array_equal(columns["infos/qpos"][:, 2:], columns["observations"][:, :13])
    np.testing.assert_array_equal(columns["infos/qvel"], columns["observations"][:, 13:27])


def test_successors_chain_within_an_episode(recorded):
    columns, _ = recorded
    inside = np.flatnonzero(~(columns["terminals"] | columns["timeouts"]))
    np.testing.assert_array_equal(columns["next_observations"][inside], columns["observations"][inside + 1])


def test_the_stored_weights_and_log_probs_belong_to_the_stored_actions(recorded):
    columns, path = recorded
    hidden = columns["observations"][:200, :27].astype(np.float64)
    with h5py.File(path) as file:
        policy = file["metadata/policy"]
        for layer in ("fc0", "fc1"):
            hidden = np.maximum(hidden @ policy[layer]["weight"][()].T + policy[layer]["bias"][()], 0)
        mean, log_std = (
            hidden @ policy[name]["weight"][()].T + policy[name]["bias"][()] for name in ("last_fc", "last_fc_log_std")
        )
    log_std = np.clip(log_std, -5, 2)
    actions = columns["actions"][:200].astype(np.float64)
    clear = (np.abs(actions) < 0.999).all(axis=1)  # nearer to 1, float32 has lost the noise
    noise = (np.arctanh(actions[clear]) - mean[clear]) / np.exp(log_std[clear])
    density = -0.5 * noise**2 - log_std[clear] - 0.5 * np.log(2 * np.pi) - np.log(1 - actions[clear] ** 2)
    np.testing.assert_allclose(density.sum(axis=1), columns["infos/action_log_probs"][:200][clear], atol=0.05)
    assert clear.sum() > 20
    assert 0.7 < noise.std() < 1.2


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_seed_makes_the_same_bytes_for_any_number_of_workers(steady, recorded, tmp_path, workers):
    columns = collect(ANT, steady, rows=1100, seed=4, workers=workers)
    write_hdf5(tmp_path / "again.hdf5", columns, provenance(ANT, [steady], 4))
    assert (tmp_path / "again.hdf5").read_bytes() == recorded[1].read_bytes()


def test_a_script_without_a_main_guard_can_use_workers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib\n"
        "from awac.data.behaviour import shipped_policy\n"
        "from awac.data.collect import collect\n"
        "pathlib.Path('runs').open('a').write('x')\n"
        "print(len(collect('ant-medium-v2', shipped_policy('ant_medium'), rows=40, workers=2)['rewards']))\n"
    )
    source = Path(awac.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "40", done.stderr
    assert (tmp_path / "runs").read_text() == "x"


@pytest.mark.parametrize("other", [{"seed": 5}, {"part": 1}])
def test_another_seed_or_part_makes_other_rows(steady, recorded, other):
    columns = collect(ANT, steady, rows=50, **{"seed": 4, **other})
    assert (columns["observations"][0] != recorded[0]["observations"][0]).any()


def test_every_episode_has_its_own_start_and_noise():
    env = make_env(ANT)
    columns = collect(ANT, BehaviourPolicy.random(env.action_space), episodes=3)
    ends = np.flatnonzero(columns["terminals"] | columns["timeouts"])
    assert len(ends) == 3 and ends[-1] == len(columns["rewards"]) - 1
    starts = np.concatenate([[0], ends[:-1] + 1])
    for key in ("observations", "actions"):
        assert len(np.unique(columns[key][starts], axis=0)) == 3


def test_the_last_episode_is_cut_as_a_timeout(steady):
    columns = collect(ANT, steady, rows=30)
    assert not columns["terminals"].any()
    np.testing.assert_array_equal(np.flatnonzero(columns["timeouts"]), [29])


def test_mean_actions_do_not_depend_on_the_noise(steady):
    observation = make_env(ANT).reset(seed=0)[0]
    actions = [steady(observation, np.random.default_rng(seed), deterministic=True) for seed in (0, 1)]
    np.testing.assert_array_equal(*actions)
    assert actions[0].dtype == np.float32
    assert (steady(observation, np.random.default_rng(0)) != actions[0]).any()


def test_discrete_tasks_are_recorded_with_integer_actions(tmp_path):
    policy = BehaviourPolicy.random(spaces.Discrete(2))
    columns = collect("CartPole-v1", policy, rows=60)
    assert columns["actions"].dtype == np.int32 and "infos/qpos" not in columns
    np.testing.assert_allclose(columns["infos/action_log_probs"], -np.log(2))
    write_hdf5(tmp_path / "cartpole.hdf5", columns, provenance("CartPole-v1", [policy], 0))
    data = load_dataset(tmp_path / "cartpole.hdf5")
    assert data.discrete and len(data) == 60


@pytest.mark.parametrize("amount", [{}, {"rows": 0}, {"rows": 5, "episodes": 1}, {"episodes": -1}])
def test_the_amount_must_be_one_positive_number(steady, amount):
    with pytest.raises(DataError, match="positive number"):
        collect(ANT, steady, **amount)


@pytest.mark.parametrize("task", ["hopper-medium-v2", "CartPole-v1"])
def test_a_policy_for_another_robot_is_refused(steady, task):
    with pytest.raises(DataError, match="ant_5"):
        collect(task, steady, rows=5)


@pytest.mark.parametrize(
    ("inputs", "outputs", "epsilon", "task", "words"),
    [
        (3, 2, None, "CartPole-v1", "net gives continuous actions but the task's are discrete"),
        (4, 2, 0.1, "Pendulum-v1", "net gives discrete actions but the task's are continuous"),
        (4, 3, 0.1, "CartPole-v1", "made for 4 observation values and 3 actions; the task has 4 and 2"),
        (5, 2, 0.1, "CartPole-v1", "made for 5 observation values and 2 actions; the task has 4 and 2"),
        (3, 4, None, "Pendulum-v1", "made for 3 observation values and 2 actions; the task has 3 and 1"),
    ],
)
def test_a_policy_that_does_not_fit_the_task_says_why(inputs, outputs, epsilon, task, words):
    policy = BehaviourPolicy("net", ((np.zeros((inputs, outputs)), np.zeros(outputs)),), epsilon=epsilon)
    env = make_env(task)
    with pytest.raises(DataError, match=words):
        policy.check_env(env)


@pytest.mark.parametrize("epsilon", [-0.1, 1.1, np.nan])
def test_a_share_of_uniform_actions_out_of_range_is_refused(tmp_path, epsilon):
    layers = {"layers.0.weight": np.zeros((4, 2)), "layers.0.bias": np.zeros(2)}
    np.savez(tmp_path / "policy.npz", epsilon=epsilon, **layers)
    with pytest.raises(DataError, match=r"policy\.npz: epsilon is .*must lie in \[0, 1\]"):
        BehaviourPolicy.load(tmp_path / "policy.npz")


def test_an_unknown_task_is_refused(steady):
    with pytest.raises(TaskError, match="unknown task"):
        collect("ant-expert-v7", steady, rows=5)


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"layers.0.weight": np.zeros((3, 4))},
        {"layers.0.weight": np.zeros((3, 3)), "layers.0.bias": np.zeros(3)},
        {"layers.0.weight": np.zeros((3, 4)), "layers.0.bias": np.zeros(5)},
        {"layers.0.weight": np.full((3, 4), np.nan), "layers.0.bias": np.zeros(4)},
        {"layers.0.weight": np.array([{}], object), "layers.0.bias": np.zeros(4)},
    ],
)
def test_a_file_that_is_no_policy_is_refused(tmp_path, arrays):
    np.savez(tmp_path / "policy.npz", **arrays)
    with pytest.raises(DataError, match=r"policy\.npz"):
        BehaviourPolicy.load(tmp_path / "policy.npz")


def test_other_content_than_an_archive_is_no_policy(tmp_path):
    (tmp_path / "policy.npz").write_bytes(b"not an archive")
    with pytest.raises(DataError, match="is not a behaviour policy"):
        BehaviourPolicy.load(tmp_path / "policy.npz")


def test_a_damaged_policy_is_no_policy(tmp_path):
    path = tmp_path / "policy.npz"
    np.savez(path, **{"layers.0.weight": np.full((3, 4), "a"), "layers.0.bias": np.zeros(4)})
    with pytest.raises(DataError, match="is not a behaviour policy"):
        BehaviourPolicy.load(path)
    layers = {"layers.0.weight": np.random.default_rng(0).normal(size=(30, 40)), "layers.0.bias": np.zeros(40)}
    np.savez_compressed(path, **layers)
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(DataError, match="is not a behaviour policy"):
        BehaviourPolicy.load(path)


def test_a_failed_write_leaves_nothing(recorded, tmp_path):
    columns, _ = recorded
    target = tmp_path / "taken"
    target.mkdir()
    with pytest.raises(DataError, match="cannot be written"):
        write_hdf5(target, columns, {})
    assert list(tmp_path.iterdir()) == [target]


def test_a_mix_has_an_equal_share_of_each_policy(tmp_path, monkeypatch):
    monkeypatch.setenv("AWAC_CACHE_DIR", str(tmp_path))
    path = generate("ant-medium-expert-v2", rows=400, progress=False)
    data = load_dataset(path)
    assert len(data) == 400 and data.truncated[199]
    halves = [
        collect(ANT, shipped_policy(f"ant_{name}"), rows=200, part=part)
        for part, name in enumerate(["medium", "expert"])
    ]
    np.testing.assert_array_equal(data.actions, np.concatenate([half["actions"] for half in halves]))
    with h5py.File(path) as file:
        assert {"policy_ant_medium", "policy_ant_expert"} <= set(file["metadata"])


@pytest.mark.parametrize("policy", ["random", "medium", "expert"])
def test_record_writes_a_data_set_and_says_what_is_in_it(tmp_path, policy):
    line = record(ANT, policy, tmp_path / "new" / "ant.hdf5", rows=80, progress=False)
    data = load_dataset(tmp_path / "new" / "ant.hdf5")
    returns = data.episode_returns()
    assert line.endswith(
        f"ant.hdf5: 80 rows of ant-expert-v2, {len(returns)} episodes, "
        f"mean return {returns.mean():.1f} ± {returns.std():.1f}, "
        f"terminated early {data.terminated.sum() / len(returns):.0%}"
    )


def test_record_takes_a_shipped_policy_by_its_files_name(tmp_path):
    record("CartPole-v1", "cartpole_dqn", tmp_path / "cartpole.hdf5", rows=300, progress=False)
    data, policy = load_dataset(tmp_path / "cartpole.hdf5"), shipped_policy("cartpole_dqn")
    rng = np.random.default_rng(0)
    best = [policy(observation, rng, deterministic=True) for observation in data.observations]
    assert 0.7 < (data.actions.reshape(-1) == best).mean() < 0.9  # half of the 40 % random actions are the best one
    with h5py.File(tmp_path / "cartpole.hdf5") as file:
        assert file["metadata/policy/epsilon"][()] == pytest.approx(0.4)


@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_policy_can_be_named(tmp_path, name):
    task = "CartPole-v1" if name == "cartpole_dqn" else f"{name.split('_')[0]}-medium-v2"
    assert "20 rows" in record(task, name, tmp_path / "out.hdf5", rows=20, progress=False)


def test_record_takes_a_policy_file(tmp_path):
    layers = {"layers.0.weight": np.zeros((3, 2), np.float32), "layers.0.bias": np.float32([0.5, -9.0])}
    np.savez(tmp_path / "política.npz", **layers)
    record("Pendulum-v1", str(tmp_path / "política.npz"), tmp_path / "out.hdf5", rows=40, deterministic=True)
    with h5py.File(tmp_path / "out.hdf5") as file:
        assert file["metadata/policy_file"][()].decode() == "política"
    np.testing.assert_allclose(load_dataset(tmp_path / "out.hdf5").actions, 2 * np.tanh(0.5), rtol=1e-6)
    np.testing.assert_allclose(load_dataset(tmp_path / "out.hdf5", "Pendulum-v1").actions, np.tanh(0.5), rtol=1e-6)


@pytest.mark.parametrize(
    ("task", "policy", "out", "words"),
    [
        ("Ant-v5", "medium", "new.hdf5", "no medium policy ships"),
        (
            "CartPole-v1",
            "expert",
            "new.hdf5",
            "CartPole-v1; give --policy random, cartpole_dqn, a run",
        ),
        ("Pendulum-v1", "expert", "new.hdf5", "ships for Pendulum-v1; give --policy random, a run's folder or an .npz"),
        (ANT, "cartpole_dqn", "new.hdf5", "gives discrete actions but the task's are continuous"),
        (ANT, "none.npz", "new.hdf5", "no such behaviour policy"),
        (ANT, "random", "there", "exists already"),
        (ANT, "random", "there/new.hdf5", "cannot be made"),
    ],
)
def test_record_refuses_before_it_starts(tmp_path, task, policy, out, words):
    (tmp_path / "there").write_text("")
    with pytest.raises(DataError, match=words):
        record(task, policy, tmp_path / out, rows=5)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_run_s_policy_records_as_in_training_and_an_exported_file_says_so(tmp_path, capsys):
    run, arguments = str(SHIPPED), ["collect", "--task", ANT, "--rows", "300"]
    for name, more in (("drawn", []), ("again", ["--workers", "2"]), ("mode", ["--deterministic"])):
        out = str(tmp_path / f"{name}.hdf5")
        assert cli.main([*arguments, "--policy", run, "--out", out, *more]) == 0
    drawn, again, mode = ((tmp_path / f"{name}.hdf5") for name in ("drawn", "again", "mode"))
    assert drawn.read_bytes() == again.read_bytes()
    drawn, mode = load_dataset(drawn, ANT), load_dataset(mode, ANT)
    np.testing.assert_allclose(mode.actions, awac.load_policy(run)(mode.observations), atol=1e-5)
    noise = drawn.actions - awac.load_policy(run)(drawn.observations)
    assert 0.05 < noise.std() < 1.0
    assert cli.main(["collect", "--task", "CartPole-v1", "--policy", run, "--out", str(tmp_path / "c.hdf5")]) == 1
    assert "111 observation values and 8 continuous actions; the task has 4" in capsys.readouterr().err
    np.savez(tmp_path / "exported.npz", weight_0=np.zeros((3, 2)))
    with pytest.raises(DataError, match="is of `awac export`, which draws no actions; give the run's folder"):
        record(ANT, str(tmp_path / "exported.npz"), tmp_path / "c.hdf5")


@pytest.mark.parametrize("low, high, fits", [(-1, 1, True), (-0.5, 0.5, False)])
def test_a_run_of_other_action_units_does_not_record(low, high, fits):
    policy = dataclasses.replace(trained_policy(SHIPPED), space=gymnasium.spaces.Box(low, high, (8,)))
    with contextlib.nullcontext() if fits else pytest.raises(DataError, match="was trained on actions from .-0.5"):
        policy.check_env(make_env(ANT))


def test_discrete_actions_of_a_run_are_drawn_by_their_probabilities(tmp_path):
    policy, rng = trained_policy(saved.save(tmp_path, "discrete", gain=0.3)), np.random.default_rng(0)
    observation = np.zeros(6)
    drawn = [policy.sample(observation, rng) for _ in range(2000)]
    for action, log_prob in set(drawn):
        share = np.mean([other == action for other, _ in drawn])
        assert share == pytest.approx(np.exp(log_prob), abs=0.04)
    assert policy.sample(observation, rng, deterministic=True)[0] == max(drawn, key=lambda pair: pair[1])[0]


def test_a_random_policy_has_no_mean(tmp_path):
    with pytest.raises(DataError, match="a random policy has no mean actions"):
        record(ANT, "random", tmp_path / "new.hdf5", rows=5, deterministic=True)


def test_the_number_of_processes_can_be_given(tmp_path, monkeypatch):
    given, real = [], collect
    monkeypatch.setattr(
        "awac.data.collect.collect", lambda *args, **how: given.append(how["workers"]) or real(*args, **how)
    )
    out = str(tmp_path / "new.hdf5")
    arguments = ["--task", ANT, "--policy", "ant_medium.npz", "--rows", "5", "--workers", "3", "--out", out]
    assert cli.main(["collect", *arguments]) == 0 and given == [3]


def test_what_cannot_be_written_is_known_before_the_recording(monkeypatch):
    monkeypatch.setattr("awac.data.collect.collect", lambda *args, **kwargs: pytest.fail("recorded in vain"))
    with pytest.raises(DataError, match=r"/proc/new\.hdf5: cannot be written"):
        record(ANT, "random", "/proc/new.hdf5", rows=5)


@pytest.mark.parametrize("out", ["rows.npz", "rows.csv", "rows.tsv", "rows.parquet", "minari:x/y-v0"])
def test_a_name_that_is_read_as_another_format_is_refused(tmp_path, monkeypatch, capsys, out):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["collect", "--task", ANT, "--policy", "random", "--rows", "5", "--out", out]) == 1
    assert "name it .hdf5" in capsys.readouterr().err and not list(tmp_path.iterdir())
