"""mindspore-rl's base classes, imported here and nowhere else.

mindspore-rl warns on import that it expects MindSpore 2.1 and waits three seconds; 0.7.0 works with 2.7 to 2.10 (see
`removed_ops`). Its `import time` therefore gets a clock whose `sleep` returns at once; other modules are not affected.
"""

from __future__ import annotations

import builtins
import importlib.util
import sys
import types

from awac.algorithm.removed_ops import stand_ins
from awac.envs.old_gym import import_gym
from awac.errors import AWACError


def _import_without_countdown() -> None:
    if "mindspore_rl" in sys.modules:
        return
    spec = importlib.util.find_spec("mindspore_rl")
    if spec is None or spec.loader is None:
        raise AWACError("mindspore-rl is not installed: pip install --no-deps mindspore-rl==0.7.0")
    module = importlib.util.module_from_spec(spec)
    clock = types.SimpleNamespace(sleep=lambda seconds: None)

    def import_(name, *rest):
        return clock if name == "time" else builtins.__import__(name, *rest)

    module.__dict__["__builtins__"] = {**vars(builtins), "__import__": import_}
    sys.modules["mindspore_rl"] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules["mindspore_rl"]
        raise
    module.__dict__["__builtins__"] = vars(builtins)


import_gym()  # before mindspore-rl does, so that it prints no notice
with stand_ins():
    _import_without_countdown()
    from mindspore_rl.agent.actor import Actor
    from mindspore_rl.agent.learner import Learner
    from mindspore_rl.agent.trainer import COLLECT, EVAL, Trainer
    from mindspore_rl.core import Session
    from mindspore_rl.environment.python_environment import PythonEnvironment
    from mindspore_rl.environment.space import Space
    from mindspore_rl.utils.callback import Callback, CallbackManager, CallbackParam

__all__ = [
    "COLLECT",
    "EVAL",
    "Actor",
    "Callback",
    "CallbackManager",
    "CallbackParam",
    "Learner",
    "PythonEnvironment",
    "Session",
    "Space",
    "Trainer",
]
