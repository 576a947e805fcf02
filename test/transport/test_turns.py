"""Turns of transfers: few quick ones at once, and no slow one in the way of the others."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from awaiting import until

from fedn_py.transport.chunks import CHUNK_BYTES
from fedn_py.transport.turns import Turn, Turns

LONG_S = 0.05
LEAST = 16 * 1024


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
        turns, begun = Turns(1, looked_at_every_s=LONG_S, longest_wait_s=3 * LONG_S), list[int]()
        found_slow = list[bool]()

        async def quick(number: int) -> None:
            async with turns.taken() as turn:
                begun.append(number)
                while len(begun) < 4:
                    turn.moved(1024**2)
                    await asyncio.sleep(LONG_S / 100)
                found_slow.append(turn.is_slow)

        # None of them ends before all have begun.
        tasks = [asyncio.ensure_future(quick(number)) for number in range(4)]
        await asyncio.gather(*tasks)
        assert begun == [0, 1, 2, 3]
        assert found_slow == [False] * 4  # who gives a turn on for the others' sake is not slow

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


@contextlib.asynccontextmanager
async def taken(turns: Turns, number: int) -> AsyncIterator[list[Turn]]:
    async with contextlib.AsyncExitStack() as open_turns:
        yield [await open_turns.enter_async_context(turns.taken()) for _ in range(number)]


def test_one_that_moves_little_is_slow_until_it_moves_much() -> None:
    async def story() -> None:
        turns = Turns(2, looked_at_every_s=0.001)
        async with taken(turns, 2) as (idle, moving):
            await until(lambda: idle.is_over and idle.is_slow and moving.is_slow)

            def quick() -> bool:
                moving.moved(CHUNK_BYTES)
                return not moving.is_slow

            await until(quick)
            assert idle.is_slow
            await until(lambda: moving.is_slow)

    run(story)


@pytest.mark.parametrize("number", [5, 6, 64, 1_000])
def test_all_together_have_little_on_their_way_and_each_has_some(number: int) -> None:
    async def story() -> None:
        turns = Turns(number, looked_at_every_s=1_000.0)
        async with taken(turns, number) as every:
            at_first = [turn.take_portion(CHUNK_BYTES) for turn in every]
            assert at_first[:5] == [CHUNK_BYTES] * 5
            assert all(size < CHUNK_BYTES for size in at_first[5:])
            for _ in range(20):  # those that go on come to have about as much as the others
                later = [turn.take_portion(CHUNK_BYTES) for turn in every]
            assert max(later) <= 2 * min(later)
            for portions in (at_first, later):
                assert all(CHUNK_BYTES % size == 0 for size in portions)
                assert min(portions) >= LEAST
                assert sum(portions) < 12 * CHUNK_BYTES + number * LEAST
            assert sum(later) <= max(12 * CHUNK_BYTES, number * LEAST)
            assert turns.on_the_way == sum(later)
        assert turns.on_the_way == 0

    run(story)


def test_what_has_less_to_move_takes_no_more_from_the_others() -> None:
    async def story() -> None:
        turns = Turns(200, looked_at_every_s=1_000.0)
        async with taken(turns, 200) as every:
            assert [turn.take_portion(5_000) for turn in every] == [5_000] * 200
            assert every[0].take_portion(CHUNK_BYTES) == CHUNK_BYTES
            assert every[0].take_portion(0) == 0

    run(story)


def test_beside_many_one_has_more_once_it_has_shown_that_it_is_quick() -> None:
    async def story() -> None:
        turns = Turns(12, looked_at_every_s=1_000.0)
        async with taken(turns, 12) as (one, *others):
            for turn in others:
                turn.moved(16 * CHUNK_BYTES)
                assert turn.take_portion(CHUNK_BYTES) == CHUNK_BYTES
            one.moved(16 * CHUNK_BYTES - 1)
            assert one.take_portion(CHUNK_BYTES) == CHUNK_BYTES // 8
            one.moved(1)
            assert one.take_portion(CHUNK_BYTES) == CHUNK_BYTES // 2
            one.is_slow = True
            assert one.take_portion(CHUNK_BYTES) == CHUNK_BYTES // 8
            assert one.take_portion(CHUNK_BYTES, least=CHUNK_BYTES // 4) == CHUNK_BYTES // 4

    run(story)
