"""The reducer's stores gone for a minute while updates come: streams stay, uploads go on, the round waits."""

import asyncio
from typing import Any

import pytest
import structlog
from fuzz.quiet_loop import run
from fuzz.whole_network import a_whole_network
from masked_world import CLIENTS, a_policy

from fedn_py.protocol.messages import Masking
from fedn_py.store.ports import StoreUnavailable

POLICY = a_policy(modes=("pet", "none"), metrics="client")
AWAY_S = 60.0


@pytest.mark.parametrize("masking", ["pet", "none"])
def test_while_the_reducer_s_stores_are_gone_for_a_minute_streams_stay_and_everybody_is_in_the_model(
    masking: Masking,
) -> None:
    async def story(log: list[Any]) -> None:
        async with a_whole_network(log, CLIENTS[:4], POLICY) as network:
            network.reducer.shell.patience._base_s = 0.2  # or time would not go on while it asks again
            await network.start_session(masking=masking, validate=False)
            await network.next_round()
            await network.until(lambda: network.lines.orders > 1)  # the next one has begun
            loop, streams = asyncio.get_running_loop(), [client.streams for client in network.clients.values()]
            receipts = [len(client.receipts) for client in network.clients.values()]
            gone_at = loop.time()
            network.reducer.trouble.away = lambda: StoreUnavailable("no store.")
            while loop.time() < gone_at + AWAY_S:
                await asyncio.sleep(1.0)
                network.check_alive()
            status = await network.reducer.control.status()
            assert (status.waiting, [store.healthy for store in status.stores]) == ("no store.", [False, False])
            assert [client.streams for client in network.clients.values()] == streams
            network.reducer.trouble.away = None
            record = await network.next_round()
            assert (record.failures, len(record.included)) == ((), 4)
            assert [client.streams for client in network.clients.values()] == streams
            kinds = await network.reducer.kinds()
            assert "store.waiting" in kinds
            assert "store.back" in kinds
            assert [len(client.receipts) for client in network.clients.values()] > receipts

    with structlog.testing.capture_logs() as log:
        run(story(log))
