"""Networks that several tests share, one after the other; one that a test has broken is not given to the next."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from fuzz.quiet_loop import QuietLoop
from fuzz.whole_network import WholeNetwork, a_whole_network
from masked_world import CLIENTS

Found = TypeVar("Found")

_WITHIN_S = 100_000.0
"""Of the loop's own time, which is another one than the clock's."""

REPLICATED = {"k": 2, "r": 2}


async def _in_time(story: Awaitable[Found]) -> Found:
    async with asyncio.timeout(_WITHIN_S):
        return await story


class KeptNetworks(contextlib.AbstractContextManager["KeptNetworks"]):
    """Use ``play``."""

    def __init__(self) -> None:
        self._log_of = structlog.testing.capture_logs()
        self._log = self._log_of.__enter__()
        self._kept: dict[bool, tuple[QuietLoop, contextlib.AsyncExitStack, WholeNetwork]] = {}

    def __exit__(self, *_: object) -> None:
        for replicated in list(self._kept):
            self._close(replicated)
        self._log_of.__exit__(None, None, None)

    def play(self, story: Callable[[WholeNetwork], Awaitable[Found]], *, replicated: bool = False) -> Found:
        """Tell a story in a network in which rounds go on: of 5 clients, or of 6 with 2 replicas of each slot."""
        loop, _, network = self._kept.get(replicated) or self._open(replicated)
        try:
            found: Found = loop.run_until_complete(_in_time(story(network)))
        except BaseException:
            self._close(replicated)
            raise
        return found

    def _open(self, replicated: bool) -> tuple[QuietLoop, contextlib.AsyncExitStack, WholeNetwork]:
        loop, stack = QuietLoop(), contextlib.AsyncExitStack()

        async def begin() -> WholeNetwork:
            network = await stack.enter_async_context(a_whole_network(self._log, CLIENTS[: 6 if replicated else 5]))
            await network.start_session(masked=REPLICATED if replicated else {})
            for _ in range(2):  # so that there is an earlier round
                await network.next_round()
            return network

        self._kept[replicated] = loop, stack, loop.run_until_complete(begin())
        return self._kept[replicated]

    def _close(self, replicated: bool) -> None:
        loop, stack, _ = self._kept.pop(replicated)
        loop.run_until_complete(stack.aclose())
        loop.close()
