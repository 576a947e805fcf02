"""Few uploads are told to go on before the first bytes of others are here."""

import asyncio

from fedn_py.transport.go_ons import GoOns


def test_a_place_is_free_with_the_first_bytes_or_the_end_of_an_upload() -> None:
    async def story() -> None:
        go_ons, told = GoOns(most=2, longest_s=1_000.0), list[int]()
        bytes_come, ends = [asyncio.Event() for _ in range(4)], [asyncio.Event() for _ in range(4)]

        async def upload(number: int) -> None:
            async with go_ons.place() as has_begun:
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
        assert told == [0, 1, 2]  # one place was given free, though it was said twice
        tasks[1].cancel()
        await settle()
        assert told == [0, 1, 2, 3]
        for event in (*bytes_come, *ends):
            event.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with go_ons.place(), go_ons.place():
            pass

    asyncio.run(asyncio.wait_for(story(), 10))


def test_who_does_not_begin_keeps_nobody_waiting_for_long() -> None:
    async def story() -> None:
        go_ons = GoOns(most=1, longest_s=0.01)
        async with go_ons.place(), go_ons.place(), go_ons.place():
            pass
        async with go_ons.place():  # those places are free again, and none of them twice
            second = asyncio.ensure_future(go_ons.place().__aenter__())
            await asyncio.sleep(0)
            assert not second.done()
            second.cancel()

    asyncio.run(asyncio.wait_for(story(), 10))
