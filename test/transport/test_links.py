"""Streams between real servers and links: join, attach, heartbeats, refusals, and how each ends."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from grpc_network import (
    A_CLIENT,
    A_COMBINER,
    ANNA,
    AUTHORITY,
    CERTIFICATE,
    EAST,
    HEARTBEAT_S,
    Bearers,
    RecordingCombiner,
    RecordingReducer,
    a_spool,
    combiner,
    connected,
    reducer,
)

from fedn_py.errors import PeerFault
from fedn_py.identity import ClientId, ClientName, CombinerName, Generation, InstanceId
from fedn_py.protocol.messages import (
    AssignRequest,
    AttachedClients,
    CellCancelled,
    ClientWelcome,
    GoElsewhere,
    HelloAccepted,
    TaskFailed,
)
from fedn_py.transport.channels import Channel, Service, serve
from fedn_py.transport.combiner_link import CombinerLink
from fedn_py.transport.combiner_server import CombinerService
from fedn_py.transport.links import Link
from fedn_py.transport.reducer_link import ReducerLink, assign
from fedn_py.transport.reducer_server import ReducerService
from fedn_py.transport.status import PeerUnreachable, RemoteFault
from fedn_py.transport.streams import PeerTooSlow
from fedn_py.wire.v1 import network_pb2, network_pb2_grpc

Leaver = tuple[Service, str, Callable[[Channel], Link[Any, Any]]]
"""The service that a peer leaves, its token, and how it comes there first."""


class NameTaken(PeerFault):
    """Somebody else is connected under this name."""


def test_a_combiner_joins_hears_orders_and_is_heard(tmp_path: Path) -> None:
    async def story() -> None:
        calls = RecordingReducer()
        async with reducer(calls) as address, connected(address, "combiner") as channel:
            async with ReducerLink(channel, A_COMBINER) as link:
                messages = link.messages()
                assert await anext(messages) == HelloAccepted(HEARTBEAT_S, 1)
                assert await calls.heard.get() == ("joined", A_COMBINER)
                link.send(AttachedClients((ANNA,)))
                assert await calls.heard.get() == ("said", AttachedClients((ANNA,)))
                calls.outboxes[0].send(CellCancelled(Generation(3), "no longer wanted"))
                assert await anext(messages) == CellCancelled(Generation(3), "no longer wanted")
            assert await calls.heard.get() == ("left", EAST)

    asyncio.run(story())


def test_a_client_attaches_hears_and_is_heard_and_its_heartbeats_stay_below(tmp_path: Path) -> None:
    async def story() -> None:
        calls = RecordingCombiner(heartbeat_s=0.05)
        spool = await a_spool(tmp_path)
        async with combiner(calls, spool, heartbeat_s=0.5) as address, connected(address) as channel:
            async with CombinerLink(channel, A_CLIENT) as link:
                messages = link.messages()
                assert await anext(messages) == ClientWelcome(EAST, 0.05)
                assert await calls.heard.get() == ("attached", A_CLIENT)
                link.send(TaskFailed(Generation(1), "out of memory", "Killed"))
                assert await calls.heard.get() == ("said", TaskFailed(Generation(1), "out of memory", "Killed"))
                calls.outboxes[0].send(GoElsewhere("the combiner stops"))
                assert await anext(messages) == GoElsewhere("the combiner stops")
            assert await calls.heard.get() == ("left", ANNA)
            assert calls.heard.empty()

    asyncio.run(story())


def test_a_reducer_that_falls_silent_is_gone_and_one_that_beats_is_not() -> None:
    async def story() -> None:
        calls = RecordingReducer()
        calls.heartbeat_s = 0.05
        async with (
            reducer(calls, heartbeat_s=60.0) as address,
            connected(address, "combiner") as channel,
            ReducerLink(channel, A_COMBINER) as link,
        ):
            with pytest.raises(PeerUnreachable, match=r"nothing heard for 0\.15 s"):
                _ = [message async for message in link.messages()]
        calls.heartbeat_s = 60.0
        async with (
            reducer(calls, heartbeat_s=0.05) as address,
            connected(address, "combiner") as channel,
            ReducerLink(channel, A_COMBINER) as link,
        ):
            beaten = await link._read()
            while beaten.WhichOneof("message") != "heartbeat":
                beaten = await link._read()

    asyncio.run(story())


def test_a_client_that_falls_silent_has_left(tmp_path: Path) -> None:
    async def story() -> None:
        calls = RecordingCombiner()
        spool = await a_spool(tmp_path)
        # The client is told of a slower rhythm than the server keeps, so that no heartbeat comes in time.
        async with (
            combiner(calls, spool, heartbeat_s=0.05) as address,
            connected(address) as channel,
            CombinerLink(channel, A_CLIENT) as link,
        ):
            with pytest.raises(RemoteFault) as caught:
                _ = [message async for message in link.messages()]
            assert caught.value.code == "PeerSilent"
            assert await calls.heard.get() == ("attached", A_CLIENT)
            assert await calls.heard.get() == ("left", ANNA)

    asyncio.run(story())


def test_a_combiner_that_falls_silent_has_left() -> None:
    async def story() -> None:
        calls = RecordingReducer()
        async with reducer(calls, heartbeat_s=0.05) as address, connected(address, "combiner") as channel:
            async with ReducerLink(channel, A_COMBINER) as link:
                with pytest.raises(RemoteFault) as caught:
                    _ = [message async for message in link.messages()]
                assert caught.value.code == "PeerSilent"
            assert await calls.heard.get() == ("joined", A_COMBINER)
            assert await calls.heard.get() == ("left", EAST)

    asyncio.run(story())


def test_a_combiner_that_is_silent_is_unreachable_to_its_client(tmp_path: Path) -> None:
    async def story() -> None:
        calls = RecordingCombiner(heartbeat_s=0.05)
        spool = await a_spool(tmp_path)
        # The server writes every 60 s, and tells its clients to expect it every 0.05 s.
        async with (
            combiner(calls, spool, heartbeat_s=60.0) as address,
            connected(address) as channel,
            CombinerLink(channel, A_CLIENT) as link,
        ):
            with pytest.raises(PeerUnreachable, match="nothing heard"):
                _ = [message async for message in link.messages()]

    asyncio.run(story())


def test_a_refused_combiner_hears_why_and_never_leaves() -> None:
    async def story() -> None:
        calls = RecordingReducer(refusal=NameTaken("east is taken", remedy="Choose another name."))
        async with reducer(calls) as address, connected(address, "combiner") as channel:
            async with ReducerLink(channel, A_COMBINER) as link:
                with pytest.raises(RemoteFault) as caught:
                    await anext(link.messages())
            assert (caught.value.code, caught.value.message) == ("NameTaken", "east is taken")
            assert caught.value.remedy == "Choose another name."
            assert calls.heard.empty()

    asyncio.run(story())


def test_a_peer_that_comes_back_first_leaves_its_old_stream() -> None:
    async def story() -> None:
        calls = RecordingReducer()
        async with (
            reducer(calls) as address,
            connected(address, "combiner") as one,
            connected(address, "combiner") as two,
            ReducerLink(one, A_COMBINER) as old,
        ):
            old_messages = old.messages()
            await anext(old_messages)
            async with ReducerLink(two, A_COMBINER) as new:
                await anext(new.messages())
                with pytest.raises(RemoteFault) as caught:
                    await anext(old_messages)
                assert caught.value.code == "StreamReplaced"
                told = [(await calls.heard.get())[0] for _ in range(3)]
                assert told == ["joined", "left", "joined"]

    asyncio.run(story())


def test_a_combiner_that_does_not_read_is_closed_and_others_are_not_held_up() -> None:
    async def story() -> None:
        calls = RecordingReducer()
        async with (
            reducer(calls) as address,
            connected(address, "combiner") as channel,
            ReducerLink(channel, A_COMBINER) as link,
        ):
            assert await calls.heard.get() == ("joined", A_COMBINER)
            outbox = calls.outboxes[0]
            for _ in range(200_000):
                outbox.send(CellCancelled(Generation(1), "x" * 900))
                if outbox.closed:
                    break
                await asyncio.sleep(0)
            assert isinstance(outbox.fault, PeerTooSlow)
            assert await calls.heard.get() == ("left", EAST)
            with pytest.raises(RemoteFault) as caught:
                _ = [message async for message in link.messages()]
            assert caught.value.code == "PeerTooSlow"

    asyncio.run(story())


def test_what_waits_is_sent_before_a_stream_is_closed() -> None:
    async def story() -> None:
        calls = RecordingReducer()
        async with (
            reducer(calls) as address,
            connected(address, "combiner") as channel,
            ReducerLink(channel, A_COMBINER) as link,
        ):
            await calls.heard.get()
            calls.outboxes[0].send(CellCancelled(Generation(1), "last words"))
            calls.outboxes[0].close("the reducer stops")
            messages = link.messages()
            assert isinstance(await anext(messages), HelloAccepted)
            assert await anext(messages) == CellCancelled(Generation(1), "last words")
            with pytest.raises(RemoteFault) as caught:
                await anext(messages)
            assert (caught.value.code, caught.value.message) == ("StreamClosed", "the reducer stops")

    asyncio.run(story())


def test_a_server_that_stops_ends_its_streams_at_once() -> None:
    async def story() -> None:
        calls = RecordingReducer()
        stack = reducer(calls)
        address = await stack.__aenter__()
        async with connected(address, "combiner") as channel, ReducerLink(channel, A_COMBINER) as link:
            messages = link.messages()
            await anext(messages)
            await stack.__aexit__(None, None, None)
            with pytest.raises(RemoteFault, match="stops"):
                await anext(messages)
        assert [(await calls.heard.get())[0] for _ in range(2)] == ["joined", "left"]

    asyncio.run(story())


class Farewell:
    """What a service does when a peer has left: it is begun, and ends long after it may."""

    def __init__(self) -> None:
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.ended = False

    async def take(self) -> None:
        self.begun.set()
        await self.may_end.wait()
        for _ in range(1_000):
            await asyncio.sleep(0)
        self.ended = True


async def a_combiner_to_leave(farewell: Farewell, _folder: Path) -> Leaver:
    class Calls(RecordingReducer):
        async def combiner_left(self, name: CombinerName, instance: InstanceId) -> None:
            await farewell.take()

    return ReducerService(Calls(), heartbeat_s=5.0), "combiner", lambda channel: ReducerLink(channel, A_COMBINER)


async def a_client_to_leave(farewell: Farewell, folder: Path) -> Leaver:
    class Calls(RecordingCombiner):
        async def client_left(self, client: ClientId) -> None:
            await farewell.take()

    service = CombinerService(Calls(), await a_spool(folder), heartbeat_s=5.0)
    return service, f"client:{ANNA}", lambda channel: CombinerLink(channel, A_CLIENT)


@pytest.mark.parametrize("who", [a_combiner_to_leave, a_client_to_leave])
def test_a_server_has_stopped_when_what_is_done_about_peers_that_left_is_done(
    who: Callable[[Farewell, Path], Awaitable[Leaver]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def story() -> None:
        farewell = Farewell()
        service, bearer, to = await who(farewell, tmp_path)
        server = await serve("127.0.0.1:0", [service], CERTIFICATE, Bearers())
        async with connected(f"127.0.0.1:{server.port}", bearer) as channel, to(channel) as link:
            await anext(link.messages())
        await farewell.begun.wait()
        stopping = asyncio.create_task(server.stop(0.0))
        await server.wait()  # gRPC itself has nothing open any more
        farewell.may_end.set()
        await stopping
        assert farewell.ended

    asyncio.run(story())
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "first",
    [
        network_pb2.FromCombiner(),
        network_pb2.FromCombiner(attached=network_pb2.AttachedClients()),
        network_pb2.FromCombiner(hello=network_pb2.CombinerHello(name="East!")),
    ],
)
def test_a_first_message_that_is_no_hello_is_refused(first: Any) -> None:
    async def story() -> None:
        calls = RecordingReducer()
        async with reducer(calls) as address, connected(address, "combiner") as channel:
            call = network_pb2_grpc.ReducerStub(channel.grpc).Join()
            await call.write(first)
            assert (await call.code()).name == "INVALID_ARGUMENT"
        assert calls.heard.empty()

    asyncio.run(story())


def test_a_second_hello_is_refused_and_the_combiner_has_left() -> None:
    async def story() -> None:
        calls = RecordingReducer()
        async with (
            reducer(calls) as address,
            connected(address, "combiner") as channel,
            ReducerLink(channel, A_COMBINER) as link,
        ):
            link.send(A_COMBINER)
            with pytest.raises(RemoteFault) as caught:
                _ = [message async for message in link.messages()]
            assert caught.value.code == "MalformedMessage"
        assert [(await calls.heard.get())[0] for _ in range(2)] == ["joined", "left"]

    asyncio.run(story())


def test_a_client_is_assigned_and_the_caller_is_known() -> None:
    request = AssignRequest(ANNA, ClientName("anna"), "", "0.1.0")

    async def story() -> None:
        calls = RecordingReducer()
        async with reducer(calls) as address, connected(address, "client:hospital-a") as channel:
            assignment = await assign(channel, request)
            assert (assignment.combiner, assignment.authority_pem) == (EAST, AUTHORITY.certificate_pem)
            _, (said, caller) = await calls.heard.get()  # type: ignore[misc]
            assert said == request
            assert (caller.role, caller.name) == ("client", "hospital-a")
            calls.refusal = NameTaken("anna is taken")
            with pytest.raises(RemoteFault) as caught:
                await assign(channel, request)
            assert caught.value.code == "NameTaken"

    asyncio.run(story())


def test_an_unexpected_fault_tells_the_peer_nothing_of_itself() -> None:
    class Broken(RecordingReducer):
        async def assign(self, request: AssignRequest, caller: object) -> Any:
            raise ValueError("password=hunter2")

    async def story() -> None:
        async with reducer(Broken()) as address, connected(address, "client:a") as channel:
            with pytest.raises(RemoteFault) as caught:
                await assign(channel, AssignRequest(ANNA, ClientName("anna"), "", ""))
            assert caught.value.code == "INTERNAL"
            assert "hunter2" not in caught.value.message

    asyncio.run(story())
