"""Who is let in at a combiner, and who is not."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc
import pytest
from combiner_rig import ANNA, BERT, SESSION, Rig, a_combiner, a_header, an_update, digest_of, one_piece, until
from grpc_network import connected

from fedn_py.combiner.calls import ATTACHED_EVERY_S, Calls
from fedn_py.identity import ClientId, ClientName, TokenId
from fedn_py.protocol.messages import (
    AttachedClients,
    ClientHello,
    ClientWelcome,
    DismissClient,
    ExpectClient,
    GoElsewhere,
    Heartbeat,
    RoundCommitted,
    TaskFailed,
    ToClient,
    TrainTask,
)
from fedn_py.transport import codec
from fedn_py.transport.authentication import Caller, UnknownToken
from fedn_py.transport.combiner_link import CombinerLink
from fedn_py.transport.status import RemoteFault, restored
from fedn_py.transport.streams import Outbox
from fedn_py.transport.tickets import Tickets, new_ticket
from fedn_py.transport.transfer import upload_update
from fedn_py.wire.v1 import network_pb2, network_pb2_grpc

ONES = an_update(1, 1, 1, 1, 1, 1)


def story(folder: Path, told: Callable[[Rig], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), a_combiner(folder, **options) as rig:
            await told(rig)

    asyncio.run(main())


def a_hello(client: ClientId) -> ClientHello:
    return ClientHello(client, ClientName("anna"), "0.1.0")


async def refusal(rig: Rig, ticket: str, client: ClientId = ANNA) -> str:
    async with connected(rig.address, ticket) as channel, CombinerLink(channel, a_hello(client)) as link:
        with pytest.raises(RemoteFault) as refused:
            async for _ in link.messages():
                pass
    return refused.value.code


def test_a_client_without_a_ticket_or_with_another_s_is_refused_by_name(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        assert await refusal(rig, new_ticket()[0]) == "UnknownToken"
        ticket, sha256 = new_ticket()
        rig.calls.reducer_said(ExpectClient(BERT, ClientName("bert"), sha256, 600.0))
        assert await refusal(rig, ticket, ANNA) == "NotYourName"
        assert [m for m in rig.reducer.messages if m == AttachedClients((ANNA,))] == []

    story(tmp_path, told)


def test_one_client_more_than_a_combiner_takes_is_refused_and_has_its_place_when_one_leaves(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        ticket, sha256 = new_ticket()
        rig.calls.reducer_said(ExpectClient(BERT, ClientName("bert"), sha256, 600.0))
        async with rig.attached(ANNA):
            assert await refusal(rig, ticket, BERT) == "CombinerFull"
        await until(lambda: rig.reducer.messages[-1] == AttachedClients(()))
        async with rig.attached(BERT):
            await until(lambda: rig.reducer.messages[-1] == AttachedClients((BERT,)))

    story(tmp_path, told, max_clients=1)


def test_a_client_that_comes_back_while_its_old_stream_hangs_takes_its_own_place(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        async with rig.attached(ANNA), rig.attached(ANNA) as again:
            await rig.order(ANNA)
            assert (await again.next(TrainTask)).generation == 1
            await until(lambda: rig.reducer.messages[-1] == AttachedClients((ANNA,)))

    story(tmp_path, told, max_clients=1)


async def attach(calls: Calls, client: ClientId) -> Outbox[ToClient]:
    outbox: Outbox[ToClient] = Outbox(client)
    await calls.client_attached(a_hello(client), Caller("client", client, TokenId("")), outbox)
    return outbox


def test_many_who_come_at_once_are_told_of_together(tmp_path: Path) -> None:
    many = [ClientId(f"{number:064x}") for number in range(300)]

    async def told(rig: Rig) -> None:
        before = len(rig.reducer.messages)
        for client in many:
            await attach(rig.calls, client)
            await asyncio.sleep(0)
        await until(lambda: rig.reducer.messages[-1] == AttachedClients(tuple(many)))
        assert len(rig.reducer.messages) - before < len(many) / 3

    story(tmp_path, told, max_clients=1_000)


def test_a_long_list_is_told_less_often(tmp_path: Path) -> None:
    many = [ClientId(f"{number:064x}") for number in range(3_000)]

    async def told(rig: Rig) -> None:
        for client in many:
            await attach(rig.calls, client)
        await until(lambda: rig.reducer.messages[-1] == AttachedClients(tuple(many)))
        await attach(rig.calls, ANNA)
        assert rig.calls._telling is not None
        assert rig.calls._telling.when() - rig.calls._told_at >= 3 * ATTACHED_EVERY_S

    story(tmp_path, told, max_clients=10_000)


def test_who_leaves_and_comes_back_at_once_is_told_of_as_gone_in_between(tmp_path: Path) -> None:
    """The reducer says again to those who come what they may have missed."""

    async def told(rig: Rig) -> None:
        await attach(rig.calls, ANNA)
        await attach(rig.calls, BERT)
        await until(lambda: rig.reducer.messages[-1] == AttachedClients((ANNA, BERT)))
        before = len(rig.reducer.messages)
        await rig.calls.client_left(ANNA)
        await attach(rig.calls, ANNA)
        await until(lambda: rig.reducer.messages[-1] == AttachedClients((ANNA, BERT)))
        assert rig.reducer.messages[before] == AttachedClients((BERT,))

    story(tmp_path, told)


def test_the_model_of_a_commit_comes_before_the_order_that_is_about_it(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        model, missing = digest_of(ONES), digest_of(b"no object")
        await rig.store.put(one_piece(ONES))
        rig.calls.reducer_said(RoundCommitted(SESSION, 1, model))
        async with rig.attached(ANNA) as anna:
            assert await anna.next(RoundCommitted) == RoundCommitted(SESSION, 1, model)
            assert not rig.shelf.path(model).exists()  # there was nobody to train it
            rig.calls.reducer_said(RoundCommitted(SESSION, 2, missing))
            assert await anna.next(RoundCommitted) == RoundCommitted(SESSION, 2, missing)
            rig.calls.reducer_said(RoundCommitted(SESSION, 3, model))
            await until(rig.shelf.path(model).exists)
            await rig.shelf.hold([model])
            assert (await rig.shelf.stat(model)).size == len(ONES)

    story(tmp_path, told)


def test_a_dismissed_client_is_sent_away_and_its_ticket_is_worth_nothing(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        ticket, sha256 = new_ticket()
        rig.calls.reducer_said(ExpectClient(ANNA, ClientName("anna"), sha256, 600.0))
        async with connected(rig.address, ticket) as channel, CombinerLink(channel, a_hello(ANNA)) as link:
            messages = link.messages()
            assert isinstance(await anext(messages), ClientWelcome)
            rig.calls.reducer_said(DismissClient(ANNA, "its token was revoked"))
            assert await anext(messages) == GoElsewhere("its token was revoked")
            with contextlib.suppress(RemoteFault, StopAsyncIteration):
                await anext(messages)
        assert await refusal(rig, ticket, ANNA) == "UnknownToken"

    story(tmp_path, told)


def test_an_update_whose_client_is_dismissed_before_it_is_whole_is_in_no_sum(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        header = a_header(ONES)
        start = network_pb2.UpdateStart(header=codec.write_update_header(header))
        async with rig.attached(BERT), rig.channel(ANNA) as channel:
            await rig.order(ANNA, BERT)
            await rig.collecting()
            call = network_pb2_grpc.CombinerStub(channel.grpc).SendUpdate()
            await call.write(network_pb2.UpdatePart(start=start))
            await call.write(network_pb2.UpdatePart(chunk=ONES[:-1]))
            await until(lambda: rig.spool.held(f"client {ANNA}", header.upload_id) == len(ONES) - 1)
            rig.calls.reducer_said(DismissClient(ANNA, "its token was revoked"))
            await call.write(network_pb2.UpdatePart(chunk=ONES[-1:]))  # it does not mind
            await call.done_writing()
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert restored(refused.value, rig.address).code == "SentAway"
            assert rig.spool.uploads == 0
            assert (await rig.upload(BERT, ONES)).accepted
        partial = await rig.partial()
        assert [one.client for one in partial.included] == [BERT]
        assert [one.client for one in partial.excluded] == [ANNA]
        assert rig.sum_of(partial) == [10.0] * 6

    story(tmp_path, told)


def test_clients_that_come_all_at_once_are_all_let_in_and_hold_up_nobody_who_is_there(tmp_path: Path) -> None:
    crowd = [ClientId(f"{number:064x}") for number in range(200)]
    everybody = AttachedClients(tuple(sorted([ANNA, *crowd])))

    async def told(rig: Rig) -> None:
        all_here = asyncio.Event()

        async def comes(client: ClientId) -> None:
            async with rig.attached(client):
                await all_here.wait()

        async with rig.attached(ANNA) as anna:
            await rig.order(ANNA)
            await rig.collecting()
            storm = [asyncio.create_task(comes(client)) for client in crowd]
            assert (await upload_update(anna.channel, a_header(ONES), ONES)).accepted
            await until(lambda: everybody in rig.reducer.messages)
            rig.calls.reducer_said(RoundCommitted(SESSION, 1, digest_of(ONES)))
            await anna.next(RoundCommitted)  # on the stream that she had before they came
            all_here.set()
            await asyncio.gather(*storm)

    story(tmp_path, told, max_clients=201)


def test_a_committed_round_is_told_to_everybody_attached(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        plan = await rig.plan()
        async with rig.attached(ANNA) as anna, rig.attached(BERT) as bert:
            committed = RoundCommitted(plan.session, 1, plan.base_model)
            rig.calls.reducer_said(committed)
            assert await anna.next(RoundCommitted) == committed
            assert await bert.next(RoundCommitted) == committed

    story(tmp_path, told)


def test_who_attaches_later_hears_of_the_newest_commit_and_nobody_hears_of_it_twice(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        plan = await rig.plan()
        first, second = (RoundCommitted(plan.session, number, plan.base_model) for number in (1, 2))
        async with rig.attached(ANNA) as anna:
            rig.calls.reducer_said(first)
            assert await anna.next(RoundCommitted) == first
            rig.calls.reducer_said(first)  # told again on a new stream to the reducer
            rig.calls.reducer_said(second)
            assert await anna.next(RoundCommitted) == second
            async with rig.attached(BERT) as bert:
                assert await bert.next(RoundCommitted) == second

    story(tmp_path, told)


def test_what_a_client_says_of_an_unknown_task_changes_nothing(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        async with rig.attached(ANNA) as anna:
            anna.link.send(TaskFailed(1, "nonsense"))  # type: ignore[arg-type]
            anna.link.send(Heartbeat())
            await rig.order(ANNA, generation=2)
            assert (await anna.next(TrainTask)).generation == 2

    story(tmp_path, told)


def test_a_client_that_is_here_before_its_combiner_heard_of_it_is_let_in_when_it_has() -> None:
    async def told() -> None:
        tickets = Tickets(asyncio.get_running_loop().time, wait_s=20.0)
        ticket, sha256 = new_ticket()
        entering = [asyncio.create_task(tickets.authenticate(ticket, "any")) for _ in range(2)]
        await asyncio.sleep(0)
        tickets.expect(ANNA, ClientName("anna"), sha256, 600.0)
        assert [(await one).name for one in entering] == [ANNA, ANNA]

    asyncio.run(told())


def test_a_ticket_that_nobody_heard_of_is_refused_after_a_short_wait() -> None:
    async def told() -> None:
        tickets = Tickets(asyncio.get_running_loop().time, wait_s=0.05)
        for _ in range(2):
            with pytest.raises(UnknownToken):
                await tickets.authenticate(new_ticket()[0], "any")

    asyncio.run(told())
