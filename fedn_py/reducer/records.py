"""What the reducer keeps in the document store, as values, and how they become documents.

A round's document is the commit point: the one conditional update that sets its status to "committed" makes its
model the next global model. The trail of models is the committed rounds of a session, in order, after its seed model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from fedn_py.errors import OwnFault
from fedn_py.identity import ClientId, ClientName, CombinerName, Digest, Generation, InstanceId, SessionId, TokenId
from fedn_py.protocol.messages import Masking, Metrics, PartialAggregate, RoundPlan
from fedn_py.protocol.reducer_terms import Intent, SessionLimits, SessionTerms
from fedn_py.reducer.masked_documents import MaskedDocument
from fedn_py.store.ports import JSONValue
from fedn_py.transport.authentication import TokenRecord

SessionStatus = Literal["running", "paused", "finished", "stopped"]
UNDER_WAY: tuple[SessionStatus, ...] = ("running", "paused")
"""Statuses of sessions that somebody works on."""
_NO_TOKEN = TokenId("")
RoundStatus = Literal["running", "committed", "failed"]


class RecordDamaged(OwnFault):
    """A document does not have the form that this software writes."""

    def __init__(self, collection: str, key: str, why: str) -> None:
        super().__init__(
            f"document {key!r} of {collection} cannot be read: {why}",
            remedy="Was it written by another version, or changed by hand? Restore it from a backup.",
        )


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session: its terms, and what has become of it.

    Attributes:
        created: seconds since 1970.
        intent: what its operator wants to happen when the running round ends.
        changed: the limits that hold from the next attempt on, where they were changed during the one under way.
    """

    name: str
    terms: SessionTerms
    status: SessionStatus
    reason: str
    created: float
    intent: Intent = "run"
    changed: SessionLimits | None = None


@dataclass(frozen=True, slots=True)
class IncludedClient:
    """A client whose update is in the round's model."""

    client: ClientId
    name: ClientName
    combiner: CombinerName
    samples: int
    update_sha256: Digest


@dataclass(frozen=True, slots=True)
class ExcludedClient:
    """A client that was asked and is not in the round's model, and why."""

    client: ClientId
    name: ClientName
    reason: str
    log: str


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that made no model."""

    attempt: int
    reason: str
    ended: float


@dataclass(frozen=True, slots=True)
class OrderedCell:
    """One combiner's part in the running attempt, as it was ordered.

    Attributes:
        partial, lost: what had become of it when further cells were ordered; in a plain attempt alone.
    """

    combiner: CombinerName
    instance: InstanceId
    generation: Generation
    clients: tuple[ClientId, ...]
    partial: PartialAggregate | None = None
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """Metrics over several clients.

    Attributes:
        samples: over how many samples in all.
        means: weighted by samples.
        by_client: of those whose site releases them, by client name.
        counts: metric to how many clients gave it; without a metric where that is not known.
    """

    clients: int = 0
    samples: int = 0
    means: Metrics = field(default_factory=dict)
    by_client: Mapping[ClientName, Metrics] = field(default_factory=dict)
    excluded: tuple[ExcludedClient, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SumParticipant:
    """A member of a masked cell's committee.

    Attributes:
        answered: its slot's mask sum came; a slot needs the answer of one of its replicas.
    """

    client: ClientId
    name: ClientName
    slot: int
    replica: int
    answered: bool = False


@dataclass(frozen=True, slots=True)
class MaskedCellRecord:
    """One combiner's cell of a masked round.

    Attributes:
        included: how many clients are in its sum; 0 until it is closed.
        members: of its committee, by slot and replica; empty until there is one.
        opened: its sum passed all checks and is in the model.
        out: why it is left out; empty while it is in.
    """

    combiner: CombinerName
    included: int = 0
    members: tuple[SumParticipant, ...] = ()
    opened: bool = False
    out: str = ""


@dataclass(frozen=True, slots=True)
class MaskedRoundRecord:
    """How a round's updates were hidden, as people may see it.

    Attributes:
        scheme: such as "pet".
        k, r, g_min: slots, replicas and fewest clients of a sum; the smallest of any cell.
        reopen: "strict" or "reducer".
    """

    scheme: Masking
    k: int
    r: int
    g_min: int
    reopen: str
    cells: tuple[MaskedCellRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class PhaseRecord:
    """A phase of a round's last attempt, by the reducer's clock; ``ended`` is 0 while it goes on."""

    phase: str
    started: float
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """A round: its running attempt, or what came of it.

    Attributes:
        generation: the last one given out; the next attempt goes on from there.
        started: of the first attempt; ended: of the commit; seconds since 1970.
        seconds: from the start of the attempt that succeeded to its commit.
        samples: over all clients in the model; in a masked round the sum that came out from under the masks.
        included: the samples of each are 0 in a masked round.
        masked: of a masked round; None in a plain one.
        document: what the reducer goes on from in a masked round.
        phases: of the last attempt, for people.
    """

    plan: RoundPlan
    status: RoundStatus
    generation: Generation
    cells: tuple[OrderedCell, ...]
    started: float
    attempt_started: float
    ended: float = 0.0
    seconds: float = 0.0
    model: Digest | None = None
    model_size: int = 0
    samples: int = 0
    included: tuple[IncludedClient, ...] = ()
    excluded: tuple[ExcludedClient, ...] = ()
    failures: tuple[FailedAttempt, ...] = ()
    training: Measured = Measured()
    validation: Measured | None = None
    masked: MaskedRoundRecord | None = None
    document: MaskedDocument | None = None
    phases: tuple[PhaseRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class MadeModel:
    """A committed round as far as its model goes, read of the document that holds its RoundRecord.

    Long lists are made of these: of a round with many clients, most of the work is to read what each of them did.

    Attributes:
        included: as the document has it, to be counted.
    """

    plan: RoundPlan
    ended: float
    seconds: float
    model: Digest | None
    model_size: int
    samples: int
    included: tuple[object, ...] = ()
    training: Measured = Measured()
    validation: Measured | None = None
    masked: MaskedRoundRecord | None = None


@dataclass(frozen=True, slots=True)
class SeedModelRecord:
    """A model that was uploaded to start sessions from."""

    digest: Digest
    size: int
    parameters: int
    tensors: int
    layout: str
    created: float


@dataclass(frozen=True, slots=True)
class PackageRecord:
    """A compute package that was uploaded."""

    digest: Digest
    name: str
    version: str
    size: int
    files: int
    entry_points: Mapping[str, str]
    created: float


@dataclass(frozen=True, slots=True)
class TokenKept:
    """A token, without its secret.

    Attributes:
        last_used: seconds since 1970, None when it never was.
    """

    token: TokenRecord
    created: float
    last_used: float | None = None


@dataclass(frozen=True, slots=True)
class ClientRecord:
    """A client that has been here.

    Attributes:
        first_seen, last_seen: seconds since 1970.
        token: what it came by last, so that revoking that one finds it after a restart too.
        chain: what makes it a registered client, as text; empty for one that is none.
    """

    client: ClientId
    name: ClientName
    software: str
    first_seen: float
    last_seen: float
    token: TokenId = _NO_TOKEN
    chain: str = ""


@dataclass(frozen=True, slots=True)
class CombinerRecord:
    """A combiner that has been here."""

    name: CombinerName
    address: str
    max_clients: int
    software: str
    last_seen: float


@dataclass(frozen=True, slots=True)
class PolicySeen:
    """The highest policy of the operator that this network has seen.

    Attributes:
        hash: of its bytes, in hex.
    """

    version: int
    hash: str


@dataclass(frozen=True, slots=True)
class EventRecord:
    """Something that happened.

    Attributes:
        seq: counts events, from 1.
        time: seconds since 1970.
        kind: dotted, for filters: "round.committed".
        subject: names of what it is about: client, session, round.
    """

    seq: int
    time: float
    kind: str
    severity: Literal["info", "warning", "error"]
    text: str
    subject: Mapping[str, str] = field(default_factory=dict)


Record = TypeVar("Record")


@lru_cache(maxsize=32)
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def to_document(record: object, **indexed: str | int | bool) -> dict[str, JSONValue]:
    """Return a record as a document's content; ``indexed`` are the top-level fields that are searched by."""
    kind: Any = type(record)
    return {**indexed, "record": _adapter(kind).dump_python(record, mode="json")}


def from_document(kind: type[Record], collection: str, key: str, content: Mapping[str, JSONValue]) -> Record:
    """Read a document's content back, or raise RecordDamaged."""
    of_kind: Any = kind
    try:
        record: Record = _adapter(of_kind).validate_python(content.get("record"))
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordDamaged(collection, key, f"{where}: {first['msg']}") from fault
    return record


def round_key(session: SessionId, number: int) -> str:
    """Return the key of a round's document."""
    return f"{session}/{number:06d}"


def with_failure(record: RoundRecord, failure: FailedAttempt, excluded: tuple[ExcludedClient, ...]) -> RoundRecord:
    """Return a round's record after an attempt at it failed."""
    return replace(
        record, status="failed", failures=(*record.failures, failure), excluded=excluded, ended=failure.ended
    )
