"""A sum participant: what is on disk before it speaks, what dies with its process, and what it says again."""

import asyncio
import contextlib
import shutil
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import masked_world as world
import pytest
import structlog
from masked_site import (
    FakeCombiner,
    Site,
    a_committee_with,
    a_history,
    a_masked_plan,
    a_task,
    an_order,
    checked,
    offer_of,
    policy_news,
    recorded,
    running,
    terms_of,
)
from masked_world import CLIENTS, REDUCER, REPLICATED, AnUpload, an_upload

from fedn_py.client import answer_sealing, seats
from fedn_py.client.masked_memory import MemoryUnwritable
from fedn_py.client.secret_bytes import SeatKeys
from fedn_py.protocol.masked.certificates import Policy
from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import included_hash
from fedn_py.protocol.masked.differencing import PromiseRecord
from fedn_py.protocol.masked.round_messages import (
    Abort,
    Answer,
    BoxAck,
    Echo,
    Included,
    KeyMessage,
    NotOpened,
)
from fedn_py.protocol.masked.signing import read_signed, sign
from fedn_py.protocol.masked.words import AbortWanted, Boxes, KeyOffer, StreamSent, StreamWanted
from fedn_py.protocol.messages import RoundCommitted, TrainTask

UPLOADERS = CLIENTS[1:5]


def told(story: Callable[[Site], Awaitable[None]], path: Path, **running_with: Any) -> None:
    """Tell a story about one client."""

    async def main() -> None:
        async with running(path, **running_with) as site:
            await story(site)

    asyncio.run(main())


def replicated(attempt: int = 1, **plan: Any) -> TrainTask:
    made = a_masked_plan(attempt=attempt, **plan)
    return a_task(made, an_order(made, generation=attempt, **REPLICATED))


def the_uploads(task: TrainTask, committee: Committee, who: Sequence[world.AClient] = UPLOADERS) -> list[AnUpload]:
    return [an_upload(terms_of(task), committee, client) for client in who]


def boxes_of(uploads: Sequence[AnUpload], committee: Committee) -> Boxes:
    seat = committee.member(CLIENTS[0].id)
    replica = 0 if seat is None else seat.replica
    return Boxes(committee.ctx, tuple(upload.box_for(0, replica) for upload in uploads))


async def opened(site: Site, task: TrainTask) -> tuple[Committee, list[AnUpload]]:
    """Seat a client, and give it boxes that it accepts."""
    committee = await site.seated(task)
    uploads = the_uploads(task, committee)
    site.hear_words(boxes_of(uploads, committee))
    await site.settled()
    return committee, uploads


async def said(site: Site, kind: str, count: int = 1) -> None:
    await site.combiner.until(lambda: len(site.combiner.signed(kind)) >= count)


def echoes(committee: Committee, uploads: Sequence[AnUpload], count: int) -> list[Any]:
    """The echoes of other members."""
    echo = Echo(committee.ctx, included_hash(committee.ctx, world.the_rows_of(uploads)))
    others = [one for one in world.members_of(committee) if one is not CLIENTS[0]]
    return [sign(echo, one.key) for one in others[:count]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[SeatKeys]:
    """All keys that a client draws for seats, with what they were."""
    made: list[SeatKeys] = []

    def noted() -> SeatKeys:
        keys = SeatKeys()
        made.append(keys)
        return keys

    monkeypatch.setattr(seats, "SeatKeys", noted)
    return made


def erased(keys: SeatKeys) -> bool:
    return not any(keys.esk) and not any(keys.nonce) and not keys.seeds


# ---- offers


def test_a_key_is_offered_for_each_slot_drawn_and_that_it_was_is_on_disk_first(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        with recorded(site) as record:
            offer = await site.offered(a_task())
            assert record.index("save_membership") < record.index("say KeyOffer")
        keys = [read_signed(key, KeyMessage, signer=bytes(site.client.key.verify_key)) for key in offer.keys]
        assert sorted(key.slot for key in keys) == [0, 1]
        assert len({key.epk for key in keys}) == len({key.nonce_commit for key in keys}) == 2

    told(story, tmp_path / "anna")


def test_who_is_not_drawn_says_so_with_no_key(tmp_path: Path) -> None:
    plan = a_masked_plan()
    task = a_task(plan, an_order(plan, n_draw=2**32 - 1))

    async def story(site: Site) -> None:
        assert (await site.offered(task)).keys == ()
        assert site.folder.memory.memberships() == frozenset()

    told(story, tmp_path / "anna")


def test_the_same_offer_is_said_again_by_the_life_that_made_it_and_none_by_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        combiner, task = FakeCombiner(), a_task()
        async with running(tmp_path / "anna", combiner=combiner) as site:
            first = await site.offered(task)
            assert await site.offered(task) == first
            site.hearing.detached()
            site.hearing.attached()
            await site.settled()
            assert combiner.words(KeyOffer) == [first] * 3
        async with running(tmp_path / "anna", combiner=combiner) as site:
            assert (await site.offered(task)).keys == ()
            plan = a_masked_plan(attempt=2)
            assert len((await site.offered(a_task(plan, an_order(plan, generation=2)))).keys) == 2

    asyncio.run(main())


def test_keys_that_were_not_seated_are_erased(tmp_path: Path, drawn: list[SeatKeys]) -> None:
    async def story(site: Site) -> None:
        await site.seated(a_task())
        assert [erased(keys) for keys in drawn].count(True) == 1
        plan = a_masked_plan(attempt=2)
        await site.formed(a_task(plan, an_order(plan, generation=2)))
        assert [erased(keys) for keys in drawn[2:]] == [True, True]

    told(story, tmp_path / "anna")


def test_a_seat_with_a_key_that_was_not_offered_is_refused_and_nothing_is_sealed(
    tmp_path: Path, drawn: list[SeatKeys]
) -> None:
    async def story(site: Site) -> None:
        task = a_task()
        await site.offered(task)
        forged = offer_of(task, CLIENTS[0], 0)  # signed by this client's key, as an earlier life of it may have
        site.hear_words(a_committee_with(task, forged))
        await site.settled()
        assert [one.reason.partition(":")[0] for one in site.combiner.failures] == ["BadCommittee"]
        while not all(erased(keys) for keys in drawn):  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)

    told(story, tmp_path / "anna")


# ---- boxes


def test_boxes_are_acknowledged_together_and_a_bad_one_names_its_client_alone(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        task = a_task()
        committee = await site.seated(task)
        uploads = the_uploads(task, committee)
        good = boxes_of(uploads[1:], committee).boxes
        bad = replace(uploads[0].box_for(0, 0), box=bytes(96))
        site.hear_words(Boxes(committee.ctx, (bad, *good)))
        await site.settled()
        (ack,) = [read_signed(one, BoxAck) for one in site.combiner.signed(BoxAck.kind)]
        assert set(ack.accepted) == {upload.row for upload in uploads[1:]}
        assert [one.client_id for one in ack.rejected] == [uploads[0].client.id]

        # the client masks anew; its box and its earlier one in one word are answered one after the other
        again = an_upload(terms_of(task), committee, uploads[0].client, upload=1)
        site.hear_words(Boxes(committee.ctx, (bad, again.box_for(0, 0))))
        await site.settled()
        last = [read_signed(one, BoxAck) for one in site.combiner.signed(BoxAck.kind)][-2:]
        assert [(len(one.accepted), len(one.rejected)) for one in last] == [(0, 1), (1, 0)]

    told(story, tmp_path / "anna")


def test_boxes_for_a_cell_that_it_does_not_serve_are_passed_over(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        task = a_task()
        committee = await site.formed(task)
        site.hear_words(boxes_of(the_uploads(task, committee), committee), Boxes(b"x" * 32, ()))
        await site.settled()
        assert site.combiner.signed(BoxAck.kind) == []

    told(story, tmp_path / "anna")


# ---- promises


def test_a_promise_is_on_disk_before_it_is_said_and_the_answer_before_it_is_given(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        task = replicated()
        committee, uploads = await opened(site, task)
        with recorded(site) as record:
            site.hear_words(world.included(committee, uploads))
            await said(site, Echo.kind)
            site.hear_words(*echoes(committee, uploads, 4))
            await said(site, Answer.kind)
        order = [record.index(step) for step in ("save_promise", "say echo", "save_answer", "say answer")]
        assert order == sorted(order)
        (row,) = site.folder.memory.answers()
        assert (site.files / "masked" / row.file_name).stat().st_size == row.size
        assert row.answer == site.combiner.signed(Answer.kind)[0]

    told(story, tmp_path / "anna")


def test_a_promise_that_cannot_be_written_is_not_said_and_ends_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving, go_on = threading.Event(), threading.Event()

    def full(_: PromiseRecord) -> None:
        saving.set()
        go_on.wait(20)
        raise MemoryUnwritable("the disk is full")

    async def story(site: Site) -> None:
        committee, uploads = await opened(site, replicated())
        monkeypatch.setattr(site.folder.memory, "save_promise", full)
        site.hear_words(world.included(committee, uploads))
        await asyncio.to_thread(saving.wait, 20)
        site.side.say_again()  # waits behind the promise
        go_on.set()
        assert isinstance(await site.ended(), MemoryUnwritable)
        assert isinstance(await site.ended(), MemoryUnwritable)  # what hears ends too
        assert site.combiner.signed(Echo.kind) == []

    told(story, tmp_path / "anna")


def test_an_echo_that_is_said_again_waits_for_its_promise_to_be_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(site: Site) -> None:
        saving, go_on, save = threading.Event(), threading.Event(), site.folder.memory.save_promise

        def slowly(record: PromiseRecord) -> None:
            saving.set()
            go_on.wait(20)
            save(record)

        committee, uploads = await opened(site, replicated())
        monkeypatch.setattr(site.folder.memory, "save_promise", slowly)
        site.hear_words(world.included(committee, uploads))
        await asyncio.to_thread(saving.wait, 20)
        site.side.say_again()
        await asyncio.sleep(0.05)
        assert site.combiner.signed(Echo.kind) == []
        go_on.set()
        await said(site, Echo.kind, 2)
        first, second = site.combiner.signed(Echo.kind)
        assert first == second

    told(story, tmp_path / "anna")


@pytest.mark.parametrize(("heard", "answers"), [(3, False), (4, True)])
def test_where_members_share_seeds_it_answers_when_five_of_six_have_said_the_same(
    tmp_path: Path, heard: int, answers: bool
) -> None:
    async def story(site: Site) -> None:
        committee, uploads = await opened(site, replicated())
        site.hear_words(world.included(committee, uploads), *echoes(committee, uploads, heard))
        await said(site, Echo.kind)
        await site.settled()
        if answers:
            await said(site, Answer.kind)
        else:
            await asyncio.sleep(0.1)
            assert site.combiner.signed(Answer.kind) == []

    told(story, tmp_path / "anna")


def test_another_set_is_refused_and_so_is_one_with_a_client_whose_box_was_not_seen(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        committee, uploads = await opened(site, a_task())
        unseen = the_uploads(a_task(), committee, CLIENTS[5:6])
        site.hear_words(world.included(committee, [*uploads, *unseen]))
        await site.settled()
        assert site.folder.memory.member().promised == ()
        site.hear_words(world.included(committee, uploads))
        await said(site, Answer.kind)
        site.hear_words(world.included(committee, uploads[:3]))
        await site.settled()
        assert len(site.combiner.signed(Answer.kind)) == 1
        (promise,) = site.folder.memory.member().promised
        assert promise.included_hash == included_hash(committee.ctx, world.the_rows_of(uploads))

    told(story, tmp_path / "anna")


def test_a_box_that_comes_with_the_set_itself_is_opened_first(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        task = a_task()
        committee, uploads = await opened(site, task)
        late = the_uploads(task, committee, CLIENTS[5:6])
        asked = world.included(committee, [*uploads, *late])
        site.hear_words(replace(asked, boxes=tuple(one.box_for(0, 0) for one in (*uploads, *late))))
        await said(site, Answer.kind)
        assert len(site.combiner.signed(BoxAck.kind)) == 2

    told(story, tmp_path / "anna")


def test_of_two_sets_of_one_work_that_share_a_client_one_is_promised_though_both_are_asked_for_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(site: Site) -> None:
        first, second = a_task(), a_task(a_masked_plan(attempt=2))
        one, two = await opened(site, first), await opened(site, second)
        save = site.folder.memory.save_promise

        def slowly(record: PromiseRecord) -> None:
            threading.Event().wait(0.2)
            save(record)

        monkeypatch.setattr(site.folder.memory, "save_promise", slowly)
        asked = [world.included(*cell) for cell in (one, two)]
        results = await asyncio.gather(*(site.side.take_word(included) for included in asked), return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["DifferencingRefused", "NoneType"]
        assert len(site.folder.memory.member().promised) == 1

    told(story, tmp_path / "anna")


def test_a_cell_that_the_reducer_never_opened_frees_its_clients_for_another_set(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        committee, uploads = await opened(site, a_task())
        site.hear_words(world.included(committee, uploads))
        await said(site, Answer.kind)
        again = await opened(site, a_task(a_masked_plan(attempt=2)))
        site.hear_words(world.included(*again))
        await site.settled()
        assert len(site.folder.memory.member().promised) == 1
        site.hear_words(sign(NotOpened(committee.ctx, "ended"), REDUCER), world.included(*again))
        await said(site, Answer.kind, 2)
        assert [row.ctx for row in site.folder.memory.answers()] == [again[0].ctx]  # nobody can open the other

    told(story, tmp_path / "anna")


# ---- erased


def test_keys_and_seeds_are_erased_when_the_answer_is_given_and_are_never_on_disk(
    tmp_path: Path, drawn: list[SeatKeys]
) -> None:
    async def story(site: Site) -> None:
        committee, uploads = await opened(site, a_task())
        secrets = [bytes(keys.esk) for keys in drawn] + [world.seeds_of(one.client, 2)[0] for one in uploads]
        seated = next(keys for keys in drawn if not erased(keys))
        assert len(seated.seeds) == len(uploads)
        nonce, held = bytes(seated.nonce), [seed for _, seed in seated.seeds.values()]
        on_disk = lambda: b"".join(file.read_bytes() for file in site.files.rglob("*") if file.is_file())  # noqa: E731
        assert nonce not in on_disk()
        site.hear_words(world.included(committee, uploads))
        await said(site, Answer.kind)
        await site.settled()
        assert all(erased(keys) for keys in drawn)
        assert not any(any(seed) for seed in held)
        assert not [secret for secret in secrets if any(secret) and secret in on_disk()]
        plain = world.slot_sum(terms_of(a_task()), committee, CLIENTS[1], uploads)
        assert plain.tobytes()[:32] not in on_disk()

    told(story, tmp_path / "anna")


def test_a_cell_is_given_up_only_by_who_has_promised_nothing_and_its_keys_go_first(
    tmp_path: Path, drawn: list[SeatKeys]
) -> None:
    async def story(site: Site) -> None:
        committee, uploads = await opened(site, a_task())
        with recorded(site) as record:
            site.hear_words(AbortWanted(committee.ctx, "too few updates"))
            await said(site, Abort.kind)
            assert record.index("save_abort") < record.index("say abort")
        assert all(erased(keys) for keys in drawn)
        (abort,) = site.combiner.signed(Abort.kind)
        assert read_signed(abort, Abort) == Abort(committee.ctx, "too few updates")
        site.hear_words(world.included(committee, uploads))
        await site.settled()
        assert site.folder.memory.member().promised == ()

        second, uploads = await opened(site, a_task(a_masked_plan(attempt=2)))
        site.hear_words(world.included(second, uploads))
        await said(site, Answer.kind)
        site.hear_words(AbortWanted(second.ctx, "please"))
        await site.settled()
        assert len(site.combiner.signed(Abort.kind)) == 1

    told(story, tmp_path / "anna")


def test_what_was_given_up_before_a_restart_is_said_again(tmp_path: Path) -> None:
    async def main() -> None:
        first, second = FakeCombiner(), FakeCombiner()
        async with running(tmp_path / "anna", combiner=first) as site:
            committee, _ = await opened(site, a_task())
            site.hear_words(AbortWanted(committee.ctx, "too few updates"))
            await said(site, Abort.kind)
        async with running(tmp_path / "anna", combiner=second) as site:
            site.hear_words(AbortWanted(committee.ctx, "too few updates"))
            await said(site, Abort.kind)
        assert second.signed(Abort.kind) == first.signed(Abort.kind)

    asyncio.run(main())


def test_its_own_abort_counts_for_its_own_upload_too(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        task = a_task(a_masked_plan(reopen="strict"))
        committee = await site.seated(task)
        await site.send(task)
        site.hear_words(AbortWanted(committee.ctx, "given up"))
        await said(site, Abort.kind)
        others = [one for one in world.members_of(committee) if one is not CLIENTS[0]]
        site.hear_words(*(sign(Abort(committee.ctx, "given up"), one.key) for one in others))
        await site.offered(a_task(a_masked_plan(reopen="strict", attempt=2)))

    told(story, tmp_path / "anna")


def test_keys_do_not_outlive_their_attempt(
    tmp_path: Path, drawn: list[SeatKeys], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seats, "MARGIN_S", 0.0)
    task = a_task(a_masked_plan(sum_ms=1, update_ms=300, sum2_ms=1))

    async def story(site: Site) -> None:
        committee = await site.seated(task)
        assert not all(erased(keys) for keys in drawn)
        while not all(erased(keys) for keys in drawn):  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)
        site.hear_words(boxes_of(the_uploads(task, committee), committee), AbortWanted(committee.ctx, "late"))
        await site.settled()
        assert site.combiner.signed(BoxAck.kind) == site.combiner.signed(Abort.kind) == []

    told(story, tmp_path / "anna")


def test_a_quorum_that_does_not_come_ends_in_silence_without_the_keys(tmp_path: Path, drawn: list[SeatKeys]) -> None:
    async def story(site: Site) -> None:
        committee, uploads = await opened(site, replicated(sum2_ms=50))
        site.hear_words(world.included(committee, uploads))
        await said(site, Echo.kind)
        while not all(erased(keys) for keys in drawn):  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)
        site.hear_words(*echoes(committee, uploads, 5))
        await site.settled()
        assert site.combiner.signed(Answer.kind) == []

    told(story, tmp_path / "anna")


def test_a_committed_round_ends_its_seats_and_lets_its_answers_go(tmp_path: Path, drawn: list[SeatKeys]) -> None:
    async def story(site: Site) -> None:
        task = a_task()
        await opened(site, task)
        site.hear(RoundCommitted(task.plan.session, 1, task.plan.base_model))
        await site.settled()
        assert all(erased(keys) for keys in drawn)

    told(story, tmp_path / "anna")


def test_a_plan_of_the_next_round_shows_that_the_one_before_is_committed(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        links, plan_of = a_history(1)
        await answered(site, a_task())
        assert len(site.folder.memory.answers()) == 1
        await site.offered(a_task(plan_of(2), an_order(plan_of(2), generation=2)))
        assert site.folder.memory.answers() == ()
        assert len(site.folder.memory.member().promised) == 1
        assert links

    told(story, tmp_path / "anna")


# ---- started again


async def answered(site: Site, task: TrainTask) -> tuple[Committee, list[AnUpload]]:
    committee, uploads = await opened(site, task)
    site.hear_words(world.included(committee, uploads))
    if terms_of(task).order.r > 1:
        site.hear_words(*echoes(committee, uploads, 5))
    await said(site, Answer.kind)
    return committee, uploads


@pytest.mark.parametrize("task", [a_task(), replicated()], ids=["k2r1", "k3r2"])
def test_a_stored_answer_is_given_again_byte_by_byte_after_a_restart(tmp_path: Path, task: TrainTask) -> None:
    async def main() -> None:
        first, second = FakeCombiner(), FakeCombiner()
        async with running(tmp_path / "anna", combiner=first) as site:
            committee, uploads = await answered(site, task)
            site.hear_words(StreamWanted(committee.ctx))
            await first.until(lambda: bool(first.words(StreamSent)))
        async with running(tmp_path / "anna", combiner=second) as site:
            await said(site, Answer.kind)  # without being asked
            site.hear_words(StreamWanted(committee.ctx))
            await second.until(lambda: bool(second.words(StreamSent)))
            assert set(second.signed(Answer.kind)) == set(first.signed(Answer.kind))
            assert second.words(StreamSent) == first.words(StreamSent)
            assert second.objects == first.objects
            before = len(second.signed(Answer.kind))
            site.hear_words(world.included(committee, uploads))
            await said(site, Answer.kind, before + 1)
            site.hear_words(world.included(committee, uploads[:3]), AbortWanted(committee.ctx, "please"))
            await site.settled()
            assert len(second.signed(Answer.kind)) == before + 1
            assert second.signed(Abort.kind) == []

    asyncio.run(main())


def test_a_folder_that_was_set_back_to_before_the_answer_stays_silent(tmp_path: Path) -> None:
    async def main() -> None:
        first, second = FakeCombiner(), FakeCombiner()
        async with running(tmp_path / "anna", combiner=first) as site:
            committee, uploads = await opened(site, a_task())
            shutil.copytree(tmp_path / "anna", tmp_path / "copy")
            site.hear_words(world.included(committee, uploads))
            await said(site, Answer.kind)
        async with running(tmp_path / "copy", combiner=second) as site:
            assert (await site.offered(a_task())).keys == ()
            site.hear_words(
                a_committee_with(a_task(), None),
                boxes_of(uploads[:3], committee),
                world.included(committee, uploads[:3]),
                AbortWanted(committee.ctx, "please"),
                StreamWanted(committee.ctx),
            )
            await site.settled()
            assert [one for one in second.record if one not in {"say KeyOffer", "say TaskFailed"}] == []

    asyncio.run(main())


def test_a_promise_without_an_answer_is_said_again_after_a_restart_and_nothing_more(tmp_path: Path) -> None:
    async def main() -> None:
        first, second = FakeCombiner(), FakeCombiner()
        task = replicated()
        async with running(tmp_path / "anna", combiner=first) as site:
            committee, uploads = await opened(site, task)
            site.hear_words(world.included(committee, uploads))
            await said(site, Echo.kind)
        async with running(tmp_path / "anna", combiner=second) as site:
            site.hear_words(world.included(committee, uploads[:3]), *echoes(committee, uploads, 5))
            await said(site, Echo.kind)
            await site.settled()
            assert second.signed(Echo.kind) == first.signed(Echo.kind)
            assert second.signed(Answer.kind) == []

    asyncio.run(main())


def test_echoes_and_answers_are_said_again_when_the_connection_is_back(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        committee, uploads = await opened(site, replicated())
        site.hear_words(world.included(committee, uploads))
        await said(site, Echo.kind)
        site.hearing.attached()
        await said(site, Echo.kind, 2)
        site.hear_words(*echoes(committee, uploads, 4))
        await said(site, Answer.kind)
        site.hearing.attached()
        await said(site, Answer.kind, 2)
        one, two = site.combiner.signed(Answer.kind)
        assert one == two

    told(story, tmp_path / "anna")


def test_an_answer_whose_disk_is_full_is_not_given_and_its_keys_are_erased(
    tmp_path: Path, drawn: list[SeatKeys], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def full(_: Path) -> Any:
        raise OSError(28, "No space left on device")
        yield

    monkeypatch.setattr(answer_sealing, "durable", full)

    async def story(site: Site) -> None:
        committee, uploads = await opened(site, a_task())
        site.hear_words(world.included(committee, uploads))
        while not all(erased(keys) for keys in drawn):  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)
        assert site.combiner.signed(Answer.kind) == []

    told(story, tmp_path / "anna")


# ---- what is of no cell at hand


def test_a_word_of_no_cell_at_hand_is_passed_over_by_name(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        task = a_task(a_masked_plan(), an_order(a_masked_plan()))
        await site.seated(task)
        elsewhere = world.bytes_of("another ctx")
        other = an_upload(terms_of(task), world.a_committee(terms_of(task)), UPLOADERS[0])
        words = [
            Boxes(elsewhere, ()),
            StreamWanted(elsewhere),
            AbortWanted(elsewhere, "given up"),
            replace(a_committee_with(task, None), ctx0=elsewhere),
            sign(Echo(elsewhere, world.bytes_of("a set")), UPLOADERS[0].key),
            Included(world.an_opening(elsewhere, (other.row,)), (other.row,)),
        ]
        with structlog.testing.capture_logs() as log:
            site.hear_words(*words)
            await site.settled()
        assert [one["fault"] for one in log if one["event"] == "passed over"] == ["NotAtHand"] * len(words)
        assert site.combiner.said[1:] == []  # behind its offer

    told(story, tmp_path / "client")


# ---- clients that the operator has withdrawn


def withdrawn(client: world.AClient, how: str) -> dict[str, Any]:
    return {"revoked_tokens": (client.registered.token_id,)} if how == "token" else {"revoked_clients": (client.id,)}


def under(policy: Policy) -> TrainTask:
    plan = a_masked_plan(policy_hash=world.policy_hash(policy.encode()))
    return a_task(plan, an_order(plan))


@pytest.mark.parametrize("how", ["token", "client", "expired"])
def test_the_box_of_a_client_that_was_withdrawn_or_has_ended_is_refused_by_name(tmp_path: Path, how: str) -> None:
    client = world.a_client("gone", not_after=world.NOW_S - (2 if how == "expired" else -2) * world.DAY_S)
    policy = world.a_policy(version=9, **({} if how == "expired" else withdrawn(client, how)))

    async def story(site: Site) -> None:
        task = under(policy)
        offer = await site.offered(task)
        body = a_committee_with(task, offer)
        site.hear_words(body)
        await site.settled()
        committee = checked(task, body, policy)
        uploads = the_uploads(task, committee, [*UPLOADERS[1:], client])
        site.hear_words(boxes_of(uploads, committee))
        await site.settled()
        (ack,) = [BoxAck.decode(one.body) for one in site.combiner.signed(BoxAck.kind)]
        assert {row.client_id for row in ack.accepted} == {one.id for one in UPLOADERS[1:]}
        ((refused,),) = (ack.rejected,)
        assert refused.client_id == client.id
        assert refused.reason.startswith("Expired: " if how == "expired" else "Revoked: ")
        site.hear_words(world.included(committee, uploads))
        await site.settled()
        assert site.folder.memory.member().promised == ()
        assert site.combiner.signed(Answer.kind) == []

    told(story, tmp_path / "anna", policy=policy)


@pytest.mark.parametrize("how", ["token", "client"])
def test_a_set_is_looked_at_under_a_policy_that_came_after_its_boxes(tmp_path: Path, how: str) -> None:
    async def story(site: Site) -> None:
        task = a_task()
        committee, uploads = await opened(site, task)
        site.hear(policy_news(world.a_policy(version=9, **withdrawn(UPLOADERS[0], how))))
        with structlog.testing.capture_logs() as logs:
            site.hear_words(world.included(committee, uploads))
            await site.settled()
        assert [one["fault"] for one in logs if one["event"] == "refused"] == ["Revoked"]
        assert site.folder.memory.member().promised == ()
        site.hear_words(world.included(committee, uploads[1:]))  # without it, the set is as good as any
        await said(site, Answer.kind)

    told(story, tmp_path / "anna")


def test_a_set_is_looked_at_by_the_clock_of_when_it_is_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = world.a_client("soon gone", not_after=world.NOW_S - world.DAY_S // 2)

    async def story(site: Site) -> None:
        task = a_task()
        committee = await site.seated(task)
        uploads = the_uploads(task, committee, [*UPLOADERS[1:], client])
        site.hear_words(boxes_of(uploads, committee))
        await site.settled()  # within the day's grace
        monkeypatch.setattr(world, "NOW_S", world.NOW_S + world.DAY_S)
        with structlog.testing.capture_logs() as logs:
            site.hear_words(world.included(committee, uploads))
            await site.settled()
        assert [one["fault"] for one in logs if one["event"] == "refused"] == ["Expired"]
        assert site.folder.memory.member().promised == ()

    told(story, tmp_path / "anna")


def test_a_signed_word_of_no_kind_that_is_known_is_refused_by_name(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        with structlog.testing.capture_logs() as log:
            site.hear_words(replace(sign(Echo(b"c" * 32, b"s" * 32), REDUCER), said="oath"))
            await site.settled()
        assert [one["fault"] for one in log if one["event"] == "refused"] == ["MalformedMessage"]

    told(story, tmp_path / "client")
