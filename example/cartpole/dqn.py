"""Trains the behaviour policy of the CartPole experiment: a DQN that is stopped early and then acts carelessly.

Its weights ship as ckpt/behaviour/cartpole_dqn.npz, so nobody needs to run this:

    python example/cartpole/dqn.py --out cartpole_dqn.npz
"""

from __future__ import annotations

import argparse
import os

import mindspore as ms
import numpy as np
from mindspore import ParameterTuple, Tensor, nn, ops

from awac import make_env
from awac.algorithm.networks import MLP
from awac.algorithm.optim import Adam
from awac.algorithm.policy import assign_array, at_action, parameter_arrays
from awac.algorithm.step import unpack
from awac.cli.options import natural, path, positive
from awac.data.behaviour import BehaviourPolicy
from awac.data.collect import collect
from awac.data.normalizer import Normalizer
from awac.data.replay import Replay

SIZES = (4, 64, 64, 2)
STEPS = 1800  # here its careless episodes last about as long as those of the study that this experiment repeats
EPSILON = 0.4


class DQN(nn.Cell):
    """Deep Q-learning (Mnih et al. 2015): mean squared TD error, Adam, a target network copied now and then."""

    def __init__(self, rng: np.random.Generator, gamma=0.99, learning_rate=1e-3):
        super().__init__()
        self.gamma = gamma
        self.online, self.target = MLP(SIZES, rng, "online"), MLP(SIZES, rng, "target")
        parameters = ParameterTuple(self.online.trainable_params())
        self.adam = Adam(parameters, learning_rate, "adam")
        self.gradient = ops.value_and_grad(self.loss, None, parameters)
        self.sync()

    def sync(self) -> None:
        """Copies the network into its target."""
        for target, online in zip(self.target.get_parameters(), self.online.get_parameters(), strict=True):
            assign_array(target, online.asnumpy())

    def loss(self, obs, action, td_target):
        return ops.square(at_action(self.online(obs), action) - td_target).mean()

    @ms.jit
    def construct(self, rows):
        """One gradient step on each batch of rows (K, B, W) of a `Replay`; returns the last loss."""
        k, loss = ops.scalar_to_tensor(0, ms.int32), ops.scalar_to_tensor(0.0)
        while k < rows.shape[0]:
            obs, next_obs, action, reward, terminated = unpack(ops.gather(rows, k, 0), SIZES[0], 1)
            next_value = self.target(next_obs).max(-1)
            td_target = ops.stop_gradient(reward + self.gamma * (1.0 - terminated) * next_value)
            loss, gradients = self.gradient(obs, action, td_target)
            self.adam(gradients)
            k = k + 1
        return loss

    def layers(self) -> tuple:
        """(weight, bias) pairs as `BehaviourPolicy` holds them."""
        arrays = parameter_arrays(self.online)
        return tuple((arrays[f"{i}.weight"], arrays[f"{i}.bias"][0]) for i in range(len(SIZES) - 1))


def train(steps: int, seed: int) -> BehaviourPolicy:
    """Trains for `steps` environment steps, the random share of the actions falling by 0.2 every 1000, to 0.05."""
    rng = np.random.default_rng(seed)
    dqn, env = DQN(rng), make_env("CartPole-v1")
    memory = Replay(None, Normalizer.identity(SIZES[0]), online_capacity=20_000, action_width=1)
    policy = BehaviourPolicy("dqn", dqn.layers(), epsilon=0.0)
    observation, _ = env.reset(seed=seed)
    for step in range(1, steps + 1):
        explore = rng.random() < max(0.05, 1.0 - step / 5000)
        action = int(rng.integers(2)) if explore else policy(observation, rng)
        following, reward, terminated, truncated, _ = env.step(action)
        memory.add(observation, action, float(reward), following, terminated)
        observation = env.reset()[0] if terminated or truncated else following
        if step >= 1000 and step % 16 == 0:
            dqn(Tensor(memory.sample(rng, steps=8, batch_size=128).copy()))
            policy = BehaviourPolicy("dqn", dqn.layers(), epsilon=0.0)
        if step % 256 == 0:
            dqn.sync()
    return BehaviourPolicy("cartpole_dqn", dqn.layers(), epsilon=EPSILON)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=positive, default=STEPS, help="environment steps (default: %(default)s)")
    parser.add_argument("--seed", type=natural, default=3, help="(default: %(default)s)")
    parser.add_argument("--out", type=path, required=True, help="the .npz to write")
    args = parser.parse_args()
    folder = os.path.dirname(args.out) or "."
    if os.path.isdir(args.out) or not args.out.endswith(".npz") or not os.access(folder, os.W_OK):
        parser.error(f"--out {args.out}: give a file .npz in a folder that exists and can be written to")
    ms.set_context(mode=ms.GRAPH_MODE)
    policy = train(args.steps, args.seed)
    arrays = {
        f"layers.{i}.{name}": a
        for i, layer in enumerate(policy.layers)
        for name, a in zip(("weight", "bias"), layer, strict=True)
    }
    np.savez_compressed(args.out, epsilon=np.float32(EPSILON), **arrays)
    for label, deterministic in (("greedy", True), (f"{EPSILON:.0%} random", False)):
        columns = collect("CartPole-v1", policy, episodes=50, seed=1, deterministic=deterministic)
        print(f"{label}: {len(columns['rewards']) / 50:.1f} steps an episode")


if __name__ == "__main__":
    main()
