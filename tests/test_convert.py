"""awac convert: every format holds the same rows, and what is lost is said."""

import h5py
import numpy as np
import pytest
from tiny import RECORDED

from awac import cli
from awac.data.convert import convert
from awac.data.sources import load_dataset
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


@pytest.mark.parametrize("suffix", [".hdf5", ".npz", ".csv"])
@pytest.mark.parametrize("options", [{}, {"discrete": True}, {"successors": False}])
def test_every_format_holds_the_same_rows(tmp_path, suffix, options):
    path = source(tmp_path / "d.npz", **options)
    line = convert(str(path), tmp_path / f"out{suffix}")
    assert f"{ROWS} rows" in line and "not carried over" in line
    before, after = load_dataset(path), load_dataset(tmp_path / f"out{suffix}")
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(after, field).ravel(), getattr(before, field).ravel())


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


@pytest.mark.parametrize("name", ["out.txt", "out", "out.parquet"])
def test_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="one of .hdf5, .h5, .npz, .csv"):
        convert(str(RECORDED), tmp_path / name)
