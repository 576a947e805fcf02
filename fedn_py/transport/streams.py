"""Long-lived streams of messages, the same at both ends: an outbox that never blocks its owner, and the loop that
reads and writes until one side ends, falls silent or does not keep up."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Self, TypeVar

import grpc.aio

from fedn_py.errors import FednError, OwnFault, PeerFault
from fedn_py.transport.chunks import MOST_MESSAGE_BYTES

OUTBOX_CAPACITY = 1_000
"""Messages that may wait for a peer that does not read."""

HEARTBEATS_MISSED = 3
"""A peer that was not heard from for so many heartbeats is gone."""

END: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # missing in the stubs only
"""What a read returns when the other side has ended its half of a stream."""

Message = TypeVar("Message")
Incoming = TypeVar("Incoming")
Outgoing = TypeVar("Outgoing")


class PeerTooSlow(PeerFault):
    """A peer does not read what it is sent; its stream is closed rather than its messages kept without end."""


class PeerSilent(PeerFault):
    """A peer was not heard from for several heartbeats."""


class StreamReplaced(PeerFault):
    """The same peer has opened a newer stream."""


class StreamClosed(PeerFault):
    """This side has ended a stream, for the reason given."""


class MessageTooLarge(OwnFault):
    """A message is larger than what the other side takes."""


class Outbox(Generic[Message]):
    """What waits to be sent on one stream. ``send`` and ``close`` never wait; for one event loop.

    Args:
        peer: who is at the other end, for faults.
        capacity: messages that may wait; one more closes the stream with PeerTooSlow.

    Attributes:
        waited_for: whether everything was taken, and a next message is waited for.
    """

    def __init__(self, peer: str, capacity: int = OUTBOX_CAPACITY) -> None:
        self._peer = peer
        self._capacity = capacity
        self._waiting: deque[Message] = deque()
        self._changed = asyncio.Event()
        self._broken = asyncio.Event()
        self._closed = False
        self.waited_for = False
        self._fault: FednError | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing is taken any more."""
        return self._closed

    @property
    def fault(self) -> FednError | None:
        """Why the stream was closed, None for a stream that is open or ended as it should."""
        return self._fault

    def send(self, message: Message) -> None:
        """Queue a message; on a closed stream it is dropped, as it would be on the way to a peer that is gone."""
        if self._closed:
            return
        if len(self._waiting) >= self._capacity:
            self.break_off(
                PeerTooSlow(
                    f"{self._peer} has not read {self._capacity} messages",
                    remedy="Its host or its connection is overloaded; it may connect again.",
                )
            )
            return
        self._waiting.append(message)
        self._changed.set()

    def close(self, reason: str = "") -> None:
        """End the stream when all that waits is sent; with a reason, the peer is told it as StreamClosed."""
        if not self._closed:
            self._closed = True
            self._fault = StreamClosed(reason) if reason else None
            self._changed.set()

    def break_off(self, fault: FednError) -> None:
        """End the stream now with a fault; what waits is dropped."""
        if self._broken.is_set():
            return
        self._closed, self._fault = True, fault
        self._waiting.clear()
        self._broken.set()
        self._changed.set()

    async def wait_broken(self) -> None:
        """Wait until the stream is broken off."""
        await self._broken.wait()

    async def next(self) -> Message | None:
        """Return the next message, or None when the stream is closed and everything was sent."""
        while not self._waiting:
            if self._closed:
                return None
            self._changed.clear()
            self.waited_for = True
            await self._changed.wait()
            self.waited_for = False
        return self._waiting.popleft()


class Lull:
    """Tells when something has not happened for a while, and again after each further while; a context manager.

    What happens only notes the time: a stream of thousands has many messages, and a timer for each would cost as much
    as to decode it.

    Args:
        after_s: 0 for never.
        tell: called then.
    """

    def __init__(self, after_s: float, tell: Callable[[], None]) -> None:
        self._after_s, self._tell = after_s, tell
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        if self._after_s:
            self._timer = self._loop.call_later(self._after_s, self._look)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def end(self) -> None:
        """Note that it has happened."""
        self._began = self._loop.time()

    def _look(self) -> None:
        now = self._loop.time()
        if now >= self._began + self._after_s:
            self._began = now
            self._tell()
        self._timer = self._loop.call_at(self._began + self._after_s, self._look)


async def open_for_answers(context: Any) -> None:
    """Send what comes before a stream's first message, by itself.

    Were it left to the first write, and that write cut short by a fault, the fault could not be sent: gRPC takes no
    status while the opening of the stream is under way.
    """
    await context.send_initial_metadata(())


async def converse(
    *,
    peer: str,
    read: Callable[[], Awaitable[Any]],
    write: Callable[[Any], Awaitable[None]],
    decode: Callable[[Any], Incoming],
    encode: Callable[[Outgoing], Any],
    outbox: Outbox[Outgoing],
    said: Callable[[Incoming], Awaitable[None]],
    silence_s: float,
    idle_s: float = 0.0,
    idle_message: Outgoing | None = None,
) -> None:
    """Serve one stream at its server until the peer ends it or the outbox is closed.

    Args:
        encode: puts a message into what ``write`` takes; raises MessageTooLarge.
        said: called with each message, one at a time.
        silence_s: the longest wait for a message.
        idle_s: after so long without anything to send, idle_message is sent; 0 for never.

    Raises:
        PeerSilent: nothing was heard for silence_s.
        FednError: what the outbox was closed with, what ``said`` raised, or MalformedMessage.
    """

    is_listening = False

    def break_if_silent() -> None:
        if is_listening:  # and not taking what was heard last
            silence = f"nothing heard from {peer} for {silence_s:g} s"
            outbox.break_off(PeerSilent(silence, remedy="It may connect again."))

    def say_that_we_are_here() -> None:
        if idle_message is not None and outbox.waited_for:
            outbox.send(idle_message)

    silence, idleness = Lull(silence_s, break_if_silent), Lull(idle_s, say_that_we_are_here)

    async def listen() -> None:
        nonlocal is_listening
        while True:
            silence.end()
            is_listening = True
            wire = await read()
            is_listening = False
            if wire is END:
                return
            await said(decode(wire))

    async def speak() -> None:
        while (message := await outbox.next()) is not None:
            await write(encode(message))
            idleness.end()

    with silence, idleness:
        await _until_first_ends(listen(), speak(), outbox.wait_broken())
    if outbox.fault is not None:
        raise outbox.fault


def bounded(wire: Any) -> Any:
    """Return a protobuf message that the other side will take, or raise MessageTooLarge."""
    if wire.ByteSize() > MOST_MESSAGE_BYTES:
        raise MessageTooLarge(
            f"a {type(wire).__name__} of {wire.ByteSize()} bytes is above the limit of {MOST_MESSAGE_BYTES}",
            remedy="Use more combiners with fewer clients each.",
        )
    return wire


async def _until_first_ends(*work: Any) -> None:
    """Run coroutines until one ends, end the others and raise the fault of the first that has one."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in ended:
            task.result()
