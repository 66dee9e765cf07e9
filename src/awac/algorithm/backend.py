"""Imports MindSpore with the settings that it needs; every package that uses MindSpore imports this first.

MindSpore 2.7 comes with protobuf files of an old format, which only protobuf's pure Python implementation loads. If
another package (wandb, onnx, ray, tensorboardX) has already loaded the compiled one, MindSpore gets its own copy.
"""

from __future__ import annotations

import importlib
import os
import sys

_VARIABLE = "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"
_MESSAGES = ("anf_ir", "checkpoint", "lineage", "mind_ir", "node_strategy", "print", "summary")


def _protobuf() -> list[str]:
    return [name for name in sys.modules if name == "google.protobuf" or name.startswith("google.protobuf.")]


def _load_beside_protobuf() -> None:
    """Hides the loaded protobuf while MindSpore is imported, then restores it."""
    google, before = sys.modules["google"], os.environ.get(_VARIABLE)
    loaded = {name: sys.modules.pop(name) for name in _protobuf()}
    os.environ[_VARIABLE] = "python"
    try:
        importlib.import_module("mindspore")
        for name in _MESSAGES:  # MindSpore imports some of them later
            importlib.import_module(f"mindspore.train.{name}_pb2")
    finally:
        for name in _protobuf():
            del sys.modules[name]
        sys.modules.update(loaded)
        google.protobuf = loaded["google.protobuf"]  # type: ignore[attr-defined]
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before


os.environ.setdefault("GLOG_v", "3")  # MindSpore's own log: errors only
if "mindspore" not in sys.modules and "google.protobuf" in sys.modules:
    from google.protobuf.internal import api_implementation

    if api_implementation.Type() != "python":
        _load_beside_protobuf()
