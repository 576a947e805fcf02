"""What the reducer knows of one attempt at a masked round, what it hears and what it does.

``Attempt`` is the part of the round's document that the privacy of a round rests on: ids, hashes and counts. It is
stored whole by ``SaveDocument`` before any effect that follows it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.round_messages import IncludedRow, NotOpened, OpenSum2
from fedn_py.protocol.masked.signing import Signed


@dataclass(frozen=True, slots=True)
class CellSeat:
    """One member of a cell's committee, as the document keeps it."""

    slot: int
    replica: int
    client_id: bytes
    client_key: bytes
    nonce_commit: bytes


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of an attempt.

    Attributes:
        combiner: key of the combiner that was ordered.
        k: slots that it must have answers for.
        assigned: ids of the clients that have a ticket for it.
        ctx: once it has a committee.
        rows: the set that is to be opened, once it is closed; never another one.
        answers: member to its signed answer, in the order in which they came.
        streams: members whose sealed stream is stored: one of each slot is enough.
        failed: members whose stream did not come whole, or did not open.
        aborted: member to its signed Abort: its clients are shown all of them.
        out: why it is left out; empty while it is in.
        verdict: whether its sum was opened, once that is known.
    """

    cell: bytes
    generation: int
    ctx0: bytes
    combiner: bytes
    k: int
    g_min: int
    assigned: frozenset[bytes]
    ctx: bytes | None = None
    seats: tuple[CellSeat, ...] = ()
    rows: tuple[IncludedRow, ...] = ()
    included_hash: bytes | None = None
    partial_sha256: bytes | None = None
    answers: Mapping[bytes, Signed] = field(default_factory=dict)
    streams: frozenset[bytes] = frozenset()
    failed: frozenset[bytes] = frozenset()
    aborted: Mapping[bytes, Signed] = field(default_factory=dict)
    out: str = ""
    opened: bool = False

    @property
    def clients(self) -> frozenset[bytes]:
        """Ids of the clients in the set that is to be opened."""
        return frozenset(row.client_id for row in self.rows)

    @property
    def unanswered(self) -> tuple[CellSeat, ...]:
        """Members of slots that nobody's mask sum is stored for."""
        answered = {seat.slot for seat in self.seats if seat.client_id in self.streams}
        return tuple(seat for seat in self.seats if seat.slot not in answered)

    @property
    def streams_wanted(self) -> tuple[bytes, ...]:
        """The member to ask for its stream in each slot that lacks one: who answered first and has not failed."""
        waiting = {seat.client_id: seat.slot for seat in self.unanswered}
        first: dict[int, bytes] = {}
        for member in self.answers:
            if member in waiting and member not in self.failed:
                first.setdefault(waiting[member], member)
        return tuple(first[slot] for slot in sorted(first))

    @property
    def answered(self) -> bool:
        """Whether every slot has an answer."""
        return self.included_hash is not None and not self.unanswered


Stage: TypeAlias = Literal["running", "opening", "committed", "given up"]
KeyStage: TypeAlias = Literal["held", "unsetting", "unset"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a round.

    Attributes:
        reopen: of the plan.
        n_words: of an update, L.
        clients_required: over all cells, for a model to be made.
        opening: ctx of the cells that may have been opened; begun for all of them together.
        key: whether rsk can still be used.
        before_restore: the round was reached before a backup was taken that the stores were restored from.
    """

    session: bytes
    round: int
    attempt: int
    work: bytes
    reopen: Literal["strict", "reducer"]
    n_words: int
    clients_required: int
    cells: tuple[Cell, ...]
    stage: Stage = "running"
    opening: frozenset[bytes] = frozenset()
    key: KeyStage = "held"
    before_restore: bool = False


# ---- events


@dataclass(frozen=True, slots=True)
class CommitteeFormed:
    """A combiner's cell has a committee that was checked."""

    cell: bytes
    generation: int
    committee: Committee


@dataclass(frozen=True, slots=True)
class CellClosedArrived:
    """A combiner's sum is made; the partial aggregate and the headers are stored."""

    closed: Signed


@dataclass(frozen=True, slots=True)
class CellLost:
    """A cell cannot go on."""

    cell: bytes
    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class AnswerArrived:
    """A member's answer came.

    Attributes:
        stored: its sealed stream came with it, is stored, and has the hash that the answer names.
    """

    answer: Signed
    stored: bool = True


@dataclass(frozen=True, slots=True)
class StreamStored:
    """A member's sealed stream is stored, and has the hash that its answer names."""

    ctx: bytes
    member: bytes


@dataclass(frozen=True, slots=True)
class StreamFailed:
    """A member's sealed stream did not come whole, or did not open; another replica is asked."""

    ctx: bytes
    member: bytes


@dataclass(frozen=True, slots=True)
class AbortArrived:
    """A member's Abort came."""

    abort: Signed


@dataclass(frozen=True, slots=True)
class Sum2Over:
    """The time for answers is over."""


@dataclass(frozen=True, slots=True)
class CellOpened:
    """A cell's sum passed all checks."""

    ctx: bytes


@dataclass(frozen=True, slots=True)
class CellNotOpened:
    """A cell's sum failed a check, or its replicas disagree; it is never used."""

    ctx: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Committed:
    """The new model is committed."""


@dataclass(frozen=True, slots=True)
class MeanRefused:
    """The opened sums do not make a model; nothing is committed, and the sets count as opened."""

    reason: str


@dataclass(frozen=True, slots=True)
class KeyUnset:
    """The store has acknowledged that rsk is gone, and was read back."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The attempt is to end: its session was stopped, or its round failed elsewhere."""

    reason: str


Event: TypeAlias = (
    CommitteeFormed
    | CellClosedArrived
    | CellLost
    | AnswerArrived
    | StreamStored
    | StreamFailed
    | AbortArrived
    | Sum2Over
    | CellOpened
    | CellNotOpened
    | Committed
    | MeanRefused
    | KeyUnset
    | GivenUp
)


# ---- effects


@dataclass(frozen=True, slots=True)
class SaveDocument:
    """Store the attempt as it now is, acknowledged, before the next effect."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class ConfirmCommittee:
    """Tell a cell's combiner that its committee is stored, so that it hands it out."""

    cell: bytes
    ctx: bytes


@dataclass(frozen=True, slots=True)
class SendOpenSum2:
    """Sign and send; the signature over the same bytes is the same, so this can be repeated."""

    opening: OpenSum2


@dataclass(frozen=True, slots=True)
class AskStream:
    """Have a member send its sealed stream; then StreamStored or StreamFailed."""

    ctx: bytes
    member: bytes


@dataclass(frozen=True, slots=True)
class OpenCells:
    """Decrypt the answers of these cells and open their sums; then CellOpened or CellNotOpened for each."""

    ctxs: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class CommitMean:
    """Add the opened sums of these cells, make the model and commit it; then Committed."""

    ctxs: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class UnsetKey:
    """Remove rsk from the stored document and from memory, read the document back; then KeyUnset."""


@dataclass(frozen=True, slots=True)
class SignNotOpened:
    """Sign and publish; it goes into later plans too."""

    void: NotOpened


@dataclass(frozen=True, slots=True)
class ReportFailed:
    """The attempt has failed."""

    reason: str


Effect: TypeAlias = (
    SaveDocument
    | ConfirmCommittee
    | SendOpenSum2
    | AskStream
    | OpenCells
    | CommitMean
    | UnsetKey
    | SignNotOpened
    | ReportFailed
)
