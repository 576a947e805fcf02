"""Who waits for memory, first come first served: not without end, and not for long without a word in the log.

Where one has waited in vain, who comes soon after it does not wait at all, unless memory is freed.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import structlog

_LONGEST_S = 120.0
"""Behind this nobody waits on: who is refused comes again, and an operator hears of it."""

_LONG_S = 20.0
"""A wait that is worth a word."""

_log = structlog.get_logger("fedn_py.transport")


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """One who waits for memory."""

    size: int
    turn: asyncio.Future[None]
    is_needless: Callable[[], bool]
    since: float


class MemoryQueue:
    """The queue for a spool's memory.

    Args:
        fits: says whether so many bytes are free.
        is_vain: says whether to give up waiting for so many bytes, when none were freed in the time for that; it is
            told how many came in since.
        received: bytes that came into memory so far.
        taken: what room is taken, in words.
        wait_s: the time for that, for so many bytes; 0 for no wait.
    """

    def __init__(
        self,
        fits: Callable[[int], bool],
        is_vain: Callable[[int, int], bool],
        received: Callable[[], int],
        taken: Callable[[], str],
        wait_s: Callable[[int], float],
    ) -> None:
        self._fits, self._is_vain, self._received, self._taken = fits, is_vain, received, taken
        self._wait_s = wait_s
        self._waiting: deque[_Waiting] = deque()
        self._times_freed = 0
        self._is_told = False
        self._vain_until = 0.0

    @property
    def next_size(self) -> int | None:
        """The bytes that the first in the queue waits for; None where nobody waits."""
        return self._waiting[0].size if self._waiting else None

    @contextlib.asynccontextmanager
    async def room_for(self, size: int, is_needless: Callable[[], bool]) -> AsyncIterator[bool]:
        """Wait for memory and say whether it is there; it must be taken before the context ends, without a wait.

        Args:
            is_needless: says, when a context ends, that it need not be waited for any more.
        """
        try:
            yield await self._come(size, is_needless)
        finally:
            self._go_on()

    def freed(self) -> None:
        """Learn that memory was freed."""
        self._times_freed += 1
        self._vain_until = 0.0
        self._go_on()

    async def _come(self, size: int, is_needless: Callable[[], bool]) -> bool:
        if not self._waiting and self._fits(size):
            return True
        loop = asyncio.get_running_loop()
        if not self._wait_s(size) or (loop.time() < self._vain_until and self._is_vain(size, 0)):
            return False
        waiting = _Waiting(size, loop.create_future(), is_needless, loop.time())
        self._waiting.append(waiting)
        try:
            await self._wait(waiting)
            return waiting.turn.done() and self._fits(size)
        finally:
            self._waiting.remove(waiting)
            self._is_told = self._is_told and bool(self._waiting)

    async def _wait(self, waiting: _Waiting) -> None:
        """Wait for a turn, or until it is of no use to wait on."""
        clock, wait_s = asyncio.get_running_loop().time, self._wait_s(waiting.size)
        while not waiting.turn.done() and (waited_s := clock() - waiting.since) < _LONGEST_S:
            self._tell(waited_s)
            freed, received = self._times_freed, self._received()
            await asyncio.wait({waiting.turn}, timeout=min(wait_s, _LONGEST_S - waited_s))
            if waiting.turn.done() or self._times_freed != freed:
                continue
            if self._is_vain(waiting.size, self._received() - received):
                if self._times_freed == freed:
                    self._vain_until = clock() + wait_s
                return

    def _tell(self, waited_s: float) -> None:
        """Say once that uploads wait for long, and again only when none has waited in the meantime."""
        if waited_s < _LONG_S or self._is_told:
            return
        self._is_told = True
        _log.warning(
            "uploads wait for room in the spool",
            uploads=len(self._waiting),
            waited_s=round(waited_s),
            reason=self._taken(),
            what_to_do="Give the spool more room if it happens often.",
        )

    def _go_on(self) -> None:
        for place, waiting in enumerate(self._waiting):
            is_next = place == 0 and self._fits(waiting.size)
            if not waiting.turn.done() and (is_next or waiting.is_needless()):
                waiting.turn.set_result(None)
