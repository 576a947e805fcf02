"""Metrics of many clients as weighted sums that can be added on, tier by tier, and divided at the end.

A metric counts for the clients that gave it, and only for those: each name has a weight of its own.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real

from fedn_py.errors import PeerFault

MAX_NAMES = 64
MAX_NAME_CHARACTERS = 64
MAX_VALUE = 1e150
"""Values are within +-MAX_VALUE, so that sums of them times samples stay finite."""


class InvalidMetrics(PeerFault):
    """Metrics that cannot be averaged or shown."""

    def __init__(self, message: str) -> None:
        super().__init__(
            message,
            remedy=f"Report at most {MAX_NAMES} metrics, each a finite number under a name of 1 to "
            f"{MAX_NAME_CHARACTERS} printable characters; leave out what could not be computed.",
        )


@dataclass(frozen=True, slots=True)
class MetricSums:
    """Metrics of several clients, ready to be added to those of others.

    Attributes:
        weighted_sums: metric to the sum of value * samples over the clients that gave it.
        weights: metric to the sum of their samples, at least 1; the same metrics.

    Raises:
        InvalidMetrics: at its making, where the two do not fit.
    """

    weighted_sums: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.weighted_sums.keys() != self.weights.keys():
            raise InvalidMetrics("the sums and the weights of metrics are not of the same metrics")
        for name, total in self.weighted_sums.items():
            if not math.isfinite(total) or self.weights[name] < 1:
                raise InvalidMetrics(f"metric {name[:MAX_NAME_CHARACTERS]!r} has no finite sum or no weight")

    def means(self) -> dict[str, float]:
        """Return the weighted mean of each metric."""
        return {name: total / self.weights[name] for name, total in self.weighted_sums.items()}


def check_metrics(metrics: Mapping[str, object]) -> dict[str, float]:
    """Return one client's metrics as floats.

    Args:
        metrics: as they came, from a package's output file or over the network.

    Raises:
        InvalidMetrics: too many, or a name or value that cannot be.
    """
    if len(metrics) > MAX_NAMES:
        raise InvalidMetrics(f"{len(metrics):,} metrics are more than {MAX_NAMES}")
    return {_checked_name(name): _checked_value(name, value) for name, value in metrics.items()}


def summarise(results: Iterable[tuple[Mapping[str, float], int]]) -> MetricSums:
    """Add up the metrics of several clients, whatever their order.

    Args:
        results: for each client its metrics, checked, and its samples, at least 1.
    """
    products: dict[str, list[float]] = {}
    weights: dict[str, int] = {}
    for metrics, samples in results:
        for name, value in metrics.items():
            products.setdefault(name, []).append(value * samples)
            weights[name] = weights.get(name, 0) + samples
    return MetricSums({name: math.fsum(values) for name, values in products.items()}, weights)


def merge(parts: Iterable[MetricSums]) -> MetricSums:
    """Add up the metrics of several combiners, whatever their order.

    Raises:
        InvalidMetrics: a sum is too large to be finite.
    """
    sums: dict[str, list[float]] = {}
    weights: dict[str, int] = {}
    for part in parts:
        for name, total in part.weighted_sums.items():
            sums.setdefault(name, []).append(total)
            weights[name] = weights.get(name, 0) + part.weights[name]
    try:
        return MetricSums({name: math.fsum(values) for name, values in sums.items()}, weights)
    except OverflowError as fault:
        raise InvalidMetrics("the sum of a metric over the combiners is too large") from fault


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
        raise InvalidMetrics(f"{str(name)[:MAX_NAME_CHARACTERS]!a} cannot be the name of a metric")
    if name != name.strip():
        raise InvalidMetrics(f"{name!r} begins or ends with a space and cannot be the name of a metric")
    return name


def _checked_value(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidMetrics(f"metric {name!r} is no number")
    try:
        number = float(value)
    except OverflowError as fault:
        raise InvalidMetrics(f"metric {name!r} is too large") from fault
    if not abs(number) <= MAX_VALUE:  # false for NaN too
        raise InvalidMetrics(f"metric {name!r} is {number}, not within +-{MAX_VALUE}")
    return number
