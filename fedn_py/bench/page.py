"""Figures inside pages that people write: between two marks, and nothing else of the page is touched."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedn_py.bench.faults import ImpossibleBench

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def refresh(page: Path, text: str) -> None:
    """Put text between the marks of a page, if there is that page.

    Raises:
        ImpossibleBench: the page has no such marks.
    """
    if not page.exists():
        return
    before = page.read_text(encoding="utf-8")
    begin, end = before.find(BEGIN), before.find(END)
    if begin < 0 or end < begin:
        raise ImpossibleBench(
            f"{page} has no place for figures", remedy=f"Put the lines {BEGIN} and {END} where they belong."
        )
    page.write_text(f"{before[: begin + len(BEGIN)]}\n\n{text.strip()}\n\n{before[end:]}", encoding="utf-8")


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def measured_on(points: Sequence[Mapping[str, Any]]) -> str:
    """Return in a sentence on what and when figures were measured."""
    machines = {_machine(point["machine"]) for point in points}
    times = sorted(point["measured_at"] for point in points)
    when = times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}"
    return f"Measured on {'; and on '.join(sorted(machines))}; {when}."


def _machine(said: Mapping[str, Any]) -> str:
    return (
        f"{said['cores']} cores ({said['processor']}), {said['memory_gb']:g} GB, {said['system']}, "
        f"Python {said['python']}, grpcio {said['grpcio']}"
    )
