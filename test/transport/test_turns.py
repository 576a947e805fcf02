"""Turns of transfers: few quick ones at once, and no slow one in the way of the others."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fedn_py.transport import turns as turns_module
from fedn_py.transport.chunks import CHUNK_BYTES
from fedn_py.transport.turns import Turn, Turns

LONG_S = 0.05


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(10):
            await story()

    asyncio.run(whole())


async def hold(turns: Turns, begun: list[int], number: int, seconds: float) -> None:
    async with turns.taken():
        begun.append(number)
        await asyncio.sleep(seconds)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_no_more_than_so_many_move_at_once_and_they_come_in_order() -> None:
    async def story() -> None:
        turns, begun, gate = Turns(2), [], asyncio.Event()

        async def one(number: int) -> None:
            async with turns.taken():
                begun.append(number)
                await gate.wait()

        tasks = [asyncio.ensure_future(one(number)) for number in range(5)]
        await settle()
        assert begun == [0, 1]
        tasks[0].cancel()
        await settle()
        assert begun == [0, 1, 2]
        gate.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert begun == [0, 1, 2, 3, 4]

    run(story)


def test_a_slow_one_gives_its_turn_on_once_and_goes_on() -> None:
    async def story() -> None:
        turns, begun = Turns(1, looked_at_every_s=LONG_S), list[int]()
        slow = asyncio.ensure_future(hold(turns, begun, 0, 3 * LONG_S))
        await settle()
        await hold(turns, begun, 1, 0.0)
        assert begun == [0, 1]
        assert not slow.done()
        await slow
        # Were the turn of the slow one given back twice, two would move here.
        first = asyncio.ensure_future(hold(turns, begun, 2, LONG_S / 2))
        second = asyncio.ensure_future(hold(turns, begun, 3, 0.0))
        await settle()
        assert begun == [0, 1, 2]
        await asyncio.gather(first, second)

    run(story)


def test_a_quick_one_keeps_its_turn_for_as_long_as_it_moves() -> None:
    async def story() -> None:
        turns, begun = Turns(1, looked_at_every_s=LONG_S), list[int]()
        async with turns.taken() as quick:
            others = asyncio.ensure_future(hold(turns, begun, 1, 0.0))
            for _ in range(30):  # three looks and more
                quick.moved(1024**2)
                await asyncio.sleep(LONG_S / 10)
            assert begun == []
            await others  # it moves no more
            assert begun == [1]

    run(story)


def test_the_more_wait_the_sooner_a_quick_one_gives_its_turn_on() -> None:
    async def story() -> None:
        turns, begun = Turns(1, looked_at_every_s=LONG_S / 10, longest_wait_s=3 * LONG_S), list[int]()

        async def quick(number: int) -> None:
            async with turns.taken() as turn:
                begun.append(number)
                while len(begun) < 4:
                    turn.moved(1024**2)
                    await asyncio.sleep(LONG_S / 100)

        # None of them ends before all have begun.
        await asyncio.gather(*(quick(number) for number in range(4)))
        assert begun == [0, 1, 2, 3]

    run(story)


def test_slow_ones_are_bounded_too() -> None:
    async def story() -> None:
        turns, begun = Turns(1, most=2, looked_at_every_s=0.001), list[int]()
        tasks = [asyncio.ensure_future(hold(turns, begun, number, LONG_S)) for number in range(3)]
        await asyncio.sleep(LONG_S / 2)
        assert begun == [0, 1]
        await asyncio.gather(*tasks)
        assert begun == [0, 1, 2]

    run(story)


def test_a_thousand_slow_ones_starve_no_quick_one() -> None:
    async def story() -> None:
        turns, begun, gate = Turns(4, most=1_001, looked_at_every_s=0.0), list[int](), asyncio.Event()

        async def slow() -> None:
            async with turns.taken():
                await gate.wait()

        tasks = [asyncio.ensure_future(slow()) for _ in range(1_000)]
        for number in range(10):
            await hold(turns, begun, number, 0.0)
        assert begun == list(range(10))
        assert not any(task.done() for task in tasks)
        gate.set()
        await asyncio.gather(*tasks)

    run(story)


def test_who_gives_up_waiting_takes_no_turn_with_it() -> None:
    async def story() -> None:
        turns, begun = Turns(1), list[int]()
        first = asyncio.ensure_future(hold(turns, begun, 0, LONG_S))
        waiting = asyncio.ensure_future(hold(turns, begun, 1, 0.0))
        await settle()
        waiting.cancel()
        await first
        await hold(turns, begun, 2, 0.0)
        assert begun == [0, 2]

    run(story)


class Crowd:
    """Transfers that have begun and do not end."""

    def __init__(self, turns: Turns, number: int) -> None:
        self.begun: list[Turn] = []
        self._one_more = asyncio.Event()
        self._turns = turns
        self._tasks = [asyncio.ensure_future(self._one()) for _ in range(number)]

    async def _one(self) -> None:
        async with self._turns.taken() as turn:
            self.begun.append(turn)
            self._one_more.set()
            await asyncio.Event().wait()

    async def until(self, number: int) -> None:
        while len(self.begun) < number:
            self._one_more.clear()
            await self._one_more.wait()

    async def slow(self, number: int) -> None:
        """Have the first so many give their turn on, one after the other."""
        for place in range(number):
            await self.until(place + 1)
            if not self.begun[place].is_over:
                self._turns.give_on(self.begun[place])

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def test_few_go_on_without_a_turn_before_their_first_byte() -> None:
    async def story() -> None:
        crowd = Crowd(Turns(1, most_silent=2, looked_at_every_s=0.001), 5)
        await crowd.until(3)
        await asyncio.sleep(0.05)  # fifty looks
        assert len(crowd.begun) == 3  # two without a turn, and the one that keeps its own
        crowd.begun[0].moved(1)
        await crowd.until(4)
        await asyncio.sleep(0.05)
        assert len(crowd.begun) == 4
        await crowd.end()

    run(story)


def test_who_is_silent_for_long_is_slow_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        monkeypatch.setattr(turns_module, "_SILENT_S", 0.02)
        crowd = Crowd(Turns(1, most_silent=1, looked_at_every_s=0.001), 9)
        await crowd.until(9)
        await crowd.end()

    run(story)


def test_where_many_are_slow_each_has_little_on_its_way_unless_it_has_shown_that_it_is_quick() -> None:
    async def story() -> None:
        turns = Turns(1, looked_at_every_s=1_000.0)
        crowd = Crowd(turns, 1_001)
        await crowd.slow(8)
        assert turns.at_once(crowd.begun[0]) == CHUNK_BYTES
        await crowd.slow(16)
        assert turns.at_once(crowd.begun[0]) == CHUNK_BYTES // 2
        await crowd.slow(1_000)
        assert turns.at_once(crowd.begun[0]) == 16 * 1024
        await crowd.until(1_001)
        assert turns.at_once(crowd.begun[-1]) == 16 * 1024
        crowd.begun[-1].moved(16 * CHUNK_BYTES)
        assert turns.at_once(crowd.begun[-1]) == CHUNK_BYTES
        await crowd.end()
        async with turns.taken() as alone:
            assert turns.at_once(alone) == CHUNK_BYTES

    run(story)
