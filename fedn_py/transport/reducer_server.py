"""The reducer's gRPC service: it decodes, calls, encodes, and decides nothing."""

from collections.abc import Mapping
from typing import Any, Protocol

import grpc

from fedn_py.identity import CombinerName, InstanceId
from fedn_py.protocol.messages import Assignment, AssignRequest, CombinerHello, FromCombiner, Heartbeat, ToCombiner
from fedn_py.transport import codec, reading
from fedn_py.transport.attendance import Attendance, first_message, present
from fedn_py.transport.authentication import Caller, Role, current_caller
from fedn_py.transport.status import refusals
from fedn_py.transport.streams import HEARTBEATS_MISSED, Outbox, bounded, converse, open_for_answers
from fedn_py.wire.v1 import network_pb2 as pb
from fedn_py.wire.v1 import network_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class ReducerCalls(Protocol):
    """What the reducer does with what reaches it. A FednError that is raised is the peer's answer."""

    async def combiner_joined(self, hello: CombinerHello, caller: Caller, outbox: Outbox[ToCombiner]) -> None:
        """Take in a combiner, or raise why not; HelloAccepted is the first thing to put into its outbox."""
        ...

    async def combiner_said(self, name: CombinerName, instance: InstanceId, message: FromCombiner) -> None:
        """Take a message of a combiner that has joined; never a hello."""
        ...

    async def combiner_left(self, name: CombinerName, instance: InstanceId) -> None:
        """Learn that the stream of a combiner that had joined is over."""
        ...

    async def assign(self, request: AssignRequest, caller: Caller) -> Assignment:
        """Choose a combiner for a client, or raise why none."""
        ...


class ReducerService(network_pb2_grpc.ReducerServicer):
    """Serves Reducer.

    Args:
        heartbeat_s: how often combiners are told to be heard from, and are written to; one that misses three has left.
    """

    def __init__(self, calls: ReducerCalls, *, heartbeat_s: float) -> None:
        self._calls = calls
        self._heartbeat_s = heartbeat_s
        self._attendance: Attendance[ToCombiner] = Attendance()

    @property
    def roles(self) -> Mapping[str, frozenset[Role]]:
        """Who may call what."""
        return {
            "/fedn_py.wire.v1.Reducer/Join": frozenset({"combiner"}),
            "/fedn_py.wire.v1.Reducer/Assign": frozenset({"client"}),
        }

    def register(self, server: grpc.aio.Server) -> None:
        """Add the handlers."""
        network_pb2_grpc.add_ReducerServicer_to_server(self, server)

    async def close(self) -> None:
        """End all streams, when what waits for their peers is sent."""
        await self._attendance.close("the reducer stops")

    async def Join(self, _requests: Any, context: Context) -> None:  # noqa: N802 - gRPC's name
        """Serve a combiner's stream."""
        async with refusals(context):
            caller = current_caller()
            hello = codec.read_from_combiner(await first_message(context.read))
            if not isinstance(hello, CombinerHello):
                raise reading.malformed("the first message of a combiner", f"is a {type(hello).__name__}, no hello")
            outbox: Outbox[ToCombiner] = Outbox(f"combiner {hello.name}")
            async with self._attendance.of((caller.role, caller.name, hello.name, hello.instance), outbox):
                arrive = self._calls.combiner_joined(hello, caller, outbox)
                async with present(arrive, lambda: self._calls.combiner_left(hello.name, hello.instance), outbox):
                    await self._attend(hello, outbox, context)

    async def Assign(self, request: pb.AssignRequest, context: Context) -> pb.Assignment | None:  # noqa: N802 - gRPC's name
        """Tell a client where to attach."""
        async with refusals(context):
            assignment = await self._calls.assign(codec.read_assign_request(request), current_caller())
            return codec.write_assignment(assignment)

    async def _attend(self, hello: CombinerHello, outbox: Outbox[ToCombiner], context: Context) -> None:
        async def said(message: FromCombiner) -> None:
            if isinstance(message, CombinerHello):
                raise reading.malformed("a message after the first", "is a hello")
            await self._calls.combiner_said(hello.name, hello.instance, message)

        await open_for_answers(context)
        await converse(
            peer=f"combiner {hello.name}",
            read=context.read,
            write=context.write,
            decode=codec.read_from_combiner,
            encode=lambda message: bounded(codec.write_to_combiner(message)),
            outbox=outbox,
            said=said,
            silence_s=HEARTBEATS_MISSED * self._heartbeat_s,
            idle_s=self._heartbeat_s,
            idle_message=Heartbeat(),
        )
