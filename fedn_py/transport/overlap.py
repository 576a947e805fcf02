"""Storing what comes in while more comes in: the socket does not wait for the disk or the hash, nor they for it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from fedn_py.transport.chunks import CHUNK_BYTES
from fedn_py.transport.completion import to_the_end
from fedn_py.transport.parts import Chunk

_MOST_WAITING_BYTES = 4 * CHUNK_BYTES


async def store_as_they_come(chunks: AsyncIterator[Chunk], store: Callable[..., Awaitable[None]]) -> None:
    """Store all chunks, in order; those that come while others are stored go together, in one call.

    A few MiB at most wait. All that came is stored, also when the chunks end in a fault.

    Args:
        store: called with one chunk or more, never again before it has returned, nor after it has raised.

    Raises:
        Exception: of ``store``, at the next chunk or the end; or of ``chunks``.
    """
    waiting: list[Chunk] = []
    taken = asyncio.Event()

    async def store_waiting() -> None:
        try:
            while waiting:
                now = waiting.copy()
                waiting.clear()
                taken.set()
                await store(*now)
        finally:
            taken.set()

    storing: asyncio.Future[None] | None = None
    try:
        async for chunk in chunks:
            waiting.append(chunk)
            if storing is None or storing.done():
                if storing is not None:
                    storing.result()
                storing = asyncio.ensure_future(store_waiting())
            elif sum(map(len, waiting)) >= _MOST_WAITING_BYTES:
                taken.clear()
                await taken.wait()
        if storing is not None:
            await storing
    finally:
        if storing is not None:
            # Also where it has ended: the last chunk of a call that was cut is followed by what looks like the end of
            # all chunks, and its cancellation comes in the loop's next turns.
            await to_the_end(asyncio.gather(storing, return_exceptions=True))
