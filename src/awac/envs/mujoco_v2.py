"""D4RL's MuJoCo robots (`Ant-v2` and its siblings) on the modern `mujoco` package.

D4RL's data was recorded on MuJoCo 2.0/2.1.0 through mujoco-py. Two changes in later engines alter the motion: capsules
got their exact mass and inertia, and contact margins are added instead of maximised. `legacy_model` undoes both, so
that observations match the old engine to rounding error; `tests/test_robots.py` compares with recordings of that
engine.
"""

from __future__ import annotations

import os

import numpy as np
from gymnasium import spaces

from awac.errors import TaskError

try:
    import mujoco
    from gymnasium.envs.mujoco import MujocoEnv
except Exception as error:  # whatever PyOpenGL raises
    if name := os.environ.get("MUJOCO_GL"):
        raise TaskError(
            f"MUJOCO_GL={name}: MuJoCo can't be imported with that renderer; unset it, or install the renderer "
            "(Debian: libegl1 libegl-mesa0 libgl1-mesa-dri for egl, libosmesa6 for osmesa)"
        ) from error
    raise

TIME_LIMIT = 1000


class RobotV2(MujocoEnv):
    """Common part of the robots: physics, action clip, seeded reset. Subclasses define observation and reward.

    Observations are float64 vectors, actions float32, clipped to [-1, 1] as in D4RL. `step` never truncates; `make_env`
    adds the 1000-step limit.
    """

    model_file: str
    score_range: tuple[
        float, float
    ]  # returns of a random and of an expert policy in D4RL's reference runs, for v0 to v2
    hidden_positions = 1  # leading joint positions that are not observed: the place in the world, which has no effect
    frame_skip: int
    ctrl_cost: float
    alive_bonus: float
    observation_size: int
    total_mass: float | None = None
    density: float = 1000.0

    def __init__(self, render_mode: str | None = None, **render_options):
        space = spaces.Box(-np.inf, np.inf, (self.observation_size,), np.float64)
        super().__init__(self.model_file, self.frame_skip, space, render_mode=render_mode, **render_options)

    def _initialize_simulation(self):
        model, data = super()._initialize_simulation()
        legacy_model(model, data, self.density, self.total_mass)
        if hasattr(mujoco.mjtDisableBit, "mjDSBL_ISLAND"):
            # One robot is one constraint island; searching for islands takes 8 % of a step.
            model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_ISLAND
        mujoco.mj_resetData(model, data)
        return model, data

    def step(self, action):
        """Advances `frame_skip` engine steps; returns (observation, reward, terminated, False, {"x_position": m})."""
        if np.shape(action) != (self.model.nu,):
            raise ValueError(f"action has shape {np.shape(action)}, this robot takes ({self.model.nu},)")
        action = np.clip(action, -1.0, 1.0)
        before = self._x()
        self.data.ctrl[:] = action
        mujoco.mj_step(self.model, self.data, nstep=self.frame_skip)
        after = self._x()
        reward = (after - before) / self.dt - self.ctrl_cost * np.square(action).sum() + self.alive_bonus
        if self.render_mode == "human":
            self.render()
        return self._observation(), float(reward), not self._alive(), False, {"x_position": float(after)}

    def reset_model(self):
        qpos, qvel = self._reset_noise(self.np_random)
        self.set_state(self.init_qpos + qpos, self.init_qvel + qvel)
        return self._observation()

    def _x(self) -> float:
        return self.data.qpos[0]

    def _reset_noise(self, rng):
        return rng.uniform(-0.005, 0.005, self.model.nq), rng.uniform(-0.005, 0.005, self.model.nv)

    def _observation(self):
        return np.concatenate([self.data.qpos[1:], np.clip(self.data.qvel, -10, 10)])

    def _alive(self) -> bool:
        raise NotImplementedError


class AntV2(RobotV2):
    """Four-legged walker: observation 111 = qpos[2:], qvel and 84 zeros (contact forces, identically 0 in D4RL)."""

    metadata = {"render_modes": ["human", "rgb_array", "depth_array"], "render_fps": 20}
    model_file, frame_skip, ctrl_cost, alive_bonus, observation_size = "ant.xml", 5, 0.5, 1.0, 111
    score_range, hidden_positions, density = (-325.6, 3879.7), 2, 5.0

    def _x(self):
        # xpos, not qpos[0]: the old engine's reward reads the body position that the last RK4 stage left behind.
        return self.data.xpos[1, 0]

    def _reset_noise(self, rng):
        return rng.uniform(-0.1, 0.1, self.model.nq), 0.1 * rng.standard_normal(self.model.nv)

    def _observation(self):
        return np.concatenate([self.data.qpos[2:], self.data.qvel, np.zeros(84)])

    def _alive(self):
        finite = np.isfinite(self.data.qpos).all() and np.isfinite(self.data.qvel).all()
        return bool(finite and 0.2 <= self.data.qpos[2] <= 1.0)


class HopperV2(RobotV2):
    """One-legged hopper: observation 11 = qpos[1:] and qvel clipped to ±10."""

    metadata = {"render_modes": ["human", "rgb_array", "depth_array"], "render_fps": 125}
    model_file, frame_skip, ctrl_cost, alive_bonus, observation_size = "hopper.xml", 4, 1e-3, 1.0, 11
    score_range = (-20.272305, 3234.3)

    def _alive(self):
        state = np.concatenate([self.data.qpos, self.data.qvel])
        height, angle = self.data.qpos[1:3]
        return bool(np.isfinite(state).all() and (np.abs(state[2:]) < 100).all() and height > 0.7 and abs(angle) < 0.2)


class Walker2dV2(RobotV2):
    """Two-legged walker: observation 17 = qpos[1:] and qvel clipped to ±10."""

    metadata = {"render_modes": ["human", "rgb_array", "depth_array"], "render_fps": 125}
    model_file, frame_skip, ctrl_cost, alive_bonus, observation_size = "walker2d.xml", 4, 1e-3, 1.0, 17
    score_range = (1.629008, 4592.3)

    def _alive(self):
        height, angle = self.data.qpos[1:3]
        return bool(0.8 < height < 2.0 and -1.0 < angle < 1.0)


class HalfCheetahV2(RobotV2):
    """Running half-cheetah: observation 17 = qpos[1:] and qvel; never terminates, no alive bonus."""

    metadata = {"render_modes": ["human", "rgb_array", "depth_array"], "render_fps": 20}
    model_file, frame_skip, ctrl_cost, alive_bonus, observation_size = "half_cheetah.xml", 5, 0.1, 0.0, 17
    score_range = (-280.178953, 12135.0)
    total_mass = 14.0

    def _reset_noise(self, rng):
        return rng.uniform(-0.1, 0.1, self.model.nq), 0.1 * rng.standard_normal(self.model.nv)

    def _observation(self):
        return np.concatenate([self.data.qpos[1:], self.data.qvel])

    def _alive(self):
        return True


ROBOTS: dict[str, type[RobotV2]] = {
    "ant": AntV2,
    "hopper": HopperV2,
    "walker2d": Walker2dV2,
    "halfcheetah": HalfCheetahV2,
}
"""The robots by the first part of their tasks' ids; a new one is a class above and an entry here."""


def legacy_model(model, data, density: float, total_mass: float | None) -> None:
    """Gives a compiled model the masses, inertias and contact margins that MuJoCo up to 2.1.0 would have given it.

    Up to 2.1.0 the compiler treated a capsule of radius r and half length h as a cylinder of length L = 2h + r.

    Args:
        model: `mujoco.MjModel`, changed in place; every body's inertia comes from its geoms.
        data: a scratch `mujoco.MjData` of that model.
        density: kg/m³ of all geoms.
        total_mass: kg to rescale the whole robot to, or None.
    """
    for body in range(1, model.nbody):
        geoms = range(model.body_geomadr[body], model.body_geomadr[body] + model.body_geomnum[body])
        parts = [(g, *_geom_inertia(model, g, density)) for g in geoms]
        if not parts:
            continue
        mass = sum(m for _, m, _ in parts)
        if len(parts) == 1:
            geom, _, inertia = parts[0]
            centre, quat = model.geom_pos[geom], model.geom_quat[geom]
        else:
            centre = sum(m * model.geom_pos[g] for g, m, _ in parts) / mass
            inertia, quat = _combine(model, parts, centre)
        model.body_mass[body] = mass
        model.body_inertia[body] = inertia
        model.body_ipos[body] = centre
        model.body_iquat[body] = quat
    mujoco.mj_setConst(model, data)
    if total_mass is not None:
        mujoco.mj_setTotalmass(model, total_mass)
        mujoco.mj_setConst(model, data)
    if tuple(int(part) for part in mujoco.__version__.split(".")[:2]) >= (3, 5):
        model.geom_margin[:] *= 0.5


def _geom_inertia(model, geom: int, density: float):
    radius, half = model.geom_size[geom, :2]
    if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_SPHERE:
        mass = density * 4.0 / 3.0 * np.pi * radius**3
        return mass, np.full(3, 0.4 * mass * radius**2)
    if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_CAPSULE:
        length = 2 * half + radius
        mass = density * np.pi * radius**2 * length
        across = mass * (3 * radius**2 + length**2) / 12
        return mass, np.array([across, across, mass * radius**2 / 2])
    raise ValueError(f"geom {geom}: the robots are made of spheres and capsules, not of type {model.geom_type[geom]}")


def _combine(model, parts, centre):
    """Principal inertia (3,) and its orientation quaternion (4,) of several geoms about `centre`."""
    total = np.zeros((3, 3))
    for geom, mass, inertia in parts:
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, model.geom_quat[geom])
        rotation = rotation.reshape(3, 3)
        offset = model.geom_pos[geom] - centre
        total += rotation @ np.diag(inertia) @ rotation.T
        total += mass * (offset @ offset * np.eye(3) - np.outer(offset, offset))
    values, vectors = np.linalg.eigh(total)
    order = np.argsort(values)[::-1]
    vectors = vectors[:, order]
    if np.linalg.det(vectors) < 0:
        vectors[:, 2] *= -1
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, vectors.reshape(-1))
    return values[order], quat
