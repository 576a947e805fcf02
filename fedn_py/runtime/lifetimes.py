"""Several pieces of endless work that live and end together."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def work_until(stop: asyncio.Event, *work: Coroutine[Any, Any, None]) -> None:
    """Run all work until ``stop`` is set or one of them ends; then end the others.

    Raises:
        Exception: what the first failing work raised, at its end too.
    """
    tasks = [asyncio.ensure_future(one) for one in work]
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*tasks, stopping):
            task.cancel()
        await asyncio.gather(*tasks, stopping, return_exceptions=True)
    for task in tasks:
        if not task.cancelled():
            task.result()
