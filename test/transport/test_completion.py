import asyncio
import gc
import threading
import weakref

import pytest

from fedn_py.transport import completion
from fedn_py.transport.completion import in_thread, to_the_end


class Large:
    """Something whose end can be seen."""


def test_work_in_a_thread_runs_to_its_end_though_who_waits_is_cancelled() -> None:
    began, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        assert go_on.wait(20)
        ended.set()

    async def story() -> None:
        task = asyncio.ensure_future(in_thread(work))
        await asyncio.to_thread(began.wait, 20)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
            assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(story())


def test_what_is_awaited_to_the_end_is_not_cancelled_with_who_waits() -> None:
    async def story() -> None:
        work: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(to_the_end(work))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        work.set_result(1)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert work.result() == 1

    asyncio.run(story())


@pytest.mark.parametrize("fault", [ValueError("bad"), RuntimeError("bad"), SystemExit(3)])
def test_what_work_raises_is_raised_where_it_is_awaited(fault: BaseException) -> None:
    def work() -> None:
        raise fault

    async def story() -> None:
        with pytest.raises(type(fault)) as raised:
            await in_thread(work)
        assert raised.value is fault
        assert await in_thread(lambda: 1) == 1

    asyncio.run(story())


def test_more_work_than_workers_waits_its_turn() -> None:
    most = completion._MOST_WORKERS
    at_work, go_on = threading.Semaphore(0), threading.Event()
    threads: set[int] = set()

    def work(number: int) -> int:
        threads.add(threading.get_ident())
        at_work.release()
        assert go_on.wait(20)
        return number

    async def story() -> None:
        waiting = asyncio.gather(*(in_thread(work, number) for number in range(3 * most)))
        for _ in range(most):
            assert await asyncio.to_thread(at_work.acquire, timeout=20)
        assert not at_work.acquire(blocking=False)
        go_on.set()
        assert await waiting == list(range(3 * most))

    asyncio.run(story())
    assert len(threads) == most


def test_a_thread_that_has_nothing_to_do_is_taken_before_another_is_started() -> None:
    async def story() -> set[int]:
        return {await in_thread(threading.get_ident) for _ in range(50)}

    assert len(asyncio.run(story())) == 1


def test_a_loop_whose_workers_are_all_at_work_keeps_no_other_from_going_on() -> None:
    go_on = threading.Event()

    async def blocked() -> None:
        waiting = asyncio.gather(*(in_thread(go_on.wait, 20) for _ in range(completion._MOST_WORKERS)))
        await asyncio.to_thread(asyncio.run, other())
        assert await waiting == [True] * completion._MOST_WORKERS

    async def other() -> None:
        assert await in_thread(lambda: 1) == 1
        go_on.set()

    asyncio.run(blocked())


def test_what_was_worked_on_is_let_go_of_before_who_waits_goes_on() -> None:
    async def story() -> None:
        large = Large()
        is_there = weakref.ref(large)
        work = asyncio.ensure_future(in_thread(lambda it: None, large))
        del large
        await work
        del work
        assert is_there() is None

    asyncio.run(story())


def test_workers_end_with_their_loop() -> None:
    threads: list[threading.Thread] = []

    async def story() -> None:
        threads.append(await in_thread(threading.current_thread))

    asyncio.run(story())
    gc.collect()
    threads[0].join(20)
    assert not threads[0].is_alive()


def test_where_no_further_thread_can_be_started_the_others_do_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        assert go_on.wait(20)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def story() -> None:
        one = asyncio.ensure_future(in_thread(first))
        await asyncio.to_thread(begun.wait, 20)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            others = [asyncio.ensure_future(in_thread(lambda: 1)) for _ in range(2 * completion._MOST_WORKERS)]
            await asyncio.sleep(0)
            go_on.set()
            assert await asyncio.gather(one, *others) == [None, *[1] * len(others)]
        together = threading.Barrier(completion._MOST_WORKERS)  # all of which come once there is room again
        await asyncio.gather(*(in_thread(together.wait, 20) for _ in range(completion._MOST_WORKERS)))

    async def without_any() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError):
                await in_thread(lambda: 1)
        assert await in_thread(lambda: 1) == 1

    asyncio.run(story())
    asyncio.run(without_any())
