"""The table: every kind of message of masked rounds at the role that receives it, and how damage to it is met."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fuzz.lines import ASSIGNING, FROM_CLIENT, FROM_COMBINER, TO_CLIENT, TO_COMBINER, UPLOADING, Passing, Way
from google.protobuf.message import Message

from fedn_py.protocol.masked.certificates import Chain, Policy, ServerCert
from fedn_py.protocol.masked.encoding import Body
from fedn_py.protocol.masked.round_messages import (
    Abort,
    Answer,
    BoxAck,
    CellClosed,
    CommitteeBody,
    Echo,
    Included,
    NotOpened,
)
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.masked.words import (
    AbortWanted,
    Boxes,
    KeyOffer,
    Links,
    LinksWanted,
    MaskedTerms,
    MaskedUpload,
    StoredCommittee,
    StreamSent,
    StreamWanted,
)

Story = Literal["rounds", "echoes", "given up", "missed rounds", "attaching", "joining", "policies"]
"""What has to happen so that the message is said."""

Spot = Callable[[Any], tuple[Message, str]]
"""Where a body is in a protobuf message."""


@dataclass(frozen=True)
class Place:
    """One kind of message where it is received.

    Attributes:
        kind: as ``lines.kind_of`` names it.
        body: what is damaged. said: what is in it, of a signed one.
        how: "before": damaged ones come before the true one and change nothing. "instead": they end what their receiver
            was about to do, so that each takes the place of a true one in a round of its own.
        as_good: fields, or edits of them, that make another true message, and why that harms nobody; not tried.
        unnamed: what changes nothing without being refused, and why.
        others: clients beside the one that is told who may be left out when it is damaged: those whom it is about.
    """

    kind: str
    way: Way
    spot: Spot
    body: type[Body]
    said: type[Body] | None = None
    story: Story = "rounds"
    how: Literal["before", "instead"] = "before"
    as_good: Mapping[str, str] = field(default_factory=dict)
    unnamed: Mapping[str, str] = field(default_factory=dict)
    others: int = 0

    @property
    def name(self) -> str:
        return f"{self.kind} at the {self.way.to}" + (" that assigns" if self.way is ASSIGNING else "")

    def takes(self, passing: Passing) -> bool:
        return passing.way is self.way and passing.kind == self.kind

    def content_of(self, passing: Passing) -> bytes:
        """Return the body's bytes in a message."""
        message, name = self.spot(self.way.write(passing.message))
        content: bytes = getattr(message, name)
        return content

    def with_content(self, passing: Passing, content: bytes) -> bytes:
        """Return a message's bytes with another body in it."""
        whole = self.way.write(passing.message)
        message, name = self.spot(whole)
        setattr(message, name, content)
        return whole.SerializeToString()


def _word(wire: Any) -> tuple[Message, str]:
    return wire.word, "body"


def _passed_on(wire: Any) -> tuple[Message, str]:
    return wire.passed_on.word, "body"


def _to_client(kind: str, body: type[Body], **more: Any) -> Place:
    return Place(kind, TO_CLIENT, _word, body, **more)


def _to_reducer(kind: str, body: type[Body], **more: Any) -> Place:
    return Place(kind, FROM_COMBINER, _passed_on, body, **more)


_AGAIN = {"replay": "a true word that is said twice"}
_OF_NOBODY = "an Abort counts where its signer is a member, which is looked at when it is used"

PLACES: tuple[Place, ...] = (
    # at the client
    Place("masked terms", TO_CLIENT, lambda wire: (wire.train, "masked"), MaskedTerms, how="instead"),
    Place("policy", TO_CLIENT, lambda wire: (wire.policy, "policy"), Signed, Policy, story="policies"),
    _to_client("committee", CommitteeBody, how="instead"),
    _to_client(
        "boxes",
        Boxes,
        how="instead",
        as_good={"boxes[one twice]": "it is looked at twice", "boxes[turned round]": "in whichever order"},
        others=1,
    ),
    _to_client("included", Included, unnamed={"replay": "a member says again what it has promised"}),
    _to_client("wanted stream", StreamWanted),
    _to_client("wanted abort", AbortWanted, story="given up", as_good={"reason": "the request is the same"}),
    _to_client(
        "links",
        Links,
        story="missed rounds",
        how="instead",
        as_good={
            "links[one less]": "the client asks again from where it is",
            "links[one twice]": "it is followed once",
            "links[turned round]": "the client asks again from where it is",
        },
    ),
    _to_client("echo", Signed, said=Echo, story="echoes"),
    _to_client("abort", Signed, said=Abort, story="given up", unnamed=_AGAIN, as_good={"signer": _OF_NOBODY}),
    _to_client("not opened", Signed, said=NotOpened, story="given up", unnamed=_AGAIN),
    # at the combiner
    Place("masked terms", TO_COMBINER, lambda wire: (wire.order, "masked"), MaskedTerms, how="instead"),
    Place("policy", TO_COMBINER, lambda wire: (wire.policy, "policy"), Signed, Policy, story="policies"),
    Place(
        "stored committee",
        TO_COMBINER,
        lambda wire: (wire.committee_stored, "committee"),
        StoredCommittee,
        unnamed=dict.fromkeys(("ctx", "replay"), "of a cell that is not at hand, or again: nothing follows"),
    ),
    Place("chain", FROM_CLIENT, lambda wire: (wire.hello, "chain"), Chain, story="attaching"),
    Place(
        "key offer",
        FROM_CLIENT,
        _word,
        KeyOffer,
        as_good={
            "keys[one less]": "a client need not offer for every slot, and who carries its words may lose them",
            "keys[turned round]": "the lottery decides, not their order",
        },
    ),
    Place("box acknowledgement", FROM_CLIENT, _word, Signed, BoxAck),
    Place("masked upload", UPLOADING, lambda wire: (wire, "masked"), MaskedUpload),
    # at the reducer
    Place(
        "server certificate",
        FROM_COMBINER,
        lambda wire: (wire.hello, "certificate"),
        Signed,
        ServerCert,
        "joining",
        "instead",
    ),
    Place("chain", ASSIGNING, lambda wire: (wire, "chain"), Chain, story="attaching"),
    Place("committee", FROM_COMBINER, lambda wire: (wire.committee, "committee"), CommitteeBody, how="instead"),
    Place("closed cell", FROM_COMBINER, lambda wire: (wire.masked_partial, "closed"), Signed, CellClosed),
    _to_reducer("echo", Signed, said=Echo, story="echoes"),
    _to_reducer("answer", Signed, said=Answer),
    _to_reducer("abort", Signed, said=Abort, story="given up"),
    _to_reducer("sent stream", StreamSent, how="instead"),
    _to_reducer(
        "wanted links",
        LinksWanted,
        story="missed rounds",
        as_good={"session": "whoever asks gets what is public", "from_round": "the same"},
    ),
)

BULK = ("vector at the combiner", "stream at the combiner", "stream at the reducer")
"""Bytes that travel by themselves; ``test_damaged_bytes.py`` has them."""

INSIDE: Mapping[str, str] = {
    "plan": "masked terms",
    "cell order": "masked terms",
    "beacon link": "links, and the plan's proof",
    "committed round": "beacon link",
    "committed cell": "beacon link",
    "metric bound": "plan",
    "committee row": "committee",
    "key message": "key offer, and committee row",
    "update header": "masked upload, and box",
    "box": "boxes",
    "included row": "included, box acknowledgement, closed cell",
    "refusal": "box acknowledgement, closed cell",
    "opening of sum2": "included",
    "token certificate": "chain",
    "client entry": "chain",
    "signed message": "whatever is signed",
}
"""Bodies that are said inside of others only, and in which."""

IN_THE_CLEAR: Mapping[str, str] = {
    "work terms": "what the reducer signs of plain tasks; test/reducer/test_work_orders.py has it",
    "work order": "inside of work terms",
}
"""Bodies of rounds without masks."""

NEVER_SAID: Mapping[str, str] = {
    "operator secret": "a file of the operator's",
    "join credential": "a file of a client's",
    "server credential": "a file of a server's",
    "record of an upload": "a row of a client's memory",
    "record of a promise": "a row of a client's memory",
}
"""Bodies that never travel."""
