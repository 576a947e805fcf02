"""Waiting for a store that is away: the network waits, says so once, and goes on."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from fedn_py.errors import FednError
from fedn_py.reducer.event_log import EventLog
from fedn_py.runtime.scratch import DiskFull, NoFilesLeft
from fedn_py.runtime.waiting import wait_out
from fedn_py.store.ports import StoreFull, StoreMisconfigured, StoreUnavailable

Outcome = TypeVar("Outcome")

WAITED_FOR = (StoreUnavailable, StoreFull, StoreMisconfigured, DiskFull, NoFilesLeft)
"""What passes by itself or by an operator's hand, and is waited for; rights and keys of a store that worked do too."""

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
        wait = object()

        def waiting(fault: FednError, tries: int) -> None:
            if tries == 1:
                self._tell_waiting(fault)
            self._reasons[wait] = fault.message

        try:
            outcome = await wait_out(
                work,
                lambda fault: isinstance(fault, WAITED_FOR),
                waiting,
                base_s=self._base_s,
                longest_s=_LONGEST_S,
            )
        finally:
            had_to_wait = self._reasons.pop(wait, None) is not None
        if had_to_wait:
            self._events.tell("store.back", "the store answers again; the session goes on")
        return outcome

    def _tell_waiting(self, fault: FednError) -> None:
        self._events.tell("store.waiting", f"{fault.message} The session waits. {fault.remedy}", "error")
