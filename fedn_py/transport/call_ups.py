"""The client's end of a waiting line: transfers that were refused for want of a place there, until they are called."""

import asyncio
import contextlib


class CallUps:
    """How often the server at the other end of a connection has called, and who waits for it to.

    Attributes:
        count: so often.
    """

    def __init__(self) -> None:
        self.count = 0
        self._came = asyncio.Event()

    def came(self) -> None:
        """Learn that the server has called: whatever waits may come."""
        self.count += 1
        self._came.set()
        self._came.clear()

    async def beyond(self, count: int, within_s: float) -> None:
        """Wait until it has called more often than that, or for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.count <= count:
                    await self._came.wait()
