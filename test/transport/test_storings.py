"""Each upload goes into the store once, whoever of its streams is cut, and never stays on its way without end."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fedn_py.errors import OwnFault
from fedn_py.transport.storings import Storings

KEY = ("client anna", "ab" * 8)


class Broken(OwnFault):
    """A store of a test cannot take it."""


class Store:
    """Stores when told, and counts."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.gate = asyncio.Event()
        self.fault: OwnFault | None = None

    async def __call__(self) -> None:
        self.begun += 1
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        self.ended += 1


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(10):
            await story()

    asyncio.run(whole())


async def stream(storings: Storings, store: Store) -> None:
    async with storings.of(KEY) as storing:
        storing.begin(store)
        await storing.end()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_streams_of_one_upload_wait_for_the_same_end_whichever_of_them_is_cut() -> None:
    async def story() -> None:
        storings, store = Storings(), Store()
        streams = [asyncio.ensure_future(stream(storings, store)) for _ in range(3)]
        await settle()
        streams[0].cancel()
        await settle()
        store.gate.set()
        await asyncio.gather(*streams[1:])
        assert (store.begun, store.ended) == (1, 1)

    run(story)


def test_a_fault_is_every_stream_s_and_the_next_stream_tries_again() -> None:
    async def story() -> None:
        storings, store = Storings(), Store()
        store.fault = Broken("it is full")
        streams = [asyncio.ensure_future(stream(storings, store)) for _ in range(2)]
        await settle()
        store.gate.set()
        assert [type(one) for one in await asyncio.gather(*streams, return_exceptions=True)] == [Broken, Broken]
        store.fault = None
        await stream(storings, store)
        assert (store.begun, store.ended) == (2, 1)

    run(story)


def test_what_nobody_comes_back_for_is_given_up() -> None:
    async def story() -> None:
        storings, store = Storings(unattended_s=0.0), Store()
        cut = asyncio.ensure_future(stream(storings, store))
        await settle()
        cut.cancel()
        await asyncio.sleep(0.01)
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
        store.gate.set()
        await stream(storings, store)
        assert (store.begun, store.ended) == (2, 1)

    run(story)


@pytest.mark.parametrize("is_cut_before", [True, False])
def test_nothing_is_on_its_way_when_all_is_closed(is_cut_before: bool) -> None:
    async def story() -> None:
        storings, store = Storings(), Store()
        cut = asyncio.ensure_future(stream(storings, store))
        await settle()
        if is_cut_before:
            cut.cancel()
            await settle()
        await storings.close()
        cut.cancel()
        await asyncio.gather(cut, return_exceptions=True)
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    run(story)
