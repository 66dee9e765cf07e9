"""A trained policy without MindSpore: the same actions, in the environment's units."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import saved
from tiny import settings

from awac import cli, load_policy, make_env
from awac.envs.stand_in import stand_in
from awac.errors import CheckpointError, ConfigError, DataError, TaskError
from awac.runs import checkpoint, deployed

SHIPPED = Path(__file__).parents[1] / "ckpt" / "ant-expert-v2"


def test_it_needs_no_mindspore():
    code = (
        "import sys, numpy as np; from awac import load_policy; p = load_policy(sys.argv[1]); "
        "assert p(np.zeros(111)).shape == (8,); assert p.task == 'ant-expert-v2'; "
        "assert not {'mindspore', 'mindspore_rl', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(SHIPPED)], check=True)


def test_the_file_holds_what_mindspore_reads_in_it():
    import mindspore as ms

    from awac.runs import ckpt_file

    for path in SHIPPED.rglob("*.ckpt"):
        ours = ckpt_file.read(path)
        theirs = {name: value.asnumpy() for name, value in ms.load_checkpoint(str(path)).items()}
        assert set(ours) == set(theirs)
        for name, value in theirs.items():
            assert ours[name].dtype == value.dtype and np.array_equal(ours[name], value), name


def test_a_damaged_file_is_one_line(tmp_path):
    shutil.copytree(SHIPPED, tmp_path / "run")
    path = next((tmp_path / "run" / "policy").glob("*.ckpt"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="is damaged"):
        load_policy(tmp_path / "run")
    with pytest.raises(CheckpointError, match="no checkpoint in it"):
        load_policy(tmp_path)


def damage(path):
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize("damaged", ["policy/policy_7.ckpt", "manifest_7.json"])
def test_a_damaged_checkpoint_is_skipped_for_an_older_one(tmp_path, damaged, capfd):
    run = saved.save(tmp_path / "run", "own", episode=3)
    saved.save(run, "own", episode=7, seed=1)
    damage(run / damaged)
    with pytest.warns(UserWarning, match=r"^Skip checkpoint 7: .* is damaged") as caught:
        assert load_policy(run).episode == 3
    assert len(caught) == 1
    assert cli.main(["export", "--ckpt_path", str(run), "--format", "npz"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("Warning: Skip checkpoint 7: ") and "policy_3.npz" in lines[1] and len(lines) == 3
    with pytest.raises(CheckpointError, match="is damaged"):
        load_policy(run, 7)
    damage(run / "policy" / "policy_3.ckpt")
    with pytest.raises(CheckpointError, match="7(.ckpt)? is damaged"):
        load_policy(run)


def test_any_bytes_are_arrays_or_an_error(tmp_path):
    from awac.runs import ckpt_file

    whole, rng = next(SHIPPED.rglob("model_1*.ckpt")).read_bytes()[:4000], np.random.default_rng(0)
    for _ in range(200):
        content = bytearray(whole[: rng.integers(len(whole))])
        for place in rng.integers(len(content) + 1, size=3):
            content[place : place + 1] = bytes([rng.integers(256)])
        (tmp_path / "x.ckpt").write_bytes(content)
        try:
            ckpt_file.read(tmp_path / "x.ckpt")
        except CheckpointError as error:
            assert "\n" not in str(error)


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory, graph_mode):
    """A tiny run on Pendulum, whose torque is in [-2, 2]."""
    folder, rng = tmp_path_factory.mktemp("pendulum"), np.random.default_rng(0)
    ends = np.arange(400) % 200 == 199
    np.savez(
        folder / "d.npz",
        observations=rng.normal(size=(400, 3)),
        actions=rng.uniform(-2, 2, (400, 1)),
        rewards=rng.normal(size=400),
        terminals=np.zeros(400, bool),
        timeouts=ends,
        next_observations=rng.normal(size=(400, 3)),
    )
    command = ["train", "--task", "Pendulum-v1", "--dataset", str(folder / "d.npz"), "--ckpt_path", str(folder / "run")]
    assert cli.main([*command, "--episode", "2", *settings()]) == 0
    return folder / "run"


def test_unknown_bounds_are_said(pendulum, tmp_path, recwarn):
    load_policy(SHIPPED)  # a robot of D4RL's: its unit is [-1, 1]
    load_policy(pendulum)
    assert not recwarn
    shutil.copytree(pendulum, tmp_path / "run")
    for path in (tmp_path / "run").glob("manifest_*.json"):
        path.write_text(path.read_text().replace('"action_bounds"', '"other"'))
    with pytest.warns(UserWarning, match="does not say the action bounds of Pendulum-v1"):
        policy = load_policy(tmp_path / "run")
    assert policy.space.high == policy.make_env().action_space.high == 1.0


def test_actions_are_in_the_environments_units(pendulum):
    """On the plain environment it gets the same return as the run's evaluation."""
    from awac import evaluate

    policy, env, total, done = load_policy(pendulum), gymnasium.make("Pendulum-v1"), 0.0, False
    seed = int(np.random.SeedSequence([0, 7]).generate_state(1)[0])
    observation, _ = env.reset(seed=seed)
    largest = 0.0
    while not done:
        action = policy(observation)
        largest = max(largest, abs(float(action[0])))
        observation, reward, terminated, truncated, _ = env.step(action)
        total, done = total + reward, terminated or truncated
    assert total == pytest.approx(evaluate(str(pendulum)).mean, rel=1e-4)
    samples = policy(np.repeat(observation[None], 500, axis=0), np.random.default_rng(0))
    assert samples.shape == (500, 1) and np.abs(samples).max() <= 2.0


def test_the_first_index_of_discrete_actions_is_noted(graph_mode):
    from awac.config import load_config
    from awac.data.sources import resolve_dataset
    from awac.training.resume import about

    data, origin = resolve_dataset("CartPole-v1")
    five, zero = (stand_in(4, gymnasium.spaces.Discrete(2, start=start)) for start in (5, 0))
    assert about(load_config(), {}, data, origin, five)["action_start"] == 5
    assert "action_start" not in about(load_config(), {}, data, origin, zero)


@pytest.mark.parametrize("kind", ["std", "plain", "discrete"])
def test_an_observation_of_another_kind_is_one_line(kind, tmp_path):
    policy = load_policy(saved.save(tmp_path, kind))
    flat = np.ones(6)
    np.testing.assert_array_equal(policy(flat), policy(flat.tolist()))
    np.testing.assert_array_equal(policy(np.stack([flat, flat]))[1], policy(flat))
    wrong = [np.ones((2, 4, 6)), np.ones((2, 5)), np.ones(7), 1.0, None, [], {"a": flat}, ({"a": 1},), [flat, [1.0]]]
    for observation in wrong:
        with pytest.raises(DataError, match="observation") as caught:
            policy(observation)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"not a dict; make_env"):
        policy({"a": flat})
    with pytest.raises(DataError, match=r"shape \(2, 4, 6\), expected \(6,\) or \(B, 6\)"):
        policy(np.ones((2, 4, 6)))
    rows = np.random.default_rng(0).normal(size=(2, 4, 6))
    np.testing.assert_allclose(policy.network(rows)[1], policy.network(rows[1]), rtol=1e-6)


def test_nan_is_refused_and_infinity_is_clipped(tmp_path):
    policy, flat = load_policy(saved.save(tmp_path, "own")), np.ones(6)
    assert np.isfinite(policy(np.where(np.arange(6) == 1, np.inf, flat))).all()
    holed = np.where(np.arange(6) == 4, np.nan, flat)
    with pytest.raises(DataError, match="^value 4 of the observation is nan$"):
        policy(holed)
    with pytest.raises(DataError, match="^value 4 of the observation in row 1 is nan$"):
        policy(np.stack([flat, holed]))


@pytest.mark.parametrize("rng", [0, 1, False, np.random.RandomState(0)])
def test_only_a_generator_draws(tmp_path, rng):
    policy = load_policy(saved.save(tmp_path, "own"))
    with pytest.raises(ConfigError, match=r"is no generator such as np.random.default_rng\(0\)"):
        policy(np.ones(6), rng)


def test_a_file_or_another_number_is_said(tmp_path):
    run = saved.save(tmp_path / "run", "own", episode=3)
    saved.save(run, "own", episode=7)
    for read in (load_policy, checkpoint.newest):
        with pytest.raises(CheckpointError, match=r"run: no checkpoint 15 in it; it has 7, 3$"):
            read(run, 15)
    (tmp_path / "p.npz").touch()
    with pytest.raises(CheckpointError, match="p.npz is a file; load_policy takes the folder"):
        load_policy(tmp_path / "p.npz")


def test_bounds_are_rounded_into_the_environment_s():
    def space(low, high):
        manifest = {"spaces": {"action_size": len(low), "discrete": False}, "action_bounds": [low, high]}
        return deployed._action_space(manifest, None)

    for side in (1.0, 2.0, 0.5, float(np.float32(0.4))):  # exact in float32
        assert space([-side], [side]).high == side and space([-side], [side]).low == -side
    low, high = [-0.4, 0.1, 0.3, -1 / 3], [0.4, 0.2, 0.3, 0.7]
    ours, theirs = space(low, high), gymnasium.spaces.Box(np.array(low), np.array(high), dtype=np.float64)
    movable = np.array([True, True, False, True])  # the third one is locked
    for side in (ours.low, ours.high):
        assert ((side >= theirs.low) & (side <= theirs.high))[movable].all()
        np.testing.assert_allclose(side[2], 0.3, rtol=1e-7)
    np.testing.assert_allclose(ours.low, low, rtol=1e-7)
    np.testing.assert_allclose(ours.high, high, rtol=1e-7)


def test_the_environment_that_it_makes_takes_its_actions(pendulum, tmp_path):
    """On any of the three environments, it gets the same return."""
    totals, policy = [], load_policy(pendulum)
    scaled = lambda observation: policy.network(observation[None])[0]  # noqa: E731
    for env, act in (
        (policy.make_env(), policy),
        (gymnasium.make("Pendulum-v1"), policy),
        (make_env("Pendulum-v1"), scaled),
    ):
        observation, _ = env.reset(seed=3)
        total, done = 0.0, False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(act(observation))
            total, done = total + reward, terminated or truncated
        totals.append(total)
    np.testing.assert_allclose(totals, totals[0], rtol=1e-5)
    shutil.copytree(pendulum, tmp_path / "run")
    for path in (tmp_path / "run").glob("manifest_*.json"):
        manifest = json.loads(path.read_text())
        manifest["config"]["env"] |= {"env_kwargs": {"g": 3.0}, "max_episode_steps": 7}
        path.write_text(json.dumps(manifest))
    env = load_policy(tmp_path / "run").make_env()
    assert env.unwrapped.g == 3.0 and env.spec.max_episode_steps == 7
    assert env.action_space.high == 2.0


def test_without_an_environment_there_is_none_to_make(tmp_path):
    made = load_policy(saved.save(tmp_path, "unit"))
    made.manifest["config"]["env"]["no_env"] = True
    policy = deployed.DeployedPolicy(made.network, made.space, made.manifest)
    with pytest.raises(TaskError, match="no_env"):
        policy.make_env()
