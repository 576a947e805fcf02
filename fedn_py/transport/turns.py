"""How many transfers move at once: few where they are quick, so that buffers are few, and more where they are slow."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

QUICK = 4
"""So many quick transfers keep a machine busy; more of them only fill buffers, of some MiB each."""

_SLOW_AFTER_S = 0.05


class Turns:
    """Turns of transfers.

    One that lasts gives its turn to the next and goes on: then it is its peer, or the network between, that it waits
    for, and the machine is free for others. So many peers never wait long for each other, however far away they are.

    Args:
        quick: how many have a turn at once.
        most: how many are under way at once, slow ones included; None for any number.
        slow_after_s: how long a turn lasts.
    """

    def __init__(self, quick: int = QUICK, *, most: int | None = None, slow_after_s: float = _SLOW_AFTER_S) -> None:
        self._quick = asyncio.Semaphore(quick)
        self._all = asyncio.Semaphore(most) if most is not None else contextlib.nullcontext()
        self._slow_after_s = slow_after_s

    @contextlib.asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it for the time of a transfer or until it proves to be slow."""
        async with self._all:
            await self._quick.acquire()
            over = asyncio.get_running_loop().call_later(self._slow_after_s, self._quick.release)
            try:
                yield
            finally:
                if over.when() > asyncio.get_running_loop().time():
                    over.cancel()
                    self._quick.release()
