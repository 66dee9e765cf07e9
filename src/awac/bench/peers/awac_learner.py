"""This package's learner on the path that training takes: replay, noise, compiled graph."""

from __future__ import annotations

import libraries
import numpy as np
from worker import serve

from awac.algorithm.learner import AWACLearner
from awac.algorithm.native.build import FLAGS
from awac.algorithm.native.cpus import threads
from awac.algorithm.policy import AWACPolicy, load_parameter_arrays, parameter_arrays
from awac.algorithm.step import METRICS
from awac.config import AlgoConfig, Config, TrainConfig
from awac.data.normalizer import Normalizer
from awac.data.replay import Replay
from awac.data.transitions import Transitions
from awac.training.session import select_device

NETWORKS = ("actor_net", "average_actor_net", "critic_net", "target_critic_net")


class Ours:
    """`AWACLearner` with the default number of steps a call."""

    def __init__(self, settings, weights, rows):
        select_device("CPU")
        self.settings, self.weights = settings, weights
        algo = {key: settings[key] for key in AlgoConfig.__dataclass_fields__}
        self.config = Config.from_dict({"algo": algo}).algo
        self.steps, self.size = TrainConfig().steps_per_call, self.config.batch_size
        action = rows["action"][:, 0].astype(np.int64) if settings["discrete"] else rows["action"]
        data = Transitions(rows["obs"], action, rows["reward"], rows["next_obs"], rows["terminated"] > 0,
                           np.zeros(len(action), bool))  # fmt: skip
        self.replay = Replay(data, Normalizer.identity(settings["obs_size"]), 0)
        self.rngs = [np.random.default_rng(i) for i in range(2)]
        self.learner = self.make()

    def make(self):
        s = self.settings
        policy = AWACPolicy({"config": self.config, "seed": 0, "state_space_dim": s["obs_size"],
                             "action_space_dim": s["action_size"], "discrete": s["discrete"]})  # fmt: skip
        networks = {name: getattr(policy, name) for name in NETWORKS}
        for name, net in networks.items():
            prefix = "policy." if "actor" in name else "value."
            load_parameter_arrays(net, {k[len(prefix) :]: v for k, v in self.weights.items() if k.startswith(prefix)})
        return AWACLearner({"config": self.config, **networks})

    def check(self, batches, noise):
        learner = self.make()
        columns = [batches[key] for key in ("obs", "next_obs", "action")]
        columns += [batches[key][..., None] for key in ("reward", "terminated")]
        rows = np.concatenate(columns, axis=-1)
        metrics, _ = learner.learn((rows, np.ascontiguousarray(noise[..., : learner.actor.noise_size])))
        found = {name: metrics[METRICS.index(name)] for name in ("critic_loss", "actor_loss")}
        nets = {"policy": learner.actor, "value": learner.critic, "target": learner.target_critic}
        if self.config.actor_ema > 0:
            nets["average"] = learner.average_actor
        for name, net in nets.items():
            found |= {f"{name}.{key}": value for key, value in parameter_arrays(net).items()}
        return found

    def run(self):
        rows = self.replay.sample(self.rngs[0], self.steps, self.size)
        noise = self.rngs[1].standard_normal((self.steps, 2, self.size, self.learner.actor.noise_size), np.float32)
        self.learner.learn((rows, noise))
        return self.steps

    def about(self):
        isa = {**libraries.numpy_isa(), **libraries.mindspore_isa()}
        if self.learner.steps.native is not None:
            isa["the native operator"] = "AVX2" if "-march=haswell" in FLAGS else "what the processor has"
        return isa, threads()


if __name__ == "__main__":
    serve(Ours)
