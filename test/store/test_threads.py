"""Blocking work in threads."""

import asyncio
import threading

import pytest

from fedn_py.store.threads import Threads


def test_an_error_of_the_work_reaches_the_caller() -> None:
    async def steps() -> None:
        threads = Threads("test", 1)
        with pytest.raises(ZeroDivisionError):
            await threads.run(lambda: 1 // 0)
        assert await threads.run(lambda: 7) == 7
        threads.close()

    asyncio.run(steps())


def test_a_cancelled_caller_returns_only_when_its_work_has_ended() -> None:
    async def steps() -> None:
        threads = Threads("test", 1)
        begun, stop, ended = asyncio.Event(), threading.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def work() -> None:
            loop.call_soon_threadsafe(begun.set)
            stop.wait()
            ended.set()

        caller = asyncio.create_task(threads.run_until(stop, work))
        await begun.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert ended.is_set()
        threads.close()

    asyncio.run(steps())


def test_the_event_loop_goes_on_meanwhile() -> None:
    async def steps() -> None:
        threads = Threads("test", 1)
        released = threading.Event()
        waiting = asyncio.create_task(threads.run(released.wait, 60))
        await asyncio.sleep(0)
        released.set()  # never reached, were the loop waiting
        assert await waiting
        threads.close()

    asyncio.run(steps())
