"""An update participant: what is on disk before it sends, and what it never sends."""

import asyncio
import shutil
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import masked_world as world
import numpy as np
import pytest
from masked_site import (
    FakeCombiner,
    Site,
    a_committee_with,
    a_masked_plan,
    a_task,
    an_order,
    checked,
    policy_news,
    recorded,
    running,
    terms_of,
    update_values,
)
from masked_world import CLIENTS, REDUCER

from fedn_py.client import participant_work
from fedn_py.client.masked_memory import MemoryUnwritable
from fedn_py.client.secret_bytes import DrawnForUpload
from fedn_py.client.update_sealing import PlainUpdate
from fedn_py.identity import Generation, SessionId
from fedn_py.protocol.client import Piece, Tasked, UpdateAnswered, UpdateGone, UpdateKept, UpdateWithheld, UploadBroken
from fedn_py.protocol.masked.round_messages import Abort, CommitteeBody, NotOpened
from fedn_py.protocol.masked.signing import sign
from fedn_py.protocol.masked.words import KeyOffer
from fedn_py.protocol.messages import RoundCommitted, TaskFailed, TrainTask, UpdateReceipt
from fedn_py.transport.status import PeerUnreachable

BAD_BOX = UpdateReceipt(accepted=False, reason="BadBox at member 0.0: the box does not open")
LATE = UpdateReceipt(accepted=False, reason="Late: the cell is closed")


def second_attempt(**changed: Any) -> TrainTask:
    plan = a_masked_plan(attempt=2, **changed)
    return a_task(plan, an_order(plan, generation=2))


def told(story: Callable[[Site], Awaitable[None]], *, path: Path, **running_with: Any) -> None:
    """Tell a story about one client."""

    async def main() -> None:
        async with running(path, **running_with) as site:
            await story(site)

    asyncio.run(main())


async def sent(site: Site, task: TrainTask) -> Any:
    """Go through a task until the combiner has the update."""
    committee = await site.formed(task)
    (answered,) = await site.send(task)
    assert isinstance(answered, UpdateAnswered)
    return committee


# ---- before a byte leaves


def test_the_record_and_the_bytes_are_on_disk_before_anything_is_uploaded(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        task = a_task()
        with recorded(site) as record:
            committee = await sent(site, task)
            assert record.index("save_beacon") < record.index("save_seen") < record.index("say KeyOffer")
            assert record.index("save_sent") < record.index("upload")
        (row,), (entry,) = site.folder.memory.uploads(), site.folder.memory.sent()
        ((header, content),) = site.combiner.uploads
        assert (site.files / "masked" / row.file_name).read_bytes() == content
        assert (entry.ctx, entry.work, entry.reopen) == (committee.ctx, terms_of(task).work, "reducer")
        assert entry.members == tuple(member.client.client_key for member in committee.members)
        assert (header.samples, header.metrics, header.generation) == (0, {}, 1)

    told(story, path=tmp_path / "anna")


def test_a_client_that_cannot_write_its_record_sends_nothing_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise MemoryUnwritable("the disk is full")

    async def story(site: Site) -> None:
        await site.formed(a_task())
        monkeypatch.setattr(site.folder.memory, "save_sent", full)
        for _ in range(2):  # not when it is asked again either
            (withheld,) = await site.send(a_task())
            assert isinstance(withheld, UpdateWithheld)
        assert isinstance(await site.ended(), MemoryUnwritable)
        assert site.combiner.uploads == []

    told(story, path=tmp_path / "anna")


def test_an_upload_that_is_asked_for_again_while_it_is_being_saved_waits_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(site: Site) -> None:
        task, saving, go_on = a_task(), threading.Event(), threading.Event()
        save = site.folder.memory.save_sent

        def slowly(*values: Any) -> None:
            saving.set()
            go_on.wait(20)
            save(*values)

        monkeypatch.setattr(site.folder.memory, "save_sent", slowly)
        await site.formed(task)
        first = asyncio.ensure_future(site.send(task))
        await asyncio.to_thread(saving.wait, 20)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        second = asyncio.ensure_future(site.send(task))
        await asyncio.sleep(0.05)
        assert site.combiner.uploads == []
        go_on.set()
        (answered,) = await second
        assert isinstance(answered, UpdateAnswered)
        assert [row.upload_id.hex() for row in site.folder.memory.uploads()] == [
            header.upload_id for header, _ in site.combiner.uploads
        ]

    told(story, path=tmp_path / "anna")


def test_seeds_are_drawn_for_each_upload_erased_after_it_and_never_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[DrawnForUpload] = []
    secrets: list[bytes] = []

    def fresh(slots: int, members: int) -> DrawnForUpload:
        drawn.append(DrawnForUpload(*_like(slots, members)))
        secrets.extend(bytes(one) for one in drawn[-1]._all())
        return drawn[-1]

    def _like(slots: int, members: int) -> Any:
        made = original(slots, members)
        return made.seeds, made.rounding, made.ephemeral

    original = DrawnForUpload.fresh
    monkeypatch.setattr(participant_work, "DrawnForUpload", type("Drawn", (), {"fresh": staticmethod(fresh)}))

    async def story(site: Site) -> None:
        site.combiner.receipts = [BAD_BOX]
        await sent(site, a_task())
        assert len(drawn) == 2
        assert len(set(secrets)) == len(secrets) == 2 * (2 + 1 + 2)
        assert all(not any(one) for made in drawn for one in made._all())
        everything = b"".join(file.read_bytes() for file in site.files.rglob("*") if file.is_file())
        assert not [secret for secret in secrets if secret in everything]

    told(story, path=tmp_path / "anna")


# ---- the same bytes again


def test_a_cut_upload_is_sent_again_with_the_same_bytes(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        task = a_task()
        site.combiner.receipts = [PeerUnreachable("the combiner", "cut")]
        await site.formed(task)
        assert isinstance((await site.send(task))[0], UploadBroken)
        again = replace(task, generation=Generation(1))
        await site.offered(again)
        assert isinstance((await site.send(again))[0], UpdateAnswered)
        assert site.combiner.uploads[0] == site.combiner.uploads[1]

    told(story, path=tmp_path / "anna")


def test_a_client_that_is_started_again_sends_the_same_bytes_and_needs_no_training(tmp_path: Path) -> None:
    async def main() -> None:
        combiner, task = FakeCombiner(), a_task()
        async with running(tmp_path / "anna", combiner=combiner) as site:
            await sent(site, task)
        async with running(tmp_path / "anna", combiner=combiner) as site:
            await site.formed(task)
            assert site.events.index(UpdateKept(Piece.of(task.plan))) < site.events.index(Tasked(task))
            (answered,) = await site.send(task, trained=False)
            assert isinstance(answered, UpdateAnswered)
        assert combiner.uploads[0] == combiner.uploads[1]

    asyncio.run(main())


def test_what_is_kept_for_another_committee_is_not_sent_and_the_work_is_done_again_where_that_may_be(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        combiner, task = FakeCombiner(), a_task()
        async with running(tmp_path / "anna", combiner=combiner) as site:
            committee = await sent(site, task)
        async with running(tmp_path / "anna", combiner=combiner) as site:
            await site.offered(task)
            other = CommitteeBody(terms_of(task).ctx0, world.the_rows(terms_of(task), CLIENTS[3:]))
            assert checked(task, other).ctx != committee.ctx
            site.hear_words(other)
            await site.settled()
            (withheld,) = await site.send(task, trained=False)
            assert isinstance(withheld, UpdateWithheld)
            assert withheld.reason.startswith("MayBeOpened: ")
            site.hear_words(sign(NotOpened(committee.ctx, "ended"), REDUCER))
            await site.settled()
            assert await site.send(task, trained=False) == [UpdateGone(task.generation)]
            assert isinstance((await site.send(task))[0], UpdateAnswered)
        assert combiner.uploads[0] != combiner.uploads[1]

    asyncio.run(main())


# ---- the differencing rule


def test_a_client_sits_out_until_its_earlier_upload_can_never_be_opened(tmp_path: Path) -> None:
    async def main() -> None:
        combiner = FakeCombiner()
        async with running(tmp_path / "anna", combiner=combiner) as site:
            committee = await sent(site, a_task())
        # by what is on its disk, whatever became of its process
        async with running(tmp_path / "anna", combiner=combiner) as site:
            site.hear(second_attempt())
            await site.settled()
            (failure,) = combiner.failures
            assert (failure.generation, failure.reason.partition(":")[0]) == (2, "MayBeOpened")
            assert Tasked(second_attempt()) not in site.events

            lie = sign(NotOpened(committee.ctx, "ended"), CLIENTS[5].key)
            site.hear_words(lie)
            site.hear(second_attempt())
            await site.settled()
            assert len(combiner.failures) == 2

            void = sign(NotOpened(committee.ctx, "ended"), REDUCER)
            third = a_masked_plan(attempt=3, voids=(void,))
            task = a_task(third, an_order(third, generation=3))
            await sent(site, task)
            assert len(combiner.uploads) == 2
            assert combiner.uploads[0][0].upload_id != combiner.uploads[1][0].upload_id
            assert combiner.uploads[0][1] != combiner.uploads[1][1]

    asyncio.run(main())


def test_under_a_strict_plan_the_reducer_s_word_lets_nobody_go_on_and_every_member_s_abort_does(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        strict = a_masked_plan(reopen="strict")
        committee = await sent(site, a_task(strict))
        site.hear_words(sign(NotOpened(committee.ctx, "ended"), REDUCER))
        members = world.members_of(committee)
        site.hear_words(sign(an_abort(committee.ctx), members[0].key))
        site.hear(second_attempt())
        await site.settled()
        assert [one.reason.partition(":")[0] for one in site.combiner.failures] == ["MayBeOpened"]
        site.hear_words(sign(an_abort(committee.ctx), members[1].key))
        await sent(site, second_attempt())

    told(story, path=tmp_path / "anna")


def an_abort(ctx: bytes) -> Abort:
    return Abort(ctx, "given up")


def test_a_base_model_serves_as_many_works_as_the_newest_policy_allows(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        policy = world.a_policy(rework_max=0)
        site.hear(policy_news(policy))
        under = {"policy_hash": world.policy_hash(policy.encode())}
        await sent(site, a_task(a_masked_plan(**under)))
        other = {"package_sha256": b"2" * 32, "attempt": 2}
        site.hear(a_task(a_masked_plan(**other, **under)))
        await site.settled()
        assert [one.reason.partition(":")[0] for one in site.combiner.failures] == ["BaseUsedUp"]
        newer = world.a_policy(rework_max=1, version=policy.version + 1)
        site.hear(policy_news(newer))
        plan = a_masked_plan(**{**other, "attempt": 3}, policy_hash=world.policy_hash(newer.encode()))
        await site.offered(a_task(plan))

    told(story, path=tmp_path / "anna", policy=None)


# ---- refused


def test_a_refused_box_is_sealed_anew_and_no_more_than_three_times(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        task = a_task()
        site.combiner.receipts = [BAD_BOX] * 5
        await site.formed(task)
        assert await site.send(task) == [UpdateAnswered(task.generation, BAD_BOX)]
        headers = [header for header, _ in site.combiner.uploads]
        assert len(headers) == len({header.upload_id for header in headers}) == 3
        assert len({content for _, content in site.combiner.uploads}) == 3
        assert len(site.folder.memory.sent()) == 1

    told(story, path=tmp_path / "anna")


def test_an_upload_that_is_refused_for_another_reason_is_not_sent_again(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        task = a_task()
        site.combiner.receipts = [LATE]
        await site.formed(task)
        assert await site.send(task) == [UpdateAnswered(task.generation, LATE)]
        assert len(site.combiner.uploads) == 1

    told(story, path=tmp_path / "anna")


def test_an_update_that_cannot_be_masked_is_withheld_by_name(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        task = a_task()
        await site.formed(task)
        for values, fault in ((np.full(20, np.nan, "<f4"), "NotFinite"), (np.zeros(19, "<f4"), "UpdateNotOfPlan")):
            (withheld,) = await site.send(task, PlainUpdate(update_values(tmp_path, values), 50))
            assert isinstance(withheld, UpdateWithheld)
            assert withheld.reason.startswith(f"{fault}: ")
        assert (site.combiner.uploads, site.folder.memory.sent()) == ([], ())
        assert list((site.files / "masked").iterdir()) == []
        assert isinstance((await site.send(task))[0], UpdateAnswered)

    told(story, path=tmp_path / "anna")


def test_nothing_is_sealed_to_a_committee_that_does_not_hold(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        task = a_task()
        await site.offered(task)
        body = a_committee_with(task, None)
        waiting = asyncio.ensure_future(site.send(task))
        forged = replace(body.rows[0], key=sign(world.a_key_message(terms_of(task), CLIENTS[1], 0), world.COMBINER))
        site.hear_words(replace(body, rows=(forged, *body.rows[1:])))
        (withheld,) = await waiting
        assert isinstance(withheld, UpdateWithheld)
        assert withheld.reason.startswith("BadCommittee: ")
        assert [one.reason.partition(":")[0] for one in site.combiner.failures] == ["BadCommittee"]
        assert (site.combiner.uploads, site.folder.memory.sent()) == ([], ())

    told(story, path=tmp_path / "anna")


def test_an_update_that_nobody_waits_for_any_more_is_withheld(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        task = a_task()
        await site.offered(task)
        waiting = asyncio.ensure_future(site.send(task))
        await asyncio.sleep(0.05)
        site.hear(RoundCommitted(task.plan.session, 1, task.plan.base_model))
        for (withheld,) in (await waiting, await site.send(task)):
            assert isinstance(withheld, UpdateWithheld)
            assert withheld.reason.startswith("NoLongerWanted: ")
        assert site.combiner.uploads == []

    told(story, path=tmp_path / "anna")


# ---- metrics


@pytest.mark.parametrize("site_release", ["client", "mean", "none"])
@pytest.mark.parametrize("plan_release", ["client", "sum", "none"])
def test_metrics_go_by_client_only_where_site_and_plan_both_let_them(
    tmp_path: Path, site_release: Any, plan_release: str
) -> None:
    async def story(site: Site) -> None:
        policy = world.a_policy(metrics="client")
        site.hear(policy_news(policy))
        plan = a_masked_plan(metrics_release=plan_release, policy_hash=world.policy_hash(policy.encode()))
        task = a_task(plan)
        await site.formed(task)
        await site.send(task, site.plain_update(training={"loss": 0.25}, validation={"loss": 0.5}))
        ((header, _),) = site.combiner.uploads
        shown = site_release == plan_release == "client"
        assert header.metrics == ({"loss": 0.25} if shown else {})
        assert (header.samples, header.release) == (0, site_release)

    told(story, path=tmp_path / "anna", policy=None, release=site_release)


# ---- a state folder that was set back


def test_a_folder_that_was_copied_after_an_upload_remembers_it(tmp_path: Path) -> None:
    async def main() -> None:
        combiner = FakeCombiner()
        async with running(tmp_path / "anna", combiner=combiner) as site:
            await sent(site, a_task())
        shutil.copytree(tmp_path / "anna", tmp_path / "copy")
        async with running(tmp_path / "copy", combiner=combiner) as site:
            site.hear(second_attempt())
            await site.settled()
            assert [type(one) for one in combiner.failures] == [TaskFailed]

    asyncio.run(main())


def test_an_older_plan_or_another_one_of_an_attempt_is_refused_after_a_restart_too(tmp_path: Path) -> None:
    async def main() -> None:
        combiner = FakeCombiner()
        async with running(tmp_path / "anna", combiner=combiner) as site:
            await site.offered(second_attempt())
        async with running(tmp_path / "anna", combiner=combiner) as site:
            for task in (a_task(), second_attempt(clip=2.0)):
                site.hear(task)
                await site.settled()
            assert [one.reason.partition(":")[0] for one in combiner.failures] == ["OldRound", "OldRound"]
            assert len(combiner.words(KeyOffer)) == 1

    asyncio.run(main())


def test_a_plain_update_says_its_metrics_by_the_names_of_plans(tmp_path: Path) -> None:
    plain = PlainUpdate(update_values(tmp_path, np.zeros(3, "<f4")), 5, {"loss": 1.0}, {"loss": 2.0})
    assert plain.metrics == {"loss": 1.0, "validate.loss": 2.0}


def test_a_task_of_another_session_under_the_same_generation_gets_nothing_of_this_one_s_update(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        task = a_task()
        await site.formed(task)
        other = replace(task, plan=replace(task.plan, session=SessionId("cd" * 16)))
        assert site.side.terms_of(other) is None
        (withheld,) = await site.send(other)
        assert isinstance(withheld, UpdateWithheld)
        assert site.combiner.uploads == []
        assert site.side.terms_of(task) == terms_of(task)

    told(story, path=tmp_path / "anna")
