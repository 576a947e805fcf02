"""Who has a stream open now: a peer that comes back while its old stream still hangs replaces it, in order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from fedn_py.transport import reading
from fedn_py.transport.completion import to_the_end
from fedn_py.transport.streams import END, Outbox, PeerSilent, StreamReplaced

HELLO_WITHIN_S = 20.0
"""How long a stream may be open before its first message."""

Message = TypeVar("Message")


class Attendance(Generic[Message]):
    """The streams that a service has open, by who is at their other end."""

    def __init__(self) -> None:
        self._present: dict[Hashable, tuple[Outbox[Message], asyncio.Event]] = {}

    @contextlib.asynccontextmanager
    async def of(self, peer: Hashable, outbox: Outbox[Message]) -> AsyncIterator[None]:
        """Hold a peer's place for the time of its stream.

        The same peer's older stream is broken off first, and its end waited for: were it to end later, the peer
        would be taken for gone while its new stream is open.
        """
        while peer in self._present:
            older, over = self._present[peer]
            older.break_off(StreamReplaced("a newer stream of the same peer has taken over"))
            await over.wait()
        over = asyncio.Event()
        self._present[peer] = (outbox, over)
        try:
            yield
        finally:
            del self._present[peer]
            over.set()

    async def close(self, reason: str) -> None:
        """End all streams."""
        for outbox, _ in list(self._present.values()):
            outbox.close(reason)


@contextlib.asynccontextmanager
async def present(
    arrive: Coroutine[Any, Any, None], leave: Callable[[], Coroutine[Any, Any, None]], outbox: Outbox[Message]
) -> AsyncIterator[None]:
    """Announce a peer for the time of its stream: whoever was taken in is told gone once, whatever ends the stream.

    Args:
        arrive: takes the peer in, or raises why not; then ``leave`` is not called.
    """
    arriving = asyncio.ensure_future(arrive)
    try:
        await to_the_end(_outcome_of(arriving))
        arriving.result()
        yield
    finally:
        outbox.close()
        if arriving.exception() is None:
            await to_the_end(leave())


async def _outcome_of(task: "asyncio.Task[None]") -> None:
    await asyncio.wait({task})


async def first_message(read: Callable[[], Awaitable[Any]]) -> Any:
    """Return the first message of a stream, or raise that there is none."""
    try:
        async with asyncio.timeout(HELLO_WITHIN_S):
            wire = await read()
    except TimeoutError:
        raise PeerSilent(f"no hello within {HELLO_WITHIN_S:g} s", remedy="It may connect again.") from None
    if wire is END:
        raise reading.malformed("a stream", "ended before its first message")
    return wire
