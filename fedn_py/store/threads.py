"""Blocking work of the adapters, done in threads of their own: the event loop never waits on a disk or a server."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A few threads of one adapter, so that a slow store holds up nobody but its own callers."""

    def __init__(self, name: str, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await ``work(*args)`` in a thread."""
        return await self.run_until(threading.Event(), lambda: work(*args, **kwargs))

    async def run_until(self, stop: threading.Event, work: Callable[[], T]) -> T:
        """Await ``work()`` in a thread; when the caller is cancelled, set ``stop`` and wait for the work to end.

        A thread cannot be cancelled: returning at once would let the caller close a file that is being written.
        """
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()  # seen: the caller is gone and nobody else will ask
            raise

    def start(self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Do ``work(*args)`` in a thread, some time; nobody hears what comes of it."""
        self._pool.submit(work, *args, **kwargs)

    def close(self) -> None:
        """Take no more work; what runs is finished."""
        self._pool.shutdown(wait=False)
