"""A backup is put back into empty stores, whole or not at all, and everybody can see that it was."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from kept_trail import FENCE, FIRST, SECOND, Kept, a_kept_network, backed_up, digest_of, untold
from unruly_store import Trouble, UnrulyDocuments, UnrulyObjects

from fedn_py.reducer.lease import LEASE_KEY, Holder, Lease
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.records import EventRecord, RoundRecord, SessionRecord
from fedn_py.reducer.restored import NUMBERS_SKIPPED, next_number, restored, what_was_lost
from fedn_py.reducer.restoring import (
    FENCES_SKIPPED,
    OtherSchema,
    RestoreUnfinished,
    StoresNotEmpty,
    check_not_half_restored,
    mend_objects,
    restore_backup,
)
from fedn_py.reducer.trail import Link, faults_of, link_of
from fedn_py.store.backup_folder import Backup, open_backup
from fedn_py.store.memory import MemoryObjects
from fedn_py.store.opening import Stores, check_schema
from fedn_py.store.ports import Documents, Objects, StoreUnavailable


async def a_backup(folder: Path) -> Backup:
    """Return a backup of a session with two rounds that is under way, in its third."""
    kept = await a_kept_network(status="running")
    (session,) = await kept.ledger.find("sessions", SessionRecord)
    await kept.running(session.terms, 3, digest_of(b"5e55/2"))
    await backed_up(kept.stores, folder)
    return open_backup(folder)


async def empty() -> Kept:
    kept = Kept()
    await check_schema(kept.documents)
    return kept


async def put_back(backup: Backup, kept: Kept) -> None:
    await restore_backup(backup, kept.stores, "kim@ward", untold)


def test_what_was_backed_up_is_there_again_and_the_trail_is_whole(tmp_path: Path) -> None:
    async def story() -> None:
        backup, kept = await a_backup(tmp_path / "backup"), await empty()
        await put_back(backup, kept)

        (session,) = await kept.ledger.find("sessions", SessionRecord)
        rounds = await kept.ledger.find("rounds", RoundRecord)
        links = [link for link in map(link_of, rounds) if link is not None]
        assert links == [
            Link(1, digest_of(b"seed"), digest_of(b"5e55/1")),
            Link(2, digest_of(b"5e55/1"), digest_of(b"5e55/2")),
        ]
        assert list(faults_of(FIRST, session.terms.seed_model, links)) == []
        assert {found.digest async for found in kept.objects.list()} == set(backup.manifest.objects)
        assert [one.plan.round_number for one in await _committed(kept)] == [2, 1]
        await check_not_half_restored(kept.documents)

    asyncio.run(story())


async def _committed(kept: Kept) -> list[RoundRecord]:
    return list(await kept.ledger.find("rounds", RoundRecord, {"status": "committed"}, descending=True))


def test_a_session_under_way_is_stopped_and_says_how_to_train_on(tmp_path: Path) -> None:
    async def story() -> None:
        backup, kept = await a_backup(tmp_path / "backup"), await empty()
        await put_back(backup, kept)

        (session,) = await kept.ledger.find("sessions", SessionRecord)
        assert session.status == "stopped"
        assert backup.manifest.id[:12] in session.reason
        assert f"--model {digest_of(b'5e55/2')[:12]} --rounds 1" in session.reason
        assert await kept.ledger.find("sessions", SessionRecord, {"status": "running"}) == []
        (third,) = [one for one in await kept.ledger.find("rounds", RoundRecord) if one.plan.round_number == 3]
        assert third.status == "failed"
        assert third.document is not None
        assert third.document.round_key == ""
        assert "restored" in third.failures[-1].reason

    asyncio.run(story())


def test_it_is_told_by_whom_and_from_what_and_numbers_jump_ahead(tmp_path: Path) -> None:
    async def story() -> None:
        backup, kept = await a_backup(tmp_path / "backup"), await empty()
        await put_back(backup, kept)

        *_, event = await kept.ledger.find("events", EventRecord, order_by="seq")
        assert (event.seq, event.kind, event.severity) == (2, "stores.restored", "error")
        assert "by kim@ward" in event.text
        assert "session-1 ends with the model of round 2" in event.text
        record = await restored(kept.ledger)
        assert record is not None
        assert (record.by, record.backup, record.text) == ("kim@ward", backup.manifest.id, event.text)
        assert await next_number(kept.ledger) == 2 + NUMBERS_SKIPPED
        assert await what_was_lost(kept.ledger) == event.text
        await kept.session(SECOND, 2 + NUMBERS_SKIPPED, "running")
        assert await what_was_lost(kept.ledger) == ""

    asyncio.run(story())


def test_the_next_reducer_takes_the_lease_at_once_above_all_fences_before(tmp_path: Path) -> None:
    async def story() -> None:
        backup, kept = await a_backup(tmp_path / "backup"), await empty()
        await put_back(backup, kept)
        lease = Lease(kept.documents, Holder("next", "2", "here"))  # type: ignore[arg-type]
        seen = await lease.look()
        assert seen.free
        assert await lease.take(seen) == FENCE + FENCES_SKIPPED + 1

    asyncio.run(story())


# ---- broken off


@pytest.mark.parametrize("mischief", ["fails", "lost, applied", "lost, not applied"])
def test_broken_off_at_any_call_no_reducer_starts_and_the_same_again_ends_the_same(
    tmp_path: Path, mischief: str
) -> None:
    async def story() -> None:
        backup, at, reached = await a_backup(tmp_path / "backup"), 0, True
        while reached:
            at, kept, trouble = at + 1, await empty(), Trouble()
            stores = Stores(UnrulyDocuments(kept.documents, trouble), UnrulyObjects(kept.objects, trouble))
            trouble.begin(at, mischief)  # type: ignore[arg-type]
            try:
                await restore_backup(backup, stores, "kim@ward", untold)
            except StoreUnavailable:
                if await kept.documents.get("sessions", FIRST) is not None and await _is_half(kept.documents):
                    with pytest.raises(RestoreUnfinished, match=backup.manifest.id[:12]):
                        await check_not_half_restored(kept.documents)
                trouble.away, trouble._at = None, 0
                await restore_backup(backup, stores, "kim@ward", untold)
            reached = trouble.struck
            await _as_it_should_be(kept)
        assert at > 40

    asyncio.run(story())


async def _is_half(documents: Documents) -> bool:
    return await documents.get("network", "restored") is None


async def _as_it_should_be(kept: Kept) -> None:
    await check_not_half_restored(kept.documents)
    (session,) = await kept.ledger.find("sessions", SessionRecord)
    assert session.status == "stopped"
    assert len(await _committed(kept)) == 2
    told = await Ledger(kept.documents, 0).find("events", EventRecord, {"kind": "stores.restored"})
    assert len(told) == 1
    lease = await kept.documents.get("network", LEASE_KEY)
    assert lease is not None
    assert lease.fence == FENCE + FENCES_SKIPPED


def test_half_restored_stores_take_no_other_backup(tmp_path: Path) -> None:
    async def story() -> None:
        first, kept, trouble = await a_backup(tmp_path / "first"), await empty(), Trouble()
        second = await a_backup(tmp_path / "second")
        stores = Stores(UnrulyDocuments(kept.documents, trouble), UnrulyObjects(kept.objects, trouble))
        trouble.begin(30, "fails")
        with pytest.raises(StoreUnavailable):
            await restore_backup(first, stores, "kim@ward", untold)
        with pytest.raises(RestoreUnfinished, match=first.manifest.id[:12]):
            await put_back(second, kept)

    asyncio.run(story())


def test_a_reducer_that_took_the_lease_meanwhile_is_behind_it_again(tmp_path: Path) -> None:
    async def story() -> None:
        backup, kept = await a_backup(tmp_path / "backup"), await empty()

        objects: Objects = MemoryObjects()
        taken = Lease(kept.documents, Holder("quick", "3", "there"))  # type: ignore[arg-type]
        put = objects.put

        async def put_and_race(*given, **how):  # type: ignore[no-untyped-def]
            if await kept.documents.get("network", LEASE_KEY) is None:
                await taken.take(await taken.look())
            return await put(*given, **how)

        objects.put = put_and_race  # type: ignore[method-assign]
        await restore_backup(backup, Stores(kept.documents, objects), "kim@ward", untold)
        lease = await kept.documents.get("network", LEASE_KEY)
        assert lease is not None
        assert lease.fence == FENCE + FENCES_SKIPPED

    asyncio.run(story())


# ---- refused


def test_stores_that_hold_anything_are_left_as_they_are(tmp_path: Path) -> None:
    async def story() -> None:
        backup, kept = await a_backup(tmp_path / "backup"), Kept()
        await kept.begin()  # as of a reducer that was started once
        with pytest.raises(StoresNotEmpty, match="already: 000000000001 of events"):
            await put_back(backup, kept)
        await check_not_half_restored(kept.documents)
        assert await kept.documents.count("sessions") == 0
        assert [found async for found in kept.objects.list()] == []

    asyncio.run(story())


def test_restored_again_before_anything_happened_it_is_done_and_afterwards_it_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        backup, kept = await a_backup(tmp_path / "backup"), await empty()
        await put_back(backup, kept)
        await put_back(backup, kept)
        await kept.tell(3, "reducer.started")
        with pytest.raises(StoresNotEmpty):
            await put_back(backup, kept)

    asyncio.run(story())


def test_a_backup_of_another_schema_is_refused_by_name(tmp_path: Path) -> None:
    async def story() -> None:
        backup, kept = await a_backup(tmp_path / "backup"), await empty()
        backup.manifest = replace(backup.manifest, schema=2)
        with pytest.raises(OtherSchema, match="version 2"):
            await put_back(backup, kept)
        assert await kept.documents.get("network", "restoring") is None

    asyncio.run(story())


# ---- single objects


def test_only_what_is_missing_or_damaged_is_put_back(tmp_path: Path) -> None:
    async def story() -> None:
        backup, kept = await a_backup(tmp_path / "backup"), await a_kept_network()
        assert isinstance(kept.objects, MemoryObjects)
        gone, wrong, other = digest_of(b"5e55/1"), digest_of(b"seed"), digest_of(b"another's")
        del kept.objects.contents[gone]
        kept.objects.contents[wrong] = b"sEEd"
        kept.objects.contents[other] = b"another's"
        kept.objects._stored_at[other] = 0.0
        mended = await mend_objects(backup, kept.objects, untold)
        assert (set(mended.put), mended.sound) == ({gone, wrong}, 2)
        assert kept.objects.contents[wrong] == b"seed"
        assert kept.objects.contents[gone] == b"5e55/1"
        assert kept.objects.contents[other] == b"another's"

    asyncio.run(story())
