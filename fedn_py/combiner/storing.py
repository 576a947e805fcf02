"""Sums on their way into the store, for as long as somebody wants them."""

import asyncio

from fedn_py.identity import Generation


class StoringSums:
    """The storing of each cell's sum, which ends when its cell is forgotten.

    Of a cell that is cancelled while its store is away, the sum is freed and nothing is reported.
    """

    def __init__(self) -> None:
        self._tasks: dict[Generation, asyncio.Task[None]] = {}

    def add(self, generation: Generation, task: asyncio.Task[None]) -> None:
        """Know who stores the sum of a cell."""
        self._tasks[generation] = task

    def forget(self, generation: Generation) -> None:
        """End what still stores the sum of a cell, if there is one."""
        task = self._tasks.pop(generation, None)
        if task is not None:
            task.cancel()
