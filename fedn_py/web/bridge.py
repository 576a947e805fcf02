"""Between Flask's views, which run in threads, and the reducer, which runs in an event loop.

Bulk bytes come in on the event loop, straight from the connection: a view only waits for the outcome.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Request

from fedn_py.errors import PeerFault
from fedn_py.reducer.control_faults import TooLarge

Message = MutableMapping[str, Any]
Answer = TypeVar("Answer")

EXCHANGE = "fedn_py.exchange"
"""Where a request's ASGI scope holds its Exchange."""


class LengthRequired(PeerFault):
    """An upload does not say how long it is."""


class UploadBroken(PeerFault):
    """An upload ended before all its bytes were there."""


@dataclass(slots=True)
class Exchange:
    """One request's connection.

    Attributes:
        receive: the next message of the request, as ASGI has it.
        gone: whether nobody reads the answer any more.
    """

    receive: Callable[[], Awaitable[Message]]
    gone: bool = False


class Bridge:
    """Calls the reducer, which lives in ``loop``, from the threads of views."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Run a coroutine in the reducer's loop and wait for what it returns or raises."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def download(self, pieces: AsyncIterator[bytes], request: Request) -> Iterator[bytes]:
        """Go over an async stream, and end early when nobody reads any more."""
        # Outside of the generator, which runs when Flask has forgotten the request.
        exchange = _exchange(request)

        def go_on() -> Iterator[bytes]:
            try:
                while not exchange.gone and (piece := self.call(_following(pieces))) is not None:
                    yield piece
            finally:
                self.call(_close(pieces))

        return go_on()


def upload(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    """Return the body of a request as a stream to be read in the reducer's loop.

    Raises:
        LengthRequired: it does not say how long it is.
        TooLarge: it is longer than ``max_bytes``.
        UploadBroken: later, from the stream: it ended before all was there.
    """
    if request.content_length is None:
        raise LengthRequired("the upload does not say how long it is", remedy="Send a Content-Length header.")
    if request.content_length > max_bytes:
        raise TooLarge(
            f"the upload of {request.content_length} bytes is larger than the {max_bytes} bytes allowed",
            remedy="Raise limits.max_model_bytes or limits.max_package_bytes in the reducer's settings.",
        )
    return _body(_exchange(request), request.content_length)


async def _body(exchange: Exchange, length: int) -> AsyncIterator[bytes]:
    received = 0
    more = True
    while more:
        message = await exchange.receive()
        if message["type"] != "http.request":
            break
        piece: bytes = message.get("body", b"")
        received += len(piece)
        more = message.get("more_body", False)
        if piece:
            yield piece
    if received != length:
        raise UploadBroken(f"the upload ended after {received} of {length} bytes", remedy="Upload it again.")


def _exchange(request: Request) -> Exchange:
    exchange: Exchange = request.environ["asgi.scope"][EXCHANGE]
    return exchange


async def _following(pieces: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pieces, None)


async def _close(pieces: AsyncIterator[bytes]) -> None:
    if isinstance(pieces, AsyncGenerator):
        await pieces.aclose()
