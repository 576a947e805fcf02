"""Stores that misbehave on the n-th call: they fail, or lose the answer of a write that was applied or was not."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from fedn_py.errors import FednError
from fedn_py.identity import Digest
from fedn_py.store.ports import (
    Collection,
    Document,
    Documents,
    JSONValue,
    Linked,
    Objects,
    ObjectStat,
    Outcome,
    StoreUnavailable,
)

Mischief = Literal["fails", "lost, applied", "lost, not applied"]


def _no_answer() -> Exception:
    return StoreUnavailable("the store does not answer", remedy="Wait for it.")


class Trouble:
    """Counts the calls of both stores, or of another port, and says which of them goes wrong.

    Args:
        fault: makes what a call that fails raises.

    Attributes:
        calls: how many there were since ``begin``.
        struck: whether the n-th call was reached.
        away: while set, every call fails with what it makes.
    """

    def __init__(self, fault: Callable[[], Exception] = _no_answer) -> None:
        self.fault = fault
        self.calls = 0
        self.struck = False
        self.away: Callable[[], FednError] | None = None
        self._at, self._mischief, self._silence = 0, "fails", 0

    def begin(self, at: int, mischief: Mischief, silence: int = 0) -> None:
        """Have call number ``at`` from now on go wrong, 0 for none, and fail as many as ``silence`` behind it."""
        self.calls, self.struck, self._at, self._mischief, self._silence = 0, False, at, mischief, silence

    def next_call(self, *, writes: bool = False) -> Mischief | None:
        """Count a call; raises where it fails, and says what else goes wrong with it."""
        if self.away is not None:
            raise self.away()
        self.calls += 1
        if not self._at <= self.calls <= self._at + self._silence or not self._at:
            return None
        self.struck = True
        if self._mischief == "fails" or not writes or self.calls > self._at:
            raise self.fault()
        return self._mischief  # type: ignore[return-value]


class UnrulyDocuments:
    """Documents that obey a Trouble; others get to work during each call, as with any store but memory."""

    def __init__(self, inner: Documents, trouble: Trouble) -> None:
        self._inner, self._trouble = inner, trouble

    async def insert(
        self, collection: Collection, key: str, content: Mapping[str, JSONValue], *, fence: int, operation: str
    ) -> Outcome:
        await asyncio.sleep(0)
        mischief = self._trouble.next_call(writes=True)
        if mischief == "lost, not applied":
            return "unknown"
        outcome = await self._inner.insert(collection, key, content, fence=fence, operation=operation)
        return "unknown" if mischief else outcome

    async def update(
        self,
        collection: Collection,
        key: str,
        content: Mapping[str, JSONValue],
        *,
        version: int,
        fence: int,
        operation: str,
    ) -> Outcome:
        await asyncio.sleep(0)
        mischief = self._trouble.next_call(writes=True)
        if mischief == "lost, not applied":
            return "unknown"
        outcome = await self._inner.update(collection, key, content, version=version, fence=fence, operation=operation)
        return "unknown" if mischief else outcome

    async def get(self, collection: Collection, key: str) -> Document | None:
        await asyncio.sleep(0)
        self._trouble.next_call()
        return await self._inner.get(collection, key)

    async def find(
        self,
        collection: Collection,
        equals: Mapping[str, str | int | bool] | None = None,
        *,
        order_by: str = "",
        descending: bool = False,
        limit: int = 0,
        after: str | int | None = None,
    ) -> Sequence[Document]:
        await asyncio.sleep(0)
        self._trouble.next_call()
        return await self._inner.find(
            collection, equals or {}, order_by=order_by, descending=descending, limit=limit, after=after
        )

    async def count(self, collection: Collection, equals: Mapping[str, str | int | bool] | None = None) -> int:
        await asyncio.sleep(0)
        self._trouble.next_call()
        return await self._inner.count(collection, equals or {})

    async def delete(self, collection: Collection, key: str, *, version: int, fence: int) -> Outcome:
        await asyncio.sleep(0)
        mischief = self._trouble.next_call(writes=True)
        if mischief == "lost, not applied":
            return "unknown"
        outcome = await self._inner.delete(collection, key, version=version, fence=fence)
        return "unknown" if mischief else outcome

    async def forget(self) -> None:
        await asyncio.sleep(0)
        self._trouble.next_call()
        await self._inner.forget()

    async def check(self) -> None:
        await asyncio.sleep(0)
        self._trouble.next_call()

    async def now(self) -> datetime | None:
        return await self._inner.now()

    async def close(self) -> None:
        await self._inner.close()


class UnrulyObjects:
    """Objects that obey a Trouble; a put whose answer is lost fails, as its caller sees it."""

    def __init__(self, inner: Objects, trouble: Trouble) -> None:
        self._inner, self._trouble = inner, trouble

    async def put(self, chunks: AsyncIterator[bytes], *, expected: Digest | None = None) -> ObjectStat:
        mischief = self._trouble.next_call(writes=True)
        if mischief == "lost, not applied":
            raise self._trouble.fault()
        stat = await self._inner.put(chunks, expected=expected)
        if mischief:
            raise self._trouble.fault()
        return stat

    async def put_file(self, path: Path, digest: Digest) -> ObjectStat:
        mischief = self._trouble.next_call(writes=True)
        if mischief == "lost, not applied":
            raise self._trouble.fault()
        stat = await self._inner.put_file(path, digest)
        if mischief:
            raise self._trouble.fault()
        return stat

    async def link(self, digest: Digest, into: Path) -> Linked:
        return "not"  # as if they were on another host

    async def get(self, digest: Digest, *, offset: int = 0) -> AsyncIterator[bytes]:
        breaks_off = self._trouble.next_call(writes=True)
        async for chunk in self._inner.get(digest, offset=offset):
            if breaks_off:
                yield chunk[: len(chunk) // 2]
                raise self._trouble.fault()
            yield chunk

    async def stat(self, digest: Digest) -> ObjectStat:
        self._trouble.next_call()
        return await self._inner.stat(digest)

    async def delete(self, digest: Digest) -> None:
        mischief = self._trouble.next_call(writes=True)
        if mischief != "lost, not applied":
            await self._inner.delete(digest)
        if mischief:
            raise self._trouble.fault()

    async def list(self) -> AsyncIterator[ObjectStat]:
        self._trouble.next_call()
        async for stat in self._inner.list():
            yield stat

    async def check(self) -> None:
        self._trouble.next_call()

    async def now(self) -> datetime | None:
        return await self._inner.now()

    async def close(self) -> None:
        await self._inner.close()
