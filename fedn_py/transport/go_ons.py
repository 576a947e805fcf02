"""Uploads that were told to go on and have not begun: bounded, as all of them may come at the same moment."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

_MIB = 1024 * 1024
_UNIT_BYTES = 64 * 1024
_UNITS = 8 * _MIB // _UNIT_BYTES
_MOST_OF_ONE = 4 * _MIB // _UNIT_BYTES
"""What gRPC lets one send before anything of it is read."""

_LONGEST_S = 3.0
"""Who has not begun after so long keeps nobody waiting."""


class GoOns:
    """Room for what uploads may bring between the word to go on and their first bytes.

    Args:
        units: the room, in units of 64 KiB.
        longest_s: an upload's room is free again after so long, whatever becomes of it.
    """

    def __init__(self, units: int = _UNITS, longest_s: float = _LONGEST_S) -> None:
        self._room, self._n_units, self._longest_s = asyncio.Semaphore(units), units, longest_s
        self._in_order = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def room(self, size: int) -> AsyncIterator[Callable[[], None]]:
        """Wait for room for an upload of so many bytes; yields what is to be called when its first ones are here."""
        taken = await self._take(min(-(-size // _UNIT_BYTES), _MOST_OF_ONE, self._n_units))

        def free() -> None:
            nonlocal taken
            late.cancel()
            self._give_back(taken)
            taken = 0

        late = asyncio.get_running_loop().call_later(self._longest_s, free)
        try:
            yield free
        finally:
            free()

    async def _take(self, units: int) -> int:
        taken = 0
        async with self._in_order:  # who comes first has first what gets free
            try:
                while taken < units:
                    await self._room.acquire()
                    taken += 1
            except asyncio.CancelledError:
                self._give_back(taken)
                raise
        return taken

    def _give_back(self, units: int) -> None:
        for _ in range(units):
            self._room.release()
