"""Objects on their way down: read and framed once for all downloads that are near each other.

The clients of a round download the same model at about the same time. The first of them that needs a chunk has it read;
a few chunks are kept for those behind. Who falls further behind, or comes later, begins a reading of its own.
"""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator

from fedn_py.identity import Digest
from fedn_py.transport.chunks import ObjectSource, pieces
from fedn_py.transport.completion import to_the_end
from fedn_py.transport.parts import FramedChunk, framed

_MOST_KEPT = 8
"""Parts of one reading that several downloads share; a download on its own needs none of those behind it."""


class SharedReads:
    """Readings of a source, each shared by the downloads that can use it."""

    def __init__(self, source: ObjectSource) -> None:
        self._source = source
        self._under_way: dict[Digest, list[_Reading]] = defaultdict(list)

    async def parts(self, digest: Digest, offset: int, size: int) -> AsyncGenerator[FramedChunk, None]:
        """Yield the bytes of an object of a size from an offset on, as parts that are ready to be sent."""
        reading = self._join(digest, offset)
        try:
            while offset < size:
                if not reading.reaches(offset):
                    left, reading = reading, self._join(digest, offset)
                    await self._leave(digest, left)
                part = await reading.part_at(offset)
                if part is None:
                    return
                offset += part.size
                yield part
        finally:
            await self._leave(digest, reading)

    def _join(self, digest: Digest, offset: int) -> "_Reading":
        for reading in self._under_way[digest]:
            if reading.reaches(offset):
                break
        else:
            reading = _Reading(self._source.get(digest, offset=offset), offset)
            self._under_way[digest].append(reading)
        reading.users += 1
        return reading

    async def _leave(self, digest: Digest, reading: "_Reading") -> None:
        reading.users -= 1
        if reading.users:
            return
        self._under_way[digest].remove(reading)
        if not self._under_way[digest]:
            del self._under_way[digest]
        await reading.close()


class _Reading:
    """One pass over an object, and the last few parts of it.

    Attributes:
        users: downloads that use it.
    """

    def __init__(self, source: AsyncIterator[bytes], offset: int) -> None:
        self.users = 0
        self._source = source
        self._parts: OrderedDict[int, FramedChunk] = OrderedDict()
        self._end = offset
        self._step: asyncio.Task[FramedChunk | None] | None = None

    def reaches(self, offset: int) -> bool:
        """Say whether a download that stands here can go on with it; one that broke is of no use to anybody."""
        return offset in self._parts or (offset == self._end and not self._broken())

    async def part_at(self, offset: int) -> FramedChunk | None:
        """Return the part that begins at an offset that it reaches, None at the end of the object."""
        if offset in self._parts:
            return self._parts[offset]
        if self._step is None or self._step.done():
            self._step = asyncio.ensure_future(self._read_on())
        # Others wait for the same step: it outlives a download that is given up.
        return await asyncio.shield(self._step)

    async def close(self) -> None:
        """Let go of the source."""
        if self._step is not None:
            self._step.cancel()  # the source may be waiting for what comes much later, or never
            await to_the_end(asyncio.gather(self._step, return_exceptions=True))
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()

    async def _read_on(self) -> FramedChunk | None:
        """Take the next bytes of the source and return the first part of them."""
        data = await anext(self._source, b"")
        if not data:
            return None
        first, most_kept = self._end, _MOST_KEPT if self.users > 1 else 1
        while len(self._parts) >= most_kept:
            self._parts.popitem(last=False)
        for chunk in pieces(data):
            part = framed(chunk)
            self._parts[self._end] = part
            self._end += part.size
        return self._parts[first]

    def _broken(self) -> bool:
        return self._step is not None and self._step.done() and self._step.exception() is not None
