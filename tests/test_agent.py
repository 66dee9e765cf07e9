"""The class `AWAC`: both updates against numpy for every option, its random draws and its file."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from agents import HIDDEN, RATES, A, B, S, agent, batch, memory, networks, weights
from mindspore import nn, ops
from reference import Adam, Reference
from tiny import algo, needs_a_compiler

from awac import AWAC
from awac.algorithm.networks import MLP
from awac.algorithm.policy import ContinuousCritic, GaussianActor, load_parameter_arrays, parameter_arrays
from awac.data.normalizer import Normalizer
from awac.data.replay import Replay
from awac.errors import CheckpointError, ConfigError, DataError, DivergenceError

pytestmark = pytest.mark.usefixtures("graph_mode")


class Numpy:
    """Both updates in float64, from the definition."""

    def __init__(self, our, gaussian):
        self.our, self.gaussian = our, gaussian
        arrays = [parameter_arrays(critic) for critic in our.critics]
        stacked = {name: np.stack([arrays[0][name], arrays[-1][name]]) for name in arrays[0]}
        config = SimpleNamespace(**{**vars(algo()), "critic_layer_norm": False})
        self.net = Reference(config, parameter_arrays(our.actor), stacked, not gaussian)
        self.critics, self.targets = self.net.critics[: len(our.critics)], self.net.targets[: len(our.critics)]
        self.critic_adams = [Adam(RATES["critic_lr"]) for _ in self.critics]
        self.actor_adam = Adam(RATES["actor_lr"])

    def lowest(self, nets, obs):
        return np.minimum.reduce([net.forward(obs)[0] for net in nets])

    def value(self, nets, obs, noise):
        if self.gaussian:
            mean, log_std, _ = self.net.gaussian(obs)
            actions = np.clip(mean + np.exp(log_std) * noise.reshape(-1, *mean.shape), -1, 1)
            return np.mean([self.lowest(nets, np.hstack([obs, a]))[:, 0] for a in actions], axis=0)
        log_probs = self.net.log_softmax(obs)
        probs = np.exp(log_probs)
        if self.our.num_action_samples is not None:
            probs = np.mean([np.eye(A)[(log_probs + g).argmax(1)] for g in noise], axis=0)
        return (probs * self.lowest(nets, obs)).sum(axis=1)

    def step(self, batch, noise):
        state, action, reward, following, done = (np.asarray(x, np.float64) for x in batch)
        size, inputs = len(state), np.hstack([state, action]) if self.gaussian else state
        column = np.zeros(size, int) if self.gaussian else action.astype(int)
        target = reward + self.our.gamma * (1 - done) * self.value(self.targets, following, noise[0])
        critic_loss = 0.0
        for net, slow, adam in zip(self.critics, self.targets, self.critic_adams, strict=True):
            out, cache = net.forward(inputs)
            error = out[np.arange(size), column] - target
            by_out = np.zeros_like(out)
            by_out[np.arange(size), column] = 2 * error / size
            critic_loss += (error**2).mean()
            adam(net.weights, net.backward(by_out, cache))
            tau = self.our.tau
            slow.weights = {k: (1 - tau) * v + tau * net.weights[k] for k, v in slow.weights.items()}
        adv = self.lowest(self.critics, inputs)[np.arange(size), column]
        if self.our.use_adv and self.gaussian:
            adv = adv - self.value(self.critics, state, noise[-1])
        elif self.our.use_adv:
            adv = adv - (np.exp(self.net.log_softmax(state)) * self.lowest(self.critics, state)).sum(axis=1)
        weight = np.minimum(np.exp(adv / self.our.lam), self.our.weight_clip or np.inf)
        log_prob, _, backward = self.net.actor_terms(state, action if self.gaussian else action[:, None])
        self.actor_adam(self.net.actor.weights, backward(-weight / size))
        ess = weight.sum() ** 2 / (size * (weight**2).sum())
        return {"critic_loss": critic_loss, "actor_loss": -(log_prob * weight).mean(), "ess": ess}


def assert_equal_weights(our, expected):
    nets = (our.actor, *our.critics, *our.targets)
    for net, theirs in zip(nets, (expected.net.actor, *expected.critics, *expected.targets), strict=True):
        for name, value in parameter_arrays(net).items():
            np.testing.assert_allclose(value, theirs.weights[name], atol=2e-5, err_msg=name)


@pytest.mark.parametrize(
    "gaussian, twins, options",
    [
        (False, False, {"num_action_samples": 5, "use_adv": True, "weight_clip": 1.02, "lam": 1.0, "gamma": 0.99}),
        (False, True, {"num_action_samples": None, "use_adv": True}),
        (True, True, {"num_action_samples": 4, "use_adv": True}),
    ],
)
def test_both_updates_equal_numpy(gaussian, twins, options):
    our = agent(gaussian, twins, **options)
    expected, drawn, draw = Numpy(our, gaussian), [], our._noise
    our._noise = lambda *args: drawn.append(draw(*args)) or drawn[-1]
    for seed in range(2):
        found = our.update(batch(gaussian, seed))
        for name, value in expected.step(batch(gaussian, seed), drawn[-1][0].astype(np.float64)).items():
            assert found[name] == pytest.approx(value, rel=1e-3), name
    assert_equal_weights(our, expected)


def test_the_critics_update_then_the_actors_equal_both_in_one_call():
    our = agent(gaussian=True, use_adv=True, weight_clip=1.0)
    expected, drawn, draw = Numpy(our, True), [], our._noise
    our._noise = lambda *args: drawn.append(draw(*args)) or drawn[-1]
    critic_loss, actor_loss = our.update_critic(*batch(True)), our.update_actor(*batch(True)[:2])
    found = expected.step(batch(True), np.concatenate([noise[0] for noise in drawn]).astype(np.float64))
    assert (critic_loss, actor_loss) == pytest.approx((found["critic_loss"], found["actor_loss"]), rel=1e-4)
    assert_equal_weights(our, expected)


def test_targets_start_as_copies():
    our = agent(twins=True)
    for online, target in zip(our.online_parameters, our.target_parameters, strict=True):
        np.testing.assert_array_equal(online.asnumpy(), target.asnumpy())


@pytest.fixture(scope="module")
def twin():
    our = agent(twins=True)
    our._build(S)
    return our


class TestExpectation:
    """V(s) as the compiled functions give it, against π and the lower twin's values (B, A)."""

    def value(self, twin, samples):
        object.__setattr__(twin, "num_action_samples", samples)  # of functions that are not compiled yet
        twin._build(S)
        head, critic, state = twin.steps.actor, twin.steps.target_critic, ms.Tensor(batch()[0])
        head.samples = samples
        dist, noise = head(state), ms.Tensor(twin._noise(1, B, "critic")[0, 0])
        value = head.state_value(dist, critic, state, noise).asnumpy()
        return value, np.exp(dist.asnumpy()), critic.all_actions(state).asnumpy().min(axis=0)

    def test_the_exact_one_is_the_sum_over_all_actions(self, twin):
        value, probs, q = self.value(twin, None)
        enumerated = [sum(p[a] * one[a] for a in range(A)) for p, one in zip(probs, q, strict=True)]
        np.testing.assert_allclose(value, enumerated, rtol=1e-5)

    @pytest.mark.parametrize("samples", [10, 1000, 20000])
    def test_the_sampled_one_converges_to_it(self, twin, samples):
        value, probs, q = self.value(twin, samples)
        exact = (probs * q).sum(axis=1)
        error = np.sqrt((probs * (q - exact[:, None]) ** 2).sum(axis=1) / samples)
        assert np.abs(value - exact).max() > 0
        assert (np.abs(value - exact) < 4.5 * error).all()


class TestActions:
    def test_drawn_in_proportion_to_the_policy(self):
        our, state = agent(), batch()[0]
        actions = our.get_action(state, 20000)
        assert actions.shape == (B, 20000) and actions.dtype == np.int64
        probs = np.exp(our.distribution(ms.Tensor(state)).asnumpy())
        shares = np.stack([(actions == a).mean(axis=1) for a in range(A)], axis=1)
        np.testing.assert_allclose(shares, probs, atol=0.02)
        assert our.get_action(state).shape == (B, 1)
        np.testing.assert_array_equal(our.get_action(state, 1, deterministic=True)[:, 0], probs.argmax(axis=1))

    def test_of_a_gaussian_stay_within_the_bounds(self):
        our, state = agent(gaussian=True), batch()[0]
        actions = our.get_action(state, 1000)
        assert actions.shape == (B, 1000, A) and actions.dtype == np.float32 and np.abs(actions).max() <= 1
        mean, _ = our.distribution(ms.Tensor(state))
        mode = our.get_action(state, deterministic=True)
        np.testing.assert_allclose(mode[:, 0], mean.asnumpy(), rtol=1e-6)
        assert actions.std(axis=1).min() > 0.01

    @pytest.mark.parametrize("gaussian", [False, True])
    def test_the_seed_decides_them(self, gaussian):
        one, same, other = (agent(gaussian, seed=seed) for seed in (1, 1, 2))
        first, again, others = (our.get_action(batch()[0], 9) for our in (one, same, other))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, others) and not np.array_equal(first, one.get_action(batch()[0], 9))


class TestMemory:
    def test_several_steps_in_one_call_equal_as_many_of_numpy(self):
        our = agent()
        expected, drawn, draw = Numpy(our, False), [], our._noise
        our._noise = lambda *args: drawn.append(draw(*args)) or drawn[-1]
        rows = memory().sample(agent().rngs["batch"], 3, B)
        found, history = our.learn(memory(), B, steps=3), []
        for one, noise in zip(rows, drawn[0], strict=True):
            state, following, action, reward, done = np.split(one, [S, 2 * S, 2 * S + 1, 2 * S + 2], axis=1)
            step = (state, action[:, 0], reward[:, 0], following, done[:, 0])
            history.append(expected.step(step, noise.astype(np.float64)))
        for name in history[0]:
            assert found[name] == pytest.approx(np.mean([one[name] for one in history]), rel=1e-3), name
        assert_equal_weights(our, expected)


def test_a_loaded_agent_goes_on_as_the_saved_one_to_the_bit(tmp_path, monkeypatch):
    ours, others = agent(), agent(net_seed=5, seed=9)
    for our in (ours, others):  # compiled before anything is loaded
        our.update(batch())
    monkeypatch.setenv("HOME", str(tmp_path))
    ours.save("~/agent.ckpt")
    others.load(tmp_path / "agent.ckpt")
    results = [
        (our.update(batch(seed=1)), our.get_action(batch()[0], 9).tolist(), weights(our)) for our in (ours, others)
    ]
    assert results[0][:2] == results[1][:2]
    assert all(np.array_equal(one, other) for one, other in zip(results[0][2], results[1][2], strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["agent.ckpt"]


@pytest.mark.parametrize("name", ["lam", "tau", "gamma", "num_action_samples", "use_adv", "weight_clip", "actor_lr"])
def test_a_setting_can_not_be_changed_after_construction(name):
    our = agent()
    with pytest.raises(ConfigError, match=f"^{name} can't be changed"):
        setattr(our, name, 0.5)


def test_a_weight_that_overflows_leaves_everything_as_it_was():
    our = agent(lam=1e-6)
    state, action, reward, following, done = batch()
    before = weights(our)
    with pytest.raises(DivergenceError, match="overflows"):
        for _ in range(20):
            before = weights(our)
            our.update((state, action, np.abs(reward) + 1, following, done))
    assert all(np.array_equal(one, other) for one, other in zip(before, weights(our), strict=True))


@pytest.mark.parametrize("native", [False, True])
def test_a_gradient_that_overflows_leaves_everything_as_it_was(native):
    """Its square is infinite in Adam's second moment, while both losses are finite."""
    our = AWAC(*mlps(), **{**EXACT, "lam": 0.01}) if native else agent(lam=0.01)
    before = {}
    with pytest.raises(DivergenceError, match="or its gradient overflows") as caught:
        for _ in range(5):
            before = {name: p.asnumpy().copy() for name, p in our._named_parameters().items()}
            our.update(batch())
    losses = [float(value) for value in re.findall(r"loss (\S+?)[,:]", str(caught.value))]
    assert len(losses) == 2 and np.isfinite(losses).all() and losses[1] > 1e19
    for name, parameter in our._named_parameters().items():
        np.testing.assert_array_equal(parameter.asnumpy(), before[name], err_msg=name)
        assert np.isfinite(before[name]).all()


class TestNormalizer:
    """It belongs to the agent: `learn`, `get_action` and `update` give the networks the same inputs."""

    def scaled(self):
        fitted = Normalizer(np.arange(S), np.full(S, 5.0, np.float32), np.full(S, 3.0, np.float32), S)
        replay, rng = Replay(None, fitted, 100, 1), np.random.default_rng(0)
        for _ in range(20):
            replay.add(5 + 3 * rng.normal(size=S), rng.integers(A), 1.0, 5 + 3 * rng.normal(size=S), False)
        return replay

    def test_actions_are_taken_on_normalised_states(self, tmp_path):
        our, state = agent(), batch()[0]
        our.learn(self.scaled(), B)
        our.save(tmp_path / "agent.ckpt")
        loaded = agent(net_seed=3)
        loaded.load(tmp_path / "agent.ckpt")
        for one in (our, loaded):
            one._build(S)
            logits = one.distribution(ms.Tensor(state)).asnumpy()
            found = one.get_action(5 + 3 * state, deterministic=True)[:, 0]
            np.testing.assert_array_equal(found, logits.argmax(axis=1))

    def test_another_normaliser_is_refused(self):
        our = agent()
        our.learn(self.scaled(), B)
        with pytest.raises(DataError, match="normaliser"):
            our.learn(memory(), B)
        raw = agent()
        raw.update(batch())
        with pytest.raises(DataError, match="normaliser"):
            raw.learn(self.scaled(), B)

    def test_networks_from_a_file_that_were_trained_on_raw_states_stay_so(self, tmp_path):
        raw, loaded = agent(), agent(net_seed=3)
        raw.update(batch())
        raw.save(tmp_path / "agent.ckpt")
        loaded.load(tmp_path / "agent.ckpt")
        with pytest.raises(DataError, match="normaliser"):
            loaded.learn(self.scaled(), B)
        fresh = agent()
        fresh.save(tmp_path / "fresh.ckpt")
        loaded.load(tmp_path / "fresh.ckpt")
        loaded.learn(self.scaled(), B)


def test_only_the_first_call_compiles():
    our, times = agent(), []
    for seed in range(9):
        start = time.perf_counter()
        our.update(batch(seed=seed))
        times.append(time.perf_counter() - start)
    assert np.median(times[1:]) < times[0] / 3


def test_the_package_stays_light_and_the_class_works_in_the_default_mode():
    script = """
import sys, awac
assert "mindspore" not in sys.modules
from mindspore import nn
import numpy as np
nets = [nn.SequentialCell(nn.Dense(4, 8), nn.ReLU(), nn.Dense(8, 2)) for _ in range(3)]
agent = awac.AWAC(*nets, num_action_samples=None, use_adv=True, critic_lr=1e-2)
assert "gym" not in sys.modules
state = np.eye(4)
losses = [agent.update((state, np.arange(4) % 2, np.ones(4), state, np.ones(4)))["critic_loss"] for _ in range(30)]
assert losses[-1] < 0.5 * losses[0], losses
"""
    folder = str(Path(__file__).parents[1] / "src")
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": folder, "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )
    assert (result.returncode, result.stderr) == (0, "")


class Twins(nn.Cell):
    """Both twins as one batched network: (B, S) → (2, B, A)."""

    def __init__(self, separate):
        super().__init__()
        self.net = MLP((S, HIDDEN, A), np.random.default_rng(0), "twins", copies=2)
        halves = [parameter_arrays(net) for net in separate]
        load_parameter_arrays(self.net, {name: np.stack([half[name] for half in halves]) for name in halves[0]})

    def construct(self, state):
        return self.net(ops.tile(ops.expand_dims(state, 0), (2, 1, 1)))


@pytest.mark.parametrize("samples", [None, 3])
def test_twins_in_one_network_equal_two_networks(samples):
    options = {**RATES, "use_adv": True, "num_action_samples": samples}
    critics, targets, actor = networks(twins=True)
    one = AWAC(Twins(critics), Twins(critics), networks()[2], **options)
    load_parameter_arrays(one.actor, parameter_arrays(actor))
    two = AWAC(critics, targets, actor, **options)
    for seed in range(3):
        assert one.update(batch(seed=seed)) == pytest.approx(two.update(batch(seed=seed)), rel=1e-5)
    together = parameter_arrays(one.critics[0].net)
    for i, net in enumerate(two.critics):
        for name, value in parameter_arrays(net).items():
            np.testing.assert_allclose(together[name][i], value, atol=1e-6)


@pytest.mark.parametrize("gaussian", [False, True])
def test_two_networks_that_hold_twins_are_four_critics(gaussian):
    rng = np.random.default_rng(0)

    def twins(name):
        return ContinuousCritic(S, A, algo(), rng, name) if gaussian else MLP((S, HIDDEN, A), rng, name, copies=2)

    (*critics, one, two), rows = (twins(f"q{i}") for i in range(4)), batch(gaussian)
    our = AWAC(critics, [one, two], networks(gaussian)[2], use_adv=True, **RATES)
    our._build(S)
    state, action = ms.Tensor(rows[0]), ms.Tensor(rows[1].reshape(B, -1).astype(np.float32))
    found = our.steps.critic(state, action).asnumpy()
    each = [net(state, action) if gaussian else net(state) for net in critics]
    expected = np.concatenate([q.asnumpy() for q in each])
    np.testing.assert_allclose(found, expected if gaussian else expected[:, np.arange(B), rows[1]], rtol=1e-5)
    before = weights(our)
    our.update(rows)
    assert not any(np.array_equal(old, new) for old, new in zip(before, weights(our), strict=True))


def mlps(seed=0):
    """Networks that the native operator supports: an MLP, and twins in one."""
    rng = np.random.default_rng(seed)
    critic, target = (MLP((S, HIDDEN, A), rng, name, copies=2) for name in ("critic", "target"))
    return critic, target, MLP((S, HIDDEN, A), rng, "actor")


EXACT = {"num_action_samples": None, "use_adv": True, "lam": 1.0, "actor_ema": 0.9, **RATES}


@needs_a_compiler
@pytest.mark.parametrize("gaussian", [False, True])
def test_the_native_operator_equals_the_graph(gaussian, monkeypatch):
    def nets():
        rng = np.random.default_rng(0)
        if not gaussian:
            return mlps()
        critic, target = (ContinuousCritic(S, A, algo(), rng, name) for name in ("critic", "target"))
        return critic, target, GaussianActor(S, A, algo(), rng, "actor")

    options = {**EXACT, "num_action_samples": 1} if gaussian else EXACT
    fast, slow = AWAC(*nets(), **options), AWAC(*nets(), **options)
    results = [fast.update(batch(gaussian, seed)) for seed in range(3)]
    assert fast.path.startswith("native")
    monkeypatch.setenv("AWAC_NATIVE", "0")
    for seed, result in enumerate(results):
        assert slow.update(batch(gaussian, seed)) == pytest.approx(result, rel=1e-3)
    assert slow.path == "graph, AWAC_NATIVE=0"
    for one, other in zip(fast._named_parameters().values(), slow._named_parameters().values(), strict=True):
        np.testing.assert_allclose(one.asnumpy(), other.asnumpy(), rtol=1e-4, atol=2e-5, err_msg=one.name)


def test_what_the_operator_does_not_know_is_named():
    sampled = AWAC(*mlps(), use_adv=True)
    sampled.update(batch())
    assert sampled.path == "graph, num_action_samples = 1 is not in the native operator"
    plain = AWAC(*mlps(), num_action_samples=None)
    plain.update(batch())
    assert plain.path == "graph, weights without a baseline are not in the native operator"


def test_the_running_average_acts_and_is_saved(tmp_path):
    our = AWAC(*mlps(), **EXACT)
    for seed in range(5):
        our.update(batch(seed=seed))
    acting, newest = parameter_arrays(our.average_actor), parameter_arrays(our.actor)
    assert all(not np.array_equal(acting[name], newest[name]) for name in acting)
    state = batch()[0]
    hidden = np.maximum(state @ acting["0.weight"] + acting["0.bias"], 0)
    logits = hidden @ acting["1.weight"] + acting["1.bias"]
    np.testing.assert_array_equal(our.get_action(state, deterministic=True)[:, 0], logits.argmax(axis=1))
    our.save(tmp_path / "a.ckpt")
    other = AWAC(*mlps(seed=1), **EXACT)
    other.load(tmp_path / "a.ckpt")
    for name, value in parameter_arrays(other.average_actor).items():
        np.testing.assert_array_equal(value, acting[name])
    with pytest.raises(CheckpointError, match="other networks"):
        AWAC(*mlps(), **{**EXACT, "actor_ema": 0.0}).load(tmp_path / "a.ckpt")


@pytest.mark.parametrize("value", [1.0, -0.1, "x"])
def test_a_decay_out_of_range_is_refused(value):
    with pytest.raises(ConfigError, match="actor_ema"):
        agent(actor_ema=value)


@pytest.mark.parametrize("options", [{}, {"use_adv": True, "num_action_samples": None}])
def test_frozen_targets_follow_all_the_same(options):
    nets = [networks(), networks()]
    for p in nets[1][1].get_parameters():
        p.requires_grad = False
    found = []
    for three in nets:
        our = AWAC(*three, **RATES, **options)
        for _ in range(3):
            our.update(batch())
        found.append(weights(our.targets))
    for free, frozen in zip(*found, strict=True):
        np.testing.assert_array_equal(frozen, free)


def test_a_frozen_layer_stays_and_its_target_with_it():
    critic, target, actor = networks()
    for net in (critic, actor):
        next(iter(net.get_parameters())).requires_grad = False
    our = AWAC(critic, target, actor, **{**RATES, "tau": 1.0})
    before = [weights(net)[0] for net in (our.critics, our.actor)]
    our.update(batch())
    for net, start in zip((our.critics, our.actor), before, strict=True):
        after = weights(net)
        np.testing.assert_array_equal(after[0], start)
    for ours, theirs in zip(weights(our.targets), weights(our.critics), strict=True):
        np.testing.assert_array_equal(ours, theirs)
