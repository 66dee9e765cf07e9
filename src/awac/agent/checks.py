"""Checks of `AWAC`'s settings, networks and batches; every error is one line that names the argument."""

from __future__ import annotations

import math
import numbers
from copy import deepcopy

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from awac.algorithm.networks import MLP
from awac.config.keys import DECAY
from awac.data.normalizer import Normalizer
from awac.data.replay import Replay
from awac.data.transitions import BOUND_TOLERANCE
from awac.errors import AWACError, ConfigError, DataError, DivergenceError

PROBES = 3
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def above_0(name: str, value) -> float:
    """The value, a finite number above 0."""
    if not _is_number(value) or value <= 0:
        raise ConfigError(f"{name} = {value!r} must be a number above 0")
    return float(value)


def share(name: str, value) -> float:
    """The value, a number from 0 to 1."""
    if not _is_number(value) or not 0 <= value <= 1:
        raise ConfigError(f"{name} = {value!r} must be a number from 0 to 1")
    return float(value)


def decay(name: str, value) -> float:
    """The value, a number from 1e-6 to below 1, or 0."""
    if not _is_number(value) or not DECAY.holds(value):
        raise ConfigError(f"{name} = {value!r} must be {DECAY.words}")
    return float(value)


def copy(actor: nn.Cell) -> nn.Cell:
    """A copy of the actor with its own parameters.

    Raises:
        ConfigError: it can't be copied.
    """
    try:
        return deepcopy(actor)
    except Exception as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"actor_ema needs a copy of the actor, which can't be copied ({line})") from error


def whole(name: str, value, minimum: int) -> int:
    """The value, a whole number of at least `minimum`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < minimum:
        raise ConfigError(f"{name} = {value!r} must be a whole number, {minimum} or more")
    return int(value)


def networks(critic, critic_target, actor) -> tuple[list, list]:
    """The critics and their targets as lists of one or two.

    Raises:
        ConfigError: an argument is not a network, or the networks don't match.
    """
    critics, targets = (list(x) if isinstance(x, (list, tuple, nn.CellList)) else [x] for x in (critic, critic_target))
    for net in (*critics, *targets, actor):
        if not isinstance(net, nn.Cell):
            raise ConfigError(f"critic, critic_target and actor must be nn.Cells, not {type(net).__name__}")
        if norm := next((cell for _, cell in net.cells_and_names() if isinstance(cell, _BATCH_NORMS)), None):
            raise ConfigError(
                f"a network has a {type(norm).__name__}, whose moving statistics the targets and the average of the "
                "actor would not follow; use LayerNorm"
            )
        for parameter in net.trainable_params():
            if parameter.dtype != ms.float32:
                raise ConfigError(f"{parameter.name} is of {parameter.dtype}; the networks must be float32")
    if len(critics) not in (1, 2) or len(critics) != len(targets):
        counts = f"{len(critics)} critics and {len(targets)} targets"
        raise ConfigError(f"{counts}: give one network each, or two of both for twin critics")
    shapes = [[p.shape for net in nets for p in net.get_parameters()] for nets in (critics, targets)]
    kinds = [[(net.copies, net.layer_norm) for net in nets if isinstance(net, MLP)] for nets in (critics, targets)]
    if shapes[0] != shapes[1] or kinds[0] != kinds[1]:
        raise ConfigError("critic_target has different layers from critic; build both the same way")
    owned = [id(p) for net in (*critics, *targets, actor) for p in net.get_parameters()]
    if len(owned) != len(set(owned)):
        raise ConfigError("two of the networks share parameters; build each of them separately")
    return critics, targets


def probe(critics, actor, state_size: int) -> tuple[int, bool]:
    """Runs the networks once.

    Returns:
        The number of actions or the length of the action vector, and whether actions are discrete.

    Raises:
        ConfigError: they don't accept states of that size, or their outputs don't match.
    """
    obs = Tensor(np.random.default_rng(0).standard_normal((PROBES, state_size), np.float32))
    out = _try("actor", actor, obs)
    discrete = not isinstance(out, (tuple, list))
    shapes = [tuple(getattr(x, "shape", ())) for x in ([out] if discrete else out)]
    size = shapes[0][-1] if shapes and shapes[0] else 0
    expected = [{(PROBES, size)}] if discrete else [{(PROBES, size)}, {(PROBES, size), (1, size)}]
    if len(shapes) != len(expected) or any(shape not in one for shape, one in zip(shapes, expected, strict=True)):
        raise ConfigError(f"the actor gives {shapes} for {PROBES} states; expected logits (B, A), or mean and log-std")
    if discrete and size > 1 and _are_probabilities(out.asnumpy()):
        raise ConfigError("the actor gives probabilities, as of a softmax; it must give logits: leave the softmax out")
    for critic in critics:
        extra = () if discrete else (Tensor(np.zeros((PROBES, size), np.float32)),)
        shape_of_q = tuple(getattr(_try("critic", critic, obs, *extra), "shape", ()))
        if discrete and shape_of_q not in ((PROBES, size), (1, PROBES, size), (2, PROBES, size)):
            raise ConfigError(f"the actor gives {size} logits per state, the critic values of shape {shape_of_q[1:]}")
        if not discrete and shape_of_q not in ((PROBES, 1), (PROBES,), (2, PROBES)):
            raise ConfigError(f"the critic gives shape {shape_of_q} for {PROBES} rows; expected (B, 1) or (2, B)")
    return size, discrete


def states(name: str, values) -> np.ndarray:
    """(B, S) float32."""
    values = _numbers(name, values)
    if values.ndim != 2 or 0 in values.shape:
        raise DataError(f"{name} has shape {values.shape}; expected (B, S)")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(values, np.float32)
    if not np.isfinite(values).all():
        raise DataError(f"{name} has NaN or infinite values; remove those rows")
    return values


def batch_parts(batch) -> tuple:
    """The parts of a batch."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 5:
        count = f"{len(batch)} parts" if isinstance(batch, (tuple, list)) else type(batch).__name__
        raise DataError(f"the batch is of {count}; expected (state, action, reward, next_state, done)")
    return tuple(batch)


def pack(state, action, reward, next_state, done, action_size: int, discrete: bool) -> np.ndarray:
    """A batch in the layout of `Replay`'s rows, (1, B, W).

    Args:
        state: (B, S) from `states`.
        action: (B,) or (B, 1) integers; (B, A) for continuous actions.
        reward: (B,) or (B, 1).
        next_state: (B, S).
        done: (B,) or (B, 1).
        action_size: as `probe` gives it.
        discrete: the same.

    Raises:
        DataError: shapes, types or values are wrong.
    """
    batch, next_state = len(state), states("next_state", next_state)
    if next_state.shape != state.shape:
        raise DataError(f"next_state has shape {next_state.shape}, state {state.shape}")
    action = _numbers("action", action)
    if discrete and action.dtype.kind not in "iu":
        raise DataError(f"action is of type {action.dtype}; the actor gives logits, so actions are integers")
    width = 1 if discrete else action_size
    if action.shape != (batch, width) and (width > 1 or action.shape != (batch,)):
        raise DataError(f"action has shape {action.shape}; expected {(batch, width)}")
    columns = [_column("reward", reward, batch), _column("done", done, batch)]
    packed = np.concatenate([state, next_state, action.reshape(batch, width), *columns], axis=1, dtype=np.float32)
    rows(packed[None], state.shape[1], action_size, discrete)
    return packed[None]


def rows(packed: np.ndarray, state_size: int, action_size: int, discrete: bool) -> None:
    """Checks the values of rows (K, B, W).

    Raises:
        DataError: the width is wrong, a value is NaN or infinite, or an action is out of range.
    """
    width = 2 * state_size + (1 if discrete else action_size) + 2
    if packed.shape[-1] != width:
        raise DataError(f"rows of the memory have {packed.shape[-1]} columns, the networks need {width}")
    if not np.isfinite(packed.sum(dtype=np.float64)):
        raise DataError("the batch has NaN or infinite values; remove those rows")
    if packed[..., -1].min() < 0 or packed[..., -1].max() > 1:
        raise DataError("done has values that are not from 0 to 1")
    action = packed[..., 2 * state_size : -2]
    low, high = (0, action_size - 1) if discrete else (-1.0 - BOUND_TOLERANCE, 1.0 + BOUND_TOLERANCE)
    if action.min() < low or action.max() > high:
        worst = action.min() if action.min() < low else action.max()
        known = f"0..{action_size - 1}" if discrete else "the range [-1, 1]"
        raise DataError(f"action {worst:g} is outside {known}")
    if discrete and (action != np.trunc(action)).any():
        raise DataError("the memory's actions are fractions; the actor gives logits, so actions are integers")


def same_normalizer(own: Normalizer | None, other: Normalizer, trained_raw: bool) -> None:
    """Checks that a memory's normaliser can be the agent's.

    Args:
        own: the agent's; None if it has none yet.
        other: the memory's.
        trained_raw: whether an agent without one was trained, so on raw states.

    Raises:
        DataError: they differ.
    """
    own = Normalizer.identity(other.obs_size) if own is None and trained_raw else own
    mine, theirs = own.arrays() if own else {}, other.arrays()
    if own and (mine.keys() != theirs.keys() or any(not np.array_equal(mine[key], theirs[key]) for key in mine)):
        hint = "it has learnt raw states: Normalizer.identity" if trained_raw else "make both from the same data"
        raise DataError(f"the memory's normaliser differs from the agent's; {hint}")


def memory(memory, batch_size: int) -> None:
    """Checks that a batch can be drawn from it."""
    if not isinstance(memory, Replay):
        raise DataError(f"memory is a {type(memory).__name__}; learn takes a Replay, and update takes a batch")
    available = memory.offline_size + memory.online_size
    if batch_size > available > 0:
        raise DataError(f"a batch of {batch_size} rows is larger than the memory, which holds {available}")


def diverged(metrics: dict[str, float], use_adv: bool) -> DivergenceError:
    """The error for a step whose result is not finite."""
    what, use = ("A", "a weight_clip") if use_adv else ("Q", "use_adv=True (a weight_clip would clip all weights)")
    critic_loss, actor_loss = metrics["critic_loss"], metrics["actor_loss"]
    return DivergenceError(
        f"critic loss {critic_loss:g}, actor loss {actor_loss:g}: a weight exp({what}/lam) or its gradient overflows, "
        f"or the critics diverge; networks are as before this call; use a larger lam, {use}, or lower learning rates"
    )


def places(parameters: dict) -> dict[str, int]:
    """Where each parameter is in memory; empty but on the CPU, since elsewhere this was not tried."""
    found = parameters if ms.get_context("device_target") == "CPU" else {}
    return {name: parameter.data_ptr() for name, parameter in found.items()}


def same_memory(before: dict[str, int], parameters: dict) -> None:
    """Checks that no parameter was given other memory: a compiled step would go on with the old, which is freed.

    Args:
        before: where those are that a compiled call has used.
        parameters: to be checked, as far as they are among them.

    Raises:
        ConfigError: one was.
    """
    now = places({name: parameter for name, parameter in parameters.items() if name in before})
    for moved in (name for name in now if now[name] != before[name]):
        raise ConfigError(
            f"the weights of {moved} were replaced after the first call, by load_param_into_net or set_data, which the "
            "compiled step can't follow; load them before the first call, or use AWAC.load or ops.assign"
        )


def all_finite(parameters) -> bool:
    """Whether no value of the parameters is NaN or infinite."""
    return all(np.isfinite(p.asnumpy()).all() for p in parameters)


def _is_number(value) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _try(name: str, net, *inputs):
    try:
        return net(*inputs)
    except AWACError:
        raise
    except Exception as error:  # a user's network may raise anything
        lines = str(error).strip().splitlines() or [type(error).__name__]
        shapes = " and ".join(str(x.shape) for x in inputs)
        reason = next((line for line in lines if line.strip("- ")), lines[0])  # MindSpore begins with a line of dashes
        raise ConfigError(f"the {name} does not take an input of shape {shapes}: {reason}") from error


def _are_probabilities(values: np.ndarray) -> bool:
    differ = np.ptp(values) > 0  # else a head of zeros with equal biases
    return bool(differ and (values >= 0).all() and np.allclose(values.sum(-1), 1.0, atol=1e-5))


def _numbers(name: str, values) -> np.ndarray:
    try:
        values = np.asarray(values)
    except ValueError:
        raise DataError(f"{name} is not an array: its rows are of different lengths") from None
    if values.dtype.kind not in "biuf":
        raise DataError(f"{name} holds {values.dtype}, not numbers")
    return values


def _column(name: str, values, batch: int) -> np.ndarray:
    values = _numbers(name, values)
    if values.shape not in ((batch,), (batch, 1)):
        raise DataError(f"{name} has shape {values.shape}; expected {(batch,)}")
    return values.reshape(batch, 1)
