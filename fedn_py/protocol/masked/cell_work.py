"""What the combiner's machine of a masked cell is made of: its states, the events it hears and the effects it asks for.

States hold ids, rows and counts; the sum, the spool and the boxes live in the service that performs the effects. What
a masked cell shares with a plain one is in ``protocol/combiner_work.py``, the rules are in ``cell.py``.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import TypeAlias

from fedn_py.identity import ClientId, Generation
from fedn_py.protocol.crowd import Crowd
from fedn_py.protocol.masked.acknowledgements import Acknowledgements
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.offers import Offer
from fedn_py.protocol.masked.registry import Registered
from fedn_py.protocol.masked.round_messages import CommitteeBody, IncludedRow
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.messages import CellOrder, CommitteeFormed, Exclusion

# ---- state


@dataclass(frozen=True, slots=True)
class CollectingKeys:
    """Clients offer keys for the committee, and train.

    Attributes:
        terms: what the reducer signed of the order.
        training: owe an update.
        asked: have not said which keys they offer.
        gone: have been away for too long.
        offers: the latest of each client.
    """

    order: CellOrder
    terms: CellTerms
    training: Set[ClientId]
    asked: Set[ClientId]
    gone: Set[ClientId] = Crowd()
    offers: Mapping[ClientId, Offer] = field(default_factory=dict)
    excluded: tuple[Exclusion, ...] = ()


@dataclass(frozen=True, slots=True)
class Upload:
    """One client's upload on its way into the sum.

    Attributes:
        row: which it is.
        arrival: what the service calls its bytes once they are whole; empty before.
        adding: it is being added, and nothing stops that any more.
    """

    row: IncludedRow
    arrival: str = ""
    adding: bool = False


@dataclass(frozen=True, slots=True)
class CollectingUpdates:
    """The committee is there: clients upload, members look at the boxes, vectors are added.

    Attributes:
        body: the committee, as it is sent.
        acknowledged: what its members have said.
        handed_out: the reducer has the committee in its document, so clients may have it.
        training: owe an update that is whole.
        gone: have been away for too long.
        uploads: whose boxes were relayed and that are not in the sum.
        included: in the sum.
        tries: how many uploads a client has begun.
        refused: client to the header hash of its last upload that a member refused, and why.
        entries: which client stands under (token, number), of those that have begun an upload.
        relayed: all whose boxes were relayed.
        struck: members that can no longer answer: revoked, without their keys, or at odds with what is in the sum.
        visits: how often a member has attached since the committee was formed.
        closing: no further update is taken; what is being added is awaited.
    """

    order: CellOrder
    terms: CellTerms
    body: CommitteeBody
    acknowledged: Acknowledgements
    training: Set[ClientId]
    handed_out: bool = False
    gone: Set[ClientId] = Crowd()
    uploads: Mapping[ClientId, Upload] = field(default_factory=dict)
    included: Mapping[ClientId, IncludedRow] = field(default_factory=dict)
    excluded: tuple[Exclusion, ...] = ()
    tries: Mapping[ClientId, int] = field(default_factory=dict)
    refused: Mapping[ClientId, tuple[bytes, str]] = field(default_factory=dict)
    entries: Mapping[tuple[bytes, int], Registered] = field(default_factory=dict)
    relayed: frozenset[bytes] = frozenset()
    struck: frozenset[bytes] = frozenset()
    visits: Mapping[ClientId, int] = field(default_factory=dict)
    closing: bool = False


@dataclass(frozen=True, slots=True)
class ReportingSum:
    """The cell is closed; its sum of masked updates is being stored and reported."""

    order: CellOrder
    rows: frozenset[IncludedRow]


MaskedWork: TypeAlias = CollectingKeys | CollectingUpdates | ReportingSum


# ---- events


@dataclass(frozen=True, slots=True)
class TermsChecked:
    """The objects of a masked order are here, and what the reducer signed of it was found right."""

    generation: Generation
    terms: CellTerms


@dataclass(frozen=True, slots=True)
class KeysOffered:
    """A client says which keys it offers; they were found right."""

    generation: Generation
    client: ClientId
    offer: Offer


@dataclass(frozen=True, slots=True)
class KeysOverdue:
    """The time to offer keys is over."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class CommitteeKept:
    """The reducer has stored a committee: who lacks it may have it now."""

    ctx: bytes


@dataclass(frozen=True, slots=True)
class UpdatesOverdue:
    """The time to send updates, which begins with the committee, is over."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class UploadOffered:
    """A client begins an upload: its header and boxes are here and were found right, its bytes are to come."""

    generation: Generation
    client: ClientId
    registered: Registered
    row: IncludedRow


@dataclass(frozen=True, slots=True)
class VectorArrived:
    """The bytes of an upload are here whole, and their sha256 is right."""

    generation: Generation
    upload_id: str
    client: ClientId
    row: IncludedRow


@dataclass(frozen=True, slots=True)
class BoxesAcknowledged:
    """A member has looked at boxes; its signature was not checked yet."""

    generation: Generation
    signed: Signed


@dataclass(frozen=True, slots=True)
class AcksOverdue:
    """A member's time to look at boxes is over.

    Attributes:
        visit: of the member, when they were sent.
        said: of how many uploads it had said something when its time began.
    """

    generation: Generation
    member: ClientId
    visit: int
    rows: tuple[IncludedRow, ...]
    said: int = 0


@dataclass(frozen=True, slots=True)
class MemberStayedAway:
    """A detached member's time to come back is over."""

    generation: Generation
    member: ClientId


@dataclass(frozen=True, slots=True)
class ClientBarred:
    """The operator's newest policy no longer lets a client take part."""

    client: ClientId
    reason: str


CellEvent: TypeAlias = (
    TermsChecked
    | KeysOffered
    | KeysOverdue
    | CommitteeKept
    | UpdatesOverdue
    | UploadOffered
    | VectorArrived
    | BoxesAcknowledged
    | AcksOverdue
    | MemberStayedAway
    | ClientBarred
)


# ---- effects


@dataclass(frozen=True, slots=True)
class CheckTerms:
    """Check what the reducer signed of a masked order, and get the objects that it names."""

    order: CellOrder


@dataclass(frozen=True, slots=True)
class TellCommittee:
    """Tell the reducer who the committee is, until it says that it is stored."""

    formed: CommitteeFormed


@dataclass(frozen=True, slots=True)
class SendCommittee:
    """Tell a client who the committee is."""

    client: ClientId
    body: CommitteeBody


@dataclass(frozen=True, slots=True)
class SendBoxes:
    """Relay boxes of these uploads to a member."""

    generation: Generation
    member: ClientId
    rows: tuple[IncludedRow, ...]


@dataclass(frozen=True, slots=True)
class DropBoxes:
    """Let go of an upload's boxes: it is refused."""

    generation: Generation
    row: IncludedRow


@dataclass(frozen=True, slots=True)
class AddVector:
    """Check a whole vector against its header and add it to the sum of its generation."""

    generation: Generation
    upload_id: str
    row: IncludedRow


@dataclass(frozen=True, slots=True)
class StoreSum:
    """Store the sum of a generation as an object, sign whose it is, then report both.

    Attributes:
        rows: sorted by client.
    """

    generation: Generation
    ctx: bytes
    rows: tuple[IncludedRow, ...]
    excluded: tuple[Exclusion, ...]


@dataclass(frozen=True, slots=True)
class ReportUnclosed:
    """Report that too few updates came for anything to be opened."""

    generation: Generation
    included: int
    excluded: tuple[Exclusion, ...]


CellEffect: TypeAlias = (
    CheckTerms | TellCommittee | SendCommittee | SendBoxes | DropBoxes | AddVector | StoreSum | ReportUnclosed
)
