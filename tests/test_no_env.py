"""no_env: a run on the log of a plant, without any environment."""

from __future__ import annotations

import csv
import json

import gymnasium
import numpy as np
import pytest
from tiny import RECORDED, RUN, settings

import awac
from awac import cli
from awac.config import load_config
from awac.data.sources import resolve_alone
from awac.data.spaces import action_space
from awac.errors import ConfigError, DataError, TaskError

ROWS = 400
LOW, HIGH = np.array([0.0, -3.0]), np.array([100.0, 3.0])


def columns(seed=0):
    """Rows of a plant: a valve of 0 to 100 % and an angle of ±3, both set by rule from three measurements."""
    rng = np.random.default_rng(seed)
    observations = rng.normal(size=(ROWS, 3)).astype(np.float32)
    share = 0.5 + 0.5 * np.tanh(observations[:, :2])
    actions = (LOW + (HIGH - LOW) * share).astype(np.float32)
    return observations, actions, -np.abs(observations[:, 0]), np.arange(ROWS) % 50 == 49


def table(path, discrete=False):
    observations, actions, rewards, ends = columns()
    names = ["mode"] if discrete else ["valve", "angle"]
    acted = (observations[:, :1] > 0).astype(int) + 2 * (observations[:, 1:2] > 1) if discrete else actions
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["t", "p", "q", *names, "profit", "failed", "day_end"])
        for row in range(ROWS):
            writer.writerow([*observations[row], *acted[row], rewards[row], 0, int(ends[row])])
    path.with_name(f"{path.stem}.columns.yaml").write_text(
        f"observations: [t, p, q]\nactions: [{', '.join(names)}]\nrewards: profit\nterminals: failed\n"
        "timeouts: day_end\n"
    )


@pytest.fixture
def plant(tmp_path, monkeypatch, graph_mode):
    """A folder with the logs, in which no environment can be made."""
    table(tmp_path / "logs.csv")
    table(tmp_path / "modes.csv", discrete=True)
    monkeypatch.chdir(tmp_path)

    made = []  # an error alone would be taken for an environment that can't be made

    def refuse(*args, **kwargs):
        made.append(args)
        raise AssertionError("an environment is made")

    monkeypatch.setattr(gymnasium, "make", refuse)
    yield tmp_path
    assert not made


def train(*options, dataset="logs.csv", folder="run", **changes):
    return cli.main(["train", "--dataset", dataset, "--no_env", "--ckpt_path", folder, *options, *settings(**changes)])


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_doctor_reads_a_log_as_such_a_run_does(plant, capsys):
    assert cli.main(["doctor", "logs.csv", "--no_env", "--max_episode_steps", "-5"]) == 1
    assert "max_episode_steps = -5 must be positive" in capsys.readouterr().err
    assert cli.main(["doctor", "logs.csv", "--no_env", "--action_low", "0", "-3", "--action_high", "100", "3"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("Verdict: fit (")
    assert "action bounds as given" in out and "actions in environment units [0, 100], [-3, 3], scaled" in out
    for more, words in ((["--no_env", "--task", "x"], "leave them out"), (["--action_low", "0"], "are for --no_env")):
        assert cli.main(["doctor", "logs.csv", *more]) == 1
        assert words in capsys.readouterr().err


def test_a_run_trains_offline_only_and_says_so(plant, capsys):
    assert train() == 0
    out = capsys.readouterr().out
    assert "No environment (no_env): training is offline only, and nothing is evaluated" in out
    assert "Data: action bounds from the data" in out and "No task: observations 3" in out
    assert "Evaluate" not in out and "Switch to online" not in out
    assert [(row["episode"], row["phase"], row["env_steps"]) for row in rows("run/train.csv")] == [
        (str(episode), "offline", "0") for episode in (1, 2, 3)
    ]
    assert not (plant / "run" / "eval.csv").exists()


def test_the_policy_learns_the_rule_in_the_units_of_the_log(plant):
    assert train("--preset", "bc", "--actor_lr", "3e-3", offline_train_steps=2000, n_steps_per_episode=500) == 0
    policy = awac.load_policy("run")
    observations, actions, _, _ = columns(seed=1)
    answers = policy(observations)
    assert policy.task == "" and (answers >= LOW).all() and (answers <= HIGH).all()
    assert (np.abs(answers - actions).mean(axis=0) < 0.1 * (HIGH - LOW)).all()
    assert (np.abs(answers - actions).mean(axis=0) < 0.4 * np.abs(actions - actions.mean(axis=0)).mean(axis=0)).all()


def test_bounds_as_given_are_those_of_the_policy(plant, capsys):
    assert train("--action_low", "-10", "-4", "--action_high", "200") == 0
    assert "action bounds as given" in capsys.readouterr().out
    bounds = json.loads((plant / "run" / "manifest_3.json").read_text())["action_bounds"]
    assert bounds == [[-10.0, -4.0], [200.0, 200.0]]


def test_whole_numbers_in_one_column_are_indices(plant, capsys):
    assert train(dataset="modes.csv") == 0
    assert "actions are indices 0..3 (whole numbers in one column; action_low" in capsys.readouterr().out
    answers = awac.load_policy("run")(columns()[0])
    assert answers.dtype.kind == "i" and set(answers) <= {0, 1, 2, 3}
    assert train("--action_low", "0", dataset="modes.csv", folder="vector") == 0
    assert awac.load_policy("vector")(columns()[0]).shape == (ROWS, 1)


@pytest.mark.parametrize(
    "values, options, count",
    [
        (np.array([0, 2, 1]), {}, 3),
        (np.array([[True], [False]]), {}, 2),
        (np.array([0.0, 2.0, 1.0]), {"text": True}, 3),
        (np.array([0.0, 2.0, 1.0]), {}, None),
        (np.array([0.0, 2.5, 1.0]), {"text": True}, None),
        (np.array([0, 2, 1]), {"low": (0.0,)}, None),
        (np.array([[0, 1], [2, 3]]), {}, None),
        (np.array([-1.0, 0.0]), {"text": True}, None),
    ],
)
def test_what_counts_as_an_index(values, options, count):
    space, _ = action_space(values, "f", **{"scaled": False, "text": False, **options})
    assert getattr(space, "n", None) == count


@pytest.mark.parametrize(
    "values, options, message",
    [
        (np.array([0, -2]), {}, "has index -2"),
        (np.array([[0.0], [np.nan]]), {}, "NaN or infinite values, first in row 1"),
        (np.ones((3, 2)), {"low": (0.0, 0.0, 0.0)}, "holds 2 values per row, but action_low has 3"),
        (np.ones((3, 2)), {"low": (2.0,)}, "value 0 has bounds 2 to 1"),
    ],
)
def test_actions_and_bounds_that_make_no_space(values, options, message):
    with pytest.raises(DataError, match=message):
        action_space(values, "f", **{"scaled": False, "text": False, **options})


def test_scaled_actions_stay_as_they_are(tmp_path):
    observations, actions, rewards, _ = columns()
    scaled = 2 * (actions - LOW) / (HIGH - LOW) - 1
    np.savez(
        tmp_path / "d.npz",
        observations=observations,
        actions=scaled,
        rewards=rewards,
        terminals=np.zeros(ROWS),
        action_unit="scaled",
    )
    data, _, env = resolve_alone(tmp_path / "d.npz", low=(0.0, -3.0), high=(100.0, 3.0))
    np.testing.assert_allclose(data.actions, scaled[: len(data)], atol=1e-6)
    np.testing.assert_array_equal(env.env.action_space.high, HIGH)
    with pytest.raises(TaskError, match="no environment to act in"):
        env.reset()


def test_actions_outside_the_given_bounds_are_one_line(plant, capsys):
    assert train("--action_high", "50", "3") == 1
    assert "actions are outside the task's bounds" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, message",
    [
        (["--no_env"], "no_env needs a data set"),
        (["--no_env", "--dataset", "logs.csv", "--episode", "4"], "no_env trains offline only, and 4 episodes"),
        (["--no_env", "--dataset", "logs.csv", "--offline_train_steps", "0"], "no_env trains offline only"),
        (["--no_env", "--dataset", "logs.csv", "--env_kwargs", "a=1"], "env_kwargs has no use"),
        (["--dataset", "logs.csv", "--action_low", "0"], "action_low and action_high are for no_env"),
        (["--no_env", "--dataset", "logs.csv", "--action_low", "x"], "is not a valid list of numbers"),
    ],
)
def test_what_makes_no_sense_is_refused(plant, options, message, capsys):
    assert cli.main(["train", "--ckpt_path", "run", *settings(), *options]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (plant / "run").exists()


def test_resume_is_exact_and_may_lengthen_the_offline_phase(plant, capsys):
    assert train("--episode", "3", folder="whole") == 0
    assert train("--episode", "2") == 0
    assert cli.main(["train", "--ckpt_path", "run", "--resume", "--episode", "3"]) == 0
    for name in ("policy/policy_3.ckpt", "value_net_1/model_1_3.ckpt"):
        assert (plant / "run" / name).read_bytes() == (plant / "whole" / name).read_bytes()
    assert cli.main(["train", "--ckpt_path", "run", "--resume", "--offline_train_steps", "100"]) == 0
    assert [row["phase"] for row in rows("run/train.csv")] == ["offline"] * 5
    capsys.readouterr()
    assert cli.main(["train", "--ckpt_path", "run", "--resume", "--no_env", "false"]) == 1
    assert "was trained with no_env = True" in capsys.readouterr().err


def test_what_needs_an_environment_is_refused_and_what_does_not_works(plant, capsys):
    assert train() == 0
    assert cli.main(["eval", "--ckpt_path", "run"]) == 1
    error = capsys.readouterr().err
    assert "was trained without an environment (no_env)" in error and error.count("\n") == 1
    assert cli.main(["report", "run"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["export", "--ckpt_path", "run", "--out", "out"]) == 0
    observations = columns()[0]
    np.testing.assert_array_equal(awac.load_policy("out")(observations), awac.load_policy("run")(observations))


def test_from_python(plant):
    config = load_config(
        "ant",
        overrides={**RUN, "dataset": "logs.csv", "no_env": True, "actor_hidden": [16, 16], "critic_hidden": [16, 16]},
    )
    with pytest.raises(ConfigError, match="offline only"):
        awac.train(config, "run", 4)
    seen = []

    class See(awac.training.callbacks.Callback):
        def episode_end(self, params):
            seen.append(params.evaluation)
            with pytest.raises(TaskError, match="no environment to act in"):
                params.evaluate()

    awac.train(config, "run", 2, callbacks=[See()])
    assert seen == [None, None]
    assert awac.load_policy("run").episode == 2


def test_an_online_run_starts_from_it_in_the_same_units(tmp_path, monkeypatch, capsys, graph_mode):
    monkeypatch.chdir(tmp_path)
    options = ["--dataset", str(RECORDED), *settings()]
    bounds = ["--action_low", "-1", "--action_high", "1"]
    assert cli.main(["train", "--no_env", "--ckpt_path", "a", *bounds, *options]) == 0
    assert cli.main(["train", "--no_env", "--ckpt_path", "b", *options, "--action_high", "2"]) == 0
    assert cli.main(["train", "--init_from", "a", "--ckpt_path", "on", "--episode", "1", *options]) == 0
    assert "Switch to online training after the offline phase of the run" in capsys.readouterr().out
    assert cli.main(["train", "--init_from", "b", "--ckpt_path", "off", "--episode", "1", *options]) == 1
    assert "was trained on actions from" in capsys.readouterr().err


def test_training_goes_on_offline_from_another_run(tmp_path, monkeypatch, graph_mode):
    monkeypatch.chdir(tmp_path)
    options = ["--no_env", "--dataset", str(RECORDED), *settings()]
    assert cli.main(["train", "--ckpt_path", "a", "--episode", "3", *options]) == 0
    assert cli.main(["train", "--ckpt_path", "b", "--episode", "2", "--init_from", "a", *options]) == 0
    assert awac.load_policy("b").episode == 2
    with open("b/train.csv", encoding="utf-8", newline="") as file:
        assert [row["phase"] for row in csv.DictReader(file)] == ["offline", "offline"]
