"""Uploads that were told to go on and have not begun: few, as all of them may come at the same moment."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

_MOST = 12
"""Each may bring MiB before it is read."""

_LONGEST_S = 3.0
"""Who has not begun after so long keeps nobody waiting."""


class GoOns:
    """The places of uploads between the word to go on and their first bytes.

    Args:
        most: how many there are.
        longest_s: a place is free again after so long, whatever becomes of its upload.
    """

    def __init__(self, most: int = _MOST, longest_s: float = _LONGEST_S) -> None:
        self._places = asyncio.Semaphore(most)
        self._longest_s = longest_s

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[Callable[[], None]]:
        """Wait for a place; what is yielded is to be called when the first bytes are here, and gives it free."""
        await self._places.acquire()
        taken = True

        def free() -> None:
            nonlocal taken
            if taken:
                taken = False
                late.cancel()
                self._places.release()

        late = asyncio.get_running_loop().call_later(self._longest_s, free)
        try:
            yield free
        finally:
            free()
