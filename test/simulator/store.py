"""What survives every crash: the documents and objects that the reducers and the combiners have written.

The fields of a store are what its documents say now; nothing but a write that the documents took changes them.

Finding a session again follows ``Sessions._where_it_was`` in fedn_py/reducer/sessions.py.
"""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from simulator.documents import Shelf
from simulator.objects import ObjectShelf

from fedn_py.identity import ClientId, CombinerName, Digest, Generation, SessionId
from fedn_py.protocol.messages import Contribution, Exclusion, RoundPlan
from fedn_py.protocol.reducer import first_generation
from fedn_py.protocol.reducer_terms import Cells, Intent, Progress, SessionLimits, SessionTerms, each
from fedn_py.protocol.reducer_work import SessionStarted, Updating, Validating

ROOM_FOR_VALIDATIONS = 1_000_000
"""Validation orders take generations too and are not written down."""


@dataclass(frozen=True)
class WeightedSum:
    """A sum of updates, exactly: client to its own coordinate's sum of samples * value."""

    coordinates: dict[ClientId, int]
    weight: int

    def content(self, named: object) -> bytes:
        """Return it as an object's bytes; ``named`` tells it from an equal one of another origin."""
        return json.dumps([str(named), sorted(self.coordinates.items()), self.weight]).encode()

    @classmethod
    def read(cls, content: bytes) -> "WeightedSum":
        """Read it back."""
        _, coordinates, weight = json.loads(content)
        return cls({ClientId(client): value for client, value in coordinates}, weight)


@dataclass(frozen=True)
class SessionRow:
    """A session as it is written down."""

    terms: SessionTerms
    status: str = "running"
    reason: str = ""
    intent: Intent = "run"
    changed: SessionLimits | None = None


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
    validated: int | None = None


@dataclass
class Store:
    """Documents and objects."""

    terms: SessionTerms
    objects: ObjectShelf
    status: str = "running"
    reason: str = ""
    intent: Intent = "run"
    changed: SessionLimits | None = None
    rounds: dict[int, RoundRow] = field(default_factory=dict)
    failures: list[tuple[RoundPlan, str]] = field(default_factory=list)
    validated: dict[int, int] = field(default_factory=dict)
    shelf: Shelf = field(default_factory=Shelf)

    def __post_init__(self) -> None:
        self.shelf.insert_now("sessions", self.terms.session, SessionRow(self.terms))

    def applied(self, value: Any) -> None:
        """Say now what a document has come to say."""
        match value:
            case SessionRow():
                self.terms, self.status, self.reason = value.terms, value.status, value.reason
                self.intent, self.changed = value.intent, value.changed
            case RoundRow():
                self.rounds[value.plan.round_number] = value
                if value.validated is not None:
                    self.validated[value.plan.round_number] = value.validated

    def named(self) -> frozenset[Digest]:
        """Return all digests that a document names."""
        return frozenset({self.terms.seed_model, *(row.model for row in self.rounds.values() if row.model is not None)})

    def where_it_was(self, session: SessionId) -> SessionStarted | None:
        """Return where the session goes on after a restart of the reducer, None if it has ended."""
        if self.status not in {"running", "paused"}:
            return None
        progress = replace(first_progress(self.terms), intent=self.intent, changed=self.changed)
        for number in sorted(self.rounds):
            row = self.rounds[number]
            generation = Generation(max(progress.generation, row.generation))
            drawn = len({client for _, cell in each(row.cells) for client in cell.clients})
            if row.status == "committed" and row.model is not None:
                progress = Progress(
                    self.terms, number, row.model, 1, generation, drawn, self.intent, changed=self.changed
                )
            else:
                progress = replace(progress, attempt=row.plan.attempt + 1, generation=generation, drawn=drawn)
        progress = replace(progress, generation=Generation(progress.generation + ROOM_FOR_VALIDATIONS))
        paused = (self.reason or "it was paused") if self.status == "paused" else ""
        newest = self.rounds[max(self.rounds)] if self.rounds else None
        if newest is not None and newest.status == "running":
            progress = replace(progress, attempt=newest.plan.attempt)
            return SessionStarted(progress, paused, Updating(progress, newest.plan, newest.cells))
        lacks = newest is not None and newest.status == "committed" and newest.validated is None
        if newest is not None and lacks and not paused and self.terms.validate:
            asked = frozenset(client for _, cell in each(newest.cells) for client in cell.clients)
            return SessionStarted(progress, paused, Validating(progress, {}, away=asked))
        return SessionStarted(progress, paused)


def with_room(row: Any) -> Any:
    """Return a round with room for the generations of orders that are not written down."""
    return replace(row, generation=Generation(row.generation + ROOM_FOR_VALIDATIONS))


def first_progress(terms: SessionTerms) -> Progress:
    """Return where a session begins."""
    return Progress(terms, 0, terms.seed_model, 1, first_generation(terms.number))
