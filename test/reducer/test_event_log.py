"""The event log: in order, behind the work, never in its way."""

import asyncio
from dataclasses import replace

import pytest
import structlog
from awaiting import until
from unruly_store import Trouble, UnrulyDocuments

from fedn_py.reducer import event_log
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.records import EventRecord
from fedn_py.store.memory import MemoryDocuments
from fedn_py.store.ports import StoreUnavailable


async def stored(documents: MemoryDocuments) -> list[EventRecord]:
    return list(await Ledger(documents, 1).find("events", EventRecord, order_by="seq"))


def away() -> StoreUnavailable:
    return StoreUnavailable("the store is away")


def test_events_are_numbered_and_stored_in_the_order_they_were_told() -> None:
    async def story() -> None:
        documents = MemoryDocuments()
        events = EventLog(Ledger(documents, 1), 0, clock=lambda: 12.5)
        events.tell("round.started", "round 1", session="s", round="1")
        events.tell("round.failed", "round 1 failed", "error", round="1")
        await events.flush()
        assert await stored(documents) == [
            EventRecord(1, 12.5, "round.started", "info", "round 1", {"session": "s", "round": "1"}),
            EventRecord(2, 12.5, "round.failed", "error", "round 1 failed", {"round": "1"}),
        ]

    asyncio.run(story())


def test_every_event_is_logged_at_its_severity() -> None:
    async def story() -> None:
        EventLog(Ledger(MemoryDocuments(), 1), 0).tell("store.waiting", "no store", "error", session="s")

    with structlog.testing.capture_logs() as lines:
        asyncio.run(story())
    assert lines == [{"event": "no store", "kind": "store.waiting", "session": "s", "log_level": "error"}]


def test_numbers_go_on_after_a_restart() -> None:
    async def story() -> None:
        documents = MemoryDocuments()
        first = await EventLog.open(Ledger(documents, 1))
        first.tell("a", "one")
        first.tell("a", "two")
        await first.flush()
        second = await EventLog.open(Ledger(documents, 2))
        assert second.last == 2
        second.tell("a", "three")
        await second.flush()
        assert [(event.seq, event.text) for event in await stored(documents)] == [(1, "one"), (2, "two"), (3, "three")]

    asyncio.run(story())


def test_telling_never_waits_for_an_absent_store_and_all_is_written_when_it_is_back() -> None:
    async def story() -> None:
        documents, trouble = MemoryDocuments(), Trouble()
        trouble.away = away
        events = EventLog(Ledger(UnrulyDocuments(documents, trouble), 1), 0)
        for number in range(50):
            events.tell("a", str(number))
        with pytest.raises(StoreUnavailable):
            await events.flush()
        assert await stored(documents) == []
        trouble.away = None
        await events.flush()
        assert [event.text for event in await stored(documents)] == [str(number) for number in range(50)]

    asyncio.run(story())


def test_the_writer_goes_on_by_itself_when_the_store_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "_RETRY_S", 0.001)

    async def story() -> None:
        documents, trouble = MemoryDocuments(), Trouble()
        events = EventLog(Ledger(UnrulyDocuments(documents, trouble), 1), 0)
        trouble.begin(1, "fails")
        events.tell("a", "one")
        writing = asyncio.create_task(events.run())
        await until(lambda: documents._collections.get("events"))
        assert trouble.struck
        writing.cancel()

    asyncio.run(story())


@pytest.mark.parametrize("mischief", ["fails", "lost, applied", "lost, not applied"])
def test_nothing_is_written_twice_or_out_of_order_whichever_call_goes_wrong(mischief: str) -> None:
    async def story() -> None:
        for at in range(1, 50):
            documents, trouble = MemoryDocuments(), Trouble()
            events = EventLog(Ledger(UnrulyDocuments(documents, trouble), 1), 0)
            for number in range(5):
                events.tell("a", str(number))
            trouble.begin(at, mischief)  # type: ignore[arg-type]
            for _ in range(3):
                try:
                    await events.flush()
                    break
                except StoreUnavailable:
                    continue
            assert [(event.seq, event.text) for event in await stored(documents)] == [
                (number + 1, str(number)) for number in range(5)
            ]
            if not trouble.struck:
                return
        raise AssertionError("the loop must end by itself")

    asyncio.run(story())


def test_at_its_cap_the_oldest_are_dropped_and_their_number_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "MOST_WAITING", 10)

    async def story() -> None:
        documents = MemoryDocuments()
        events = EventLog(Ledger(documents, 1), 0)
        for number in range(1, 14):
            events.tell("a", str(number))
        await events.flush()
        kept = await stored(documents)
        assert [event.text for event in kept[:-1]] == [str(number) for number in range(4, 14)]
        assert (kept[-1].kind, kept[-1].severity) == ("events.dropped", "error")
        assert kept[-1].text.startswith("3 events")

    asyncio.run(story())


def test_an_event_whose_number_another_reducer_took_gets_a_higher_one() -> None:
    async def story() -> None:
        documents = MemoryDocuments()
        older, newer = EventLog(Ledger(documents, 1), 0), EventLog(Ledger(documents, 2), 0)
        newer.tell("a", "newer 1")
        newer.tell("a", "newer 2")
        await newer.flush()
        older.tell("a", "older 1")
        older.tell("a", "older 2")
        await older.flush()
        older.tell("a", "older 3")
        await older.flush()
        texts = [(event.seq, event.text) for event in await stored(documents)]
        assert texts == [(1, "newer 1"), (2, "newer 2"), (3, "older 1"), (4, "older 2"), (5, "older 3")]

    asyncio.run(story())


def test_an_event_that_no_store_takes_does_not_hold_up_the_others() -> None:
    async def story() -> None:
        documents = MemoryDocuments()
        events = EventLog(Ledger(documents, 1), 0)
        events.tell("a", "half a pair \ud800")
        events.tell("a", "sound")
        await events.flush()
        assert [event.text for event in await stored(documents)] == ["sound"]

    asyncio.run(story())


def test_an_event_is_read_back_as_it_was_told() -> None:
    async def story() -> None:
        documents = MemoryDocuments()
        events = EventLog(Ledger(documents, 1), 0, clock=lambda: 1_700_000_000.123456)
        events.tell("a", "text", client="anna")
        await events.flush()
        (event,) = await stored(documents)
        assert event == replace(event, time=1_700_000_000.123456, subject={"client": "anna"})

    asyncio.run(story())
