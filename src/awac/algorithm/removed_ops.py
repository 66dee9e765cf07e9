"""Stand-ins for operators that mindspore-rl 0.7.0 imports and MindSpore from 2.7.1 on no longer has.

They belong to mindspore-rl's own replay buffers, queues and environments. awac uses none of these, so only the import
has to work; creating a stand-in raises an error.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
from collections.abc import Iterator

_OPERATIONS = "mindspore.ops.operations"


def _stand_in(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)

    def __init__(self, *args, **kwargs):
        import mindspore

        raise NotImplementedError(f"MindSpore {mindspore.__version__} has no operator {name}; 2.7.0 has it")

    return type(name, (), {"__init__": __init__})


@contextlib.contextmanager
def stand_ins() -> Iterator[None]:
    """Inside the context, importing an operator that MindSpore no longer has gives a stand-in."""
    operators = importlib.import_module(f"{_OPERATIONS}._rl_inner_ops")
    operators.__getattr__ = _stand_in  # type: ignore[method-assign]
    array = f"{_OPERATIONS}._tensor_array"
    try:
        importlib.import_module(array)
    except ModuleNotFoundError:
        sys.modules[array] = types.ModuleType(array)
        sys.modules[array].__getattr__ = _stand_in  # type: ignore[method-assign]
    try:
        yield
    finally:
        del operators.__getattr__
