"""MindIR: MindSpore's own graph, for `nn.GraphCell` and MindSpore Lite; input `observation`, output `action`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.train.mind_ir_pb2 import ModelProto

from awac.runs.export.network import Network

USE = """import mindspore as ms

policy = ms.nn.GraphCell(ms.load("FILE"))
action = policy(ms.Tensor(observation)).asnumpy()"""


class _Policy(nn.Cell):
    """The network as a graph, for any number of rows."""

    def __init__(self, network: Network):
        super().__init__()
        self.all, self.columns = len(network.columns) == network.obs_size, Tensor(network.columns)
        self.shift, self.rest = Tensor(network.mean), Tensor(network.mean_rest)
        self.std, self.clip = Tensor(network.std), network.clip
        self.product = ops.MatMul()  # ops.matmul takes an operator that older runtimes don't know
        self.weights = [Tensor(weight) for weight, _ in network.layers]
        self.biases = [Tensor(bias) for _, bias in network.layers]
        self.discrete, self.start, self.squash = network.low is None, network.start, network.squash
        if network.low is not None:
            self.centre, self.half = Tensor(network.centre), Tensor(network.half)
            self.low, self.high = Tensor(network.low), Tensor(network.high)

    def construct(self, observation):
        x = observation if self.all else ops.gather(observation, self.columns, 1)
        x = ops.clamp((x - self.shift - self.rest) / self.std, -self.clip, self.clip)
        for i in range(len(self.weights)):
            if i:
                x = ops.relu(x)
            x = self.product(x, self.weights[i]) + self.biases[i]
        if self.discrete:
            return ops.argmax(x, -1) + self.start
        x = _tanh(x) if self.squash else x
        return ops.minimum(ops.maximum(self.centre + self.half * x, self.low), self.high)


def _tanh(x):
    """Within 2e-6 of the exact value; MindSpore 2.7's own float32 kernel on the CPU is off by up to 1e-4."""
    small = ops.exp(-2.0 * ops.abs(x))
    size = (1.0 - small) / (1.0 + small)
    return ops.select(x < 0, -size, size)


def write(path: Path, network: Network, about: dict[str, str]) -> None:
    """Writes the graph; MindIR can't hold `about`."""
    rows = Tensor(shape=[None, network.obs_size], dtype=ms.float32)
    with tempfile.TemporaryDirectory() as folder:  # MindSpore refuses paths with spaces, parentheses, other letters …
        exported = Path(folder) / "policy.mindir"
        ms.export(_Policy(network), rows, file_name=str(exported), file_format="MINDIR")
        content = exported.read_bytes()
    path.write_bytes(_name_ends(content))


def _name_ends(content: bytes) -> bytes:
    """Gives the graph's input and output the names that the other formats have."""
    model = ModelProto()
    model.ParseFromString(content)
    (first,), (last,) = model.graph.input, model.graph.output
    names = {first.name: "observation", last.name: "action"}
    first.name, last.name = "observation", "action"
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return model.SerializeToString()


def load(path: Path):
    """The file in MindSpore."""
    cell = nn.GraphCell(ms.load(str(path)))
    return lambda observation: cell(Tensor(np.ascontiguousarray(observation))).asnumpy()
