"""How many transfers move at once: few where they are quick, so that buffers are few, and more where they are slow."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

QUICK = 4
"""So many quick transfers keep a machine busy; more of them only fill buffers, of some MiB each."""

_LOOKED_AT_EVERY_S = 0.05
_QUICK_BYTES_A_SECOND = 16 * 1024 * 1024
_LONGEST_WAIT_S = 5.0


class Turn:
    """The turn of one transfer.

    Args:
        give_on: gives it to the next.
        longest_s: says how long it may be kept, as things are now.
    """

    def __init__(self, give_on: Callable[[], None], longest_s: Callable[[], float], looked_at_every_s: float) -> None:
        self._give_on, self._longest_s, self._every_s = give_on, longest_s, looked_at_every_s
        self._moved = 0
        self._since = asyncio.get_running_loop().time()
        self._next_look: asyncio.TimerHandle | None = None
        self._go_on()

    def moved(self, size: int) -> None:
        """Learn that so many bytes have moved."""
        self._moved += size

    def end(self) -> None:
        """Give the turn on, if it is still there."""
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
            self._give_on()

    def _go_on(self) -> None:
        self._moved = 0
        self._next_look = asyncio.get_running_loop().call_later(self._every_s, self._look)

    def _look(self) -> None:
        is_quick = self._moved > _QUICK_BYTES_A_SECOND * self._every_s
        if is_quick and asyncio.get_running_loop().time() - self._since < self._longest_s():
            self._go_on()
        else:
            self.end()


class Turns:
    """Turns of transfers.

    A quick one keeps its turn, mostly to its end: more at once would get no further on this machine, and the memory
    that one has used is still at hand for the next. One that is slow gives its turn on and goes on without it: then it
    is its peer, or the network between, that it waits for, and the machine is free for others. Where many wait, quick
    ones give theirs on sooner, so that the last of them begins after some seconds.

    Args:
        quick: how many have a turn at once.
        most: how many are under way at once, slow ones included; None for any number.
        looked_at_every_s: how often it is looked at whether one is slow.
        longest_wait_s: after so long the last of those who wait should have a turn.
    """

    def __init__(
        self,
        quick: int = QUICK,
        *,
        most: int | None = None,
        looked_at_every_s: float = _LOOKED_AT_EVERY_S,
        longest_wait_s: float = _LONGEST_WAIT_S,
    ) -> None:
        self._quick = asyncio.Semaphore(quick)
        self._n_quick, self._n_waiting = quick, 0
        self._all = asyncio.Semaphore(most) if most is not None else contextlib.nullcontext()
        self._every_s, self._longest_wait_s = looked_at_every_s, longest_wait_s

    @contextlib.asynccontextmanager
    async def taken(self) -> AsyncIterator[Turn]:
        """Wait for a turn, and have it for the time of a transfer or until others should have it."""
        async with self._all:
            self._n_waiting += 1
            try:
                await self._quick.acquire()
            finally:
                self._n_waiting -= 1
            turn = Turn(self._quick.release, self._longest_s, self._every_s)
            try:
                yield turn
            finally:
                turn.end()

    def _longest_s(self) -> float:
        return self._longest_wait_s * self._n_quick / max(1, self._n_waiting)
