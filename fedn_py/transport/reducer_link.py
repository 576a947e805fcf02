"""How combiners and clients speak to the reducer."""

from collections.abc import AsyncIterator

import grpc

from fedn_py.protocol.messages import (
    Assignment,
    AssignRequest,
    CombinerHello,
    FromCombiner,
    Heartbeat,
    HelloAccepted,
    ToCombiner,
)
from fedn_py.transport import codec
from fedn_py.transport.channels import Channel
from fedn_py.transport.links import Link
from fedn_py.transport.status import restored
from fedn_py.transport.streams import HEARTBEATS_MISSED
from fedn_py.wire.v1 import network_pb2_grpc

_ASSIGN_TIMEOUT_S = 30.0
_ACCEPTED_WITHIN_S = 12.0


class ReducerLink(Link[FromCombiner, ToCombiner]):
    """A combiner's stream to the reducer; an async context manager. A reducer that falls silent is gone."""

    def __init__(self, channel: Channel, hello: CombinerHello) -> None:
        stub = network_pb2_grpc.ReducerStub(channel.grpc)
        super().__init__(
            channel,
            stub.Join,
            hello,
            codec.write_from_combiner,
            codec.read_to_combiner,
            silence_s=_ACCEPTED_WITHIN_S,
        )

    async def messages(self) -> AsyncIterator[ToCombiner]:
        """Yield what the reducer says, heartbeats left out; see Link.messages for what it raises."""
        async for message in super().messages():
            if isinstance(message, HelloAccepted):
                self._silence_s = HEARTBEATS_MISSED * message.heartbeat_s
            if not isinstance(message, Heartbeat):
                yield message


async def assign(channel: Channel, request: AssignRequest) -> Assignment:
    """Ask the reducer which combiner a client attaches to.

    Raises:
        RemoteFault: refused; the reducer's words.
        PeerUnreachable: no answer.
        MalformedMessage: the answer is none.
    """
    stub = network_pb2_grpc.ReducerStub(channel.grpc)
    try:
        answer = await stub.Assign(codec.write_assign_request(request), timeout=_ASSIGN_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        raise restored(error, channel.address) from None
    return codec.read_assignment(answer)
