"""One run: mindspore-rl's actor, learner, trainer and session around the algorithm, with callbacks and logs."""

from awac.algorithm import backend as backend  # before any of its modules imports MindSpore
