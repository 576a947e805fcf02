"""Sealed streams of members' answers on their way into the object store: only those that the reducer asked for."""

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fedn_py.combiner.ports import Upstream
from fedn_py.combiner.shelf import OnShelf
from fedn_py.errors import PeerFault
from fedn_py.identity import ClientId, Digest
from fedn_py.protocol.masked.answers import sealed_bytes
from fedn_py.runtime.scratch import disk_faults
from fedn_py.transport.authentication import Caller
from fedn_py.transport.chunks import UploadStart

_MOST_KNOWN = 10_000

Key = TypeVar("Key")
Value = TypeVar("Value")


class StreamNotAsked(PeerFault):
    """A client uploads what nobody asked it for."""

    def __init__(self) -> None:
        super().__init__(
            "this stream was not asked for here", remedy="Wait until the reducer asks for it, and send the one stream."
        )


class StreamTooLarge(PeerFault):
    """A client uploads more than its answer announced, or than an answer can have."""

    def __init__(self, size: int, most: int) -> None:
        super().__init__(
            f"a stream of {size} bytes is offered where {most} were announced",
            remedy="The client's program is at fault.",
        )


@dataclass(slots=True)
class AskedStream:
    """One stream that the reducer asked a client for.

    Attributes:
        sha256: of the upload that was begun; the same bytes may come again, no others.
    """

    sha256: Digest | None = None


class AnswerStreams:
    """Admits uploads of streams and stores them; implements the transport's ``ObjectSink``.

    Args:
        scratch: folder for streams on their way to the store.
    """

    def __init__(self, upstream: Upstream, scratch: Path) -> None:
        self._upstream = upstream
        self._scratch = scratch
        self._numbers = itertools.count(1)
        self._asked: OrderedDict[tuple[ClientId, bytes], AskedStream] = OrderedDict()
        self._announced: OrderedDict[tuple[ClientId, bytes], int] = OrderedDict()
        self._plain_bytes: OrderedDict[bytes, int] = OrderedDict()

    def expected(self, ctx: bytes, plain_bytes: int) -> None:
        """Learn how long a slot's mask sum is in a cell of this combiner."""
        _remember(self._plain_bytes, ctx, plain_bytes)

    def announced(self, client: ClientId, ctx: bytes, size: int) -> None:
        """Learn how large a member's stream is, by its own signed word."""
        _remember(self._announced, (client, ctx), size)

    def asked(self, client: ClientId, ctx: bytes) -> None:
        """Learn that the reducer asks a member for its stream, perhaps again."""
        _remember(self._asked, (client, ctx), AskedStream())

    def admit(self, caller: Caller, start: UploadStart) -> None:
        """Let an upload in; raises StreamNotAsked, StreamTooLarge."""
        client = ClientId(caller.name)
        too_large: StreamTooLarge | None = None
        for (who, ctx), stream in self._asked.items():
            if who != client or stream.sha256 not in {None, start.sha256}:
                continue
            most = self._most_bytes(client, ctx)
            if most is not None and start.size <= most:
                stream.sha256 = start.sha256
                return
            too_large = too_large or (StreamTooLarge(start.size, most) if most is not None else None)
        raise too_large or StreamNotAsked

    def _most_bytes(self, client: ClientId, ctx: bytes) -> int | None:
        """Return how large a stream may be, None where nothing is known of it.

        A member that answered through another combiner is held to the size of this one's own cells: they are of the
        same model.
        """
        announced = self._announced.get((client, ctx))
        plain = self._plain_bytes.get(ctx)
        if plain is None and self._plain_bytes and announced is None:
            plain = next(reversed(self._plain_bytes.values()))
        limits = [announced] if announced is not None else []
        limits += [sealed_bytes(plain)] if plain is not None else []
        return min(limits, default=None)

    async def put(self, chunks: AsyncIterator[bytes], *, expected: Digest | None = None) -> OnShelf:
        """Store a stream, whose bytes the spool has found to be those of its digest."""
        assert expected is not None
        path, size = self._scratch / f"stream-{next(self._numbers)}", 0
        try:
            with disk_faults("writing an answer's stream"), path.open("wb") as file:
                async for chunk in chunks:
                    size += await asyncio.to_thread(file.write, chunk)
            await self._upstream.store(path, expected)
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        return OnShelf(expected, size)

    async def put_file(self, path: Path, digest: Digest) -> OnShelf:
        """Store a stream that is in a file."""
        with disk_faults("reading an answer's stream"):
            size = (await asyncio.to_thread(path.stat)).st_size
        await self._upstream.store(path, digest)
        return OnShelf(digest, size)


def _remember(known: OrderedDict[Key, Value], key: Key, value: Value) -> None:
    known[key] = value
    known.move_to_end(key)
    while len(known) > _MOST_KNOWN:
        known.popitem(last=False)
