"""Storing while more comes in: in order, nothing lost, nothing held without end."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from fedn_py.transport.chunks import CHUNK_BYTES
from fedn_py.transport.overlap import store_as_they_come

NUMBERS = [bytes([number]) for number in range(20)]


class Broke(Exception):
    """A disk or a connection of a test."""


async def coming(chunks: list[bytes], fault: Exception | None = None) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
        await asyncio.sleep(0)
    if fault is not None:
        raise fault


def test_all_is_stored_in_order_and_what_came_meanwhile_goes_together() -> None:
    calls: list[tuple[bytes, ...]] = []

    async def store(*chunks: bytes) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        calls.append(chunks)

    asyncio.run(store_as_they_come(coming(NUMBERS), store))
    assert [chunk for call in calls for chunk in call] == NUMBERS
    assert all(calls)
    assert len(calls) < len(NUMBERS)


def test_what_came_is_stored_without_waiting_for_the_next_chunk() -> None:
    stored: list[bytes] = []

    async def store(*chunks: bytes) -> None:
        await asyncio.sleep(0)
        stored.extend(chunks)

    async def paused() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"
        async with asyncio.timeout(5):
            while stored != [b"a", b"b"]:  # noqa: ASYNC110 - the store of a test tells nobody
                await asyncio.sleep(0.001)

    asyncio.run(store_as_they_come(paused(), store))
    assert stored == [b"a", b"b"]


def test_what_came_before_a_cut_is_stored() -> None:
    stored: list[bytes] = []

    async def store(*chunks: bytes) -> None:
        await asyncio.sleep(0.001)
        stored.extend(chunks)

    with pytest.raises(Broke):
        asyncio.run(store_as_they_come(coming(NUMBERS, Broke()), store))
    assert stored == NUMBERS


@pytest.mark.parametrize("working", range(4))
def test_a_store_that_breaks_is_told_and_not_called_again(working: int) -> None:
    calls = 0

    async def store(*chunks: bytes) -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        if calls > working:
            raise Broke

    with pytest.raises(Broke):
        asyncio.run(store_as_they_come(coming(NUMBERS), store))
    assert calls == working + 1


def test_a_few_mebibytes_wait_at_most() -> None:
    block = bytes(CHUNK_BYTES)
    out = most = 0

    async def blocks() -> AsyncIterator[bytes]:
        nonlocal out, most
        for _ in range(40):
            out += 1
            most = max(most, out)
            yield block

    async def store(*chunks: bytes) -> None:
        nonlocal out
        await asyncio.sleep(0.001)
        out -= len(chunks)

    asyncio.run(store_as_they_come(blocks(), store))
    assert out == 0
    assert most <= 9


def test_a_cancelled_transfer_waits_for_what_is_being_stored() -> None:
    stored: list[bytes] = []

    async def store(*chunks: bytes) -> None:
        await asyncio.sleep(0.01)
        stored.extend(chunks)

    async def endless() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(60)

    async def story() -> None:
        transfer = asyncio.ensure_future(store_as_they_come(endless(), store))
        await asyncio.sleep(0.001)
        transfer.cancel()
        await asyncio.gather(transfer, return_exceptions=True)
        assert transfer.cancelled()
        assert stored == [b"a"]

    asyncio.run(story())
