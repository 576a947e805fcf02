"""Histograms as drawings: how numbers are spread, in bars."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BARS = 40


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many of some numbers lie where.

    Attributes:
        low, high: the range that the bars share evenly.
        heights: of each bar, from 0 to 1, the highest of them 1.
        count: of all numbers.
    """

    low: float
    high: float
    heights: tuple[float, ...]
    count: int


def histogram(values: Sequence[float], low: float | None = None, high: float | None = None) -> Histogram:
    """Return how values are spread from ``low`` to ``high``, or over the range that they have."""
    numbers = np.asarray(values, dtype=np.float64)
    if low is None or high is None:
        widest = float(np.abs(numbers).max()) or 1.0
        low, high = -widest, widest
    counts, _ = np.histogram(numbers, bins=BARS, range=(low, high))
    return Histogram(low, high, tuple(float(one) for one in counts / max(int(counts.max()), 1)), len(numbers))
