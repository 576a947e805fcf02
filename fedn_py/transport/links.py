"""The caller's end of a long-lived stream: one connection's life, from hello to its end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from fedn_py.transport.channels import Channel
from fedn_py.transport.status import PeerUnreachable, restored
from fedn_py.transport.streams import END, MessageTooLarge, Outbox, bounded

_LEAVE_WITHIN_S = 1.5

Up = TypeVar("Up")
Down = TypeVar("Down")


class Link(Generic[Up, Down]):
    """One stream to a server; an async context manager that says hello when it is entered.

    It does not connect again by itself: its owner enters a new one, after a while, and says hello anew.

    Args:
        method: starts the call.
        silence_s: the longest wait for a message, None for any; what is heard may set it.
    """

    def __init__(
        self,
        channel: Channel,
        method: Callable[[], Any],
        hello: Up,
        encode: Callable[[Up], Any],
        decode: Callable[[Any], Down],
        *,
        silence_s: float | None = None,
    ) -> None:
        self._channel, self._method, self._hello = channel, method, hello
        self._encode, self._decode = encode, decode
        self._silence_s = silence_s
        self._outbox: Outbox[Up] = Outbox(channel.address)
        self._call: Any = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._call = self._method()
        self._outbox.send(self._hello)
        self._also(self._speak())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._outbox.close()
        self._call.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def send(self, message: Up) -> None:
        """Queue a message; never waits. When the server does not read, the link ends with PeerTooSlow."""
        self._outbox.send(message)

    async def end(self) -> None:
        """Say nothing more: what waits is sent, and ``messages`` ends when the server has taken it all."""
        self._outbox.close()
        await asyncio.wait(self._tasks[:1])
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.done_writing()

    async def take_leave(self, over: asyncio.Event, *last: Up) -> bool:
        """Say last words, and wait a moment until the server has heard them; return whether it has.

        Args:
            over: set by whoever reads ``messages``, when they have ended.
        """
        try:
            async with asyncio.timeout(_LEAVE_WITHIN_S):
                for word in last:
                    self.send(word)
                await self.end()
                await over.wait()
        except TimeoutError:
            return False
        return True

    async def messages(self) -> AsyncIterator[Down]:
        """Yield what the server says until it ends the stream.

        Raises:
            RemoteFault: the server refused, or ended the stream for a reason.
            PeerUnreachable: no connection, lost, or silent for too long.
            MalformedMessage: the server sent what this version does not know.
        """
        while True:
            wire = await self._read()
            if wire is END:
                return
            yield self._decode(wire)

    async def _read(self) -> Any:
        try:
            async with asyncio.timeout(self._silence_s):
                return await self._call.read()
        except TimeoutError:
            raise PeerUnreachable(self._channel.address, f"nothing heard for {self._silence_s:g} s") from None
        except grpc.aio.AioRpcError as error:
            raise restored(error, self._channel.address) from None
        except asyncio.CancelledError:
            # The call was ended from this side because the server does not read.
            if self._outbox.fault is not None:
                raise self._outbox.fault from None
            raise

    def _also(self, work: Any) -> None:
        self._tasks.append(asyncio.ensure_future(work))

    async def _speak(self) -> None:
        breaking = asyncio.ensure_future(self._outbox.wait_broken())
        writing = asyncio.ensure_future(self._write_all())
        try:
            await asyncio.wait({breaking, writing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            breaking.cancel()
            writing.cancel()
            await asyncio.gather(breaking, writing, return_exceptions=True)
            if self._outbox.fault is not None:
                self._call.cancel()

    async def _write_all(self) -> None:
        while (message := await self._outbox.next()) is not None:
            try:
                wire = bounded(self._encode(message))
            except MessageTooLarge as fault:
                self._outbox.break_off(fault)
                return
            try:
                await self._call.write(wire)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                # The stream is over; the reading side says why.
                return
