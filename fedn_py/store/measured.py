"""Stores that tell how long each operation took and how it ended; they do nothing else."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from fedn_py.identity import Digest
from fedn_py.store.ports import (
    Collection,
    Document,
    Documents,
    JSONValue,
    Linked,
    NotStorable,
    ObjectCorrupt,
    ObjectMissing,
    Objects,
    ObjectStat,
    Outcome,
    StoreDamaged,
    StoreFull,
    StoreInUse,
    StoreMisconfigured,
    StoreUnavailable,
)

Observe = Callable[[str, str, str, float], None]
"""Told of each operation: its name, its outcome, the code of its fault or nothing, and its seconds.

The outcome is ok, refused or unknown as the port has it, missing for an object that is not there, failed, or broken
off where what ended it was not the store.
"""

_FAULTS = (
    StoreUnavailable,
    StoreFull,
    StoreMisconfigured,
    StoreInUse,
    StoreDamaged,
    NotStorable,
    ObjectCorrupt,
)

STORE_FAULTS = tuple(fault.__name__ for fault in _FAULTS)
"""Codes of the faults that are told of."""

Clock = Callable[[], float]
Item = TypeVar("Item")


class _Timing:
    """One operation while it runs.

    Attributes:
        outcome: how it ended.
        told: what a write said of itself, empty for other operations.
        away_s: seconds of it that were not the store's.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.outcome = "broken off"
        self.told = ""
        self.away_s = 0.0

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Leave what happens here out of the operation's time."""
        began = self._clock()
        try:
            yield
        finally:
            self.away_s += self._clock() - began


@contextlib.contextmanager
def _timed(observe: Observe, clock: Clock, operation: str) -> Iterator[_Timing]:
    timing, error = _Timing(clock), ""
    began = clock()
    try:
        yield timing
        timing.outcome = timing.told or "ok"
    except ObjectMissing:
        timing.outcome = "missing"
        raise
    except _FAULTS as fault:
        timing.outcome = "failed"
        error = next(kind.__name__ for kind in _FAULTS if isinstance(fault, kind))
        raise
    finally:
        observe(operation, timing.outcome, error, clock() - began - timing.away_s)


async def _streamed(observe: Observe, clock: Clock, operation: str, stream: AsyncIterator[Item]) -> AsyncIterator[Item]:
    """Pass a store's stream on; what its reader takes for itself is not the store's time."""
    with _timed(observe, clock, operation) as timing:
        try:
            async for item in stream:
                with timing.away():
                    yield item
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()


async def _from_outside(chunks: AsyncIterator[bytes], timing: _Timing) -> AsyncIterator[bytes]:
    """Pass chunks on to a store; what their source takes is not the store's time."""
    while True:
        with timing.away():
            chunk = await anext(chunks, None)
        if chunk is None:
            return
        yield chunk


class MeasuredDocuments:
    """Documents whose every operation is observed; implements ``Documents``.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, documents: Documents, observe: Observe, clock: Clock = time.perf_counter) -> None:
        self._documents, self._observe, self._clock = documents, observe, clock

    async def insert(
        self, collection: Collection, key: str, content: Mapping[str, JSONValue], *, fence: int, operation: str
    ) -> Outcome:
        """See Documents.insert."""
        with _timed(self._observe, self._clock, "insert") as timing:
            outcome = await self._documents.insert(collection, key, content, fence=fence, operation=operation)
            timing.told = outcome
        return outcome

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
        """See Documents.update."""
        with _timed(self._observe, self._clock, "update") as timing:
            outcome = await self._documents.update(
                collection, key, content, version=version, fence=fence, operation=operation
            )
            timing.told = outcome
        return outcome

    async def get(self, collection: Collection, key: str) -> Document | None:
        """See Documents.get."""
        with _timed(self._observe, self._clock, "get"):
            return await self._documents.get(collection, key)

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
        """See Documents.find."""
        with _timed(self._observe, self._clock, "find"):
            return await self._documents.find(
                collection, equals or {}, order_by=order_by, descending=descending, limit=limit, after=after
            )

    async def count(self, collection: Collection, equals: Mapping[str, str | int | bool] | None = None) -> int:
        """See Documents.count."""
        with _timed(self._observe, self._clock, "count"):
            return await self._documents.count(collection, equals or {})

    async def delete(self, collection: Collection, key: str, *, version: int, fence: int) -> Outcome:
        """See Documents.delete."""
        with _timed(self._observe, self._clock, "delete") as timing:
            outcome = await self._documents.delete(collection, key, version=version, fence=fence)
            timing.told = outcome
        return outcome

    async def forget(self) -> None:
        """See Documents.forget."""
        with _timed(self._observe, self._clock, "forget"):
            await self._documents.forget()

    async def check(self) -> None:
        """See Documents.check."""
        with _timed(self._observe, self._clock, "check"):
            await self._documents.check()

    async def now(self) -> datetime | None:
        """See Documents.now."""
        with _timed(self._observe, self._clock, "now"):
            return await self._documents.now()

    async def close(self) -> None:
        """See Documents.close."""
        await self._documents.close()


class MeasuredObjects:
    """Objects whose every operation is observed; implements ``Objects``.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, objects: Objects, observe: Observe, clock: Clock = time.perf_counter) -> None:
        self._objects, self._observe, self._clock = objects, observe, clock

    async def put(self, chunks: AsyncIterator[bytes], *, expected: Digest | None = None) -> ObjectStat:
        """See Objects.put."""
        with _timed(self._observe, self._clock, "put") as timing:
            return await self._objects.put(_from_outside(chunks, timing), expected=expected)

    async def put_file(self, path: Path, digest: Digest) -> ObjectStat:
        """See Objects.put_file."""
        with _timed(self._observe, self._clock, "put"):
            return await self._objects.put_file(path, digest)

    async def link(self, digest: Digest, into: Path) -> Linked:
        """See Objects.link."""
        with _timed(self._observe, self._clock, "link"):
            return await self._objects.link(digest, into)

    def get(self, digest: Digest, *, offset: int = 0) -> AsyncIterator[bytes]:
        """See Objects.get."""
        return _streamed(self._observe, self._clock, "get", self._objects.get(digest, offset=offset))

    async def stat(self, digest: Digest) -> ObjectStat:
        """See Objects.stat."""
        with _timed(self._observe, self._clock, "stat"):
            return await self._objects.stat(digest)

    async def delete(self, digest: Digest) -> None:
        """See Objects.delete."""
        with _timed(self._observe, self._clock, "delete"):
            await self._objects.delete(digest)

    def list(self) -> AsyncIterator[ObjectStat]:
        """See Objects.list."""
        return _streamed(self._observe, self._clock, "list", self._objects.list())

    async def check(self) -> None:
        """See Objects.check."""
        with _timed(self._observe, self._clock, "check"):
            await self._objects.check()

    async def now(self) -> datetime | None:
        """See Objects.now."""
        with _timed(self._observe, self._clock, "now"):
            return await self._objects.now()

    async def close(self) -> None:
        """See Objects.close."""
        await self._objects.close()
