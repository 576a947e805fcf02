"""Work that is never left half done: it runs to its end even when the task that waits for it is cancelled."""

import asyncio
import contextlib
import contextvars
import functools
import os
import queue
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, Final, ParamSpec, Protocol, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_MOST_WORKERS: Final = min(32, (os.cpu_count() or 1) + 4)
"""As many as the standard library's own executor has."""


async def to_the_end(work: Awaitable[Result]) -> Result:
    """Await work; a cancellation of the waiting task takes effect when it has ended."""
    return await _end_of(asyncio.ensure_future(work))


async def in_thread(function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    """Call a blocking function in a worker thread and wait for its end.

    A thread cannot be stopped: were the wait given up, the caller's locks would open while the work still goes on.
    """
    call = functools.partial(contextvars.copy_context().run, function, *args, **kwargs)
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Result] = loop.create_future()
    _workers_of(loop).do(Call(call, outcome))
    return await _end_of(outcome)


async def _end_of(work: asyncio.Future[Result]) -> Result:
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await _done(work)
        except asyncio.CancelledError as request:
            cancelled = request
    if cancelled is not None:
        # The cancelled caller gets no result; a fault is read, or asyncio would report it as never retrieved.
        work.exception()
        raise cancelled
    return work.result()


async def _done(work: asyncio.Future[Any]) -> None:
    """Wait until work is done; who waits can be cancelled without it."""
    waiter: asyncio.Future[None] = work.get_loop().create_future()

    def wake(_: object) -> None:
        if not waiter.done():
            waiter.set_result(None)

    work.add_done_callback(wake)
    try:
        await waiter
    finally:
        work.remove_done_callback(wake)


class Call:
    """A function with its arguments, and the future that waits for its outcome."""

    __slots__ = ("_function", "_outcome")

    def __init__(self, function: Callable[[], Any], outcome: "asyncio.Future[Any]") -> None:
        self._function: Callable[[], Any] | None = function
        self._outcome = outcome

    def make(self, is_made: Callable[[], None]) -> None:
        """Call it, in a worker thread; what it was called with is let go of before who waits goes on.

        Args:
            is_made: called before who waits is told, whose next call finds this thread free.
        """

        def tell(settle: Callable[[Any], None], value: object) -> None:
            is_made()
            self._outcome.get_loop().call_soon_threadsafe(settle, value)

        with contextlib.suppress(RuntimeError):  # the loop was stopped and closed, and nobody waits
            self._make(tell)

    def make_at_once(self) -> None:
        """Call it, in the thread of the loop that waits."""
        self._make(lambda settle, value: settle(value))

    def _make(self, tell: Callable[[Callable[[Any], None], Any], object]) -> None:
        function, self._function = self._function, None
        assert function is not None
        try:
            value = function()
        except BaseException as fault:
            del function
            tell(self._outcome.set_exception, fault)
        else:
            del function
            tell(self._outcome.set_result, value)


class Workers(Protocol):
    """Who makes a loop's calls."""

    def do(self, call: Call) -> None:
        """Have a call made some time soon; its outcome is told to the loop that waits for it."""
        ...


class _Threads:
    """Threads that take a loop's calls from one queue; as many as there is work for, up to a number.

    A client changes to a thread some 20 times a round, and a combiner twice for each of its clients. Through the
    standard library's executor, with a future of its own beside the loop's for each call, that costs half as much
    again (docs/explanation/performance.md).
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = self._open = 0

    def do(self, call: Call) -> None:
        """Have a call made some time soon; its outcome is told to the loop that waits for it."""
        with self._lock:
            if self._threads <= self._open and self._threads < self._most:
                self._start_one()
            self._open += 1
        self._calls.put(call)

    def end(self) -> None:
        """End the threads when they have nothing to do any more."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _start_one(self) -> None:
        # Calls are awaited to their ends, so that the end of the process finds none at work.
        thread = threading.Thread(target=self._work, name=f"worker-{self._threads + 1}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no room for one more
            if not self._threads:
                raise
        else:
            self._threads += 1

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call.make(self._one_is_made)
            del call

    def _one_is_made(self) -> None:
        with self._lock:
            self._open -= 1


_workers: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Workers]" = weakref.WeakKeyDictionary()


def use_workers(loop: asyncio.AbstractEventLoop, workers: Workers) -> None:
    """Have a loop's calls made by others than threads."""
    _workers[loop] = workers


def _workers_of(loop: asyncio.AbstractEventLoop) -> Workers:
    """Return a loop's own workers: what one loop's work waits for may be the work of another."""
    workers = _workers.get(loop)
    if workers is None:
        threads = workers = _workers[loop] = _Threads(_MOST_WORKERS)
        weakref.finalize(loop, threads.end)
    return workers
