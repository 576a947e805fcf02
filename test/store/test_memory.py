"""MemoryObjects beside what the contract asks of it."""

import asyncio
from collections.abc import AsyncIterator

from fedn_py.store.memory import MemoryObjects


async def one(content: bytes) -> AsyncIterator[bytes]:
    yield content


def test_a_buffer_that_its_owner_uses_again_is_kept_as_it_was() -> None:
    async def steps() -> None:
        objects, buffer = MemoryObjects(), bytearray(b"first")
        digest = (await objects.put(one(buffer))).digest
        buffer[:] = b"other"
        assert b"".join([piece async for piece in objects.get(digest)]) == b"first"

    asyncio.run(steps())
