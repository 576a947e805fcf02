"""Curves on logarithmic axes, as SVG: small panels side by side, each curve named at its end."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 350, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 72, 34, 44
_COLOURS = ("#0b5fa5", "#b3421b", "#4d7c0f", "#6b21a8")
_STYLE = (
    "text{font:12px sans-serif;fill:#222}.small{font-size:11px;fill:#444}.title{font-size:13px;font-weight:bold}"
    ".grid{stroke:#ddd}.curve{fill:none;stroke-width:2}.limit{stroke-dasharray:4 3;stroke-width:1.5}"
)


@dataclass(frozen=True, slots=True)
class Curve:
    """One line.

    Attributes:
        points: x and y, both above 0.
        colour: place in the palette.
        dashed: it is no measurement of the whole, but what bounds it.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    colour: int
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One diagram.

    Attributes:
        x_name, y_name: with their units.
    """

    title: str
    x_name: str
    y_name: str
    curves: tuple[Curve, ...]


def svg_of(panels: Sequence[Panel]) -> str:
    """Return a picture of panels side by side."""
    width = _WIDTH * len(panels)
    parts = "".join(
        f'<g transform="translate({place * _WIDTH} 0)">{"".join(_panel(panel))}</g>'
        for place, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" width="{width}" height="{_HEIGHT}" '
        f'role="img"><title>{escape("; ".join(panel.title for panel in panels))}</title><style>{_STYLE}</style>'
        f'<rect width="{width}" height="{_HEIGHT}" fill="#fff"/>{parts}</svg>\n'
    )


@dataclass(frozen=True, slots=True)
class _Axis:
    """A logarithmic axis from ``low`` to ``high``, at these places of the picture."""

    low: float
    high: float
    begin: float
    end: float

    def place(self, value: float) -> float:
        part = math.log(value / self.low) / math.log(self.high / self.low)
        return round(self.begin + part * (self.end - self.begin), 1)


def _panel(panel: Panel) -> Iterator[str]:
    points = [point for curve in panel.curves for point in curve.points]
    if not points:
        return
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    xs = sorted({x for x, _ in points})
    x_axis = _Axis(xs[0] / 1.15, xs[-1] * 1.15, _LEFT, right)
    low, high = _decades(min(y for _, y in points), max(y for _, y in points))
    y_axis = _Axis(low, high, bottom, _TOP)
    yield f'<text class="title" x="{_LEFT}" y="18">{escape(panel.title)}</text>'
    for value in _ticks(low, high):
        y = y_axis.place(value)
        yield f'<line class="grid" x1="{_LEFT}" y1="{y}" x2="{right}" y2="{y}"/>'
        yield f'<text class="small" x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>'
    for value in xs:
        x = x_axis.place(value)
        yield f'<line class="grid" x1="{x}" y1="{_TOP}" x2="{x}" y2="{bottom}"/>'
        yield f'<text class="small" x="{x}" y="{bottom + 16}" text-anchor="middle">{value:,g}</text>'
    yield f'<text class="small" x="{(_LEFT + right) / 2}" y="{bottom + 34}" text-anchor="middle">'
    yield f"{escape(panel.x_name)}</text>"
    yield f'<text class="small" transform="translate(14 {(_TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">'
    yield f"{escape(panel.y_name)}</text>"
    for curve, y in _apart(panel.curves, y_axis):
        yield from _curve(curve, x_axis, y_axis, y)


def _curve(curve: Curve, x_axis: _Axis, y_axis: _Axis, name_y: float) -> Iterator[str]:
    colour = _COLOURS[curve.colour % len(_COLOURS)]
    places = [(x_axis.place(x), y_axis.place(y)) for x, y in sorted(curve.points)]
    drawn = " ".join(f"{x},{y}" for x, y in places)
    yield f'<polyline class="curve{" limit" if curve.dashed else ""}" stroke="{colour}" points="{drawn}"/>'
    if not curve.dashed:
        yield from (f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in places)
    name = escape(curve.name)
    yield f'<text class="small" x="{places[-1][0] + 7}" y="{name_y + 4:.1f}" style="fill:{colour}">{name}</text>'


def _apart(curves: Sequence[Curve], y_axis: _Axis) -> Iterator[tuple[Curve, float]]:
    """Yield each curve with where its name goes: at its end, and below the name above it."""
    named = sorted((y_axis.place(max(curve.points)[1]), place) for place, curve in enumerate(curves) if curve.points)
    free = 0.0
    for end, place in named:
        free = max(end, free)
        yield curves[place], free
        free += 13


def _decades(low: float, high: float) -> tuple[float, float]:
    return 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high * 1.0001))


def _ticks(low: float, high: float) -> Iterator[float]:
    for exponent in range(round(math.log10(low)), round(math.log10(high)) + 1):
        yield 10.0**exponent
