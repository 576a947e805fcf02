"""Whole masked rounds at the reducer, with real keys: opened once, released only when nothing can be opened."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import masked_world as world
import numpy as np
import pytest
import safetensors.numpy
from awaiting import until
from masked_network import MaskedCombiner, a_masked_combiner, client_id, expected_mean
from masked_world import CLIENTS
from reducer_network import NORTH, Network, OperatorFiles, Stored, a_network

from fedn_py.identity import CombinerName, Digest, InstanceId
from fedn_py.protocol.masked.beacon import KnownBeacon
from fedn_py.protocol.masked.differencing import Proofs
from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.protocol.masked.plans import Standing, believe
from fedn_py.protocol.masked.registry import accept_policy
from fedn_py.protocol.masked.round_messages import (
    Abort,
    BeaconLink,
    CellClosed,
    Echo,
    Included,
    NotOpened,
    OpenSum2,
    Plan,
)
from fedn_py.protocol.masked.signing import Signed, read_signed, sign
from fedn_py.protocol.masked.words import AbortWanted, Links, LinksWanted, StreamSent, StreamWanted
from fedn_py.protocol.masked_rounds import PRIVACY_HOLD, with_next_seed
from fedn_py.protocol.masked_rounds_work import AnswerDeadlinePassed, Masked
from fedn_py.protocol.messages import (
    CellFailed,
    CellOrder,
    CommitteeFormed,
    DismissClient,
    Exclusion,
    MaskedPartial,
    MetricsSummary,
    PolicyNews,
    ValidationOrder,
    ValidationReport,
    WordForClients,
)
from fedn_py.protocol.reducer_work import Failed, Gathering, Paused
from fedn_py.reducer.cell_commits import STREAM_S
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.masked_documents import attempt_of, bytes_of, signed_of
from fedn_py.reducer.masked_sessions import BeyondPolicy, MaskingNotSetUp
from fedn_py.reducer.records import Measured, RoundRecord, SessionRecord
from fedn_py.reducer.round_records import CommittedElsewhere
from fedn_py.reducer.unmasking import MaskedModel

SOUTH, SOUTH_1 = CombinerName("south"), InstanceId("south-1")
FIVE = CLIENTS[:5]
Story = Callable[[Network], Awaitable[None]]


def in_a_masked_network(scratch: Path, story: Story, policy: Any = world.POLICY) -> None:
    async def told() -> None:
        async with a_network(scratch, operator=OperatorFiles(scratch / "operator", policy)) as network:
            await story(network)

    asyncio.run(told())


async def start(network: Network, **changed: Any) -> Any:
    return await network.start_session(**{"masking": "pet", "clients_wanted": 5, **changed})


async def the_round(stored: Stored) -> RoundRecord:
    return (await stored.rounds())[-1]


async def the_attempt(stored: Stored) -> Any:
    record = await the_round(stored)
    assert record.document is not None
    return attempt_of(record.document.attempts[-1])


def voids(combiner: MaskedCombiner) -> set[bytes]:
    return {read_signed(word, NotOpened).ctx for word in combiner.words(NotOpened.kind)}


def sets_asked_for(combiner: MaskedCombiner) -> set[tuple[bytes, bytes]]:
    """What this combiner's members were asked to open: (ctx, H(U))."""
    asked = [read_signed(word.opening, OpenSum2) for word in combiner.words(Included)]
    return {(one.ctx, one.included_hash) for one in asked}


# ---- a round


def test_a_masked_session_makes_models_that_are_the_mean_of_its_clients(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network)
        await start(network, rounds=2)
        await network.at_rest()
        first, second = await network.stored.rounds()
        assert (first.status, second.status) == ("committed", "committed")
        assert second.plan.base_model == first.model
        model = safetensors.numpy.load(network.stored.objects.contents[first.model or Digest("")])["w"]
        mean = expected_mean(combiner.clients, 3)
        encoding = next(iter(combiner.cells.values())).terms.encoding
        assert np.abs(model - (np.array([1.0, 2.0, 3.0]) + mean)).max() < encoding.error_bound(5, 250) + 1e-6
        assert first.samples == 5 * 50
        assert {one.samples for one in first.included} == {0}  # nobody knows those of a single client
        phases = [one.phase for one in first.phases]
        assert phases[:5] == ["planning", "sum", "updating", "sum2", "unmasking"]

    in_a_masked_network(tmp_path, story)


def test_people_see_who_held_the_masks_and_the_document_has_no_key_left(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network)
        await start(network)
        await network.at_rest()
        record = await the_round(network.stored)
        assert record.masked is not None
        assert (record.masked.scheme, record.masked.k, record.masked.r, record.masked.g_min) == ("pet", 2, 1, 3)
        (cell,) = record.masked.cells
        assert (cell.combiner, cell.included, cell.opened, cell.out) == (NORTH, 5, True, "")
        assert [(one.name, one.slot, one.answered) for one in cell.members] == [
            (member.name, slot, True) for slot, member in enumerate(combiner.members())
        ]
        assert record.document is not None
        assert record.document.round_key == ""
        assert record.training.clients == 5

    in_a_masked_network(tmp_path, story)


def test_masked_sums_and_sealed_streams_are_removed_after_the_commit(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        await a_masked_combiner(network)
        session = await start(network, rounds=2)
        await network.at_rest()
        models = {one.model for one in await network.stored.rounds()}
        expected = {session.options.package, session.options.seed_model, *models}
        await until(lambda: network.stored.objects.contents.keys() == expected)

    in_a_masked_network(tmp_path, story)


def test_every_plan_is_one_that_clients_believe_round_after_round(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network)
        await start(network, rounds=3)
        await network.at_rest()
        (news,) = [message for message in combiner.heard if isinstance(message, PolicyNews)]
        policy, mark = accept_policy(news.policy, world.TRUST, None, world.NOW_S)
        standing = Standing(world.chains(), policy, mark, world.NOW_S)
        known: KnownBeacon | None = None
        beacons = set()
        for order in combiner.orders:
            assert isinstance(order, CellOrder)
            assert order.masked is not None
            terms = order.masked
            believed = believe(terms.plan, terms.order, terms.certificate, standing, known=known, highest_session=None)
            known = believed.beacon
            beacons.add(known.beacon)
            assert believed.terms.plan.params_sha256 == world_hash(order.plan.parameters)
            assert '"seed": 1' in order.plan.parameters
        assert len(beacons) == 3

    in_a_masked_network(tmp_path, story)


def world_hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def test_a_client_that_missed_rounds_gets_the_links(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network)
        session = await start(network, rounds=3)
        await network.at_rest()
        last = combiner.orders[-1]
        assert isinstance(last, CellOrder)
        assert last.masked is not None
        await combiner.pass_on(FIVE[0], LinksWanted(bytes.fromhex(session.id), 1))
        await until(lambda: combiner.words(Links))
        (links,) = combiner.words(Links)
        assert [link.round for link in links.links] == [1, 2, 3]
        policy, mark = world.POLICY, world.MARK
        standing = Standing(world.chains(), policy, mark, world.NOW_S)
        terms = last.masked
        believe(
            terms.plan,
            terms.order,
            terms.certificate,
            standing,
            known=None,
            highest_session=None,
            links=links.links,
        )
        await combiner.pass_on(FIVE[0], LinksWanted(bytes.fromhex(session.id), 3))
        await until(lambda: len(combiner.words(Links)) == 2)
        assert [link.round for link in combiner.words(Links)[1].links] == [3]

    in_a_masked_network(tmp_path, story)


def test_what_is_ordered_is_in_the_document_before(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network, silent=True)
        await start(network)
        await until(lambda: combiner.orders)
        order = combiner.orders[0]
        assert isinstance(order, CellOrder)
        assert order.masked is not None
        record = await the_round(network.stored)
        assert record.document is not None
        (kept,) = record.document.attempts
        assert signed_of(kept.plan) == order.masked.plan
        assert signed_of(kept.orders[NORTH]) == order.masked.order
        assert record.document.round_key

    in_a_masked_network(tmp_path, story)


def test_two_cells_make_one_model(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        north, south = await two_combiners(network)
        await start(network, clients_wanted=8)
        await network.at_rest()
        record = await the_round(network.stored)
        assert {one.combiner for one in record.included} == {NORTH, SOUTH}
        model = safetensors.numpy.load(network.stored.objects.contents[record.model or Digest("")])["w"]
        mean = expected_mean([*north.clients, *south.clients], 3)
        encoding = next(iter(north.cells.values())).terms.encoding
        assert np.abs(model - (np.array([1.0, 2.0, 3.0]) + mean)).max() < encoding.error_bound(8, 400) + 1e-6

    in_a_masked_network(tmp_path, story)


async def two_combiners(network: Network, **changed: Any) -> tuple[MaskedCombiner, MaskedCombiner]:
    north = await a_masked_combiner(network, clients=CLIENTS[:4], **changed)
    south = await a_masked_combiner(
        network, name=SOUTH, instance=SOUTH_1, key=world.OTHER_COMBINER, clients=CLIENTS[4:], **changed
    )
    return north, south


# ---- one set, once


def test_a_cell_that_is_closed_twice_is_opened_with_its_first_set(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network, closes=False, mute={client.name for client in FIVE})
        await start(network)
        await until(lambda: combiner.cells)
        (cell,) = combiner.cells.values()
        whole = cell.uploads
        first = await combiner.closed(cell)
        await combiner.say(first)
        await until(lambda: combiner.words(Included))
        await combiner.say(await combiner.closed(cell, whole[:4]))
        await network.settled()
        assert len(sets_asked_for(combiner)) == 1
        attempt = await the_attempt(network.stored)
        assert len(attempt.cells[0].rows) == 5

    in_a_masked_network(tmp_path, story)


def test_nothing_is_kept_of_an_answer_that_is_not_by_the_cell_s_combiner(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network, closes=False)
        await start(network)
        await until(lambda: combiner.cells)
        (cell,) = combiner.cells.values()
        closed = await combiner.closed(cell)
        assert closed.closed is not None
        lie = (Exclusion(client_id(FIVE[0]), "Revoked: it never was"),)
        forged = sign(CellClosed.decode(closed.closed.body), world.OTHER_COMBINER)
        # The true one is taken only after the forged one has come.
        await combiner.say(closed)
        await combiner.say(replace(closed, closed=forged, excluded=lie))
        await network.at_rest()
        record = await the_round(network.stored)
        assert record.excluded == ()
        assert len(record.included) == 5

    in_a_masked_network(tmp_path, story)


def test_a_client_in_two_cells_is_in_the_sum_of_none_but_the_first(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        north, south = await two_combiners(network, closes=False)
        await start(network, clients_wanted=8, clients_required=3)
        await until(lambda: north.cells and south.cells)
        (here,), (there,) = north.cells.values(), south.cells.values()
        await north.say(await north.closed(here))
        both = [*there.uploads, world.an_upload(there.terms, there.committee, CLIENTS[0])]
        await south.say(await south.closed(there, both))
        await network.at_rest()
        record = await the_round(network.stored)
        assert {one.name for one in record.included} == {client.name for client in CLIENTS[:4]}
        assert record.masked is not None
        reasons = [cell.out for cell in record.masked.cells if cell.combiner == SOUTH]
        assert reasons[0].startswith("NotAssigned")  # it has a ticket for the north alone
        assert not south.words(Included)

    in_a_masked_network(tmp_path, story)


# ---- attempts that fail


async def failed_with_answers_missing(network: Network, combiner: MaskedCombiner) -> None:
    """Let the time for answers pass."""
    await until(lambda: isinstance(network.mailbox.state.work, Masked) and network.mailbox.state.work.answers_due)
    plan = network.mailbox.state.work.plan  # type: ignore[union-attr]
    await network.mailbox.deliver(AnswerDeadlinePassed(plan.session, plan.round_number, plan.attempt))


def test_the_key_is_gone_from_the_store_before_anybody_is_released(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network, mute={client.name for client in FIVE}, aborts=False)
        await start(network, retry_delay_s=100.0)
        seen: list[str] = []
        send_all = network.roster.send_all

        def spied(message: Any) -> None:
            if isinstance(message, WordForClients) and isinstance(message.word, Signed):
                documents = network.stored.documents._collections["rounds"].values()
                seen.extend(json.loads(one.text)["record"]["document"]["round_key"] for one in documents)
                assert all(at.round_secret is None for at in network.masked._attempts.all())  # type: ignore[union-attr]
            send_all(message)

        network.roster.send_all = spied  # type: ignore[method-assign]
        await failed_with_answers_missing(network, combiner)
        await network.reaches(Failed)
        await until(lambda: voids(combiner))
        assert seen == [""]
        assert voids(combiner) == {cell.committee.ctx for cell in combiner.cells.values()}

    in_a_masked_network(tmp_path, story)


def test_the_next_attempt_s_plan_carries_what_was_released(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network, mute={client.name for client in FIVE}, aborts=False)
        await start(network)
        await failed_with_answers_missing(network, combiner)
        await until(lambda: len(combiner.orders) == 2)
        combiner.mute.clear()
        await network.at_rest()
        second = combiner.orders[1]
        assert isinstance(second, CellOrder)
        assert second.masked is not None
        plan = Plan.decode(second.masked.plan.body)
        first = next(iter(combiner.cells.values()))
        proofs = Proofs()
        for void in plan.voids:
            proofs = proofs.with_void(void, world.REDUCERS)
        assert proofs.voids == {first.committee.ctx}
        assert (await the_round(network.stored)).status == "committed"

    in_a_masked_network(tmp_path, story)


def test_an_answer_that_comes_after_that_changes_nothing(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        mute = {client.name for client in FIVE}
        combiner = await a_masked_combiner(network, mute=mute, aborts=False)
        await start(network, retry_delay_s=100.0)
        await failed_with_answers_missing(network, combiner)
        await network.reaches(Failed)
        await network.settled()
        before = await the_round(network.stored)
        ctx = next(iter(combiner.cells))
        for member in combiner.members():
            await combiner.pass_on(member, combiner.answer(member, ctx))
            await combiner.pass_on(member, await combiner.send_stream(member, ctx))
        await network.settled()
        after = await the_round(network.stored)
        assert after == before
        assert not (await the_attempt(network.stored)).cells[0].answers
        with pytest.raises(Exception, match="changed by another reducer"):
            await network.masked._attempts.secret_of(network.masked._attempts.all()[0])  # type: ignore[union-attr]

    in_a_masked_network(tmp_path, story)


def test_members_are_asked_to_erase_their_keys_and_others_hear_that_they_did(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network, closes=False)
        await start(network, retry_delay_s=100.0)
        await until(lambda: combiner.cells)
        await combiner.say(CellFailed(combiner.orders[0].generation, "NoSumParticipant: slot 0 lost its members"))
        await network.reaches(Failed)
        await until(lambda: len(combiner.words(Abort.kind)) >= 2)
        wanted = [clients for clients, word in combiner.said if isinstance(word, AbortWanted)]
        assert set(wanted[0]) == {client_id(member) for member in combiner.members()}
        told = [clients for clients, word in combiner.said if isinstance(word, Signed) and word.said == Abort.kind]
        assert {len(clients) for clients in told} == {4}  # to everybody of the cell but who said it
        await network.settled()
        assert len((await the_attempt(network.stored)).cells[0].aborted) == 2

    in_a_masked_network(tmp_path, story)


STRICT = MaskedOptions(reopen="strict")


def test_who_comes_back_after_an_attempt_is_shown_every_abort_of_its_cell(tmp_path: Path) -> None:
    """Each of them was said once, while it may have been away, and without all of them it sits out."""

    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network, closes=False)
        await start(network, masked=STRICT)
        await until(lambda: combiner.cells)
        members = {client_id(member) for member in combiner.members()}
        outsider = next(client_id(client) for client in FIVE if client_id(client) not in members)
        await combiner.say(CellFailed(combiner.orders[0].generation, "NoSumParticipant: slot 0 lost its members"))
        await until(lambda: len(combiner.orders) == 2)  # all have aborted
        before = len(combiner.said)
        await combiner.attach(*members)
        await combiner.attach(*members, outsider)
        await network.settled()
        aborts = [(to, one) for to, one in combiner.said[before:] if isinstance(one, Signed) and one.said == Abort.kind]
        assert [to for to, _ in aborts] == [(outsider,)] * 2
        assert len({one.signer for _, one in aborts}) == 2

    in_a_masked_network(tmp_path, story)


def test_a_privacy_hold_names_who_is_missing_and_a_new_work_ends_it(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network, mute={client.name for client in FIVE}, aborts=False)
        session = await start(network, masked=STRICT)
        await failed_with_answers_missing(network, combiner)
        await network.reaches(Paused)
        await network.settled()
        view = await network.control.session(session.id)
        assert view.reason.startswith(PRIVACY_HOLD)
        for member in combiner.members():
            assert member.name in view.reason
        assert not voids(combiner)
        combiner.mute.clear()
        await network.control.resume_session(session.id, new_work=True)
        await network.at_rest()
        record = await the_round(network.stored)
        assert (record.status, record.plan.parameters) == ("committed", '{"seed": 2}')
        (kept,) = await Ledger(network.stored.documents, 0).find("sessions", SessionRecord)
        assert kept.terms.parameters == '{"seed": 2}'
        works = {one.terms.work for one in combiner.cells.values()}
        assert len(works) == 2

    in_a_masked_network(tmp_path, story)


def test_a_hold_is_known_after_a_restart_and_lifted_by_every_member_s_abort(tmp_path: Path) -> None:
    async def story() -> None:
        files, stored = OperatorFiles(tmp_path / "operator"), Stored()
        async with a_network(tmp_path, stored, operator=files) as network:
            first = await a_masked_combiner(network, mute={client.name for client in FIVE}, aborts=False)
            await start(network, masked=STRICT)
            await failed_with_answers_missing(network, first)
            await network.reaches(Paused)
            await network.settled()
        async with a_network(tmp_path, stored, operator=files) as network:
            again = await a_masked_combiner(network, cells=first.cells)  # asked anew as they attach, they abort
            await network.at_rest()
            assert len(again.words(AbortWanted)) >= 1
            assert (await the_round(stored)).status == "committed"

    asyncio.run(story())


# ---- replicas


TWELVE = tuple(world.a_client(f"client-{number}") for number in range(12))
REPLICATED = MaskedOptions(k=2, r=2, g_min=8)


async def replicated(network: Network, **changed: Any) -> MaskedCombiner:
    combiner = await a_masked_combiner(network, clients=TWELVE, **changed)
    await start(network, masked=REPLICATED, clients_wanted=12, clients_required=12)
    return combiner


def test_one_stream_of_each_slot_is_asked_for(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await replicated(network)
        await network.at_rest()
        asked = [clients for clients, word in combiner.said if isinstance(word, StreamWanted)]
        assert len(asked) == 2
        assert len(combiner.members()) == 4
        assert (await the_round(network.stored)).status == "committed"

    in_a_masked_network(tmp_path, story)


def test_nobody_waits_for_a_stream_that_has_come(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        await a_masked_combiner(network)
        await start(network)
        await network.at_rest()
        async with asyncio.timeout(STREAM_S / 2):
            await until(lambda: not network.mailbox._tasks)

    in_a_masked_network(tmp_path, story)


def test_a_stream_that_is_said_to_have_another_size_is_refused_by_name(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network)
        honest = combiner.send_stream

        async def lies(client: world.AClient, ctx: bytes) -> StreamSent:
            sent = await honest(client, ctx)
            combiner.send_stream = honest  # type: ignore[method-assign]
            return replace(sent, size=sent.size + 1)

        combiner.send_stream = lies  # type: ignore[method-assign]
        await start(network, retry_delay_s=100.0)
        while not any(one.kind == "word.refused" and "NoStream" in one.text for one in await network.told()):  # noqa: ASYNC110 - the log tells nobody
            await asyncio.sleep(0.001)

    in_a_masked_network(tmp_path, story)


def test_a_stream_that_is_not_what_its_answer_names_is_asked_of_another_replica(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await replicated(network, mute={client.name for client in TWELVE})
        await until(lambda: combiner.words(Included))
        combiner.mute.clear()
        ctx = next(iter(combiner.cells))
        members = combiner.members()
        broken = members[0]
        await combiner.pass_on(broken, combiner.answer(broken, ctx))
        stream = combiner.cells[ctx].streams[broken.id]
        combiner.cells[ctx].streams[broken.id] = b"x" * len(stream)
        for member in members[1:]:
            await combiner.pass_on(member, combiner.answer(member, ctx))
        await network.at_rest()
        record = await the_round(network.stored)
        assert record.status == "committed"
        assert any(event.kind == "word.refused" and "NoStream" in event.text for event in await network.told())

    in_a_masked_network(tmp_path, story)


def test_a_replica_that_answers_otherwise_is_named(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await replicated(network, mute={client.name for client in TWELVE})
        await until(lambda: combiner.words(Included))
        combiner.mute.clear()
        ctx = next(iter(combiner.cells))
        cell, (liar, *others) = combiner.cells[ctx], combiner.members()
        n_words = cell.terms.encoding.n_words
        wrong = np.arange(n_words, dtype=np.uint32)
        cell.answers[liar.id], cell.streams[liar.id] = world.an_answer(
            cell.terms, cell.committee, liar, cell.uploads, words=wrong
        )
        for member in (liar, *others):
            await combiner.pass_on(member, combiner.answer(member, ctx))
        await network.at_rest()
        assert (await the_round(network.stored)).status == "committed"
        told = [event for event in await network.told() if event.kind == "replica.disagrees"]
        assert [event.subject["client"] for event in told] == [liar.name]

    in_a_masked_network(tmp_path, story)


def test_a_replica_that_was_not_asked_for_its_stream_is_not_listened_to(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await replicated(network, mute={client.name for client in TWELVE})
        await until(lambda: combiner.words(Included))
        ctx = next(iter(combiner.cells))
        first, second, *_ = combiner.members()  # both of slot 0
        for member in (first, second):
            await combiner.pass_on(member, combiner.answer(member, ctx))
        await until(lambda: combiner.words(StreamWanted))
        await combiner.pass_on(second, await combiner.send_stream(second, ctx))
        await network.settled()
        assert not (await the_attempt(network.stored)).cells[0].streams
        assert any("WrongContext" in event.text for event in await network.told() if event.kind == "word.refused")

    in_a_masked_network(tmp_path, story)


def test_a_reveal_that_is_withheld_leaves_all_of_them_out_of_the_beacon(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network, clients=TWELVE, silent=True)
        await start(network, masked=REPLICATED, clients_wanted=12, clients_required=12, rounds=2)
        await until(lambda: combiner.orders)
        order = combiner.orders[0]
        assert isinstance(order, CellOrder)
        combiner.silent = False
        combiner.form(order)
        combiner.mute.add(combiner.members()[1].name)  # a replica of slot 0
        await combiner.begin(order)
        await network.at_rest()
        first, second = await network.stored.rounds()
        assert first.document is not None
        link = BeaconLink.decode(bytes_of(first.document.link))
        assert (len(link.rows), link.nonces) == (4, ())
        policy, mark = world.POLICY, world.MARK
        standing, known = Standing(world.chains(), policy, mark, world.NOW_S), None
        for said in combiner.orders:
            assert isinstance(said, CellOrder)
            assert said.masked is not None
            terms = said.masked
            believed = believe(terms.plan, terms.order, terms.certificate, standing, known=known, highest_session=None)
            known = believed.beacon
        assert second.status == "committed"

    in_a_masked_network(tmp_path, story)


def test_members_of_an_opened_cell_are_not_asked_to_abort(tmp_path: Path) -> None:
    """Its sum fails its check: a body of random words in the only cell."""

    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network, closes=False)
        await start(network)
        await until(lambda: combiner.cells)
        (cell,) = combiner.cells.values()
        cell.uploads[0].vector[:] = np.arange(len(cell.uploads[0].vector), dtype=np.uint32)
        await combiner.say(await combiner.closed(cell))
        await network.reaches(Paused)
        await network.settled()
        assert network.mailbox.state.work.reason.startswith(PRIVACY_HOLD)  # type: ignore[union-attr]
        assert not combiner.words(AbortWanted)
        assert not voids(combiner)
        record = await the_round(network.stored)
        assert record.masked is not None
        assert record.masked.cells[0].out.startswith("UnmaskCheckFailed")

    in_a_masked_network(tmp_path, story)


def test_a_round_that_is_committed_is_not_committed_with_another_model(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network)
        session = await start(network)
        await network.at_rest()
        masked = network.masked
        assert masked is not None
        (at,), (ctx,) = masked._attempts.all(), list(combiner.cells)
        stat = await network.stored.objects.stat(session.options.seed_model)
        with pytest.raises(CommittedElsewhere):
            await masked._commits._write(at, [ctx], MaskedModel(stat, 1, {}), Measured(), 1.0)

    in_a_masked_network(tmp_path, story)


# ---- words on their way


def test_echoes_go_to_the_other_members_and_only_members_are_heard(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await replicated(network, mute={client.name for client in TWELVE})
        await until(lambda: combiner.words(Included))
        ctx = next(iter(combiner.cells))
        one, *others = combiner.members()
        stranger = next(client for client in TWELVE if client not in (one, *others))
        await combiner.pass_on(stranger, sign(Echo(ctx, b"h" * 32), stranger.key))
        await combiner.pass_on(one, sign(Echo(ctx, b"h" * 32), one.key))
        await until(lambda: combiner.words(Echo.kind))
        (clients,) = [clients for clients, word in combiner.said if isinstance(word, Signed) and word.said == Echo.kind]
        assert set(clients) == {client_id(other) for other in others}
        assert any("WrongContext" in event.text for event in await network.told() if event.kind == "word.refused")

    in_a_masked_network(tmp_path, story)


def test_a_member_that_comes_back_anywhere_is_asked_again_in_the_same_words(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        north, south = await two_combiners(network, mute={client.name for client in CLIENTS})
        await start(network, clients_wanted=8, clients_required=3)
        await until(lambda: north.words(Included) and south.words(Included))
        member = north.members()[0]
        here = [client for client in north.clients if client is not member]
        await north.attach(*(client_id(client) for client in here))
        south.clients = [*south.clients, member]
        await south.assign(member)
        await south.attach(*(client_id(client) for client in south.clients))
        await until(lambda: len(south.words(Included)) == 2)
        assert south.words(Included)[1] == north.words(Included)[0]
        ctx = next(iter(north.cells))
        south.cells |= north.cells
        south.mute.clear()
        await south.pass_on(member, south.answer(member, ctx))
        await until(lambda: south.words(StreamWanted))
        north.mute.clear()
        for one in north.members()[1:]:
            await north.pass_on(one, north.answer(one, ctx))
        for one in world.members_of(next(iter(south.cells.values())).committee, CLIENTS):
            await south.pass_on(one, south.answer(one, next(iter(south.cells))))
        await network.at_rest()
        assert (await the_round(network.stored)).status == "committed"

    in_a_masked_network(tmp_path, story)


def test_a_stream_that_nobody_asked_for_is_refused_and_nothing_is_removed(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network, mute={client.name for client in FIVE})
        session = await start(network)
        await until(lambda: combiner.words(Included))
        ctx, model = next(iter(combiner.cells)), session.options.seed_model
        await combiner.pass_on(combiner.members()[0], StreamSent(ctx, bytes.fromhex(model), 10))
        await network.settled()
        assert model in network.stored.objects.contents
        assert any("WrongContext" in event.text for event in await network.told() if event.kind == "word.refused")

    in_a_masked_network(tmp_path, story)


def test_an_object_that_others_name_is_not_removed_with_an_attempt(tmp_path: Path) -> None:
    """A combiner that names the model as its masked sum does not get it removed."""

    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network, closes=False, mute={client.name for client in FIVE}, aborts=False)
        session = await start(network, retry_delay_s=100.0)
        await until(lambda: combiner.cells)
        (cell,) = combiner.cells.values()
        model = session.options.seed_model
        body = CellClosed(cell.committee.ctx, world.the_rows_of(cell.uploads), bytes.fromhex(model), ())
        said = MaskedPartial(cell.order.generation, sign(body, combiner.key), 5, (), MetricsSummary())
        await combiner.say(said)
        await failed_with_answers_missing(network, combiner)
        await network.reaches(Failed)
        await network.settled()
        await asyncio.sleep(0.01)
        assert model in network.stored.objects.contents

    in_a_masked_network(tmp_path, story)


def test_what_was_named_for_an_attempt_and_not_used_is_removed_with_it(tmp_path: Path) -> None:
    """The sum of a cell that was closed with too few clients, and a stream that is not what its answer names."""

    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network, closes=False)
        session = await start(network, retry_delay_s=100.0)
        await until(lambda: combiner.cells)
        (cell,) = combiner.cells.values()
        await combiner.say(await combiner.closed(cell, cell.uploads[:2]))
        await network.reaches(Failed)
        assert (await the_round(network.stored)).masked is not None
        kept = {session.options.package, session.options.seed_model}
        await until(lambda: network.stored.objects.contents.keys() == kept)

    in_a_masked_network(tmp_path, story)


def test_a_committee_that_clients_would_refuse_ends_the_cell(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network, silent=True)
        await start(network, retry_delay_s=100.0)
        await until(lambda: combiner.orders)
        order = combiner.orders[0]
        assert isinstance(order, CellOrder)
        cell = combiner.form(order)
        rows = cell.body.rows
        await combiner.say(CommitteeFormed(order.generation, replace(cell.body, rows=rows[::-1])))
        await network.reaches(Failed)
        await network.settled()
        assert "BadCommittee" in (await the_round(network.stored)).excluded[0].reason

    in_a_masked_network(tmp_path, story)


def test_members_must_be_of_the_cell(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network, silent=True)
        await start(network, retry_delay_s=100.0)
        await until(lambda: combiner.orders)
        order = combiner.orders[0]
        assert isinstance(order, CellOrder)
        cell = combiner.form(order)
        others = world.CommitteeBody(cell.terms.ctx0, world.the_rows(cell.terms, CLIENTS[5:]))
        await combiner.say(CommitteeFormed(order.generation, others))
        await network.reaches(Failed)
        await network.settled()
        assert "has no ticket for this cell" in (await the_round(network.stored)).excluded[0].reason

    in_a_masked_network(tmp_path, story)


def test_a_member_that_the_operator_has_revoked_ends_the_cell(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network, silent=True)
        await start(network, retry_delay_s=100.0)
        await until(lambda: combiner.orders)
        order = combiner.orders[0]
        assert isinstance(order, CellOrder)
        cell = combiner.form(order)
        revoked = world.a_policy(revoked_clients=(cell.committee.members[0].client.client_id,))
        network.credentials._policy = revoked  # type: ignore[union-attr]
        await combiner.say(CommitteeFormed(order.generation, cell.body))
        await network.reaches(Failed)
        await network.settled()
        assert "has revoked" in (await the_round(network.stored)).excluded[0].reason

    in_a_masked_network(tmp_path, story)


# ---- cells that are too small


def test_clients_of_a_small_cell_are_sent_to_another_combiner_and_not_back(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        north = await a_masked_combiner(network, clients=CLIENTS[:4])
        south = await a_masked_combiner(
            network, name=SOUTH, instance=SOUTH_1, key=world.OTHER_COMBINER, clients=CLIENTS[4:6]
        )
        await start(network, clients_wanted=6)
        await until(lambda: len([one for one in south.heard if isinstance(one, DismissClient)]) == 2)
        assert isinstance(network.mailbox.state.work, Gathering)
        assert "cell.too_small" in await network.kinds()
        moved, south.clients = south.clients, []
        await south.attach()
        north.clients = CLIENTS[:6]
        await north.assign(*moved)  # which names the south's place as preferred where it is the client's wish
        for client in moved:
            assert network.roster._clients[client_id(client)].combiner == NORTH
        await north.attach(*(client_id(client) for client in north.clients))
        await network.at_rest()
        record = await the_round(network.stored)
        assert len(record.included) == 6

    in_a_masked_network(tmp_path, story)


# ---- a session that cannot be


def test_a_reducer_without_an_operator_refuses_masked_sessions_by_name(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_network(tmp_path) as network:
            with pytest.raises(MaskingNotSetUp) as caught:
                await start(network)
            assert "fedn-py operator init" in caught.value.remedy
            assert await network.ledger.count("sessions") == 0

    asyncio.run(story())


@pytest.mark.parametrize(
    ("masked", "says"),
    [
        (MaskedOptions(clip=100.0), "clip 100.0 is not within"),
        (MaskedOptions(weight_cap=2_000_000, n_max=3), "weight_cap"),
        (MaskedOptions(k=2, r=8), "cannot"),
    ],
)
def test_what_the_policy_does_not_let_be_is_refused_at_the_start(
    tmp_path: Path, masked: MaskedOptions, says: str
) -> None:
    async def story(network: Network) -> None:
        if masked.r == 8:
            network.credentials._policy = world.a_policy(k_min=9)  # type: ignore[union-attr]
        with pytest.raises(BeyondPolicy, match=says):
            await start(network, masked=masked)
        assert await network.ledger.count("sessions") == 0

    in_a_masked_network(tmp_path, story)


def test_a_session_waits_for_as_many_clients_as_its_committees_have_slots_for(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        options = await network.options(masking="pet", masked=MaskedOptions(k=3, r=2))
        record = await network.sessions.begin(options)
        assert (record.terms.clients_required, record.terms.least_in_cell) == (5, 5)

    in_a_masked_network(tmp_path, story)


def test_a_new_work_has_no_seed_of_another_session(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        first = await network.sessions.begin(await network.options(masking="pet"))
        await network.sessions.forsake(first.terms.session, "the test says so")
        second = await network.sessions.begin(await network.options(masking="pet"))
        assert json.loads(first.terms.parameters)["seed"] == 1
        assert json.loads(with_next_seed(first.terms.parameters))["seed"] == 2
        assert json.loads(second.terms.parameters)["seed"] > 2

    in_a_masked_network(tmp_path, story)


def test_clear_validation_is_ordered_only_where_metrics_may_be_seen_by_client(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        record = await network.sessions.begin(await network.options(masking="pet"))
        assert not record.terms.validate
        assert (record.terms.clients_required, record.terms.least_in_cell) == (3, 3)

    (tmp_path / "sum").mkdir()
    in_a_masked_network(tmp_path / "sum", story)

    async def open_story(network: Network) -> None:
        assert (await network.sessions.begin(await network.options(masking="pet"))).terms.validate

    (tmp_path / "client").mkdir()
    in_a_masked_network(tmp_path / "client", open_story, world.a_policy(metrics="client"))


@pytest.mark.parametrize(("clients", "told"), [(2, "no metrics"), (3, "accuracy 0.5000")])
def test_the_mean_of_a_validation_by_too_few_is_shown_nowhere(tmp_path: Path, clients: int, told: str) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network)
        session = (await start(network)).id
        await until(lambda: any(isinstance(message, ValidationOrder) for message in combiner.heard))
        (order,) = [message for message in combiner.heard if isinstance(message, ValidationOrder)]
        measured = MetricsSummary({"accuracy": 10.0}, {"accuracy": 20}, {}, {"accuracy": clients})
        await combiner.say(ValidationReport(order.generation, clients, 20, measured, ()))
        await network.at_rest()
        (event,) = [event.text for event in await network.told() if event.kind == "round.validated"]
        assert event.endswith(told)
        shown = {"accuracy": 0.5} if clients == 3 else {}
        assert (await network.control.round(session, 1)).metrics == shown
        (model,) = (await network.control.models(session)).items
        assert (model.metrics, set(model.metrics_hidden)) == (shown, {"accuracy"} - set(shown))
        (view,) = (await network.control.validations(session)).items
        assert [metric.mean for metric in view.metrics] == [shown.get("accuracy")]

    in_a_masked_network(tmp_path, story, world.a_policy(metrics="client"))


# ---- policies that change


def test_a_plan_that_is_refused_by_a_new_policy_fails_the_attempt_by_that_name(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network, silent=True)
        await start(network, retry_delay_s=0.0, max_attempts=2)
        await until(lambda: combiner.orders)
        assert network.operator is not None
        network.operator.publish(world.a_policy(version=4, g_min=6))
        await combiner.say(CellFailed(combiner.orders[0].generation, "CellFailed: it did"))
        await network.reaches(Paused)
        assert "CellTooSmall: a cell of 5 clients hides nobody: 6 are needed" in network.mailbox.state.work.reason  # type: ignore[union-attr]
        await until(lambda: [one for one in combiner.heard if isinstance(one, PolicyNews)][1:])
        assert [one.policy for one in combiner.heard if isinstance(one, PolicyNews)][-1].body != world.POLICY.encode()

    in_a_masked_network(tmp_path, story)


def test_whom_a_new_policy_revokes_is_dismissed_and_in_no_attempt(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network, silent=True)
        await start(network, clients_required=4)
        await until(lambda: combiner.orders)
        assert network.operator is not None
        network.operator.publish(world.a_policy(version=4, revoked_clients=(FIVE[0].id,)))
        await combiner.say(CellFailed(combiner.orders[0].generation, "CellFailed: it did"))
        await until(lambda: [one for one in combiner.heard if isinstance(one, DismissClient)])
        (dismissed,) = [one for one in combiner.heard if isinstance(one, DismissClient)]
        assert (dismissed.client, dismissed.reason.split(":")[0]) == (client_id(FIVE[0]), "Revoked")
        await until(lambda: len(combiner.orders) >= 2)

    in_a_masked_network(tmp_path, story)
