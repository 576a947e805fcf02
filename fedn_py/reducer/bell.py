"""Tells whoever looks at the network that something has changed, so that they look again; it does not say what."""

import asyncio


class Bell:
    """Counts changes and wakes who waits for the next one; belongs to one event loop."""

    def __init__(self) -> None:
        self._rung = 0
        self._next: asyncio.Future[None] | None = None

    @property
    def rung(self) -> int:
        """How many times it has rung."""
        return self._rung

    def ring(self) -> None:
        """Tell of a change."""
        self._rung += 1
        if self._next is not None:
            self._next.set_result(None)
            self._next = None

    async def rings(self, after: int) -> int:
        """Wait until it has rung more often than ``after`` and return how often.

        A number from before a restart may be above the present one: it counts as passed, so nobody waits for ever.
        """
        while self._rung == after:
            if self._next is None:
                self._next = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._next)
        return self._rung
