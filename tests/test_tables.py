"""Tables: which column is what, rows that don't fit their header, blanks, ids, and the order of rows."""

import numpy as np
import pytest

from awac.data.columns import load
from awac.data.convert import convert
from awac.data.sources import load_dataset, resolve_dataset
from awac.data.sources.resolve import find
from awac.errors import DataError

HEADER = "obs_0,obs_1,action,reward,terminated,truncated"
ROWS = ["0.1,10,0.5,1,0,0", "0.2,20,0.5,2,0,1", "0.3,30,0.5,3,0,0", "0.4,40,0.5,4,1,0"]


def write(path, header, rows):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def columns(header, path, row=None):
    """What a table of two equal rows under a header is read as, and its warnings."""
    width = len(header.split(","))
    recording = find(write(path, header, 2 * [row or ",".join(map(str, range(width)))]))
    return recording.columns, recording.warnings


@pytest.mark.parametrize("quote", ['"note, with a comma"', '"1,000"', '"two\nlines"', '"a ""word"""'])
def test_a_delimiter_in_quotes_moves_no_column(tmp_path, quote):
    path = write(tmp_path / "d.csv", f"note,{HEADER}", [f"{quote},{row}" for row in ROWS])
    data = load_dataset(path)
    np.testing.assert_array_equal(data.observations, np.float32([[0.1, 10], [0.3, 30], [0.4, 40]]))
    assert data.rewards.tolist() == [1, 3, 4]


def test_numbers_in_quotes_are_read_and_separators_of_thousands_are_not(tmp_path):
    quoted = ['"0.1", "10","0.5","1","FALSE","yes"', *ROWS[1:]]
    data = load_dataset(write(tmp_path / "d.csv", HEADER, quoted))
    np.testing.assert_array_equal(data.observations, np.float32([[0.3, 30], [0.4, 40]]))  # the first two are cut
    write(tmp_path / "d.csv", HEADER, [ROWS[0], '0.1,"1,000",0.5,1,0,0'])
    with pytest.raises(DataError, match=r"d\.csv: line 3, column 'obs_1': '1,000' is not a number; .*decimal point"):
        load_dataset(tmp_path / "d.csv")


def test_a_quote_that_is_not_closed_swallows_no_rows(tmp_path):
    rows = [f"{row},fine" for row in ROWS]
    rows[1] = rows[1].replace("fine", '"not')
    with pytest.raises(DataError, match="cannot be read as a table"):
        load_dataset(write(tmp_path / "d.csv", f"{HEADER},note", rows))


@pytest.mark.parametrize("end", ["", ","])
def test_rows_with_names_that_the_header_lacks_are_refused(tmp_path, end):
    """As R's write.table makes them; they would be read one column off."""
    rows = [f'"{i}",{row}{end}' for i, row in enumerate(ROWS, 1)]
    header = f"{HEADER},comment" if end else HEADER
    with pytest.raises(DataError, match=r"line 2 has \d fields, the header has \d names.*row\.names=FALSE"):
        load_dataset(write(tmp_path / "d.csv", header, rows))


def test_a_row_that_is_too_short_is_refused(tmp_path):
    with pytest.raises(DataError, match="line 3 has 5 fields, the header has 6 names"):
        load_dataset(write(tmp_path / "d.csv", HEADER, [ROWS[0], ROWS[1].rpartition(",")[0], *ROWS[2:]]))


@pytest.mark.parametrize("header", [HEADER, f"{HEADER},", f"{HEADER},,"])
def test_blank_fields_at_the_end_of_rows_are_none(tmp_path, header):
    data = load_dataset(write(tmp_path / "d.csv", header, [f"{row}, " for row in ROWS]))
    np.testing.assert_array_equal(data.rewards, [1, 3, 4])


def test_a_name_that_occurs_twice_is_refused_if_it_is_used(tmp_path):
    rows = [f"{row},7" for row in ROWS]
    assert len(load_dataset(write(tmp_path / "d.csv", f"x,x,{HEADER}", [f"0,0,{row}" for row in ROWS]))) == 3
    with pytest.raises(DataError, match="2 columns are named 'obs_1'"):
        load_dataset(write(tmp_path / "d.csv", f"{HEADER},obs_1", rows))


@pytest.mark.parametrize(
    "names",
    [
        "obs_next_0,obs_next_1",
        "obs_0_next,obs_1_next",
        "observation_next_0,observation_next_1",
        "next_obs_0,next_obs_1",
        "state_next[0],state_next[1]",
    ],
)
def test_next_observations_are_never_part_of_the_observation(tmp_path, names):
    read, warnings = columns(f"{HEADER},{names}", tmp_path / "d.csv")
    assert read["observations"].tolist() == [[0, 1]] * 2 and read["next_observations"].tolist() == [[6, 7]] * 2
    assert warnings == ()


@pytest.mark.parametrize(
    "names",
    [
        "obs_t_0,obs_t_1,obs_tp1_0,obs_tp1_1",
        "obs_t_1,obs_t_0,obs_t1_1,obs_t1_0",
        "obs_0_t,obs_1_t,obs_0_tp1,obs_1_tp1",
        "state_0,state_1,state_prime_0,state_prime_1",
        "obs.x,obs.y,obs.x.prime,obs.y.prime",
    ],
)
def test_later_observations_are_never_part_of_the_observation(tmp_path, names):
    read, warnings = columns(f"{names},action,reward,done", tmp_path / "d.csv")
    order = [1, 0] if names.startswith("obs_t_1") else [0, 1]
    assert read["observations"].tolist() == [order] * 2
    assert read["next_observations"].tolist() == [[2 + i for i in order]] * 2
    (warning,) = warnings
    assert "read as the next observation; if they are features, map them in d.columns.yaml" in warning


@pytest.mark.parametrize("names", ["obs_t1,obs_t2,obs_t3", "obs_x,obs_t1,obs_prime", "obs,obs_t1,obs_t2"])
def test_features_that_look_like_later_observations_stay(tmp_path, names):
    read, warnings = columns(f"{names},action,reward,done", tmp_path / "d.csv")
    assert read["observations"].tolist() == [[0, 1, 2]] * 2 and "next_observations" not in read and warnings == ()


def test_two_names_of_one_vector_are_a_warning(tmp_path):
    read, warnings = columns("obs_0,obs_1,state_0,state_1,action,reward,done", tmp_path / "d.csv")
    assert read["observations"].shape == (2, 4)
    assert len(warnings) == 1 and "observations is made up of columns under several names (obs, state)" in warnings[0]


def test_named_next_observations_are_paired_under_either_form(tmp_path):
    read, _ = columns("obs.x,obs.y,action,reward,done,obs_next.y,obs.x_next,obs.is_valid,obs.time", tmp_path / "d.csv")
    assert read["observations"].tolist() == [[0, 1]] * 2 and read["next_observations"].tolist() == [[6, 5]] * 2
    for header in ("obs.x,action,reward,done,obs.next_gate", "obs_x,action,reward,done,obs_next_waypoint"):
        read, warnings = columns(header, tmp_path / "d.csv")  # a feature, since x has no next
        assert read["observations"].shape == (2, 2) and "next_observations" not in read and warnings == ()


@pytest.mark.parametrize(
    "name", ["state_value", "obs_id", "observation_time", "obs_is_valid", "obs_speed", "obs", "obs_0_1"]
)
def test_columns_about_an_observation_are_not_part_of_it(tmp_path, name):
    read, warnings = columns(f"{HEADER},{name}", tmp_path / "d.csv")
    assert read["observations"].tolist() == [[0, 1]] * 2
    assert len(warnings) == 1 and f"{name}: not read as part of observations" in warnings[0]
    assert "d.columns.yaml" in warnings[0]
    with pytest.warns(UserWarning, match=f"{name}: not read as part of observations"):
        load_dataset(tmp_path / "d.csv", limit=9)


def test_parts_with_two_numbers_are_in_their_order(tmp_path):
    header = "obs[1][0],obs[0][10],obs[0][2],obs[0][0],action,reward,done"
    read, warnings = columns(header, tmp_path / "d.csv")
    assert read["observations"].tolist() == [[3, 2, 1, 0]] * 2 and warnings == ()


LARGE = 2**60


@pytest.mark.parametrize("name", ["{}", "ep-{}", "7f9c24e8-3b12-4c3e-9d1a-{:012d}"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_ids_of_episodes_are_exact_and_may_be_texts(tmp_path, name, suffix):
    ids = [name.format(LARGE + i // 2) for i in range(6)]
    if suffix == ".csv":
        header = "obs_0,action,reward,terminated,episode"
        write(tmp_path / "d.csv", header, [f"{i},0.5,1,0,{episode}" for i, episode in enumerate(ids)])
    else:
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        given = {"obs_0": np.arange(6.0), "action": np.full(6, 0.5), "reward": np.ones(6), "terminated": np.zeros(6)}
        given["episode"] = list(map(int, ids)) if name == "{}" else ids
        parquet.write_table(pyarrow.table(given), tmp_path / "d.parquet")
    data, origin = resolve_dataset(tmp_path / f"d{suffix}")
    assert origin.episodes == 3 and data.observations[:, 0].tolist() == [0, 2, 4]


def test_a_blank_id_is_refused(tmp_path):
    rows = ["0,0.5,1,0,a", "1,0.5,1,0,", "2,0.5,1,0,b"]
    with pytest.raises(DataError, match=r"column 'episode' names no episode in row 1"):
        load_dataset(write(tmp_path / "d.csv", "obs_0,action,reward,terminated,episode", rows))


@pytest.mark.parametrize("blank", ["", "NA", "nan", "NaN", "null", "None", '""'])
def test_a_blank_is_no_number_and_legal_where_nothing_follows(tmp_path, blank):
    header = "obs_0,action,reward,terminated,truncated,next_obs_0"
    rows = ["0,0.5,1,0,0,1", f"1,0.5,1,0,1,{blank}", "2,0.5,1,0,0,3", f"3,0.5,1,1,0,{blank}"]
    assert load_dataset(write(tmp_path / "d.csv", header, rows)).observations[:, 0].tolist() == [0, 2, 3]
    with pytest.raises(DataError, match="rewards has NaN"):
        load_dataset(write(tmp_path / "d.csv", header, [rows[0], f"1,0.5,{blank},0,0,2", *rows[2:]]))


def test_a_mapping_leaves_the_other_columns_as_they_are_recognised(tmp_path):
    path = write(tmp_path / "d.csv", HEADER.replace("obs_", "heat_"), ROWS)
    (tmp_path / "d.columns.yaml").write_text("observations: [heat_1, heat_0]\n")
    data = load_dataset(path)
    assert data.observations[0].tolist() == [10, pytest.approx(0.1)]
    assert data.rewards.tolist() == [1, 3, 4] and data.truncated.tolist() == [True, False, False]


def test_a_whole_mapping_decides_alone(tmp_path):
    """`done` is somebody's own word here, and `ok` is no number."""
    header = "x,valve,profit,tripped,eod,done,next_obs_0,obs_next_1"
    path = write(
        tmp_path / "d.csv",
        header,
        ["0,0.5,1,0,0,ok,1,1", "1,0.5,2,0,1,ok,2,2", "2,0.5,3,0,0,ok,3,3", "3,0.5,4,1,0,ok,4,4"],
    )
    lines = ["observations: [x]", "actions: [valve]", "rewards: profit", "terminals: tripped", "timeouts: eod"]
    (tmp_path / "d.columns.yaml").write_text("\n".join(lines))
    with pytest.warns(UserWarning, match="done, next_obs_0, obs_next_1: not read, as d.columns.yaml says what is"):
        data = load_dataset(path)
    assert data.rewards.tolist() == [1, 3, 4] and data.truncated.tolist() == [True, False, False]


@pytest.mark.parametrize("header", ["t,T,obs_0,action,reward,done", "step,step,obs_0,action,reward,done"])
def test_what_may_not_count_steps_is_left_alone(tmp_path, header):
    read, warnings = columns(header, tmp_path / "d.csv")
    assert not {"t", "step"} & read.keys() and read["observations"].shape == (2, 1) and warnings == ()


def test_features_with_such_words_stay(tmp_path):
    header = "obs.temp.value,obs.flow.value,obs_time_of_day,action,reward,done"
    read, warnings = columns(header, tmp_path / "d.csv")
    assert read["observations"].shape == (2, 3) and warnings == ()
    read, warnings = columns("obs_value,obs_time,action,reward,done", tmp_path / "d.csv")
    assert read["observations"].shape == (2, 2) and warnings == ()


def test_a_mapped_terminal_flag_comes_before_recognised_ones(tmp_path):
    path = write(tmp_path / "d.csv", f"{HEADER},tripped", [f"{row},{i == 2:d}" for i, row in enumerate(ROWS)])
    (tmp_path / "d.columns.yaml").write_text("terminals: tripped\n")
    assert load_dataset(path).terminated.tolist() == [False, True]


def test_next_observations_are_paired_with_mapped_observations_or_left_out(tmp_path):
    rows = [f"{row},{i}1,{i}2" for i, row in enumerate(ROWS)]
    path = write(tmp_path / "d.csv", f"{HEADER},next_obs_0,next_obs_1", rows)
    (tmp_path / "d.columns.yaml").write_text("observations: [obs_1, obs_0]\n")
    assert load_dataset(path).next_observations[1].tolist() == [12, 11]
    (tmp_path / "d.columns.yaml").write_text("observations: [obs_1]\n")
    with pytest.warns(UserWarning, match="next_obs_0, next_obs_1: not read, as d.columns.yaml maps observations"):
        data = load_dataset(path)
    assert data.observations.shape == (3, 1) and data.next_observations[1].tolist() == [40]


def log(episode, step, **others):
    """Rows of a plain log in the given order; an observation is (episode, step)."""
    episode, step = np.asarray(episode), np.asarray(step)
    observations = np.stack([episode, step], axis=1).astype(np.float32)
    rows = len(step)
    return {
        "observations": observations,
        "actions": np.zeros((rows, 1)),
        "rewards": np.ones(rows),
        "terminals": np.zeros(rows, bool),
        "episode": episode,
        "step": step,
        **others,
    }


SORTED = (np.repeat([0, 1, 2], 4), np.tile(np.arange(4), 3))
MIXED = np.random.default_rng(1).permutation(12)
DISORDERS = {
    "interleaved": (np.tile([0, 1, 2], 4), np.repeat(np.arange(4), 3)),
    "shuffled": (SORTED[0][MIXED], SORTED[1][MIXED]),
    "shuffled within": (SORTED[0], np.tile([2, 0, 3, 1], 3)),
    "backwards": (SORTED[0], SORTED[1][::-1]),
}


@pytest.mark.parametrize("kind", DISORDERS)
def test_rows_out_of_order_are_refused_where_order_makes_the_transitions(kind):
    assert load(log(*SORTED), "d").warnings == ()
    given = log(*DISORDERS[kind])
    with pytest.raises(DataError, match="d: rows are not in order: .*sort them by episode and step"):
        load(given, "d")
    loaded = load({**given, "next_observations": given["observations"] + [0, 1]}, "d")
    assert any("are the rows in order" in text and "only the returns" in text for text in loaded.warnings)


def test_a_tables_steps_are_compared(tmp_path):
    rows = [f"{step},{step},0.5,1,0,{episode}" for episode, step in zip(*DISORDERS["shuffled within"], strict=True)]
    path = write(tmp_path / "d.csv", "step,obs_0,action,reward,terminated,episode", rows)
    with pytest.raises(DataError, match="'step' falls within episodes 6 times, first after row 0"):
        load_dataset(path)
    header = "t,obs_0,action,reward,terminated,episode"
    assert len(load_dataset(write(path, header, [f"2020-01-0{row}" for row in rows]))) == 9  # no number of a step


def test_an_id_may_be_used_again_once_its_episode_is_over():
    """As in files that were joined; steps that begin anew or a flag tell so, else it is doubtful, and often certain."""
    episode, step = (np.concatenate([values, values]) for values in SORTED)
    given = log(episode, step)
    assert load(given, "d").warnings == () and load(given, "d").data.truncated.sum() == 6
    del given["step"]
    assert load({**given, "timeouts": step == 3}, "d").warnings == ()
    assert any("row 12 goes on with an episode of 'episode'" in text for text in load(given, "d").warnings)
    often = log(*(np.concatenate([values] * 5) for values in SORTED))
    del often["step"]
    with pytest.raises(DataError, match="row 12 goes on .*give different episodes different ids, or sort them"):
        load(often, "d")


def test_a_quantity_that_falls_is_only_doubtful():
    given = log(SORTED[0], SORTED[1] * -0.5)
    assert any("'step' falls within episodes 9 times" in text for text in load(given, "d").warnings)
    del given["episode"]  # nothing says that the episodes have ended
    given["step"] = SORTED[1] * 2  # no count of rows
    assert any("'step' falls within episodes 2 times" in text for text in load(given, "d").warnings)


def test_steps_that_are_counted_anew_begin_an_episode(tmp_path):
    rows = [f"{t},0.5,1,0,{t}" for t in (1, 2, 0, 1, 2, 3, 0, 1)]  # the first episode's beginning is not there
    path = write(tmp_path / "d.csv", "obs_0,action,reward,terminated,t", rows)
    loaded = load(find(path).columns, "d")
    assert np.flatnonzero(loaded.data.truncated).tolist() == [0, 3, 4] and loaded.lengths.tolist() == [2, 4, 2]
    assert "episode ends from 't'" in loaded.notes and loaded.warnings == ()
    switch = write(path, "obs_0,action,reward,terminated,t", [f"{t},0.5,1,0,{t % 2}" for t in range(6)])
    assert "episode ends from 't'" not in load(find(switch).columns, "d").notes


def test_an_unknown_key_of_a_mapping_is_named(tmp_path):
    path = write(tmp_path / "d.csv", f"{HEADER},batch", [f"{row},a" for row in ROWS])
    (tmp_path / "d.columns.yaml").write_text("episode: batch\n")
    load_dataset(path)
    (tmp_path / "d.columns.yaml").write_text("episodes: batch\n")
    with pytest.raises(DataError, match="d.columns.yaml: unknown key 'episodes': did you mean 'episode'?"):
        load_dataset(path)


@pytest.mark.parametrize("name", ["on", "01", "null", "~", "1e3", "2024-01-01", "1_000", "yes"])
def test_names_in_a_mapping_are_texts(tmp_path, name):
    path = write(tmp_path / "d.csv", HEADER.replace("obs_0", name), ROWS)
    (tmp_path / "d.columns.yaml").write_text(f"observations: [{name}]\n")
    assert load_dataset(path).observations[0].tolist() == [pytest.approx(0.1)]


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ("observations: [obs_0]\nobservations: [obs_1]\n", "not readable as YAML .*'observations' is given twice"),
        ("observations: [obs_0, obs_1, obs_0]\n", "observations: names column 'obs_0' twice"),
        ("observations:\n", "observations: names no column"),
    ],
)
def test_a_mapping_that_names_something_twice_or_not_at_all_is_refused(tmp_path, mapping, words):
    path = write(tmp_path / "d.csv", HEADER, ROWS)
    (tmp_path / "d.columns.yaml").write_text(mapping)
    with pytest.raises(DataError, match=rf"d\.columns\.yaml: {words}"):
        load_dataset(path)


def test_next_observations_after_a_reset_are_noticed():
    """As vector environments store them that reset by themselves, and np.roll."""
    given = log(*SORTED)
    del given["step"]
    given["next_observations"] = np.roll(given["observations"], -1, axis=0)
    text = "next observations of 2 of 2 cut rows are the next episode's first observation"
    assert any(text in warning for warning in load(given, "d").warnings)
    steady = {**given, "observations": np.arange(24.0, dtype=np.float32).reshape(12, 2)}
    steady["next_observations"] = steady["observations"] + 2
    assert load(steady, "d").warnings == (), "the task went on after the cut"
    given["next_observations"][3] += 0.5
    given["next_observations"][7] += 0.5
    assert load(given, "d").warnings == ()


def test_a_table_of_several_blocks_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("awac.data.sources.tables._BLOCK", 3)
    rows = [f"{i},0.5,{i % 2},{str(i % 5 == 4)},ep{i // 5}" for i in range(20)]
    path = write(tmp_path / "d.csv", "obs_0,action,reward,terminated,episode", [*rows[:5], "", "", "", *rows[5:]])
    data = load_dataset(path)
    assert data.observations[:, 0].tolist() == list(range(20)) and data.terminated.sum() == 4
    write(path, "obs_0,action,reward,terminated,episode", [*rows[:9], "x,0.5,1,True,ep1", *rows[10:]])
    with pytest.raises(DataError, match="line 11, column 'obs_0': 'x' is not a number"):
        load_dataset(path)


def test_an_empty_line_is_no_row(tmp_path):
    path = write(tmp_path / "d.csv", f"{HEADER},episode", [f"{ROWS[0]},a", "", f"{ROWS[3]},a", ""])
    assert len(load_dataset(path)) == 2
    assert "2 rows" in convert(str(path), tmp_path / "e.csv")


@pytest.mark.parametrize("cell", ["0_1", "_1"])
def test_an_underscore_is_no_part_of_a_number(tmp_path, cell):
    with pytest.raises(DataError, match=f"column 'obs_0': '{cell}' is not a number"):
        load_dataset(write(tmp_path / "d.csv", HEADER, [*ROWS[:2], ROWS[2].replace("0.3", cell)]))


@pytest.mark.parametrize("before", ["\n", "\n  \n", "sep=;\n", "SEP=|\n", "\nsep=,\n"])
def test_empty_lines_and_excels_line_before_the_header_are_skipped(tmp_path, before):
    delimiter = before.strip()[-1:] or ","
    lines = [line.replace(",", delimiter) for line in (HEADER, *ROWS)]
    (tmp_path / "d.csv").write_text(before + "\n".join(lines), encoding="utf-8")
    assert load_dataset(tmp_path / "d.csv").rewards.tolist() == [1, 3, 4]
    (tmp_path / "d.csv").write_text(before + "\n".join([*lines[:2], lines[2].replace("20", "x")]), encoding="utf-8")
    with pytest.raises(DataError, match=f"line {3 + before.count(chr(10))}, column 'obs_1'"):
        load_dataset(tmp_path / "d.csv")


def test_lists_are_no_ids(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    given = {name: np.zeros(2) for name in ("obs_0", "action", "reward", "terminated")}
    parquet.write_table(pyarrow.table({**given, "episode": [[0], [1]]}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match="column 'episode' holds lists"):
        load_dataset(tmp_path / "d.parquet")
    parquet.write_table(pyarrow.table({**given, "t": [[0, 1], [2, 3]]}), tmp_path / "d.parquet")
    assert len(load_dataset(tmp_path / "d.parquet", limit=9)) == 1
