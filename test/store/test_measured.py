"""Measured stores tell of every operation how it ended and how long the store took, and change nothing of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from artifacts import chunked
from unruly_store import Trouble, UnrulyDocuments, UnrulyObjects

from fedn_py.identity import Digest
from fedn_py.store.measured import MeasuredDocuments, MeasuredObjects
from fedn_py.store.memory import MemoryDocuments, MemoryObjects
from fedn_py.store.ports import ObjectMissing, ObjectStat, StoreUnavailable

NOWHERE = Digest("0" * 64)


class Told:
    """What was observed, without the seconds."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self.seconds: list[float] = []

    def __call__(self, operation: str, outcome: str, error: str, seconds: float) -> None:
        self.calls.append((operation, outcome, error))
        self.seconds.append(seconds)


def test_writes_end_as_the_store_says_and_reads_end_well() -> None:
    async def story() -> list[tuple[str, str, str]]:
        told, trouble = Told(), Trouble()
        documents = MeasuredDocuments(UnrulyDocuments(MemoryDocuments(), trouble), told)
        await documents.insert("rounds", "1", {"n": 1}, fence=1, operation="a")
        await documents.insert("rounds", "1", {"n": 1}, fence=1, operation="b")
        trouble.begin(1, "lost, applied")
        await documents.update("rounds", "1", {"n": 2}, version=1, fence=1, operation="c")
        trouble.begin(0, "fails")
        found = await documents.get("rounds", "1")
        assert found is not None
        assert found.content == {"n": 2}
        assert len(await documents.find("rounds", {"n": 2})) == await documents.count("rounds") == 1
        await documents.delete("rounds", "1", version=2, fence=1)
        await documents.check()
        return told.calls

    assert asyncio.run(story()) == [
        ("insert", "ok", ""),
        ("insert", "refused", ""),
        ("update", "unknown", ""),
        ("get", "ok", ""),
        ("find", "ok", ""),
        ("count", "ok", ""),
        ("delete", "ok", ""),
        ("check", "ok", ""),
    ]


def test_an_operation_that_fails_is_told_with_the_code_of_its_fault() -> None:
    async def story() -> list[tuple[str, str, str]]:
        told, trouble = Told(), Trouble()
        trouble.away = lambda: StoreUnavailable("gone")
        documents = MeasuredDocuments(UnrulyDocuments(MemoryDocuments(), trouble), told)
        objects = MeasuredObjects(UnrulyObjects(MemoryObjects(), trouble), told)
        with pytest.raises(StoreUnavailable):
            await documents.get("rounds", "1")
        with pytest.raises(StoreUnavailable):
            await objects.put(chunked(b"model"))
        return told.calls

    assert asyncio.run(story()) == [("get", "failed", "StoreUnavailable"), ("put", "failed", "StoreUnavailable")]


def test_objects_come_and_go_as_without_measuring() -> None:
    async def story() -> list[tuple[str, str, str]]:
        told = Told()
        objects = MeasuredObjects(MemoryObjects(), told)
        stored = await objects.put(chunked(b"a model"))
        assert b"".join([piece async for piece in objects.get(stored.digest, offset=2)]) == b"model"
        assert [stat.digest async for stat in objects.list()] == [stored.digest]
        with pytest.raises(ObjectMissing):
            await objects.stat(NOWHERE)
        await objects.delete(stored.digest)
        return told.calls

    assert asyncio.run(story()) == [
        ("put", "ok", ""),
        ("get", "ok", ""),
        ("list", "ok", ""),
        ("stat", "missing", ""),
        ("delete", "ok", ""),
    ]


def test_what_breaks_a_stream_off_from_outside_is_no_fault_of_the_store() -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"half a model"
        raise ConnectionError

    async def story() -> list[tuple[str, str, str]]:
        told = Told()
        objects = MeasuredObjects(MemoryObjects(), told)
        with pytest.raises(ConnectionError):
            await objects.put(breaking())
        stored = await objects.put(chunked(b"m" * (3 << 20)))
        async with aclosing(objects.get(stored.digest)) as pieces:  # type: ignore[type-var]
            await anext(pieces)
        return told.calls

    assert asyncio.run(story()) == [("put", "broken off", ""), ("put", "ok", ""), ("get", "broken off", "")]


def test_a_slow_reader_s_time_and_a_slow_sender_s_time_are_not_the_store_s() -> None:
    now = 0.0

    async def slow() -> AsyncIterator[bytes]:
        nonlocal now
        now += 100.0
        yield b"a model"
        now += 100.0

    class TakingOneSecond(MemoryObjects):
        async def put(self, chunks: AsyncIterator[bytes], *, expected: Digest | None = None) -> ObjectStat:
            nonlocal now
            now += 1.0
            return await super().put(chunks, expected=expected)

        async def get(self, digest: Digest, *, offset: int = 0) -> AsyncIterator[bytes]:  # type: ignore[override]
            nonlocal now
            now += 2.0
            async for piece in super().get(digest, offset=offset):
                yield piece

    async def story() -> list[float]:
        nonlocal now
        told = Told()
        objects = MeasuredObjects(TakingOneSecond(), told, lambda: now)
        stored = await objects.put(slow())
        async for _ in objects.get(stored.digest):
            now += 100.0
        return told.seconds

    assert asyncio.run(story()) == [1.0, 2.0]
