"""Work that is never left half done: it runs to its end even when the task that waits for it is cancelled."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


async def to_the_end(work: Coroutine[Any, Any, Result]) -> Result:
    """Await a coroutine; a cancellation of the waiting task takes effect when it has ended."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as request:
            cancelled = request
    if cancelled is not None:
        # The cancelled caller gets no result; a fault is read, or asyncio would report it as never retrieved.
        task.exception()
        raise cancelled
    return task.result()


async def in_thread(function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    """Call a blocking function in a worker thread and wait for its end.

    A thread cannot be stopped: were the wait given up, the caller's locks would open while the work still goes on.
    """
    return await to_the_end(asyncio.to_thread(functools.partial(function, *args, **kwargs)))
