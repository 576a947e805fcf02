"""How long to wait before trying again."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn_py.protocol.backoff import delay_s


@pytest.mark.parametrize(
    ("attempt", "bound_s"), [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (10_000_000, 60.0)]
)
def test_the_bound_doubles_with_each_failure_up_to_the_cap(attempt: int, bound_s: float) -> None:
    assert delay_s(attempt, 0.5, base_s=1.0, cap_s=60.0) == pytest.approx(bound_s / 2)


@given(st.integers(-5, 10**9), st.floats(0, 1, exclude_max=True), st.floats(0.001, 100), st.floats(0.001, 10_000))
def test_a_wait_is_never_negative_and_never_above_the_cap(
    attempt: int, random01: float, base_s: float, cap_s: float
) -> None:
    assert 0 <= delay_s(attempt, random01, base_s, cap_s) <= cap_s


def test_waits_are_spread_over_the_whole_bound() -> None:
    waits = [delay_s(3, part / 100, base_s=1.0, cap_s=60.0) for part in range(100)]
    assert min(waits) == 0.0
    assert max(waits) > 3.9


def test_a_thousand_clients_come_back_over_the_whole_longest_wait_and_never_again_all_at_once() -> None:
    """Their combiner is away for two minutes and then takes everybody: whose try it is then, comes then."""
    random, arrivals, back_s, cap_s = Random(1), Counter[int](), 120.0, 30.0
    for _ in range(1_000):
        now_s, tries = 0.0, 0
        while now_s < back_s:
            tries += 1
            now_s += delay_s(tries, random.random(), base_s=0.5, cap_s=cap_s)
        arrivals[int(now_s - back_s)] += 1
    assert max(arrivals.values()) < 1_000 / cap_s * 3
    assert len(arrivals) > cap_s * 0.8
