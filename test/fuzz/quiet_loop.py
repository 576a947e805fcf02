"""An event loop whose clock stands still while anybody works, and jumps to the next timer when nobody does.

A whole network in one process then never waits for real: deadlines pass exactly when nothing else can happen any
more, however slow the machine is, and a test can wait until everything that was set off has come to its end.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from fedn_py.transport.completion import Call, use_workers

Result = TypeVar("Result")


class Stuck(AssertionError):
    """Nobody works, no timer runs, and somebody waits for ever."""


class _Selector(selectors.BaseSelector):
    """Asks the real one without waiting."""

    def __init__(self, idle: Callable[[float | None], bool]) -> None:
        self._real, self._idle = selectors.DefaultSelector(), idle

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = self._real.select(0)
        if found or timeout == 0:
            return found
        if not self._idle(timeout):
            raise Stuck("everybody waits for somebody else")
        return []


class _AtOnce:
    """Does what belongs in a worker thread here and now: nobody is kept waiting by it, and the order is the same."""

    def do(self, call: Call) -> None:
        call.make_at_once()


class QuietLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._now = 0.0
        self._waiting: list[asyncio.Future[None]] = []
        super().__init__(_Selector(self._when_idle))
        use_workers(self, _AtOnce())

    def time(self) -> float:
        """Return the time, which only timers move."""
        return self._now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Do what another executor would do here and now, too."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as fault:
            future.set_exception(fault)
        return future

    async def quiet(self) -> None:
        """Wait until everything that was set off has come to its end, or waits for its time."""
        future = self.create_future()
        self._waiting.append(future)
        await future

    def _when_idle(self, timeout: float | None) -> bool:
        """Do what there is to do when nobody is at work; says whether there was anything."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)
            return True
        if timeout is None:
            return False
        self._now += timeout
        return True


async def quiet() -> None:
    """Wait until everything that was set off has come to its end, or waits for its time."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, QuietLoop)
    await loop.quiet()


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end on such a loop."""
    with asyncio.Runner(loop_factory=QuietLoop) as runner:
        return runner.run(main)
