import numpy as np

from fedn_py.web.ui.histograms import BARS, histogram


def test_even_numbers_make_even_bars() -> None:
    found = histogram([*range(400)], 0, 400)
    assert (found.low, found.high, found.count) == (0, 400, 400)
    assert found.heights == (1.0,) * BARS


def test_the_range_of_values_lies_around_0_and_the_highest_bar_is_1() -> None:
    found = histogram([0.0, 0.0, 0.0, -2.0, 1.0])
    assert (found.low, found.high) == (-2.0, 2.0)
    assert max(found.heights) == found.heights[BARS // 2] == 1.0
    assert np.isclose(sum(found.heights), 5 / 3)


def test_values_that_are_all_0_can_be_drawn() -> None:
    assert histogram([0.0]).heights.count(1.0) == 1
