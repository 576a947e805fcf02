"""How much the processes of a network hold, sampled again and again, and whether it stays flat."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from chaos.network import ChaosNetwork

from fedn_py.sandbox.processes import descendants

MIB = 1024 * 1024
MOST_GROWTH = 1.10
"""Memory of the last quarter over that of the second one."""

MOST_MORE = 3
"""Descriptors, threads, tasks, children or files that may be more in the last quarter: no moment is like another."""

FOR_A_CLIENT = {"fds": 2, "threads": 2, "tasks": 12}
"""What a combiner has more for each client that has come to it."""

WORK = ("scratch", "spool", "masked")
"""Folders in a process's state whose files belong to work in hand."""

COUNTED = ("fds", "threads", "tasks", "children", "files")


@dataclass(frozen=True, slots=True)
class Sample:
    """What one process holds at one time.

    Attributes:
        pid: another one is another life.
        rss: bytes. spooled: bytes of files of WORK.
        held: count of each of COUNTED; files are those of WORK.
        clients: how many are attached to it.
    """

    pid: int
    rss: int
    spooled: int
    held: Mapping[str, int]
    clients: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """How one process was in the second and in the last quarter.

    Attributes:
        rss: means of the four quarters, in bytes.
        held: of each of COUNTED, the median of the second and of the last quarter.
        spooled: bytes in the last sample.
        faults: what is not flat.
    """

    name: str
    rss: tuple[float, ...]
    held: Mapping[str, tuple[float, float]]
    spooled: int
    faults: tuple[str, ...]


def sampled(network: ChaosNetwork) -> dict[str, Sample]:
    """Return what every process of ours holds now; those that are just starting or ending are left out."""
    found, clients = {}, Counter(network.attached().values())
    for role in ("reducer", "combiner", "client"):
        for name in network.crew.names(role):
            try:
                found[name] = _sample(network, name, clients[name])
            except (AssertionError, OSError):
                continue
    return found


def _sample(network: ChaosNetwork, name: str, clients: int) -> Sample:
    pid = network.crew.pid(name)
    status = Path(f"/proc/{pid}/status").read_text()
    rss = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))
    work = [size for folder in WORK for size in _sizes(network.folder.state(name) / folder)]
    held = {**network.crew.held(name), "children": len(descendants(pid)), "files": len(work)}
    return Sample(pid, rss, sum(work), held, clients)


def _sizes(folder: Path) -> list[int]:
    """Return the sizes of all files below a folder; what goes in the meantime is not among them."""
    sizes = []
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if file.is_file():
                sizes.append(file.stat().st_size)
    return sizes


def rows(samples: Mapping[str, Sequence[Sample | None]]) -> list[Row]:
    """Judge every process that lived from before the second quarter to the end.

    Args:
        samples: of each process, in order, None where there was none.
    """
    return [_row(name, taken) for name, taken in sorted(samples.items()) if _lived(taken)]


def _quarter(taken: Sequence[Sample | None], number: int) -> list[Sample]:
    return [one for one in taken[number * len(taken) // 4 : (number + 1) * len(taken) // 4] if one is not None]


def _lived(taken: Sequence[Sample | None]) -> bool:
    later = [one.pid for number in (1, 2, 3) for one in _quarter(taken, number)]
    return bool(_quarter(taken, 1)) and bool(_quarter(taken, 3)) and len(set(later)) == 1


def _row(name: str, taken: Sequence[Sample | None]) -> Row:
    quarters = [_quarter(taken, number) for number in range(4)]
    second, last = quarters[1], quarters[3]
    rss = tuple(statistics.mean(one.rss for one in quarter) if quarter else float("nan") for quarter in quarters)
    faults = []
    if rss[3] > MOST_GROWTH * rss[1]:
        faults.append(f"memory grew by {rss[3] / rss[1] - 1:.0%}")
    held = {}
    clients = [statistics.median(one.clients for one in quarter) for quarter in (second, last)]
    came = max(0.0, clients[1] - clients[0])
    for what in COUNTED:
        before, after = (statistics.median(one.held[what] for one in quarter) for quarter in (second, last))
        held[what] = before, after
        if after > before + MOST_MORE + came * FOR_A_CLIENT.get(what, 0):
            faults.append(f"{what} grew from {before:g} to {after:g}")
    return Row(name, rss, held, last[-1].spooled, tuple(faults))


def table(judged: Iterable[Row]) -> str:
    """Return the rows for people."""
    head = f"{'process':<12}{'RSS by quarter, MiB':>32}{'growth':>8}"
    lines = [head + "".join(f"{what:>12}" for what in COUNTED) + f"{'spooled':>10}"]
    for row in judged:
        rss = "".join(f"{value / MIB:8.1f}" for value in row.rss)
        counts = "".join(f"{f'{before:g} > {after:g}':>12}" for before, after in row.held.values())
        lines.append(f"{row.name:<12}{rss}{row.rss[3] / row.rss[1] - 1:>8.1%}{counts}{row.spooled:>10}")
        lines += [f"    fault: {fault}" for fault in row.faults]
    return "\n".join(lines)
