"""The machines of this client's masked rounds, run side by side.

One that cannot remember what it must, or meets what it does not know, stops at once, and the client with it: a machine
whose memory failed may not go on to say what it could not write down.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from fedn_py.runtime.mailbox import Mailbox

StateT = TypeVar("StateT")
EventT = TypeVar("EventT")
EffectT = TypeVar("EffectT")


class Machines:
    """Runs mailboxes; for one event loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self, mailbox: Mailbox[StateT, EventT, EffectT]) -> None:
        """Run a machine until it is closed."""
        task = asyncio.ensure_future(mailbox.run())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def stops(self, close: Callable[[], None]) -> Callable[[Exception], None]:
        """Return what a mailbox tells its faults to: it closes the mailbox and ends the client."""

        def stop(fault: Exception) -> None:
            close()
            self._fail(fault)

        return stop

    async def run(self) -> None:
        """Wait until a machine fails; at the end stop them all.

        Raises:
            Exception: what the first one failed of.
        """
        try:
            await self._fatal
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        fault = None if task.cancelled() else task.exception()
        if isinstance(fault, Exception):
            self._fail(fault)

    def _fail(self, fault: Exception) -> None:
        if not self._fatal.done():
            self._fatal.set_exception(fault)
