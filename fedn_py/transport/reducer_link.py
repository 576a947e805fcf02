"""How combiners and clients speak to the reducer."""

import grpc

from fedn_py.protocol.messages import Assignment, AssignRequest, CombinerHello, FromCombiner, ToCombiner
from fedn_py.transport import codec
from fedn_py.transport.channels import Channel
from fedn_py.transport.links import Link
from fedn_py.transport.status import restored
from fedn_py.wire.v1 import network_pb2_grpc

_ASSIGN_TIMEOUT_S = 30.0


def reducer_link(channel: Channel, hello: CombinerHello) -> Link[FromCombiner, ToCombiner]:
    """Return a combiner's stream to the reducer, to be entered: ``async with reducer_link(...) as link``."""
    stub = network_pb2_grpc.ReducerStub(channel.grpc)
    return Link(channel, stub.Join, hello, codec.write_from_combiner, codec.read_to_combiner)


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
