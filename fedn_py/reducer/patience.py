"""Waiting for a store that is away: the network waits, says so once, and goes on."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fedn_py.errors import FednError
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

    Args:
        base_s: the bound of the wait before the second try, doubled for each further one.
    """

    def __init__(self, events: EventLog, base_s: float = _BASE_S) -> None:
        self._events = events
        self._base_s = base_s
        self._reasons: dict[object, str] = {}

    @property
    def waiting_for(self) -> str:
        """Why work rests now, empty when it does not."""
        return next(iter(self._reasons.values()), "")

    async def until_done(self, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Do ``work``, again and again while the store is away or full; it must be safe to repeat."""
        attempt, wait = 0, object()
        try:
            while True:
                try:
                    outcome = await work()
                except WAITED_FOR as fault:
                    if not attempt:
                        self._tell_waiting(fault)
                    self._reasons[wait] = fault.message
                    attempt += 1
                    await asyncio.sleep(delay_s(attempt, random.random(), self._base_s, _LONGEST_S))
                else:
                    break
        finally:
            self._reasons.pop(wait, None)
        if attempt:
            self._events.tell("store.back", "the store answers again; the session goes on")
        return outcome

    def _tell_waiting(self, fault: FednError) -> None:
        self._events.tell("store.waiting", f"{fault.message} The session waits. {fault.remedy}", "error")
