"""Waiting for a store that is away: the network waits, says so once, and goes on."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fedn_py.protocol.backoff import delay_s
from fedn_py.reducer.event_log import EventLog
from fedn_py.runtime.scratch import DiskFull
from fedn_py.store.ports import StoreFull, StoreUnavailable

Outcome = TypeVar("Outcome")

WAITED_FOR = (StoreUnavailable, StoreFull, DiskFull)
"""What passes by itself or by an operator's hand, and is waited for."""

_BASE_S = 0.2
_LONGEST_S = 5.0


class Patience:
    """Repeats what a store is needed for until the store answers.

    Attributes:
        waiting_for: why work rests now, empty when it does not.
    """

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self.waiting_for = ""

    async def until_done(self, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Do ``work``, again and again while the store is away or full; it must be safe to repeat."""
        attempt = 0
        while True:
            try:
                outcome = await work()
            except WAITED_FOR as fault:
                if not attempt:
                    self.waiting_for = fault.message
                    self._events.tell("store.waiting", f"{fault.message} The session waits. {fault.remedy}", "error")
                attempt += 1
                await asyncio.sleep(delay_s(attempt, random.random(), _BASE_S, _LONGEST_S))
            else:
                if attempt:
                    self.waiting_for = ""
                    self._events.tell("store.back", "the store answers again; the session goes on")
                return outcome
