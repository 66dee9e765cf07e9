"""A long run needs no more memory and no more file handles than a short one; soak.py measures, also as a command."""

from __future__ import annotations

import sys

import pytest
import soak

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.mark.parametrize(
    "steps, episode, slope, evaluations",
    [
        (4000, 100, 400, 30),
        pytest.param(200_000, 1000, 20, 1000, marks=pytest.mark.nightly),
    ],
)
def test_a_long_run_does_not_grow(tmp_path, graph_mode, steps, episode, slope, evaluations):
    """`slope`: bytes a step; few steps measure it coarsely."""
    trained = soak.train(tmp_path / "ckpt", steps, episode)
    print(trained.describe("online steps", steps))
    assert trained.slope < slope and trained.gained_handles <= 0 and trained.gained_threads <= 0
    evaluated = soak.evaluate(tmp_path / "ckpt", evaluations)
    print(evaluated.describe("evaluations", evaluations))
    assert evaluated.gained_handles <= 0 and evaluated.gained_threads <= 0
    assert evaluated.gained_memory < 20 * 2**20


def test_a_leak_is_seen():
    samples = [soak.Sample(count, 10**8 + 100 * count, 5 + count // 10 + count % 2, 3) for count in range(0, 400, 7)]
    found = soak.judge(samples)
    assert found.slope == pytest.approx(100) and found.gained_handles > 10 and found.gained_threads == 0
