"""What survives every crash: the documents and objects that the reducer and the combiners have written.

Finding a session again follows ``Sessions._where_it_was`` in fedn_py/reducer/sessions.py.
"""

from dataclasses import dataclass, field, replace

from fedn_py.identity import ClientId, CombinerName, Digest, Generation, SessionId
from fedn_py.protocol.messages import Contribution, Exclusion, RoundPlan
from fedn_py.protocol.reducer import first_generation
from fedn_py.protocol.reducer_terms import Cells, Progress, SessionTerms
from fedn_py.protocol.reducer_work import (
    CloseFailedAttempt,
    OpenAttempt,
    RecordSession,
    SessionStarted,
)

ROOM_FOR_VALIDATIONS = 1_000_000
"""Validation orders take generations too and are not written down."""


@dataclass(frozen=True)
class WeightedSum:
    """A sum of updates, exactly: client to its own coordinate's sum of samples * value."""

    coordinates: dict[ClientId, int]
    weight: int


@dataclass(frozen=True)
class RoundRow:
    """A round as it is written down."""

    plan: RoundPlan
    status: str
    generation: Generation
    cells: Cells
    model: Digest | None = None
    included: tuple[tuple[CombinerName, Contribution], ...] = ()
    excluded: tuple[Exclusion, ...] = ()


@dataclass
class Store:
    """Documents and objects."""

    terms: SessionTerms
    status: str = "running"
    reason: str = ""
    rounds: dict[int, RoundRow] = field(default_factory=dict)
    objects: dict[Digest, WeightedSum] = field(default_factory=dict)
    failures: list[tuple[RoundPlan, str]] = field(default_factory=list)
    validated: dict[int, int] = field(default_factory=dict)

    def open_attempt(self, effect: OpenAttempt) -> None:
        """Write an attempt down."""
        self.rounds[effect.plan.round_number] = RoundRow(effect.plan, "running", effect.generation, effect.cells)

    def close_failed(self, effect: CloseFailedAttempt) -> None:
        """Write down why an attempt failed."""
        row = self.rounds[effect.plan.round_number]
        self.rounds[effect.plan.round_number] = replace(row, status="failed")
        self.failures.append((effect.plan, effect.reason))

    def record_session(self, effect: RecordSession) -> None:
        """Write down what the session is now."""
        self.status, self.reason = effect.status, effect.reason

    def where_it_was(self, session: SessionId) -> SessionStarted | None:
        """Return where the session goes on after a restart of the reducer, None if it has ended."""
        if self.status not in {"running", "paused"}:
            return None
        progress = first_progress(self.terms)
        for number in sorted(self.rounds):
            row = self.rounds[number]
            generation = Generation(max(progress.generation, row.generation))
            drawn = sum(len(cell.clients) for cell in row.cells.values())
            if row.status == "committed" and row.model is not None:
                progress = Progress(self.terms, number, row.model, 1, generation, drawn)
            else:
                progress = replace(progress, attempt=row.plan.attempt + 1, generation=generation, drawn=drawn)
        progress = replace(progress, generation=Generation(progress.generation + ROOM_FOR_VALIDATIONS))
        return SessionStarted(progress, (self.reason or "it was paused") if self.status == "paused" else "")


def first_progress(terms: SessionTerms) -> Progress:
    """Return where a session begins."""
    return Progress(terms, 0, terms.seed_model, 1, first_generation(terms.number))
