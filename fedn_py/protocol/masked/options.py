"""How a session masks its updates, as its starter chose; what is left at 0 follows from the size of each cell."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fedn_py.masking.fixed_point import CannotHold, Encoding
from fedn_py.protocol.masked.round_messages import MOST_CLIENTS, MOST_METRICS, MOST_REPLICAS, MOST_SLOTS

DEFAULT_CLIP = 10.0
DEFAULT_WEIGHT_CAP = 10_000
DEFAULT_N_MAX = 64
LEAST_CLIENTS = 3
"""With two, each knows the other's update from the sum."""

ALWAYS_SUMMED = ("clip_fraction", "weight_capped")
"""Metrics of every masked round: how much was clipped, and how many weights were beyond the cap."""

GIVEN = "has "
"""Before a metric's name: the metric that is 1 for a client that gives that one, and 0 for one that does not."""

MOST_CHOSEN = MOST_METRICS // 2 - len(ALWAYS_SUMMED)
_LONGEST_NAME = 64 - len(GIVEN)


@dataclass(frozen=True, slots=True)
class MaskedOptions:
    """The terms of a session's masked rounds.

    Attributes:
        clip: values of an update are clipped to +-clip, in model units; better too large, which costs a little
            precision, than too small, which changes the training.
        n_max: clients in one cell, at most; 0 for 64, or as many as a larger cell has.
        weight_cap: the largest weight of one client; near the largest sample count, as the error grows with it.
        weight_unit: samples for a weight of 1.
        k, r: slots of a committee and replicas of each; 0 for the defaults of the cell's size.
        g_min: clients in an opened sum, at least; 0 for the default of the cell's size.
        reopen: "strict" or "reducer"; empty for "reducer" where r is 1 and "strict" elsewhere.
        metrics: metric that is summed under the masks to the bound of its values.
    """

    clip: float = DEFAULT_CLIP
    n_max: int = 0
    weight_cap: int = DEFAULT_WEIGHT_CAP
    weight_unit: int = 1
    k: int = 0
    r: int = 0
    g_min: int = 0
    reopen: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)


def faults_of(options: MaskedOptions) -> Iterator[str]:
    """Yield everything that is wrong with the terms, whatever the cells will be, in words and with the numbers."""
    if options.n_max and not LEAST_CLIENTS <= options.n_max <= MOST_CLIENTS:
        yield f"n_max is {options.n_max}, must be 0 or from {LEAST_CLIENTS} to {MOST_CLIENTS:,}"
    else:
        try:
            Encoding(1, options.clip, options.n_max or DEFAULT_N_MAX, options.weight_cap, (), options.weight_unit)
        except CannotHold as fault:
            yield fault.message
    if options.k and not 2 <= options.k <= MOST_SLOTS:
        yield f"k is {options.k}, must be 0 or from 2 to {MOST_SLOTS} slots: one alone could open every update"
    if not 0 <= options.r <= MOST_REPLICAS:
        yield f"r is {options.r}, must be from 0 to {MOST_REPLICAS} replicas"
    if options.g_min and not LEAST_CLIENTS <= options.g_min <= (options.n_max or MOST_CLIENTS):
        yield f"g_min is {options.g_min}, must be 0 or from {LEAST_CLIENTS} to {options.n_max or MOST_CLIENTS:,}"
    if options.reopen not in {"", "strict", "reducer"}:
        yield f"reopen is {options.reopen!r}, must be strict or reducer"
    yield from _faults_of_metrics(options.metrics)


def _faults_of_metrics(metrics: Mapping[str, float]) -> Iterator[str]:
    if len(metrics) > MOST_CHOSEN:
        yield f"{len(metrics)} metrics are to be summed under the masks, may be {MOST_CHOSEN}"
    for name, bound in metrics.items():
        if not name.isprintable() or not 1 <= len(name.encode()) <= _LONGEST_NAME or name.startswith(GIVEN):
            yield f"{name[:100]!r} is no name of a metric that can be summed under the masks"
        elif name in ALWAYS_SUMMED:
            yield f"metric {name} is summed in every masked round, and has no other bound"
        if not (math.isfinite(bound) and bound > 0):
            yield f"the bound of metric {name[:100]} is {bound}, must be a finite number above 0"
