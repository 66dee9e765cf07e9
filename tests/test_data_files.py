"""Data set files: every layout of D4RL gives the right transitions, every damaged file one clear line."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from awac.data.sources import load_dataset
from awac.envs import make_env
from awac.errors import DataError
from awac.runs import files

RECORDED = Path(__file__).parent / "data" / "ant_recorded.hdf5"


def columns(rows=10, next_observations=True):
    """Ten rows: an episode ended by a terminal (row 3), one by a timeout (row 7), two rows of a third."""
    rng = np.random.default_rng(0)
    data = {
        "observations": rng.normal(size=(rows, 4)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "rewards": np.arange(rows, dtype=np.float32),
        "terminals": np.arange(rows) == 3,
        "timeouts": np.arange(rows) == 7,
    }
    if next_observations:
        successors = np.roll(data["observations"], -1, axis=0)
        successors[[3, 7, rows - 1]] = rng.normal(size=(3, 4))
        data["next_observations"] = successors.astype(np.float32)
    return data


def write(path, data, **options):
    if path.suffix == ".npz":
        np.savez(path, **data)
    else:
        with h5py.File(path, "w") as file:
            for key, values in data.items():
                file.create_dataset(key, data=values, **options)
    return path


@pytest.fixture(params=["data.hdf5", "data.npz"])
def path(request, tmp_path):
    return tmp_path / request.param


def test_v2_keeps_every_row_and_truncates_at_timeouts(path):
    given = columns()
    data = load_dataset(write(path, given))
    for name in ("observations", "actions", "rewards", "next_observations"):
        np.testing.assert_array_equal(getattr(data, name), given[name])
    np.testing.assert_array_equal(np.flatnonzero(data.terminated), [3])
    np.testing.assert_array_equal(np.flatnonzero(data.truncated), [7, 9])
    np.testing.assert_array_equal(data.episode_returns(), [0 + 1 + 2 + 3, 4 + 5 + 6 + 7, 8 + 9])


def test_v0_and_v1_take_the_next_row_and_drop_timeouts_and_the_last_row(path):
    given = columns(next_observations=False)
    data = load_dataset(write(path, given))
    kept = np.array([0, 1, 2, 3, 4, 5, 6, 8])
    np.testing.assert_array_equal(data.rewards, kept)
    np.testing.assert_array_equal(data.observations, given["observations"][kept])
    np.testing.assert_array_equal(data.next_observations, given["observations"][kept + 1])
    np.testing.assert_array_equal(data.rewards[data.terminated], [3])
    np.testing.assert_array_equal(data.rewards[data.truncated], [6, 8])


def test_without_timeouts_and_successors_episodes_are_cut_after_1000_steps(path):
    given = columns(2500, next_observations=False)
    del given["timeouts"]
    with pytest.warns(UserWarning, match="cut after 1000 rows"):
        data = load_dataset(write(path, given))
    assert len(data) == 2500 - 2 - 1
    assert not np.isin([1003, 2003, 2499], data.rewards).any()
    np.testing.assert_array_equal(data.rewards[data.truncated], [1002, 2002, 2498])


def test_without_timeouts_an_episode_ends_where_the_next_row_starts_elsewhere(path):
    given = columns()
    del given["timeouts"]
    data = load_dataset(write(path, given))
    np.testing.assert_array_equal(np.flatnonzero(data.truncated), [7, 9])
    np.testing.assert_array_equal(np.flatnonzero(data.terminated), [3])


def test_a_row_that_terminates_at_the_time_limit_is_terminal(path):
    given = columns()
    given["timeouts"][3] = True
    data = load_dataset(write(path, given))
    assert data.terminated[3] and not data.truncated[3]


def test_the_recorded_sample_loads_and_fits_the_ant():
    data = load_dataset(RECORDED)
    assert len(data) == 2514
    assert (int(data.terminated.sum()), int(data.truncated.sum()), len(data.episode_returns())) == (5, 7, 12)
    env = make_env("ant-random-v2")
    data.check_env("recorded", env.observation_space, env.action_space)
    inside = np.flatnonzero(~(data.terminated | data.truncated))
    np.testing.assert_array_equal(data.next_observations[inside], data.observations[inside + 1])


def test_the_recorded_sample_can_be_stepped_again():
    env = make_env("ant-random-v2").unwrapped
    env.reset(seed=0)
    data = load_dataset(RECORDED)
    starts = np.concatenate([[0], np.flatnonzero(data.terminated | data.truncated)[:-1] + 1])
    with h5py.File(RECORDED) as file:
        for start in starts:
            env.set_state(file["infos/qpos"][start], file["infos/qvel"][start])
            for row in range(start, start + 5):
                observation, reward, *_ = env.step(data.actions[row])
                # Start states are recorded as float32: the motion is as close as that rounding lets it be.
                np.testing.assert_allclose(observation, data.next_observations[row], atol=1e-3)
                assert reward == pytest.approx(data.rewards[row], abs=1e-4)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_flags_and_rewards_may_have_any_numeric_type_and_one_column(path, dtype, shape):
    given = columns()
    for key in ("terminals", "timeouts"):
        given[key] = given[key].astype(dtype).reshape(shape)
    given["rewards"] = given["rewards"].astype(np.float64).reshape(shape)
    given["observations"] = given["observations"].astype(np.float64)
    data = load_dataset(write(path, given))
    assert data.observations.dtype == data.rewards.dtype == np.float32
    assert data.rewards.shape == data.terminated.shape == (10,)
    np.testing.assert_array_equal(np.flatnonzero(data.terminated), [3])


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_integer_actions_are_discrete(path, shape):
    given = columns()
    given["actions"] = (np.arange(10) % 2).reshape(shape)
    data = load_dataset(write(path, given))
    assert data.discrete and data.action_size is None
    assert data.actions.dtype == np.int32 and data.actions.shape == (10,)


@pytest.mark.parametrize(
    "options", [{"compression": "gzip"}, {"compression": "lzf", "shuffle": True}, {"chunks": True}]
)
def test_compressed_and_chunked_files_load(tmp_path, options):
    given = columns()
    data = load_dataset(write(tmp_path / "data.hdf5", given, **options))
    np.testing.assert_array_equal(data.observations, given["observations"])


def test_the_format_is_told_from_the_content(tmp_path):
    write(tmp_path / "data.npz", columns())
    (tmp_path / "data.npz").rename(tmp_path / "data.hdf5")
    assert len(load_dataset(tmp_path / "data.hdf5")) == 10


def test_an_archive_may_be_compressed(tmp_path):
    np.savez_compressed(tmp_path / "data.npz", **columns())
    assert len(load_dataset(tmp_path / "data.npz")) == 10


def load_error(path):
    with pytest.raises(DataError) as error:
        load_dataset(path)
    message = str(error.value)
    assert str(path) in message and "\n" not in message
    return message


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "terminals"])
def test_a_missing_key_is_named(path, key):
    given = columns()
    del given[key]
    assert f"key '{key}' is missing" in load_error(write(path, given))


@pytest.mark.parametrize("key", ["observations", "actions", "terminals", "timeouts", "next_observations"])
def test_lengths_that_differ_are_named(path, key):
    given = columns()
    given[key] = given[key][:-1]
    assert f"key '{key}' has 9 rows but 'rewards' has 10" in load_error(write(path, given))


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "next_observations"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_named_with_the_first_row(path, key, value):
    given = columns()
    given[key][6] = value
    given[key][8] = -value
    message = load_error(write(path, given))
    assert key in message and "first in row 6" in message


def test_a_flag_that_is_nan_is_named(path):
    given = columns()
    given["terminals"] = np.where(np.arange(10) == 4, np.nan, 0.0)
    assert "key 'terminals' has NaN or infinite values, first in row 4" in load_error(write(path, given))


@pytest.mark.parametrize(
    ("key", "values", "words"),
    [
        ("rewards", np.zeros((10, 2)), "has shape (10, 2)"),
        ("observations", np.zeros((10, 2, 2)), "has shape (10, 2, 2)"),
        ("rewards", np.float32(1.0), "has shape ()"),
        ("actions", np.array([b"left"] * 10), "not numbers"),
        ("actions", np.zeros(10, complex), "not numbers"),
        ("actions", np.full(10, -1), "outside 0..2^31-1"),
        ("next_observations", np.zeros((10, 3), np.float32), "has 3 columns but 'observations' has 4"),
        ("observations", np.zeros((10, 0), np.float32), "holds no values"),
    ],
)
def test_shapes_and_types_that_make_no_sense_are_named(path, key, values, words):
    message = load_error(write(path, {**columns(), key: values}))
    assert f"key '{key}'" in message and words in message


def test_a_file_without_rows_says_so(path):
    assert "holds no values" in load_error(write(path, {key: values[:0] for key, values in columns().items()}))


@pytest.mark.parametrize("share", [0.99, 0.7, 0.3, 0.05])
def test_a_truncated_file_is_damaged(path, share):
    write(path, columns(3000))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "is truncated or damaged" in load_error(path)


def test_damaged_compressed_bytes_are_damaged(tmp_path):
    path = write(tmp_path / "data.hdf5", columns(3000), compression="gzip")
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        chunk = file["observations"].id.get_chunk_info(0)
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    path.write_bytes(content)
    assert "is truncated or damaged" in load_error(path)


@pytest.mark.parametrize(("content", "words"), [(b"", "is empty"), (b"a text file", "neither HDF5 nor .npz")])
def test_another_kind_of_file_is_refused(path, content, words):
    path.write_bytes(content)
    assert words in load_error(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    assert "no such file" in load_error(tmp_path / "none.hdf5")
    assert "is a folder" in load_error(tmp_path)


def test_pickled_objects_are_never_loaded(tmp_path):
    given = {**columns(), "rewards": np.array([{}] * 10, object)}
    np.savez(tmp_path / "data.npz", **given)
    assert "key 'rewards' holds object, not numbers" in load_error(tmp_path / "data.npz")


def test_a_declared_size_beyond_the_files_bytes_is_refused_before_reading(tmp_path):
    path = write(tmp_path / "data.hdf5", columns())
    with h5py.File(path, "a") as file:
        for key in list(file):
            shape = (10**8, *file[key].shape[1:])
            del file[key]
            file.create_dataset(key, shape=shape, dtype=np.float32)
    assert "more than the file holds" in load_error(path)


def test_an_archive_header_beyond_the_members_bytes_is_refused(tmp_path):
    path = write(tmp_path / "data.npz", columns())
    huge = tmp_path / "huge.npz"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(huge, "w") as target:
        for info in source.infolist():
            content = source.read(info)
            target.writestr(info.filename, content.replace(b"(10,", b"(99,") if "rewards" in info.filename else content)
    assert "key 'rewards' declares 396 bytes" in load_error(huge)


def test_a_sound_file_is_not_called_damaged(tmp_path):
    """Compressed in a way that is not installed, or still open in the program that writes it."""
    path = write(tmp_path / "data.hdf5", columns())
    with h5py.File(path, "a") as file:
        del file["rewards"]
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_chunk((10,))
        settings.set_filter(300, h5py.h5z.FLAG_OPTIONAL)  # as Blosc, which a HDF5 without plugins lacks
        data = h5py.h5d.create(file.id, b"rewards", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((10,)), settings)
        data.write_direct_chunk((0,), b"packed" * 5)
    message = load_error(path)
    assert "key 'rewards' is compressed with" in message and "h5repack -f GZIP=1" in message
    assert "hdf5plugin" in message and "damaged" not in message
    with h5py.File(tmp_path / "open.hdf5", "w", libver="latest") as file:
        file["rewards"] = np.zeros(3)
        file.flush()
        shutil.copy(tmp_path / "open.hdf5", tmp_path / "copy.hdf5")
        code = f"from awac.data.sources import load_dataset; load_dataset({str(tmp_path / 'open.hdf5')!r})"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "is still open in the program that writes it; close it there" in run.stderr
    assert "is still open in the program that writes it" in load_error(tmp_path / "copy.hdf5")


@pytest.mark.parametrize("link", [h5py.ExternalLink("other.hdf5", "/rewards"), h5py.SoftLink("/actions")])
def test_a_file_cannot_reach_into_others(tmp_path, link):
    path = write(tmp_path / "data.hdf5", columns())
    with h5py.File(path, "a") as file:
        del file["rewards"]
        file["rewards"] = link
    assert "key 'rewards' is a link" in load_error(path)


def test_a_group_in_place_of_an_array_is_named(tmp_path):
    path = write(tmp_path / "data.hdf5", columns())
    with h5py.File(path, "a") as file:
        del file["rewards"]
        file.create_group("rewards")
    assert "key 'rewards' is a group" in load_error(path)


@pytest.mark.parametrize("texts", [["a"] * 10, np.array([b"a"] * 10)])
def test_ids_that_are_texts_are_refused_by_name(tmp_path, texts):
    path = write(tmp_path / "d.hdf5", {**columns(), "episode_id": texts})
    with pytest.raises(DataError, match="key 'episode_id' holds texts, which are ids in tables only; store numbers"):
        load_dataset(path)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o007, 0o660), (0o777, 0o600)])
def test_the_umask_decides_who_may_read_a_file(tmp_path, umask, mode):
    def fill(draft):
        draft.write_text("x")
        draft.chmod(0o400)  # as MindSpore leaves its files

    before = os.umask(umask)
    try:
        files.write(tmp_path / "d.csv", fill)
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert (tmp_path / "d.csv").stat().st_mode & 0o777 == mode


def test_a_process_may_have_any_name(tmp_path):
    """The umask is read from a file that holds the name too, which is bytes."""
    code = (
        "import sys; from pathlib import Path; from awac.runs.files import write\n"
        "Path('/proc/self/comm').write_bytes(b'\\xff\\xfe')\n"
        "write(Path(sys.argv[1]), lambda temp: temp.write_text('x'))\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.txt"], check=True)
    assert (tmp_path / "a.txt").read_text() == "x"
