"""The compiled learner: equal to an independent numpy step and to single steps, and correct at the end of an
episode."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from reference import Network, Reference
from tiny import ACT, BATCH, OBS, STEPS, algo, experience, learner, needs_a_compiler, parameters

from awac.algorithm.networks import MLP
from awac.algorithm.optim import BETA2, LATE, LATE_BETA2
from awac.algorithm.policy import assign_array, parameter_arrays
from awac.algorithm.step import METRICS
from awac.config import PRESETS
from awac.data.normalizer import Normalizer
from awac.data.replay import Replay
from awac.data.transitions import Transitions

pytestmark = pytest.mark.usefixtures("graph_mode")


def split(rows, discrete=False):
    """Packed rows (B, W) → obs, next_obs, action, reward, terminated."""
    columns = 1 if discrete else ACT
    obs, next_obs, action, reward, terminated = np.split(
        rows.astype(np.float64), [OBS, 2 * OBS, 2 * OBS + columns, 2 * OBS + columns + 1], axis=1
    )
    return obs, next_obs, action, reward[:, 0], terminated[:, 0]


def reference(config, our, discrete=False):
    """The numpy implementation with the learner's present weights."""
    return Reference(config, parameter_arrays(our.actor), parameter_arrays(our.critic), discrete)


@pytest.fixture(scope="module")
def single():
    """A learner of one step a call, compiled once; `set_to` puts it back."""
    return learner(algo("ant"))


@pytest.fixture(scope="module")
def start(single):
    return parameters(single)


@pytest.fixture(scope="module")
def many():
    """A learner of STEPS steps per call."""
    return learner(algo("ant"))


def set_to(our, state):
    """Gives the learner these parameters; `set_data` would do so too, but not once the graph is compiled."""
    for parameter in our.get_parameters():
        ms.ops.assign(parameter, ms.Tensor(state[parameter.name]))
    return our


@pytest.mark.parametrize("discrete", [False, True])
def test_targets_and_average_start_as_copies(discrete):
    our = learner(algo(), discrete)
    pairs = ((our.updates.critic, our.updates.target), (our.updates.actor, our.updates.average))
    for online, copy in pairs:
        assert len(online) == len(copy) > 0
        for one, other in zip(online, copy, strict=True):
            assert one is not other
            np.testing.assert_array_equal(one.asnumpy(), other.asnumpy())


def test_the_twin_critics_start_apart():
    first, second = learner(algo()).updates.critic[0].asnumpy()
    assert np.abs(first - second).min() > 0


def test_the_seed_decides_the_initial_weights():
    one, same, other = (parameters(learner(algo(), seed=seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one["policy.0.weight"], other["policy.0.weight"])
    assert not np.array_equal(one["value.0.weight"], other["value.0.weight"])


@pytest.mark.parametrize(
    "preset, changes, discrete",
    [(preset, {}, False) for preset in PRESETS]
    + [
        ("ant", {"weighting": "exp", "weight_clip": 1.05, "lam": 0.5, "reward_scale": 2.0, "actor_ema": 0.9}, False),
        ("ant", {"actor_weight_decay": 1e-2}, True),
        ("ant", {"update_order": "critic_first", "squash_mean": False, "log_std_bound": "clamp"}, False),
        ("ant", {"log_std_bound": "clamp", "state_dependent_std": True, "log_std_min": -0.1}, False),
        ("ant", {"update_order": "critic_first"}, True),
        ("ant", {"lam_unit": "td_error", "lam": 0.3, "weighting": "exp", "weight_floor": 0.4}, False),
    ],
)
def test_a_call_equals_the_numpy_implementation(preset, changes, discrete):
    config = algo(preset, **changes)
    our = learner(config, discrete)
    expected = reference(config, our, discrete)
    rows, noise = experience(discrete)
    metrics, bad_step = our.learn((rows, noise))
    history = [expected.step(*split(rows[k], discrete), noise[k].astype(np.float64)) for k in range(STEPS)]
    assert bad_step == STEPS
    for name, value in zip(METRICS, metrics, strict=True):
        assert value == pytest.approx(np.mean([step[name] for step in history]), rel=1e-4, abs=1e-5), name
    for name, value in parameter_arrays(our.actor).items():
        np.testing.assert_allclose(value, expected.actor.weights[name], atol=1e-5, err_msg=f"actor {name}")
    for cell, nets in ((our.critic, expected.critics), (our.target_critic, expected.targets)):
        for name, value in parameter_arrays(cell).items():
            twins = np.stack([net.weights[name] for net in nets])
            np.testing.assert_allclose(value, twins, atol=1e-5, err_msg=f"{cell.net.weights[0].name} {name}")
    if config.actor_ema:
        for name, value in parameter_arrays(our.deployed_actor).items():
            np.testing.assert_allclose(value, expected.average[name], atol=1e-5, err_msg=f"average {name}")
    else:
        assert our.deployed_actor is our.actor


@pytest.fixture
def plain(monkeypatch):
    """Learners made from now on don't use the native operator."""
    monkeypatch.setenv("AWAC_NATIVE", "0")


@pytest.mark.parametrize(
    "preset, changes, discrete",
    [(preset, {}, False) for preset in PRESETS]
    + [
        ("ant", {"weighting": "exp", "weight_clip": 1.05, "lam": 0.5, "reward_scale": 2.0}, False),
        ("ant", {"weighting": "exp", "weight_clip": 1.05, "lam": 0.5}, True),
        ("paper", {}, True),
        ("bc", {"weight_floor": 2.0}, True),
        ("ant", {"update_order": "critic_first", "squash_mean": False, "log_std_bound": "clamp"}, False),
        ("ant", {"log_std_bound": "clamp", "state_dependent_std": True, "log_std_min": -0.1}, False),
        ("ant", {"update_order": "critic_first", "weighting": "exp"}, True),
        ("ant", {"update_order": "critic_first", "lam_unit": "td_error", "lam": 0.3, "weight_floor": 0.4}, False),
    ],
)
@needs_a_compiler
def test_the_native_steps_equal_the_plain_ones(monkeypatch, preset, changes, discrete):
    """Losses and every parameter after 20 steps; Adam's moments, sums that partly cancel, are the gradients."""
    config = algo(preset, actor_lr=3e-4, critic_lr=3e-4, **changes)
    fast = learner(config, discrete)
    assert fast.steps.native is not None, fast.path
    monkeypatch.setenv("AWAC_NATIVE", "0")
    slow = learner(config, discrete)
    assert slow.steps.native is None
    results = [our.learn(experience(discrete, steps=20)) for our in (fast, slow)]
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5, atol=1e-6)
    assert results[0][1] == results[1][1] == 20
    expected = parameters(slow)
    for name, value in parameters(fast).items():
        atol = (3e-5 if "_adam." in name else 1e-5) * np.abs(expected[name]).max()
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=atol, err_msg=name)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("preset, changes, discrete", [("ant", {}, False), ("paper", {"weighting": "exp"}, True)])
def test_the_plain_steps_equal_the_numpy_implementation(preset, changes, discrete):
    test_a_call_equals_the_numpy_implementation(preset, changes, discrete)


@pytest.fixture(scope="module")
def powers():
    """β₂ᵗ after t steps as Adam multiplies it in float32, {t: power}; 0.999ᵗ itself stays at 7e-43 from 96,902 on."""
    found, power, beta2, late = {}, np.float32(1.0), np.float32(BETA2), np.float32(LATE_BETA2)
    for t in range(1, 400_001):
        power *= beta2 if power > LATE else late
        if t in (1, 100, 20_000, 69_000, 69_100, 96_000, 97_000, 150_000, 400_000):
            found[t] = power
    return found


@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_a_compiler), False])
@pytest.mark.parametrize("decay", [0.9997, 0.99999, 0.999999])
def test_the_average_s_rate_is_that_of_its_step_however_late(powers, native, decay, monkeypatch):
    """r = (1 − d) / (1 − dᵗ): from zeros, a step leaves r times the policy's weights in the average."""
    if not native:
        monkeypatch.setenv("AWAC_NATIVE", "0")
    our = learner(algo(actor_ema=decay))
    assert (our.steps.native is not None) == native, our.path
    for t, power in powers.items():
        for parameter in our.updates.average:
            assign_array(parameter, np.zeros(parameter.shape, np.float32))
        assign_array(our.updates.actor_adam.beta2_power, power)
        our.learn(experience(steps=1))
        weight, average = our.updates.actor[0].asnumpy(), our.updates.average[0].asnumpy()
        expected = (1 - decay) / (1 - decay ** (t + 1))
        assert (average / weight).mean() == pytest.approx(expected, rel=2e-2), t  # MindSpore's expm1 is exp − 1
        after = our.updates.actor_adam.beta2_power.asnumpy()
        assert after == np.float32(power) * np.float32(BETA2 if power > LATE else LATE_BETA2)


FINGERPRINT = """
import hashlib
import numpy as np
from tiny import OBS, ACT, algo, learner, parameters
from awac.training.session import select_device

select_device("CPU")
our = learner(algo("ant", critic_hidden=(200, 70), actor_hidden=(130,)))
rng = np.random.default_rng(0)
our.learn((rng.normal(size=(3, 300, 2 * OBS + ACT + 2)).astype("f4"), rng.normal(size=(3, 2, 300, ACT)).astype("f4")))
print(hashlib.sha256(b"".join(value.tobytes() for value in parameters(our).values())).hexdigest())
"""


def test_the_number_of_threads_changes_nothing():
    found = set()
    for threads in ("1", "3"):
        environment = dict(os.environ, OMP_NUM_THREADS=threads, PYTHONPATH=os.pathsep.join(sys.path))
        done = subprocess.run(
            [sys.executable, "-c", FINGERPRINT],
            env=environment,
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout.split()[-1])
    assert len(found) == 1


def test_one_call_of_k_steps_equals_k_calls_of_one(single, many, start):
    for our in (single, many):
        set_to(our, start)
    rows, noise = experience()
    together, _ = many.learn((rows, noise))
    apart = [single.learn((rows[k : k + 1], noise[k : k + 1]))[0] for k in range(STEPS)]
    np.testing.assert_allclose(together, np.mean(apart, axis=0), rtol=1e-5)
    for name, value in parameters(many).items():
        np.testing.assert_allclose(value, parameters(single)[name], rtol=0, atol=1e-6, err_msg=name)


def test_the_same_call_gives_the_same_networks_to_the_bit(single, start):
    results = []
    for _ in range(2):
        set_to(single, start).learn(experience(steps=1))
        results.append(parameters(single))
    assert all(np.array_equal(results[0][name], results[1][name]) for name in start)


def test_targets_follow_by_polyak_averaging(single, start):
    set_to(single, start).learn(experience(steps=1))
    for target, online in zip(single.updates.target, single.updates.critic, strict=True):
        before, tau = start[target.name].astype(np.float64), single.steps.config.tau
        assert np.abs(online.asnumpy() - before).max() > 1e-3
        np.testing.assert_allclose(target.asnumpy(), (1 - tau) * before + tau * online.asnumpy(), atol=1e-7)


class TestEpisodeEnds:
    """From recorded or collected transitions through the replay to the critic's loss."""

    NORMALIZER = Normalizer.identity(OBS)

    def replay(self, terminated, truncated, region, next_scale=1.0):
        """One transition, as data set row or as online row."""
        rng = np.random.default_rng(3)
        obs, following = rng.normal(size=(2, 1, OBS)).astype(np.float32)
        following, action, reward = next_scale * following, np.full((1, ACT), 0.3, np.float32), np.float32([0.7])
        data = Transitions(obs, action, reward, following, np.array([terminated]), np.array([truncated]))
        if region == "offline":
            return Replay(data, self.NORMALIZER, 0)
        memory = Replay(None, self.NORMALIZER, 10, ACT)
        memory.add(obs[0], action[0], 0.7, following[0], terminated)
        return memory

    def critic_loss(self, single, start, memory):
        """Loss as the learner gives it, the rows, the noise and the reference at the same weights."""
        set_to(single, start)
        expected = reference(single.steps.config, single)
        rows = memory.sample(np.random.default_rng(0), 1, BATCH, None)
        noise = np.random.default_rng(1).standard_normal((1, 2, BATCH, ACT), np.float32)
        metrics, _ = single.learn((rows, noise))
        return metrics[METRICS.index("critic_loss")], split(rows[0]), noise[0], expected

    @pytest.mark.parametrize("region", ["offline", "online"])
    @pytest.mark.parametrize("ending, bootstraps", [("terminated", False), ("truncated", True), ("neither", True)])
    def test_only_a_termination_cuts_the_bootstrap(self, single, start, region, ending, bootstraps):
        memory = self.replay(ending == "terminated", ending == "truncated", region)
        loss, (obs, next_obs, action, reward, _), noise, expected = self.critic_loss(single, start, memory)
        target = reward + bootstraps * single.steps.config.gamma * expected.value(expected.targets, next_obs, noise[0])
        q = [net.forward(np.hstack([obs, action]))[0][:, 0] for net in expected.critics]
        assert loss == pytest.approx(sum(((one - target) ** 2).mean() for one in q), rel=1e-4)

    @pytest.mark.parametrize("ending, matters", [("terminated", False), ("truncated", True)])
    def test_what_follows_a_termination_has_no_effect(self, single, start, ending, matters):
        losses = []
        for scale in (1.0, -2.0):
            memory = self.replay(ending == "terminated", ending == "truncated", "offline", scale)
            losses.append(self.critic_loss(single, start, memory)[0])
        assert (losses[0] != losses[1]) == matters


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("step", [0, 2])
def test_the_first_step_that_is_not_finite_is_named(many, start, value, step):
    rows, noise = experience()
    rows[step, 1, -2] = value
    assert set_to(many, start).learn((rows, noise))[1] == step
    assert set_to(many, start).learn(experience())[1] == STEPS


@pytest.mark.parametrize("copies", [None, 2])
def test_the_layer_norm_by_centred_weights_is_a_plain_layer_norm(copies):
    rng = np.random.default_rng(0)
    net = MLP((OBS, 16, 16, 2), rng, "net", copies=copies, layer_norm=True)
    x = (3 * rng.normal(size=(BATCH, OBS)) + 1).astype(np.float32)
    lead = () if copies is None else (copies,)
    out = net(ms.Tensor(np.broadcast_to(x, (*lead, BATCH, OBS)).copy())).asnumpy().reshape(-1, BATCH, 2)
    for i, one in enumerate(out):
        weights = {name: value if copies is None else value[i] for name, value in parameter_arrays(net).items()}
        np.testing.assert_allclose(one, Network(weights, layer_norm=True).forward(x)[0], atol=1e-5)
        assert np.abs(one - Network(weights).forward(x)[0]).max() > 1e-2


def test_a_normalised_layer_is_free_of_the_scale_of_its_weights():
    """LayerNorm makes the next layer's input independent of the scale of the weights."""
    net = MLP((OBS, 16, 2), np.random.default_rng(0), "net", layer_norm=True)
    x = ms.Tensor(np.random.default_rng(1).normal(size=(BATCH, OBS)).astype(np.float32))
    before = net(x).asnumpy()
    for parameter in (net.weights[0], net.biases[0]):
        ms.ops.assign(parameter, ms.Tensor(parameter.asnumpy() * 100))
    np.testing.assert_allclose(net(x).asnumpy(), before, atol=1e-3)


def test_a_call_keeps_nothing_of_the_buffer_that_the_replay_reuses(single, start):
    """`Replay.sample` overwrites its buffer: a call that has returned must not change any more."""
    rows, noise = experience(steps=1)
    metrics, _ = set_to(single, start).learn((rows, noise))
    before = parameters(single)
    rows[:] = np.nan
    assert np.isfinite(metrics).all()
    assert all(np.array_equal(value, before[name]) for name, value in parameters(single).items())


def test_names_stay_the_same_in_other_cells_and_old_ones_are_taken(many, start):
    """MindSpore's parameter names contain the enclosing cells; so do checkpoints of earlier versions."""
    before = many.state_dict()
    assert {"policy.log_std", "average_policy.0.weight", "actor_adam.m.0", "critic_adam.beta2_power"} <= set(before)
    ms.nn.CellList([many])
    many.learn(experience())
    after = many.state_dict()
    assert list(after) == list(before)
    doubled = {re.sub(r"^(\w+_adam)\.([mv])", r"\1.\1.\2", name): value for name, value in before.items()}
    many.load_state_dict({f"msrl.learner.{name}": value for name, value in doubled.items()})
    for name, value in many.state_dict().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


@pytest.mark.parametrize("native", [pytest.param("1", marks=needs_a_compiler), "0"])
def test_tiny_weights_have_an_effective_sample_size(native, monkeypatch):
    """Their squares are 0 in float32; all are alike here, so ESS/B is 1."""
    monkeypatch.setenv("AWAC_NATIVE", native)
    our = learner(algo("corl", lam=1 / 80, weight_floor=0.0), discrete=True)
    assert our.path.startswith("native") == (native == "1"), our.path
    arrays = our.state_dict()
    for name, value in arrays.items():
        if re.match(r"(target_)?value\.", name) or name.startswith("policy."):
            value[...] = 0.0
    last = max(name for name in arrays if re.fullmatch(r"value\.\d+\.bias", name))
    for name in (last, f"target_{last}"):
        arrays[name][..., 1:] = ACT / (ACT - 1)  # V is 1, and the taken action's Q is 0: weights are exp(−80)
    our.load_state_dict(arrays)
    rows, noise = experience(discrete=True)
    rows[..., 2 * OBS] = 0
    metrics, bad_step = our.learn((rows[:1], noise[:1]))
    assert bad_step == 1 and dict(zip(METRICS, metrics, strict=True))["ess"] == pytest.approx(1.0, abs=1e-3)
