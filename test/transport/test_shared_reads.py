"""Downloads that are near each other share what is read; each gets every byte, whatever becomes of the others."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from grpc_network import MemoryObjects, digest_of

from fedn_py.identity import Digest
from fedn_py.transport.parts import FramedChunk, part_reader
from fedn_py.transport.shared_reads import SharedReads
from fedn_py.wire.v1 import transfer_pb2

MIB = 1 << 20
DATA = os.urandom(20 * MIB + 3)
DIGEST = digest_of(DATA)


class Broke(Exception):
    """A disk of a test."""


class CountedObjects(MemoryObjects):
    """Objects that count what is read and what is open, and may break at a byte."""

    def __init__(self, *objects: bytes) -> None:
        super().__init__(*objects)
        self.read = self.open = 0
        self.breaks_at: int | None = None

    async def get(self, digest: Digest, *, offset: int = 0) -> AsyncIterator[bytes]:
        self.open += 1
        try:
            async for piece in super().get(digest, offset=offset):
                await asyncio.sleep(0)
                if self.breaks_at is not None and offset >= self.breaks_at:
                    self.breaks_at = None
                    raise Broke
                offset += len(piece)
                self.read += len(piece)
                yield piece
        finally:
            self.open -= 1


def bytes_of(part: FramedChunk) -> bytes:
    return bytes(part_reader(transfer_pb2.DownloadPart)(part.wire))


async def downloaded(reads: SharedReads, offset: int = 0, *, rests: int = 0) -> bytes:
    found = []
    async with aclosing(reads.parts(DIGEST, offset, len(DATA))) as parts:
        async for part in parts:
            found.append(bytes_of(part))
            for _ in range(rests):
                await asyncio.sleep(0)
    return b"".join(found)


def test_downloads_that_begin_together_are_read_once() -> None:
    async def story() -> None:
        objects = CountedObjects(DATA)
        reads = SharedReads(objects)
        assert await asyncio.gather(*(downloaded(reads) for _ in range(10))) == [DATA] * 10
        assert (objects.read, objects.open) == (len(DATA), 0)

    asyncio.run(story())


def test_whoever_comes_later_or_falls_behind_still_gets_every_byte() -> None:
    async def story() -> None:
        objects = CountedObjects(DATA)
        reads = SharedReads(objects)
        offsets = [0, 0, 5, MIB, 3 * MIB + 1, len(DATA) - 1, len(DATA)]
        paces = [0, 50, 3, 0, 7, 0, 0]
        tasks = [downloaded(reads, offset, rests=rests) for offset, rests in zip(offsets, paces, strict=True)]
        assert await asyncio.gather(*tasks) == [DATA[offset:] for offset in offsets]
        assert objects.open == 0

    asyncio.run(story())


def test_one_that_is_given_up_does_not_disturb_the_others() -> None:
    async def story() -> None:
        objects = CountedObjects(DATA)
        reads = SharedReads(objects)
        for turns in range(12):
            first = asyncio.ensure_future(downloaded(reads))
            others = [asyncio.ensure_future(downloaded(reads)) for _ in range(2)]
            for _ in range(turns):
                await asyncio.sleep(0)
            first.cancel()
            assert await asyncio.gather(*others) == [DATA, DATA]
            await asyncio.gather(first, return_exceptions=True)
            assert objects.open == 0

    asyncio.run(story())


def test_a_source_that_breaks_is_told_to_all_and_read_anew_by_the_next() -> None:
    async def story() -> None:
        objects = CountedObjects(DATA)
        reads = SharedReads(objects)
        objects.breaks_at = 2 * MIB
        outcomes = await asyncio.gather(*(downloaded(reads) for _ in range(3)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Broke] * 3
        assert await downloaded(reads) == DATA
        assert objects.open == 0

    asyncio.run(story())


@pytest.mark.parametrize("users", [1, 2])
def test_a_few_parts_are_kept_and_none_for_a_download_on_its_own(users: int) -> None:
    async def story() -> None:
        reads = SharedReads(CountedObjects(DATA))
        leader, follower = reads.parts(DIGEST, 0, len(DATA)), reads.parts(DIGEST, 0, len(DATA))
        await anext(leader)
        if users == 2:
            await anext(follower)
        for _ in range(15):
            await anext(leader)
        (reading,) = reads._under_way[DIGEST]
        assert len(reading._parts) == (8 if users == 2 else 1)
        await leader.aclose()
        await follower.aclose()
        assert not reads._under_way

    asyncio.run(story())
