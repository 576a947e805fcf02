"""What became of the attempt, or of the session, that a fault has struck: counted by fault, phase and outcome.

Faults of many kinds strike one run, so a cell says what happened to attempts that were struck by this fault among
others, not what this fault alone would have done.
"""

from collections import Counter
from typing import TYPE_CHECKING, Any

from fedn_py.protocol.masked_rounds_work import Masked, Planning
from fedn_py.protocol.reducer_work import Committing, Updating, Validating

if TYPE_CHECKING:
    from simulator.world import World

ROWS = {
    "reducer killed": ("reducer crashed",),
    "reducer stopped for a while, and continued": ("reducer stopped and continued", "reducer stopped before a commit"),
    "standby killed": ("standby crashed",),
    "combiner killed": ("combiner crashed",),
    "combiner cut off from the reducer": ("combiner cut off", "combiner stream broken"),
    "client killed": ("client crashed",),
    "client's link broken": ("client stream broken",),
    "client hears nothing for a while": ("client deaf for a while",),
    "client trains for very long": ("straggler",),
    "client cannot train": ("training failed",),
    "client set back to an older state": ("client set back to a copy", "client forgets what it sent"),
    "client revoked": ("client revoked",),
    "request or answer lost": ("request lost", "answer lost"),
    "message delivered twice": ("message repeated", "word of the past"),
    "update or box damaged": ("update unfit", "vector damaged", "box does not open"),
    "documents away": ("document store away",),
    "documents slow": ("documents slow",),
    "answer of a write lost": ("answer of a write lost",),
    "objects away": ("object store away",),
    "objects read wrong": ("object store lies",),
    "sum not stored, or very late": ("partial not stored", "partial stored very late", "stream lost"),
    "model not made": ("models not merged",),
}
"""What each row counts; a longer name of a fault counts to the row of its beginning."""

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
    return next((row for row, names in ROWS.items() if fault.startswith(names)), None)


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
    return [f"{row} in {phase}" for row in ROWS for phase in PHASES[kind] if (row, phase) not in met]
