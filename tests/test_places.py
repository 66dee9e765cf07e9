"""Adding a weighting, logger, data source, robot or export format touches one file: each is added here and used."""

from __future__ import annotations

import importlib
import sys

import gymnasium
import numpy as np
import pytest
import saved
from tiny import RECORDED, settings

from awac import cli, load_policy
from awac.algorithm import losses
from awac.data import sources
from awac.data.sources import registry, resolve_dataset
from awac.envs import make_env, normalized_score
from awac.envs.mujoco_v2 import ROBOTS, RobotV2
from awac.envs.tasks import known_d4rl_ids
from awac.runs.export import formats
from awac.training import loggers

TRAIN = ["train", "--dataset", str(RECORDED), "--ckpt_path", "run", "--episode", "4", *settings()]


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Returns module(package, name, source), which puts a new module into the folder of a package."""

    added = []

    def add(package, name, source):
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        monkeypatch.chdir(tmp_path)
        added.append(f"{package.__name__}.{name}")

    yield add
    for name in added:
        sys.modules.pop(name, None)


def test_a_weighting_is_a_function_and_its_name(tmp_path, monkeypatch, graph_mode, capfd):
    def positive(adv, lam, clip=None):
        return losses.ops.stop_gradient((adv > 0).astype(adv.dtype))

    monkeypatch.setitem(losses.WEIGHTINGS, "positive", positive)
    monkeypatch.chdir(tmp_path)
    assert cli.main([*TRAIN, "--weighting", "positive", "--lam_unit", "reward"]) == 0
    out = capfd.readouterr().out
    assert "Learner: graph, weighting 'positive' is not in the native operator" in out
    assert "Episode 4: " in out


def test_a_logger_is_one_module(tmp_path, module, graph_mode):
    module(
        loggers,
        "notes",
        "from awac.algorithm.mindrl import Callback\n"
        "class Logger(Callback):\n"
        "    def __init__(self, folder, config):\n"
        "        super().__init__()\n"
        "        self.path = folder / 'notes.txt'\n"
        "    def episode_end(self, params):\n"
        "        with open(self.path, 'a', encoding='utf-8') as file:\n"
        "            print(params.cur_episode, params.evaluation is not None, file=file)\n",
    )
    assert cli.main([*TRAIN, "--logger", "notes"]) == 0
    assert (tmp_path / "run" / "notes.txt").read_text().splitlines() == ["1 False", "2 True", "3 True", "4 True"]


def test_a_data_source_is_one_module(module, monkeypatch):
    monkeypatch.setattr(registry, "SOURCES", [*registry.SOURCES])
    module(
        sources,
        "mine",
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from awac.data.sources.registry import Recording, source\n"
        "@source(prefix='mine:', suffix=('.log',))\n"
        "def mine(name, request):\n"
        "    rng, rows = np.random.default_rng(0), request.rows\n"
        "    columns = {'observations': rng.normal(size=(rows, 4)).astype(np.float32),\n"
        "               'actions': rng.integers(0, 2, rows), 'rewards': np.ones(rows, np.float32),\n"
        "               'terminals': np.arange(rows) % 7 == 6}\n"
        "    return Recording('mine', Path('.'), f'{name}, {rows} rows asked for', columns, 'env')\n",
    )
    importlib.import_module("awac.data.sources.mine")  # as `awac.data.sources` does with every module in its folder
    data, origin = resolve_dataset("mine:anything", rows=14, env=make_env("CartPole-v1"))
    assert len(data) == 14 and origin.kind == "mine"
    assert "(mine:anything, 14 rows asked for)" in origin.describe()
    assert resolve_dataset("some/path.LOG", rows=7)[1].kind == "mine"


class Crawler(RobotV2):
    """A new robot: its class is all that the package needs."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 125}
    model_file, frame_skip, ctrl_cost, alive_bonus, observation_size = "hopper.xml", 4, 0.0, 0.0, 11
    score_range, hidden_positions = (0.0, 50.0), 1

    def _alive(self):
        return True


def test_a_robot_is_one_class_and_its_name(monkeypatch):
    monkeypatch.setitem(ROBOTS, "crawler", Crawler)
    env = make_env("crawler-medium-v2")
    try:
        assert env.reset(seed=0)[0].shape == (11,)
        assert env.spec.max_episode_steps == 1000
        assert normalized_score("crawler-medium-v2", 25.0) == 50.0
        assert "crawler-expert-v2" in known_d4rl_ids()
    finally:
        for name in [name for name in gymnasium.registry if name.startswith("awac/crawler")]:
            del gymnasium.registry[name]


def test_an_export_format_is_one_module(tmp_path, module, capfd):
    module(
        formats,
        "pairs",
        "import numpy as np\n"
        "from awac.runs.export.formats import npz\n"
        "USE = 'import pairs'\n"
        "def write(path, network, about):\n"
        "    npz.write(path.with_suffix('.npz'), network, about)\n"
        "    path.with_suffix('.npz').rename(path)\n"
        "def load(path):\n"
        "    return npz.load(path)\n",
    )
    folder = saved.save(tmp_path / "run", "own")
    assert (
        cli.main(["export", "--ckpt_path", str(folder), "--format", "pairs", "--out", str(tmp_path / "p.pairs")]) == 0
    )
    observations = np.zeros((2, 6), np.float32)
    acts = formats.get("pairs").load(tmp_path / "p.pairs")(observations)
    np.testing.assert_allclose(acts, load_policy(str(folder))(observations), atol=1e-6)
    assert "import pairs" in (tmp_path / "p.pairs.md").read_text(encoding="utf-8")
