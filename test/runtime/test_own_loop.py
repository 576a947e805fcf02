"""An event loop in a thread of its own."""

import asyncio
import threading
import time

import pytest

from fedn_py.runtime.own_loop import OwnLoop


def test_work_is_done_in_another_thread_and_its_outcome_comes_back() -> None:
    async def where() -> str:
        return threading.current_thread().name

    async def fails() -> None:
        raise ValueError("a bug")

    async def story() -> None:
        own = OwnLoop("lease")
        assert await own.do(where()) == "lease"
        with pytest.raises(ValueError, match="a bug"):
            await own.do(fails())
        await own.close()

    asyncio.run(story())


def test_it_keeps_its_time_while_the_other_loop_is_busy() -> None:
    beats: list[float] = []

    async def beat() -> None:
        while True:
            beats.append(time.monotonic())
            await asyncio.sleep(0.01)

    async def story() -> None:
        own = OwnLoop("lease")
        beating = asyncio.create_task(own.do(beat()))
        await asyncio.sleep(0)
        while len(beats) < 5:
            time.sleep(0.01)  # noqa: ASYNC251 - what blocks this loop
        beating.cancel()
        await own.close()

    asyncio.run(story())


def test_who_is_cancelled_here_has_cancelled_it_there_and_the_end_ends_what_is_left() -> None:
    ended: list[str] = []
    begun = threading.Semaphore(0)

    async def waits(name: str) -> None:
        try:
            begun.release()
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def story() -> None:
        own = OwnLoop("lease")
        one, two = (asyncio.create_task(own.do(waits(name))) for name in ("one", "two"))
        for _ in range(2):
            await asyncio.to_thread(begun.acquire)
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        await own.close()
        assert sorted(ended) == ["one", "two"]
        with pytest.raises(asyncio.CancelledError):
            await two

    asyncio.run(story())
