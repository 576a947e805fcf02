"""What a sum participant's machine is, hears and does: its states, events and effects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from fedn_py.protocol.masked.boxes import VerifiedHeader
from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.differencing import MemberMemory, PromiseRecord, Proofs
from fedn_py.protocol.masked.round_messages import Abort, BoxAck, Echo, Included, IncludedRow
from fedn_py.protocol.masked.signing import Signed

# ---- states


@dataclass(frozen=True, slots=True)
class Duty:
    """What a member has undertaken.

    Attributes:
        terms: of the cell.
        client_id, client_key: who this is.
        slot: that it offered its key for.
        epk: the key.
        reducers: keys that the operator certified as a reducer's.
    """

    terms: CellTerms
    client_id: bytes
    client_key: bytes
    slot: int
    epk: bytes
    reducers: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class KeySent:
    """The key is offered; whether it is taken is open."""

    duty: Duty


@dataclass(frozen=True, slots=True)
class Opening:
    """Boxes come in.

    Attributes:
        accepted: client to its header.
        rejected: client to why its box was refused.
        heard: other members' echoes that came early, by client key.
    """

    duty: Duty
    committee: Committee
    accepted: Mapping[bytes, VerifiedHeader] = field(default_factory=dict)
    rejected: Mapping[bytes, str] = field(default_factory=dict)
    heard: Mapping[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Echoed:
    """One set is promised; the quorum is awaited.

    Attributes:
        rows: of the set, sorted.
        heard: members' echoes by client key, its own included.
    """

    duty: Duty
    committee: Committee
    included_hash: bytes
    rows: tuple[IncludedRow, ...]
    heard: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Answering:
    """The slot's mask sum is being computed and sealed."""

    duty: Duty
    committee: Committee
    included_hash: bytes
    rows: tuple[IncludedRow, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer is on disk, and is sent again to whoever asks."""

    ctx: bytes
    included_hash: bytes
    answer: Signed


@dataclass(frozen=True, slots=True)
class Aborted:
    """The keys are erased; nothing of this cell will ever be answered here."""

    ctx: bytes


@dataclass(frozen=True, slots=True)
class Silent:
    """The keys are gone, and nobody is told that they are: something may have been promised."""

    reason: str


State: TypeAlias = KeySent | Opening | Echoed | Answering | Answered | Aborted | Silent


# ---- events


@dataclass(frozen=True, slots=True)
class CommitteeFormed:
    """The committee came, and ``check_committee`` found it right."""

    committee: Committee


@dataclass(frozen=True, slots=True)
class BoxAccepted:
    """``open_box`` found a client's box right; its seed is kept beside the machine, under the header's hash."""

    header: VerifiedHeader


@dataclass(frozen=True, slots=True)
class BoxRefused:
    """``open_box`` raised BadBox."""

    client_id: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class IncludedArrived:
    """The set to be opened came.

    Attributes:
        memory: what is on disk at this moment, other cells' promises included.
        proofs: of sets that can never be opened.
        reducers: keys of reducers that were certified since the duty began: a standby that has taken over.
    """

    included: Included
    memory: MemberMemory
    proofs: Proofs = field(default_factory=Proofs)
    reducers: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class EchoArrived:
    """Another member's echo came."""

    echo: Signed


@dataclass(frozen=True, slots=True)
class AnswerSealed:
    """The slot's mask sum is computed, sealed and signed."""

    answer: Signed


@dataclass(frozen=True, slots=True)
class AbortAsked:
    """A client, the combiner or the reducer asks that the cell be given up."""

    reason: str


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The phase's time is over."""


Event: TypeAlias = (
    CommitteeFormed
    | BoxAccepted
    | BoxRefused
    | IncludedArrived
    | EchoArrived
    | AnswerSealed
    | AbortAsked
    | DeadlinePassed
)


# ---- effects


@dataclass(frozen=True, slots=True)
class SaveMembership:
    """Sync to disk that a key was offered in this attempt."""

    session: bytes
    round: int
    attempt: int


@dataclass(frozen=True, slots=True)
class SendKeyMessage:
    """Sign and send the key message of the duty's slot."""

    duty: Duty


@dataclass(frozen=True, slots=True)
class SendAck:
    """Sign and send the acknowledgement."""

    ack: BoxAck


@dataclass(frozen=True, slots=True)
class SavePromise:
    """Sync to disk which set is promised."""

    record: PromiseRecord


@dataclass(frozen=True, slots=True)
class SendEcho:
    """Sign and send the echo to all members."""

    echo: Echo


@dataclass(frozen=True, slots=True)
class SealAnswer:
    """Sum the masks of these uploads, seal the sum to the plan's rpk, sign the answer; then AnswerSealed."""

    rows: tuple[IncludedRow, ...]


@dataclass(frozen=True, slots=True)
class SaveAnswer:
    """Sync to disk the answer with its sealed stream."""

    answer: Signed


@dataclass(frozen=True, slots=True)
class SendAnswer:
    """Send the answer and its stored stream, the same bytes every time."""

    answer: Signed


@dataclass(frozen=True, slots=True)
class EraseKeys:
    """Overwrite the secret key, the nonce and all seeds."""


@dataclass(frozen=True, slots=True)
class SaveAbort:
    """Sync to disk that the cell was aborted."""

    ctx: bytes


@dataclass(frozen=True, slots=True)
class SendAbort:
    """Sign and send the abort to whoever asks."""

    abort: Abort


Effect: TypeAlias = (
    SaveMembership
    | SendKeyMessage
    | SendAck
    | SavePromise
    | SendEcho
    | SealAnswer
    | SaveAnswer
    | SendAnswer
    | EraseKeys
    | SaveAbort
    | SendAbort
)
