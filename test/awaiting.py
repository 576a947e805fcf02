"""Waiting in tests for what has no event of its own; the tests' time limit is the only bound."""

import asyncio
from collections.abc import Callable


async def until(reached: Callable[[], object]) -> None:
    """Let everybody else work until ``reached`` is true."""
    while not reached():  # noqa: ASYNC110 - what is waited for tells nobody
        await asyncio.sleep(0.001)
