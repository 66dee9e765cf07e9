"""Other libraries' files: read if the layout is unambiguous, else refused by name."""

import json
import pickle
import sys

import gymnasium
import h5py
import numpy as np
import pytest
from gymnasium import spaces

from awac.data.doctor import examine
from awac.data.sources import load_dataset, resolve_dataset
from awac.envs import make_env
from awac.errors import DataError

EPISODES, STEPS = 3, 7
ROWS = EPISODES * STEPS


def hdf5(path, columns, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", **options) as file:
        for key, values in columns.items():
            file[key] = values
    return path


def flat(rows=ROWS):
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(rows, 4)).astype(np.float32),
        "actions": rng.integers(0, 2, rows),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": np.arange(rows) % STEPS == STEPS - 1,
    }


def minari_columns(split=None, episodes=EPISODES):
    """Episode 0 terminates, the others are truncated."""
    rng, columns = np.random.default_rng(0), {}
    for i in range(episodes):
        observations = rng.normal(size=(STEPS + 1, 4))
        last = np.arange(STEPS) == STEPS - 1
        group = f"episode_{i}"
        if split:
            columns[f"{group}/observations/z"] = observations[:, 1:]
            columns[f"{group}/observations/a"] = observations[:, 0]
        else:
            columns[f"{group}/observations"] = observations
        columns[f"{group}/actions"] = rng.integers(0, 2, STEPS)
        columns[f"{group}/rewards"] = np.full(STEPS, float(i))
        columns[f"{group}/terminations"] = last & (i == 0)
        columns[f"{group}/truncations"] = last & (i != 0)
    return columns


@pytest.mark.parametrize("split", [False, True])
def test_minaris_data_sets_are_read_by_id(tmp_path, monkeypatch, split):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    given = minari_columns(split, episodes=12)
    path = hdf5(tmp_path / "mine" / "cart-v0" / "data" / "main_data.hdf5", given)
    data, origin = resolve_dataset("minari:mine/cart-v0", env=make_env("CartPole-v1"))
    assert (origin.kind, origin.path, origin.rows, origin.episodes) == ("minari", path, 12 * STEPS, 12)
    np.testing.assert_array_equal(data.rewards, np.repeat(np.arange(12), STEPS))  # episode_10 comes after episode_9
    assert (int(data.terminated.sum()), int(data.truncated.sum())) == (1, 11)
    inside = ~(data.terminated | data.truncated)[:-1]
    np.testing.assert_array_equal(data.next_observations[:-1][inside], data.observations[1:][inside])
    plain = minari_columns(episodes=12)["episode_0/observations"].astype(np.float32)
    np.testing.assert_array_equal(data.observations[:STEPS], plain[:-1])
    np.testing.assert_array_equal(data.next_observations[STEPS - 1], plain[-1])
    np.testing.assert_array_equal(load_dataset(path).rewards, data.rewards)


class Parts(gymnasium.Env):
    """Observations by name, in an order of their own."""

    observation_space = spaces.Dict(z=spaces.Box(-np.inf, np.inf, (3,)), a=spaces.Box(-np.inf, np.inf, (1,)))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return {"z": np.float32([1, 2, 3]), "a": np.float32([0])}, {}


def test_a_dicts_parts_have_one_order_in_files_and_environments(tmp_path, monkeypatch):
    monkeypatch.setitem(gymnasium.registry, "Parts-v0", gymnasium.envs.registration.EnvSpec("Parts-v0", Parts))
    given = minari_columns(split=True)
    for i in range(EPISODES):
        given[f"episode_{i}/observations/z"] = np.tile([1.0, 2, 3], (STEPS + 1, 1))
        given[f"episode_{i}/observations/a"] = np.zeros(STEPS + 1)
    first = load_dataset(hdf5(tmp_path / "d.hdf5", given), "Parts-v0").observations[0]
    np.testing.assert_array_equal(first, [0, 1, 2, 3])
    np.testing.assert_array_equal(make_env("Parts-v0").reset()[0], first)


def test_a_discrete_part_that_minari_stores_as_a_number_is_named(tmp_path, monkeypatch):
    class Gears(Parts):
        observation_space = spaces.Dict(z=spaces.Box(-np.inf, np.inf, (3,)), a=spaces.Discrete(4))

    monkeypatch.setitem(gymnasium.registry, "Gears-v0", gymnasium.envs.registration.EnvSpec("Gears-v0", Gears))
    path = hdf5(tmp_path / "d.hdf5", minari_columns(split=True))
    text = "have 4 values, the task's 7: a is stored as a number, as Minari does, and the task gives it one-hot"
    with pytest.raises(DataError, match=text):
        load_dataset(path, "Gears-v0")
    assert any(text in finding.text and finding.verdict == "fail" for finding in examine(str(path), "Gears-v0"))


def test_a_recording_that_minari_was_broken_off_in_ends_truncated(tmp_path):
    given = minari_columns()
    given["episode_1/truncations"] = np.zeros(STEPS, bool)
    assert load_dataset(hdf5(tmp_path / "d.hdf5", given)).truncated[2 * STEPS - 1]


@pytest.mark.parametrize("name", ["minari:mine/none-v0", "minari:", "minari:../x-v0", "minari:/etc/x-v0"])
def test_a_minari_data_set_that_is_not_there(tmp_path, monkeypatch, name):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    with pytest.raises(DataError, match="minari download|not a Minari id"):
        resolve_dataset(name)


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "terminations", "truncations"])
def test_a_minari_file_without_a_column_names_it(tmp_path, key):
    given = minari_columns()
    del given[f"episode_2/{key}"]
    with pytest.raises(DataError, match=f"Minari.*episode_2/{key}"):
        load_dataset(hdf5(tmp_path / "d.hdf5", given))
    given[f"episode_2/{key}"] = np.zeros((2, 4)) if key == "observations" else np.zeros(2)
    with pytest.raises(DataError, match="episode_2 has"):
        load_dataset(hdf5(tmp_path / "d.hdf5", given))


@pytest.mark.parametrize("link", [h5py.ExternalLink("other.hdf5", "/episode_1"), h5py.SoftLink("/episode_0")])
def test_a_data_set_that_minari_combined_by_links_says_so(tmp_path, link):
    path = hdf5(tmp_path / "d.hdf5", minari_columns())
    with h5py.File(path, "a") as file:
        del file["episode_1"]
        file["episode_1"] = link
    with pytest.raises(DataError, match="episode_1 is a link to another file.*combine them again"):
        load_dataset(path)


def d3rlpy_columns():
    rng, columns = np.random.default_rng(0), {}
    for i in range(12):
        columns[f"observations_{i}"] = rng.normal(size=(STEPS, 4))
        columns[f"actions_{i}"], columns[f"rewards_{i}"] = rng.integers(0, 2, (STEPS, 1)), np.full((STEPS, 1), i)
        columns[f"terminated_{i}"] = i == 0
    return columns


def test_d3rlpys_buffers_are_read(tmp_path):
    loaded, origin = resolve_dataset(hdf5(tmp_path / "d.h5", d3rlpy_columns()))
    assert (origin.rows, origin.used, origin.episodes) == (12 * STEPS, 12 * STEPS - 11, 12)
    assert loaded.terminated.sum() == 1 and loaded.terminated[STEPS - 1]
    np.testing.assert_array_equal(loaded.rewards[-1], 11)


def test_robomimic_is_named(tmp_path):
    columns = {f"data/demo_0/{key}": np.zeros((3, 2)) for key in ("obs/state", "actions", "rewards", "dones")}
    with pytest.raises(DataError, match="robomimic"):
        load_dataset(hdf5(tmp_path / "d.hdf5", columns))


@pytest.mark.parametrize("block", [512, 1024, 4096])
def test_hdf5_behind_a_user_block_is_read(tmp_path, block):
    path = hdf5(tmp_path / "d.mat", flat(), userblock_size=block)
    with pytest.warns(UserWarning, match="no column marks ends"):
        assert len(load_dataset(path)) == ROWS


def test_matlabs_arrays_are_turned(tmp_path):
    path, given = tmp_path / "d.mat", flat()
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, values in given.items():
            file[key] = np.atleast_2d(values.T).astype(np.float64)
            file[key].attrs["MATLAB_class"] = np.bytes_("double")
    with pytest.warns(UserWarning, match="no column marks ends"):
        data = load_dataset(path, "CartPole-v1")
    np.testing.assert_array_equal(data.observations, given["observations"])
    np.testing.assert_array_equal(data.actions, given["actions"])


def foreign(tmp_path, kind):
    path = tmp_path / f"d.{kind}"
    if kind == "npy":
        np.save(path, np.zeros(3))
    elif kind == "pkl":
        path.write_bytes(pickle.dumps({"observations": [1]}))
    elif kind == "json":
        path.write_text(json.dumps({"observations": []}))
    elif kind == "ogbench":
        columns = flat()
        del columns["rewards"]
        np.savez(tmp_path / "d.npz", **columns)
        return tmp_path / "d.npz"
    elif kind == "transposed":
        columns = flat()
        return hdf5(path, {**columns, "observations": columns["observations"].T})
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("npy", "a single .npy array; save all columns with np.savez"),
        ("pkl", "a Python pickle"),
        ("json", "neither HDF5 nor .npz"),
        ("ogbench", "'rewards' is missing.*OGBench"),
        ("transposed", rf"is it transposed\? Store \({ROWS}, 4\)"),
    ],
)
def test_what_cannot_be_read_is_named_with_the_remedy(tmp_path, kind, words):
    with pytest.raises(DataError, match=words) as error:
        load_dataset(foreign(tmp_path, kind))
    assert "\n" not in str(error.value)


def table(path, header, rows, delimiter=","):
    lines = [delimiter.join(map(str, row)) for row in [header, *rows]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    "header",
    [
        ("obs_0", "obs_1", "obs_2", "obs_3", "action", "reward", "terminated", "truncated", "comment"),
        ("obs.a", "obs.b", "obs.c", "obs.d", "actions", "rewards", "terminals", "timeouts", "action_log_prob"),
        ("state[0]", "state[1]", "state[2]", "state[3]", "Action", "Reward", "terminations", "truncations", "x"),
    ],
)
def test_a_table_is_read_by_the_names_of_its_columns(tmp_path, header, delimiter):
    given = flat()
    last = np.arange(ROWS) % STEPS == STEPS - 1
    numbers = zip(given["observations"], given["actions"], given["rewards"], last, strict=True)
    rows = [(*observation, action, reward, False, end, "hello") for observation, action, reward, end in numbers]
    data, origin = resolve_dataset(table(tmp_path / "d.csv", header, rows, delimiter), env=make_env("CartPole-v1"))
    assert (origin.kind, origin.rows, origin.used, origin.episodes) == ("table", ROWS, ROWS - EPISODES, EPISODES)
    assert f"observations from {', '.join(header[:4])}; actions from {header[4]}" in origin.detail
    np.testing.assert_allclose(data.observations[:3], given["observations"][:3])
    np.testing.assert_array_equal(data.actions[:6], given["actions"][:6])


def test_a_mapping_beside_a_table_names_its_columns(tmp_path):
    rows = [(0.1 * i, 200 + i, 0.5, i, i % 4 == 3, 7) for i in range(8)]
    table(tmp_path / "plant.csv", ("speed", "heat", "valve", "profit", "end", "tank"), rows)
    with pytest.raises(DataError, match=r"'observations' is missing.*plant\.columns\.yaml"):
        load_dataset(tmp_path / "plant.csv")
    mapping = "observations: [tank, heat]\nactions: [valve]\nrewards: profit\nterminals: end\n"
    (tmp_path / "plant.columns.yaml").write_text(mapping)
    with pytest.warns(UserWarning, match="no column marks ends"):
        data = load_dataset(tmp_path / "plant.csv")
    np.testing.assert_array_equal(data.observations[:2], [[7, 200], [7, 201]])
    assert data.terminated.sum() == 2 and data.actions.shape == (8, 1)
    (tmp_path / "plant.columns.yaml").write_text(mapping.replace("heat", "cold"))
    with pytest.raises(DataError, match="no column 'cold'"):
        load_dataset(tmp_path / "plant.csv")


def test_the_numbers_of_a_vectors_columns_decide_their_order(tmp_path):
    """Not the header: sorted by name, obs_10 comes before obs_2."""
    header = (
        "obs_0",
        "obs_1",
        "obs_10",
        *(f"obs_{i}" for i in range(2, 10)),
        "action",
        "reward",
        "terminated",
        "episode",
    )
    rows = [(*(int(name[4:]) for name in header[:11]), 0, 1, i % 2, i // 2) for i in range(4)]
    data = load_dataset(table(tmp_path / "d.csv", header, rows))
    np.testing.assert_array_equal(data.observations[0], np.arange(11))


def test_the_next_observations_columns_are_paired_by_name(tmp_path):
    header = ("obs.speed", "obs.height", "action", "reward", "done", "next_obs.height", "next_obs.speed")
    rows = [(i, 10 + i, 0, 1, i % 2, 11 + i, i + 1) for i in range(4)]
    data = load_dataset(table(tmp_path / "d.csv", header, rows))
    np.testing.assert_array_equal(data.next_observations, data.observations + 1)
    with pytest.raises(DataError, match="'obs.height' has no partner among observations and next_observations"):
        load_dataset(table(tmp_path / "e.csv", (*header[:5], "next_obs.depth", "next_obs.speed"), rows))


def test_columns_that_pair_by_their_order_are_read(tmp_path):
    """Two names for one vector stay as in the header; numbers from 0 pair with numbers from 1."""
    header = ("obs_0", "obs_1", "state_0", "action", "reward", "terminated", "episode")
    rows = [(i, 10 + i, 20 + i, 0, 1, i % 2, i // 2) for i in range(4)]
    successors = ("next_obs_0", "next_obs_1", "next_state_0")
    both = [(*row, *(x + 1 for x in row[:3])) for row in rows]
    data = load_dataset(table(tmp_path / "d.csv", (*header, *successors), both))
    np.testing.assert_array_equal(data.observations[0], [0, 10, 20])
    np.testing.assert_array_equal(data.next_observations, data.observations + 1)
    header = ("obs_00", "obs_01", *header[3:], "next_obs_1", "next_obs_2")
    data = load_dataset(
        table(tmp_path / "e.csv", header, [(*row[:2], *row[3:], row[0] + 1, row[1] + 1) for row in rows])
    )
    np.testing.assert_array_equal(data.next_observations, data.observations + 1)


@pytest.mark.parametrize("key", ["observations", "rewards"])
def test_a_mapping_to_no_column_is_refused(tmp_path, key):
    path = table(tmp_path / "d.csv", ("obs_0", "action", "reward", "done"), [(0, 0, 1, 0)])
    (tmp_path / "d.columns.yaml").write_text(f"{key}: []\n")
    with pytest.raises(DataError, match=f"{key}: names no column"):
        load_dataset(path)


@pytest.mark.parametrize("cell", ["", "n/a"])
def test_a_cell_of_a_table_that_is_no_number_is_named(tmp_path, cell):
    path = table(tmp_path / "d.csv", ("obs_0", "action", "reward", "done"), [(0, 0, 1, 0), (cell, 0, 1, 0)])
    with pytest.raises(DataError, match=r"d\.csv: (line 3, column 'obs_0': 'n/a' is not a number|.*NaN)"):
        load_dataset(path)


def test_a_column_that_another_name_stands_for_already_is_not_read(tmp_path):
    np.savez(tmp_path / "d.npz", **flat(), states=np.zeros((2, 2)), timeouts=np.zeros(ROWS))
    assert len(load_dataset(tmp_path / "d.npz", limit=50)) == ROWS


def parquet(path, **others):
    """Three episodes; `None` leaves a column out."""
    pyarrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    given = flat()
    columns = {
        "observation": list(given["observations"]),
        "action": given["actions"],
        "reward": given["rewards"],
        "terminated": given["terminals"],
        "episode": np.arange(ROWS) // STEPS,
        **others,
    }
    writer.write_table(pyarrow.table(columns), path)
    return path


def test_a_parquet_table_is_read(tmp_path):
    given = flat()
    parquet(tmp_path / "d.parquet")
    data = load_dataset(tmp_path / "d.parquet", "CartPole-v1")
    np.testing.assert_array_equal(data.observations, given["observations"])
    np.testing.assert_array_equal(data.actions, given["actions"])
    (tmp_path / "d.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="cannot be read as a table"):
        load_dataset(tmp_path / "d.parquet")


def test_a_list_that_is_missing_in_parquet_is_nan(tmp_path):
    following = list(np.roll(flat()["observations"], -1, axis=0))
    following[STEPS - 1] = following[-1] = None
    data = load_dataset(parquet(tmp_path / "d.parquet", terminated=np.zeros(ROWS), next_observation=following))
    assert len(data) == ROWS - 2  # each episode's last row, if it has no next observation
    with pytest.raises(DataError, match="observations has NaN or infinite values, first in row 3"):
        load_dataset(parquet(tmp_path / "d.parquet", observation=[*following[:3], None, *following[4:-1], [0.0] * 4]))


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([[1.0, 2.0]] * (ROWS - 1) + [[1.0]], "holds lists of 1 to 2 values; all rows need the same number"),
        ([[[1.0], [2.0, 3.0]]] * ROWS, "holds list<.*>, not numbers"),
        ([{"x": 1.0}] * ROWS, "holds struct<.*>, not numbers"),
        (["a"] * ROWS, "holds string, not numbers"),
        (np.arange(ROWS).astype("datetime64[ns]"), r"holds timestamp\[ns\], not numbers"),
    ],
)
def test_a_parquet_column_that_holds_no_numbers_is_named(tmp_path, column, words):
    with pytest.raises(DataError, match=rf"d\.parquet: column 'observation' {words}"):
        load_dataset(parquet(tmp_path / "d.parquet", observation=column))


@pytest.mark.parametrize("unit", ["ns", "us", "D"])
def test_times_in_parquet_are_no_numbers_of_steps_but_may_be_ids(tmp_path, unit):
    times = (1_700_000_000_000_000_001 // (1 if unit == "ns" else 1000) + np.arange(ROWS)).astype(f"datetime64[{unit}]")
    times = times if unit != "D" else np.arange(ROWS).astype("datetime64[D]")
    assert len(load_dataset(parquet(tmp_path / "d.parquet", t=times))) == ROWS
    ids = times[np.arange(ROWS) // STEPS]
    data, origin = resolve_dataset(parquet(tmp_path / "d.parquet", episode=ids, terminated=np.zeros(ROWS)))
    assert origin.episodes == EPISODES and len(data) == ROWS - EPISODES


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install .pyarrow"):
        load_dataset(tmp_path / "d.parquet")


def test_a_table_with_a_header_alone_holds_no_rows(tmp_path):
    with pytest.raises(DataError, match="holds no rows"):
        load_dataset(table(tmp_path / "d.csv", ("obs_0", "action", "reward", "done"), []))


@pytest.mark.parametrize(
    "name, words",
    [
        ("d4rl:ant-expert-v3", "nearest D4RL id is 'd4rl:ant-expert-v"),
        ("d4rl:ant-expert-v2", "scripts/check_legacy.sh"),
    ],
)
def test_the_package_d4rl_is_named_where_it_is_missing(name, words):
    with pytest.raises(DataError, match=words):
        load_dataset(name)
