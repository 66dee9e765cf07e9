"""ONNX: a graph for onnxruntime, TensorRT, OpenVINO and others; input `observation`, output `action`."""

from __future__ import annotations

from pathlib import Path

import mindspore  # noqa: F401  before onnx: the protobuf that onnx loads would break a later import

# isort: split
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from awac.runs.export.network import Network

OPSET, IR_VERSION = 13, 8
"""From 2021; runtimes since then can read the file."""

USE = """import onnxruntime

session = onnxruntime.InferenceSession("FILE")
action = session.run(["action"], {"observation": observation})[0]"""


class _Graph:
    """A chain of operators: each takes the last one's output and constants."""

    def __init__(self, first: str):
        self.last = first
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, value) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, operator: str, *constants, output: str | None = None, **attributes) -> None:
        inputs = [self.last, *(self.constant(value) for value in constants)]
        self.last = output or f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [self.last], **attributes))


def write(path: Path, network: Network, about: dict[str, str]) -> None:
    """Writes the graph, for any number of rows, with `about` in the model's metadata."""
    graph = _Graph("observation")
    if len(network.columns) < network.obs_size:
        graph.add("Gather", network.columns, axis=1)
    graph.add("Sub", network.mean)
    if network.mean_rest.any():
        graph.add("Sub", network.mean_rest)
    graph.add("Div", network.std)
    graph.add("Clip", np.float32(-network.clip), np.float32(network.clip))
    for i, (weight, bias) in enumerate(network.layers):
        if i:
            graph.add("Relu")
        graph.add("MatMul", weight)
        graph.add("Add", bias)
    if network.low is None:
        graph.add("ArgMax", axis=1, keepdims=0)
        graph.add("Add", np.int64(network.start), output="action")
        action = helper.make_tensor_value_info("action", TensorProto.INT64, ["batch"])
    else:
        if network.squash:
            graph.add("Tanh")
        graph.add("Mul", network.half)
        graph.add("Add", network.centre)
        graph.add("Max", network.low)
        graph.add("Min", network.high, output="action")
        action = helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", len(network.low)])
    observation = helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", network.obs_size])
    whole = helper.make_graph(graph.nodes, "policy", [observation], [action], graph.constants)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(whole, producer_name="awac", opset_imports=opsets, ir_version=IR_VERSION)
    helper.set_model_props(model, about)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def load(path: Path):
    """The file in onnxruntime, on the CPU."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda observation: session.run(["action"], {"observation": observation})[0]
