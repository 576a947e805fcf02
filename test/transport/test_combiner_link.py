"""What a client says is a sign of life; it gives others only when it has nothing to say."""

import asyncio
from typing import Any

from fuzz.quiet_loop import run
from grpc_network import A_CLIENT, EAST

from fedn_py.identity import Generation
from fedn_py.protocol.messages import ClientWelcome, Heartbeat, TaskCancelled, TaskFailed, ToClient, TurnCame
from fedn_py.transport import codec
from fedn_py.transport.call_ups import CallUps
from fedn_py.transport.combiner_link import CombinerLink


class Combiner:
    """A channel, the calls on it and the one call, of a combiner that welcomes and says no more than it is given."""

    address = "combiner.example.org:9000"

    def __init__(self, *words: ToClient) -> None:
        self.heard: list[tuple[int, str]] = []
        self.call_ups = CallUps()
        self._words = [codec.write_to_client(word) for word in reversed((ClientWelcome(EAST, 10.0), *words))]

    def stub(self, _: Any) -> "Combiner":
        return self

    def Attach(self) -> "Combiner":  # noqa: N802 - gRPC's name
        return self

    async def read(self) -> Any:
        return self._words.pop() if self._words else await asyncio.Event().wait()

    async def write(self, wire: Any) -> None:
        self.heard.append((round(asyncio.get_running_loop().time()), wire.WhichOneof("message")))

    def cancel(self) -> None:
        """End the call."""


def test_heartbeats_come_when_there_was_nothing_to_say_for_as_long() -> None:
    async def story() -> None:
        combiner: Any = Combiner()
        async with CombinerLink(combiner, A_CLIENT) as link:
            messages = link.messages()
            await anext(messages)
            await asyncio.sleep(6.0)
            link.send(TaskFailed(Generation(1), "out of memory"))
            await asyncio.sleep(21.0)
            assert combiner.heard == [(0, "hello"), (6, "failed"), (16, "heartbeat"), (26, "heartbeat")]

    run(story())


def test_what_is_for_transfers_reaches_them_and_nobody_else() -> None:
    async def story() -> None:
        cancelled = TaskCancelled(Generation(1), "over")
        combiner: Any = Combiner(TurnCame(), Heartbeat(), TurnCame(), cancelled)
        async with CombinerLink(combiner, A_CLIENT) as link:
            messages = link.messages()
            assert [await anext(messages) for _ in range(2)] == [ClientWelcome(EAST, 10.0), cancelled]
        assert combiner.call_ups.count == 2

    run(story())
