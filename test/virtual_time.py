"""Time that passes only when everybody waits: for tests of what takes seconds, in no time."""

import asyncio
import heapq
from collections.abc import Awaitable
from itertools import count
from typing import TypeVar

Outcome = TypeVar("Outcome")

_TURNS = 20
"""Turns of the loop after which whoever can go on without time has done so."""


class VirtualTime:
    """A clock and what sleeps by it."""

    def __init__(self) -> None:
        self.now = 100.0
        self._sleeping: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleeping, (self.now + seconds, next(self._order), woken))
        await woken

    async def until(self, work: Awaitable[Outcome], *, at_most_s: float = 1e9) -> Outcome:
        """Let time pass until some work is done; raises TimeoutError when it is not within so many seconds."""
        task = asyncio.ensure_future(work)
        end = self.now + at_most_s
        while True:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            if task.done():
                return task.result()
            if not self._sleeping or self._sleeping[0][0] > end:
                self.now = end
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                raise TimeoutError
            self.now, _, woken = heapq.heappop(self._sleeping)
            if not woken.done():
                woken.set_result(None)

    async def passes(self, seconds: float) -> None:
        """Let so much time pass for everybody else."""
        await self.until(self.sleep(seconds))
