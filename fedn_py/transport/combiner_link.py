"""How a client speaks to its combiner: it answers the welcome with heartbeats and notices when the combiner is gone."""

import asyncio
from collections.abc import AsyncIterator

from fedn_py.protocol.messages import ClientHello, ClientWelcome, FromClient, Heartbeat, ToClient, TurnCame
from fedn_py.transport import codec
from fedn_py.transport.channels import Channel
from fedn_py.transport.links import Link
from fedn_py.transport.streams import HEARTBEATS_MISSED
from fedn_py.wire.v1 import network_pb2_grpc

_WELCOME_WITHIN_S = 30.0


class CombinerLink(Link[FromClient, ToClient]):
    """A client's stream to its combiner; an async context manager."""

    def __init__(self, channel: Channel, hello: ClientHello) -> None:
        stub = channel.stub(network_pb2_grpc.CombinerStub)
        super().__init__(
            channel,
            stub.Attach,
            hello,
            codec.write_from_client,
            codec.read_to_client,
            silence_s=_WELCOME_WITHIN_S,
        )
        self._said_at = 0.0

    def send(self, message: FromClient) -> None:
        """Queue a message; see Link.send. Whatever is said is a sign of life."""
        self._said_at = asyncio.get_running_loop().time()
        super().send(message)

    async def messages(self) -> AsyncIterator[ToClient]:
        """Yield what the combiner says, but for heartbeats and calls of transfers; see Link.messages for faults."""
        async for message in super().messages():
            if isinstance(message, ClientWelcome):
                self._silence_s = HEARTBEATS_MISSED * message.heartbeat_s
                self._said_at = asyncio.get_running_loop().time()  # just now, with its hello
                self._also(self._beat(message.heartbeat_s))
            if isinstance(message, TurnCame):
                self._channel.call_ups.came()
            elif not isinstance(message, Heartbeat):
                yield message

    async def _beat(self, heartbeat_s: float) -> None:
        """Give a sign of life whenever there was nothing to say for so long."""
        while True:
            quiet_s = asyncio.get_running_loop().time() - self._said_at
            if quiet_s >= heartbeat_s:
                self.send(Heartbeat())
                quiet_s = 0.0
            await asyncio.sleep(heartbeat_s - quiet_s)
