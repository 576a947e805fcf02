"""The five sizes of work that rounds have a target for, plain and masked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedn_py.bench.bounds import servers_memory
from fedn_py.bench.kept import KeptPoints, Point, Wanted, measure_all
from fedn_py.bench.network import Tell
from fedn_py.bench.page import markdown_table, measured_on, refresh
from fedn_py.bench.plan import WORDS, RoundBench


@dataclass(frozen=True, slots=True)
class Target:
    """How long a round of some work may take.

    Attributes:
        plain_s, masked_s: seconds, at the median, with TLS, on 2 cores.
    """

    name: str
    bench: RoundBench
    plain_s: float
    masked_s: float


TARGETS = (
    Target("10 x 1 MB", RoundBench(clients=10, params=250_000), 0.10, 0.19),
    Target("10 x 100 MB", RoundBench(clients=10, params=25_000_000, rounds=3), 2.0, 3.0),
    Target("4 x 500 MB", RoundBench(clients=4, params=125_000_000, rounds=3), 4.5, 7.0),
    Target("100 x 1 MB", RoundBench(clients=100, params=250_000), 0.6, 1.0),
    Target("1000 x 1 MB", RoundBench(clients=1_000, params=250_000, combiners=2, rounds=3), 8.0, 14.0),
)

NAMES = tuple(target.name for target in TARGETS)


def wanted(names: Sequence[str] = NAMES) -> list[Wanted]:
    """Return what is measured, for the sizes of these names."""
    return [
        Wanted(
            f"{target.name}, {WORDS[masking]}",
            replace(target.bench, masking=masking),
            {"work": target.name, "target_s": target.plain_s if masking == "none" else target.masked_s},
        )
        for target in TARGETS
        if target.name in names
        for masking in WORDS
    ]


def measure_targets(names: Sequence[str], out: Path, tell: Tell) -> list[Point]:
    """Measure the sizes and return all points that are known of them.

    Args:
        names: of the sizes.
        out: folder. ``performance.json`` in it keeps every point as it is measured, and ``performance.md``, where
            there is one, has a table of them between its marks.
    """
    kept = KeptPoints(out / "performance.json")
    for _ in measure_all(wanted(names), kept, tell):
        show(kept, out)
    return kept.of(wanted(names))


def show(kept: KeptPoints, out: Path) -> None:
    """Put the points into the page."""
    points = kept.of(wanted())
    if points:
        refresh(out / "performance.md", f"{measured_on(points)}\n\n{_table(points)}\n{_phases(points)}")


def _table(points: Sequence[Point]) -> str:
    columns = ("work", "", "target, s", "round, s", "limit, s", "ratio", "memory above idle: reducer, combiner; bound")
    rows = [
        (
            one["work"],
            WORDS[one["masking"]],
            f"{one['target_s']:g}",
            f"{one['median_s']:.3f} ({one['min_s']:.3f} to {one['max_s']:.3f})",
            f"{one['limit_s']:.3f}",
            f"{100 * one['ratio_to_limit']:.0f} %",
            servers_memory(one),
        )
        for one in points
    ]
    return markdown_table(columns, rows)


def _phases(points: Sequence[Point]) -> str:
    by_length = sorted(points, key=lambda one: len(one["phases_s"]), reverse=True)  # masked rounds have most phases
    names = list(dict.fromkeys(phase for one in by_length for phase in one["phases_s"]))
    roles = ("reducer", "combiner", "clients")
    rows = [
        (
            one["work"],
            WORDS[one["masking"]],
            *(f"{one['phases_s'][phase]:.3f}" if phase in one["phases_s"] else "" for phase in names),
            *(f"{one['cpu_s'][role]:.2f}" for role in roles),
        )
        for one in points
    ]
    columns = ("work", "", *(f"{phase}, s" for phase in names), *(f"CPU s: {role}" for role in roles))
    words = "Where the time goes: medians of the phases, and the CPU of all processes of a role."
    return f"{words}\n\n{markdown_table(columns, rows)}"
