"""What is said in a masked round beside orders, tasks and uploads, and the bodies that travel inside those.

A word goes from the reducer or a combiner to a client, or back; who is only on its way passes it on as it is. Words
that others must be able to check are signed, the rest are requests that harm nobody who ignores them.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, TypeAlias

from fedn_py.protocol.masked.certificates import Chain
from fedn_py.protocol.masked.encoding import (
    U32,
    U64,
    Body,
    Bytes16,
    Bytes32,
    Exactly,
    Line,
    MalformedMessage,
    Many,
    Nested,
    OneOf,
)
from fedn_py.protocol.masked.round_messages import (
    BOX_BYTES,
    MOST_REPLICAS,
    MOST_SLOTS,
    BeaconLink,
    BoxFor,
    CommitteeBody,
    Included,
    Signature,
)
from fedn_py.protocol.masked.signing import Signed

MOST_BOXES = 256
"""Boxes in one word; more go into several."""

MOST_LINKS = 32
"""Links in one word; who needs more asks again."""


# ---- inside orders, tasks and uploads


@dataclass(frozen=True, slots=True)
class MaskedTerms(Body):
    """What makes an order or a task a masked one.

    Attributes:
        certificate: the reducer's ServerCert, by the operator.
        plan: the reducer's Plan of the attempt. order: its CellOrder of the cell.
    """

    kind: ClassVar[str] = "masked terms"
    certificate: Signature
    plan: Signature
    order: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkOrder(Body):
    """What the reducer wants done in the clear: without it a combiner could send packages of its own.

    Attributes:
        attempt: 0 for a validation.
        generation: of the order that it is signed for.
        model_sha256: what is trained from, or validated.
        params_sha256: of the parameters exactly as they are sent.
    """

    kind: ClassVar[str] = "work order"
    deployment: Bytes16
    what: Annotated[str, OneOf(("train", "validate"))]
    session: Bytes16
    round: U64
    attempt: U32
    generation: U64
    model_sha256: Bytes32
    package_sha256: Bytes32
    params_sha256: Bytes32


@dataclass(frozen=True, slots=True)
class WorkTerms(Body):
    """What lets a client believe a plain task.

    Attributes:
        certificate: the reducer's ServerCert, by the operator.
        order: the reducer's WorkOrder.
    """

    kind: ClassVar[str] = "work terms"
    certificate: Signature
    order: Signature


@dataclass(frozen=True, slots=True)
class MaskedUpload(Body):
    """What a client sends before the masked words.

    Attributes:
        header: the client's UpdateHeader.
        boxes: for each replica of each slot, as the header's hashes say.
    """

    kind: ClassVar[str] = "masked upload"
    chain: Annotated[Chain, Nested(Chain)]
    header: Signature
    boxes: Annotated[tuple[tuple[bytes, ...], ...], Many(Many(Exactly(BOX_BYTES), most=MOST_REPLICAS), most=MOST_SLOTS)]


# ---- from the reducer to a combiner


@dataclass(frozen=True, slots=True)
class StoredCommittee(Body):
    """The reducer has a cell's committee in the round's document: the cell's clients may hear of it now."""

    kind: ClassVar[str] = "stored committee"
    ctx: Bytes32


# ---- from clients


@dataclass(frozen=True, slots=True)
class KeyOffer(Body):
    """A client's answer to a task: the slots that it was drawn for, with a key for each; none where it was not drawn.

    Attributes:
        keys: its KeyMessages, each for another slot.
    """

    kind: ClassVar[str] = "key offer"
    ctx0: Bytes32
    chain: Annotated[Chain, Nested(Chain)]
    keys: Annotated[tuple[Signed, ...], Many(Nested(Signed), most=MOST_SLOTS)]


@dataclass(frozen=True, slots=True)
class StreamSent(Body):
    """A member has uploaded the sealed stream of its answer.

    Attributes:
        sha256: the object's name. size: in bytes.
    """

    kind: ClassVar[str] = "sent stream"
    ctx: Bytes32
    sha256: Bytes32
    size: U64


@dataclass(frozen=True, slots=True)
class LinksWanted(Body):
    """A client missed rounds of a session: it knows the beacon of round ``from_round`` and of none behind it."""

    kind: ClassVar[str] = "wanted links"
    session: Bytes16
    from_round: U64


# ---- to clients


@dataclass(frozen=True, slots=True)
class Boxes(Body):
    """Boxes for one member."""

    kind: ClassVar[str] = "boxes"
    ctx: Bytes32
    boxes: Annotated[tuple[BoxFor, ...], Many(Nested(BoxFor), most=MOST_BOXES)]


@dataclass(frozen=True, slots=True)
class StreamWanted(Body):
    """The reducer wants the sealed stream of a member's answer."""

    kind: ClassVar[str] = "wanted stream"
    ctx: Bytes32


@dataclass(frozen=True, slots=True)
class AbortWanted(Body):
    """A cell is given up: its members are asked to erase their keys and say so."""

    kind: ClassVar[str] = "wanted abort"
    ctx: Bytes32
    reason: Line


@dataclass(frozen=True, slots=True)
class Links(Body):
    """Beacon links of rounds that a client missed, in their order."""

    kind: ClassVar[str] = "links"
    session: Bytes16
    links: Annotated[tuple[BeaconLink, ...], Many(Nested(BeaconLink), most=MOST_LINKS)]


WordFromClient: TypeAlias = KeyOffer | StreamSent | LinksWanted | Signed
"""Signed: a BoxAck, an Echo, an Answer or an Abort."""

WordToClient: TypeAlias = CommitteeBody | Boxes | Included | StreamWanted | AbortWanted | Links | Signed
"""Signed: an Echo, an Abort or a NotOpened."""

_FROM_CLIENT: dict[str, type[WordFromClient]] = {
    body.kind: body for body in (KeyOffer, StreamSent, LinksWanted, Signed)
}
_TO_CLIENT: dict[str, type[WordToClient]] = {
    body.kind: body for body in (CommitteeBody, Boxes, Included, StreamWanted, AbortWanted, Links, Signed)
}


def read_word_from_client(kind: str, data: bytes) -> WordFromClient:
    """Return what a client says, or raise MalformedMessage."""
    if kind not in _FROM_CLIENT:
        raise MalformedMessage("word of a client", "kind", f"is {kind[:32]!r}")
    return _FROM_CLIENT[kind].decode(data)


def read_word_to_client(kind: str, data: bytes) -> WordToClient:
    """Return what is said to a client, or raise MalformedMessage."""
    if kind not in _TO_CLIENT:
        raise MalformedMessage("word to a client", "kind", f"is {kind[:32]!r}")
    return _TO_CLIENT[kind].decode(data)
