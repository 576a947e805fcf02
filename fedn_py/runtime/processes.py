"""The life of a process: it runs until a signal asks it to stop, stops in good order, and says why it failed."""

import asyncio
import contextlib
import ctypes
import gc
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import TextIO

from fedn_py.errors import FednError, OwnFault

_PR_SET_DUMPABLE = 4


class DidNotStop(OwnFault):
    """The process was asked to stop and could not do it in time; it was cut off."""


def keep_memory_private() -> None:
    """Let no core hold this process's secrets, and no other process of its user read its memory or environment.

    On Linux; elsewhere there are other ways, or none. Programs that this process starts are readable again, and may
    raise the limit of their own cores.
    """
    if sys.platform != "linux":
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
    # The limit alone does not stop a core that goes to a program (core_pattern with a pipe); this does.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def collect_garbage_seldom() -> None:
    """Look for garbage in cycles less often than Python does by itself, and never in what is there now.

    With thousands of streams each look at all objects holds the event loop up; almost nothing here is in cycles.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def run_until_stopped(main: Callable[[asyncio.Event], Awaitable[None]], *, grace_s: float = 4.0) -> None:
    """Run an async main in an event loop of its own until it returns.

    SIGTERM and SIGINT set the event that ``main`` is given; it then has ``grace_s`` seconds. A second signal, or the
    end of that time, cancels it.

    Raises:
        DidNotStop: it had to be cancelled.
        Exception: what ``main`` raised.
    """
    asyncio.run(_supervise(main, grace_s))


async def _supervise(main: Callable[[asyncio.Event], Awaitable[None]], grace_s: float) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    task = asyncio.ensure_future(main(stop))

    def ask_to_stop() -> None:
        if stop.is_set():
            task.cancel()
        else:
            stop.set()
            loop.call_later(grace_s, task.cancel)

    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, ask_to_stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
        raise DidNotStop(f"it did not stop within {grace_s:g} s and was cut off") from None


def explain(fault: BaseException, stream: TextIO, *, verbose: bool) -> None:
    """Tell a person what happened and what to do; with ``verbose``, also where in the code."""
    if verbose:
        stream.write("".join(traceback.format_exception(fault)))
    if isinstance(fault, FednError):
        stream.write(f"error: {fault.message}\n")
        if fault.remedy:
            stream.write(f"  what to do: {fault.remedy}\n")
    else:
        stream.write(f"error: {type(fault).__name__}: {fault}\n")
        if not verbose:
            stream.write(
                "  what to do: This is a fault of the program; run it again with -v and report what it says.\n"
            )
    stream.flush()
