"""Which reducer a combiner is joined to: the active one, at whichever address, and never one that was replaced."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from combiner_rig import ANNA, until
from joined_combiner import AttentiveReducer, ReducerServer, a_reducer, attached, combiner_settings

from fedn_py.combiner.assemble import run_combiner
from fedn_py.protocol.messages import AttachedClients, CombinerLeaving, RoundProgress, TrainTask
from fedn_py.settings.roles import CombinerSettings
from fedn_py.transport.status import RemoteFault


def with_fence(fence: int) -> AttentiveReducer:
    calls = AttentiveReducer()
    calls.fence = fence
    return calls


@contextlib.asynccontextmanager
async def running(settings: CombinerSettings) -> AsyncIterator[tuple[asyncio.Event, "asyncio.Task[None]"]]:
    stop = asyncio.Event()
    task = asyncio.create_task(run_combiner(settings, stop))
    try:
        async with asyncio.timeout(60):
            yield stop, task
    finally:
        stop.set()
        await task


def test_a_combiner_finds_the_active_reducer_among_several_and_takes_its_work_along(tmp_path: Path) -> None:
    async def story() -> None:
        north = ReducerServer(tmp_path / "north", calls=with_fence(1))
        south = ReducerServer(tmp_path / "south", calls=with_fence(2))
        addresses = [f"127.0.0.1:{north.port}", f"127.0.0.1:{south.port}"]
        settings = combiner_settings(tmp_path / "east", 1, reducer=addresses)
        await north.open()
        async with running(settings):
            hello = await north.heard("joined")
            ticket = north.let_in(ANNA)
            north.order(ANNA)
            async with attached(settings.advertise, ANNA, ticket) as (_, _, messages):
                assert isinstance(await anext(messages), TrainTask)
                await north.close()
                await south.open()
                again = await south.heard("joined")
                assert again.instance == hello.instance
                assert (await south.told(AttachedClients)).clients == (ANNA,)
        await south.close()

    asyncio.run(story())


def test_a_reducer_that_was_replaced_is_refused_by_name_and_orders_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def story() -> None:
        async with a_reducer(tmp_path) as reducer:
            reducer.calls = with_fence(5)
            await reducer.close()
            await reducer.open()
            async with running(combiner_settings(tmp_path / "east", reducer.port)):
                await reducer.heard("joined")
                await reducer.told(AttachedClients)  # it has heard the fence
                await reducer.close()
                reducer.calls = with_fence(4)
                await reducer.open()
                await reducer.heard("joined")
                reducer.order(ANNA)
                kind, _ = await reducer.calls.heard.get()
                assert kind == "left"  # and not a word before
                await reducer.close()
                reducer.calls = with_fence(5)
                await reducer.open()
                await reducer.heard("joined")
                reducer.order(ANNA, generation=7)
                assert (await reducer.told(RoundProgress)).generation == 7

    asyncio.run(story())
    said = capfd.readouterr()
    assert "OldReducer" in said.out + said.err


def test_a_combiner_that_is_stopped_says_so_before_its_clients_are_told(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_reducer(tmp_path) as reducer:
            settings = combiner_settings(tmp_path / "east", reducer.port)
            async with running(settings) as (stop, task):
                await reducer.heard("joined")
                ticket = reducer.let_in(ANNA)
                reducer.order(ANNA)
                async with attached(settings.advertise, ANNA, ticket) as (_, _, messages):
                    assert isinstance(await anext(messages), TrainTask)
                    stop.set()
                    assert isinstance(await reducer.told(CombinerLeaving), CombinerLeaving)
                    with pytest.raises(RemoteFault, match="the combiner stops"):
                        async for _ in messages:
                            pass
                await task

    asyncio.run(story())


def test_a_combiner_without_a_reducer_stops_all_the_same(tmp_path: Path) -> None:
    async def story() -> None:
        settings = combiner_settings(tmp_path / "east", 1)
        async with running(settings) as (stop, task):
            await until((settings.state_dir / "spool").exists)
            stop.set()
            await task

    asyncio.run(story())
