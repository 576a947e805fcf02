import asyncio

from fedn_py.reducer.bell import Bell


def test_who_waits_is_told_of_the_next_change_and_of_those_in_between_at_once() -> None:
    async def main() -> None:
        bell = Bell()
        waiting = [asyncio.create_task(bell.rings(0)) for _ in range(2)]
        await asyncio.sleep(0)
        bell.ring()
        assert await asyncio.gather(*waiting) == [1, 1]
        bell.ring()
        assert await bell.rings(0) == 2

    asyncio.run(main())


def test_nobody_waits_for_a_number_of_before_a_restart() -> None:
    bell = Bell()
    assert asyncio.run(bell.rings(17)) == 0


def test_one_who_stops_waiting_takes_nothing_from_the_others() -> None:
    async def main() -> None:
        bell = Bell()
        first, second = asyncio.create_task(bell.rings(0)), asyncio.create_task(bell.rings(0))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        bell.ring()
        assert await second == 1

    asyncio.run(main())
