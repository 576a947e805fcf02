"""What survives every crash of the servers: documents of sessions and masked rounds, and objects.

A round's document is what fedn_py/reducer/attempts.py keeps; going on after a start follows
fedn_py/reducer/sessions.py, with the very functions that it uses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from simulator.documents import Shelf
from simulator.objects import ObjectShelf
from simulator.store import SessionRow, first_progress

from fedn_py.identity import ClientId, ClientName, Digest, Generation
from fedn_py.protocol.masked.round_messages import BeaconLink
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.messages import RoundPlan
from fedn_py.protocol.reducer_terms import Intent, SessionLimits, SessionTerms
from fedn_py.protocol.reducer_work import SessionStarted, Validating
from fedn_py.reducer.attempts import AttemptAtHand, from_document
from fedn_py.reducer.masked_documents import MaskedDocument, body_text
from fedn_py.reducer.masked_sessions import found_attempt, unfinished, with_history
from fedn_py.reducer.records import OrderedCell, RoundRecord
from fedn_py.reducer.sessions import INTERRUPTED


@dataclass(frozen=True)
class MaskedRow:
    """A round as it is written down.

    Attributes:
        attempts: by number. round_secret: of the newest one; None once it is unset.
    """

    plan: RoundPlan
    status: str
    generation: Generation
    cells: tuple[OrderedCell, ...]
    attempts: Mapping[int, AttemptAtHand] = field(default_factory=dict)
    round_secret: bytes | None = None
    model: Digest | None = None
    commit: Signed | None = None
    link: BeaconLink | None = None
    validated: bool = False

    def record(self) -> RoundRecord:
        """Return the document; the key in it is a mark that there is one."""
        document = MaskedDocument(
            tuple(self.attempts[number].document() for number in sorted(self.attempts)),
            "" if self.round_secret is None else "wrapped",
            "" if self.commit is None else body_text(self.commit),
            "" if self.link is None else body_text(self.link),
        )
        return RoundRecord(
            self.plan,
            self.status,  # type: ignore[arg-type]
            self.generation,
            self.cells,
            started=0.0,
            attempt_started=0.0,
            model=self.model,
            document=document if self.attempts else None,
        )


def frozen(at: AttemptAtHand) -> AttemptAtHand:
    """Return an attempt as a document would have it: later changes of the one at hand are not in it."""
    return replace(at, committees=dict(at.committees), streams=dict(at.streams), round_secret=None, opened=None)


@dataclass
class MaskedStore:
    """Documents and objects.

    Attributes:
        terms: of the newest session, as they were written down last.
        rounds: of it, by number. past: of the sessions before it.
    """

    terms: SessionTerms
    objects: ObjectShelf
    status: str = "running"
    reason: str = ""
    intent: Intent = "run"
    changed: SessionLimits | None = None
    rounds: dict[int, MaskedRow] = field(default_factory=dict)
    past: dict[tuple[int, int], MaskedRow] = field(default_factory=dict)
    shelf: Shelf = field(default_factory=Shelf)

    def __post_init__(self) -> None:
        self.shelf.insert_now("sessions", self.terms.session, SessionRow(self.terms))

    def applied(self, value: Any) -> None:
        """Say now what a document has come to say."""
        match value:
            case SessionRow(terms) if terms.number > self.terms.number:
                self.past.update({(self.terms.number, number): row for number, row in self.rounds.items()})
                self.terms, self.status, self.reason, self.rounds = terms, value.status, value.reason, {}
                self.intent, self.changed = value.intent, value.changed
            case SessionRow(terms) if terms.number == self.terms.number:
                self.terms, self.status, self.reason = terms, value.status, value.reason
                self.intent, self.changed = value.intent, value.changed
            case MaskedRow(plan) if plan.session == self.terms.session:
                self.rounds[plan.round_number] = value

    def named(self) -> frozenset[Digest]:
        """Return all digests that a document names."""
        named = {self.terms.seed_model}
        for row in (*self.rounds.values(), *self.past.values()):
            named |= {row.model} if row.model is not None else set()
            for at in row.attempts.values():
                named |= set(at.streams.values())
                named |= {Digest(cell.partial_sha256.hex()) for cell in at.attempt.cells if cell.partial_sha256}
        return frozenset(named)

    def where_it_was(self, names: Mapping[ClientId, ClientName]) -> SessionStarted | None:
        """Return where the session goes on after a start of the reducer, None if it has ended."""
        if self.status not in {"running", "paused"}:
            return None
        newest = self.rounds[max(self.rounds)] if self.rounds else None
        committed = [row for row in self.rounds.values() if row.status == "committed"]
        progress = replace(first_progress(self.terms), intent=self.intent, changed=self.changed)
        if committed:
            last = max(committed, key=lambda row: row.plan.round_number)
            assert last.model is not None
            progress = replace(progress, committed=last.plan.round_number, head=last.model)
        if newest is not None:
            progress = replace(
                progress,
                attempt=1 if newest.status == "committed" else newest.plan.attempt + 1,
                drawn=sum(len(cell.clients) for cell in newest.cells),
            )
            progress = replace(progress, generation=max(progress.generation, newest.generation))
        paused = (self.reason or "it was paused") if self.status == "paused" else ""
        if newest is None:
            return SessionStarted(progress, paused)
        record = newest.record()
        attempt = unfinished(record)
        if attempt is not None:
            before = replace(progress, committed=newest.plan.round_number - 1, head=newest.plan.base_model)
            before = with_history(before, record, names)
            return SessionStarted(before, paused, found_attempt(before, record, attempt, INTERRUPTED))
        if newest.status == "running":
            self.rounds[newest.plan.round_number] = replace(newest, status="failed")
        if newest.status != "committed":
            progress = with_history(progress, record, names)
        if newest.status == "committed" and not newest.validated and not paused and self.terms.validate:
            asked = frozenset(client for cell in newest.cells for client in cell.clients)
            return SessionStarted(progress, paused, Validating(progress, {}, away=asked))
        return SessionStarted(progress, paused)

    def knows(self, ctx: bytes) -> bool:
        """Say whether a document of the session at hand has a cell with this context."""
        attempts = (at.attempt for row in self.rounds.values() for at in row.attempts.values())
        return any(cell.ctx == ctx for attempt in attempts for cell in attempt.cells)

    def attempts(self, deployment: bytes) -> dict[int, AttemptAtHand]:
        """Return the attempts at the newest round, as they are read back."""
        if not self.rounds:
            return {}
        newest = self.rounds[max(self.rounds)]
        session = newest.plan.session
        return {number: from_document(session, deployment, at.document()) for number, at in newest.attempts.items()}
