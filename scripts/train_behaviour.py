"""Trains a behaviour policy for the Ant, the source of the data that stands in for D4RL's recordings.

Uses SBX (Stable-Baselines3 on JAX) in D4RL's robot; install the extra with `pip install -e ".[behaviour]"`. The policy
with the best evaluation (mean return less its standard deviation) is written as a small `.npz` that `awac collect
--policy` reads, the last policy beside it as `*_last.npz`: `layers.{0,1,2}.weight` (in, out) and `.bias` (out,), ReLU
between, 2·A outputs: mean and log-std of a tanh Gaussian on `observation[:27]`.

    python scripts/train_behaviour.py --algorithm tqc --steps 3000000 --out ant.npz
    python scripts/train_behaviour.py --algorithm ppo --init ant.npz --steps 5000000 --out better.npz
    python scripts/train_behaviour.py --algorithm ppo --init better.npz --steps 5000000 --anneal \
        --fall_cost 2000 --height_cost 8 --out best.npz
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import time

import gymnasium
import jax
import numpy as np
import sbx
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from awac.envs.mujoco_v2 import TIME_LIMIT, AntV2

OBSERVED = 27  # the other 84 values of the Ant's observation are always zero
HIDDEN = [256, 256]
SAFE_HEIGHT = 0.85  # m


class BehaviourView(gymnasium.Wrapper):
    """The Ant as these algorithms see it: 27 observations; for PPO the action is squashed by tanh here.

    Args:
        squash: whether to apply tanh to the action.
        fall_cost: subtracted from the reward on a fall, which then also ends the episode; 0 for the task as it is.
        height_cost: subtracted from the reward of a step that ends at 1 m, where the task ends the episode; it grows
            from 0 at `SAFE_HEIGHT` with the square, so that the policy hears of a jump before it is too high.
        time_limit: steps of an episode; fewer than the task's show it more starts.
    """

    def __init__(self, squash: bool, fall_cost: float = 0.0, height_cost: float = 0.0, time_limit: int = TIME_LIMIT):
        super().__init__(gymnasium.wrappers.TimeLimit(AntV2(), time_limit))
        self.squash, self.fall_cost, self.height_cost = squash, fall_cost, height_cost
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVED,), np.float32)
        if squash:
            self.action_space = gymnasium.spaces.Box(-10.0, 10.0, (8,), np.float32)

    def reset(self, **kwargs):
        observation, info = self.env.reset(**kwargs)
        return observation[:OBSERVED].astype(np.float32), info

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(np.tanh(action) if self.squash else action)
        if self.fall_cost:
            # The Ant's own rule lets it lie on its back for the rest of the episode; here that is an end, and costs.
            quat_x, quat_y = observation[2:4]
            terminated = terminated or 1 - 2 * (quat_x**2 + quat_y**2) < 0
            reward -= self.fall_cost * terminated
        reward -= self.height_cost * (max(0.0, observation[0] - SAFE_HEIGHT) / (1.0 - SAFE_HEIGHT)) ** 2
        return observation[:OBSERVED].astype(np.float32), reward, terminated, truncated, info


def layers_of(model) -> dict[str, np.ndarray]:
    """The actor's weights in the shipped format; PPO's state-free log-std becomes a bias."""
    params = jax.device_get(model.policy.actor_state.params["params"])
    out = {}
    for i in (0, 1):
        out[f"layers.{i}.weight"] = params[f"Dense_{i}"]["kernel"]
        out[f"layers.{i}.bias"] = params[f"Dense_{i}"]["bias"]
    mean = params["Dense_2"]
    spread = params.get("Dense_3") or {"kernel": np.zeros_like(mean["kernel"]), "bias": params["log_std"]}
    out["layers.2.weight"] = np.concatenate([mean["kernel"], spread["kernel"]], axis=1)
    out["layers.2.bias"] = np.concatenate([mean["bias"], spread["bias"]])
    return {key: np.asarray(value, np.float32) for key, value in out.items()}


def load_layers(model, layers) -> None:
    """Starts the actor from the shipped format."""
    weight, bias = layers["layers.2.weight"], layers["layers.2.bias"]
    size = len(bias) // 2
    params = {
        f"Dense_{i}": {"kernel": layers[f"layers.{i}.weight"], "bias": layers[f"layers.{i}.bias"]} for i in (0, 1)
    }
    params["Dense_2"] = {"kernel": weight[:, :size], "bias": bias[:size]}
    old = model.policy.actor_state.params["params"]
    if "log_std" not in old:
        params["Dense_3"] = {"kernel": weight[:, size:], "bias": bias[size:]}
    elif weight[:, size:].any():  # a state-dependent std has no counterpart in PPO's policy
        params["log_std"] = old["log_std"]
    else:
        params["log_std"] = bias[size:]
    model.policy.actor_state = model.policy.actor_state.replace(params={"params": jax.tree.map(np.asarray, params)})


def mean_return(layers, episodes: int, seed: int) -> tuple[float, float, float]:
    """Mean return, its standard deviation and the share of falls of the mean action over `episodes`."""
    env, returns, falls = BehaviourView(squash=False), [], 0
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed + episode)
        total, done = 0.0, False
        while not done:
            hidden = np.maximum(observation @ layers["layers.0.weight"] + layers["layers.0.bias"], 0)
            hidden = np.maximum(hidden @ layers["layers.1.weight"] + layers["layers.1.bias"], 0)
            action = np.tanh((hidden @ layers["layers.2.weight"] + layers["layers.2.bias"])[:8])
            observation, reward, terminated, truncated, _ = env.step(action)
            total, done = total + reward, terminated or truncated
        falls += terminated
        returns.append(total)
    return float(np.mean(returns)), float(np.std(returns)), falls / episodes


class KeepBest(BaseCallback):
    """Evaluates every `every` env steps and keeps the best policy; holds the actor still for the first `hold` steps."""

    def __init__(self, out: str, every: int, hold: int, start):
        super().__init__()
        self.out, self.every, self.hold, self.start = out, every, hold, start
        self.best, self.next, self.began = -np.inf, 0, time.time()
        self.curve = f"{os.path.splitext(out)[0]}.csv"
        self._row("w", ["env_steps", "seconds", "mean_return", "std_return", "falls"])

    def _row(self, mode: str, values: list) -> None:
        with open(self.curve, mode, newline="") as file:
            csv.writer(file).writerow(values)
        print(*values, flush=True)

    def _on_step(self) -> bool:
        if self.start is not None and self.num_timesteps < self.hold:
            load_layers(self.model, self.start)
        if self.num_timesteps >= self.next:
            self.next += self.every
            layers = layers_of(self.model)
            mean, std, falls = mean_return(layers, episodes=20, seed=9000)
            seconds = int(time.time() - self.began)
            self._row("a", [self.num_timesteps, seconds, round(mean, 1), round(std, 1), falls])
            stem = os.path.splitext(self.out)[0]
            np.savez(f"{stem}_last.npz", **layers)
            if mean - std > self.best:
                self.best = mean - std
                os.replace(shutil.copy(f"{stem}_last.npz", f"{stem}_new.npz"), self.out)
        return True


def build(algorithm: str, seed: int, anneal: bool, **view):
    """The SBX model in a `BehaviourView`; hyper-parameters are SBX's defaults but for what stands here."""
    if algorithm == "ppo":
        env = VecNormalize(DummyVecEnv([lambda: BehaviourView(True, **view)] * 16), norm_obs=False)
        policy = {"net_arch": HIDDEN, "activation_fn": jax.nn.relu, "log_std_init": -1.5}
        rate = (lambda remaining: 1.5e-4 * remaining) if anneal else 1.5e-4
        return sbx.PPO(
            "MlpPolicy", env, rate, n_steps=512, batch_size=1024, n_epochs=6, seed=seed, policy_kwargs=policy
        )
    env = DummyVecEnv([lambda: BehaviourView(False, **view)] * 8)
    cls = {"sac": sbx.SAC, "tqc": sbx.TQC}[algorithm]
    return cls(
        "MlpPolicy",
        env,
        learning_starts=4000,
        gradient_steps=4,
        batch_size=256,
        ent_coef="auto_0.1",
        seed=seed,
        policy_kwargs={"net_arch": HIDDEN},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithm", choices=["tqc", "sac", "ppo"], default="tqc")
    parser.add_argument("--steps", type=int, default=3_000_000, help="environment steps")
    parser.add_argument(
        "--init", help="a policy .npz to start the actor from; it is held still while the critic warms up"
    )
    parser.add_argument("--hold", type=int, default=100_000, help="environment steps of that warm-up")
    parser.add_argument("--every", type=int, default=100_000, help="environment steps between evaluations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", required=True, help="the .npz to write the best policy to; a .csv curve goes beside it"
    )
    parser.add_argument("--anneal", action="store_true", help="PPO: learning rate falling to 0")
    parser.add_argument("--fall_cost", type=float, default=0.0, help="reward taken for a fall during training")
    parser.add_argument("--height_cost", type=float, default=0.0, help="reward taken for jumping, see BehaviourView")
    parser.add_argument("--time_limit", type=int, default=TIME_LIMIT, help="steps of an episode during training")
    args = parser.parse_args()
    view = {"fall_cost": args.fall_cost, "height_cost": args.height_cost, "time_limit": args.time_limit}
    model = build(args.algorithm, args.seed, args.anneal, **view)
    start = None
    if args.init:
        with np.load(args.init, allow_pickle=False) as file:
            start = {key: file[key] for key in file.files}
        load_layers(model, start)
    model.learn(args.steps, callback=KeepBest(args.out, args.every, args.hold, start))


if __name__ == "__main__":
    main()
