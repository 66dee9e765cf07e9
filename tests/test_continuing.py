"""What a run takes over from another one or from its own beginning: number of episodes, policy, the switch."""

from __future__ import annotations

import csv
import dataclasses
import json
import signal

import numpy as np
import pytest
from tiny import RECORDED, settings

import awac
from awac import cli
from awac.algorithm.mindrl import Callback
from awac.algorithm.policy import GaussianActor
from awac.config import AlgoConfig, Config, load_config
from awac.errors import ConfigError, Interrupted
from awac.training.resume import stored_run, versions

LENGTHS = {"n_steps_per_episode": 4, "steps_per_call": 4, "offline_train_steps": 8}


def train(folder, *arguments, **changes):
    command = ["train", "--dataset", str(RECORDED), "--ckpt_path", str(folder), *arguments]
    return cli.main([*command, *settings(**{**LENGTHS, **changes})])


def evaluated(folder):
    with open(folder / "eval.csv", newline="") as file:
        return [(int(row["episode"]), row["phase"]) for row in csv.DictReader(file)]


class Stop(Callback):
    """A signal at the beginning of an episode, before anything of it is saved."""

    def episode_begin(self, params):
        raise Interrupted(signal.SIGTERM)


def test_a_resumed_run_that_stops_at_once_keeps_its_new_number_of_episodes(tmp_path, graph_mode, capsys):
    assert train(tmp_path / "a", "--episode", "2") == 0
    config = Config.from_dict(json.loads((tmp_path / "a/awac_run.json").read_text())["config"])
    with pytest.raises(Interrupted):
        awac.train(config, str(tmp_path / "a"), 4, resume=True, callbacks=[Stop()])
    assert stored_run(tmp_path / "a")[1] == 4
    assert cli.main(["train", "--ckpt_path", str(tmp_path / "a"), "--resume"]) == 0
    assert (tmp_path / "a/manifest_4.json").exists()
    assert cli.main(["train", "--ckpt_path", str(tmp_path / "a"), "--resume", "--episode", "1"]) == 0
    assert "Nothing to do" in capsys.readouterr().out and stored_run(tmp_path / "a")[1] == 4


def test_a_lengthened_offline_phase_that_stops_at_once_goes_on(tmp_path, graph_mode):
    assert train(tmp_path / "a", "--no_env", "--episode", "2") == 0
    config = Config.from_dict(json.loads((tmp_path / "a/manifest_2.json").read_text())["config"])
    longer = dataclasses.replace(config, train=dataclasses.replace(config.train, offline_train_steps=16))
    with pytest.raises(Interrupted):
        awac.train(longer, str(tmp_path / "a"), 4, resume=True, callbacks=[Stop()])
    assert cli.main(["train", "--ckpt_path", str(tmp_path / "a"), "--resume"]) == 0
    assert (tmp_path / "a/manifest_4.json").exists()


def test_a_damaged_note_is_one_line(tmp_path, graph_mode, capsys):
    assert train(tmp_path / "a", "--episode", "1") == 0
    (tmp_path / "a/awac_run.json").write_text("[1]")
    assert cli.main(["train", "--ckpt_path", str(tmp_path / "a"), "--resume", "--episode", "2"]) == 1
    assert "awac_run.json is damaged" in capsys.readouterr().err


def test_a_run_of_an_older_version_says_it_in_its_checkpoint(tmp_path, graph_mode):
    assert train(tmp_path / "a", "--episode", "2") == 0
    marker = tmp_path / "a/awac_run.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "episodes": 1}))
    assert stored_run(tmp_path / "a")[1] == 2


def test_without_an_environment_too_the_run_has_its_number_of_episodes(tmp_path, graph_mode):
    assert train(tmp_path / "a", "--no_env", "--episode", "1") == 0
    resume = ["train", "--ckpt_path", str(tmp_path / "a"), "--resume"]
    assert cli.main(resume) == 0
    assert not (tmp_path / "a/manifest_2.json").exists()
    assert cli.main([*resume, "--offline_train_steps", "12"]) == 0
    assert (tmp_path / "a/manifest_3.json").exists()


@pytest.mark.parametrize("episodes", [0, -3, 1.5, "2", None])
def test_a_number_of_episodes_that_is_none_is_refused_before_anything_is_written(tmp_path, episodes):
    with pytest.raises(ConfigError, match="must be a positive whole number"):
        awac.train(load_config(), str(tmp_path / "a"), episodes)
    assert not (tmp_path / "a").exists()


def test_a_number_of_numpy_s_is_one(tmp_path, graph_mode):
    config = load_config(overrides={**LENGTHS, "dataset": RECORDED, "eval_episodes": np.int64(1), "batch_size": 8})
    awac.train(config, str(tmp_path / "a"), np.int64(1))
    assert stored_run(tmp_path / "a")[1] == 1


def test_the_switch_is_evaluated(tmp_path, graph_mode, capsys):
    assert train(tmp_path / "a", "--episode", "3", eval_every=100) == 0
    assert evaluated(tmp_path / "a") == [(2, "offline"), (3, "online")]
    assert train(tmp_path / "offline", "--episode", "2") == 0
    capsys.readouterr()
    assert train(tmp_path / "b", "--episode", "1", "--init_from", str(tmp_path / "offline"), eval_every=100) == 0
    out = capsys.readouterr().out
    assert out.index("Evaluate for episode 0") < out.index("Switch to online training") < out.index("Episode 0:")
    assert evaluated(tmp_path / "b") == [(0, "offline"), (1, "online")]
    assert train(tmp_path / "b", "--episode", "2", "--resume", eval_every=100) == 0
    assert evaluated(tmp_path / "b") == [(0, "offline"), (1, "online"), (2, "online")]
    assert cli.main(["report", str(tmp_path / "b")]) == 0
    row = [cell.strip() for cell in capsys.readouterr().out.splitlines()[-1].split("|")]
    assert row[3] != "–", "the score at the switch"


def test_a_run_without_an_offline_phase_of_its_own_begins_at_the_switch(tmp_path, graph_mode):
    assert train(tmp_path / "a", "--episode", "2") == 0
    own = {"offline_train_steps": 0, "eval_every": 100}
    assert train(tmp_path / "b", "--episode", "1", "--init_from", str(tmp_path / "a"), **own) == 0
    assert evaluated(tmp_path / "b") == [(0, "offline"), (1, "online")]
    assert train(tmp_path / "c", "--episode", "1", **own) == 0
    assert evaluated(tmp_path / "c") == [(1, "online")], "there is no policy at the switch"


def test_the_log_claims_no_offline_steps_that_the_source_did_not_take(tmp_path, graph_mode, capsys):
    assert train(tmp_path / "a", "--episode", "2") == 0
    longer = {"offline_train_steps": 16}
    assert train(tmp_path / "b", "--episode", "1", "--init_from", str(tmp_path / "a"), **longer) == 0
    out = capsys.readouterr().out
    assert "It has finished its offline phase: offline_train_steps = 16 is not used" in out
    assert "16 offline steps" not in out
    assert "Switch to online training after the offline phase of the run that this one starts from" in out


def test_without_an_average_a_run_starts_with_the_policy_that_acted(tmp_path, graph_mode):
    assert train(tmp_path / "a", "--episode", "2", actor_ema=0.99, actor_lr=0.05) == 0
    assert train(tmp_path / "b", "--episode", "1", "--init_from", str(tmp_path / "a"), actor_ema=0) == 0
    observations = np.random.default_rng(0).normal(size=(5, 111)).astype(np.float32)
    before, after = (awac.load_policy(str(tmp_path / name), episode) for name, episode in (("a", 2), ("b", 0)))
    np.testing.assert_array_equal(before(observations), after(observations))


@pytest.mark.parametrize("state_dependent", [True, False])
@pytest.mark.parametrize("low, high", [(-6.0, 0.0), (-6.0, -1.0), (-0.5, 0.0), (1.0, 2.0)])
def test_a_clamped_std_starts_where_it_has_a_gradient(state_dependent, low, high):
    """At a bound the gradient of a clamp is 0."""
    changes = {"log_std_min": low, "log_std_max": high, "state_dependent_std": state_dependent, "actor_hidden": (8,)}
    config = AlgoConfig(log_std_bound="clamp", **changes)
    actor = GaussianActor(3, 2, config, np.random.default_rng(0), "a")
    raw = actor.trunk.biases[-1].asnumpy()[:, 2:] if state_dependent else actor.log_std.asnumpy()
    random = 1 / np.sqrt(8) if state_dependent else 0
    assert (raw > low - random).all() and (raw < high + random).all()
    middle = np.clip(0, low + min(1, (high - low) / 2), high - min(1, (high - low) / 2))
    assert np.abs(raw - middle).max() <= random


def test_the_version_is_that_of_the_code():
    assert versions()["awac"] == awac.__version__
