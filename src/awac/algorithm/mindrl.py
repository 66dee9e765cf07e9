"""mindspore-rl's base classes, imported here and nowhere else.

Its package warns on import that it expects MindSpore 2.1 and counts down three seconds; 0.7.0 works with MindSpore
2.7.0 (the versions are pinned), so the countdown is skipped.
"""

from __future__ import annotations

from unittest import mock

with mock.patch("time.sleep"):
    from mindspore_rl.agent.actor import Actor
    from mindspore_rl.agent.learner import Learner
    from mindspore_rl.agent.trainer import COLLECT, EVAL, Trainer
    from mindspore_rl.core import Session
    from mindspore_rl.environment.python_environment import PythonEnvironment
    from mindspore_rl.environment.space import Space
    from mindspore_rl.utils.callback import Callback, CallbackManager, CallbackParam

__all__ = ["COLLECT", "EVAL", "Actor", "Callback", "CallbackManager", "CallbackParam", "Learner", "PythonEnvironment",
           "Session", "Space", "Trainer"]  # fmt: skip
