"""Objects that a sweep goes over: what was stored through here lately stays, whether a document names it yet or not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from pathlib import Path

from fedn_py.identity import Digest
from fedn_py.store.ports import Linked, ObjectMissing, Objects, ObjectStat, StoreUnavailable


class SweptObjects:
    """Objects as the reducer sees them: what it has stored is left alone for a while; implements ``Objects``.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, objects: Objects, grace_s: float, clock: Callable[[], float]) -> None:
        self._objects, self._grace_s, self._clock = objects, grace_s, clock
        self._stored: dict[Digest, float] = {}
        self._settling = asyncio.Lock()

    async def put(self, chunks: AsyncIterator[bytes], *, expected: Digest | None = None) -> ObjectStat:
        """See Objects.put; StoreUnavailable also where a sweep has removed it in the same moment."""
        return await self._settled(await self._objects.put(chunks, expected=expected))

    async def put_file(self, path: Path, digest: Digest) -> ObjectStat:
        """See Objects.put_file; StoreUnavailable as for ``put``."""
        return await self._settled(await self._objects.put_file(path, digest))

    async def _settled(self, stat: ObjectStat) -> ObjectStat:
        async with self._settling:
            self._stored[stat.digest] = self._clock()
            try:
                await self._objects.stat(stat.digest)
            except ObjectMissing as fault:
                raise StoreUnavailable(f"object {stat.digest} was swept while it was stored") from fault
        return stat

    async def remove_old(self, digest: Digest, may_go: Callable[[], Awaitable[bool]]) -> ObjectStat | None:
        """Remove an object that is old and that nothing is said against; return what it was, None where it stays.

        Args:
            may_go: asked last, while nothing can be stored through here.
        """
        async with self._settling:
            try:
                stat = await self._objects.stat(digest)
            except ObjectMissing:
                return None
            if not self._is_old(stat) or not await may_go():
                return None
            await self._objects.delete(digest)
        return stat

    async def old(self) -> AsyncIterator[Digest]:
        """Go over the objects that are beyond the grace."""
        now = self._clock()
        self._stored = {digest: at for digest, at in self._stored.items() if now - at < self._grace_s}
        async for stat in self._objects.list():
            if self._is_old(stat):
                yield stat.digest

    def _is_old(self, stat: ObjectStat) -> bool:
        return stat.age_s >= self._grace_s and stat.digest not in self._stored

    def get(self, digest: Digest, *, offset: int = 0) -> AsyncIterator[bytes]:
        """See Objects.get."""
        return self._objects.get(digest, offset=offset)

    async def link(self, digest: Digest, into: Path) -> Linked:
        """See Objects.link."""
        return await self._objects.link(digest, into)

    async def stat(self, digest: Digest) -> ObjectStat:
        """See Objects.stat."""
        return await self._objects.stat(digest)

    async def delete(self, digest: Digest) -> None:
        """See Objects.delete."""
        await self._objects.delete(digest)

    def list(self) -> AsyncIterator[ObjectStat]:
        """See Objects.list."""
        return self._objects.list()

    async def check(self) -> None:
        """See Objects.check."""
        await self._objects.check()

    async def now(self) -> datetime | None:
        """See Objects.now."""
        return await self._objects.now()

    async def close(self) -> None:
        """See Objects.close."""
        await self._objects.close()
