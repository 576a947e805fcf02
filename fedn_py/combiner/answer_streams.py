"""Sealed streams of members' answers on their way into the object store: only those that the reducer asked for."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeVar

from fedn_py.combiner.ports import Upstream
from fedn_py.errors import PeerFault
from fedn_py.identity import ClientId, Digest
from fedn_py.protocol.masked.answers import sealed_bytes
from fedn_py.runtime.scratch import disk_faults
from fedn_py.transport.authentication import Caller
from fedn_py.transport.chunks import UploadStart
from fedn_py.transport.spool import SpooledUpload

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
    """Admits uploads of streams and stores them; an ``UploadSink``."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
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

    async def take(self, upload: SpooledUpload) -> None:
        """Store a stream from where it is held."""
        with disk_faults("reading an answer's stream"):
            await self._upstream.store(upload.source, upload.sha256)


def _remember(known: OrderedDict[Key, Value], key: Key, value: Value) -> None:
    known[key] = value
    known.move_to_end(key)
    while len(known) > _MOST_KNOWN:
        known.popitem(last=False)
