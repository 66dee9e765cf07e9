"""Fitted Q evaluation: correct on a task with a known answer; the command needs no environment."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest
import saved
from mindspore import Tensor, nn
from tiny import settings

from awac import cli
from awac.algorithm.fqe import FittedQ
from awac.data.transitions import Transitions
from awac.errors import CheckpointError, ConfigError
from awac.training.fitted_q import Estimate, Settings, _Batches, first_states, fitted_q, rank_correlation
from awac.training.offline_evaluation import Ranked, _known, _remarks, evaluate_offline

pytestmark = pytest.mark.usefixtures("graph_mode")
STATES, GAMMA = 5, 0.9
SMALL = Settings(gamma=GAMMA, steps=1500, critics=2, hidden=(32, 32), batch_size=64, learning_rate=3e-3)


def chain(continuous: bool, rows: int = 4000, seed: int = 0) -> Transitions:
    """A ring of five states, moved on by action 1 (or above 0), stayed in by 0; it ends in state 4 at every third try.

    The reward is the state's number. Actions are drawn evenly.
    """
    rng = np.random.default_rng(seed)
    state, forward = rng.integers(STATES, size=rows), rng.random(rows) < 0.5
    terminated = (state == STATES - 1) & (rng.random(rows) < 1 / 3)
    state[np.flatnonzero(terminated | (np.arange(rows) % 50 == 49))[:-1] + 1] = 0  # episodes begin in state 0
    terminated &= state == STATES - 1
    following = (state + forward) % STATES
    action = np.where(forward, 0.7, -0.7)[:, None].astype(np.float32) if continuous else forward.astype(np.int32)
    code = np.eye(STATES, dtype=np.float32)
    truncated = (np.arange(rows) % 50 == 49) & ~terminated
    return Transitions(code[state], action, state.astype(np.float32), code[following], terminated, truncated)


def truth(forward: float) -> float:
    """V of state 0 under a policy that always moves on, or never does."""
    move = np.zeros((STATES, STATES))
    for i in range(STATES):
        move[i, (i + bool(forward)) % STATES] = 2 / 3 if i == STATES - 1 else 1.0
    return float(np.linalg.solve(np.eye(STATES) - GAMMA * move, np.arange(STATES))[0])


@pytest.mark.parametrize("continuous", [True, False])
def test_it_finds_the_value_of_a_chain(continuous):
    def policy(forward):
        if continuous:
            return lambda o: np.full((len(o), 1), 0.7 if forward else -0.7, np.float32)
        return lambda o: np.full(len(o), int(forward))

    data = chain(continuous)
    go, stay = fitted_q(data, [policy(True), policy(False)], None if continuous else 2, SMALL)
    assert go.value == pytest.approx(truth(True), rel=0.1)
    assert abs(stay.value - truth(False)) < 0.1 * truth(True)  # 0: it never earns anything
    assert go.std < 0.1 * truth(True) and abs(go.drift) < 0.1 * truth(True)
    expected = 0.5 if not continuous else np.sqrt(0.5 * 1.4**2)
    assert go.off_data == pytest.approx(expected, rel=0.05)


def test_episodes_begin_after_ends_only():
    data = chain(continuous=False, rows=120)
    ends = np.flatnonzero(data.terminated | data.truncated)
    assert first_states(data).tolist() == [0, *(ends[ends < 119] + 1)]


def test_the_same_seed_gives_the_same_estimate_and_another_one_another():
    data, policy = chain(continuous=False, rows=300), lambda o: np.ones(len(o), int)
    few = dataclasses.replace(SMALL, steps=80)
    first, again = (fitted_q(data, [policy], 2, few) for _ in range(2))
    assert first == again
    assert fitted_q(data, [policy], 2, dataclasses.replace(few, seed=1))[0].value != first[0].value


def test_targets_stay_within_what_rewards_can_sum_up_to():
    critics = FittedQ(2, 1, False, (8,), copies=1, gamma=0.9, learning_rate=1e-3, bounds=(-1.0, 1.0), start=50.0)

    class Target(nn.Cell):
        def construct(self, rows):
            return critics.target(rows)

    assert Target()(Tensor(np.zeros((1, 4, critics.width), np.float32))).asnumpy().tolist() == [[1.0] * 4]


@pytest.mark.parametrize(("rewards", "bounds"), [([1, 3], (0, 30)), ([-2, -1], (-20, 0)), ([-1, 4], (-10, 40))])
def test_the_bounds_are_those_of_endless_episodes_of_the_data(rewards, bounds):
    data = dataclasses.replace(chain(False, rows=100), rewards=np.resize(np.float32(rewards), 100))
    batches = _Batches(data, [lambda o: np.ones(len(o), int)], SMALL, np.random.default_rng(0))
    assert batches.bounds == pytest.approx(bounds)


def test_short_episodes_have_values_of_their_own_size():
    """One-step episodes of four actions that earn 1, 1.1, 1.2 and 1.3."""
    rng, n = np.random.default_rng(0), 3000
    action, ends = rng.integers(4, size=n), np.ones(n, bool)
    states = rng.normal(size=(n, 3)).astype(np.float32)
    data = Transitions(states, action.astype(np.int32), np.float32(1 + 0.1 * action), states, ends, ~ends)
    policies = [lambda o, i=i: np.full(len(o), i) for i in range(4)]
    found = fitted_q(data, policies, 4, Settings(steps=600, critics=2, hidden=(32,), learning_rate=3e-3))
    assert [e.value for e in found] == pytest.approx([1.0, 1.1, 1.2, 1.3], abs=0.04)


@pytest.mark.parametrize(
    ("gamma", "values", "drift", "words"),
    [
        (0.99, (100.0, 0.1), (0.1, -0.06), None),
        (0.99, (100.0, 0.1), (0.1, 20.0), "1 of 2 estimates still move"),
        (0.999, (100.0, 0.1), (0.1, 0.1), "with gamma 0.999 values need more --steps, 30,000 or more"),
    ],
)
def test_what_has_not_settled_is_said(tmp_path, gamma, values, drift, words):
    ranked = [
        Ranked(tmp_path, i, Estimate(value, 0.1, d, 0.0), 500.0, None)
        for i, (value, d) in enumerate(zip(values, drift, strict=True))
    ]
    warned = [line for line in _remarks(ranked, Settings(gamma=gamma)) if line.startswith("Warning")]
    assert len(warned) == (words is not None) and all(words in line for line in warned)
    said = _remarks([*ranked, *ranked], Settings())
    assert any("Rank correlation with the runs' own evaluations: none, since" in line for line in said)


def test_one_critic_has_no_spread():
    data, single = chain(continuous=False, rows=300), Settings(steps=25, critics=1, hidden=np.array([8]))
    (estimate,) = fitted_q(data, [lambda o: np.ones(len(o), int)], 2, single)
    assert np.isnan(estimate.std)


@pytest.mark.parametrize(
    "wrong",
    [{"gamma": 1.0}, {"gamma": "0.9"}, {"steps": 0}, {"steps": "20"}, {"critics": 2.0}, {"batch_size": 2.5},
     {"hidden": 64}, {"hidden": (0,)}, {"critics": True}, {"seed": -1}, {"learning_rate": "1e-3"}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong):
    data = chain(continuous=False, rows=50)
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        fitted_q(data, [lambda o: np.ones(len(o), int)], 2, dataclasses.replace(SMALL, **wrong))


def test_rank_correlation():
    assert rank_correlation([1, 2, 3], [10, 20, 30]) == 1.0
    assert rank_correlation([1, 2, 3], [30, 20, 10]) == -1.0
    assert rank_correlation([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)
    assert rank_correlation([1, 1, 2], [1, 1, 5]) == 1.0  # equal values share a rank
    assert np.isnan(rank_correlation([1, 1], [1, 2]))


class TestCommand:
    """Policies of `saved` on rows of a file: no environment is made, for there is none of that name."""

    TASK = "nowhere:Missing-v0"

    @pytest.fixture
    def rows(self, tmp_path):
        rng, n = np.random.default_rng(0), 300
        low, high = np.array(saved.BOXES["own"])
        np.savez(
            tmp_path / "d.npz",
            observations=rng.normal(size=(n, 6)),
            actions=rng.uniform(low, high, (n, 3)),
            rewards=rng.normal(size=n),
            terminals=np.arange(n) % 60 == 59,
            timeouts=np.zeros(n, bool),
        )
        return tmp_path / "d.npz"

    def awac(self, capfd, code, *arguments):
        few = ("--steps", "25", "--critics", "2")
        assert cli.main(["evaluate-offline", *map(str, arguments), *few]) == code
        out, err = capfd.readouterr()
        if code:
            assert err.startswith("awac: error: ") and err.count("\n") == 1
        return err if code else out

    def test_it_ranks_the_checkpoints_of_several_runs(self, rows, tmp_path, capfd):
        one, two = tmp_path / "one", tmp_path / "two"
        for episode in (3, 7):
            saved.save(one, "own", self.TASK, episode, seed=episode)
        saved.save(two, "own", self.TASK, episode=5)
        returns = {3: 30.0, 7: 10.0}
        lines = ["episode,phase,mean_return,normalized_score", *(f"{n},offline,{r}," for n, r in returns.items())]
        (one / "eval.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        out = self.awac(capfd, 0, "--ckpt_path", one, two, "--episode", "all", "--dataset", rows)
        with open(one / "offline_evaluation.csv", newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        assert {(row["folder"], row["episode"], row["mean_return"]) for row in table} == {
            (str(one), "3", "30"),
            (str(one), "7", "10"),
            (str(two), "5", ""),
        }
        values = [float(row["estimate"]) for row in table]
        assert values == sorted(values, reverse=True) and all(float(row["std"]) >= 0 for row in table)
        constant = [tuple(row[name] for name in ("steps", "critics", "gamma", "rows")) for row in table]
        assert constant == 3 * [("25", "2", "0.99", "300")]
        best = table[0]
        assert f"Highest estimate: {best['folder']} checkpoint {best['episode']}" in out
        assert f"{float(best['estimate']):.2f}" in out and "3 policies" in out

    def test_actions_are_taken_in_the_unit_that_the_file_has(self, rows, tmp_path, capfd):
        """Actions in the file are in the environment's units: the same rows, stored scaled, give the same estimate."""
        run = saved.save(tmp_path / "run", "own", self.TASK)
        low, high = np.array(saved.BOXES["own"])
        arrays = dict(np.load(rows))
        width = np.where(high > low, (high - low) / 2, 1.0)
        arrays["actions"] = (arrays["actions"] - (low + high) / 2) / width
        np.savez(tmp_path / "scaled.npz", **arrays)
        found = []
        for options in (("--dataset", rows), ("--dataset", tmp_path / "scaled.npz", "--action_unit", "scaled")):
            self.awac(capfd, 0, "--ckpt_path", run, *options)
            with open(run / "offline_evaluation.csv", newline="", encoding="utf-8") as file:
                found.append(next(csv.DictReader(file)))
        assert found[0]["off_data"] == found[1]["off_data"]
        assert float(found[0]["estimate"]) == pytest.approx(float(found[1]["estimate"]), rel=1e-3)

    def test_the_rows_are_those_of_training(self, tmp_path, capfd, graph_mode):
        """Without marks an episode ends at the task's limit of 200 steps, which the policy's checkpoint notes."""
        rng, n = np.random.default_rng(0), 600
        file, run = tmp_path / "d.npz", tmp_path / "run"
        columns = {"observations": rng.normal(size=(n, 3)), "actions": rng.uniform(-2, 2, (n, 1))}
        np.savez(file, rewards=rng.normal(size=n), terminals=np.zeros(n, bool), **columns)
        command = ["train", "--task", "Pendulum-v1", "--dataset", str(file), "--ckpt_path", str(run), "--episode", "1"]
        assert cli.main([*command, *settings()]) == 0
        trained = next(line for line in capfd.readouterr().out.splitlines() if line.startswith("Data set"))
        out = self.awac(capfd, 0, "--ckpt_path", run)
        assert trained in out and "other rows" not in out
        np.savez(file, rewards=rng.normal(size=n), terminals=np.zeros(n, bool), **columns)
        assert f"Warning: {run} was trained on other rows than " in self.awac(capfd, 0, "--ckpt_path", run)
        assert "other rows" not in self.awac(capfd, 0, "--ckpt_path", run, "--dataset", file)

    def test_mistakes_are_one_line(self, rows, tmp_path, capfd):
        run, other = saved.save(tmp_path / "a", "own", self.TASK), saved.save(tmp_path / "b", "unit", self.TASK)
        assert "different observations or actions" in self.awac(capfd, 1, "--ckpt_path", run, other, "--dataset", rows)
        assert "no such checkpoint folder" in self.awac(capfd, 1, "--ckpt_path", tmp_path / "c")
        assert "no checkpoint 9" in self.awac(capfd, 1, "--ckpt_path", run, "--episode", 9, "--dataset", rows)
        assert "neither a file nor a known id" in self.awac(capfd, 1, "--ckpt_path", run)  # the task names no data
        third = saved.save(tmp_path / "d", "own", "nowhere:Other-v0")
        assert "give one with --dataset" in self.awac(capfd, 1, "--ckpt_path", run, third)
        out = tmp_path / "d.npz" / "x.csv"
        assert "could not be written" in self.awac(capfd, 1, "--ckpt_path", run, "--dataset", rows, "--out", out)
        with pytest.raises(ConfigError, match="no run folder"):
            evaluate_offline([])
        with pytest.raises(CheckpointError, match="no checkpoint 9"):
            evaluate_offline(run, 9, dataset=str(rows))
        for wrong in (["--gamma", "1"], ["--episode", "none"], ["--critics", "0"]):
            with pytest.raises(SystemExit):
                cli.main(["evaluate-offline", "--ckpt_path", str(run), *wrong])
            assert capfd.readouterr().err.count("\n") == 1

    def test_discrete_policies(self, tmp_path, capfd):
        run = saved.save(tmp_path / "run", "discrete from 5", self.TASK)
        rng, n = np.random.default_rng(0), 200
        columns = {"observations": rng.normal(size=(n, 6)), "actions": rng.integers(5, 9, n), "rewards": np.ones(n)}
        np.savez(tmp_path / "d.npz", terminals=np.arange(n) % 20 == 19, **columns)
        self.awac(capfd, 0, "--ckpt_path", run, "--dataset", tmp_path / "d.npz", "--out", tmp_path / "x.csv")
        with open(tmp_path / "x.csv", newline="", encoding="utf-8") as file:
            row = next(csv.DictReader(file))
        assert 0.5 < float(row["off_data"]) < 0.95  # four actions, drawn evenly
        assert 1.0 < float(row["estimate"]) < 100.0


def test_the_same_policy_twice_gives_the_same_figures():
    data = chain(True, rows=200)
    settings = dataclasses.replace(SMALL, steps=30, critics=1)
    found = fitted_q(data, [lambda o: np.full((len(o), 1), 0.7, np.float32)] * 2, None, settings)
    exact = np.sqrt(np.square(data.actions - 0.7).mean())
    assert [e.off_data for e in found] == [pytest.approx(exact)] * 2
    assert found[0].value == found[1].value
    assert np.isnan(found[0].drift), "after so few steps nobody knows"


def test_an_unknown_setting_of_the_fit_names_the_nearest():
    with pytest.raises(ConfigError, match="fit: unknown setting 'critic': did you mean 'critics'"):
        _known({"steps": 10, "critic": 2})
