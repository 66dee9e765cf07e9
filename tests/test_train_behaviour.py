"""Training behaviour policies: interrupted or not, the same snapshots. Skipped where SBX is not installed."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sbx")
sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
train = pytest.importorskip("train_behaviour")
control = pytest.importorskip("sac_control")

SMALL = {
    "ppo": train.Recipe("ppo", 768, 256, 4, 3e-4, (0, 768), 0, dict(train._PPO, n_steps=32), train._PPO_POLICY),
    "crossq": train.Recipe(
        "crossq", 768, 256, 4, 1e-3, (256, 512), 64, dict(train._CROSSQ, learning_starts=64), train._CROSSQ_POLICY
    ),
    "sac": dataclasses.replace(control.SAC, steps=768, segment=256, options={"learning_starts": 64}),
}


@pytest.mark.parametrize("algorithm", SMALL)
def test_an_interrupted_training_ends_the_same(tmp_path, monkeypatch, algorithm):
    monkeypatch.setitem(train.RECIPES, "hopper", SMALL[algorithm])
    assert train.Training("hopper", tmp_path / "whole", 0).run(minutes=60, save_every=60)
    runs = 0
    while not train.Training("hopper", tmp_path / "parts", 0).run(minutes=1e-9, save_every=60):
        runs += 1
        # One segment a run: a training whose time is over before it begins would make none.
        training = train.Training("hopper", tmp_path / "parts", 0)
        training._load()
        training._train_segment([])
        training._evaluate(train.read_curve(tmp_path / "parts" / "curve.csv"))
        training._save()
    assert runs == 3
    for steps in (0, 256, 512, 768):
        whole, parts = (train.load_snapshot(train.snapshot_path(tmp_path / name, steps)) for name in ("whole", "parts"))
        for key, value in whole.items():
            np.testing.assert_array_equal(parts[key], value, err_msg=f"{steps} {key}")


def test_another_seed_does_not_go_on_with_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setitem(train.RECIPES, "hopper", SMALL["ppo"])
    training = train.Training("hopper", tmp_path, 0)
    (tmp_path / "snapshots").mkdir()
    training._save()
    with pytest.raises(SystemExit, match="holds the state of seed 0"):
        train.Training("hopper", tmp_path, 1)._load()


@pytest.mark.parametrize("algorithm", SMALL)
def test_a_snapshot_acts_as_the_model_does(tmp_path, monkeypatch, algorithm):
    monkeypatch.setitem(train.RECIPES, "ant", SMALL[algorithm])
    (tmp_path / "snapshots").mkdir()
    training = train.Training("ant", tmp_path, 0)
    training._train_segment([])
    layers = training._layers()
    seen = np.random.default_rng(0).standard_normal((5, 27)).astype(np.float32)
    if algorithm == "ppo":  # within the ten standard deviations at which the training cuts observations off
        seen = np.float32(training.env.obs_rms.mean + seen * np.sqrt(training.env.obs_rms.var))
    outputs = seen
    for i in range(3):
        outputs = outputs @ layers[f"layers.{i}.weight"] + layers[f"layers.{i}.bias"]
        outputs = np.maximum(outputs, 0) if i < 2 else outputs
    inputs = training.env.normalize_obs(seen) if algorithm == "ppo" else seen
    actions = training.model.predict(inputs, deterministic=True)[0]
    expected = np.tanh(actions) if algorithm == "ppo" else actions
    np.testing.assert_allclose(np.tanh(outputs[:, :8]), expected, atol=1e-5)
