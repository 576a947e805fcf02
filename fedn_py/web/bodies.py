"""Bodies of requests, taken in before a thread is: what comes slowly keeps nobody else waiting.

Views run in few threads. The event loop collects the body of a request whole, and only then is a view called; a view
that takes an upload is called at once, and has it read in the event loop too.
"""

import asyncio
from collections.abc import Awaitable, Callable

from werkzeug.exceptions import HTTPException, RequestTimeout, ServiceUnavailable

from fedn_py.web.bridge import Message
from fedn_py.web.problems import answer_http

WHOLE_IN_S = 10.0
"""A body that is not whole by then is given up."""

UPLOADS = "fedn_py.uploads"
"""Where an application's extensions hold the paths that uploads are posted to."""

_MOST_HELD = 64
"""Bodies of the longest allowed kind, held at a time."""

_BODILESS = frozenset({"GET", "HEAD"})

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Bodies:
    """Collects the bodies of requests.

    Args:
        max_bytes: of one body; a longer one is not read, and the view refuses it by its Content-Length.
        uploads: paths to which bodies of any length are posted, read as streams by whoever takes them.
    """

    def __init__(self, max_bytes: int, uploads: frozenset[str]) -> None:
        self._max_bytes, self._uploads = max_bytes, uploads
        self._held = 0

    async def pass_on(self, app: Callable[..., Awaitable[None]], scope: Message, receive: Receive, send: Send) -> None:
        """Call ``app`` with the whole body of a request, or answer why it will not be; nothing if it broke off."""
        length = self._length(scope)
        pieces: list[bytes] = []
        try:
            refusal = await self._collect(length, receive, pieces)
            if refusal is not None:
                await _refuse(refusal, send)
            elif sum(map(len, pieces)) == length:
                await app(scope, _replaying(b"".join(pieces)), send)
        finally:
            self._held -= sum(map(len, pieces))

    def _length(self, scope: Message) -> int:
        """Return how many bytes are to be collected: 0 for what no view reads."""
        if scope["method"] in _BODILESS or (scope["method"] == "POST" and scope["path"].rstrip("/") in self._uploads):
            return 0
        length = int(next((value for name, value in scope["headers"] if name == b"content-length"), b"0"))
        return length if length <= self._max_bytes else 0

    async def _collect(self, length: int, receive: Receive, pieces: list[bytes]) -> HTTPException | None:
        """Add ``length`` bytes to ``pieces`` as they come, fewer if the request breaks off; return why to refuse it."""
        received = 0
        try:
            async with asyncio.timeout(WHOLE_IN_S):
                while received < length and (message := await receive())["type"] == "http.request":
                    piece = message.get("body", b"")
                    pieces.append(piece)
                    received += len(piece)
                    self._held += len(piece)
                    if self._held > _MOST_HELD * self._max_bytes:
                        return ServiceUnavailable("too much comes in at once; ask again in a few seconds")
        except TimeoutError:
            return RequestTimeout(f"{received} of {length} bytes came within {WHOLE_IN_S:g} seconds")
        return None


def _replaying(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def _refuse(fault: HTTPException, send: Send) -> None:
    answer = answer_http(fault)
    # What is left of the body is not read, so no other request can follow on this connection.
    answer.headers["Connection"] = "close"
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": answer.get_data()})
