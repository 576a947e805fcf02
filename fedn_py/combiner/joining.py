"""Keeps a combiner joined to the active reducer, whichever that is, and obeys no reducer that was replaced.

Each reducer that takes over has a higher fence than all before it. A combiner that has seen one goes by no hello of a
lower one: an old reducer that was paused and wakes up orders nothing here.
"""

import asyncio
import random

from fedn_py.combiner.calls import Calls
from fedn_py.combiner.reducer_stream import ReducerVoice
from fedn_py.errors import FednError, PeerFault
from fedn_py.protocol.backoff import delay_s
from fedn_py.protocol.messages import CombinerHello, CombinerLeaving, FromCombiner, HelloAccepted, ToCombiner
from fedn_py.runtime.logging import logger
from fedn_py.transport.channels import Server
from fedn_py.transport.links import Link
from fedn_py.transport.reducer_channels import ReducerChannels
from fedn_py.transport.reducer_link import LONGEST_REST_S, ReducerLink

_BASE_S = 0.5

_log = logger("fedn_py.combiner")


class OldReducer(PeerFault):
    """A reducer greets this combiner that another one has replaced."""

    def __init__(self, address: str, fence: int, known: int) -> None:
        super().__init__(
            f"the reducer at {address} has fence {fence}, and one with fence {known} has taken over from it",
            remedy="It ends by itself when it reaches its document store; if it does not, stop it.",
        )


class NoHello(PeerFault):
    """A reducer speaks before it has greeted this combiner."""


class Joining:
    """The combiner's stream to the reducer, opened again whenever it ends.

    Args:
        hello: said at the beginning of each stream.
        door: whose probes hear whether there is a reducer to work for.
    """

    def __init__(
        self,
        channels: ReducerChannels,
        hello: CombinerHello,
        voice: ReducerVoice,
        calls: Calls,
        door: Server,
    ) -> None:
        self._channels, self._hello, self._voice, self._calls = channels, hello, voice, calls
        self._door = door
        self._fence = 0
        self._joined = False
        self._told: set[tuple[str, str]] = set()
        self._link: Link[FromCombiner, ToCombiner] | None = None
        self._leaving = asyncio.Event()
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Join, and again for ever, at each address in its turn; returns when the combiner has left."""
        failures = 0
        while not self._leaving.is_set():
            self._joined = False
            await self._door.tell_probes(serving=False)
            try:
                await self._one_stream()
                why, kind = "the reducer ended the stream", ("", "")
            except FednError as fault:
                # The words about an unreachable peer differ from attempt to attempt; what to do about it does not.
                why, kind = f"{fault.code}: {fault.message} {fault.remedy}".strip(), (fault.code, fault.remedy)
            finally:
                self._link = None
                self._voice.disconnected()
            if self._leaving.is_set():
                break
            if self._joined:
                failures = 0
                self._told.clear()
            if kind not in self._told:
                _log.warning("not joined to the reducer; trying again", reason=why)
                self._told.add(kind)
            if self._channels.turn():
                failures += 1
                await asyncio.sleep(delay_s(failures, random.random(), _BASE_S, LONGEST_REST_S))
        self._over.set()

    async def leave(self) -> None:
        """Tell the reducer that this combiner stops, and wait a moment until it has heard."""
        self._leaving.set()
        if self._link is not None and not await self._link.take_leave(self._over, CombinerLeaving()):
            _log.warning("the reducer did not hear that this combiner stops")

    async def _one_stream(self) -> None:
        channel = self._channels.current
        beating: asyncio.Task[None] | None = None
        try:
            async with ReducerLink(channel, self._hello) as link:
                async for message in link.messages():
                    if isinstance(message, HelloAccepted):
                        self._accept(message, channel.address)
                        self._link = link
                        self._voice.connected(link)
                        await self._door.tell_probes(serving=True)
                        beating = asyncio.create_task(_beat(self._voice, message.heartbeat_s))
                    elif beating is None:
                        raise NoHello(
                            f"the reducer at {channel.address} sent {type(message).__name__} before its hello"
                        )
                    else:
                        self._calls.reducer_said(message)
        finally:
            if beating is not None:
                beating.cancel()

    def _accept(self, accepted: HelloAccepted, address: str) -> None:
        """Go by this reducer, unless a newer one is known; raises OldReducer."""
        if accepted.fence < self._fence:
            raise OldReducer(address, accepted.fence, self._fence)
        self._fence = accepted.fence
        self._joined = True
        _log.info("joined the reducer", address=address, fence=accepted.fence)


async def _beat(voice: ReducerVoice, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        voice.beat()
