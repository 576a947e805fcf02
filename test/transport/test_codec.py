"""The codec: every message comes back as it was, and whatever else comes is named or refused, never a crash."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, get_args

import masked_world as world
import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from fedn_py.identity import ClientId, ClientName, Digest, Generation, SessionId
from fedn_py.protocol import messages as m
from fedn_py.protocol.masked.encoding import MalformedMessage
from fedn_py.protocol.masked.round_messages import Abort, BeaconLink, CommitteeBody, Echo
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
    WorkTerms,
)
from fedn_py.transport import codec
from fedn_py.wire.v1 import network_pb2 as pb

ids = st.text("0123456789abcdef", min_size=8, max_size=64)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
names = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?", fullmatch=True)
counts = st.integers(0, 2**53)
positive = st.integers(1, 2**53)
seconds = st.floats(0.001, 1e8)
words = st.text(st.characters(exclude_categories=("Cs",)), max_size=300)
metric_names = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=20).filter(str.isprintable)
metrics = st.dictionaries(metric_names, st.floats(allow_nan=False, allow_infinity=False), max_size=4)
parameters = st.sampled_from(["{}", '{"epochs": 3}', '{"a": {"b": [1, 2.5, null]}}'])
addresses = st.sampled_from(["10.0.0.1:12080", "combiner-1.example.org:1", "[::1]:65535"])
clients = st.lists(ids, max_size=5).map(tuple)
releases = st.sampled_from(["client", "mean", "none"])


@st.composite
def summaries(draw: st.DrawFn) -> m.MetricsSummary:
    sums = draw(metrics)
    known = {key: draw(counts) for key in sums if draw(st.booleans())}
    by_client = draw(st.dictionaries(ids, metrics, max_size=3))
    return m.MetricsSummary(sums, {key: draw(counts) for key in sums}, by_client, known)


# Bodies of masked rounds, real ones: what is in them has tests of its own (protocol/masked/test_encoding.py).
TERMS = world.the_terms()
COMMITTEE = CommitteeBody(TERMS.ctx0, world.the_rows(TERMS))
UPLOAD = world.an_upload(TERMS, world.a_committee(TERMS), world.CLIENTS[0])
CTX = UPLOAD.verified.header.ctx
CHAIN = world.CLIENTS[0].chain
SIGNED = sign(Echo(CTX, b"h" * 32), world.CLIENTS[0].key)
MASKED_TERMS = MaskedTerms(world.a_certificate(), sign(TERMS.plan, world.REDUCER), sign(TERMS.order, world.REDUCER))
WORK_TERMS = WorkTerms(MASKED_TERMS.certificate, SIGNED)
LINK = BeaconLink(
    round=1,
    attempt=1,
    policy_hash=world.POLICY_HASH,
    order=MASKED_TERMS.order,
    commit=SIGNED,
    rows=COMMITTEE.rows,
    nonces=(),
)
words_from_client = st.sampled_from(
    [KeyOffer(TERMS.ctx0, CHAIN, (SIGNED,)), StreamSent(CTX, b"s" * 32, 10), LinksWanted(world.SESSION, 2), SIGNED]
)
words_to_client = st.sampled_from(
    [
        COMMITTEE,
        Boxes(CTX, (UPLOAD.box_for(0, 0),)),
        world.included(world.a_committee(TERMS), [UPLOAD]),
        StreamWanted(CTX),
        AbortWanted(CTX, "given up"),
        Links(world.SESSION, (LINK,)),
        sign(Abort(CTX, "asked to"), world.CLIENTS[0].key),
    ]
)
masked_uploads = st.just(MaskedUpload(CHAIN, UPLOAD.header, UPLOAD.sealed.boxes))

plans = st.builds(
    m.RoundPlan,
    session=ids,
    session_number=positive,
    round_number=positive,
    attempt=positive,
    base_model=digests,
    package=digests,
    parameters=parameters,
    masking=st.just("none"),
    update_timeout_s=seconds,
)
masked_plans = plans.map(lambda plan: replace(plan, masking="pet"))
contributions = st.builds(m.Contribution, ids, positive, digests)
exclusions = st.lists(st.builds(m.Exclusion, ids, words, words), max_size=3).map(tuple)
work_terms = st.sampled_from([None, WORK_TERMS])
validation_orders = st.builds(
    m.ValidationOrder, positive, ids, counts, digests, digests, parameters, seconds, clients, work_terms
)
committed = st.builds(m.RoundCommitted, ids, counts, digests)
partials = st.one_of(
    st.builds(
        m.PartialAggregate,
        positive,
        digests,
        counts,
        st.lists(contributions, min_size=1, max_size=4).map(tuple),
        exclusions,
        summaries(),
    ),
    st.builds(m.PartialAggregate, positive, st.none(), st.just(0), st.just(()), exclusions, summaries()),
)

from_combiner = st.one_of(
    st.builds(
        m.CombinerHello,
        names,
        ids,
        addresses,
        positive,
        words.map(lambda text: text[:64]),
        st.sampled_from([None, MASKED_TERMS.certificate]),
    ),
    st.builds(m.CommitteeFormed, positive, st.just(COMMITTEE)),
    st.builds(m.MaskedPartial, positive, st.sampled_from([None, SIGNED]), counts, exclusions, summaries()),
    st.builds(m.WordPassedOn, ids, words_from_client),
    st.just(m.CombinerLeaving()),
    st.builds(m.AttachedClients, clients),
    partials,
    st.builds(m.CellFailed, positive, words),
    st.builds(m.ValidationReport, positive, counts, counts, summaries(), exclusions),
    st.builds(
        m.RoundProgress,
        positive,
        st.sampled_from(["preparing", "committee", "collecting", "reporting", "validating"]),
        counts,
        counts,
        counts,
        st.lists(st.builds(m.ClientProgress, ids, st.sampled_from(get_args(m.ClientState)), words), max_size=3).map(
            tuple
        ),
    ),
)
to_combiner = st.one_of(
    st.builds(m.HelloAccepted, seconds, counts),
    st.just(m.Heartbeat()),
    st.builds(m.CellOrder, plans, positive, clients, counts, signed=work_terms),
    st.builds(m.CellOrder, masked_plans, positive, clients, counts, st.just(MASKED_TERMS)),
    st.builds(m.WordForClients, clients, words_to_client),
    st.just(m.PolicyNews(SIGNED)),
    st.builds(m.CellCancelled, positive, words),
    validation_orders,
    committed,
    st.builds(m.ExpectClient, ids, names, digests, seconds),
    st.builds(m.DismissClient, ids, words),
    st.just(m.CommitteeStored(StoredCommittee(bytes(32)))),
)
from_client = st.one_of(
    st.builds(m.ClientHello, ids, names, words.map(lambda text: text[:64]), st.sampled_from([None, CHAIN])),
    st.builds(m.SaidByClient, words_from_client),
    st.just(m.Heartbeat()),
    st.builds(m.TaskFailed, positive, words, words),
    st.builds(m.ValidationResult, positive, counts, metrics, releases),
)
to_client = st.one_of(
    st.builds(m.ClientWelcome, names, seconds),
    st.builds(m.TrainTask, plans, positive, signed=work_terms),
    st.builds(m.TrainTask, masked_plans, positive, st.just(MASKED_TERMS)),
    st.builds(m.SaidToClient, words_to_client),
    st.just(m.PolicyNews(SIGNED)),
    st.builds(m.ValidateTask, validation_orders),
    st.builds(m.TaskCancelled, positive, words),
    committed,
    st.builds(m.GoElsewhere, words),
    st.just(m.Heartbeat()),
    st.just(m.TurnCame()),
)
assign_requests = st.builds(
    m.AssignRequest, ids, names, st.one_of(st.just(""), names), st.just("0.1.0"), st.sampled_from([None, CHAIN])
)
assignments = st.builds(
    m.Assignment,
    names,
    addresses,
    st.binary(min_size=1, max_size=100),
    st.text("abcXYZ_-", min_size=16, max_size=64),
    seconds,
)
headers = st.one_of(
    st.builds(m.UpdateHeader, positive, ids, positive, digests, positive, metrics, releases),
    st.builds(m.UpdateHeader, positive, ids, positive, digests, st.just(0), metrics, releases, masked_uploads),
)
receipts = st.builds(m.UpdateReceipt, st.booleans(), words)


@dataclass(frozen=True)
class Door:
    """One message kind's way out and in."""

    wire: type[Message]
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    values: st.SearchStrategy[Any]
    kinds: tuple[type, ...]


DOORS = {
    "from_combiner": Door(
        pb.FromCombiner, codec.write_from_combiner, codec.read_from_combiner, from_combiner, get_args(m.FromCombiner)
    ),
    "to_combiner": Door(
        pb.ToCombiner, codec.write_to_combiner, codec.read_to_combiner, to_combiner, get_args(m.ToCombiner)
    ),
    "from_client": Door(
        pb.FromClient, codec.write_from_client, codec.read_from_client, from_client, get_args(m.FromClient)
    ),
    "to_client": Door(pb.ToClient, codec.write_to_client, codec.read_to_client, to_client, get_args(m.ToClient)),
    "assign_request": Door(
        pb.AssignRequest, codec.write_assign_request, codec.read_assign_request, assign_requests, (m.AssignRequest,)
    ),
    "assignment": Door(pb.Assignment, codec.write_assignment, codec.read_assignment, assignments, (m.Assignment,)),
    "update_header": Door(
        pb.UpdateHeader, codec.write_update_header, codec.read_update_header, headers, (m.UpdateHeader,)
    ),
    "update_receipt": Door(
        pb.UpdateReceipt, codec.write_update_receipt, codec.read_update_receipt, receipts, (m.UpdateReceipt,)
    ),
}
every_door = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS.keys())


@every_door
@settings(max_examples=150, deadline=None)
@given(drawn=st.data())
def test_every_message_comes_back_as_it_was(door: Door, drawn: st.DataObject) -> None:
    value = drawn.draw(door.values)
    assert door.read(codec.parse(door.wire, door.write(value).SerializeToString())) == value


@every_door
@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_are_a_message_or_malformed(door: Door, data: bytes) -> None:
    try:
        value = door.read(codec.parse(door.wire, data))
    except MalformedMessage:
        return
    assert isinstance(value, door.kinds)


@every_door
@settings(max_examples=150, deadline=None)
@given(drawn=st.data())
def test_a_message_with_damaged_bytes_is_a_message_or_malformed(door: Door, drawn: st.DataObject) -> None:
    wire = bytearray(door.write(drawn.draw(door.values)).SerializeToString())
    for _ in range(drawn.draw(st.integers(1, 4))):
        if wire:
            wire[drawn.draw(st.integers(0, len(wire) - 1))] = drawn.draw(st.integers(0, 255))
    try:
        value = door.read(codec.parse(door.wire, bytes(wire)))
    except MalformedMessage:
        return
    assert isinstance(value, door.kinds)


@pytest.mark.parametrize("name", ["from_combiner", "to_combiner", "from_client", "to_client"])
def test_an_unset_or_unknown_message_is_malformed(name: str) -> None:
    door = DOORS[name]
    with pytest.raises(MalformedMessage, match="no message that this version knows"):
        door.read(door.wire())
    unknown = bytes([0xFA, 0x3F, 0x00])  # field 1023, of a version to come
    with pytest.raises(MalformedMessage, match="no message that this version knows"):
        door.read(codec.parse(door.wire, unknown))


@pytest.mark.parametrize("name", ["from_combiner", "to_combiner", "from_client", "to_client"])
def test_every_member_of_a_direction_has_its_counterpart(name: str) -> None:
    door = DOORS[name]
    (oneof,) = door.wire.DESCRIPTOR.oneofs
    assert len(oneof.fields) == len(door.kinds)


HEADER = m.UpdateHeader(Generation(1), "ab" * 8, 10, Digest("0" * 64), 5, {"loss": 1.0}, "mean")
PLAN = m.RoundPlan(SessionId("ab" * 8), 1, 1, 1, Digest("0" * 64), Digest("1" * 64), "{}", "none", 60.0)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"sha256": b"short"}, "header.sha256"),
        ({"upload_id": "../../etc"}, "header.upload_id"),
        ({"upload_id": "ab"}, "header.upload_id"),
        ({"generation": 0}, "header.generation"),
        ({"size": 0}, "header.size"),
        ({"size": 2**63}, "header.size"),
        ({"samples": 0}, "header.samples"),
        ({"metrics": pb.Metrics(values={"loss": math.nan})}, "header.metrics"),
        ({"metrics": pb.Metrics(values={"loss": math.inf})}, "header.metrics"),
        ({"metrics": pb.Metrics(values={"": 1.0})}, "header.metrics"),
        ({"metrics": pb.Metrics(values={"a\nb": 1.0})}, "header.metrics"),
        ({"metrics": pb.Metrics(values={f"m{i}": 1.0 for i in range(201)})}, "header.metrics"),
        ({"release": 0}, "header.release"),
        ({"release": 99}, "header.release"),
    ],
)
def test_a_malformed_header_names_its_field(changes: dict[str, Any], field: str) -> None:
    wire = codec.write_update_header(HEADER)
    for key, value in changes.items():
        wire.ClearField(key)  # type: ignore[arg-type]
        part = pb.UpdateHeader(**{key: value})
        wire.MergeFrom(part)
    with pytest.raises(MalformedMessage) as caught:
        codec.read_update_header(wire)
    assert field in caught.value.message


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"parameters": "[]"}, "parameters"),
        ({"parameters": "{"}, "parameters"),
        ({"parameters": '{"a": NaN}'}, "parameters"),
        ({"parameters": "[" * 100_000}, "parameters"),
        ({"update_timeout_s": 0.0}, "update_timeout_s"),
        ({"update_timeout_s": math.inf}, "update_timeout_s"),
        ({"attempt": 0}, "attempt"),
        ({"session": "Session!"}, "session"),
    ],
)
def test_a_malformed_plan_names_its_field(changes: dict[str, Any], field: str) -> None:
    message = m.TrainTask(replace(PLAN, **changes), Generation(1))
    with pytest.raises(MalformedMessage, match=field):
        codec.read_to_client(codec.write_to_client(message))


def test_an_unknown_masking_is_refused() -> None:
    wire = codec.write_to_client(m.TrainTask(PLAN, Generation(1)))
    wire.train.plan.masking = 77  # type: ignore[assignment]
    with pytest.raises(MalformedMessage, match="masking"):
        codec.read_to_client(wire)


@pytest.mark.parametrize("masked", [None, MASKED_TERMS])
def test_what_was_signed_is_there_exactly_when_the_plan_is_masked(masked: MaskedTerms | None) -> None:
    plan = replace(PLAN, masking="none" if masked else "pet")
    with pytest.raises(MalformedMessage, match="does not fit the masking"):
        codec.read_to_client(codec.write_to_client(m.TrainTask(plan, Generation(1), masked)))
    with pytest.raises(MalformedMessage, match="does not fit the masking"):
        codec.read_to_combiner(codec.write_to_combiner(m.CellOrder(plan, Generation(1), (), 0, masked)))


def test_samples_are_never_said_of_a_masked_update() -> None:
    upload = MaskedUpload(CHAIN, UPLOAD.header, UPLOAD.sealed.boxes)
    with pytest.raises(MalformedMessage, match=r"header\.samples"):
        codec.read_update_header(codec.write_update_header(replace(HEADER, masked=upload)))


def test_a_word_in_the_wrong_direction_is_refused() -> None:
    wire = codec.write_to_client(m.SaidToClient(StreamWanted(CTX)))
    with pytest.raises(MalformedMessage, match="wanted stream"):
        codec.read_from_client(pb.FromClient(word=wire.word))
    wire_up = codec.write_from_client(m.SaidByClient(StreamSent(CTX, b"s" * 32, 1)))
    with pytest.raises(MalformedMessage, match="sent stream"):
        codec.read_to_client(pb.ToClient(word=wire_up.word))


def test_a_sum_without_clients_and_clients_without_a_sum_are_refused() -> None:
    empty = m.PartialAggregate(Generation(1), None, 0, (), (), m.MetricsSummary())
    for wrong in (
        replace(empty, sum_object=Digest("0" * 64)),
        replace(empty, included=(m.Contribution(ClientId("ab" * 8), 1, Digest("0" * 64)),)),
    ):
        with pytest.raises(MalformedMessage, match="sum_object"):
            codec.read_from_combiner(codec.write_from_combiner(wrong))


def test_too_many_clients_are_refused() -> None:
    crowd = m.AttachedClients(tuple(ClientId(f"{number:08x}") for number in range(10_001)))
    with pytest.raises(MalformedMessage, match=r"attached\.clients"):
        codec.read_from_combiner(codec.write_from_combiner(crowd))


def test_a_log_is_cut_to_its_end_and_a_reason_to_its_beginning() -> None:
    failed = m.TaskFailed(Generation(1), "r" * 5000 + "!", "l" * 50_000 + "\udcff last line")
    read = codec.read_from_client(codec.write_from_client(failed))
    assert isinstance(read, m.TaskFailed)
    assert read.reason == "r" * 1000
    assert len(read.log) == 8000
    assert read.log.endswith("? last line")


def test_the_logs_of_a_large_cell_leave_room_for_its_reasons() -> None:
    excluded = tuple(m.Exclusion(ClientId(f"{number:08x}"), "out of memory", "l" * 8000) for number in range(1000))
    partial = m.PartialAggregate(Generation(1), None, 0, (), excluded, m.MetricsSummary())
    wire = codec.write_from_combiner(partial)
    assert wire.ByteSize() < 1 << 20
    read = codec.read_from_combiner(wire)
    assert isinstance(read, m.PartialAggregate)
    assert [one.reason for one in read.excluded] == ["out of memory"] * 1000
    assert read.excluded[0].log == "l" * 8000


@pytest.mark.parametrize("address", ["", "host", "host:", ":1", "host:0", "host:65536", "http://host:1", "ho st:1"])
def test_an_address_is_host_and_port(address: str) -> None:
    hello = m.CombinerHello(
        name="east",  # type: ignore[arg-type]
        instance="ab" * 8,  # type: ignore[arg-type]
        address=address,
        max_clients=1,
        software="",
    )
    with pytest.raises(MalformedMessage, match=r"hello\.address"):
        codec.read_from_combiner(codec.write_from_combiner(hello))


@pytest.mark.parametrize("name", ["", "Anna", "a" * 64, "-a", "a b"])
def test_a_client_s_name_is_a_name(name: str) -> None:
    hello = m.ClientHello(ClientId("ab" * 8), ClientName(name), "")
    with pytest.raises(MalformedMessage, match=r"hello\.name"):
        codec.read_from_client(codec.write_from_client(hello))
