from hypothesis import given
from hypothesis import strategies as st

from fedn_py.protocol.backoff import delay_s


def test_the_bound_doubles_with_each_failure_until_the_cap() -> None:
    assert [delay_s(attempt, 0.5, 1.0, 10.0) for attempt in (1, 2, 3, 4, 5, 6)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_waits_are_spread_over_the_whole_range() -> None:
    assert delay_s(3, 0.0, 1.0, 10.0) == 0.0
    assert delay_s(3, 0.999, 1.0, 10.0) > 3.9


@given(st.integers(0, 10**9), st.floats(0.0, 1.0, exclude_max=True), st.floats(0.001, 100.0), st.floats(0.0, 1000.0))
def test_no_wait_is_negative_or_above_the_cap(attempt: int, random01: float, base_s: float, cap_s: float) -> None:
    assert 0.0 <= delay_s(attempt, random01, base_s, cap_s) <= cap_s
