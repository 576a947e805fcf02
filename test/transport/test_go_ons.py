"""Few uploads are told to go on before the first bytes of others are here."""

import asyncio

from fedn_py.transport.go_ons import GoOns

UNIT = 64 * 1024


def test_room_is_free_with_the_first_bytes_or_the_end_of_an_upload() -> None:
    async def story() -> None:
        go_ons, told = GoOns(2, longest_s=1_000.0), list[int]()
        bytes_come, ends = [asyncio.Event() for _ in range(4)], [asyncio.Event() for _ in range(4)]

        async def upload(number: int) -> None:
            async with go_ons.room(UNIT) as has_begun:
                told.append(number)
                await bytes_come[number].wait()
                has_begun()
                has_begun()  # with each further chunk
                await ends[number].wait()

        async def settle() -> None:
            for _ in range(10):
                await asyncio.sleep(0)

        tasks = [asyncio.ensure_future(upload(number)) for number in range(4)]
        await settle()
        assert told == [0, 1]
        bytes_come[0].set()
        await settle()
        assert told == [0, 1, 2]  # its room was given free once, though it was said twice
        tasks[1].cancel()
        await settle()
        assert told == [0, 1, 2, 3]
        for event in (*bytes_come, *ends):
            event.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with go_ons.room(UNIT), go_ons.room(UNIT):
            pass

    asyncio.run(asyncio.wait_for(story(), 10))


def test_who_does_not_begin_keeps_nobody_waiting_for_long() -> None:
    async def story() -> None:
        go_ons = GoOns(1, longest_s=0.01)
        async with go_ons.room(UNIT), go_ons.room(UNIT), go_ons.room(UNIT):
            pass
        async with go_ons.room(UNIT):  # that room is free again, and not twice
            second = asyncio.ensure_future(go_ons.room(UNIT).__aenter__())
            await asyncio.sleep(0)
            assert not second.done()
            second.cancel()

    asyncio.run(asyncio.wait_for(story(), 10))


def test_large_ones_take_more_room_and_wait_their_turn() -> None:
    async def story() -> None:
        go_ons, told = GoOns(4, longest_s=1_000.0), list[int]()

        async def upload(size: int) -> None:
            async with go_ons.room(size):
                told.append(size)
                await asyncio.Event().wait()

        async def settle() -> None:
            for _ in range(20):
                await asyncio.sleep(0)

        async def told_of(*tasks: asyncio.Task[None]) -> list[int]:
            await settle()
            for task in tasks:
                task.cancel()
            await settle()
            return told

        first, second = asyncio.ensure_future(upload(UNIT + 1)), asyncio.ensure_future(upload(UNIT))
        largest = asyncio.ensure_future(upload(1_000 * UNIT))  # as much as all there is, not more
        small = asyncio.ensure_future(upload(1))  # comes behind the largest, though there is room for it
        assert await told_of(second) == [UNIT + 1, UNIT]
        assert await told_of(largest) == [UNIT + 1, UNIT, 1]  # which has given back what it had already
        assert await told_of(first, small) == [UNIT + 1, UNIT, 1]
        async with go_ons.room(4 * UNIT):
            pass

    asyncio.run(asyncio.wait_for(story(), 10))
