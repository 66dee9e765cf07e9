"""Trains a robot's behaviour policies from scratch: a ladder of ten snapshots from random to expert.

    python scripts/train_behaviour.py hopper
    python scripts/train_behaviour.py hopper --select    # picks the ladder again from the snapshots that are there

Uses SBX (Stable-Baselines3 on JAX) in D4RL's robot; install the extra with `pip install -e ".[behaviour]"`.

The training runs in segments. At the start of each the environments are reset and every random number generator gets a
seed made of (--seed, segment), so that a segment depends only on the state at its start. That state is saved every few
minutes in the work folder; the same command goes on from it after an interruption and ends with the same ladder, to the
bit on one machine with the same packages (sums of floating-point numbers differ between machines). Every segment ends
with an evaluation and a snapshot of the actor; at the end `behaviour_ladder.select` picks the files that ship.
"""

from __future__ import annotations

import argparse
import os
import pickle
import time
from dataclasses import dataclass, field
from pathlib import Path

# One thread is as fast for networks this small and keeps the order of sums fixed.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import flax.serialization  # noqa: E402
import gymnasium  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import sbx  # noqa: E402
from behaviour_ladder import (  # noqa: E402
    evaluate,
    load_snapshot,
    observed,
    read_curve,
    save_snapshot,
    select,
    snapshot_path,
    write_curve,
)
from stable_baselines3.common.callbacks import BaseCallback  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize  # noqa: E402

from awac.envs.mujoco_v2 import ROBOTS, TIME_LIMIT  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
EVALUATION_SEED = 9000
_REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


@dataclass(frozen=True)
class Recipe:
    """How one robot is trained.

    Attributes:
        algorithm: `ppo`, `sac`, `tqc` or `crossq`.
        steps: environment steps in all.
        segment: environment steps between two evaluations.
        envs: environments side by side.
        rate: learning rate.
        decay: (start, length) in environment steps of a linear fall of the rate to 0, which may be cut short; or None.
        early: environment steps between two evaluations in the first three segments; 0 for no more than one a segment.
        options: further arguments of the SBX class.
        policy: `policy_kwargs` of the SBX class.
        evaluation: episodes of an evaluation, and whether they take mean actions instead of sampled ones.
    """

    algorithm: str
    steps: int
    segment: int
    envs: int
    rate: float
    decay: tuple[int, int] | None
    early: int
    options: dict = field(default_factory=dict)
    policy: dict = field(default_factory=dict)
    evaluation: tuple[int, bool] = (10, False)


_PPO = {"n_steps": 64, "batch_size": 64, "n_epochs": 10, "gamma": 0.99, "gae_lambda": 0.95, "max_grad_norm": 0.5}
_PPO_POLICY = {"net_arch": {"pi": [256, 256], "vf": [64, 64]}, "log_std_init": -0.5, "ortho_init": True}
# Batches of 128 make 2.4 times the updates a second of 256.
_CROSSQ = {"learning_starts": 5000, "gradient_steps": 4, "batch_size": 128}
_CROSSQ_POLICY = {"net_arch": {"pi": [256, 256], "qf": [256, 256]}}
RECIPES = {
    "hopper": Recipe("ppo", 3_072_000, 102_400, 32, 3e-4, (0, 3_072_000), 0, _PPO, _PPO_POLICY),
    "walker2d": Recipe("crossq", 475_000, 25_000, 8, 1e-3, None, 0, _CROSSQ, _CROSSQ_POLICY),
    "ant": Recipe("crossq", 500_000, 25_000, 8, 1e-3, None, 0, _CROSSQ, _CROSSQ_POLICY),
    # It is past medium after two segments, and with a constant rate it stays at 75 normalised from 375 k steps on.
    "halfcheetah": Recipe("crossq", 650_000, 25_000, 8, 1e-3, (500_000, 300_000), 5_000, _CROSSQ, _CROSSQ_POLICY),
}


class BehaviourView(gymnasium.Wrapper):
    """The robot as the algorithms see it: float32, without values that are always zero.

    Args:
        robot: a name in ROBOTS.
        squash: apply tanh to the action, for PPO, whose Gaussian is not squashed.
    """

    def __init__(self, robot: str, squash: bool):
        super().__init__(gymnasium.wrappers.TimeLimit(ROBOTS[robot](), TIME_LIMIT))
        self.squash, self.size = squash, observed(robot)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (self.size,), np.float32)
        if squash:
            self.action_space = gymnasium.spaces.Box(-10.0, 10.0, self.env.action_space.shape, np.float32)

    def reset(self, **kwargs):
        observation, info = self.env.reset(**kwargs)
        return observation[: self.size].astype(np.float32), info

    def step(self, action):
        observation, *rest = self.env.step(np.tanh(action) if self.squash else action)
        return observation[: self.size].astype(np.float32), *rest


class EarlySnapshots(BaseCallback):
    """Evaluates within a segment; this does not affect training."""

    def __init__(self, training: Training, rows: list):
        super().__init__()
        self.training, self.rows = training, rows

    def _on_step(self) -> bool:
        done, recipe = self.num_timesteps, self.training.recipe
        if done % recipe.early == 0 and done % recipe.segment:
            self.training._evaluate(self.rows)
        return True


class Training:
    """One robot's model, and its state in the work folder."""

    def __init__(self, robot: str, work: Path, seed: int, recipe: Recipe | None = None):
        self.robot, self.work, self.seed, self.recipe = robot, work, seed, recipe or RECIPES[robot]
        self.segment, self.seconds = 0, 0.0
        ppo = self.recipe.algorithm == "ppo"
        self._critic = "vf_state" if ppo else "qf_state"
        env = DummyVecEnv([lambda: BehaviourView(robot, ppo)] * self.recipe.envs)
        self.env = VecNormalize(env) if ppo else env
        policy = dict(self.recipe.policy, activation_fn=jax.nn.relu)
        cls = {"ppo": sbx.PPO, "sac": sbx.SAC, "tqc": sbx.TQC, "crossq": sbx.CrossQ}[self.recipe.algorithm]
        options = dict(self.recipe.options)
        if not ppo:
            options["buffer_size"] = self.recipe.steps  # no row is evicted
        self.model = cls("MlpPolicy", self.env, self._rate, seed=seed, policy_kwargs=policy, **options)

    def _rate(self, _: float) -> float:
        if self.recipe.decay is None:
            return self.recipe.rate
        start, length = self.recipe.decay
        return self.recipe.rate * (1.0 - max(0, self.segment * self.recipe.segment - start) / length)

    def run(self, minutes: float, save_every: float) -> bool:
        """Trains to the end, or for about `minutes`; returns whether it reached the end."""
        (self.work / "snapshots").mkdir(parents=True, exist_ok=True)
        began = saved = time.time()
        self._load()
        rows = [row for row in read_curve(self.work / "curve.csv") if row["env_steps"] <= self.model.num_timesteps]
        write_curve(self.work / "curve.csv", rows)
        if not rows:
            self._evaluate(rows)
        while self.model.num_timesteps < self.recipe.steps:
            if time.time() - began > 60 * minutes:
                self._save()
                return False
            start = time.time()
            self._train_segment(rows)
            self.seconds += time.time() - start
            self._evaluate(rows)
            if time.time() - saved > 60 * save_every:
                self._save()
                saved = time.time()
        self._save()
        return True

    def _train_segment(self, rows: list) -> None:
        seeds = np.random.SeedSequence([self.seed, self.segment]).generate_state(4)
        np.random.seed(seeds[0])  # the replay's draws and PPO's shuffles
        self.model.key = jax.random.PRNGKey(seeds[1])
        self.model.policy.key = jax.random.PRNGKey(seeds[2])
        self.env.seed(int(seeds[3] % 2**31))
        self.model.action_space.seed(int(seeds[3] % 2**31))
        self.model._last_obs = None  # makes `learn` reset the environments
        if isinstance(self.env, VecNormalize):
            self.env.training = True
        steps = min(self.recipe.segment, self.recipe.steps - self.model.num_timesteps)
        early = EarlySnapshots(self, rows) if self.recipe.early and self.segment < 3 else None
        self.model.learn(steps, early, reset_num_timesteps=False, log_interval=None)
        self.segment += 1

    def _evaluate(self, rows: list) -> None:
        path = snapshot_path(self.work, self.model.num_timesteps)
        save_snapshot(path, self._layers())
        episodes, deterministic = self.recipe.evaluation
        score = evaluate(self.robot, load_snapshot(path), episodes, EVALUATION_SEED, deterministic)
        values = (score.mean, score.std, score.early, score.normalised(self.robot))
        names = ("mean_return", "std_return", "early_ends", "normalised")
        row = {"env_steps": self.model.num_timesteps, "seconds": int(self.seconds)}
        row.update({name: round(value, 2) for name, value in zip(names, values, strict=True)})
        rows.append(row)
        write_curve(self.work / "curve.csv", rows)
        print(self.robot, *row.values(), flush=True)

    def _layers(self) -> dict[str, np.ndarray]:
        """The actor in the shipped format, with input and batch normalisation folded into the weights."""
        state = jax.device_get(self.model.policy.actor_state)
        params = state.params.get("params", state.params)
        dense = [(params[f"Dense_{i}"]["kernel"], params[f"Dense_{i}"]["bias"]) for i in range(3)]
        mean = dense.pop()
        if "Dense_3" in params:
            log_std = params["Dense_3"]["kernel"], params["Dense_3"]["bias"]
        else:  # PPO's log-std does not depend on the state
            log_std = np.zeros_like(mean[0]), params["log_std"]
        dense.append((np.concatenate([mean[0], log_std[0]], axis=1), np.concatenate([mean[1], log_std[1]])))
        for i, (scale, offset) in enumerate(self._normalisations(state, params)):
            weight, bias = dense[i]
            dense[i] = weight * scale[:, None], bias + offset @ weight
        out = {}
        for i, (weight, bias) in enumerate(dense):
            out[f"layers.{i}.weight"], out[f"layers.{i}.bias"] = weight, bias
        return out

    def _normalisations(self, state, params) -> list[tuple[np.ndarray, np.ndarray]]:
        """(scale, offset) that each layer's input goes through: of the observation, or CrossQ's batch normalisation."""
        if isinstance(self.env, VecNormalize):
            scale = 1.0 / np.sqrt(self.env.obs_rms.var + self.env.epsilon)
            return [(scale, -self.env.obs_rms.mean * scale)]
        if self.recipe.algorithm != "crossq":
            return []
        found = []
        for i in range(3):
            stats, affine = state.batch_stats[f"BatchRenorm_{i}"], params[f"BatchRenorm_{i}"]
            scale = affine["scale"] / np.sqrt(stats["var"] + 0.001)  # SBX's epsilon
            found.append((scale, affine["bias"] - stats["mean"] * scale))
        return found

    def _states(self) -> dict:
        policy = self.model.policy
        states = {"actor": policy.actor_state, "critic": getattr(policy, self._critic)}
        if self.recipe.algorithm != "ppo":
            states["temperature"] = self.model.ent_coef_state
        return states

    def _save(self) -> None:
        content = {
            "seed": self.seed,
            "segment": self.segment,
            "seconds": self.seconds,
            "timesteps": self.model.num_timesteps,
            "updates": self.model._n_updates,
            "states": {key: flax.serialization.to_state_dict(state) for key, state in self._states().items()},
        }
        if isinstance(self.env, VecNormalize):
            for name in ("obs_rms", "ret_rms"):
                stats = getattr(self.env, name)
                content[name] = {"mean": np.asarray(stats.mean), "var": np.asarray(stats.var), "count": stats.count}
        else:
            buffer = self.model.replay_buffer
            end = buffer.buffer_size if buffer.full else buffer.pos
            content["replay"] = {name: getattr(buffer, name)[:end] for name in _REPLAY}
        draft = self.work / "state.draft"
        with open(draft, "wb") as file:  # pickle takes arrays of any size; only this script writes the file
            pickle.dump(jax.device_get(content), file, protocol=5)
        draft.replace(self.work / "state.pickle")

    def _load(self) -> None:
        path = self.work / "state.pickle"
        if not path.is_file():
            return
        with open(path, "rb") as file:
            content = pickle.load(file)
        if content.get("seed", 0) != self.seed:
            raise SystemExit(f"{self.work} holds the state of seed {content.get('seed', 0)}; give another --work")
        self.segment, self.seconds = content["segment"], content["seconds"]
        self.model.num_timesteps, self.model._n_updates = content["timesteps"], content["updates"]
        for key, state in self._states().items():
            state = jax.device_put(flax.serialization.from_state_dict(state, content["states"][key]))
            if key == "temperature":
                self.model.ent_coef_state = state
            else:
                setattr(self.model.policy, {"actor": "actor_state"}.get(key, self._critic), state)
        for name in ("obs_rms", "ret_rms"):
            if name in content:
                vars(getattr(self.env, name)).update(content[name])
        if "replay" in content:
            buffer = self.model.replay_buffer
            for name in _REPLAY:
                rows = content["replay"][name]
                getattr(buffer, name)[: len(rows)] = rows
            buffer.pos = len(rows) % buffer.buffer_size
            buffer.full = len(rows) == buffer.buffer_size
        print(f"{self.robot}: goes on after {self.model.num_timesteps} steps", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("robot", choices=sorted(RECIPES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder of the state, default ~/.cache/awac-behaviour/ROBOT")
    parser.add_argument("--out", type=Path, default=ROOT / "ckpt" / "behaviour", help="folder of the ladder")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop then; the same command goes on")
    parser.add_argument("--save_every", type=float, default=3.0, help="minutes between two saved states")
    parser.add_argument("--select", action="store_true", help="only pick the ladder from the snapshots that are there")
    arguments = parser.parse_args()
    work = (arguments.work or Path.home() / ".cache" / "awac-behaviour" / arguments.robot).expanduser()
    if not arguments.select:
        finished = Training(arguments.robot, work, arguments.seed).run(arguments.minutes, arguments.save_every)
        if not finished:
            print(f"{arguments.robot}: not finished; the same command goes on", flush=True)
            raise SystemExit(3)
    for file, steps in select(arguments.robot, work, arguments.out):
        print(f"{file}: the actor after {steps} environment steps")


if __name__ == "__main__":
    main()
