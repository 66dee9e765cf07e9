"""What the class `AWAC` refuses, each in one line, and that a refusal changes nothing."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from agents import HIDDEN, A, B, S, agent, batch, memory, networks, weights
from mindspore import nn

from awac import AWAC
from awac.algorithm.networks import MLP
from awac.errors import AWACError, CheckpointError, ConfigError, DataError, DivergenceError

pytestmark = pytest.mark.usefixtures("graph_mode")


def test_critics_with_layer_norm_are_not_loaded_into_critics_without(tmp_path):
    """Their parameters are alike, their values are not."""

    def twins(layer_norm):
        rng = np.random.default_rng(0)
        return AWAC(*(MLP((S, 16, A), rng, name, 2, layer_norm) for name in "qt"), MLP((S, 16, A), rng, "pi"))

    twins(True).save(tmp_path / "a.ckpt")
    twins(True).load(tmp_path / "a.ckpt")
    says = r"its critic has MLP\(copies=2, layer_norm=True\), this one MLP\(copies=2, layer_norm=False\)"
    with pytest.raises(CheckpointError, match=says):
        twins(False).load(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    "replay, size, words",
    [
        (memory(0), 1, "empty"),
        (memory(5), 6, "6 rows is larger than the memory, which holds 5"),
        (memory(5), 0, "batch_size"),
        (memory(20, actions=9), 20, r"outside 0\.\.2"),
        (memory(5, width=2), 5, "columns"),
    ],
)
def test_refuses_what_it_can_not_learn_from(replay, size, words):
    with pytest.raises(AWACError, match=words) as caught:
        agent().learn(replay, size)
    assert "\n" not in str(caught.value)


def test_a_refused_call_takes_no_normaliser_and_trains_on_nothing():
    other = memory(20)
    other.normalizer.std[:] = 2.0
    our = agent()
    with pytest.raises(DataError, match="outside"):
        our.learn(memory(20, actions=9), 20)
    with pytest.raises(DataError, match="outside"):
        our.update((batch()[0], np.full(B, A), *batch()[2:]))
    with pytest.raises(DivergenceError):
        our.update((*batch()[:2], np.full(B, 3e38), *batch()[3:]))
    our.learn(other, 20)
    with pytest.raises(DataError, match="normaliser"):
        our.learn(memory(20), 20)


def test_a_file_that_does_not_fit_changes_nothing(tmp_path):
    agent(twins=True).save(tmp_path / "twins.ckpt")
    agent(gaussian=True).save(tmp_path / "gaussian.ckpt")
    agent().save(tmp_path / "cut.ckpt")
    data = (tmp_path / "cut.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(data[: len(data) // 2])
    our = agent()
    before = weights(our)
    for name in ("twins.ckpt", "gaussian.ckpt", "cut.ckpt", "missing.ckpt", "agent.npz"):
        with pytest.raises(CheckpointError, match=name) as caught:
            our.load(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="could not be written"):
        our.save(tmp_path / "cut.ckpt" / "agent.ckpt")
    assert all(np.array_equal(one, other) for one, other in zip(before, weights(our), strict=True))


@pytest.mark.parametrize(
    "options",
    [{"lam": value} for value in (0, -1.0, float("nan"), float("inf"), "0.3", None)]
    + [{"tau": 1.5}, {"gamma": -0.1}, {"num_action_samples": 0}, {"num_action_samples": 1.5}, {"critic_lr": 0}]
    + [{"num_action_samples": True}, {"actor_lr": -1}, {"weight_clip": 0}, {"seed": -1}],
)
def test_a_setting_out_of_range_is_named(options):
    with pytest.raises(ConfigError, match=f"^{next(iter(options))} = ") as caught:
        agent(**options)
    assert "\n" not in str(caught.value)


def test_networks_that_do_not_go_together():
    critic, target, actor = networks()
    wide = MLP((S, HIDDEN, A + 1), np.random.default_rng(0), "wide")
    cases = [
        ((critic, critic, actor), "share"),
        ((critic, wide, actor), "different layers"),
        ((critic, 1, actor), "int"),
        (((critic, wide), target, actor), "twin"),
        (([], [], actor), "0 critics"),
    ]
    for nets, words in cases:
        with pytest.raises(ConfigError, match=words):
            AWAC(*nets)
    with pytest.raises(ConfigError, match=r"4 logits per state, the critic values of shape \(3,\)"):
        AWAC(critic, target, wide).update(batch())
    with pytest.raises(ConfigError, match="exact expectation"):
        agent(gaussian=True, num_action_samples=None).update(batch(True))
    with pytest.raises(ConfigError, match=r"actor does not take an input of shape \(3, 7\)") as caught:
        agent().get_action(np.zeros((1, 7)))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def either():
    """An agent for each kind of action."""
    return {gaussian: agent(gaussian) for gaussian in (False, True)}


@pytest.mark.parametrize(
    "gaussian, place, value, words",
    [
        (False, 1, np.full(B, A), r"action 3 is outside 0\.\.2"),
        (False, 1, np.full(B, -1), "action -1 is outside"),
        (False, 1, np.zeros(B, np.float32), "float32; the actor gives logits, so actions are integers"),
        (False, 1, np.zeros((B, 2), int), r"action has shape \(8, 2\)"),
        (False, 1, np.array(["0"] * B), "not numbers"),
        (True, 1, np.full((B, A), 1.5), "action 1.5 is outside"),
        (True, 1, np.zeros(B), "action has shape"),
        (False, 0, np.zeros(S), r"state has shape \(4,\); expected \(B, S\)"),
        (False, 0, np.zeros((0, S)), "state has shape"),
        (False, 0, np.full((B, S), np.nan), "NaN"),
        (False, 2, np.zeros(B - 1), "reward has shape"),
        (False, 2, np.full(B, np.inf), "infinite"),
        (False, 3, np.zeros((B, S + 1)), "next_state has shape"),
        (False, 4, np.zeros((B, 2)), "done has shape"),
    ],
)
def test_bad_batches_change_nothing(either, gaussian, place, value, words):
    our, rows = either[gaussian], list(batch(gaussian))
    before = weights(our)
    rows[place] = value
    with pytest.raises(DataError, match=words) as caught:
        our.update(rows)
    assert "\n" not in str(caught.value)
    assert all(np.array_equal(one, other) for one, other in zip(before, weights(our), strict=True))


def test_states_of_another_width_than_before(either):
    either[False].get_action(np.zeros((1, S)))
    with pytest.raises(DataError, match="states have 5 values, the ones before had 4"):
        either[False].get_action(np.zeros((1, S + 1)))


def test_columns_are_as_good_as_vectors(either):
    rows = batch()
    columns = [rows[0], *(x.reshape(B, 1) for x in rows[1:3]), rows[3], ms.Tensor(rows[4].reshape(B, 1))]
    packed = [either[False]._pack(*one) for one in (rows, columns)]
    np.testing.assert_array_equal(*packed)


def test_weights_that_overflow_stop_and_those_that_vanish_are_told():
    state, action, _, following, done = batch()
    our = agent(lam=1e-3, critic_lr=1.0)
    for _ in range(3):
        vanished = our.update((state, action, np.full(B, -50.0), following, done))
    assert vanished["ess"] == 0 and vanished["actor_loss"] == 0
    with pytest.raises(DivergenceError, match="weight_clip"):
        for _ in range(30):
            our.update((state, action, np.full(B, 50.0), following, done))


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
@pytest.mark.parametrize("how", ["load_param_into_net", "set_data"])
def test_weights_that_are_given_other_memory_after_the_first_call_are_refused(tmp_path, mode, how):
    """MindSpore's compiled step would go on with the old memory, which is freed: a crash, or garbage."""
    ms.set_context(mode=mode)
    try:
        our = agent()
        our.update(batch())
        our.get_action(batch()[0])
        our.update(batch())
        if how == "set_data":
            next(iter(our.actor.get_parameters())).set_data(ms.Tensor(np.zeros((S, HIDDEN), np.float32)))
        else:
            ms.save_checkpoint(our.actor, str(tmp_path / "actor.ckpt"))
            ms.load_param_into_net(our.actor, ms.load_checkpoint(str(tmp_path / "actor.ckpt")))
        for call in (lambda: our.update(batch()), lambda: our.get_action(batch()[0])):
            with pytest.raises(ConfigError, match="the weights of actor.0 were replaced after the first call"):
                call()
    finally:
        ms.set_context(mode=ms.GRAPH_MODE)


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
@pytest.mark.parametrize("options", [{}, {"actor_ema": 0.9}])
def test_calls_may_come_in_any_order(mode, options):
    """What a call did not use has no memory on the device yet, so its place is not known."""
    ms.set_context(mode=mode)
    try:
        our, (state, action, reward, following, done) = agent(**options), batch()
        for _ in range(2):
            our.get_action(state)
            our.update_critic(state, action, reward, following, done)
            our.update_actor(state, action)
            our.update(batch())
        other = agent(**options)
        for _ in range(2):
            other.update_actor(state, action)
            other.get_action(state)
            other.update_critic(state, action, reward, following, done)
    finally:
        ms.set_context(mode=ms.GRAPH_MODE)


class Ending(nn.Cell):
    """An actor with a last layer of the test's choice."""

    def __init__(self, last):
        super().__init__()
        self.net, self.last = MLP((S, HIDDEN, A), np.random.default_rng(0), "pi"), last

    def construct(self, state):
        return self.last(self.net(state))


def test_a_softmax_is_taken_for_what_it_is():
    critic, target, _ = networks()
    with pytest.raises(ConfigError, match="the actor gives probabilities"):
        AWAC(critic, target, Ending(nn.Softmax(-1))).update(batch())
    critic, target, _ = networks()
    AWAC(critic, target, Ending(nn.LogSoftmax(-1))).update(batch())


def test_networks_that_would_be_trained_wrongly_are_refused():
    critic, target, _ = networks()
    with pytest.raises(ConfigError, match="BatchNorm1d, whose moving statistics"):
        AWAC(critic, target, Ending(nn.BatchNorm1d(A)))
    rng = np.random.default_rng(0)
    normal, plain = (MLP((S, HIDDEN, A), rng, name, layer_norm=name == "q") for name in ("q", "target"))
    with pytest.raises(ConfigError, match="critic_target has different layers"):
        AWAC(normal, plain, networks()[2])
    critic, target, actor = networks()
    actor.mask = ms.Parameter(ms.Tensor([1, 0], ms.int32), "mask", requires_grad=False)
    AWAC(*networks()[:2], actor)
    for parameter in actor.trainable_params():
        parameter.set_dtype(ms.float16)
    with pytest.raises(ConfigError, match="is of Float16; the networks must be float32"):
        AWAC(critic, target, actor)


def test_an_actor_in_mixed_precision_and_a_cell_list_work():
    critics, targets, actor = networks(twins=True)
    our = AWAC(nn.CellList(list(critics)), nn.CellList(list(targets)), actor.to_float(ms.float16))
    assert np.isfinite(our.update(batch())["actor_loss"])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_states_that_are_not_finite_get_no_action(value):
    with pytest.raises(DataError, match="state has NaN or infinite values"):
        agent().get_action(np.full((2, S), value))


def test_a_batch_of_another_form_is_one_line():
    state, action, reward, following, done = batch()
    for wrong, words in (
        ((state, action, reward, following), "the batch is of 4 parts; expected"),
        ((state, action, reward, following, done * 255), "done has values that are not from 0 to 1"),
        (([[0.0], [1.0, 2.0]], action, reward, following, done), "its rows are of different lengths"),
        ({"state": state}, "the batch is of dict; expected"),
    ):
        with pytest.raises(DataError, match=words):
            agent().update(wrong)
    with pytest.raises(DataError, match="memory is a list; learn takes a Replay"):
        agent().learn([batch()], 3)


@pytest.mark.parametrize(("use_adv", "words"), [(False, r"exp\(Q/lam\).*use_adv=True"), (True, r"exp\(A/lam\)")])
def test_an_overflow_says_which_weight_it_was(use_adv, words):
    state, action, reward, following, done = batch()
    our = agent(lam=1e-6, use_adv=use_adv)
    with pytest.raises(DivergenceError, match=words):
        for _ in range(20):
            our.update((state, action, np.abs(reward) + 1, following, done))
