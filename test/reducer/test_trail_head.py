"""A reducer whose stores were set back to an older state sees it at its start, says so, and commits nothing twice."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from kept_trail import FENCE, FIRST, SECOND, Kept, a_kept_network, digest_of

from fedn_py.identity import InstanceId
from fedn_py.protocol.messages import RoundCommitted
from fedn_py.protocol.reducer_work import Effect, Event, TellCommitted
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.lease import Holder, Lease
from fedn_py.reducer.newest_attempt import NewestAttempt, NewestAttemptFile, hold_back_restored
from fedn_py.reducer.patience import Patience
from fedn_py.reducer.records import EventRecord, RoundRecord, SessionRecord
from fedn_py.reducer.restored import NUMBERS_SKIPPED, Restored, next_number, what_was_lost, write_restored
from fedn_py.reducer.trail_head import (
    FILE_NAME,
    HeadKept,
    TrailHead,
    TrailHeadFile,
    TrailHeadUnreadable,
    follow,
    head_of,
    notice_restored,
)

SEEN = TrailHead(FIRST, 1, 2, digest_of(b"5e55/2"), fence=FENCE)


@pytest.fixture
def file(tmp_path: Path) -> TrailHeadFile:
    return TrailHeadFile(tmp_path / FILE_NAME)


async def started(kept: Kept, file: TrailHeadFile) -> list[EventRecord]:
    """Start a reducer on stores as far as this goes, and return what it told of them."""
    events = await EventLog.open(kept.ledger)
    await notice_restored(kept.ledger, file, events)
    await events.flush()
    return list(await kept.ledger.find("events", EventRecord, {"kind": "stores.restored"}, order_by="seq"))


def test_the_head_is_the_newest_sessions_newest_committed_round(file: TrailHeadFile) -> None:
    async def story() -> None:
        kept = await a_kept_network(status="running")
        assert await head_of(kept.ledger) == SEEN
        assert await started(kept, file) == []
        assert file.read() == SEEN
        await kept.session(SECOND, 2, "running")
        assert await head_of(kept.ledger) == TrailHead(SECOND, 2, fence=FENCE)

    asyncio.run(story())


def test_stores_that_go_on_behind_what_was_seen_are_in_order(file: TrailHeadFile) -> None:
    async def story() -> None:
        kept = await a_kept_network(done=3, status="running")
        await file.write(SEEN)
        assert await started(kept, file) == []
        assert file.read() == TrailHead(FIRST, 1, 3, digest_of(b"5e55/3"), fence=FENCE)

    asyncio.run(story())


@pytest.mark.parametrize(
    "seen",
    [
        TrailHead(FIRST, 1, 4, digest_of(b"5e55/4")),
        TrailHead(FIRST, 1, 2, digest_of(b"another model of round 2")),
        TrailHead(SECOND, 2),
        TrailHead(SECOND, 2, 1, digest_of(b"5e56/1")),
    ],
)
def test_stores_that_lack_what_was_seen_are_named_once_and_their_session_ends(
    file: TrailHeadFile, seen: TrailHead
) -> None:
    async def story() -> None:
        kept = await a_kept_network(status="running")
        await file.write(seen)
        (event,) = await started(kept, file)

        assert event.severity == "error"
        assert str(seen) in event.text
        assert str(SEEN) in event.text
        (session,) = await kept.ledger.find("sessions", SessionRecord)
        assert session.status == "stopped"
        assert f"--model {digest_of(b'5e55/2')[:12]} --rounds 1" in session.reason
        assert await what_was_lost(kept.ledger) == event.text
        assert await next_number(kept.ledger) == seen.number + 1 + NUMBERS_SKIPPED
        assert len(await started(kept, file)) == 1

    asyncio.run(story())


def test_an_attempt_under_way_in_such_stores_is_failed_and_its_key_erased(file: TrailHeadFile) -> None:
    async def story() -> None:
        kept = await a_kept_network(status="running")
        (session,) = await kept.ledger.find("sessions", SessionRecord)
        await kept.running(session.terms, 3, digest_of(b"5e55/2"))
        await file.write(TrailHead(FIRST, 1, 4, digest_of(b"5e55/4")))
        await started(kept, file)
        *_, newest = await kept.ledger.find("rounds", RoundRecord)
        assert (newest.plan.round_number, newest.status) == (3, "failed")
        assert "its own disk names" in newest.failures[-1].reason
        assert newest.document is not None
        assert newest.document.round_key == ""

    asyncio.run(story())


def test_a_restore_that_is_known_and_trained_on_from_disturbs_nobody(file: TrailHeadFile) -> None:
    """As when a standby takes over that waited since before the restore."""

    async def story() -> None:
        kept = await a_kept_network()
        await file.write(TrailHead(FIRST, 1, 4, digest_of(b"5e55/4")))
        await write_restored(kept.ledger, Restored(9.0, "kim", "b" * 64, "it was restored", 1 + NUMBERS_SKIPPED))
        await kept.trained(SECOND, 1 + NUMBERS_SKIPPED, 1, "running")
        assert await started(kept, file) == []
        sessions = await kept.ledger.find("sessions", SessionRecord, {"status": "running"})
        assert [session.terms.session for session in sessions] == [SECOND]
        # The next one is news again.
        await file.write(TrailHead(SECOND, 9, 7, "c" * 64, restored=9.0))
        assert len(await started(kept, file)) == 1

    asyncio.run(story())


def test_the_lease_is_taken_above_a_fence_that_the_stores_have_forgotten() -> None:
    async def story() -> None:
        kept = await a_kept_network()
        lease = Lease(kept.documents, Holder("reducer", InstanceId("2"), "here"), above=FENCE + 5)
        assert await lease.take_at_once() == FENCE + 6

    asyncio.run(story())


def test_a_first_start_has_seen_nothing(file: TrailHeadFile) -> None:
    async def story() -> None:
        kept = await a_kept_network(status="running")
        assert await started(kept, file) == []
        (session,) = await kept.ledger.find("sessions", SessionRecord)
        assert session.status == "running"

    asyncio.run(story())


def test_while_another_reducer_is_active_its_commits_are_followed_and_lost_ones_are_kept(file: TrailHeadFile) -> None:
    async def story() -> None:
        kept = await a_kept_network(status="running")
        await follow(kept.ledger, file, FENCE)
        assert file.read() == SEEN
        ahead = TrailHead(FIRST, 1, 4, digest_of(b"5e55/4"), fence=FENCE)
        await file.write(ahead)
        await follow(kept.ledger, file, FENCE)
        assert file.read() == ahead

    asyncio.run(story())


def test_the_highest_fence_that_another_reducer_had_is_remembered_whatever_the_stores_have(file: TrailHeadFile) -> None:
    async def story() -> None:
        kept = await a_kept_network(status="running")
        await follow(kept.ledger, file, FENCE + 3)
        assert file.read() == replace(SEEN, fence=FENCE + 3)
        await follow(kept.ledger, file, FENCE)
        assert file.read() == replace(SEEN, fence=FENCE + 3)
        ahead = TrailHead(FIRST, 1, 4, digest_of(b"5e55/4"), fence=FENCE + 3)
        await file.write(ahead)
        await follow(kept.ledger, file, FENCE + 4)
        assert file.read() == replace(ahead, fence=FENCE + 4)

    asyncio.run(story())


def test_a_commit_is_in_the_file_before_anybody_is_told(file: TrailHeadFile) -> None:
    async def story() -> None:
        kept, named = await a_kept_network(status="running"), []

        async def perform(effect: Effect) -> Iterable[Event] | None:
            named.append(file.read())
            return None

        patience = Patience(await EventLog.open(kept.ledger))
        told = TellCommitted(RoundCommitted(FIRST, 2, digest_of(b"5e55/2")))
        await HeadKept(perform, file, kept.ledger, patience).perform(told)
        assert named == [SEEN]

    asyncio.run(story())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"round": 1, "other": 2}'])
def test_a_damaged_file_is_named_with_its_way_out(file: TrailHeadFile, text: str) -> None:
    file.path.write_text(text)
    with pytest.raises(TrailHeadUnreadable, match=FILE_NAME):
        file.read()


def test_a_session_that_was_stopped_so_needs_no_attempt_held_back(tmp_path: Path, file: TrailHeadFile) -> None:
    async def story() -> None:
        kept = await a_kept_network(status="running")
        await file.write(TrailHead(FIRST, 1, 4, digest_of(b"5e55/4")))
        newest = NewestAttemptFile(tmp_path / "newest-attempt.json")
        await newest.write(NewestAttempt(FIRST, 5, 1, "ab" * 32, opening=True))
        assert len(await started(kept, file)) == 1
        events = await EventLog.open(kept.ledger)
        await hold_back_restored(kept.ledger, newest, events)
        await events.flush()
        assert len(await started(kept, file)) == 1
        assert json.loads(newest.path.read_text())["opening"]

    asyncio.run(story())
