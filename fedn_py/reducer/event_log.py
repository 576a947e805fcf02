"""The event log: everything that happened and why, for people, in the order it happened.

Telling an event never waits for a store and never fails what it tells of: events queue in memory and are written
behind. When the store is away for so long that the queue is full, the oldest are dropped and their number is told.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from fedn_py.errors import FednError
from fedn_py.reducer.bell import Bell
from fedn_py.reducer.ledger import Ledger, RecordExists
from fedn_py.reducer.records import EventRecord
from fedn_py.runtime.logging import logger
from fedn_py.store.ports import NotStorable

Severity = Literal["info", "warning", "error"]

MOST_WAITING = 10_000
_RETRY_S = 1.0
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_log = logger("fedn_py.reducer.events")


class EventLog:
    """Numbers events and writes them to the store in the background.

    Args:
        last: number of the newest event that is stored.
        clock: seconds since 1970.
        bell: rung when events have been written.
    """

    def __init__(
        self, ledger: Ledger, last: int, clock: Callable[[], float] = time.time, *, bell: Bell | None = None
    ) -> None:
        self._ledger = ledger
        self._last = last
        self._clock = clock
        self._bell = bell or Bell()
        self._waiting: deque[EventRecord] = deque()
        self._dropped = 0
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()

    @classmethod
    async def open(cls, ledger: Ledger, *, bell: Bell | None = None) -> "EventLog":
        """Go on behind the newest stored event."""
        newest = await ledger.find("events", EventRecord, order_by="seq", descending=True, limit=1)
        return cls(ledger, newest[0].seq if newest else 0, bell=bell)

    @property
    def last(self) -> int:
        """Number of the newest event, stored or not."""
        return self._last

    def tell(self, kind: str, text: str, severity: Severity = "info", /, **subject: str) -> None:
        """Tell what happened; ``subject`` names what it is about, such as ``client="hospital-a"``."""
        self._last += 1
        event = EventRecord(self._last, self._clock(), kind, severity, text, subject)
        _log.log(_LEVELS[severity], text, kind=kind, **subject)
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(event)
        self._wake.set()

    async def run(self) -> None:
        """Write events behind until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.flush()
            except FednError as fault:
                _log.warning("events wait for the store", reason=fault.message, waiting=len(self._waiting))
                await asyncio.sleep(_RETRY_S)
                self._wake.set()

    async def flush(self) -> None:
        """Write what waits, or raise what the store raises; nothing written twice, nothing out of order."""
        async with self._writing:
            while self._waiting:
                event = self._waiting[0]
                if await self._written(event) and self._waiting and self._waiting[0] is event:
                    self._waiting.popleft()
                    self._bell.ring()
                if not self._waiting and self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    self.tell("events.dropped", f"{dropped} events could not be stored in time and are lost", "error")

    async def _written(self, event: EventRecord) -> bool:
        """Write one event; False where another reducer has taken its number and it waits for a higher one."""
        key = event_key(event.seq)
        try:
            await self._ledger.add("events", key, event, **indexed(event))
        except RecordExists:
            # Written before and the answer was lost, or another reducer wrote on these stores.
            if await self._ledger.get("events", key, EventRecord) != event:
                await self._renumber()
                return False
        except NotStorable as fault:  # one that no store takes must not hold up all that come after it
            _log.warning("an event cannot be stored", kind=event.kind, reason=fault.message)
        return True

    async def _renumber(self) -> None:
        newest = await self._ledger.find("events", EventRecord, order_by="seq", descending=True, limit=1)
        first = newest[0].seq + 1
        self._waiting = deque(replace(event, seq=first + place) for place, event in enumerate(self._waiting))
        self._last = first + len(self._waiting) - 1


def event_key(seq: int) -> str:
    """Return the key of an event's document: keys are in the order of the events."""
    return f"{seq:012d}"


def indexed(event: EventRecord) -> dict[str, str | int | bool]:
    """Return what events are searched by."""
    return {"seq": event.seq, "kind": event.kind, "severity": event.severity}
