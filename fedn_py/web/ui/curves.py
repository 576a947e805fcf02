"""Curves over rounds, made of what clients measured: the mean, how far clients lie apart, and single clients.

Pure: views of rounds come in, and what a chart and its table show goes out.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fedn_py.reducer.shown_measurements import MetricView, ValidationView

Measured = Literal["validation", "training"]
Value = float | None

ValueOf = Callable[[MetricView], Value]

_EDGES: Mapping[str, ValueOf] = {
    "smallest": lambda metric: metric.minimum,
    "lower quartile": lambda metric: metric.lower_quartile,
    "upper quartile": lambda metric: metric.upper_quartile,
    "largest": lambda metric: metric.maximum,
}
_DIGITS = 6
"""Of a value in a chart: more cannot be seen in it."""


@dataclass(frozen=True, slots=True)
class Series:
    """One curve.

    Attributes:
        values: one for each x; None where there is none.
        kind: "mean", "edge" of a band, or "client".
        dashed: it is of the session that another one is compared with.
    """

    name: str
    values: tuple[Value, ...]
    kind: Literal["mean", "edge", "client"]
    dashed: bool = False

    @property
    def has_values(self) -> bool:
        """Whether there is anything to draw."""
        return any(value is not None for value in self.values)


@dataclass(frozen=True, slots=True)
class Row:
    """One round in the table under a chart."""

    session: str
    number: int
    model: str
    metric: MetricView


@dataclass(frozen=True, slots=True)
class Hidden:
    """Rounds whose mean is not shown.

    Attributes:
        rounds: such as "3, 5 to 9".
        of: such as " of session 2" where there are two; empty otherwise.
        clients: of the last of them; None where that is not known.
    """

    rounds: str
    of: str
    clients: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric of one or two sessions.

    Attributes:
        x: numbers of rounds.
        bands: places of an upper and a lower edge in ``series``, wide to narrow.
        rows: newest first.
    """

    name: str
    measured: Measured
    x: tuple[int, ...]
    series: tuple[Series, ...]
    bands: tuple[tuple[int, int], ...]
    hidden: tuple[Hidden, ...]
    rows: tuple[Row, ...]

    @property
    def is_drawn(self) -> bool:
        """Whether there is any value to draw."""
        return any(one.has_values for one in self.series)

    @property
    def chart(self) -> dict[str, object]:
        """What the script in the browser draws."""
        series = [
            {"name": one.name, "values": one.values, "kind": one.kind, "dashed": one.dashed} for one in self.series
        ]
        return {"x": self.x, "series": series, "bands": self.bands, "x_label": "round"}


@dataclass(frozen=True, slots=True)
class Measurements:
    """What a session's clients measured in some of its rounds.

    Attributes:
        label: tells its curves from those of another session.
    """

    label: str
    rounds: Sequence[ValidationView]

    def of(self, measured: Measured, name: str) -> dict[int, MetricView]:
        """Return one metric by round."""
        return {one.number: metric for one in self.rounds for metric in _metrics(one, measured) if metric.name == name}


def figures(
    measured: Measured, first: Measurements, second: Measurements | None, clients: Iterable[str]
) -> tuple[Figure, ...]:
    """Return a figure for each metric, by name.

    Args:
        clients: whose own curves are wanted; only values that their sites release are there to be drawn.
    """
    both = [first] if second is None else [first, second]
    names = sorted({metric.name for one in both for round_ in one.rounds for metric in _metrics(round_, measured)})
    return tuple(_figure(measured, name, both, tuple(clients)) for name in names)


def _figure(measured: Measured, name: str, both: Sequence[Measurements], clients: Sequence[str]) -> Figure:
    found = [one.of(measured, name) for one in both]
    x = tuple(sorted({number for rounds in found for number in rounds}))
    of = [f" of {one.label}" for one in both] if len(both) > 1 else [""]
    means = [
        Series(f"mean{of[place]}", _values(x, rounds, lambda metric: metric.mean), "mean", dashed=place > 0)
        for place, rounds in enumerate(found)
    ]
    edges = [Series(f"{edge}{of[0]}", _values(x, found[0], value), "edge") for edge, value in _EDGES.items()]
    if not any(len(metric.by_client) > 1 for metric in found[0].values()):
        edges = []
    means = [one for one in means if one.has_values]
    own = [Series(client, _values(x, found[0], _own_value(client)), "client") for client in clients]
    begin = len(means)
    return Figure(
        name=name,
        measured=measured,
        x=x,
        series=(*means, *edges, *(one for one in own if one.has_values)),
        bands=((begin + 3, begin), (begin + 2, begin + 1)) if edges else (),
        hidden=tuple(hidden for place, rounds in enumerate(found) for hidden in _hidden(rounds, of[place])),
        rows=tuple(_rows(both, found)),
    )


def _metrics(round_: ValidationView, measured: Measured) -> tuple[MetricView, ...]:
    return round_.metrics if measured == "validation" else round_.training


def _values(x: Sequence[int], rounds: Mapping[int, MetricView], value_of: ValueOf) -> tuple[Value, ...]:
    return tuple(_as_drawn(value_of(rounds[number])) if number in rounds else None for number in x)


def _as_drawn(value: Value) -> Value:
    return None if value is None or not math.isfinite(value) else float(f"{value:.{_DIGITS}g}")


def _own_value(client: str) -> ValueOf:
    return lambda metric: metric.by_client.get(client)


def _hidden(rounds: Mapping[int, MetricView], of: str) -> Iterator[Hidden]:
    numbers: dict[str, list[int]] = {}
    for number, metric in rounds.items():
        if metric.hidden:
            numbers.setdefault(metric.hidden, []).append(number)
    for why, of_it in numbers.items():
        yield Hidden(spans(of_it), of, rounds[of_it[-1]].clients, why)


def spans(numbers: Iterable[int]) -> str:
    """Return numbers as people write them: "3, 5 to 9"."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in found)


def _rows(both: Sequence[Measurements], found: Sequence[Mapping[int, MetricView]]) -> Iterator[Row]:
    rows = [
        Row(one.label, round_.number, round_.model, rounds[round_.number])
        for one, rounds in zip(both, found, strict=True)
        for round_ in one.rounds
        if round_.number in rounds
    ]
    yield from sorted(rows, key=lambda row: row.number, reverse=True)
