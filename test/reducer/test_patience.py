"""Waiting for a store: once told, as long as it takes, and only for what passes."""

import asyncio
from collections.abc import Callable

import pytest
from awaiting import until

from fedn_py.errors import OwnFault
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.ledger import Ledger, Superseded
from fedn_py.reducer.patience import Patience
from fedn_py.reducer.records import EventRecord
from fedn_py.runtime.scratch import DiskFull
from fedn_py.store.memory import MemoryDocuments
from fedn_py.store.ports import ObjectCorrupt, StoreFull, StoreMisconfigured, StoreUnavailable


def in_peace(story: Callable[[Patience, EventLog, Ledger], object]) -> None:
    async def told() -> None:
        ledger = Ledger(MemoryDocuments(), 1)
        events = EventLog(ledger, 0)
        await story(Patience(events, base_s=0.0), events, ledger)  # type: ignore[misc]

    asyncio.run(told())


def test_work_that_goes_well_is_done_once_and_says_nothing() -> None:
    async def story(patience: Patience, events: EventLog, ledger: Ledger) -> None:
        async def work() -> int:
            return 7

        assert await patience.until_done(work) == 7
        assert (events.last, patience.waiting_for) == (0, "")

    in_peace(story)


@pytest.mark.parametrize("fault", [StoreUnavailable, StoreFull, StoreMisconfigured, DiskFull])
def test_what_passes_is_waited_for_and_told_once(fault: type[OwnFault]) -> None:
    async def story(patience: Patience, events: EventLog, ledger: Ledger) -> None:
        seen: list[str] = []

        async def work() -> str:
            seen.append(patience.waiting_for)
            if len(seen) < 6:
                raise fault(f"try {len(seen)} failed.", remedy="Help it.")
            return "done"

        assert await patience.until_done(work) == "done"
        assert seen == ["", *(f"try {number} failed." for number in range(1, 6))]
        assert patience.waiting_for == ""
        await events.flush()
        told = await ledger.find("events", EventRecord, order_by="seq")
        assert [(event.kind, event.severity) for event in told] == [("store.waiting", "error"), ("store.back", "info")]
        assert told[0].text == "try 1 failed. The session waits. Help it."

    in_peace(story)


@pytest.mark.parametrize("fault", [ObjectCorrupt("other bytes"), Superseded("rounds", "1"), ValueError("bug")])
def test_what_does_not_pass_is_raised_at_once(fault: Exception) -> None:
    async def story(patience: Patience, events: EventLog, ledger: Ledger) -> None:
        async def work() -> None:
            raise fault

        with pytest.raises(type(fault)):
            await patience.until_done(work)
        assert (events.last, patience.waiting_for) == (0, "")

    in_peace(story)


def test_of_two_that_wait_the_one_that_is_done_does_not_hide_the_other() -> None:
    async def story(patience: Patience, events: EventLog, ledger: Ledger) -> None:
        objects_back = asyncio.Event()
        tries = 0

        async def documents() -> None:
            nonlocal tries
            tries += 1
            if tries < 3:
                raise StoreUnavailable("no documents.")

        async def objects() -> None:
            if not objects_back.is_set():
                raise StoreUnavailable("no objects.")

        waiting = asyncio.create_task(patience.until_done(objects))
        await patience.until_done(documents)
        assert patience.waiting_for == "no objects."
        objects_back.set()
        await waiting
        assert patience.waiting_for == ""

    in_peace(story)


def test_who_is_cancelled_no_longer_waits() -> None:
    async def story(patience: Patience, events: EventLog, ledger: Ledger) -> None:
        async def work() -> None:
            raise StoreUnavailable("no documents.")

        waiting = asyncio.create_task(patience.until_done(work))
        await until(lambda: patience.waiting_for)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert patience.waiting_for == ""

    in_peace(story)
