"""Bodies as bytes: one way to write each, and everything else refused by name."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import masked_world as world
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedn_py.protocol.masked.certificates import (
    ClientEntry,
    JoinCredential,
    OperatorSecret,
    ServerCert,
    ServerCredential,
    TokenCert,
)
from fedn_py.protocol.masked.differencing import PromiseRecord, SentRecord
from fedn_py.protocol.masked.encoding import (
    U8,
    Body,
    Exactly,
    Float,
    MalformedMessage,
    Many,
    Nested,
    OneOf,
    Text,
    Unsigned,
    UpTo,
    as_line,
)
from fedn_py.protocol.masked.round_messages import (
    Abort,
    Answer,
    BeaconLink,
    BoxAck,
    CellClosed,
    CommittedCell,
    CommitteeBody,
    Echo,
    Included,
    MetricBound,
    NotOpened,
    OpenSum2,
    Refused,
    RoundCommitted,
)
from fedn_py.protocol.masked.signing import sign
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
    WorkOrder,
    WorkTerms,
)

TERMS = world.the_terms(**world.REPLICATED)
COMMITTEE = world.a_committee(TERMS)
UPLOADS = [world.an_upload(TERMS, COMMITTEE, client) for client in world.CLIENTS[:3]]
ROWS = world.the_rows_of(UPLOADS)
CTX = COMMITTEE.ctx
COMMIT = RoundCommitted(world.SESSION, 1, 1, world.MODEL, (CommittedCell(world.CELL, CTX, b"h" * 32, 3),), bytes(32))
LINK = BeaconLink(
    round=1,
    attempt=1,
    policy_hash=world.POLICY_HASH,
    order=sign(TERMS.order, world.REDUCER),
    commit=sign(COMMIT, world.REDUCER),
    rows=world.the_rows(TERMS),
    nonces=(b"n" * 32,),
)
VOID = sign(NotOpened(CTX, "it failed"), world.REDUCER)
WORK_ORDER = WorkOrder(
    deployment=world.DEPLOYMENT,
    what="validate",
    session=world.SESSION,
    round=3,
    attempt=0,
    generation=2**40,
    model_sha256=world.MODEL,
    package_sha256=b"p" * 32,
    params_sha256=b"q" * 32,
)
EVERY_BODY: list[Body] = [
    world.a_policy(revoked_tokens=(b"t" * 16,), revoked_clients=(b"c" * 32,), revoked_servers=(b"s" * 32,)),
    TokenCert(world.DEPLOYMENT, b"t" * 16, "ward 7", 2, 99, b"k" * 32),
    ClientEntry(world.DEPLOYMENT, b"t" * 16, 1, b"k" * 32),
    world.CLIENTS[0].chain,
    ServerCert(world.DEPLOYMENT, "combiner", b"k" * 32, "north", 99),
    OperatorSecret(b"o" * 32, world.DEPLOYMENT, b"e" * 32),
    JoinCredential(b"o" * 32, world.DEPLOYMENT, world.a_token("ward 7"), b"t" * 32),
    ServerCredential(b"o" * 32, world.DEPLOYMENT, world.a_certificate(), b"s" * 32),
    world.a_plan(metrics=(MetricBound("loss", 9.5),), beacon_proof=(LINK,), voids=(VOID,)),
    TERMS.order,
    world.a_key_message(TERMS, world.CLIENTS[0], 1),
    CommitteeBody(TERMS.ctx0, world.the_rows(TERMS)),
    LINK,
    UPLOADS[0].verified.header,
    UPLOADS[0].box_for(1, 0),
    BoxAck(CTX, ROWS, (Refused(b"x" * 32, "the box does not open"),)),
    CellClosed(CTX, ROWS, b"w" * 32, ()),
    OpenSum2(CTX, b"h" * 32, 3),
    Included(world.an_opening(CTX, ROWS), ROWS, (UPLOADS[0].box_for(0, 0),)),
    Echo(CTX, b"h" * 32),
    Answer(CTX, b"h" * 32, 1, b"n" * 32, b"k" * 112, b"s" * 32, 10**9),
    COMMIT,
    Abort(CTX, "asked to"),
    NotOpened(CTX, "the attempt has ended"),
    sign(TERMS.order, world.REDUCER),
    SentRecord(world.WORK, world.BASE, CTX, "strict", (b"k" * 32,)),
    PromiseRecord(world.WORK, CTX, b"h" * 32, "reducer", (b"c" * 32, b"d" * 32)),
    MaskedTerms(world.a_certificate(), sign(TERMS.plan, world.REDUCER), sign(TERMS.order, world.REDUCER)),
    WORK_ORDER,
    WorkTerms(world.a_certificate(), sign(WORK_ORDER, world.REDUCER)),
    MaskedUpload(world.CLIENTS[0].chain, UPLOADS[0].header, UPLOADS[0].sealed.boxes),
    KeyOffer(TERMS.ctx0, world.CLIENTS[0].chain, (sign(TERMS.order, world.REDUCER),)),
    StreamSent(CTX, b"s" * 32, 10**9),
    LinksWanted(world.SESSION, 3),
    Boxes(CTX, (UPLOADS[0].box_for(1, 0),)),
    StreamWanted(CTX),
    AbortWanted(CTX, "the attempt has failed"),
    StoredCommittee(CTX),
    Links(world.SESSION, (LINK,)),
]
bodies = pytest.mark.parametrize("body", EVERY_BODY, ids=lambda body: body.kind)


def test_every_kind_of_body_is_looked_at_here() -> None:
    inner = {"committee row", "metric bound", "included row", "refusal", "committed cell"}
    kinds = {kind.kind for kind in Body.__subclasses__() if kind.__module__.startswith("fedn_py.protocol.")}
    assert kinds == {body.kind for body in EVERY_BODY} | inner


@bodies
def test_what_is_written_is_read_back(body: Body) -> None:
    assert type(body).decode(body.encode()) == body


@bodies
def test_every_truncation_and_continuation_is_refused(body: Body) -> None:
    data = body.encode()
    for cut in {*range(min(len(data), 700)), len(data) - 1}:
        with pytest.raises(MalformedMessage):
            type(body).decode(data[:cut])
    with pytest.raises(MalformedMessage, match="the end is followed by 1 bytes"):
        type(body).decode(data + b"\0")


@bodies
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_is_refused_or_is_another_body_of_one_spelling(body: Body, data: st.DataObject) -> None:
    original = body.encode()
    altered = bytearray(original)
    altered[data.draw(st.integers(0, len(original) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        read = type(body).decode(bytes(altered))
    except MalformedMessage:
        return
    assert read != body
    assert read.encode() == bytes(altered)


@settings(max_examples=300)
@given(st.sampled_from(EVERY_BODY), st.binary(max_size=400))
def test_reading_is_total(body: Body, noise: bytes) -> None:
    try:
        read = type(body).decode(noise)
    except MalformedMessage:
        return
    assert read.encode() == noise


@dataclass(frozen=True, slots=True)
class Sample(Body):
    """Every form once."""

    kind: ClassVar[str] = "sample"
    small: U8
    limited: Annotated[int, Unsigned(2, least=5, most=9)]
    real: Float
    fixed: Annotated[bytes, Exactly(2)]
    blob: Annotated[bytes, UpTo(3)]
    text: Annotated[str, Text(4)]
    choice: Annotated[str, OneOf(("no", "yes"))]
    many: Annotated[tuple[int, ...], Many(Unsigned(1), least=1, most=2)]


GOOD = Sample(1, 7, -0.5, b"ab", b"xyz", "äb", "yes", (3, 4))


def test_the_layout_is_fields_in_order_little_endian() -> None:
    assert GOOD.encode().hex(" ") == (
        "01 07 00 00 00 00 00 00 00 e0 bf 61 62 03 00 00 00 78 79 7a 03 00 00 00 c3 a4 62 01 02 00 00 00 03 04"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("small", 256),
        ("small", -1),
        ("limited", 4),
        ("limited", 10),
        ("real", float("nan")),
        ("real", float("inf")),
        ("fixed", b"abc"),
        ("blob", b"abcd"),
        ("text", "12345"),
        ("text", "a\n"),
        ("choice", "maybe"),
        ("many", ()),
        ("many", (1, 2, 3)),
    ],
)
def test_what_may_not_be_read_may_not_be_written(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"sample.{field}"):
        Sample(**{**{name: getattr(GOOD, name) for name in Sample.__slots__}, field: value}).encode()


@pytest.mark.parametrize(
    ("field", "altered"),
    [
        ("limited", "01 0a00"),
        ("real", "01 0700 000000000000f07f"),
        ("real", "01 0700 010000000000f87f"),
        ("blob", "01 0700 000000000000e0bf 6162 04000000 00000000"),
        ("blob", "01 0700 000000000000e0bf 6162 ffffffff"),
        ("text", "01 0700 000000000000e0bf 6162 00000000 02000000 c328"),
        ("text", "01 0700 000000000000e0bf 6162 00000000 01000000 0a"),
        ("choice", "01 0700 000000000000e0bf 6162 00000000 00000000 02"),
        ("many", "01 0700 000000000000e0bf 6162 00000000 00000000 01 00000000"),
        ("many", "01 0700 000000000000e0bf 6162 00000000 00000000 01 ffffffff"),
    ],
)
def test_a_refusal_names_the_field(field: str, altered: str) -> None:
    with pytest.raises(MalformedMessage) as refused:
        Sample.decode(bytes.fromhex(altered))
    assert (refused.value.kind, refused.value.field) == ("sample", field)


def test_a_word_that_is_no_choice_is_told_the_choices() -> None:
    with pytest.raises(ValueError, match="is 'maybe', must be one of no, yes"):
        OneOf(("no", "yes")).write("maybe")


def test_a_body_of_another_kind_is_not_nested() -> None:
    with pytest.raises(ValueError, match="is a Echo, must be a Abort"):
        Nested(Abort).write(Echo(CTX, CTX))


def test_any_text_can_be_made_a_line() -> None:
    assert as_line("a\nb\x00c") == "a b c"
    assert as_line("ä" * 400) == "ä" * 150
    assert Abort.decode(Abort(CTX, as_line("ä\n" * 400)).encode()).reason.startswith("ä ä")
