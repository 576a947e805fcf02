"""Waiting out what passes: work that fails for want of something is done again until that is back."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fedn_py.errors import FednError
from fedn_py.protocol.backoff import delay_s

Outcome = TypeVar("Outcome")


async def wait_out(
    work: Callable[[], Awaitable[Outcome]],
    passes: Callable[[FednError], bool],
    waiting: Callable[[FednError, int], None],
    *,
    base_s: float,
    longest_s: float,
    most_s: float = float("inf"),
) -> Outcome:
    """Do ``work``, again and again while it fails of what passes; it must be safe to repeat.

    Args:
        passes: says whether a fault will pass by itself, or by an operator's hand.
        waiting: told of each fault that is waited for, with its number from 1.
        base_s: the bound of the wait before the second try, doubled for each further one up to ``longest_s``.
        most_s: after so long no further try is made.

    Raises:
        FednError: of ``work``, that does not pass, or has not passed in time.
    """
    clock = asyncio.get_running_loop().time
    give_up_at, tries = clock() + most_s, 0
    while True:
        try:
            return await work()
        except FednError as fault:
            if not passes(fault) or clock() >= give_up_at:
                raise
            tries += 1
            waiting(fault, tries)
        await asyncio.sleep(delay_s(tries, random.random(), base_s, longest_s))
