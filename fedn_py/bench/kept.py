"""Figures of many benchmarks in one JSON file, each written as it comes: an interrupted run loses nothing."""

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc

from fedn_py.bench.faults import BenchFailed
from fedn_py.bench.idle import IdleBench, measure_idle
from fedn_py.bench.network import Tell
from fedn_py.bench.plan import RoundBench
from fedn_py.bench.rounds import measure_rounds
from fedn_py.bench.scratch import scratch_folder
from fedn_py.errors import FednError

SCHEMA_VERSION = 1

Point = Mapping[str, Any]
"""What ``measure_rounds`` or ``measure_idle`` returns, with its name, and when and on what it was measured."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One benchmark of many.

    Attributes:
        name: among the others; a new figure takes the place of an older one of its name.
        facts: kept beside its figures.
    """

    name: str
    bench: RoundBench | IdleBench
    facts: Mapping[str, Any]


class KeptPoints:
    """The figures in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._points: dict[str, Point] = {}
        if file.exists():
            kept = json.loads(file.read_text(encoding="utf-8"))
            self._points = {point["name"]: point for point in kept["points"]}

    def has(self, wanted: Wanted) -> bool:
        """Say whether this was measured, and as it is measured now."""
        point = self._points.get(wanted.name, {})
        asked = asdict(wanted.bench) | {"client_processes": wanted.bench.crowds}
        before = asdict(type(wanted.bench)())  # what an option is that came since stood for before
        # A limit that was measured but once cannot be compared.
        as_now = isinstance(wanted.bench, IdleBench) or "limits_after" in point
        return as_now and all(point.get(name, before[name]) == value for name, value in asked.items())

    def of(self, wanted: Sequence[Wanted]) -> list[Point]:
        """Return those of these that have been measured, in this order."""
        return [self._points[one.name] for one in wanted if one.name in self._points]

    def keep(self, point: Point) -> None:
        """Add one, or put it in the place of the older one, and write the file."""
        self._points[point["name"]] = point
        ordered = {"schema_version": SCHEMA_VERSION, "points": list(self._points.values())}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        young = self._file.with_name(f".{self._file.name}.new")
        young.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
        young.replace(self._file)


def measure_all(wanted: Sequence[Wanted], kept: KeptPoints, tell: Tell) -> Iterator[Point]:
    """Measure one after the other, keep each, and yield it; one that cannot be measured does not stop the others.

    Raises:
        BenchFailed: at the end, if some could not be measured.
    """
    failed = []
    for place, one in enumerate(wanted, start=1):

        def tell_of_it(text: str, begin: str = f"{place} of {len(wanted)}, {one.name}") -> None:
            tell(f"{begin}: {text}")

        try:
            with scratch_folder() as folder:
                figures = _measured(one.bench, folder, tell_of_it)
        except FednError as fault:
            tell_of_it(f"{fault.message} {fault.remedy}")
            failed.append(one.name)
            continue
        point = {"name": one.name, **one.facts, **figures, "measured_at": _now(), "machine": machine()}
        kept.keep(point)
        yield point
    if failed:
        raise BenchFailed(
            f"not measured: {', '.join(failed)}", remedy="What stood against it is said above; the others are kept."
        )


def _measured(bench: RoundBench | IdleBench, folder: Path, tell: Tell) -> dict[str, Any]:
    if isinstance(bench, IdleBench):
        return measure_idle(bench, folder, tell)
    return measure_rounds(bench, folder, tell)


def machine() -> dict[str, Any]:
    """Return what figures depend on most: processors, memory, versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "grpcio": grpc.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
