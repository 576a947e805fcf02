"""Answers that take long to find: found once for all who ask meanwhile, and kept for the last few questions."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Answer = TypeVar("Answer")


class Remembered(Generic[Answer]):
    """Finds answers one after another, so that many who ask do not take all threads and all the disk.

    An answer that somebody has given up waiting for is found all the same: who asks again gets it.

    Args:
        most: how many answers are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: OrderedDict[str, asyncio.Task[Answer]] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()

    async def answer(self, question: str, find: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        """Return what ``find`` gives, or gave before; what it raises is passed on, and not kept."""
        task = self._found.get(question)
        if task is None:
            task = self._found[question] = asyncio.create_task(self._alone(find))
            task.add_done_callback(lambda done: self._keep(question, done))
        self._found.move_to_end(question)
        return await asyncio.shield(task)

    async def _alone(self, find: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        async with self._one_at_a_time:
            return await find()

    def _keep(self, question: str, done: asyncio.Task[Answer]) -> None:
        if done.cancelled() or done.exception() is not None:
            del self._found[question]
        ended = [one for one, task in self._found.items() if task.done()]
        for oldest in ended[: max(0, len(ended) - self._most)]:
            del self._found[oldest]
