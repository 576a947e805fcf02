"""Whole uploads on their way into the store: each goes there once, for all streams of it that are open meanwhile.

A sender whose connection broke while its upload was being stored comes again, often before that has ended. Its new
stream waits for the same end: the bytes are on the move, and can be neither received nor stored a second time.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable
from typing import Any

from fedn_py.transport.completion import to_the_end

_UNATTENDED_S = 30.0
"""So long a sender may take to come again."""


class Storing:
    """One upload's way into the store, as the streams of the upload see it."""

    def __init__(self) -> None:
        self.streams = 0
        self.task: asyncio.Future[None] | None = None
        self.expiry: asyncio.TimerHandle | None = None

    @property
    def has_begun(self) -> bool:
        """Whether it has begun, and ended perhaps, in a fault or not."""
        return self.task is not None

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, in a fault or not."""
        return self.task is not None and self.task.done()

    @property
    def is_of_use(self) -> bool:
        """Whether it goes on, or has ended well."""
        return self.task is not None and not _has_failed(self.task)

    def begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have it stored, unless another stream has done so already."""
        if not self.is_of_use:
            self.task = asyncio.ensure_future(work())

    async def end(self) -> None:
        """Wait until it is stored, or raise why it is not; others wait on where this stream gives up."""
        assert self.task is not None
        await asyncio.shield(self.task)


class Storings:
    """The uploads that are being received or stored, each under its key."""

    def __init__(self, unattended_s: float = _UNATTENDED_S) -> None:
        self._unattended_s = unattended_s
        self._all: dict[Hashable, Storing] = {}
        self._closed = False

    @contextlib.asynccontextmanager
    async def of(self, key: Hashable) -> AsyncIterator[Storing]:
        """Be a stream of an upload: what was begun goes on when the stream is cut, so that the next one finds it."""
        storing = self._all.setdefault(key, Storing())
        storing.streams += 1
        if storing.expiry is not None:
            storing.expiry.cancel()
        try:
            yield storing
        finally:
            storing.streams -= 1
            if not storing.streams:
                await self._leave(key, storing)

    async def close(self) -> None:
        """Give up what no stream waits for any more; what still has one is given up with it."""
        self._closed = True
        for key, storing in list(self._all.items()):
            if not storing.streams:
                await self._leave(key, storing)

    async def _leave(self, key: Hashable, storing: Storing) -> None:
        """Let go of what has ended; have the rest end by itself, or give it up after a while."""
        task = storing.task
        if task is None or task.done():
            self._forget(key, storing)
        elif self._closed:
            self._give_up(key, storing)
            await to_the_end(asyncio.gather(task, return_exceptions=True))
        else:
            loop = asyncio.get_running_loop()
            storing.expiry = loop.call_later(self._unattended_s, self._give_up, key, storing)
            task.add_done_callback(lambda _: None if storing.streams else self._forget(key, storing))

    def _give_up(self, key: Hashable, storing: Storing) -> None:
        self._forget(key, storing)
        if storing.task is not None:
            storing.task.cancel()

    def _forget(self, key: Hashable, storing: Storing) -> None:
        if self._all.get(key) is storing:
            del self._all[key]
        if storing.expiry is not None:
            storing.expiry.cancel()
        if storing.task is not None:
            _has_failed(storing.task)  # seen, or asyncio would report a fault that nobody waits for any more


def _has_failed(task: "asyncio.Future[None]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
