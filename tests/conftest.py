"""Fixtures shared by several test files."""

from __future__ import annotations

import signal

import pytest

# A script's background job ignores SIGINT, and tests of signals would fail there, or end their process.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def graph_mode():
    """MindSpore on CPU in graph mode, as `awac` runs it."""
    from awac.training.session import select_device

    select_device("CPU")
