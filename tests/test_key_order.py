"""Named columns of a table follow the keys of a Dict observation; values outside the bounds are said."""

import dataclasses

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from tiny import settings

from awac.cli import main
from awac.data.convert import convert
from awac.data.doctor import examine, quick
from awac.data.sources import load_dataset, resolve_dataset
from awac.envs import Task, make_env
from awac.errors import DataError
from awac.training.offline_evaluation import evaluate_offline


class Plant(gymnasium.Env):
    """Observes named values, of which `press` comes first when it is flattened."""

    action_space = spaces.Discrete(2)

    def __init__(self, **parts):
        sizes = parts or {"temp": 1, "press": 1}
        bound = {"temp": 200.0, "press": 10.0}
        self.observation_space = spaces.Dict(
            {key: spaces.Box(0, bound.get(key, 1e4), (size,)) for key, size in sizes.items()}
        )

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}


@pytest.fixture(autouse=True)
def plant(monkeypatch):
    spec = gymnasium.envs.registration.EnvSpec("Plant-v0", Plant, max_episode_steps=9)
    monkeypatch.setitem(gymnasium.registry, "Plant-v0", spec)


def table(path, names, following=(), rows=20):
    """Value i of row r is 100 (i + 1) + r; those of the next observation are larger by one."""
    header = ",".join([*names, *following, "action_0", "reward", "terminated"])
    places = [(i, late) for late, part in enumerate((names, following)) for i in range(len(part))]
    values = [[100 * (i + 1) + row + late for i, late in places] for row in range(rows)]
    lines = [",".join(map(str, [*cells, row % 2, row, 0])) for row, cells in enumerate(values)]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def first(path, **parts):
    """The first observation as the environment of these parts gets it, and the log."""
    env = make_env("Plant-v0", env_kwargs=parts)
    data, origin = resolve_dataset(path, env=env)
    return data.observations[0].tolist(), data.next_observations[0].tolist(), origin


@pytest.mark.parametrize("pattern", ["obs_{}", "obs.{}", "observation.{}_0", "state_{}"])
def test_columns_are_in_the_order_of_the_keys(tmp_path, pattern):
    names = [pattern.format(key) for key in ("temp", "press")]
    path = table(tmp_path / "d.csv", names, [f"next_{name}" for name in names])
    observation, following, origin = first(path)
    assert observation == [200, 100] and following == [201, 101]
    assert any("observations in the order of the task's keys: press, temp" in note for note in origin.notes)
    assert not any("task's keys" in text or "Dict" in text for text in origin.warnings)
    assert any("order of the task's keys" in finding.text for finding in examine(str(path), "Plant-v0"))


def test_mapped_and_whole_names_are_compared_too(tmp_path):
    path = table(tmp_path / "d.csv", ["temp", "press"])
    (tmp_path / "d.columns.yaml").write_text("observations: [temp, press]\n")
    assert first(path)[0] == [200, 100]
    path = table(tmp_path / "e.csv", ["state_0", "obs_1", "obs_0"])
    assert first(path, state=1, obs=2)[0] == [300, 200, 100]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["obs_pos_1", "obs_pos_0", "obs_arm"], [300, 200, 100]),
        (["obs_pos_x", "obs_arm", "obs_pos_y"], [200, 100, 300]),
        (["obs_arm", "obs_pos_0", "obs_pos_1"], [100, 200, 300]),
    ],
)
def test_vectors_are_ordered_by_number_and_else_as_in_the_header(tmp_path, names, expected):
    assert first(table(tmp_path / "d.csv", names), pos=2, arm=1)[0] == expected


def test_a_longer_key_comes_before_its_beginning(tmp_path):
    names = ["obs_pos_goal_0", "obs_pos_goal_1", "obs_pos_0"]
    assert first(table(tmp_path / "d.csv", names), pos=1, pos_goal=2)[0] == [300, 100, 200]


def test_numbered_columns_stay_and_say_nothing(tmp_path):
    observation, _, origin = first(table(tmp_path / "d.csv", ["obs_0", "obs_1"]))
    assert observation == [100, 200] and not any("keys" in text for text in (*origin.notes, *origin.warnings))


def test_names_that_are_not_the_keys_are_a_warning(tmp_path):
    path = table(tmp_path / "d.csv", ["obs_t", "obs_p"])
    with pytest.warns(UserWarning, match=r"observes press, temp, in this order; columns obs_t, obs_p are taken"):
        assert load_dataset(path, "Plant-v0").observations[0].tolist() == [100, 200]


@pytest.mark.parametrize("names", [["obs_pos_0", "obs_arm_0", "obs_arm_1"], ["obs_pos_0", "obs_pos_x", "obs_arm"]])
def test_columns_that_do_not_make_up_the_keys_are_refused(tmp_path, names):
    with pytest.raises(DataError, match=r"d\.csv: '(arm|pos)' of the task has \d values and the table has .*_0, .*_1"):
        first(table(tmp_path / "d.csv", names), pos=2, arm=1)


def test_convert_says_that_the_names_are_lost(tmp_path):
    path = table(tmp_path / "d.csv", ["obs_temp", "obs_press"])
    assert "the names of observation columns" in convert(str(path), tmp_path / "d.npz")
    assert "names of" not in convert(str(table(tmp_path / "e.csv", ["obs_0", "obs_1"])), tmp_path / "e.npz")


def test_observations_outside_the_bounds_are_a_warning(tmp_path):
    env, task = make_env("Plant-v0"), Task.parse("Plant-v0")
    path = table(tmp_path / "d.csv", ["obs_0", "obs_1"])
    text = r"column 0 (press) reaches from 100 to 118, the task's bounds are [0, 10]; so do columns 1: are the columns"
    with pytest.warns(UserWarning):
        data = load_dataset(path, env)
    assert any(text in finding.text for finding in quick(data, env, task))
    assert any(finding.verdict == "warn" and text in finding.text for finding in examine(str(path), "Plant-v0"))
    rounded = dataclasses.replace(data, observations=np.tile(np.float32([10.05, 100]), (len(data), 1)))
    assert not any("bounds are" in finding.text for finding in quick(rounded, env, task))


def test_a_policy_gets_the_columns_that_it_was_trained_on_in_their_order(tmp_path, graph_mode, capsys):
    """The same rows with their columns in another order give the same estimate; another run can't start from them."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 5)) * [1, 9, 1, 1, 0] + [0, 50, 0, 0, 0]
    tables = {"own": ["obs_temp", "obs_press"], "swapped": ["obs_press", "obs_temp"], "other": ["obs_a", "obs_b"]}
    tables |= {"numbered": ["state_0", "state_1"], "alias": ["obs_t_0", "obs_t_1"]}
    for name, header in tables.items():
        cells = rows[:, [1, 0, 2, 3, 4]] if name == "swapped" else rows
        lines = [",".join(map(repr, row)) for row in cells.tolist()]
        text = "\n".join([",".join([*header, "action_0", "reward", "terminated"]), *lines])
        (tmp_path / f"{name}.csv").write_text(text + "\n")

    def train(data, folder, *more):
        command = [
            "train",
            "--no_env",
            "--dataset",
            str(tmp_path / f"{data}.csv"),
            "--ckpt_path",
            str(tmp_path / folder),
        ]
        return main([*command, "--episode", "1", *more, *settings(offline_train_steps=40, n_steps_per_episode=40)])

    assert train("own", "run") == 0 and train("numbered", "numbers") == 0
    assert train("alias", "more", "--init_from", str(tmp_path / "numbers")) == 0, "other names of the same places"
    few = {"steps": 20, "critics": 1, "hidden": (8,)}
    found = {}
    for name in ("own", "swapped"):
        run, data = str(tmp_path / "run"), str(tmp_path / f"{name}.csv")
        (found[name],) = evaluate_offline(run, dataset=data, fit=few, out=str(tmp_path / "e.csv"))
    own, swapped = (dataclasses.astuple(found[name].estimate) for name in ("own", "swapped"))
    assert own == pytest.approx(swapped, nan_ok=True)
    assert "observations in the order of training: obs_temp, obs_press" in capsys.readouterr().out
    for name in ("swapped", "other"):
        assert train(name, "next", "--init_from", str(tmp_path / "run")) == 1
        assert "was trained on observation columns obs_temp, obs_press, here they are" in capsys.readouterr().err
    evaluate_offline(run, dataset=str(tmp_path / "other.csv"), fit=few, out=str(tmp_path / "e.csv"))
    assert "observations were obs_temp, obs_press in training, here they are obs_a, obs_b" in capsys.readouterr().out
