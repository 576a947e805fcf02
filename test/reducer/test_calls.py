"""What combiners and clients say: taken in, passed on, and never held up by a store that is away."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from awaiting import until
from reducer_network import ANNA, BERT, NORTH, Network, a_network

from fedn_py.identity import ClientName, Generation, InstanceId, TokenId
from fedn_py.protocol.messages import (
    AssignRequest,
    AttachedClients,
    CellFailed,
    CombinerLeaving,
    HelloAccepted,
    RoundProgress,
)
from fedn_py.protocol.reducer_work import Updating
from fedn_py.reducer.records import ClientRecord, CombinerRecord
from fedn_py.reducer.roster import NameTaken, NoCombiner
from fedn_py.store.ports import StoreUnavailable
from fedn_py.transport.authentication import Caller

ASKED = AssignRequest(ANNA, ClientName("anna"), "", "0.2.0")


def in_a_network(scratch: Path, story: Callable[[Network], Awaitable[None]]) -> None:
    async def told() -> None:
        async with a_network(scratch) as network:
            await story(network)

    asyncio.run(told())


async def a_client(network: Network) -> Caller:
    return Caller("client", "site", (await network.tokens.create("client", "site", 3_600.0))[1].token.id)


def test_a_combiner_is_greeted_and_remembered(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await network.combiner()
        await until(lambda: combiner.heard)
        assert combiner.heard[0] == HelloAccepted(10.0, network.fence)
        await network.calls.close()
        record = await network.ledger.get("combiners", NORTH, CombinerRecord)
        assert record is not None
        assert (record.address, record.max_clients, record.software) == ("north:12080", 100, "0.1.0")

    in_a_network(tmp_path, story)


def test_a_second_life_of_a_combiner_is_refused_and_not_remembered(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        await network.combiner()
        with pytest.raises(NameTaken):
            await network.combiner(instance=InstanceId("north-2"))

    in_a_network(tmp_path, story)


def test_a_combiner_that_takes_leave_is_gone_before_its_stream_ends(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await network.combiner()
        await combiner.say(CombinerLeaving())
        assert NORTH not in network.roster.combiners()
        await network.combiner(instance=InstanceId("north-2"))  # its next life finds the name free

    in_a_network(tmp_path, story)


def test_a_client_is_assigned_and_remembered_from_its_first_day_on(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        await network.combiner(samples={})
        caller = await a_client(network)
        assignment = await network.calls.assign(ASKED, caller)
        assert 3_590.0 < assignment.valid_s <= 3_600.0
        await network.calls.close()
        first = await network.ledger.get("clients", ANNA, ClientRecord)
        assert first is not None
        assert (first.name, first.software, first.token) == ("anna", "0.2.0", caller.token_id)
        await network.calls.assign(ASKED, caller)
        await network.calls.close()
        again = await network.ledger.get("clients", ANNA, ClientRecord)
        assert again is not None
        assert again.first_seen == first.first_seen
        assert again.last_seen >= first.last_seen

    in_a_network(tmp_path, story)


def test_a_ticket_by_a_token_that_is_no_longer_there_lasts_for_a_second(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        await network.combiner(samples={})
        assignment = await network.calls.assign(ASKED, Caller("client", "site", TokenId("0" * 16)))
        assert assignment.valid_s == 1.0  # less cannot be said

    in_a_network(tmp_path, story)


def test_a_client_that_is_gone_is_noted_as_last_seen_now(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await network.combiner(samples={})
        await network.calls.assign(ASKED, await a_client(network))
        await combiner.attach(ANNA, BERT)
        await network.calls.close()
        before = await network.ledger.get("clients", ANNA, ClientRecord)
        assert before is not None
        await combiner.attach()  # BERT was never written down, and nothing comes of that
        await network.calls.close()
        after = await network.ledger.get("clients", ANNA, ClientRecord)
        assert after is not None
        assert after.last_seen > before.last_seen
        assert "store.not_noted" not in await network.kinds()

    in_a_network(tmp_path, story)


def test_a_store_that_is_away_keeps_no_combiner_out_and_is_told_of(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        network.trouble.away = lambda: StoreUnavailable("the store is away")
        combiner = await network.combiner()
        await network.calls.close()
        assert network.roster.where().keys() == {ANNA, BERT}
        await combiner.leave()
        await network.calls.close()
        network.trouble.away = None
        assert (await network.kinds()).count("store.not_noted") == 2

    in_a_network(tmp_path, story)


def test_what_a_combiner_says_reaches_the_machine_and_the_watchers(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await network.combiner(silent=True)
        await network.start_session()
        await until(lambda: combiner.orders)
        told = RoundProgress(combiner.orders[0].generation, "collecting", 0, 2, 0)
        await combiner.say(told)
        assert network.progress == {NORTH: told}
        await combiner.say(CellFailed(Generation(1), "of another order"))  # means nothing
        assert isinstance(network.mailbox.state.work, Updating)
        await combiner.say(CellFailed(combiner.orders[0].generation, "SpoolFull: no room"))
        await until(lambda: not isinstance(network.mailbox.state.work, Updating) or len(combiner.orders) > 1)

    in_a_network(tmp_path, story)


def test_an_older_life_of_a_combiner_is_not_listened_to(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        await network.combiner()
        await network.calls.combiner_said(NORTH, InstanceId("north-0"), AttachedClients(()))
        await network.calls.combiner_left(NORTH, InstanceId("north-0"))
        assert network.roster.where().keys() == {ANNA, BERT}
        assert network.roster.combiners()[NORTH].outbox is not None

    in_a_network(tmp_path, story)


def test_without_a_combiner_a_client_is_told_so_and_not_remembered(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        with pytest.raises(NoCombiner):
            await network.calls.assign(ASKED, await a_client(network))
        await network.calls.close()
        assert await network.ledger.get("clients", ANNA, ClientRecord) is None

    in_a_network(tmp_path, story)
