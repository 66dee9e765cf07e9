"""Fixtures shared by several test files."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def graph_mode():
    """MindSpore on CPU in graph mode, as `awac` runs it."""
    from awac.training.session import select_device

    select_device("CPU")
