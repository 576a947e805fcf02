"""Wherever a process dies, the session ends with the right models: a crash at points all over a short run.

``make swarm`` crashes at every one.
"""

from typing import Any

import pytest
from simulator.crash_points import RUNS, crash_at_each, points_of

STEPS = {"plain": 5, "masked": 45}


@pytest.mark.parametrize("kind", RUNS)
def test_a_crash_at_any_point_leaves_the_session_as_it_should_be(kind: str) -> None:
    run, step = RUNS[kind], STEPS[kind]
    points = points_of(run)

    crashed = crash_at_each(run, range(1, points + 1, step))

    assert not crashed.broken
    assert crashed.tried > 10
    assert {"reducer", "combiner"} <= {what.split()[0] for what in crashed.lost}


def test_a_point_beyond_the_last_one_is_no_crash() -> None:
    def run(point: int) -> Any:
        return RUNS["plain"](10_000 if point else 0)

    assert not crash_at_each(run, [1]).lost
