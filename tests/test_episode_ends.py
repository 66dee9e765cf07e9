"""Ends of episodes and columns under other libraries' names, and what the time limit, the last row and NaN mean."""

import gymnasium
import h5py
import numpy as np
import pytest
from tiny import settings

from awac import cli
from awac.data.columns import load
from awac.data.sources import load_dataset, resolve_dataset
from awac.data.sources.resolve import resolve_alone
from awac.envs import make_env
from awac.errors import DataError

EPISODES, LENGTH = 6, 10
ROWS = EPISODES * LENGTH
LAST = np.arange(ROWS) % LENGTH == LENGTH - 1
NUMBER = np.arange(ROWS) // LENGTH


def columns(**flags):
    """Six episodes of ten rows without next_observations; column 0 of an observation is its episode's number."""
    rng = np.random.default_rng(0)
    observations = np.stack([NUMBER, rng.normal(size=ROWS)], axis=1).astype(np.float32)
    data = {"observations": observations, "actions": rng.uniform(-1, 1, (ROWS, 2)), "rewards": np.ones(ROWS)}
    return {**data, **flags}


def stray(data):
    """Rows that are bootstrapped and lead into another episode."""
    return int(((data.next_observations[:, 0] != data.observations[:, 0]) & ~data.terminated).sum())


NEVER = np.zeros(ROWS, bool)


@pytest.mark.parametrize("form", ["npz", "hdf5"])
@pytest.mark.parametrize("counter", ["timestep", "t"])
@pytest.mark.parametrize("dtype", ["i8", "u1", "u4", ">u8", "f4"])
def test_a_counter_of_steps_begins_episodes_in_files_too(tmp_path, form, counter, dtype):
    data = columns(terminals=NEVER, **{counter: (np.arange(ROWS) % LENGTH).astype(dtype)})
    path = write(tmp_path / f"d.{form}", data)
    assert stray(load_dataset(str(path))) == 0
    data[counter] = np.where(LAST, np.nan, data[counter])  # no counter then, and no fault of the rows
    with pytest.warns(UserWarning, match="no column marks ends"):
        load_dataset(str(write(path, data)))


@pytest.mark.parametrize("form", ["npz", "hdf5"])
@pytest.mark.parametrize("other", [
        np.array(3), np.zeros((ROWS, 2)), np.zeros((1, ROWS)), np.zeros((ROWS, 1, 1)), np.zeros(5),
        np.array(["a"] * ROWS, "S1"), h5py.Empty("f4"),
    ],
)  # fmt: skip
def test_what_is_no_counter_may_have_its_name(tmp_path, form, other):
    if form == "npz" and isinstance(other, h5py.Empty):
        other = np.array([None] * ROWS)
    path = write(tmp_path / f"d.{form}", columns(terminals=NEVER, timeouts=LAST, step=other))
    assert len(load_dataset(str(path)).episode_returns()) == EPISODES


def write(path, data):
    if path.suffix == ".npz":
        np.savez(path, **data)
    else:
        with h5py.File(path, "w") as file:
            file.update(data)
    return path


@pytest.mark.parametrize("dtype", [bool, np.float32, np.int64])
@pytest.mark.parametrize(
    "name",
    [
        "timeouts",
        "truncations",
        "truncated",
        "truncateds",
        "episode_terminals",
        "episode_ends",
        "dones",
        "done",
        "dones_float",
        "is_last",
    ],
)
def test_ends_beside_terminals_are_used_under_any_name(name, dtype):
    loaded = load(columns(terminals=NEVER, **{name: LAST.astype(dtype)}), "d")
    assert stray(loaded.data) == 0 and not loaded.data.terminated.any()
    assert len(loaded.data.episode_returns()) == EPISODES
    assert loaded.warnings == ()
    assert loaded.notes == (() if name == "timeouts" else (f"episode ends from '{name}'",))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("episode_starts", np.roll(LAST, 1)),
        ("is_first", np.roll(LAST, 1)),
        ("episode_ids", NUMBER),
        ("traj_ids", NUMBER[::-1] * 3),
    ],
)
def test_starts_and_numbers_of_episodes_mark_ends_too(name, values):
    loaded = load(columns(terminals=NEVER, **{name: values}), "d")
    assert stray(loaded.data) == 0 and len(loaded.returns) == EPISODES


@pytest.mark.parametrize(
    "name", ["terminals", "terminal", "terminations", "terminated", "is_terminal", "dones", "done"]
)
def test_the_terminal_flag_is_used_under_any_name(name):
    loaded = load(columns(**{name: LAST}), "d")
    assert loaded.data.terminated.sum() == EPISODES and len(loaded.data) == ROWS
    assert (f"terminals from '{name}'" in loaded.notes) == (name != "terminals")


@pytest.mark.parametrize("name", ["terminations", "terminated"])
def test_gymnasiums_terminal_flag_comes_before_d4rls_which_then_marks_ends(name):
    """D4RL's name is also used for `terminated or truncated`."""
    first = LAST & (np.arange(ROWS) < LENGTH)
    data = load(columns(terminals=LAST, **{name: first}), "d").data
    assert data.terminated.sum() == 1 and stray(data) == 0
    data = load(columns(terminals=NEVER, **{name: LAST}), "d").data
    assert data.terminated.sum() == EPISODES


@pytest.mark.parametrize("cut", ["truncated", "timeouts"])
@pytest.mark.parametrize("flag", ["done", "dones"])
def test_done_beside_truncated_is_old_gyms_end_for_any_reason(flag, cut):
    first = LAST & (np.arange(ROWS) < LENGTH)
    loaded = load(columns(**{flag: LAST, cut: LAST & ~first}), "d")
    assert loaded.data.terminated.sum() == 1 and stray(loaded.data) == 0
    assert f"{EPISODES - 1} rows are in '{flag}' and '{cut}': read as cut, the task went on" in loaded.notes
    apart = load(columns(**{flag: first, cut: LAST & ~first}), "d")
    assert apart.data.terminated.sum() == 1 and not any("rows are in" in note for note in apart.notes)


def test_masks_are_terminals_turned_round_and_terminals_then_mark_ends():
    """OGBench and jaxrl: masks are 0 where the task ended, terminals are 1 where the episode ended."""
    masks = np.where(LAST & (np.arange(ROWS) < LENGTH), 0.0, 1.0)
    data = load(columns(terminals=LAST, masks=masks), "d").data
    assert data.terminated.sum() == 1 and stray(data) == 0


def rlds(path):
    """Steps with RLDS's flags: two episodes end in a terminal state; the last steps' actions and rewards are NaN."""
    given = columns(is_first=np.roll(LAST, 1), is_last=LAST, is_terminal=LAST & (NUMBER < 2))
    given["rewards"], given["actions"][LAST] = np.where(LAST, np.nan, 1.0), np.nan
    np.savez(path, **given)
    return given


def test_rldss_last_step_has_an_observation_and_no_action(tmp_path):
    """The flags are those of a step; the transition into a terminal state is the one before it."""
    given = rlds(tmp_path / "d.npz")
    data, origin = resolve_dataset(tmp_path / "d.npz")
    assert len(data) == EPISODES * (LENGTH - 1) and stray(data) == 0
    assert data.terminated.sum() == 2 and data.truncated.sum() == EPISODES - 2
    assert (origin.episodes, origin.mean_return) == (EPISODES, LENGTH - 1)
    assert origin.detail.endswith("d.npz, RLDS's steps")
    np.testing.assert_array_equal(data.next_observations[LENGTH - 2], given["observations"][LENGTH - 1])


def test_rldss_steps_are_the_same_to_convert_doctor_and_training_without_an_environment(tmp_path, capsys):
    rlds(tmp_path / "d.npz")
    assert cli.main(["convert", str(tmp_path / "d.npz"), str(tmp_path / "e.npz")]) == 0
    one, other = (load_dataset(tmp_path / name) for name in ("d.npz", "e.npz"))
    for name in ("observations", "actions", "rewards", "next_observations", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert cli.main(["doctor", str(tmp_path / "d.npz")]) == 0
    data, _, env = resolve_alone(tmp_path / "d.npz")
    assert len(data) == EPISODES * (LENGTH - 1) and np.abs(env.action_space.high).max() <= 1


@pytest.mark.parametrize("flag", ["is_first", "episode_id"])
def test_an_episode_of_rlds_that_was_broken_off_is_not_glued_to_the_next(tmp_path, flag):
    given = columns(is_last=LAST & (NUMBER > 0), is_terminal=LAST & (NUMBER > 0))
    given[flag] = np.roll(LAST, 1) if flag == "is_first" else NUMBER
    np.savez(tmp_path / "d.npz", **given)
    data = load_dataset(tmp_path / "d.npz")
    assert stray(data) == 0 and data.truncated.sum() == 1 and data.terminated.sum() == EPISODES - 1
    assert len(data) == EPISODES * (LENGTH - 1)


def test_other_names_of_the_other_columns_are_read(tmp_path):
    given = columns(terminals=LAST, timeouts=NEVER)
    given["next_observations"] = given["observations"] + 1
    names = {"observations": "obs", "actions": "action", "rewards": "reward", "next_observations": "next_obs"}
    np.savez(tmp_path / "d.npz", **{names.get(key, key): values for key, values in given.items()})
    data, origin = resolve_dataset(tmp_path / "d.npz")
    np.testing.assert_array_equal(data.next_observations, given["next_observations"])
    assert "Data: observations from 'obs'" in origin.lines()


def test_a_missing_column_is_named_with_those_there_are(tmp_path):
    np.savez(tmp_path / "d.npz", states_t=np.zeros((3, 2)), actions=np.zeros(3), rewards=np.zeros(3))
    with pytest.raises(DataError, match="'observations' is missing.* this one has actions, rewards, states_t"):
        load_dataset(tmp_path / "d.npz")


@pytest.mark.parametrize(("task", "limit"), [("Pendulum-v1", 200), ("CartPole-v1", 500), ("ant-random-v2", 1000)])
def test_without_a_column_of_ends_the_tasks_own_time_limit_cuts(tmp_path, task, limit):
    env = make_env(task)
    rows = 3 * limit
    size = env.observation_space.shape[0]
    number = np.repeat(np.arange(3), limit)
    actions = np.zeros(rows, int) if task == "CartPole-v1" else np.zeros((rows, env.action_space.shape[0]))
    observations = np.zeros((rows, size), np.float32)
    observations[:, 0] = number
    np.savez(
        tmp_path / "d.npz", observations=observations, actions=actions, rewards=np.ones(rows), terminals=np.zeros(rows)
    )
    data, origin = resolve_dataset(tmp_path / "d.npz", env=env)
    assert stray(data) == 0 and len(data) == rows - 3
    assert (origin.rows, origin.used, origin.episodes, origin.mean_return) == (rows, rows - 3, 3, limit)
    assert any(f"cut after the task's {limit} steps" in text for text in origin.warnings)
    with pytest.warns(UserWarning, match=f"cut after the task's {limit} steps"):
        assert len(load_dataset(tmp_path / "d.npz", task)) == rows - 3
    with pytest.warns(UserWarning, match="only|no column"):
        assert stray(load_dataset(tmp_path / "d.npz", limit=limit)) == 0


def test_a_column_of_ends_that_marks_none_is_not_believed():
    loaded = load(columns(terminals=NEVER, timeouts=NEVER), "d", limit=LENGTH)
    assert stray(loaded.data) == 0
    assert "cut there" in loaded.warnings[0]


@pytest.mark.parametrize("flag", ["terminals", "dones", "terminated"])
def test_terminals_exactly_at_the_time_limit_are_a_warning(flag):
    loaded = load(columns(**{flag: LAST}), "d", limit=LENGTH)
    assert any(f"6 of 6 terminal rows are the task's last step ({LENGTH})" in text for text in loaded.warnings)
    early = load(columns(**{flag: LAST}), "d", limit=LENGTH + 1)
    assert not any("last step" in text for text in early.warnings)
    real = load(columns(terminals=LAST & (NUMBER == 2), timeouts=LAST), "d", limit=LENGTH)
    assert real.warnings == ()


def test_a_terminal_last_row_needs_no_successor():
    given = columns(terminals=LAST)
    given["rewards"] = LAST.astype(float)
    loaded = load(given, "d")
    assert len(loaded.data) == ROWS and loaded.data.rewards.sum() == EPISODES and loaded.data.terminated[-1]
    assert np.isfinite(loaded.data.next_observations).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_successor_of_a_terminal_row_may_be_anything(value):
    given = columns(terminals=LAST)
    given["next_observations"] = np.where(LAST[:, None], value, np.roll(given["observations"], -1, axis=0))
    data = load(given, "d").data
    assert len(data) == ROWS and np.isfinite(data.next_observations).all()


def test_a_cut_row_without_a_successor_is_dropped():
    given = columns(terminals=NEVER, timeouts=LAST)
    given["next_observations"] = np.where(LAST[:, None], np.nan, np.roll(given["observations"], -1, axis=0))
    loaded = load(given, "d")
    assert len(loaded.data) == ROWS - EPISODES and stray(loaded.data) == 0
    np.testing.assert_array_equal(loaded.returns, LENGTH)
    given["next_observations"][4] = np.nan
    with pytest.raises(DataError, match="next_observations has NaN"):
        load(given, "d")


def test_the_mean_return_counts_dropped_rows():
    given = columns(terminals=NEVER, timeouts=LAST)
    given["rewards"] = np.where(LAST, 100.0, 0.0)
    loaded = load(given, "d")
    assert (loaded.rows, len(loaded.data)) == (ROWS, ROWS - EPISODES)
    np.testing.assert_array_equal(loaded.returns, 100)


def test_training_says_what_was_read_and_what_may_be_wrong(tmp_path, capsys, graph_mode):
    env = gymnasium.make("CartPole-v1")
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["obs"] = np.stack([env.reset(seed=i)[0] for i in range(30)])
        file["actions"], file["rewards"] = rng.integers(0, 2, 30).astype(np.float32), rng.normal(size=30)
        file["terminated"], file["truncated"] = np.zeros(30), np.arange(30) % 10 == 9
    arguments = ["train", "--task", "CartPole-v1", "--dataset", str(tmp_path / "d.h5"), "--episode", "1"]
    assert cli.main([*arguments, "--ckpt_path", str(tmp_path / "ckpt"), *settings()]) == 0
    out = capsys.readouterr().out
    assert "30 rows (27 used, 3 have no next observation), 3 episodes" in out
    for text in ("observations from 'obs'", "terminals from 'terminated'", "episode ends from 'truncated'"):
        assert f"Data: {text}\n" in out


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
@pytest.mark.parametrize("kind", [np.float64, np.int64])
def test_large_episode_ids_stay_apart(tmp_path, suffix, kind):
    rng, ids = np.random.default_rng(0), 1_700_000_000 + 50 * np.repeat(np.arange(4), 5)
    columns = {
        "observations": rng.normal(size=(20, 3)),
        "actions": rng.uniform(-1, 1, (20, 2)),
        "rewards": np.ones(20),
        "terminals": np.zeros(20, bool),
        "episode_id": ids.astype(kind),
    }
    path = tmp_path / f"d{suffix}"
    if suffix == ".npz":
        np.savez(path, **columns)
    else:
        with h5py.File(path, "w") as file:
            for key, values in columns.items():
                file[key] = values
    data = load_dataset(path)
    assert len(data) == 16 and data.episode_returns().tolist() == [4.0] * 4


def walk(**others):
    """Six episodes of ten rows that each go on from row to row, with next observations."""
    rng = np.random.default_rng(0)
    states = np.cumsum(rng.normal(size=(EPISODES, LENGTH + 1, 2)), axis=1) + 10
    data = {"observations": states[:, :-1].reshape(ROWS, 2), "next_observations": states[:, 1:].reshape(ROWS, 2)}
    return {**columns(terminals=NEVER, timeouts=LAST), **data, **others}


@pytest.mark.parametrize("marked", [True, False])
def test_next_observations_that_are_the_rows_own_are_refused(tmp_path, marked):
    """As a buffer gives them that the environment writes into again."""
    given = walk()
    given["next_observations"] = given["observations"].copy()
    if not marked:
        del given["timeouts"]
    with pytest.raises(DataError, match="d: 'next_observations' are the rows' own observations: a buffer"):
        load(given, "d")
    np.savez(tmp_path / "d.npz", **given)
    assert cli.main(["doctor", str(tmp_path / "d.npz")]) == 1
    still = np.ones((ROWS, 2))
    load(walk(observations=still, next_observations=still), "d")
    given["next_observations"][::12] += 1
    assert any("are the rows' own in 9" in text for text in load(given, "d").warnings)
    given["next_observations"][::5] += 1  # a task that often stays where it is, in any order
    load(given, "d")


@pytest.mark.parametrize(("value", "what"), [(0, "zeros"), (-50, "one and the same vector")])
@pytest.mark.parametrize("marked", [True, False])
def test_next_observations_that_were_filled_in_are_a_warning(value, what, marked):
    given = walk()
    given["next_observations"][LAST] = value
    if not marked:
        del given["timeouts"]
    text = f"the next observations of 6 of 6 cut rows are {what}, far from their observations"
    assert [warning for warning in load(given, "d").warnings if text in warning]
    given["next_observations"][LAST] = np.nan
    loaded = load(given, "d")
    assert loaded.warnings == () and len(loaded.data) == ROWS - EPISODES
    assert load(walk(), "d").warnings == ()
    goal = walk()
    goal["next_observations"][LAST] = 20  # where all episodes come to
    goal["observations"][LAST] = 20 + 1e-3 * NUMBER[LAST, None]
    assert load(goal, "d").warnings == ()
