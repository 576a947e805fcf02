"""Work that is never left half done: it runs to its end even when the task that waits for it is cancelled."""

import asyncio
import contextvars
import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


async def to_the_end(work: Awaitable[Result]) -> Result:
    """Await work; a cancellation of the waiting task takes effect when it has ended."""
    return await _end_of(asyncio.ensure_future(work))


async def in_thread(function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    """Call a blocking function in a worker thread and wait for its end.

    A thread cannot be stopped: were the wait given up, the caller's locks would open while the work still goes on.
    """
    work = functools.partial(contextvars.copy_context().run, function, *args, **kwargs)
    return await _end_of(asyncio.get_running_loop().run_in_executor(None, work))


async def _end_of(work: asyncio.Future[Result]) -> Result:
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as request:
            cancelled = request
    if cancelled is not None:
        # The cancelled caller gets no result; a fault is read, or asyncio would report it as never retrieved.
        work.exception()
        raise cancelled
    return work.result()
