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
from fedn_py.transport.channels import NOTICED_WITHIN_S, Channel
from fedn_py.transport.links import Link
from fedn_py.transport.status import restored
from fedn_py.transport.streams import HEARTBEATS_MISSED
from fedn_py.wire.v1 import network_pb2_grpc

_ASSIGN_TIMEOUT_S = 30.0
_ACCEPTED_WITHIN_S = 12.0

LONGEST_REST_S = 5.0
"""Between two turns of a combiner through the reducers' addresses."""


class ReducerLink(Link[FromCombiner, ToCombiner]):
    """A combiner's stream to the reducer; an async context manager. A reducer that falls silent is gone."""

    def __init__(self, channel: Channel, hello: CombinerHello) -> None:
        stub = channel.stub(network_pb2_grpc.ReducerStub)
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


def found_within_s(heartbeat_s: float) -> float:
    """Return how long a combiner may take from when its reducer hangs to its hello to the one that took over.

    It hears nothing until it takes the reducer for gone, rests, and meets one address that does not answer.

    Args:
        heartbeat_s: how often it hears from the reducer.
    """
    return max(HEARTBEATS_MISSED * heartbeat_s, NOTICED_WITHIN_S) + LONGEST_REST_S + _ACCEPTED_WITHIN_S


async def assign(channel: Channel, request: AssignRequest) -> Assignment:
    """Ask the reducer which combiner a client attaches to.

    Raises:
        RemoteFault: refused; the reducer's words.
        PeerUnreachable: no answer.
        MalformedMessage: the answer is none.
    """
    stub = channel.stub(network_pb2_grpc.ReducerStub)
    try:
        answer = await stub.Assign(codec.write_assign_request(request), timeout=_ASSIGN_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        raise restored(error, channel.address) from None
    return codec.read_assignment(answer)
