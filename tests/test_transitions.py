"""Transitions are checked against their task."""

import dataclasses

import numpy as np
import pytest
from gymnasium import spaces

from awac.data.transitions import Transitions
from awac.errors import DataError

DATA = Transitions(
    observations=np.zeros((3, 4), np.float32),
    actions=np.zeros((3, 2), np.float32),
    rewards=np.zeros(3, np.float32),
    next_observations=np.zeros((3, 4), np.float32),
    terminated=np.zeros(3, bool),
    truncated=np.zeros(3, bool),
)


def box(size):
    return spaces.Box(-1, 1, (size,))


def with_actions(actions):
    return dataclasses.replace(DATA, actions=actions)


def test_fitting_data_passes():
    assert DATA.check_env("d", box(4), box(2)) is DATA


@pytest.mark.parametrize(
    ("obs_size", "action_space", "words"),
    [
        (5, spaces.Box(-1, 1, (2,)), "observations have 4 values but those of the task 5"),
        (4, spaces.Box(-1, 1, (3,)), "vectors of 2 values but the task takes vectors of 3"),
        (4, spaces.Discrete(2), "store integers"),
    ],
)
def test_other_sizes_are_named(obs_size, action_space, words):
    with pytest.raises(DataError, match=words):
        DATA.check_env("d", box(obs_size), action_space)


@pytest.mark.parametrize(("value", "fits"), [(1.00005, True), (-1.00005, True), (1.001, False), (-2.0, False)])
def test_actions_outside_the_bounds_are_named_with_the_row(value, fits):
    actions = np.zeros((3, 2), np.float32)
    actions[1, 1] = value
    data = with_actions(actions)
    if fits:
        data.check_env("d", box(4), box(2))
    else:
        with pytest.raises(DataError, match="outside the task's bounds, first in row 1"):
            data.check_env("d", box(4), box(2))


@pytest.mark.parametrize(("action", "fits"), [(0, True), (1, True), (2, False)])
def test_discrete_actions_must_be_the_tasks(action, fits):
    data = with_actions(np.array([0, 1, action], np.int32))
    if fits:
        data.check_env("d", box(4), spaces.Discrete(2))
    else:
        with pytest.raises(DataError, match="action 2 in row 2"):
            data.check_env("d", box(4), spaces.Discrete(2))
