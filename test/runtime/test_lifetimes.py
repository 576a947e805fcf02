"""Work that lives and ends together."""

import asyncio

import pytest

from fedn_py.runtime.lifetimes import work_until


class Worker:
    """Works without end and notes that it was ended in order."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = False

    async def work(self) -> None:
        try:
            self.begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.ended = True


async def fails() -> None:
    raise ValueError("it broke")


async def returns() -> None:
    return


def test_all_work_ends_when_it_is_asked_to_stop() -> None:
    async def story() -> None:
        stop, first, second = asyncio.Event(), Worker(), Worker()
        whole = asyncio.create_task(work_until(stop, first.work(), second.work()))
        await first.begun.wait()
        await second.begun.wait()
        assert not whole.done()
        stop.set()
        await whole
        assert first.ended
        assert second.ended

    asyncio.run(story())


def test_when_one_fails_the_others_are_ended_and_its_fault_is_raised() -> None:
    async def story() -> None:
        worker = Worker()
        with pytest.raises(ValueError, match="it broke"):
            await work_until(asyncio.Event(), worker.work(), fails())
        assert worker.ended

    asyncio.run(story())


def test_when_one_returns_the_others_are_ended() -> None:
    async def story() -> None:
        worker = Worker()
        await work_until(asyncio.Event(), worker.work(), returns())
        assert worker.ended

    asyncio.run(story())


def test_a_fault_at_the_moment_of_the_stop_is_not_lost() -> None:
    async def story() -> None:
        stop = asyncio.Event()
        stop.set()
        with pytest.raises(ValueError, match="it broke"):
            await work_until(stop, fails())

    asyncio.run(story())


def test_a_fault_while_it_is_ended_is_not_lost() -> None:
    async def story() -> None:
        stop, begun = asyncio.Event(), asyncio.Event()

        async def breaks_at_its_end() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                raise ValueError("it broke at its end")

        whole = asyncio.create_task(work_until(stop, breaks_at_its_end()))
        await begun.wait()
        stop.set()
        with pytest.raises(ValueError, match="at its end"):
            await whole

    asyncio.run(story())


def test_when_the_whole_is_cancelled_all_work_is_ended() -> None:
    async def story() -> None:
        worker = Worker()
        whole = asyncio.create_task(work_until(asyncio.Event(), worker.work()))
        await worker.begun.wait()
        whole.cancel()
        with pytest.raises(asyncio.CancelledError):
            await whole
        assert worker.ended

    asyncio.run(story())
