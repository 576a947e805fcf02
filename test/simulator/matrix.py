"""What became of the attempt, or of the session, that a fault has struck: counted by fault, phase and outcome.

Faults of many kinds strike one run, so a cell says what happened to attempts that were struck by this fault among
others, not what this fault alone would have done.
"""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedn_py.protocol.masked_rounds_work import Masked, Planning
from fedn_py.protocol.reducer_work import Committing, Updating, Validating

if TYPE_CHECKING:
    from simulator.world import World


@dataclass(frozen=True)
class Row:
    """A row of the matrix.

    Attributes:
        faults: what it counts, by the beginning of their names.
        plain, masked: the phases in which it must strike somewhere in a swarm; in others it cannot, or hardly ever.
    """

    faults: tuple[str, ...]
    plain: str = ""
    masked: str = ""

    def must(self, kind: str) -> str:
        """Return the phases in which it must strike."""
        return self.plain if kind == "plain" else self.masked


ROWS = {
    "reducer killed": Row(("reducer crashed",), "IUCV", "ISU2M"),
    "reducer stopped for a while, and continued": Row(
        ("reducer stopped and continued", "reducer stopped before a commit"), "IUCV", "ISU2M"
    ),
    "standby killed": Row(("standby crashed",), "IU", "IU2"),
    "combiner killed": Row(("combiner crashed",), "IUCV", "IU2"),
    "combiner cut off from the reducer": Row(("combiner cut off", "combiner stream broken"), "IUCV", "ISU2M"),
    "client killed": Row(("client crashed",), "IUCV", "ISU2M"),
    "client's link broken": Row(("client stream broken",), "IUCV", "ISU2M"),
    "client hears nothing for a while": Row(("client deaf for a while",), "", "ISU2M"),
    "client trains for very long": Row(("straggler",), "U", "S"),
    "client cannot train": Row(("training failed",), "U", "U"),
    "client set back to an older state": Row(("client set back to a copy", "client forgets what it sent"), "", "ISU2M"),
    "client revoked": Row(("client revoked",), "", "IS"),
    "request or answer lost": Row(("request lost", "answer lost"), "IUCV", "ISU2M"),
    "message delivered twice": Row(("message repeated", "word of the past"), "IUCV", "ISU2M"),
    "update or box damaged": Row(("update unfit", "vector damaged", "box does not open"), "U", "U"),
    "documents away": Row(("document store away",), "IUCV", "IU2"),
    "documents slow": Row(("documents slow",), "IUCV", "ISU2M"),
    "answer of a write lost": Row(("answer of a write lost",), "IUCV", "ISU2M"),
    "objects away": Row(("object store away",), "IUV", "IU2"),
    "objects read wrong": Row(("object store lies",), "UC", ""),
    "sum not stored, or very late": Row(("partial not stored", "partial stored very late", "stream lost"), "U", "U2"),
    "model not made": Row(("models not merged",), "C", "M"),
}

PHASES = {"plain": "IUCV", "masked": "ISU2MV"}
OUTCOMES = {
    "c": "goes on in the same attempt, with everybody",
    "d": "goes on in the same attempt, without a few clients",
    "w": "waits for a store, says so, and goes on",
    "r": "the attempt fails by name, and a fresh one begins",
    "p": "the session rests, and says why",
}


def row_of(fault: str) -> str | None:
    """Return the row that counts a fault."""
    return next((name for name, row in ROWS.items() if fault.startswith(row.faults)), None)


def phase_of(work: object) -> str:
    """Return the letter of a reducer's phase."""
    match work:
        case Updating():
            return "U"
        case Committing():
            return "C"
        case Validating():
            return "V"
        case Planning():
            return "S"
        case Masked():
            return {"sum": "S", "updating": "U", "sum2": "2"}.get(work.phase, "M")
        case _:
            return "I"


class Matrix:
    """Watches one run.

    Attributes:
        cells: (row, phase, outcome) to how often.
    """

    def __init__(self, world: "World") -> None:
        self._world = world
        self._struck: set[tuple[str, str]] = set()
        self._waits = False
        self.cells: Counter[tuple[str, str, str]] = Counter()
        world.chaos.told = self.noticed

    def noticed(self, what: str) -> None:
        """Something went wrong, or was noticed."""
        self._waits = self._waits or what == "reducer waits for a store"
        row = row_of(what)
        if row is not None:
            self._struck.add((row, phase_of(self._world.reducer.state.work)))

    def written(self, before: Any, after: Any) -> None:
        """A document came to say something else: a round began or ended, or the session did."""
        status = getattr(after, "status", "")
        if before is not None and before.status == status and getattr(before, "plan", 0) == getattr(after, "plan", 0):
            return
        if status == "committed":
            self._outcome("c" if self._world.everybody_is_in(after) else "d", waited_for="w")
        elif status == "failed":
            self._outcome("r")
        elif status == "paused":
            self._outcome("p")
        elif status in {"running", "finished", "stopped"}:
            self._outcome("c", waited_for="w")

    def _outcome(self, letter: str, waited_for: str | None = None) -> None:
        for row, phase in sorted(self._struck):
            is_of_store = row.startswith(("documents", "objects", "answer of a write"))
            self.cells[row, phase, waited_for if waited_for and self._waits and is_of_store else letter] += 1
        self._struck.clear()
        self._waits = False


def never(kind: str, cells: Counter[tuple[str, str, str]]) -> list[str]:
    """Return the cells that have never happened and should have."""
    met = {(row, phase) for row, phase, _ in cells}
    return [f"{name} in {phase}" for name, row in ROWS.items() for phase in row.must(kind) if (name, phase) not in met]
