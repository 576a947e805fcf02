"""How many transfers move at once: few where they are quick, so that buffers are few, and more where they are slow."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

QUICK = 4
"""So many quick transfers keep a machine busy; more of them only fill buffers, of some MiB each."""

_LOOKED_AT_EVERY_S = 0.05
_QUICK_BYTES_A_SECOND = 16 * 1024 * 1024


class Turn:
    """The turn of one transfer."""

    def __init__(self, give_on: Callable[[], None], looked_at_every_s: float) -> None:
        self._give_on, self._every_s = give_on, looked_at_every_s
        self._moved = 0
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
        if self._moved <= _QUICK_BYTES_A_SECOND * self._every_s:
            self.end()
        else:
            self._go_on()


class Turns:
    """Turns of transfers.

    A quick one keeps its turn to its end: more at once would get no further, and what one has used in memory is still
    at hand for the next. One that is slow gives its turn on and goes on without it: then it is its peer, or the network
    between, that it waits for, and the machine is free for others. So many peers never wait long for each other,
    however far away they are.

    Args:
        quick: how many have a turn at once.
        most: how many are under way at once, slow ones included; None for any number.
        looked_at_every_s: how often it is looked at whether one is slow.
    """

    def __init__(
        self, quick: int = QUICK, *, most: int | None = None, looked_at_every_s: float = _LOOKED_AT_EVERY_S
    ) -> None:
        self._quick = asyncio.Semaphore(quick)
        self._all = asyncio.Semaphore(most) if most is not None else contextlib.nullcontext()
        self._every_s = looked_at_every_s

    @contextlib.asynccontextmanager
    async def taken(self) -> AsyncIterator[Turn]:
        """Wait for a turn, and have it for the time of a transfer or until it proves to be slow."""
        async with self._all:
            await self._quick.acquire()
            turn = Turn(self._quick.release, self._every_s)
            try:
                yield turn
            finally:
                turn.end()
