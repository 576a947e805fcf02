"""A whole masked cell with real clients' bytes: the stored sum is that of the listed uploads, or nothing is added."""

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import masked_world as world
import numpy as np
import pytest
import structlog
from combiner_rig import QUICK, AwayObjects, digest_of, until
from masked_rig import ANNA, BERT, CARL, DORA, EMIL, FRED, MaskedRig, Scripted, a_masked_cell, id_of
from masked_rig import masked_attached as attached

from fedn_py.identity import Generation
from fedn_py.masking.hashing import plain_hash
from fedn_py.masking.pet import add_masked
from fedn_py.protocol.combiner_work import NoWork
from fedn_py.protocol.masked.answers import sealed_bytes
from fedn_py.protocol.masked.round_messages import BoxFor, CommitteeBody
from fedn_py.protocol.masked.signing import sign
from fedn_py.protocol.masked.words import AbortWanted, Boxes, LinksWanted, StoredCommittee, StreamWanted
from fedn_py.protocol.messages import (
    CellCancelled,
    CellFailed,
    CommitteeFormed,
    CommitteeStored,
    MaskedPartial,
    RoundProgress,
    SaidByClient,
    SaidToClient,
    TaskCancelled,
    UpdateReceipt,
    WordForClients,
    WordPassedOn,
)
from fedn_py.transport import codec
from fedn_py.transport.chunks import GO_ON
from fedn_py.transport.status import RemoteFault
from fedn_py.transport.transfer import upload_object
from fedn_py.wire.v1 import network_pb2, network_pb2_grpc

FIVE = (ANNA, BERT, CARL, DORA, EMIL)
REPLICATED = {"cell": world.REPLICATED}
Story = Callable[[MaskedRig], Coroutine[Any, Any, None]]


def play(folder: Path, told: Story, *clients: world.AClient, **changed: Any) -> None:
    async def main() -> None:
        async with a_masked_cell(folder, *(clients or FIVE), **changed) as cell:
            await told(cell)

    asyncio.run(main())


def sum_of(uploads: Sequence[world.AnUpload]) -> np.ndarray:
    total = np.zeros_like(uploads[0].vector)
    for upload in uploads:
        add_masked(total, upload.vector)
    return total


async def check_sum(cell: MaskedRig, uploads: Sequence[world.AnUpload]) -> MaskedPartial:
    """See that the report lists exactly these uploads, and that the stored sum is theirs."""
    partial = await cell.partial()
    closed = cell.closed(partial)
    assert closed.rows == world.the_rows_of(uploads)
    assert (cell.stored_sum(closed) == sum_of(uploads)).all()
    assert partial.included == len(uploads)
    return partial


async def send_all(cell: MaskedRig, *clients: world.AClient) -> list[world.AnUpload]:
    """Have clients upload what they should."""
    uploads = [cell[client].upload() for client in clients]
    answers = [cell[client].sends(upload) for client, upload in zip(clients, uploads, strict=True)]
    assert await asyncio.gather(*answers) == [UpdateReceipt(accepted=True)] * len(clients)
    return uploads


def outsiders(cell: MaskedRig) -> list[world.AClient]:
    """The clients that are no members."""
    committee = next(iter(cell.clients.values())).committee
    assert committee is not None
    return [one.client for one in cell.clients.values() if committee.member(one.client.id) is None]


async def refusal(sending: Coroutine[Any, Any, UpdateReceipt]) -> str:
    """Return the name of the fault with which an upload is refused, in whichever way."""
    try:
        receipt = await sending
    except RemoteFault as fault:
        return fault.code
    assert not receipt.accepted
    return receipt.reason.split(":")[0]


# ---- a cell


def test_the_stored_partial_is_the_sum_of_exactly_the_listed_uploads(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        committee = await cell.form()
        formed = await cell.rig.reducer.next(CommitteeFormed)
        assert (formed.generation, formed.committee.ctx0) == (1, cell.round.terms.ctx0)
        cell.look()
        uploads = await send_all(cell, *FIVE)
        partial = await check_sum(cell, uploads)
        closed = cell.closed(partial)
        assert (closed.ctx, closed.refused, partial.excluded) == (committee.ctx, (), ())
        # Nothing that a client has uploaded is kept, and nothing is here that could open the sum.
        await until(lambda: cell.rig.spool.uploads == 0)
        assert len(cell.rig.store.contents) == 3  # the model, the package, the sum

    play(tmp_path, told)


def test_clients_hear_of_the_committee_when_the_reducer_has_stored_it(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        for client in FIVE:
            await cell[client].task()
            cell[client].say(cell[client].offer())
        await cell.rig.reducer.next(CommitteeFormed)
        cell.rig.calls.reducer_said(CommitteeStored(StoredCommittee(b"of another cell".ljust(32))))
        cell.rig.calls.reducer_said(WordForClients((), AbortWanted(bytes(32), "what is said after the committee")))
        words = [(await cell[ANNA].attached.next(SaidToClient)).word]
        await cell.store_committee()
        words.append((await cell[ANNA].attached.next(SaidToClient)).word)
        assert [type(word) for word in words] == [AbortWanted, CommitteeBody]

    play(tmp_path, told)


def test_the_reducer_hears_of_the_committee_before_the_sum_and_is_told_of_its_phase(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        await cell.rig.reducer.next(RoundProgress)
        await cell.form()
        cell.look()
        await send_all(cell, *FIVE)
        await cell.partial()
        said = [type(message) for message in cell.rig.reducer.messages]
        assert said.index(CommitteeFormed) < said.index(MaskedPartial)
        phases = [one.phase for one in cell.rig.reducer.messages if isinstance(one, RoundProgress)]
        assert phases[0] == "committee"

    play(tmp_path, told)


def test_a_cell_of_replicated_slots_adds_up_too(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        await cell.form()
        cell.look()
        await check_sum(cell, await send_all(cell, *world.CLIENTS))

    play(tmp_path, told, *world.CLIENTS, **REPLICATED)


def test_a_late_client_is_in_no_sum_and_no_list_and_is_told(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        await cell.form()
        cell.look()
        late = outsiders(cell)[0]
        uploads = await send_all(cell, *(client for client in FIVE if client != late))
        partial = await check_sum(cell, uploads)
        assert [one.client for one in partial.excluded] == [id_of(late)]
        assert partial.excluded[0].reason.startswith("Late")
        assert cell.closed(partial).refused[0].client_id == late.id
        assert await cell[late].attached.next(TaskCancelled) == TaskCancelled(partial.generation, "the round is closed")
        assert await refusal(cell[late].sends(cell[late].upload())) == "Late"

    play(tmp_path, told, wanted=4)


def test_with_too_few_updates_nothing_is_stored_or_signed(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        await cell.form()
        cell.look()
        first, *others = outsiders(cell)
        await send_all(cell, first)
        for one in others:
            cell[one].fail("BadPackage: no")
        for member in world.members_of(cell[first].committee):  # type: ignore[arg-type]  # it is formed
            cell[member].fail("BadPackage: no")
        partial = await cell.partial()
        assert (partial.closed, partial.included, len(partial.excluded)) == (None, 1, 4)
        assert len(cell.rig.store.contents) == 2

    play(tmp_path, told)


def test_a_masked_sum_that_waits_for_its_store_is_freed_with_its_cell(tmp_path: Path) -> None:
    store = AwayObjects()

    async def told(cell: MaskedRig) -> None:
        await cell.form()
        cell.look()
        held = weakref.ref(cell.rig.cells._masked._held[Generation(1)].total)
        store.away = True
        await send_all(cell, *FIVE)
        await store.asked.wait()
        cell.rig.calls.reducer_said(CellCancelled(Generation(1), "the session was stopped"))
        await until(lambda: held() is None)
        assert not [one for one in cell.rig.reducer.messages if isinstance(one, MaskedPartial)]

    play(tmp_path, told, options={"store": store})


# ---- what is no update of the cell


def test_what_is_not_what_its_client_signed_is_refused_by_name_and_leaves_the_sum_as_it_was(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        await cell.form()
        cell.look()
        one, other = outsiders(cell)[:2]
        client = cell[one]
        upload, others = client.upload(), cell[other].upload()
        masked = client.header(upload).masked
        assert masked is not None

        def changed(**what: Any) -> Any:
            return client.sends(upload, masked=replace(masked, **what))

        forged = sign(upload.verified.header, world.key_of("mallory"))
        assert await refusal(changed(header=forged)) == "WrongSigner"
        assert await refusal(changed(header=replace(forged, signer=upload.header.signer))) == "BadSignature"
        short = sign(replace(upload.verified.header, n_words=3), one.key)
        assert await refusal(changed(header=short)) == "WrongShape"
        elsewhere = sign(replace(upload.verified.header, ctx=b"x" * 32), one.key)
        assert await refusal(changed(header=elsewhere)) == "WrongContext"
        assert await refusal(changed(boxes=others.sealed.boxes)) == "WrongShape"
        assert await refusal(changed(chain=other.chain, header=others.header)) == "ChainOfAnother"
        revoked = world.a_chain(one.name, operator=world.key_of("mallory"))
        assert await refusal(changed(chain=revoked)) == "UnknownOperator"
        assert await refusal(client.sends(upload, upload.vector.tobytes()[:-4])) == "WrongLength"
        assert await refusal(client.sends(upload, samples=7)) == "MalformedMessage"
        assert await refusal(client.sends(upload, metrics={"loss": 1e300})) == "InvalidMetrics"
        assert await refusal(client.sends(upload, masked=None, samples=7)) == "NotMasked"
        assert await refusal(client.sends(upload, generation=2)) == "Late"
        assert cell.rig.spool.uploads == 0
        await check_sum(cell, await send_all(cell, *FIVE))

    play(tmp_path, told)


def test_bytes_that_are_not_those_of_the_header_are_refused_and_leave_the_sum_as_it_was(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        await cell.form()
        cell.look()
        client = outsiders(cell)[0]
        upload = cell[client].upload()
        altered = upload.vector.copy()
        altered[3] += 1
        assert await refusal(cell[client].sends(upload, altered.tobytes())) == "DigestMismatch"
        partial = await check_sum(cell, await send_all(cell, *(one for one in FIVE if one != client)))
        assert [one.client for one in partial.excluded] == [id_of(client)]

    play(tmp_path, told)


def test_a_client_that_the_order_does_not_name_is_refused(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        await cell.form()
        async with attached(cell.rig, FRED) as stream:
            stranger = Scripted(FRED, cell.round, stream, cell[ANNA].committee)
            assert await refusal(stranger.sends(stranger.upload())) == "NotAssigned"
            assert cell.rig.spool.uploads == 0

    play(tmp_path, told)


def test_an_update_that_is_not_wanted_is_answered_before_a_byte_of_it_is_taken(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        await cell.form()
        client = cell[ANNA]
        header = client.header(client.upload(), generation=2)
        call = network_pb2_grpc.CombinerStub(client.attached.channel.grpc).SendUpdate()
        start = network_pb2.UpdateStart(header=codec.write_update_header(header), offset=0)
        await call.write(network_pb2.UpdatePart(start=start))
        assert GO_ON not in dict(tuple(await call.initial_metadata()))
        assert codec.read_update_receipt(await call).reason.startswith("Late")

    play(tmp_path, told)


def test_an_update_counts_once_however_often_it_is_sent(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        await cell.form()
        cell.look()
        one, *others = FIVE
        (first,) = await send_all(cell, one)
        assert (await cell[one].sends(first)).accepted
        assert (await cell[one].sends(first, upload_id="0123456789abcdef")).accepted
        assert await refusal(cell[one].sends(cell[one].upload(1))) == "AlreadyIn"
        await check_sum(cell, [first, *await send_all(cell, *others)])

    play(tmp_path, told)


def test_an_upload_that_is_cut_goes_on_where_it_stopped_and_is_in_once(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        await cell.form()
        cell.look()
        one, *others = FIVE
        upload = cell[one].upload()
        content, header = upload.vector.tobytes(), cell[one].header(upload)
        call = network_pb2_grpc.CombinerStub(cell[one].attached.channel.grpc).SendUpdate()
        start = network_pb2.UpdateStart(header=codec.write_update_header(header), offset=0)
        await call.write(network_pb2.UpdatePart(start=start))
        await call.initial_metadata()
        await call.write(network_pb2.UpdatePart(chunk=content[:50]))
        await until(lambda: cell.rig.spool.held(f"client {id_of(one)}", header.upload_id) == 50)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await call
        uploads = await send_all(cell, one, *others)
        await check_sum(cell, uploads)
        assert max(len(one.boxes_seen) for one in cell.clients.values()) == 5  # its boxes were relayed once

    play(tmp_path, told)


# ---- members


def test_a_client_whose_box_a_member_refuses_is_told_and_is_in_when_it_seals_anew(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        await cell.form()
        cell.look()
        client = outsiders(cell)[0]
        bad = cell[client].upload()
        boxes = tuple(tuple(box[:-1] + bytes([box[-1] ^ 1]) for box in slot) for slot in bad.sealed.boxes)
        header = replace(bad.verified.header, box_hashes=tuple(tuple(map(plain_hash, slot)) for slot in boxes))
        masked = cell[client].header(bad).masked
        assert masked is not None
        said = replace(masked, header=sign(header, client.key), boxes=boxes)
        receipt = await cell[client].sends(bad, masked=said)
        assert not receipt.accepted
        assert receipt.reason.startswith("BadBox at member ")
        again = cell[client].upload(1)
        assert (await cell[client].sends(again)).accepted
        await check_sum(cell, [again, *await send_all(cell, *(one for one in FIVE if one != client))])

    play(tmp_path, told)


def test_a_silent_member_without_a_replica_fails_the_cell_by_name(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        committee = await cell.form()
        silent = world.members_of(committee)[0]
        cell[silent].silent = True
        cell.look()
        client = outsiders(cell)[0]
        assert await refusal(cell[client].sends(cell[client].upload())) == "Late"
        failed = await cell.rig.reducer.next(CellFailed)
        assert failed.reason == "NoSumParticipant: slot 0 lost its members"

    play(tmp_path, told, options={"acks_s": 0.2})


def test_a_silent_member_is_not_waited_for_where_its_slot_has_another(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        silent = world.members_of(await cell.form())[0]
        cell[silent].silent = True
        cell.look()
        await check_sum(cell, await send_all(cell, *world.CLIENTS))

    play(tmp_path, told, *world.CLIENTS, options={"acks_s": 0.5}, **REPLICATED)


def test_boxes_come_in_batches_and_each_member_gets_its_own(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        committee = await cell.form()
        uploads = {client.id: cell[client].upload() for client in FIVE}
        sending = [asyncio.create_task(cell[client].sends(uploads[client.id])) for client in FIVE]
        for member in world.members_of(committee):
            seat = committee.member(member.id)
            assert seat is not None
            found: list[BoxFor] = []
            while len(found) < len(FIVE):
                found += (await cell[member].hears(Boxes)).boxes
            expected = [upload.box_for(seat.slot, seat.replica) for upload in uploads.values()]
            assert sorted(found, key=repr) == sorted(expected, key=repr)
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)

    play(tmp_path, told)


def test_words_that_are_not_a_members_are_refused_and_harm_nobody(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        await cell.form()
        liar = outsiders(cell)[0]
        cell[liar].acknowledges()
        cell[liar].say(cell[liar].offer(ctx0=b"x" * 32))
        cell[liar].say(LinksWanted(bytes(16), 1))
        assert (await cell.rig.reducer.next(WordPassedOn)).client == id_of(liar)  # it is heard as before
        cell.look()
        await check_sum(cell, await send_all(cell, *FIVE))

    play(tmp_path, told)


def test_what_a_client_says_of_another_cell_is_passed_over_by_name(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        with structlog.testing.capture_logs() as log:
            cell[EMIL].say(cell[EMIL].offer(ctx0=world.bytes_of("another ctx0")))
            await until(lambda: any(one["event"] == "a client's word is passed over" for one in log))
        assert [one["fault"] for one in log if one["event"] == "a client's word is passed over"] == ["Late"]
        await cell.form()

    play(tmp_path, told)


def test_keys_that_are_offered_in_another_s_name_are_refused(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        for client in FIVE:
            await cell[client].task()
        for client in (BERT, CARL, DORA):
            cell[client].say(cell[client].offer())
        cell[EMIL].say(cell[ANNA].offer())  # taken for EMIL's, it would stand in ANNA's way
        cell[EMIL].attached.link.send(SaidByClient(LinksWanted(bytes(16), 1)))
        await cell.rig.reducer.next(WordPassedOn)  # what was said before was heard
        cell[ANNA].say(cell[ANNA].offer())
        cell[EMIL].say(cell[EMIL].offer())
        await cell.store_committee()
        await cell[ANNA].hears_committee()

    play(tmp_path, told)


def test_a_client_that_attaches_later_gets_task_committee_and_a_member_all_boxes(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        committee = await cell.form()
        member, other = world.members_of(committee)
        cell.look(other)
        client = outsiders(cell)[0]
        sending = asyncio.create_task(cell[client].sends(cell[client].upload()))
        await until(lambda: bool(cell[other].boxes_seen))
        async with attached(cell.rig, member) as stream:
            again = Scripted(member, cell.round, stream)
            assert (await again.task()).masked == cell.round.signed_terms
            assert await again.hears_committee() == committee
            looking = asyncio.create_task(again.looks_at_boxes())
            assert (await sending).accepted
            assert [row.client_id for row in again.boxes_seen] == [client.id]
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    play(tmp_path, told)


# ---- answers


def test_a_member_s_stream_is_held_to_the_length_of_its_cell_s_answers(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        committee = await cell.form()
        member = world.members_of(committee)[0]
        cell.look()
        await check_sum(cell, await send_all(cell, *FIVE))
        most = sealed_bytes(4 * cell.round.terms.encoding.n_words)
        cell.rig.calls.reducer_said(WordForClients((id_of(member),), StreamWanted(committee.ctx)))
        channel = cell[member].attached.channel
        with pytest.raises(RemoteFault) as refused:
            await upload_object(channel, "ab" * 8, digest_of(bytes(most + 1)), bytes(most + 1), patience=QUICK)
        assert refused.value.code == "StreamTooLarge"
        await upload_object(channel, "cd" * 8, digest_of(bytes(most)), bytes(most), patience=QUICK)
        assert digest_of(bytes(most)) in cell.rig.store.contents

    play(tmp_path, told)


# ---- metrics


def test_metrics_leave_by_client_and_only_where_site_and_plan_let_them(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        await cell.form()
        cell.look()
        releases = {ANNA: "client", BERT: "mean", CARL: "none", DORA: "client", EMIL: "none"}
        for client, release in releases.items():
            said = {"metrics": {"loss": 0.5}, "release": release}
            assert (await cell[client].sends(cell[client].upload(), **said)).accepted
        told = (await cell.partial()).training_metrics
        assert told.by_client == {id_of(ANNA): {"loss": 0.5}, id_of(DORA): {"loss": 0.5}}
        assert (told.weighted_sums, told.weights) == ({}, {})

    policy = world.a_policy(metrics="client")
    plan = {"metrics_release": "client", "policy_hash": world.policy_hash(policy.encode())}
    play(tmp_path, told, plan=plan, policy=policy)


def test_a_plan_that_lets_no_metrics_go_by_client_has_none_reported(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        await cell.form()
        cell.look()
        for client in FIVE:
            said = {"metrics": {"loss": 0.5}, "release": "client"}
            assert (await cell[client].sends(cell[client].upload(), **said)).accepted
        assert (await cell.partial()).training_metrics.by_client == {}

    play(tmp_path, told)


# ---- an order


@pytest.mark.parametrize(
    ("changed", "options", "name"),
    [
        ({}, {"trust": None}, "NoMaskingCredential"),
        ({"cell": {"combiner": bytes(world.OTHER_COMBINER.verify_key)}}, {}, "WrongContext"),
        ({"cell": {"generation": 2}}, {}, "WrongContext"),
        ({"cell": {"plan_hash": b"x" * 32}}, {}, "WrongContext"),
        ({"plan": {"base_sha256": b"x" * 32}}, {}, "WrongContext"),
        ({"plan": {"n_max": 4}}, {}, "CannotHold"),
        ({"plan": {"n_parameters": 21}}, {}, "WrongLength"),
        ({"cell": {"k": 1}}, {}, "PlanBelowFloor"),
        ({"plan": {"policy_hash": b"x" * 32}}, {}, "WrongPolicy"),
        ({"plan_key": world.key_of("mallory")}, {}, "WrongSigner"),
        ({"order_key": world.key_of("mallory")}, {}, "WrongSigner"),
        ({"certificate": world.a_certificate(operator=world.key_of("mallory"))}, {}, "UnknownOperator"),
        ({"certificate": world.a_certificate(role="combiner")}, {}, "WrongContext"),
        ({"policy": None}, {}, "NoPolicy"),
    ],
)
def test_an_order_that_is_not_the_reducers_or_not_for_here_fails_by_name(
    tmp_path: Path, changed: dict[str, Any], options: dict[str, Any], name: str
) -> None:
    async def told(cell: MaskedRig) -> None:
        failed = await cell.rig.reducer.next(CellFailed)
        assert failed.reason.split(":")[0] == name
        if name == "NoMaskingCredential":
            assert "masking_credential_file" in failed.reason
        assert cell.rig.mailbox.state.work == NoWork(last=Generation(1))

    play(tmp_path, told, options=options, **changed)
