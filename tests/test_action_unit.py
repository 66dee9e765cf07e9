"""Actions in the environment's units are scaled to [-1, 1] by its bounds; file, user and log say which unit it is."""

import h5py
import numpy as np
import pytest
from gymnasium import spaces

from awac.data.action_unit import policy_actions
from awac.data.collect import record
from awac.data.sources import load_dataset, resolve_dataset
from awac.envs import make_env
from awac.errors import DataError


def box(low, high, size=2):
    return spaces.Box(np.full(size, low, np.float32), np.full(size, high, np.float32))


def rows(*values, size=2):
    return np.repeat(np.array(values, np.float32)[:, None], size, axis=1)


@pytest.mark.parametrize(
    ("low", "high", "stored", "scaled"),
    [
        (-2, 2, (-2, 0, 1, 2), (-1, 0, 0.5, 1)),
        (-0.4, 0.4, (0.3, -0.4), (0.75, -1)),
        (0, 1, (0, 0.3, 1), (-1, -0.4, 1)),
        (-1, 1, (0.3, -1), (0.3, -1)),
        (100, 300, (100, 250), (-1, 0.5)),
    ],
)
def test_environment_units_are_the_convention(low, high, stored, scaled):
    actions = policy_actions(rows(*stored), "d", box(low, high))
    np.testing.assert_allclose(actions.values, rows(*scaled), rtol=1e-6)
    text = f"actions in environment units [{low:g}, {high:g}], scaled to [-1, 1]"
    assert actions.notes == (() if (low, high) == (-1, 1) else (text,))


@pytest.mark.parametrize("said_by", ["user", "file"])
def test_scaled_actions_stay_as_they_are(said_by):
    said = {"unit": "scaled"} if said_by == "user" else {"stored": "scaled"}
    actions = policy_actions(rows(0.3, -1), "d", box(-0.4, 0.4), **said)
    np.testing.assert_array_equal(actions.values, rows(0.3, -1))
    assert "scaled to [-1, 1] already" in actions.notes[0]


def test_user_and_file_that_contradict_each_other_are_an_error():
    with pytest.raises(DataError, match="the file says its actions are in unit 'env', not 'scaled'"):
        policy_actions(rows(0.3), "d", box(-2, 2), unit="scaled", stored="env")


def test_a_locked_actuator_gives_zero_and_never_nan():
    space = spaces.Box(np.float32([0.5, -2]), np.float32([0.5, 2]))
    actions = policy_actions(np.float32([[0.5, 1], [0.5, -2]]), "d", space)
    np.testing.assert_array_equal(actions.values, [[0, 0.5], [0, -1]])
    assert actions.warnings == ()
    assert "constant" in policy_actions(np.float32([[0.7, 1]]), "d", space).warnings[-1]


def test_data_of_half_the_range_may_be_scaled_already_and_the_log_asks():
    stored = np.linspace(-1, 1, 21, dtype=np.float32)[:, None]
    assert "--action_unit scaled" in policy_actions(stored, "d", box(-2, 2, 1)).warnings[0]
    assert policy_actions(stored, "d", box(-2, 2, 1), unit="env").warnings == ()
    assert policy_actions(0.5 * stored, "d", box(-2, 2, 1)).warnings == ()
    mixed = spaces.Box(np.float32([-1, -30]), np.float32([1, 30]))
    text = "actions reach only -1 to 1 of [-30, 30]: if they are scaled"
    assert text in policy_actions(np.repeat(stored, 2, axis=1), "d", mixed).warnings[0]
    assert policy_actions(stored * [1, 0.5], "d", mixed).warnings == ()
    assert policy_actions(stored, "d", box(-1, 1, 1)).warnings == ()


@pytest.mark.parametrize(
    ("space", "values", "words"),
    [
        (
            box(-2, 2),
            (0, 3, 2.5),
            r"^d: 2 actions are .* first in row 1: they reach from 0 to 3, the bounds are \[-2, 2\]; clip",
        ),
        (box(-0.4, 0.4), (0.3, -0.9), r"bounds are \[-0.4, 0.4\] \(scaled to \[-1, 1\] already\? Then --action_unit"),
        (box(-1, 1), (0, 0, 1.01, 2), r"first in row 2: they reach from 0 to 2, the bounds are \[-1, 1\]"),
    ],
)
def test_actions_outside_the_bounds_are_named_with_both_ranges(space, values, words):
    with pytest.raises(DataError, match=words):
        policy_actions(rows(*values), "d", space)


@pytest.mark.parametrize("dtype", [np.int64, np.int8, bool, np.uint8])
def test_integers_are_fine_for_a_continuous_task(dtype):
    stored = np.array([0, 1, 1]).astype(dtype)
    np.testing.assert_array_equal(policy_actions(stored, "d", box(-2, 2, 1)).values, [[0], [0.5], [0.5]])


def test_negative_integers_are_fine_for_a_continuous_task():
    np.testing.assert_array_equal(policy_actions(np.array([-2, 2]), "d", box(-2, 2, 1)).values, [[-1], [1]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, bool, np.int64, np.uint8])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_discrete_actions_may_have_any_type(dtype, shape):
    actions = policy_actions(np.array([0, 1, 1]).astype(dtype).reshape(shape), "d", spaces.Discrete(2)).values
    assert actions.dtype == np.int32
    np.testing.assert_array_equal(actions, [0, 1, 1])


@pytest.mark.parametrize("values", [[0, 2], [0, -1], [0.0, 0.5], [0.0, np.nan]])
def test_what_is_no_action_of_a_discrete_task_is_named(values):
    with pytest.raises(DataError, match=r"in row 1 is not one of the task's 0\.\.1"):
        policy_actions(np.array(values), "d", spaces.Discrete(2))


def test_a_discrete_space_that_starts_elsewhere_is_shifted():
    space = spaces.Discrete(3, start=5)
    np.testing.assert_array_equal(policy_actions(np.array([5, 7]), "d", space).values, [0, 2])
    np.testing.assert_array_equal(policy_actions(np.array([0, 2]), "d", space, unit="scaled").values, [0, 2])


def pendulum(path, actions, **more):
    rng, size = np.random.default_rng(0), len(actions)
    rows = {key: rng.normal(size=(size, 3)) for key in ("observations", "next_observations")}
    flags = dict.fromkeys(("rewards", "terminals", "timeouts"), np.zeros(size))
    np.savez(path, actions=actions, **rows, **flags, **more)
    return path


def test_a_file_can_say_its_unit(tmp_path):
    actions = np.linspace(-0.5, 0.5, 11)
    path = pendulum(tmp_path / "d.npz", actions, action_unit="scaled")
    np.testing.assert_allclose(load_dataset(path, "Pendulum-v1").actions[:, 0], actions, rtol=1e-6)
    pendulum(path, actions)
    np.testing.assert_allclose(load_dataset(path, "Pendulum-v1").actions[:, 0], actions / 2, rtol=1e-6)
    np.testing.assert_allclose(load_dataset(path).actions[:, 0], actions, rtol=1e-6)
    pendulum(path, actions, action_unit="radians")
    with pytest.raises(DataError, match="action_unit is 'radians'"):
        load_dataset(path)


@pytest.mark.parametrize("given", [["scaled"], np.array([b"scaled"]), "scaled", np.array([["scaled"]], object)])
@pytest.mark.parametrize("place", ["attribute", "action_unit", "metadata/action_unit"])
def test_a_unit_may_be_an_array_of_one_text(tmp_path, given, place):
    path, actions = tmp_path / "d.hdf5", np.linspace(-0.5, 0.5, 11)
    hdf5_unit(path, actions, given, place)
    np.testing.assert_allclose(load_dataset(path, "Pendulum-v1").actions[:, 0], actions, rtol=1e-6)
    pendulum(tmp_path / "d.npz", actions, action_unit=np.array(["scaled"]))
    np.testing.assert_allclose(load_dataset(tmp_path / "d.npz", "Pendulum-v1").actions[:, 0], actions, rtol=1e-6)


@pytest.mark.parametrize("given", [1, [1.0], ["env", "scaled"], np.zeros((2, 3)), h5py.Empty("f")])
@pytest.mark.parametrize("place", ["attribute", "action_unit"])
def test_a_unit_that_is_no_text_is_refused(tmp_path, given, place):
    hdf5_unit(tmp_path / "d.hdf5", np.zeros(11), given, place)
    with pytest.raises(DataError, match=r"d\.hdf5: action_unit is .*; it is one of env"):
        load_dataset(tmp_path / "d.hdf5")


def hdf5_unit(path, actions, unit, place):
    """Pendulum's rows, with a unit as the file's attribute or under a key."""
    pendulum(path.with_name("plain.npz"), actions)
    unit = np.array(unit, h5py.string_dtype()) if isinstance(unit, list) and isinstance(unit[0], str) else unit
    with np.load(path.with_name("plain.npz")) as columns, h5py.File(path, "w") as file:
        for key, values in columns.items():
            file[key] = values
        if place == "attribute":
            file.attrs.create("action_unit", unit, dtype=h5py.string_dtype() if is_objects(unit) else None)
        else:
            file.create_dataset(place, data=unit, dtype=h5py.string_dtype() if is_objects(unit) else None)


def is_objects(values):
    return isinstance(values, np.ndarray) and values.dtype == object


def test_a_recording_is_in_environment_units_and_says_so(tmp_path):
    record("Pendulum-v1", "random", tmp_path / "d.hdf5", rows=300, progress=False)
    with h5py.File(tmp_path / "d.hdf5") as file:
        stored = file["actions"][()]
        assert file["metadata/action_unit"][()] == b"env"
        np.testing.assert_allclose(file["infos/action_log_probs"], -np.log(4), rtol=1e-6)
    assert 1.8 < np.abs(stored).max() <= 2
    env = make_env("Pendulum-v1")
    data, origin = resolve_dataset(tmp_path / "d.hdf5", env=env)
    np.testing.assert_allclose(data.actions, stored / 2, rtol=1e-6)
    assert origin.notes == ("actions in environment units [-2, 2], scaled to [-1, 1]",)
    env.reset(seed=0)
    env.unwrapped.state = np.array(
        [np.arctan2(data.observations[0, 1], data.observations[0, 0]), data.observations[0, 2]]
    )
    observation, reward, *_ = env.step(data.actions[0])
    np.testing.assert_allclose(observation, data.next_observations[0], atol=1e-5)
    assert reward == pytest.approx(data.rewards[0], abs=1e-5)


def test_a_recording_by_an_older_awac_is_scaled(tmp_path):
    record("Pendulum-v1", "random", tmp_path / "d.hdf5", rows=30, progress=False)
    with h5py.File(tmp_path / "d.hdf5", "a") as file:
        del file["metadata/action_unit"]
        scaled = file["actions"][()] / 2
        file["actions"][...] = scaled
    np.testing.assert_array_equal(load_dataset(tmp_path / "d.hdf5", "Pendulum-v1").actions, scaled)
