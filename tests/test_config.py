"""Configuration: presets, YAML files and overrides, and one clear line for every mistake in them."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from awac import cli
from awac.algorithm import losses
from awac.config import KEYS, PRESETS, SECTIONS, Config, load_config
from awac.config.load import FORMER
from awac.envs import make_env
from awac.errors import ConfigError
from awac.training.wiring import algorithm_config

SPACES = {"obs_size": 27, "raw_obs_size": 111, "action_size": 8, "discrete": False}


def values(config):
    """All fields by name."""
    return {key: value for section in dataclasses.asdict(config).values() for key, value in section.items()}


def yaml_file(tmp_path, text, name="a.yaml"):
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_no_preset_is_the_default():
    assert load_config() == load_config("default") == Config()
    assert load_config().env.task == "ant-expert-v2"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_its_keys_and_leaves_the_others(preset):
    assert values(load_config(preset)) == {**values(Config()), **PRESETS[preset]}


def test_no_two_presets_are_the_same():
    configs = [load_config(preset) for preset in PRESETS]
    assert all(one != other for one, other in itertools.combinations(configs, 2))


@pytest.mark.parametrize(
    "preset, expected",
    [
        (
            "paper",
            {
                "actor_hidden": (256,) * 4,
                "critic_hidden": (256, 256),
                "batch_size": 1024,
                "weighting": "softmax",
                "lam": 2.0,
                "actor_weight_decay": 1e-4,
                "state_dependent_std": False,
                "log_std_min": -6.0,
                "log_std_max": 0.0,
                "loss_reduction": "mean",
                "online_warmup": 1000,
            },
        ),
        (
            "corl",
            {
                "actor_hidden": (256,) * 3,
                "critic_hidden": (256,) * 3,
                "batch_size": 256,
                "weighting": "exp",
                "lam": 1 / 3,
                "weight_clip": 100.0,
                "weight_floor": 0.0,
                "state_dependent_std": False,
                "log_std_min": -20.0,
                "log_std_max": 2.0,
                "log_std_bound": "clamp",
                "squash_mean": False,
                "update_order": "critic_first",
                "lam_unit": "reward",
                "actor_ema": 0.0,
                "online_candidates": 1,
                "online_warmup": 0,
            },
        ),
        (
            "d3rlpy",
            {
                "actor_hidden": (256,) * 4,
                "critic_hidden": (256,) * 4,
                "batch_size": 1024,
                "weighting": "softmax",
                "lam": 1.0,
                "actor_weight_decay": 1e-4,
                "loss_reduction": "sum",
                "update_order": "critic_first",
                "critic_layer_norm": False,
                "weight_floor": 0.0,
            },
        ),
        (
            "mindrl",
            {
                "actor_hidden": (256,) * 4,
                "critic_hidden": (256,) * 4,
                "loss_reduction": "sum",
                "update_order": "critic_first",
            },
        ),
    ],
)
def test_the_published_recipes(preset, expected):
    found = values(load_config(preset))
    assert {key: found[key] for key in expected} == expected


def test_no_field_is_in_two_sections():
    names = [field.name for cls in SECTIONS.values() for field in dataclasses.fields(cls)]
    assert len(names) == len(set(names))


def test_later_sources_win(tmp_path):
    env = yaml_file(tmp_path, "task: hopper-medium-v2\neval_episodes: 3\n", "env.yaml")
    algo = yaml_file(tmp_path, "lam: 0.5\nbatch_size: 32\nseed: 4\n", "algo.yaml")
    config = load_config("paper", env, algo, {"seed": 9})
    assert (config.env.task, config.env.eval_episodes) == ("hopper-medium-v2", 3)
    assert (config.algo.lam, config.algo.batch_size, config.train.seed) == (0.5, 32, 9)
    assert config.algo.actor_hidden == (256,) * 4


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}"])
def test_an_empty_yaml_file_changes_nothing(tmp_path, text):
    path = yaml_file(tmp_path, text)
    assert load_config("default", path, path) == load_config()


@pytest.mark.parametrize(
    "key, given, expected",
    [
        ("actor_lr", 1, 1.0),
        ("actor_lr", "1e-4", 1e-4),
        ("batch_size", 64.0, 64),
        ("actor_hidden", [8, 9], (8, 9)),
        ("dataset", None, None),
        ("dataset", "@odd: name.hdf5", "@odd: name.hdf5"),
        ("dataset", "123", "123"),
        ("download", True, True),
    ],
)
def test_values_take_the_type_of_their_field(key, given, expected):
    found = values(load_config("ant", overrides={key: given}))[key]
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    "key, nearest", [("lamda", "lam"), ("batchsize", "batch_size"), ("evalepisodes", "eval_episodes")]
)
def test_an_unknown_key_names_the_nearest_one(key, nearest):
    with pytest.raises(ConfigError, match=f"unknown key '{key}': did you mean '{nearest}'"):
        load_config("ant", overrides={key: 1})


@pytest.mark.parametrize("key", ["zzzzzz", "", 7, None])
def test_an_unknown_key_that_is_like_none(key):
    with pytest.raises(ConfigError, match="unknown key"):
        load_config("ant", overrides={key: 1})


def test_an_unknown_preset_names_the_nearest_one():
    with pytest.raises(ConfigError, match="'papr' is unknown: did you mean 'paper'.*one of default, "):
        load_config("papr")


def test_a_yaml_file_gives_numbers_as_python_writes_them_and_keeps_what_is_quoted(tmp_path):
    path = tmp_path / "env.yaml"
    path.write_text("env_kwargs: {step: 1e-3, list: [2E3], name: '1e-3', at: 12:30:00}\n")
    expected = {"step": 0.001, "list": [2000.0], "name": "1e-3", "at": "12:30:00"}
    assert load_config("ant", env_yaml=path).env.env_kwargs == expected


def test_each_yaml_file_takes_its_own_sections(tmp_path):
    path = yaml_file(tmp_path, "lam: 1.0\n")
    with pytest.raises(ConfigError, match="unknown key 'lam'"):
        load_config("ant", env_yaml=path)
    path = yaml_file(tmp_path, "task: hopper-medium-v2\n")
    with pytest.raises(ConfigError, match="unknown key 'task'"):
        load_config("ant", algo_yaml=path)


@pytest.mark.parametrize(
    "key, value",
    [
        ("batch_size", "many"),
        ("batch_size", 1.5),
        ("batch_size", True),
        ("batch_size", None),
        ("batch_size", float("inf")),
        ("batch_size", float("nan")),
        ("lam", "big"),
        ("lam", [1]),
        ("lam", float("nan")),
        ("lam", float("inf")),
        ("lam", True),
        ("actor_lr", 10**400),
        ("critic_layer_norm", 1),
        ("critic_layer_norm", "yes"),
        ("weighting", 3),
        ("task", None),
        ("task", 5),
        ("actor_hidden", 256),
        ("actor_hidden", []),
        ("actor_hidden", [256, 0]),
        ("actor_hidden", [256, -1]),
        ("actor_hidden", [1.5]),
        ("actor_hidden", [True]),
        ("actor_hidden", [10**9]),
        ("actor_hidden", {"a": 1}),
    ],
)
def test_a_wrong_type_is_refused(key, value):
    with pytest.raises(ConfigError, match=f"overrides: {key} = .* is not a valid") as caught:
        load_config("ant", overrides={key: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "overrides, says",
    [
        ({"lam": 0}, "lam = 0.0 must be positive"),
        ({"lam": -1}, "lam = -1.0 must be positive"),
        ({"batch_size": 0}, "batch_size = 0 must be positive"),
        ({"eval_episodes": 0}, "eval_episodes = 0 must be positive"),
        ({"seed": -1}, "seed = -1 must be at least 0"),
        ({"gamma": 1.01}, "gamma = 1.01 must be between 0 and 1"),
        ({"tau": -0.1}, "tau = -0.1 must be between 0 and 1"),
        ({"offline_share": 2}, "offline_share = 2.0 must be between 0 and 1"),
        ({"actor_ema": 1}, "actor_ema = 1.0 must be 0, or from 1e-6 to below 1"),
        ({"weighting": "sofmax"}, "weighting = 'sofmax': did you mean 'softmax'"),
        ({"loss_reduction": "median"}, "one of mean, sum"),
        ({"log_std_min": 1.0}, "log_std_min must be below log_std_max"),
        ({"weighting": "exp", "weight_floor": 20}, "weight_floor must be below weight_clip (20.0, 10.0)"),
        ({"steps_per_call": 33}, "n_steps_per_episode must be a multiple of steps_per_call"),
        ({"offline_train_steps": 1500}, "offline_train_steps must be a multiple of n_steps_per_episode"),
    ],
)
def test_a_value_out_of_range_is_refused(overrides, says):
    with pytest.raises(ConfigError) as caught:
        load_config("ant", overrides=overrides)
    assert says in str(caught.value)


def test_keys_that_must_fit_each_other_may_come_from_different_places(tmp_path):
    (tmp_path / "algo.yaml").write_text("n_steps_per_episode: 300\n")
    config = load_config(algo_yaml=tmp_path / "algo.yaml", overrides={"offline_train_steps": 3000})
    assert (config.train.n_steps_per_episode, config.train.offline_train_steps) == (300, 3000)
    words = r"^.*algo.yaml and overrides: offline_train_steps must be a multiple .* \(20000 and 300\); set one of them"
    with pytest.raises(ConfigError, match=words):
        load_config(algo_yaml=tmp_path / "algo.yaml")


@pytest.mark.parametrize(
    "text", ["- 1\n- 2\n", "just text", "lam: [1\n", "\tlam: 1", "\x00", "!!python/object:os.system {}"]
)
def test_a_file_that_is_no_yaml_mapping_is_refused(tmp_path, text):
    path = yaml_file(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config("ant", algo_yaml=path)
    assert str(caught.value).startswith(path) and "\n" not in str(caught.value)


def test_a_key_that_is_given_twice_in_a_file_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("lam: 1\ntau: 0.1\nlam: 2\n")
    with pytest.raises(ConfigError, match="'lam' is given twice"):
        load_config(None, None, tmp_path / "a.yaml")


def test_keys_that_are_merged_are_not_given_twice(tmp_path):
    (tmp_path / "a.yaml").write_text("env_kwargs:\n  y: &d {<<: {a: 1}, a: 2}\n  z: {<<: *d, b: 3}\n")
    assert load_config(None, tmp_path / "a.yaml").env.env_kwargs == {"y": {"a": 2}, "z": {"a": 2, "b": 3}}


def test_an_empty_data_set_of_an_earlier_version_is_none():
    assert Config.from_dict({"env": {"dataset": ""}}).env.dataset is None


def test_numpy_s_values_and_paths_are_taken():
    given = {"seed": np.int64(3), "lam": np.float32(0.5), "no_env": np.bool_(True), "dataset": Path("a.npz")}
    config = load_config(overrides={**given, "actor_hidden": np.array([8, 4])})
    assert (config.train.seed, config.algo.lam, config.env.no_env, config.env.dataset) == (3, 0.5, True, "a.npz")
    assert config.algo.actor_hidden == (8, 4)
    config = load_config(overrides={"actor_hidden": [np.int64(8)], "env_kwargs": {"n": np.int64(3), "p": Path("x")}})
    assert (config.algo.actor_hidden, config.env.env_kwargs) == ((8,), {"n": 3, "p": "x"})


@pytest.mark.parametrize(
    "name, text, value",
    [("seed", "010", 10), ("seed", "08", 8), ("offline_train_steps", "1e5", 100_000), ("lam", "1e-3", 0.001),
     ("offline_share", "None", None), ("offline_share", "null", None), ("actor_hidden", "[64, 032]", (64, 32)),
     ("actor_hidden", "64 32", (64, 32)), ("env_kwargs", "a=010 b=x", {"a": 10, "b": "x"})],
)  # fmt: skip
def test_a_number_on_the_command_line_is_decimal(name, text, value):
    assert KEYS[name].check(KEYS[name].parse(text, "a"), "a") == value


def test_an_argument_of_the_environment_may_be_a_mapping():
    parse = KEYS["env_kwargs"].parse
    assert parse(["physics={gravity: 3}"], "a") == {"physics": {"gravity": 3}}
    assert parse(["{physics: {gravity: 3}}"], "a") == {"physics": {"gravity": 3}}
    assert parse(["level=None", "name=a=b"], "a") == {"level": None, "name": "a=b"}
    assert parse(["None"], "a") is None


@pytest.mark.parametrize("text", ["1:30", "0x10", "0o17"])
def test_other_notations_are_refused(text):
    with pytest.raises(ConfigError, match="not a valid int"):
        KEYS["seed"].check(KEYS["seed"].parse(text, "a"), "a")


def test_an_empty_value_is_refused(capsys):
    for option in ("--dataset", "--init_from", "--ckpt_path"):
        with contextlib.suppress(SystemExit):  # of argparse
            assert cli.main(["train", option, ""]) == 1
        assert "empty" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"\xff\xfe\xfa", None])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, content):
    path = tmp_path / "a.yaml"
    if content:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="a.yaml"):
        load_config("ant", algo_yaml=str(path))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_config_comes_back_from_json(preset):
    config = load_config(preset, overrides={"dataset": "x.hdf5", "seed": 3})
    assert Config.from_dict(json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_a_config_of_an_earlier_version_keeps_its_algorithm():
    stored = dataclasses.asdict(load_config("ant"))
    for name in FORMER:
        del stored[KEYS[name].section][name]
    assert Config.from_dict(stored) == load_config("ant")


@pytest.mark.parametrize("stored", [{"algo": {"lambda": 1}}, {"algo": {"lam": -1}}, {"train": {"seed": "x"}}])
def test_a_stored_config_is_checked_too(stored):
    with pytest.raises(ConfigError, match="stored config"):
        Config.from_dict(stored)


def test_a_stored_config_of_a_version_that_took_it_is_read():
    stored = dataclasses.asdict(Config())
    stored["algo"] |= {"weight_floor": 0.3, "weight_clip": 0.2}
    assert Config.from_dict(stored).algo.weight_clip == 0.2


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_config().algo.lam = 3.0


@pytest.mark.parametrize("name", KEYS)
def test_every_key_has_a_meaning_and_a_default_inside_its_range(name):
    key = KEYS[name]
    assert key.help.endswith(".") and "\n" not in key.help
    assert key.check(key.default, "default") == key.default


def test_the_weightings_are_those_of_the_losses():
    source = (
        "import sys; from awac.config.schema import weightings; print(*weightings()); "
        "assert 'mindspore' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, encoding="utf-8", check=True)
    assert tuple(done.stdout.split()) == tuple(losses.WEIGHTINGS)


def test_a_weighting_that_is_added_to_the_losses_is_a_choice(monkeypatch):
    monkeypatch.setitem(losses.WEIGHTINGS, "flat", lambda adv, lam, clip: adv * 0 + 1)
    assert load_config(overrides={"weighting": "flat"}).algo.weighting == "flat"


class TestCommandLine:
    """`awac train` has an option for every key."""

    @pytest.fixture
    def trained(self, monkeypatch):
        """Returns trained(*arguments): the configuration that `awac train` would run."""
        seen = []
        monkeypatch.setattr("awac.training.session.train", lambda config, *_, **__: seen.append(config))

        def call(*arguments):
            assert cli.main(["train", *arguments]) == 0
            return values(seen[-1])

        return call

    def test_the_help_lists_every_key_with_its_default_and_meaning(self, capsys):
        with pytest.raises(SystemExit, match="0"):
            cli.main(["train", "--help"])
        text = " ".join(capsys.readouterr().out.split()).replace("- ", "-")
        for key in KEYS.values():
            assert f"--{key.name} " in text and key.help.replace("- ", "-") in text

    @pytest.mark.parametrize(
        "arguments, expected",
        [
            (["--lam", "2"], {"lam": 2.0}),
            (["--lam=1e-3"], {"lam": 1e-3}),
            (["--set", "actor_hidden=64", "seed=010"], {"actor_hidden": (64,), "seed": 10}),
            (["--log_std_min", "-1e1"], {"log_std_min": -10.0}),
            (["--actor_hidden", "256", "128"], {"actor_hidden": (256, 128)}),
            (["--actor_hidden", "[256, 128]"], {"actor_hidden": (256, 128)}),
            (["--critic_layer_norm", "false"], {"critic_layer_norm": False}),
            (["--download"], {"download": True}),
            (["--dataset", "123"], {"dataset": "123"}),
            (["--offline_share", "null"], {"offline_share": None}),
            (["--offline_share", "None"], {"offline_share": None}),  # the help's word
            (["--set", "offline_share=None", "--dataset", "None"], {"offline_share": None, "dataset": None}),
            (["--action_low", "None", "--max_episode_steps", "None"], {"action_low": None, "max_episode_steps": None}),
            (["--action_low", "null"], {"action_low": None}),
            (
                ["--env_kwargs", "level=3", "name=a b", "on=true"],
                {"env_kwargs": {"level": 3, "name": "a b", "on": True}},
            ),
            (["--env_kwargs", "{level: 3}"], {"env_kwargs": {"level": 3}}),
            (
                ["--env_kwargs", "a=1e-3", "b=[2E3, {c: -1.5e4}]", "d='1e-3'", "e=12:30:00", "f=2024-01-01", "g=1_0"],
                {
                    "env_kwargs": {
                        **{"a": 0.001, "b": [2000.0, {"c": -15000.0}], "d": "1e-3"},
                        **{"e": "12:30:00", "f": "2024-01-01", "g": 10},
                    }
                },
            ),
            (["--set", "lam=2", "actor_hidden=[8, 9]"], {"lam": 2.0, "actor_hidden": (8, 9)}),
            (["--set", "lam=2", "--lam", "3"], {"lam": 3.0}),
            (["--preset", "paper", "--lam", "3"], {"lam": 3.0, "batch_size": 1024}),
            (
                ["--max_episode_steps", "7", "--action_unit", "scaled"],
                {"max_episode_steps": 7, "action_unit": "scaled"},
            ),
        ],
    )
    def test_an_option_sets_its_key(self, trained, arguments, expected):
        found = trained(*arguments)
        assert {key: found[key] for key in expected} == expected

    @pytest.mark.parametrize(
        "arguments, says",
        [
            (["--lam", "big"], "lam = 'big' is not a valid float"),
            (["--lam", "-1"], "lam = -1.0 must be positive"),
            (["--actor_hidden", "256", "x"], "actor_hidden = [256, 'x'] is not a valid list"),
            (["--critic_layer_norm", "maybe"], "critic_layer_norm = 'maybe' is not a valid bool"),
            (["--weighting", "sofmax"], "did you mean 'softmax'?"),
            (["--env_kwargs", "level"], "--env_kwargs takes KEY=VALUE, not 'level'"),
            (["--env_kwargs", "code=!!binary aGk="], "env_kwargs = {'code': b'hi'} can't be stored"),
            (["--env_kwargs", "{a: {1: 2}}"], "keys must be text"),
            (["--env_kwargs", "level=[1"], "--env_kwargs '[1': the value is not readable"),
            (["--set", "lamm=1"], "unknown key 'lamm': did you mean 'lam'?"),
        ],
    )
    def test_a_wrong_value_is_one_line(self, capsys, arguments, says):
        assert cli.main(["train", *arguments]) == 1
        err = capsys.readouterr().err
        assert err.startswith("awac: error: ") and says in err and err.count("\n") == 1

    @pytest.mark.parametrize(
        "arguments, says",
        [
            (["train", "--lamm", "2"], "unknown option --lamm: did you mean '--lam'?"),
            (["train", "--batchsize=2"], "unknown option --batchsize: did you mean '--batch_size'?"),
            (["eval", "--ckpt_path", "x", "--episodes", "2"], "unknown option --episodes: did you mean '--episode'?"),
            (["evall"], "'evall' is unknown: did you mean 'eval'?"),
        ],
    )
    def test_a_misspelt_option_or_command_names_the_nearest(self, capsys, arguments, says):
        with pytest.raises(SystemExit, match="2"):
            cli.main(arguments)
        err = capsys.readouterr().err
        assert err.startswith("awac: error: ") and says in err and err.count("\n") == 1


class TestWiring:
    """`algorithm_config` is what mindspore-rl builds the run from."""

    def test_it_holds_the_parts_that_mindspore_rl_asks_for(self):
        from mindspore_rl.agent.actor import Actor
        from mindspore_rl.agent.learner import Learner
        from mindspore_rl.environment import Environment

        config = load_config("ant", overrides={"task": "hopper-medium-v2", "seed": 3, "steps_per_call": 20})
        env = object()
        wired = algorithm_config(config, SPACES, env)
        assert issubclass(wired["actor"]["type"], Actor) and issubclass(wired["learner"]["type"], Learner)
        for name in ("collect_environment", "eval_environment"):
            assert issubclass(wired[name]["type"], Environment)
            assert wired[name]["params"][wired[name]["type"].__name__] == {"env": env}
        assert wired["learner"]["params"] == {"config": config.algo}
        assert wired["policy_and_network"]["params"] == {
            "config": config.algo,
            "seed": 3,
            "state_space_dim": 27,
            "action_space_dim": 8,
            "discrete": False,
        }

    def test_mindspore_rl_builds_learner_actor_and_environment_from_it(self, graph_mode):
        from mindspore_rl.core import MSRL

        overrides = {"task": "Pendulum-v1", "actor_hidden": [16], "critic_hidden": [16], "steps_per_call": 2}
        config = load_config("ant", overrides=overrides)
        spaces = {"obs_size": 3, "raw_obs_size": 3, "action_size": 1, "discrete": False}
        msrl = MSRL(algorithm_config(config, spaces, make_env("Pendulum-v1")))
        assert msrl.learner.steps.config == config.algo
        assert msrl.learner.actor.obs_size == 3 and msrl.learner.actor.action_size == 1
        assert msrl.actors.environment is msrl.collect_environment
        assert msrl.collect_environment.reset().shape == (3,)
