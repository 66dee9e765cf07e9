"""Actions in the environment's own units and in the policy's [-1, 1]."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from awac.envs import environment_action_space, make_env, to_environment, to_policy
from awac.envs.actions import PolicyActions
from awac.errors import EnvironmentFault

BOX = spaces.Box(np.float32([0, -0.4, 3, -1]), np.float32([1, 0.4, 3, 5]))
"""A valve, a small symmetric range, a locked actuator and an asymmetric range."""


class Remember(gymnasium.Env):
    """Records the action that it gets."""

    observation_space = spaces.Box(-1, 1, (1,))

    def __init__(self, action_space):
        self.action_space = action_space

    def step(self, action):
        self.last = action
        return np.zeros(1, np.float32), 0.0, True, False, {}


def test_the_bounds_map_to_plus_minus_one_and_a_locked_value_to_its_constant():
    np.testing.assert_allclose(to_environment(BOX, np.float32([-1, -1, -1, -1])), BOX.low)
    np.testing.assert_allclose(to_environment(BOX, np.float32([1, 1, 1, 1])), BOX.high)
    np.testing.assert_array_equal(to_policy(BOX, BOX.low), [-1, -1, 0, -1])
    np.testing.assert_array_equal(to_policy(BOX, BOX.high), [1, 1, 0, 1])


def test_data_in_environment_units_reach_the_environment_as_they_were():
    data = np.random.default_rng(0).uniform(BOX.low, BOX.high, (100, 4)).astype(np.float32)
    back = to_environment(BOX, to_policy(BOX, data))
    assert back.dtype == np.float32 and (back >= BOX.low).all() and (back <= BOX.high).all()
    np.testing.assert_allclose(back, data, atol=1e-6)


def test_a_plus_minus_one_space_changes_no_bit():
    actions = np.random.default_rng(0).uniform(-1, 1, (1000, 2)).astype(np.float32) ** 9
    space = spaces.Box(-1, 1, (2,))
    np.testing.assert_array_equal(to_environment(space, actions), actions)
    np.testing.assert_array_equal(to_policy(space, actions), actions)


def test_discrete_actions_count_from_zero_for_the_policy():
    space = spaces.Discrete(3, start=5)
    np.testing.assert_array_equal(to_policy(space, np.array([5, 6, 7])), [0, 1, 2])
    env = PolicyActions(Remember(space))
    env.step(2)
    assert env.action_space == spaces.Discrete(3) and env.unwrapped.last == 7


@pytest.mark.parametrize("shape", [(), (2, 2), (3, 1)])
def test_an_action_of_any_shape_is_a_vector_for_the_policy(shape):
    env = PolicyActions(Remember(spaces.Box(-2, 2, shape, np.float64)))
    assert env.action_space.shape == (int(np.prod(shape)),)
    env.step(np.full(env.action_space.shape, 0.5, np.float32))
    assert env.unwrapped.last.dtype == np.float64
    np.testing.assert_array_equal(env.unwrapped.last, np.ones(shape))


@pytest.mark.parametrize(
    "space, actions",
    [
        (spaces.Box(-2, 2, (2,)), ([0.0, 1.9], [-1.2, 0.0])),
        (spaces.Discrete(3, start=5), (5, 7, -1)),
    ],
)
def test_actions_in_the_environments_units_are_refused_where_they_show(space, actions):
    env = PolicyActions(Remember(space))
    for action in actions:
        with pytest.raises(EnvironmentFault, match=r"use policy.make_env\(\)") as caught:
            env.step(np.array(action))
        assert "\n" not in str(caught.value)


def test_rounding_outside_the_bounds_is_clipped():
    env = PolicyActions(Remember(spaces.Box(-2, 2, (2,))))
    env.step(np.float32([1.0001, -1.0001]))
    np.testing.assert_array_equal(env.unwrapped.last, [2, -2])


def test_the_environments_own_space_can_be_asked_for():
    assert environment_action_space(make_env("Pendulum-v1")).high == 2.0
    assert environment_action_space(make_env("CartPole-v1")) == spaces.Discrete(2)
    assert (environment_action_space(make_env("ant-expert-v2")).high == 1.0).all()
