"""One run: mindspore-rl's actor, learner, trainer and session around the algorithm, with callbacks and logs."""
