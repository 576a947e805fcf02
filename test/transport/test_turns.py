"""Turns of transfers: few quick ones at once, and no slow one in the way of the others."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

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


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(5_000):
        if holds():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to that")


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
        tasks = [asyncio.ensure_future(quick(number)) for number in range(4)]
        await until(lambda: len(begun) == 4)
        assert turns.n_slow == 0  # who gave a turn on for the others' sake is not slow
        await asyncio.gather(*tasks)
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
        turns, begun, gate = Turns(4, most=1_001, looked_at_every_s=0.001), list[int](), asyncio.Event()

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


def test_those_that_move_little_are_slow_until_they_move_much_or_end() -> None:
    async def story() -> None:
        turns, end = Turns(2, looked_at_every_s=0.001), asyncio.Event()
        taken = list[Turn]()

        async def one() -> None:
            async with turns.taken() as turn:
                taken.append(turn)
                await end.wait()

        tasks = [asyncio.ensure_future(one()) for _ in range(5)]
        await until(lambda: turns.n_slow == 5)
        assert all(turn.is_over and turn.is_slow for turn in taken)

        def quick(turn: Turn) -> bool:
            turn.moved(CHUNK_BYTES)
            return not turn.is_slow

        await until(lambda: quick(taken[0]))
        assert turns.n_slow == 4
        await until(lambda: turns.n_slow == 5)
        taken[1].waits_for_us = True
        await until(lambda: turns.n_slow == 4)
        assert not taken[1].is_slow
        end.set()
        await asyncio.gather(*tasks)
        assert turns.n_slow == 0

    run(story)


@pytest.mark.parametrize(
    ("n_slow", "at_first", "once_quick"),
    [
        (0, CHUNK_BYTES, CHUNK_BYTES),
        (8, CHUNK_BYTES, CHUNK_BYTES),
        (9, 227 * 4096, CHUNK_BYTES),
        (16, CHUNK_BYTES // 2, CHUNK_BYTES),
        (128, CHUNK_BYTES // 16, CHUNK_BYTES // 2),
        (1_000, 16 * 1024, 16 * 4096),
        (100_000, 16 * 1024, 16 * 1024),
    ],
)
def test_where_many_are_slow_each_has_little_on_its_way_and_more_when_it_is_quick(
    n_slow: int, at_first: int, once_quick: int
) -> None:
    async def story() -> None:
        turns = Turns(1, looked_at_every_s=1_000.0)
        async with turns.taken() as turn:
            turns.n_slow = n_slow
            assert turns.at_once(turn) == at_first
            turn.moved(16 * CHUNK_BYTES - 1)
            assert turns.at_once(turn) == at_first
            turn.moved(1)
            assert turns.at_once(turn) == once_quick
            turn.is_slow = True
            assert turns.at_once(turn) == at_first

    run(story)
