"""NumPy's .npz: arrays, and 15 lines of plain numpy that run them as a policy."""

from __future__ import annotations

import inspect
import io
from pathlib import Path
from typing import Any

import numpy as np

from awac.runs.export.network import Network


def write(path: Path, network: Network, about: dict[str, str]) -> None:
    """Writes the arrays of a network, and `about` as text arrays."""
    arrays: dict[str, Any] = {
        "columns": network.columns,
        "mean": network.mean,
        "mean_rest": network.mean_rest,
        "std": network.std,
        "clip": np.float32(network.clip),
        "depth": np.int64(len(network.layers)),
        "obs_size": np.int64(network.obs_size),
        **{f"about.{name}": np.array(text) for name, text in about.items()},
    }
    for i, (weight, bias) in enumerate(network.layers):
        arrays |= {f"weight_{i}": weight, f"bias_{i}": bias}
    if network.low is None:
        arrays["start"] = np.int64(network.start)
    else:
        arrays |= {"centre": network.centre, "half": network.half, "low": network.low, "high": network.high}
        arrays["squash"] = np.bool_(network.squash)
    content = io.BytesIO()
    np.savez(content, **arrays)
    path.write_bytes(content.getbuffer())


# fmt: off
def load(path):
    """The policy in a file that `awac export --format npz` wrote."""
    p = dict(np.load(path, allow_pickle=False))
    def act(observation):  # (B, O) raw -> (B, A) in the environment's units, or (B,) indices
        x = np.asarray(observation, np.float32)[:, p["columns"]]
        x = np.clip((x - p["mean"] - p["mean_rest"]) / p["std"], -p["clip"], p["clip"])
        for i in range(int(p["depth"])):
            x = (np.maximum(x, 0) if i else x) @ p[f"weight_{i}"] + p[f"bias_{i}"]
        if "start" in p:  # discrete actions
            return x.argmax(-1) + p["start"]
        x = p["centre"] + p["half"] * (np.tanh(x) if p["squash"] else x)
        return np.clip(x, p["low"], p["high"])
    return act


# fmt: on


USE = f"""import numpy as np


{inspect.getsource(load)}

action = load("FILE")(observation)"""
