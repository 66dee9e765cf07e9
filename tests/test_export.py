"""`awac export --format`: files of other libraries act as the checkpoint does, or are not kept."""

from __future__ import annotations

import ast
import errno
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import saved

from awac import __version__, cli, load_policy
from awac.errors import ConfigError, ExportError
from awac.runs.export import formats, policy_file
from awac.runs.export.network import Network

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "ckpt" / "ant-expert-v2"
KINDS = (*saved.BOXES, "std", "plain", "discrete", "discrete from 5")


@pytest.fixture(params=["mindir", "npz", "onnx"])
def module(request):
    if request.param == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    return formats.get(request.param)


@pytest.fixture
def name(module):
    return module.__name__.rpartition(".")[2]


def random_observations(policy, rows=64):
    return policy_file.sample_observations(policy.network.normalizer, rows, seed=9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_acts_as_the_checkpoint(module, name, kind, tmp_path, capfd):
    folder, out = saved.save(tmp_path / "run", kind), tmp_path / f"p.{name}"
    assert cli.main(["export", "--ckpt_path", str(folder), "--format", name, "--out", str(out)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert f"exported to {out}" in lines[0]
    printed = float(re.search(r"on 1024 random observations is (\S+) of", lines[1])[1])
    assert 0.0 <= printed <= 1e-5
    policy, act = load_policy(folder), module.load(out)
    for rows in (1, 5, 64):  # any number of rows
        observations = random_observations(policy, rows)
        found, expected = act(observations), policy(observations)
        assert found.shape == expected.shape and found.dtype == expected.dtype
        if kind.startswith("discrete"):
            np.testing.assert_array_equal(found, expected)
        else:
            assert (found >= policy.space.low).all() and (found <= policy.space.high).all()
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=3e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, f"{out.name}.md", "run"]


def test_the_policies_of_these_tests_use_their_bounds(tmp_path):
    for kind in saved.BOXES:
        policy = load_policy(saved.save(tmp_path / kind, kind))
        actions, (low, high) = policy(random_observations(policy)), saved.BOXES[kind]
        assert (actions[:, :2].std(0) > 0.1 * np.subtract(high, low)[:2]).all()


def test_the_shipped_policy_can_be_exported(module, name, tmp_path):
    lines = policy_file.export_policy(SHIPPED, name, tmp_path / f"ant.{name}")
    assert float(lines[-1].split(" is ")[1].split()[0]) <= 1e-5


@pytest.mark.parametrize("kind", ["own", "discrete"])
def test_a_file_that_differs_is_not_kept(module, name, kind, tmp_path, monkeypatch, capfd):
    folder, out = saved.save(tmp_path / "run", kind, gain=0.5), tmp_path / f"p.{name}"
    out.write_bytes(b"an earlier file")
    card = out.with_name(f"{out.name}.md")
    card.write_text("# Policy for Pendulum-v1")
    honest = module.write

    def careless(path, network, about):
        (weight, bias), *rest = network.layers
        layers = ((weight, bias + 0.05), *rest)
        honest(path, Network(**{**vars(network), "layers": layers}), about)

    monkeypatch.setattr(module, "write", careless)
    assert cli.main(["export", "--ckpt_path", str(folder), "--format", name, "--out", str(out)]) == 1
    err = capfd.readouterr().err
    assert err.startswith(f"awac: error: {out} was not kept: its actions differ") and err.count("\n") == 1
    assert out.read_bytes() == b"an earlier file"
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, card.name, "run"]


@pytest.mark.parametrize("theirs", ["p.npz", "p.npz.md"])
def test_only_earlier_exports_are_replaced(theirs, tmp_path):
    folder, out = saved.save(tmp_path / "run", "own"), tmp_path / "p.npz"
    (tmp_path / theirs).write_text("mine")
    with pytest.raises(ExportError, match=f"{theirs}: exists already, not with an export's card; "):
        policy_file.export_policy(folder, "npz", out)
    assert (tmp_path / theirs).read_text() == "mine"
    (tmp_path / theirs).unlink()
    out.touch()  # as mktemp leaves it
    for _ in range(2):
        policy_file.export_policy(folder, "npz", out)


def test_a_stop_between_card_and_file_is_made_good(tmp_path, monkeypatch):
    folder, out, write = saved.save(tmp_path / "run", "own"), tmp_path / "p.npz", policy_file.files.write

    def full(path, fill):
        if path.name.endswith(".md"):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, fill)

    with monkeypatch.context() as patch:
        patch.setattr(policy_file.files, "write", full)
        with pytest.raises(ExportError, match="could not be written"):
            policy_file.export_policy(folder, "npz", out)
    assert not out.exists()
    policy_file.export_policy(folder, "npz", out)
    assert out.exists()


def test_paths_of_any_letters(module, name, tmp_path, capfd):
    folder, out = saved.save(tmp_path / "run", "own"), tmp_path / "a b (1) λ=0.4+, 策略" / f"策略 'p' #1.{name}"
    assert cli.main(["export", "--ckpt_path", str(folder), "--format", name, "--out", str(out)]) == 0
    assert sorted(path.name for path in out.parent.iterdir()) == sorted([out.name, f"{out.name}.md"])
    policy = load_policy(folder)
    np.testing.assert_allclose(module.load(out)(random_observations(policy)), policy(random_observations(policy)), 1e-5)


@pytest.mark.parametrize("error", [RuntimeError("no\nsuch path"), ValueError("no")])
def test_a_fault_of_a_formats_library_is_one_line(error, tmp_path, monkeypatch, capfd):
    def fail(*_):
        raise error

    monkeypatch.setattr(formats.get("npz"), "write", fail)
    assert cli.main(["export", "--ckpt_path", str(saved.save(tmp_path / "run", "own")), "--format", "npz"]) == 1
    err = capfd.readouterr().err
    assert err.endswith("policy_3.npz could not be written (no)\n") and err.count("\n") == 1


class TestDifference:
    def wrong(self, policy, change):
        with pytest.raises(ExportError) as caught:
            policy_file.difference(policy, change)
        return str(caught.value)

    def test_it_is_measured_against_the_bounds(self, tmp_path):
        policy = load_policy(saved.save(tmp_path, "unit"))
        shifted = policy_file.difference(policy, lambda o: np.clip(policy(o) + np.float32([0, 3e-4, 0]), -1, 1))
        assert shifted == pytest.approx(3e-4, rel=0.01)
        assert policy_file.difference(policy, policy) == 0.0

    def test_equal_logits_are_equal_and_others_not(self, tmp_path):
        policy = load_policy(saved.save(tmp_path, "discrete"))
        assert policy_file.difference(policy, policy) == 0.0
        second = lambda o: np.argsort(policy.network.outputs(o), -1)[:, -2]  # noqa: E731
        assert policy_file.difference(policy, second) > 0.1

    def test_shapes_bounds_and_faults_are_errors(self, tmp_path):
        policy = load_policy(saved.save(tmp_path / "box", "own"))
        assert "of shape" in self.wrong(policy, lambda o: policy(o)[:, :2])
        assert "outside the environment's bounds" in self.wrong(policy, lambda o: policy(o) * 2)
        assert "can't be run" in self.wrong(policy, lambda o: [][0])
        assert np.isnan(policy_file.difference(policy, lambda o: policy(o) * np.float32("nan")))
        policy = load_policy(saved.save(tmp_path / "discrete", "discrete from 5"))
        assert "does not have" in self.wrong(policy, lambda o: policy(o) - 5)

    def test_the_observations_are_spread_as_the_data(self, tmp_path):
        normalizer = load_policy(saved.save(tmp_path, "unit")).network.normalizer
        seen = normalizer(policy_file.sample_observations(normalizer, 4096))
        assert np.abs(seen).max() == 10.0 and 0.01 < (np.abs(seen) > 3.0).mean() < 0.05
        assert np.abs(seen.mean(0)).max() < 0.1 and (seen.std(0) > 1.0).all()


def test_a_std_that_depends_on_the_state_leaves_the_mean(tmp_path):
    network = Network.of(load_policy(saved.save(tmp_path, "std")))
    assert network.layers[-1][0].shape == (16, 3) and network.layers[-1][1].shape == (3,)


class TestMistakes:
    def error(self, capfd, *arguments):
        assert cli.main(["export", *map(str, arguments)]) == 1
        err = capfd.readouterr().err
        assert err.count("\n") == 1
        return err

    @pytest.fixture
    def run(self, tmp_path):
        return "--ckpt_path", saved.save(tmp_path / "run", "own")

    def test_a_missing_extra_is_one_line(self, run, tmp_path, monkeypatch, capfd):
        monkeypatch.delitem(sys.modules, "awac.runs.export.formats.onnx", raising=False)
        monkeypatch.setitem(sys.modules, "onnx", None)
        assert "needs the package onnx: pip install 'onnx>=1.17,<2' 'onnxruntime>=1.20,<2'\n" in self.error(
            capfd, *run, "--format", "onnx"
        )
        assert not (tmp_path / "run" / "export").exists()

    def test_names_of_files(self, run, tmp_path, capfd):
        assert "ends in .npz" in self.error(capfd, *run, "--format", "npz", "--out", tmp_path / "p.onnx")
        (tmp_path / "f.npz").mkdir()
        assert "is a folder" in self.error(capfd, *run, "--format", "npz", "--out", tmp_path / "f.npz")
        (tmp_path / "file").touch()
        assert "could not be written" in self.error(
            capfd, *run, "--format", "npz", "--out", tmp_path / "file" / "p.npz"
        )

    def test_without_a_format_a_folder_is_needed(self, run, capfd):
        assert "--out is needed" in self.error(capfd, *run)

    def test_a_folder_with_another_programs_checkpoints_is_left_as_it_is(self, tmp_path, capfd):
        run, out = saved.save(tmp_path / "run", "own"), tmp_path / "out"
        out.mkdir()
        (out / "manifest_1.json").write_text("{}")
        assert "holds manifest_1.json, which no awac run wrote" in self.error(capfd, "--ckpt_path", run, "--out", out)
        assert [path.name for path in out.iterdir()] == ["manifest_1.json"]

    def test_an_unknown_format_names_the_nearest(self, capfd):
        with pytest.raises(SystemExit):
            cli.main(["export", "--ckpt_path", "x", "--format", "onx"])
        assert "did you mean 'onnx'?" in capfd.readouterr().err
        with pytest.raises(ConfigError, match="mindir, npz, onnx"):
            formats.get("tflite")

    def test_no_checkpoint(self, tmp_path, capfd):
        assert "no checkpoint" in self.error(capfd, "--ckpt_path", tmp_path, "--format", "npz")


def test_unknown_bounds_are_said(tmp_path):
    folder = saved.save(tmp_path / "run", "unit")
    for path in folder.glob("manifest_*.json"):
        path.write_text(path.read_text(encoding="utf-8").replace('"action_bounds"', '"other"'), encoding="utf-8")
    assert policy_file.export_policy(folder, "npz")[0].startswith("Warning: ")


def test_the_default_file_is_in_the_runs_folder_and_an_episode_can_be_chosen(tmp_path):
    folder = saved.save(tmp_path / "run", "unit", episode=3)
    saved.save(folder, "unit", episode=7, seed=1)
    policy_file.export_policy(folder, "npz")
    policy_file.export_policy(folder, "npz", episode=3)
    names = sorted(path.name for path in (folder / "export").iterdir())
    assert names == ["policy_3.npz", "policy_3.npz.md", "policy_7.npz", "policy_7.npz.md"]
    act = formats.get("npz").load(folder / "export" / "policy_3.npz")
    policy = load_policy(folder, 3)
    observations = random_observations(policy)
    np.testing.assert_allclose(act(observations), policy(observations), atol=1e-6)


def test_inputs_and_outputs_have_names(tmp_path):
    pytest.importorskip("onnxruntime")
    import onnxruntime

    policy_file.export_policy(SHIPPED, "onnx", tmp_path / "p.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "p.onnx"))
    (first,), (last,) = session.get_inputs(), session.get_outputs()
    assert (first.name, first.shape, last.name, last.shape) == ("observation", ["batch", 111], "action", ["batch", 8])
    assert session.get_modelmeta().custom_metadata_map["task"] == "ant-expert-v2"


def test_mindir_has_the_same_names(tmp_path):
    from mindspore.train.mind_ir_pb2 import ModelProto

    policy_file.export_policy(SHIPPED, "mindir", tmp_path / "p.mindir")
    model = ModelProto()
    model.ParseFromString((tmp_path / "p.mindir").read_bytes())
    assert [x.name for x in (*model.graph.input, *model.graph.output)] == ["observation", "action"]


class TestCard:
    def test_it_says_what_the_run_noted(self, tmp_path):
        folder = saved.save(tmp_path / "run", "own", episode=30)
        head = "episode,phase,mean_return,std_return,min_return,falls,normalized_score,env_steps"
        rows = [f"{n},offline,{n}.5,1.25,0,0.5,,0" for n in (10, 20, 40)]
        (folder / "eval.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
        policy_file.export_policy(folder, "npz")
        text = (folder / "export" / "policy_30.npz.md").read_text(encoding="utf-8")
        for part in (
            "# Policy for Pendulum-v1",
            "checkpoint 30 of the run `run`",
            "20000 gradient steps on the data set alone, 10000 online",
            f"Data set `d.npz` (file), 500 rows; SHA-256 of the rows `{'ab' * 32}`",
            "float32 (B, 6), raw",
            "A Dict (by key), a Tuple or a matrix is flattened",
            "1 of 6 observation columns are constant and not used (3)",
            "| 1 | 0 | 0.5 |",  # bounds of the second action
            "There is no evaluation at episode 30 itself",
            "| 20 | offline | 20.5 | 1.25 | 0 | 0.5 |  |",
            "lam: 0.4",
            "| mindspore | 2.7.0 |",
            f"Exported with awac {__version__}.",
        ):
            assert part in text, part
        assert "| 40 |" not in text and "!!python" not in text

    def test_a_run_without_evaluations_says_so(self, tmp_path):
        policy_file.export_policy(saved.save(tmp_path / "run", "discrete from 5"), "npz", tmp_path / "p.npz")
        text = (tmp_path / "p.npz.md").read_text(encoding="utf-8")
        assert "holds no evaluations" in text and "int64 (B,), the index of the most probable action, 5 to 8" in text

    def test_a_run_without_an_environment_is_named_by_its_data(self, tmp_path):
        folder = saved.save(tmp_path / "run", "own", task="")
        path = folder / "manifest_3.json"
        text = path.read_text(encoding="utf-8").replace('"dataset": null', '"dataset": "logs/plant.csv"')
        path.write_text(text, encoding="utf-8")
        policy_file.export_policy(folder, "npz", tmp_path / "p.npz")
        text = (tmp_path / "p.npz.md").read_text(encoding="utf-8")
        assert text.startswith("# Policy for plant.csv\n") and "No environment; 3000 gradient steps" in text

    def test_its_python_runs(self, module, name, tmp_path):
        policy_file.export_policy(SHIPPED, name, tmp_path / f"p.{name}")
        text = (tmp_path / f"p.{name}.md").read_text(encoding="utf-8")
        code = re.search(r"```python\n(.*?)```", text, re.S)[1]
        code = f"import numpy\nobservation = numpy.ones((3, 111), numpy.float32)\n{code}\nprint(action.tolist())"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=120
        )
        assert done.returncode == 0, done.stderr
        found = np.array(ast.literal_eval(done.stdout.splitlines()[-1]))
        np.testing.assert_allclose(found, load_policy(SHIPPED)(np.ones((3, 111))), atol=1e-5)


def test_the_documented_snippet_is_what_is_checked():
    source = inspect.getsource(formats.get("npz").load)
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 15
    assert "".join(f"    {line}".rstrip() + "\n" for line in source.splitlines()) in page


def test_numpy_files_need_no_mindspore(tmp_path):
    code = (
        "import sys; from pathlib import Path; from awac.runs.export.policy_file import export_policy; "
        "export_policy(Path(sys.argv[1]), 'npz', Path(sys.argv[2])); "
        "assert not {'mindspore', 'mindspore_rl'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(SHIPPED), str(tmp_path / "p.npz")], check=True)
