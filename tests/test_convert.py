"""awac convert: every format holds the same rows, and losses are reported."""

import os
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from gymnasium import spaces
from tiny import RECORDED

from awac import cli
from awac.data.convert import convert
from awac.data.sources import load_dataset, resolve_alone
from awac.envs import environment_action_space
from awac.errors import DataError

FIELDS = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated")
ROWS = 12


def source(path, discrete=False, successors=True):
    rng = np.random.default_rng(0)
    columns = {
        "obs": rng.normal(size=(ROWS, 2)).astype(np.float32),
        "actions": rng.integers(0, 2, ROWS) if discrete else rng.uniform(-1, 1, (ROWS, 2)).astype(np.float32),
        "reward": rng.normal(size=(ROWS, 1)).astype(np.float32),
        "terminations": np.arange(ROWS) == 3,
        "truncations": np.arange(ROWS) == 7,
    }
    if successors:
        columns["next_obs"] = rng.normal(size=(ROWS, 2)).astype(np.float32)
    np.savez(path, **columns)
    return path


@pytest.mark.parametrize("suffix", [".hdf5", ".npz", ".csv", ".parquet"])
@pytest.mark.parametrize("options", [{}, {"discrete": True}, {"successors": False}])
def test_every_format_holds_the_same_rows(tmp_path, suffix, options):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = source(tmp_path / "d.npz", **options)
    line = convert(str(path), tmp_path / f"out{suffix}")
    assert f"{ROWS} rows" in line and "not carried over" in line
    before, after = load_dataset(path), load_dataset(tmp_path / f"out{suffix}")
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(after, field).ravel(), getattr(before, field).ravel())


@pytest.mark.parametrize("form", ["npz", "hdf5", "csv"])
def test_digits_that_float32_drops_are_listed(tmp_path, form):
    path = tmp_path / f"d.{form}"
    short, long = np.round(np.linspace(0.1, 0.9, ROWS), 4), np.linspace(1, 9, ROWS) / 7

    def lost(observations, rewards, target="out.npz"):
        rows = {"observations": observations, "actions": short, "rewards": rewards, "terminals": np.zeros(ROWS)}
        if form == "csv":
            header = "obs_0,action_0,reward,terminated"
            np.savetxt(path, np.stack(list(rows.values()), axis=1), "%.17g", ",", header=header, comments="")
        elif form == "npz":
            np.savez(path, **rows)
        else:
            with h5py.File(path, "w") as file:
                file.update(rows)
        (tmp_path / target).unlink(missing_ok=True)
        return convert(str(path), tmp_path / target).partition("not carried over: ")[2]

    assert "digits" not in lost(short, short) and "digits" not in lost(short.astype(np.float32), short)
    names = "observations" if form == "csv" else "observations, rewards"  # a table's rewards stay float64
    assert f"digits beyond float32 ({names})" in lost(long, long)
    with np.load(tmp_path / "out.npz") as file:
        assert form != "csv" or (file["rewards"] == long).all()
    dropped = "digits beyond float32 (observations)" in lost(2**24 + 1 + np.arange(ROWS), short)
    assert dropped == (form == "csv")  # else they stay integers


def test_digits_of_physics_that_a_table_does_not_hold_are_not_listed(tmp_path):
    wide = np.linspace(1, 9, ROWS)[:, None] / 7
    path = source(tmp_path / "d.npz")
    with np.load(path) as columns:
        np.savez(path, **columns, **{"infos/qpos": wide, "infos/qvel": wide})
    assert "digits beyond float32 (infos/qpos, infos/qvel)" in convert(str(path), tmp_path / "out.hdf5")
    assert "digits beyond" not in convert(str(path), tmp_path / "out.csv")


@pytest.mark.parametrize("suffix", [".hdf5", ".npz", ".csv"])
def test_indices_of_a_table_stay_indices(tmp_path, suffix):
    convert(str(source(tmp_path / "d.npz", discrete=True)), tmp_path / "d.csv")
    convert(str(tmp_path / "d.csv"), tmp_path / f"out{suffix}")
    for low, kind in ((None, spaces.Discrete), ((0.0,), spaces.Box)):
        before, after = (resolve_alone(tmp_path / name, low=low) for name in ("d.csv", f"out{suffix}"))
        assert isinstance(environment_action_space(before[2]), kind)
        assert environment_action_space(before[2]) == environment_action_space(after[2])
        np.testing.assert_array_equal(after[0].actions, before[0].actions)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_a_table_makes_of_whole_numbers_is_said(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = source(tmp_path / "d.npz")
    with np.load(path) as file:
        columns = dict(file)
    for name, actions in (("switch", (np.arange(ROWS) % 2).astype(np.float32)), ("valve", np.full(ROWS, 0.5))):
        np.savez(path, **{**columns, "actions": actions.reshape(-1, 1)})
        line = convert(str(path), tmp_path / f"{name}{suffix}")
        assert ("that the actions are a vector" in line) == (name == "switch")
        back = convert(str(tmp_path / f"{name}{suffix}"), tmp_path / f"{name}.hdf5")
        assert back.endswith("; actions written as indices 0..1") == (name == "switch")
    again = convert(str(tmp_path / f"switch{suffix}"), tmp_path / f"again{suffix}")
    assert "indices" not in again and "a vector" not in again


@pytest.mark.parametrize("out", ["e.csv", "minari:e-v0"])
def test_what_may_have_been_read_wrongly_is_said(tmp_path, request, out):
    if out.startswith("minari"):
        request.getfixturevalue("minari")
    header, rows = "t,obs_0,obs_id,action,reward,terminated,episode", ["1.5,0,7,0.5,1,0,a", "1,1,7,0.5,1,0,a"]
    (tmp_path / "d.csv").write_text("\n".join([header, *rows]))
    line = convert(str(tmp_path / "d.csv"), out if out.startswith("minari") else tmp_path / out)
    assert "; warning: obs_id: not read as part of observations" in line
    assert "; warning: 't' falls within episodes 1 times" in line


def test_integers_of_another_byte_order_go_into_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = source(tmp_path / "d.npz", discrete=True)
    with np.load(path) as file:
        np.savez(path, **{**file, "actions": file["actions"].astype(">i8")})
    convert(str(path), tmp_path / "out.parquet")
    np.testing.assert_array_equal(load_dataset(tmp_path / "out.parquet").actions.ravel(), load_dataset(path).actions)
    with pytest.MonkeyPatch.context() as patched, pytest.raises(DataError, match="cannot be written as Parquet .full"):
        import pyarrow

        def fail(*args):
            raise pyarrow.ArrowInvalid("full")

        patched.setattr(parquet, "write_table", fail)
        convert(str(path), tmp_path / "other.parquet")


def test_a_vector_of_a_table_stays_one(tmp_path):
    for name, action in (("half.csv", "0.5"), ("signed.csv", "-1"), ("two.csv", "1,0")):
        header = "obs,action_0,action_1" if "," in action else "obs,action"
        rows = [f"{i},{action},0,0" for i in range(ROWS)]
        (tmp_path / name).write_text("\n".join([f"{header},reward,terminated", *rows]))
        convert(str(tmp_path / name), tmp_path / f"{name}.npz")
        with np.load(tmp_path / f"{name}.npz") as file:
            assert file["actions"].dtype == np.float32 and file["actions"].ndim == 2


@pytest.mark.parametrize(
    ("stored", "suffix", "kept"), [("scaled", ".hdf5", True), ("env", ".npz", True), ("scaled", ".csv", False)]
)
def test_the_unit_of_the_actions_is_kept_or_named_as_lost(tmp_path, stored, suffix, kept):
    path = source(tmp_path / "d.npz")
    with np.load(path) as columns:
        np.savez(path, **columns, action_unit=stored)
    line = convert(str(path), tmp_path / f"out{suffix}")
    assert ("the unit of the actions" in line) != kept
    if suffix == ".hdf5":
        with h5py.File(tmp_path / "out.hdf5") as file:
            assert file["metadata/action_unit"][()] == stored.encode()


def test_the_command(tmp_path, capsys):
    assert cli.main(["convert", str(RECORDED), str(tmp_path / "ant.csv")]) == 0
    assert "not carried over: metadata and other columns, infos/qpos, infos/qvel" in capsys.readouterr().out
    np.testing.assert_array_equal(load_dataset(tmp_path / "ant.csv").observations, load_dataset(RECORDED).observations)
    assert cli.main(["convert", str(RECORDED), str(tmp_path / "ant.csv")]) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("first", [".hdf5", ".npz", ".csv", ".parquet"])
@pytest.mark.parametrize("second", [".hdf5", ".npz", ".csv", ".parquet"])
def test_from_every_format_to_every_other(tmp_path, first, second):
    if ".parquet" in (first, second):
        pytest.importorskip("pyarrow")
    convert(str(RECORDED), tmp_path / f"a{first}")
    line = convert(str(tmp_path / f"a{first}"), tmp_path / f"b{second}")
    table = (".csv", ".parquet")
    assert ("infos/qpos" in line.split("not carried over")[1]) == (first not in table and second in table)
    before, after = load_dataset(RECORDED), load_dataset(tmp_path / f"b{second}")
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(after, field), getattr(before, field))


def test_parquet_without_pyarrow_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"writing Parquet needs pyarrow: pip install 'pyarrow"):
        convert(str(RECORDED), tmp_path / "d.parquet")
    assert not (tmp_path / "d.parquet").exists()


@pytest.fixture
def minari(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return pytest.importorskip("minari")


def chain(path, **options):
    """As `source`, but each row leads to the next one of its episode."""
    source(path, **options)
    with np.load(path) as file:
        columns = dict(file)
    columns["next_obs"] = np.concatenate([columns["obs"][1:], columns["obs"][:1] + 1])
    columns["next_obs"][[3, 7]] += 5
    np.savez(path, **columns)
    return path


@pytest.mark.parametrize("discrete", [False, True])
def test_minari_holds_the_same_rows_and_gives_them_back(tmp_path, minari, discrete):
    path = chain(tmp_path / "d.npz", discrete=discrete)
    line = convert(str(path), "minari:plant/test-v0")
    assert f"{ROWS} rows, 3 episodes; not carried over: metadata and other columns" in line
    before, after = load_dataset(path), load_dataset("minari:plant/test-v0")
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(after, field), getattr(before, field))
    episodes = list(minari.load_dataset("plant/test-v0").iterate_episodes())
    assert [len(episode.observations) for episode in episodes] == [5, 5, 5]
    np.testing.assert_array_equal(np.concatenate([episode.rewards for episode in episodes]), before.rewards)
    assert [bool(episode.terminations[-1]) for episode in episodes] == [True, False, False]
    space = minari.load_dataset("plant/test-v0").action_space
    assert space.n == 2 if discrete else (space.high == before.actions.max(axis=0)).all()
    back = convert("minari:plant/test-v0", tmp_path / "back.npz")
    assert f"{ROWS} rows" in back
    np.testing.assert_array_equal(load_dataset(tmp_path / "back.npz").observations, before.observations)


def test_ctrl_c_leaves_no_half_of_a_minari_data_set(tmp_path, minari, monkeypatch):
    def stop(identifier, *args, **kwargs):
        (Path(os.environ["MINARI_DATASETS_PATH"]) / identifier / "data").mkdir(parents=True)
        assert not (tmp_path / "minari" / identifier).exists()  # a killed process leaves nothing there either
        raise KeyboardInterrupt

    path = chain(tmp_path / "d.npz")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(minari, "create_dataset_from_buffers", stop)
        convert(str(path), "minari:plant/test-v0")
    assert list((tmp_path / "minari").iterdir()) == []
    assert os.environ["MINARI_DATASETS_PATH"] == str(tmp_path / "minari")
    assert "3 episodes" in convert(str(path), "minari:plant/test-v0")


@pytest.mark.parametrize("folder", ["~/x", "relative/x", ""])
def test_minaris_folder_may_be_relative_or_in_the_home(tmp_path, minari, monkeypatch, folder):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MINARI_DATASETS_PATH", folder)
    monkeypatch.chdir(tmp_path)
    assert "3 episodes" in convert(str(chain(tmp_path / "d.npz")), "minari:plant/pump/test-v0")
    assert len(load_dataset("minari:plant/pump/test-v0")) == ROWS
    root = tmp_path / (folder.removeprefix("~/") or ".minari/datasets")
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    assert names == [
        "plant/namespace_metadata.json",
        "plant/pump/namespace_metadata.json",
        "plant/pump/test-v0/data/main_data.hdf5",
        "plant/pump/test-v0/data/metadata.json",
    ]
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    assert minari.load_dataset("plant/pump/test-v0").total_steps == ROWS


def test_indices_stay_indices_and_actions_outside_their_bounds_are_refused(tmp_path, minari):
    """Whatever unit the file names: 2 and 3 are no torques beyond 1."""
    path = chain(tmp_path / "d.npz")
    with np.load(path) as file:
        columns = {**file, "action_unit": "scaled"}
    np.savez(path, **{**columns, "actions": np.arange(ROWS) % 4})
    convert(str(path), "minari:indices-v0")
    assert minari.load_dataset("indices-v0").action_space == spaces.Discrete(4)
    assert load_dataset("minari:indices-v0").actions.tolist() == [0, 1, 2, 3] * 3
    _, _, env = resolve_alone(path)
    assert environment_action_space(env) == spaces.Discrete(4)
    np.savez(path, **{**columns, "actions": columns["actions"] / np.abs(columns["actions"]).max() * 1.00005})
    convert(str(path), "minari:rounded-v0")
    assert np.abs(load_dataset("minari:rounded-v0").actions).max() == 1
    np.savez(path, **{**columns, "actions": columns["actions"] * 3})
    with pytest.raises(DataError, match=r"actions are outside the bounds, first in row \d+: they reach from"):
        convert(str(path), "minari:outside-v0")


def test_the_indices_of_a_table_are_indices_to_minari(tmp_path, minari):
    convert(str(chain(tmp_path / "d.npz", discrete=True)), tmp_path / "d.csv")
    assert convert(str(tmp_path / "d.csv"), "minari:table-v0").endswith("; actions written as indices 0..1")
    assert minari.load_dataset("table-v0").action_space == spaces.Discrete(2)


def test_what_minari_cannot_hold_is_named(tmp_path, minari):
    apart = convert(str(source(tmp_path / "apart.npz")), "minari:apart-v0")
    assert "the next observations of 9 rows that don't lead to the next row" in apart
    alone = convert(str(source(tmp_path / "alone.npz", successors=False)), "minari:alone-v0")
    assert "2 rows without a next observation" in alone and "the observation after 1 terminal rows" in alone
    before, after = load_dataset(tmp_path / "alone.npz"), load_dataset("minari:alone-v0")
    live = ~before.terminated
    np.testing.assert_array_equal(after.next_observations[live], before.next_observations[live])
    np.testing.assert_array_equal(after.rewards, before.rewards)


def test_a_robot_s_data_set_keeps_the_robot_s_bounds(tmp_path, minari, capsys):
    assert cli.main(["convert", str(RECORDED), "minari:ant/recorded-v0"]) == 0
    assert "infos/qpos, infos/qvel" in capsys.readouterr().out
    before, after = load_dataset(RECORDED, "ant-expert-v2"), load_dataset("minari:ant/recorded-v0", "ant-expert-v2")
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(after, field), getattr(before, field))
    assert cli.main(["convert", str(RECORDED), "minari:ant/recorded-v0"]) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["minari:noversion", "minari:../x-v0", "minari:"])
def test_what_is_no_minari_id_is_refused(name):
    with pytest.raises(DataError, match="is not a Minari id"):
        convert(str(RECORDED), name)


def test_without_the_package_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(DataError, match=r"pip install 'minari"):
        convert(str(RECORDED), "minari:x-v0")


@pytest.mark.parametrize("name", ["out.txt", "out", "out.pkl"])
def test_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="one of .hdf5, .h5, .npz, .csv, .parquet"):
        convert(str(RECORDED), tmp_path / name)
