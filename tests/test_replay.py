"""The replay never evicts offline rows, gives each region its share, and resumes exactly."""

import sys
from pathlib import Path

import numpy as np
import pytest

from awac.data.normalizer import Normalizer
from awac.data.replay import Replay
from awac.data.transitions import Transitions
from awac.errors import CheckpointError, DataError

OBS, ACTION = 3, 2
REWARD, TERMINATED = -2, -1


def transitions(rows, discrete=False):
    """Rows whose reward is their number, so that a batch tells which rows it holds."""
    rng = np.random.default_rng(0)
    number = np.arange(rows, dtype=np.float32)
    return Transitions(
        rng.normal(size=(rows, OBS)).astype(np.float32),
        (np.arange(rows) % 3).astype(np.int32) if discrete else rng.uniform(-1, 1, (rows, ACTION)).astype(np.float32),
        number,
        rng.normal(size=(rows, OBS)).astype(np.float32),
        number % 4 == 0,
        np.zeros(rows, bool),
    )


def add_online(replay, count, start=0):
    """Online rows have rewards -1, -2, …"""
    for i in range(start, start + count):
        replay.add(np.full(OBS, i / 100), np.full(ACTION, 0.5), -1.0 - i, np.zeros(OBS), i % 2 == 0)


def replay_of(offline=50, capacity=20):
    return Replay(transitions(offline) if offline else None, Normalizer.identity(OBS), capacity, ACTION)


@pytest.mark.parametrize("discrete", [False, True])
def test_rows_are_packed_in_the_documented_order(discrete):
    data = transitions(40, discrete)
    normalizer = Normalizer.fit(data.observations)
    replay = Replay(data, normalizer, 10)
    batch = replay.sample(np.random.default_rng(0), 2, 30, 1.0)
    assert batch.shape == (2, 30, 2 * OBS + (1 if discrete else ACTION) + 2)
    assert batch.dtype == np.float32 and batch.flags.c_contiguous
    for row in batch.reshape(-1, replay.width):
        i = int(row[REWARD])
        np.testing.assert_array_equal(row[:OBS], normalizer(data.observations[i]))
        np.testing.assert_array_equal(row[OBS : 2 * OBS], normalizer(data.next_observations[i]))
        np.testing.assert_array_equal(row[2 * OBS : REWARD], data.actions[i].reshape(-1))
        assert row[TERMINATED] == data.terminated[i]


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.25, 16), (0.5, 32), (0.99, 63), (1.0, 64)])
def test_every_batch_has_exactly_the_offline_share(share, expected):
    replay = replay_of()
    add_online(replay, 5)
    batches = replay.sample(np.random.default_rng(0), 20, 64, share)
    np.testing.assert_array_equal((batches[..., REWARD] >= 0).sum(axis=1), expected)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0, None])
@pytest.mark.parametrize(("offline", "online"), [(50, 0), (0, 5)])
def test_an_empty_region_leaves_the_batch_to_the_other(share, offline, online):
    replay = replay_of(offline)
    add_online(replay, online)
    rewards = replay.sample(np.random.default_rng(0), 3, 16, share)[..., REWARD]
    assert ((rewards >= 0) == (offline > 0)).all()


def test_without_a_share_the_union_is_drawn_uniformly():
    replay = replay_of(offline=30, capacity=10)
    add_online(replay, 10)
    rewards = replay.sample(np.random.default_rng(0), 200, 100, None)[..., REWARD]
    values, counts = np.unique(rewards, return_counts=True)
    assert len(values) == 40
    assert abs(counts - 500).max() < 5 * np.sqrt(500)


def test_offline_rows_are_never_evicted():
    replay = replay_of(offline=50, capacity=8)
    rng = np.random.default_rng(0)
    before = replay.sample(rng, 100, 50, 1.0).copy()
    add_online(replay, 1000)
    after = replay.sample(np.random.default_rng(0), 100, 50, 1.0)
    np.testing.assert_array_equal(before, after)
    assert set(after[..., REWARD].reshape(-1)) == set(range(50))
    assert (replay.offline_size, replay.online_size, replay.inserted) == (50, 8, 1000)


def test_the_ring_keeps_the_newest_online_rows():
    replay = replay_of(capacity=8)
    add_online(replay, 21)
    np.testing.assert_array_equal(replay.rows_since(0)[:, REWARD], -1.0 - np.arange(13, 21))
    seen = set(replay.sample(np.random.default_rng(0), 50, 20, 0.0)[..., REWARD].reshape(-1))
    assert seen == {-1.0 - i for i in range(13, 21)}


@pytest.mark.parametrize(("since", "expected"), [(0, 13), (13, 13), (18, 18), (21, 21)])
def test_rows_since_gives_what_was_added_later_and_is_still_there(since, expected):
    replay = replay_of(capacity=8)
    add_online(replay, 21)
    np.testing.assert_array_equal(replay.rows_since(since)[:, REWARD], -1.0 - np.arange(expected, 21))


def test_storage_grows_with_the_rows_and_not_with_the_capacity():
    replay = replay_of(capacity=10**9)
    add_online(replay, 5000)
    assert replay.online_size == 5000
    assert replay._online.nbytes < 10**6


@pytest.mark.parametrize("rows", [0, 5, 8, 21])
def test_a_restored_memory_draws_the_same_rows_and_goes_on_the_same_way(rows):
    replay, resumed = replay_of(capacity=8), replay_of(capacity=8)
    add_online(replay, rows)
    add_online(resumed, 3, start=500)
    resumed.restore(replay.rows_since(0), replay.inserted)
    for each in (replay, resumed):
        add_online(each, 2, start=rows)
    assert replay.inserted == resumed.inserted
    batches = [each.sample(np.random.default_rng(1), 4, 16, 0.5) for each in (replay, resumed)]
    np.testing.assert_array_equal(*batches)


@pytest.mark.parametrize("change", [{"rows": np.zeros((5, 4), np.float32)}, {"inserted": 6}])
def test_rows_of_another_memory_are_refused(change):
    replay = replay_of(capacity=8)
    add_online(replay, 5)
    with pytest.raises(CheckpointError):
        replay_of(capacity=8).restore(**{"rows": replay.rows_since(0), "inserted": replay.inserted, **change})


def test_a_row_may_come_from_a_vector_environment_of_one():
    replay = replay_of(0)
    replay.add(np.ones((1, OBS)), np.ones((1, ACTION)), np.ones(1), np.ones((1, OBS)), np.array([True]))
    assert replay.rows_since(0).tolist() == [[1.0] * (2 * OBS + ACTION + 2)]


@pytest.mark.parametrize("wrong", [{"action": 0.7}, {"next_observation": np.zeros(OBS + 1)}])
def test_a_refused_row_leaves_the_oldest_one_as_it_is(wrong):
    replay = replay_of(0, capacity=2)
    add_online(replay, 2)
    before = replay.rows_since(0)
    row = {"observation": np.ones(OBS), "action": np.ones(ACTION), "next_observation": np.ones(OBS), **wrong}
    with pytest.raises(DataError):
        replay.add(**row, reward=0.0, terminated=False)
    np.testing.assert_array_equal(replay.rows_since(0), before)
    assert replay.inserted == 2


def test_clear_online_leaves_the_offline_rows():
    replay = replay_of()
    add_online(replay, 5)
    replay.clear_online()
    assert (replay.offline_size, replay.online_size) == (50, 0)
    assert (replay.sample(np.random.default_rng(0), 1, 32, 0.0)[..., REWARD] >= 0).all()


def test_the_same_generator_state_draws_the_same_batches():
    replay = replay_of()
    first = replay.sample(np.random.default_rng(3), 5, 16, 0.5).copy()
    np.testing.assert_array_equal(first, replay.sample(np.random.default_rng(3), 5, 16, 0.5))


@pytest.mark.parametrize("share", [0.5, None])
def test_sampling_an_empty_memory_is_a_data_error(share):
    with pytest.raises(DataError, match="empty"):
        replay_of(offline=0).sample(np.random.default_rng(0), 1, 4, share)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_a_data_error(share):
    with pytest.raises(DataError, match="offline_share"):
        replay_of().sample(np.random.default_rng(0), 1, 4, share)


class TestNormalizer:
    def test_constant_columns_are_dropped_and_the_rest_is_standardised(self):
        rng = np.random.default_rng(0)
        observations = rng.normal([5, -2, 0], [3, 0.1, 1], (1000, 3))
        observations = np.insert(observations, 1, 7.3, axis=1).astype(np.float32)
        normalizer = Normalizer.fit(observations)
        np.testing.assert_array_equal(normalizer.columns, [0, 2, 3])
        out = normalizer(observations)
        assert out.dtype == np.float32 and out.shape == (1000, 3)
        np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(out.std(axis=0), 1, atol=1e-3)

    def test_the_output_is_clipped(self):
        normalizer = Normalizer.fit(np.float32([[0, 0.0], [1, 1e-5]]))
        np.testing.assert_array_equal(normalizer(np.array([1e6, -1e6])), [10, -10])

    @pytest.mark.parametrize(
        ("offset", "scale"),
        [(450000, 0.3), (450000, 0.05), (-450000, 0.3), (101325, 0.05), (0, 5e-7), (1e-6, 5e-7), (0, 1e6)],
    )
    def test_small_units_and_large_offsets_are_standardised(self, offset, scale):
        values = np.random.default_rng(0).normal(offset, scale, (5000, 1)).astype(np.float32)
        normalizer = Normalizer.fit(np.concatenate([np.full_like(values, offset), values], axis=1))
        np.testing.assert_array_equal(normalizer.columns, [1])
        again = Normalizer.from_arrays(normalizer.arrays())
        out = again(np.concatenate([values, values], axis=1))
        assert abs(out.mean()) < 2e-3 and out.std() == pytest.approx(1, abs=1e-2)

    @pytest.mark.parametrize("value", [0.1, 450000.3, -7e-9, 0.0])
    def test_rounding_noise_is_constant(self, value):
        steps = np.random.default_rng(0).integers(-1, 2, 1000) * np.spacing(np.float32(value))
        observations = np.stack([np.float32(value) + steps, np.arange(1000)], axis=1).astype(np.float32)
        np.testing.assert_array_equal(Normalizer.fit(observations).columns, [1])

    def test_a_rare_event_in_a_column_with_an_offset_is_kept(self):
        values = np.full((100_000, 1), 101325, np.float32)
        values[77] += 1
        normalizer = Normalizer.fit(values)
        assert normalizer(values)[77] == 10 and np.abs(np.delete(normalizer(values), 77)).max() < 0.1

    def test_what_is_not_used_is_said_in_ranges(self):
        observations = np.random.default_rng(0).normal(size=(50, 12)).astype(np.float32)
        assert Normalizer.fit(observations).describe() == "every observation column varies"
        observations[:, [0, 3, 4, 5, 11]] = 2.5
        text = "5 of 12 observation columns are constant and not used (0, 3-5, 11)"
        assert Normalizer.fit(observations).describe() == text

    @pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4)])
    def test_identity_keeps_all_columns(self, shape):
        normalizer = Normalizer.identity(4)
        observations = np.random.default_rng(0).normal(size=shape)
        np.testing.assert_array_equal(normalizer(observations), observations.astype(np.float32))
        assert normalizer.size == 4

    def test_arrays_bring_back_the_same_normalizer(self):
        observations = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
        normalizer = Normalizer.fit(observations)
        again = Normalizer.from_arrays(normalizer.arrays())
        np.testing.assert_array_equal(again(observations), normalizer(observations))

    @pytest.mark.parametrize("change", [{"mean": None}, {"std": np.zeros(4, np.float32)}, {"obs_size": np.int64(2)}])
    def test_unsound_arrays_are_a_checkpoint_error(self, change):
        arrays = {**Normalizer.identity(4).arrays(), **change}
        with pytest.raises(CheckpointError):
            Normalizer.from_arrays({key: value for key, value in arrays.items() if value is not None})

    @pytest.mark.parametrize("observations", [np.zeros((0, 3), np.float32), np.ones((5, 3), np.float32)])
    def test_nothing_to_fit_is_a_data_error(self, observations):
        with pytest.raises(DataError):
            Normalizer.fit(observations)

    def test_another_observation_size_is_a_data_error(self):
        with pytest.raises(DataError, match="3 values"):
            Normalizer.identity(4)(np.zeros(3))


def resident() -> int:
    """Bytes of this process that are in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is given back on Linux only")
def test_packing_can_take_the_memory_of_the_data():
    data = wide(200_000, 30)
    fields = vars(data).items()
    kept = Replay(Transitions(**{key: value.copy() for key, value in fields}), Normalizer.identity(30), 0)
    before = resident()
    replay = Replay(data, Normalizer.identity(30), 0, release=True)
    grown, table = resident() - before, 4 * len(data) * replay.width
    assert grown < 0.3 * table
    rng, other = np.random.default_rng(0), np.random.default_rng(0)
    np.testing.assert_array_equal(replay.sample(rng, 20, 1000), kept.sample(other, 20, 1000))


def test_observations_that_are_the_next_ones_too_are_not_given_back():
    states = np.random.default_rng(0).normal(size=(200_001, 10)).astype(np.float32)
    data = wide(200_000, 10)
    shared = Transitions(states[:-1], data.actions, data.rewards, states[1:], data.terminated, data.truncated)
    replay = Replay(shared, Normalizer.identity(10), 0, release=True)
    batch = replay.sample(np.random.default_rng(0), 20, 1000).reshape(-1, replay.width)
    rows = batch[:, REWARD].astype(int)
    np.testing.assert_array_equal(batch[:, :10], np.clip(states[rows], -10, 10))
    np.testing.assert_array_equal(batch[:, 10:20], np.clip(states[rows + 1], -10, 10))


def wide(rows, columns):
    """Rows whose reward is their number."""
    rng, no = np.random.default_rng(1), np.zeros(rows, bool)
    states = [rng.normal(size=(rows, columns)).astype(np.float32) for _ in range(2)]
    actions = rng.uniform(-1, 1, (rows, ACTION)).astype(np.float32)
    return Transitions(states[0], actions, np.arange(rows, dtype=np.float32), states[1], no, no)


def test_without_online_rows_the_share_changes_nothing():
    batches = [replay_of().sample(np.random.default_rng(0), 3, 8, share) for share in (None, 0.5, 1.0)]
    for batch in batches[1:]:
        np.testing.assert_array_equal(batch, batches[0])


@pytest.mark.parametrize(
    ("online", "oversampling", "expected"),
    [(10, 1.0, 10 / 110), (10, 4.0, 40 / 140), (50, 4.0, 0.5), (300, 4.0, 0.75), (300, 1.0, 0.75)],
)
def test_online_rows_are_oversampled_until_they_are_half_of_a_batch(online, oversampling, expected):
    replay = replay_of(100, 300)
    add_online(replay, online)
    rewards = replay.sample(np.random.default_rng(0), 200, 100, None, oversampling)[..., REWARD]
    assert (rewards < 0).mean() == pytest.approx(expected, abs=0.015)
