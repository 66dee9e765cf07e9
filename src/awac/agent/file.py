"""The one file that `AWAC.save` writes: parameters by name and the state of the random generators, in a .ckpt."""

from __future__ import annotations

import json
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor

from awac.algorithm.networks import MLP
from awac.data.normalizer import PREFIX, Normalizer
from awac.errors import CheckpointError, first_line
from awac.runs import ckpt_file, files

GENERATORS, KINDS = "generators", "networks"


def write(path, agent, parameters: dict, rngs: dict[str, np.random.Generator], normalizer=None) -> None:
    """Writes the file atomically, with the kinds of the agent's `MLP`s, which the parameters don't tell.

    Raises:
        CheckpointError: it can't be written, or its name does not end in .ckpt.
    """
    path = _named(path)
    states = json.dumps({name: rng.bit_generator.state for name, rng in rngs.items()}).encode()
    data = [{"name": name, "data": Tensor(p.asnumpy())} for name, p in parameters.items()]
    data.append({"name": GENERATORS, "data": Tensor(np.frombuffer(states, np.uint8).copy())})
    kinds = json.dumps(_kinds(agent)).encode()
    data.append({"name": KINDS, "data": Tensor(np.frombuffer(kinds, np.uint8).copy())})
    for key, value in normalizer.arrays().items() if normalizer else ():
        data.append({"name": PREFIX + key, "data": Tensor(np.atleast_1d(value))})
    try:
        files.write(path, lambda temp: ms.save_checkpoint(data, str(temp)))
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} could not be written ({first_line(error)})") from error


def read(path, agent, parameters: dict, streams) -> tuple[dict, dict[str, np.random.Generator], Normalizer | None]:
    """Arrays for each of the parameters, the generators, and the normaliser if the file has one.

    Raises:
        CheckpointError: the file is missing, damaged, or of other networks.
    """
    path = _named(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    arrays = ckpt_file.read(path)
    stored = {name: arrays.pop(name) for name in list(arrays) if name.startswith(PREFIX)}
    for name, parameter in parameters.items():
        if name not in arrays or arrays[name].shape != parameter.shape:
            raise CheckpointError(f"{path} was saved with other networks: {name} is missing or of another shape")
    if set(arrays) - set(parameters) - {KINDS} != {GENERATORS}:
        raise CheckpointError(f"{path} was saved with other networks: it holds more parameters")
    if KINDS in arrays:  # not in files of earlier versions
        _same_kinds(path, arrays[KINDS], agent)
    try:
        states = json.loads(arrays[GENERATORS].tobytes())
        rngs = {name: np.random.default_rng() for name in streams}
        for name, rng in rngs.items():
            rng.bit_generator.state = states[name]
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} has a damaged state of the generators") from error
    fitted = {name.removeprefix(PREFIX): value for name, value in stored.items()}
    if "obs_size" in fitted:
        fitted["obs_size"] = fitted["obs_size"].reshape(-1)[0]
    return {name: arrays[name] for name in parameters}, rngs, Normalizer.from_arrays(fitted) if fitted else None


def _kinds(agent) -> dict[str, list[dict]]:
    """By network, what decides the function of each `MLP` in it besides its parameters."""
    nets = {"critic": agent.critics, "actor": agent.actor}
    mlps = {name: [m for _, m in net.cells_and_names() if isinstance(m, MLP)] for name, net in nets.items()}
    return {name: [{"copies": m.copies, "layer_norm": bool(m.layer_norm)} for m in each] for name, each in mlps.items()}


def _same_kinds(path: Path, stored: np.ndarray, agent) -> None:
    try:
        theirs = json.loads(stored.tobytes())
        for name, ours in _kinds(agent).items():
            if theirs[name] != ours:
                kinds = f"its {name} has {_described(theirs[name])}, this one {_described(ours)}"
                raise CheckpointError(f"{path} was saved with other networks: {kinds}")
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} has a damaged description of the networks") from error


def _described(kinds: list[dict]) -> str:
    each = (", ".join(f"{key}={value}" for key, value in kind.items()) for kind in kinds)
    return " and ".join(f"MLP({one})" for one in each) or "no MLP"


def _named(path) -> Path:
    path = Path(path).expanduser()
    if path.suffix != ".ckpt":
        raise CheckpointError(f"{path}: the name of a checkpoint must end in .ckpt")
    return path
