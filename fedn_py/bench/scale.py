"""How the time of a round grows: with the clients, with the model, with the combiners; plain and masked.

Beside these curves: memory where each client has a process of its own, very many clients that are attached and idle,
and the largest work that is claimed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fedn_py.bench.bounds import client_memory, servers_memory
from fedn_py.bench.idle import IdleBench
from fedn_py.bench.kept import KeptPoints, Point, Wanted, measure_all
from fedn_py.bench.network import Tell
from fedn_py.bench.page import markdown_table, measured_on, refresh
from fedn_py.bench.plan import WORDS, Masking, RoundBench
from fedn_py.bench.plot import Curve, Panel, svg_of

_CURVES = ("clients", "params", "combiners")
USUAL = (*_CURVES, "memory", "idle")
"""What is measured unless something else is asked for."""

SERIES = (*USUAL, "large")
_MASKINGS = tuple(WORDS)
_MB = 250_000
"""Weights of a model of 1 MB."""

_SWEPT: dict[str, tuple[RoundBench, ...]] = {
    "clients": tuple(
        RoundBench(clients=clients, params=_MB, rounds=3 if clients > 100 else 5)
        for clients in (10, 30, 100, 300, 1_000)
    ),
    "params": tuple(
        RoundBench(clients=10, params=size * _MB, rounds=3 if size > 10 else 5) for size in (1, 10, 100, 500)
    ),
    "combiners": tuple(RoundBench(clients=100, params=_MB, combiners=combiners) for combiners in (1, 2, 4)),
    "memory": tuple(
        RoundBench(clients=4, params=size * _MB, rounds=3 if size > 10 else 5, client_processes=4)
        for size in (1, 100, 500)
    ),
    "large": (RoundBench(clients=40, params=1_000 * _MB, rounds=1, lean=True),),
}
_IDLE = tuple(IdleBench(clients=clients) for clients in (1_000, 3_000, 10_000))
_PLAIN_ONLY = frozenset({"large"})
"""Masked it would take more disk than most machines have."""

_TITLES: dict[str, tuple[str, str]] = {
    "clients": ("clients, 1 MB each", "clients"),
    "params": ("model, 10 clients", "model, MB"),
    "combiners": ("combiners, 100 clients x 1 MB", "combiners"),
}
_WORK_TITLES = {
    "memory": "Each client in a process of its own",
    "idle": "Clients that are attached to one combiner and idle",
    "large": "The largest work",
}


def points_of(series: str) -> list[Wanted]:
    """Return what is measured for one series; what two series share has one name."""
    if series == "idle":
        return [Wanted(f"{bench.clients} idle clients", bench, {}) for bench in _IDLE]
    maskings: tuple[Masking, ...] = ("none",) if series in _PLAIN_ONLY else _MASKINGS
    return [_wanted(replace(bench, masking=masking)) for bench in _SWEPT[series] for masking in maskings]


def measure_scale(only: Sequence[str], out: Path, tell: Tell, *, missing: bool) -> list[Point]:
    """Measure the series and return all points that are known of them.

    Args:
        out: folder. ``scaling.json`` in it keeps every point as it is measured, ``images/scaling.svg`` shows them,
            and ``scaling.md``, where there is one, has a table of them between its marks.
        missing: measure only what the file does not have yet.
    """
    kept = KeptPoints(out / "scaling.json")
    wanted = {one.name: one for series in only for one in points_of(series) if not (missing and kept.has(one))}
    for _ in measure_all(list(wanted.values()), kept, tell):
        show(kept, out)
    show(kept, out)
    return [point for series in only for point in kept.of(points_of(series))]


def show(kept: KeptPoints, out: Path) -> None:
    """Draw the points and put them into the page."""
    known = {series: kept.of(points_of(series)) for series in SERIES}
    if not any(known.values()):
        return
    everything = [point for points in known.values() for point in points]
    text = f"{_picture(known, out)}{measured_on(everything)}\n"
    text += "".join(f"\n{_section(series, points)}" for series, points in known.items() if points)
    refresh(out / "scaling.md", text)


def _picture(known: Mapping[str, Sequence[Point]], out: Path) -> str:
    """Draw the curves and return the words that show them; nothing where no curve has a point."""
    panels = [_panel(series, known[series]) for series in _CURVES if known[series]]
    if not panels:
        return ""
    images = out / "images"
    images.mkdir(parents=True, exist_ok=True)
    (images / "scaling.svg").write_text(svg_of(panels), encoding="utf-8")
    text = "![Seconds a round over the number of clients, the size of the model and the number of combiners, plain and "
    return text + "masked, beside what gRPC alone would take](images/scaling.svg)\n\n"


def _section(series: str, points: Sequence[Point]) -> str:
    if series in _CURVES:
        return f"By {_TITLES[series][0]}:\n\n{_table(series, points)}"
    table = _idle_table(points) if series == "idle" else _memory_table(points)
    return f"{_WORK_TITLES[series]}:\n\n{table}"


def _wanted(bench: RoundBench) -> Wanted:
    size = f"{bench.model_bytes / 1e6:g} MB"
    how = "" if bench.combiners == 1 else f", {bench.combiners} combiners"
    how += ", a process each" if bench.crowds == bench.clients else ""
    how += ", lean" if bench.lean else ""
    return Wanted(f"{bench.clients} x {size}{how}, {WORDS[bench.masking]}", bench, {})


def _x(series: str, point: Point) -> float:
    return float(point["model_bytes"]) / 1e6 if series == "params" else float(point[series])


def _panel(series: str, points: Sequence[Point]) -> Panel:
    curves = [
        Curve(
            WORDS[masking],
            tuple((_x(series, one), float(one["median_s"])) for one in points if one["masking"] == masking),
            place,
        )
        for place, masking in enumerate(_MASKINGS)
    ]
    bounds = tuple((_x(series, one), float(one["limit_s"])) for one in points if one["masking"] == "none")
    curves.append(Curve("gRPC alone", bounds, 2, dashed=True))
    title, x_name = _TITLES[series]
    return Panel(title, x_name, "seconds a round", tuple(curve for curve in curves if curve.points))


def _table(series: str, points: Sequence[Point]) -> str:
    columns = (
        _TITLES[series][1],
        "",
        "round, s",
        "limit, s",
        "ratio",
        "CPU s: reducer, combiners, clients",
        "memory above idle: reducer, combiner; bound",
    )
    rows = [
        (
            f"{_x(series, one):,g}",
            WORDS[one["masking"]],
            f"{one['median_s']:.3f} ({one['min_s']:.3f} to {one['max_s']:.3f})",
            f"{one['limit_s']:.3f}",
            f"{100 * one['ratio_to_limit']:.0f} %",
            ", ".join(f"{one['cpu_s'][role]:.2f}" for role in ("reducer", "combiner", "clients")),
            servers_memory(one),
        )
        for one in points
    ]
    return markdown_table(columns, rows)


def _memory_table(points: Sequence[Point]) -> str:
    columns = (
        "work",
        "round, s",
        "limit, s",
        "ratio",
        "memory above idle: reducer, combiner; bound",
        "memory above idle: client; bound",
    )
    rows = [
        (
            one["name"],
            f"{one['median_s']:.3f}",
            f"{one['limit_s']:.3f}",
            f"{100 * one['ratio_to_limit']:.0f} %",
            servers_memory(one),
            client_memory(one),
        )
        for one in points
    ]
    return markdown_table(columns, rows)


def _idle_table(points: Sequence[Point]) -> str:
    columns = (
        "clients",
        "until all are attached, s",
        "until the last has its task, s",
        "until all have acknowledged, s",
        "combiner, KiB a client",
        "combiner at rest, % of a core",
    )
    rows = [
        (
            f"{one['clients']:,}",
            f"{one['attached_s']:.1f}",
            f"{one['tasked_s']:.3f}",
            f"{one['acknowledged_s']:.3f}",
            f"{one['combiner_bytes_a_client'] / 1024:.0f}",
            f"{100 * one['combiner_cpu_idle']:.0f}",
        )
        for one in points
    ]
    return markdown_table(columns, rows)
