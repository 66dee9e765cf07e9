"""awac doctor: each fault of a data set gets its verdict, a valid one gets none."""

import gymnasium
import h5py
import numpy as np
import pytest
from tiny import RECORDED, settings

from awac import cli
from awac.data.collect import record
from awac.data.doctor import doctor, examine, quick
from awac.data.sources import load_dataset
from awac.envs import Task, make_env

KEYS = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations", "infos/qpos", "infos/qvel")
TASK = "ant-expert-v2"


@pytest.fixture
def columns():
    with h5py.File(RECORDED) as file:
        return {key: file[key][()] for key in KEYS}


def verdicts(tmp_path, columns, task=TASK):
    path = tmp_path / "data.hdf5"
    with h5py.File(path, "w") as file:
        for key, values in columns.items():
            file[key] = values
    return [(f.verdict, f.check, f.text) for f in examine(str(path), task)]


def found(findings, verdict, check, words):
    return any(v == verdict and c == check and words in text for v, c, text in findings)


def test_a_sound_recording_is_fit(capsys):
    assert doctor(str(RECORDED), TASK) == 0
    out = capsys.readouterr().out
    assert "recorded on these physics" in out
    assert out.splitlines()[-1].startswith("Verdict: fit (")
    assert "warn " not in out and "fail " not in out.splitlines()[0]


def test_the_state_in_the_observation_stands_in_for_infos(tmp_path, columns):
    del columns["infos/qpos"], columns["infos/qvel"]
    assert found(verdicts(tmp_path, columns), "ok", "physics", "recorded on these physics")


def test_states_noted_after_the_step_are_recognised(tmp_path, columns):
    ends = columns["terminals"] | columns["timeouts"]
    for key in ("infos/qpos", "infos/qvel"):
        columns[key] = np.where(ends[:, None], 0, np.roll(columns[key], -1, axis=0)).astype(np.float32)
    assert found(verdicts(tmp_path, columns), "ok", "physics", "recorded on these physics")


def test_another_engine_is_a_warning_and_another_robot_fails(tmp_path, columns):
    rng = np.random.default_rng(0)
    exact = columns["next_observations"]
    columns["next_observations"] = exact + 5e-3 * rng.normal(size=exact.shape).astype(np.float32)
    assert found(verdicts(tmp_path, columns), "warn", "physics", "another engine")
    columns["next_observations"] = rng.permutation(exact)
    assert found(verdicts(tmp_path, columns), "fail", "physics", "not from this robot")


@pytest.mark.parametrize(
    ("key", "change", "verdict", "check", "words"),
    [
        ("rewards", lambda v: np.where(np.arange(len(v)) == 7, np.nan, v), "fail", "values", "rewards: 1 rows"),
        ("rewards", lambda v: 0.1 * v, "warn", "physics", "another reward"),
        ("rewards", lambda v: 0 * v, "warn", "rewards", "only clones"),
        ("rewards", lambda v: 1e6 * v, "warn", "rewards", "reward_scale"),
        ("actions", lambda v: 3 * v, "fail", "task", "outside the task's bounds"),
        ("actions", lambda v: np.sign(v), "warn", "actions", "at the bounds"),
        ("actions", lambda v: v * (np.arange(8) > 0), "warn", "actions", "1 of 8 columns are constant"),
        ("actions", lambda v: v * np.float32([1, 0.04, *[1] * 6]), "warn", "actions", "column 1 uses only 4.0% of"),
        ("actions", lambda v: v[:, :3], "fail", "task", "wrong task"),
        ("observations", lambda v: v[:5], "fail", "file", "5 rows"),
        ("observations", lambda v: 0 * v, "fail", "observations", "constant"),
        ("observations", lambda v: np.repeat(v[:, :1], v.shape[1], 1), "warn", "observations", "repeat another"),
        ("terminals", lambda v: v | True, "warn", "ends", "every row is terminal"),
        ("timeouts", lambda v: v | True, "warn", "ends", "terminal and timeout at once"),
        ("timeouts", lambda v: v & False, "warn", "episodes", "don't lead to the next one"),
        ("infos/qpos", lambda v: v[:, :3], "warn", "physics", "not checked"),
    ],
)
def test_faults(tmp_path, columns, key, change, verdict, check, words):
    columns[key] = change(columns[key])
    assert found(verdicts(tmp_path, columns), verdict, check, words)


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("task", [TASK, None])
def test_rows_without_a_next_observation_are_read_as_in_training(tmp_path, columns, task, marked):
    """As `groupby(...).shift(-1)` makes them: NaN in the last row of each episode, the file's last one included."""
    ends = columns["terminals"] | columns["timeouts"]
    ends[[20, -1]] = True  # an end that only a jump shows, if there is no column
    columns["next_observations"][ends] = np.nan
    columns["timeouts"] = ends & ~columns["terminals"]
    if not marked:
        del columns["timeouts"]
    findings = verdicts(tmp_path, columns, task)
    assert [finding for finding in findings if finding[0] == "fail"] == []
    assert found(findings, "ok", "values", f"no NaN, no infinity; {ends.sum()} rows have no next observation")
    assert len(load_dataset(tmp_path / "data.hdf5")) == len(ends) - (ends & ~columns["terminals"]).sum()


def test_rows_that_hardly_ever_lead_to_the_next_are_not_called_harmless(tmp_path, columns):
    columns["next_observations"] = columns["next_observations"] + np.float32(1e-3)
    assert found(verdicts(tmp_path, columns), "warn", "episodes", "not affected if the next observations are right")


@pytest.mark.parametrize("task", [TASK, None])
def test_a_next_observation_that_is_missing_within_an_episode_fails_once(tmp_path, columns, task):
    columns["next_observations"][3] = np.nan
    failed = [finding[1:] for finding in verdicts(tmp_path, columns, task) if finding[0] == "fail"]
    assert len(failed) == 1 and failed[0][0] == "file" and "next_observations has NaN" in failed[0][1]


def test_a_file_joined_to_itself(tmp_path, columns):
    twice = {key: np.concatenate([values, values]) for key, values in columns.items()}
    findings = verdicts(tmp_path, twice)
    assert found(findings, "warn", "rows", "50% of the rows")


@pytest.mark.parametrize("switched", [False, True])
def test_without_a_task_actions_have_the_range_of_the_data(tmp_path, columns, switched):
    valve = np.random.default_rng(0).uniform(0, 100, columns["actions"].shape)  # percent
    columns["actions"] = np.where(valve < 50, 0, 100) if switched else valve
    path = tmp_path / "logs.npz"
    np.savez(path, **columns)
    (finding,) = (finding for finding in examine(str(path)) if finding.check == "actions")
    share = 100 if switched else 0
    assert finding.verdict == ("warn" if switched else "ok")
    assert f"to 100, {share}% of the values at the ends of their range" in finding.text


def test_without_a_task_it_says_what_was_left_out(tmp_path, columns):
    assert found(verdicts(tmp_path, columns, task=None), "warn", "task", "give --task")


def test_discrete_actions(tmp_path):
    env = make_env("CartPole-v1")
    observation, _ = env.reset(seed=0)
    rows = {key: [] for key in ("observations", "actions", "rewards", "terminals", "next_observations")}
    for step in range(8):
        following, reward, terminated, _, _ = env.step(step % 2)
        for key, value in zip(rows, (observation, step % 2, reward, terminated, following), strict=True):
            rows[key].append(value)
        observation = following
    findings = verdicts(tmp_path, {key: np.asarray(values) for key, values in rows.items()}, "CartPole-v1")
    assert found(findings, "ok", "actions", "discrete") and found(findings, "ok", "task", "CartPole-v1")
    assert found(findings, "warn", "rewards", "only clones")
    assert found(findings, "warn", "rows", "8, fewer than one batch")


def test_exit_codes_of_the_command(tmp_path, capsys):
    assert cli.main(["doctor", str(RECORDED), "--task", TASK]) == 0
    assert cli.main(["doctor", str(RECORDED), "--task", "hopper-expert-v2"]) == 1
    assert cli.main(["doctor", str(tmp_path / "none.hdf5")]) == 1
    assert cli.main(["doctor", str(RECORDED), "--task", "no-such-task"]) == 1
    assert capsys.readouterr().err == ""


def test_training_logs_what_is_not_in_order_and_only_that(tmp_path, columns, graph_mode, capsys):
    env = make_env(TASK)
    assert quick(load_dataset(RECORDED), env, Task.parse(TASK)) == []
    env.close()
    columns["rewards"] = 0 * columns["rewards"]
    verdicts(tmp_path, columns)
    arguments = ["train", "--dataset", str(tmp_path / "data.hdf5"), "--ckpt_path", str(tmp_path / "ckpt")]
    assert cli.main([*arguments, "--episode", "1", *settings()]) == 0
    assert "Data warning: rewards: all are 0" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["npz", "hdf5", "csv"])
def test_columns_whose_values_float32_can_not_hold_are_named(tmp_path, form):
    rng, n = np.random.default_rng(0), 300
    observations = rng.normal(size=(n, 3))
    observations[:, 1] = 1e8 + np.arange(n) / n  # in float32 a constant
    rows = {"observations": observations, "actions": observations[:, 1], "rewards": observations[:, 1]}
    rows |= {"terminals": np.zeros(n), "timeouts": np.arange(n) % 100 == 99}
    path = tmp_path / f"data.{form}"
    if form == "npz":
        np.savez(path, **rows)
    elif form == "hdf5":
        with h5py.File(path, "w") as file:
            file.update(rows)
    else:
        header = "obs_0,obs_1,obs_2,action_0,reward,terminated,truncated"
        table = np.column_stack(list(rows.values()))
        np.savetxt(path, table, "%.17g", ",", header=header, comments="")
    findings = [(f.verdict, f.check, f.text) for f in examine(str(path))]
    text = "observation column 1 has 300 different values, 1 in float32: subtract an offset"
    assert found(findings, "warn", "reading", text)
    for name in ("action column 0", "the reward"):
        assert found(findings, "warn", "reading", f"{name} has 300 different values, 1 in float32: subtract an offset")
    assert form == "csv" or found(findings, "ok", "key", "observations (300, 3) float64")
    with pytest.warns(UserWarning, match=text):  # training logs the same lines
        load_dataset(path)
    # lengths and returns are of the same rows, although each episode's last has no next observation
    assert found(findings, "ok", "episodes", "3, lengths 100 / 100 / 100")


@pytest.fixture
def pendulum(tmp_path):
    """Two episodes in Pendulum's own units, with gym's `done` in the place of terminals."""
    env, rng = gymnasium.make("Pendulum-v1"), np.random.default_rng(0)
    rows = {key: [] for key in ("obs", "actions", "rewards", "done", "next_obs")}
    for seed in range(2):
        observation, _ = env.reset(seed=seed)
        for _ in range(200):
            action = rng.uniform(-2, 2, 1)
            result, reward, terminated, truncated, _ = env.step(action)
            for key, value in zip(rows, (observation, action, reward, terminated or truncated, result), strict=True):
                rows[key].append(value)
            observation = result
    np.savez(tmp_path / "pendulum.npz", **rows)
    return tmp_path / "pendulum.npz"


def test_the_doctor_reads_as_training_does(pendulum, tmp_path, graph_mode, capsys):
    findings = [(f.verdict, f.check, f.text) for f in examine(str(pendulum), "Pendulum-v1")]
    assert found(findings, "ok", "reading", "actions in environment units [-2, 2], scaled to [-1, 1]")
    assert found(findings, "warn", "reading", "2 of 2 terminal rows are the task's last step (200)")
    assert not any(verdict == "fail" for verdict, *_ in findings)
    arguments = ["train", "--task", "Pendulum-v1", "--dataset", str(pendulum), "--ckpt_path", str(tmp_path / "ckpt")]
    assert cli.main([*arguments, "--episode", "1", *settings()]) == 0
    out = capsys.readouterr().out
    for verdict, check, text in findings:
        if check == "reading":
            assert f"Data{' warning' if verdict == 'warn' else ''}: {text}\n" in out


def test_the_unit_can_be_given_to_the_doctor(pendulum, capsys):
    assert cli.main(["doctor", str(pendulum), "--task", "Pendulum-v1", "--action_unit", "scaled"]) == 1
    assert "outside the task's bounds" in capsys.readouterr().out


def test_doctor_and_training_drop_the_same_columns(tmp_path, columns, graph_mode, capsys):
    for key in ("observations", "next_observations"):
        columns[key][:, 30] = 450_000 + 0.3 * columns[key][:, 0]
        columns[key][:, 31] = 5e-7 * columns[key][:, 1]
    findings = verdicts(tmp_path, columns)
    text = "82 of 111 observation columns are constant and not used (27-29, 32-110)"
    assert found(findings, "ok", "observations", text)
    arguments = ["train", "--dataset", str(tmp_path / "data.hdf5"), "--ckpt_path", str(tmp_path / "ckpt")]
    assert cli.main([*arguments, "--episode", "1", *settings()]) == 0
    assert f"Data: {text}\n" in capsys.readouterr().out


def recorded_with(monkeypatch, tmp_path, make, *, name="Robot-v0"):
    """Verdicts on the physics of rows that were recorded in the same task."""
    monkeypatch.setitem(gymnasium.registry, name, gymnasium.envs.registration.EnvSpec(name, make, max_episode_steps=50))
    record(name, "random", tmp_path / "d.hdf5", rows=60, progress=False)
    assert doctor(str(tmp_path / "d.hdf5"), name) == 0
    return [(f.verdict, f.text) for f in examine(str(tmp_path / "d.hdf5"), name) if f.check == "physics"]


def stand():
    return gymnasium.make("InvertedPendulum-v5").unwrapped


class Halved(gymnasium.ObservationWrapper):
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))

    def observation(self, observation):
        return observation[:2].astype(np.float32)


class Named(type(stand())):
    """Observations by name."""

    def __init__(self):
        super().__init__()
        self.observation_space = gymnasium.spaces.Dict(x=self.observation_space)

    def reset(self, **kwargs):
        observation, info = super().reset(**kwargs)
        return {"x": observation}, info

    def step(self, action):
        observation, *others = super().step(action)
        return {"x": observation}, *others


class Goal(type(stand())):
    """The observation has a goal that is drawn at each reset."""

    def __init__(self):
        super().__init__()
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (5,))

    def reset(self, **kwargs):
        self.goal = np.random.default_rng(kwargs.get("seed")).normal() * 9
        return super().reset(**kwargs)

    def _get_obs(self):
        return np.append(super()._get_obs(), getattr(self, "goal", 0.0))


@pytest.mark.parametrize(
    ("make", "verdict", "words"),
    [
        (stand, "ok", "recorded on these physics"),
        (lambda: Halved(stand()), "warn", "not checked: its wrapper Halved"),
        (Named, "warn", "not checked: its observations are not a plain vector"),
        (Goal, "warn", "observations that depend on more than the state"),
    ],
)
def test_other_peoples_mujoco_tasks_are_not_condemned(tmp_path, monkeypatch, make, verdict, words):
    found = recorded_with(monkeypatch, tmp_path, make)
    assert found[0][0] == verdict and words in found[0][1]


class Large(type(stand())):
    """One column is large, and gravity may be another."""

    gravity = -9.81

    def __init__(self):
        super().__init__()
        self.model.opt.gravity[2] = self.gravity
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (5,))

    def _get_obs(self):
        return np.append(super()._get_obs(), 450000.0)


def test_a_large_column_hides_no_other_physics(tmp_path, monkeypatch):
    assert recorded_with(monkeypatch, tmp_path, Large)[0][0] == "ok"
    monkeypatch.setattr(Large, "gravity", -2.0)
    found = [f for f in examine(str(tmp_path / "d.hdf5"), "Robot-v0") if f.check == "physics"]
    assert found[0].verdict == "warn" and "another engine, other settings" in found[0].text
