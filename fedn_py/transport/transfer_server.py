"""Bulk transfer at its server: objects down from a source, uploads up into a spool, the same for reducer and combiner.

Rules: a caller sees and continues its own uploads only; it has a few transfers at a time; a stream that does not move
is cut, and what was received stays for the next one to go on.
"""

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Protocol

import grpc

from fedn_py.identity import Digest
from fedn_py.transport import reading
from fedn_py.transport.authentication import Caller, Role, current_caller
from fedn_py.transport.chunks import (
    CHUNK_BYTES,
    GO_ON,
    MOST_CHUNK_BYTES,
    ChunkTooLarge,
    ObjectSource,
    ObjectStore,
    PieceSource,
    TooManyTransfers,
    UploadStart,
    WrongOffset,
)
from fedn_py.transport.codec_fields import raw_digest
from fedn_py.transport.held_upload import UploadDropped
from fedn_py.transport.overlap import store_as_they_come
from fedn_py.transport.parts import Chunk, FramedChunk, framed, part_reader, write_part
from fedn_py.transport.shared_reads import SharedReads
from fedn_py.transport.spool import Spool, SpooledUpload
from fedn_py.transport.status import refusals
from fedn_py.transport.storings import Storings
from fedn_py.transport.streams import END, PeerTooSlow, open_for_answers
from fedn_py.transport.turns import QUICK, Turn, Turns
from fedn_py.transport.waiting_line import WaitingLine
from fedn_py.wire.v1 import transfer_pb2 as pb

STALL_S = 60.0
"""A transfer whose peer neither sends nor takes a chunk for so long is cut."""

MOST_PER_CALLER = 8
"""Transfers that one caller may have open."""

MOST_SENDING = 1_000
"""Downloads under way at once unless said otherwise."""

_LEAST_OF_UPLOAD = 64 * 1024

Context = grpc.aio.ServicerContext[Any, Any]


class TransferPlaces:
    """How many transfers each caller has open, and the rule that they are few."""

    def __init__(self, most_per_caller: int = MOST_PER_CALLER) -> None:
        self._most = most_per_caller
        self._open: Counter[str] = Counter()

    @contextlib.contextmanager
    def taken(self, caller: Caller) -> Iterator[None]:
        """Hold one place, or raise TooManyTransfers."""
        owner = owner_of(caller)
        if self._open[owner] >= self._most:
            raise TooManyTransfers(
                f"{caller.name} has {self._most} transfers open", remedy="Wait until one of them has ended."
            )
        self._open[owner] += 1
        try:
            yield
        finally:
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]


def add_handlers(server: grpc.aio.Server, service: str, handlers: "dict[str, grpc.RpcMethodHandler[Any, Any]]") -> None:
    """Serve the methods of a service by handlers with serializers of their own, in the generated function's place."""
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_registered_method_handlers(service, handlers)  # type: ignore[attr-defined]  # missing in the stubs only


def owner_of(caller: Caller) -> str:
    """Return the name under which a caller's uploads are spooled."""
    return f"{caller.role} {caller.name}"


class UploadSink(Protocol):
    """Where an Upload of objects ends."""

    async def take(self, upload: SpooledUpload) -> None:
        """Store a whole upload, durably, before it returns."""
        ...


class StoreSink:
    """The end of uploads that are objects of a store on this host."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def take(self, upload: SpooledUpload) -> None:
        """Store a whole upload: its own file, where it has one."""
        if upload.file is not None:
            await self._store.put_file(upload.file, upload.sha256)
        else:
            await self._store.put(upload.chunks(), expected=upload.sha256)


class TransferService:
    """Serves Transfer: objects from a source and, where there is a sink, into it.

    Args:
        sink: None where objects are only given out.
        roles: who may download; the same may upload where there is a sink, and ask for their uploads' state.
        status: how many bytes of (owner, upload id) are held; the spool's own answer unless given.
        admit: raises why an upload is not wanted, before a byte of it is taken.
        most_sending: downloads under way at once; a further one waits before its first byte. Slow ones are in nobody's
            way as long as they are fewer.
        pieces: where downloads beside many others read, so little at a time that their number costs no memory; None
            where they are few.
        line: where downloads wait for their turns; None where any number may.

    Attributes:
        sent_bytes: all that went out so far.
    """

    def __init__(
        self,
        source: ObjectSource,
        spool: Spool,
        *,
        sink: UploadSink | None,
        roles: frozenset[Role],
        status: Callable[[str, str], int] | None = None,
        places: TransferPlaces | None = None,
        stall_s: float = STALL_S,
        admit: Callable[[Caller, UploadStart], None] | None = None,
        most_sending: int = MOST_SENDING,
        pieces: PieceSource | None = None,
        line: WaitingLine | None = None,
    ) -> None:
        self._pieces = pieces
        self._source, self._spool, self._sink, self._admit = source, spool, sink, admit
        self._status = status or spool.held
        self._places = places or TransferPlaces()
        self._reads, self._turns = SharedReads(source), Turns(min(QUICK, most_sending), most=most_sending, line=line)
        self._storings = Storings()
        self._stall_s = stall_s
        self._roles = roles
        self.sent_bytes = 0

    @property
    def roles(self) -> Mapping[str, frozenset[Role]]:
        """Who may call what."""
        nobody: frozenset[Role] = frozenset()
        return {
            "/fedn_py.wire.v1.Transfer/Download": self._roles,
            "/fedn_py.wire.v1.Transfer/Upload": self._roles if self._sink is not None else nobody,
            "/fedn_py.wire.v1.Transfer/UploadStatus": self._roles,
        }

    def register(self, server: grpc.aio.Server) -> None:
        """Add the handlers."""
        handlers = {
            "Download": grpc.unary_stream_rpc_method_handler(
                self.Download, pb.DownloadRequest.FromString, response_serializer=write_part
            ),
            "Upload": grpc.stream_unary_rpc_method_handler(
                self.Upload, part_reader(pb.UploadPart), response_serializer=pb.UploadReceipt.SerializeToString
            ),
            "UploadStatus": grpc.unary_unary_rpc_method_handler(
                self.UploadStatus,
                pb.UploadStatusRequest.FromString,
                response_serializer=pb.UploadStatusAnswer.SerializeToString,
            ),
        }
        add_handlers(server, "fedn_py.wire.v1.Transfer", handlers)

    async def close(self) -> None:
        """Give up what nobody waits for: transfers end by themselves or are taken up again."""
        await self._storings.close()

    async def Download(self, request: pb.DownloadRequest, context: Context) -> None:  # noqa: N802 - gRPC's name
        """Send an object from an offset."""
        async with refusals(context):
            caller = current_caller()
            with self._places.taken(caller):
                await self._send(owner_of(caller), request, context)

    async def Upload(self, _requests: Any, context: Context) -> pb.UploadReceipt | None:  # noqa: N802 - gRPC's name
        """Take an object and store it."""
        async with refusals(context):
            caller = current_caller()
            with self._places.taken(caller):
                return await self._take(caller, context)

    async def UploadStatus(  # noqa: N802 - gRPC's name
        self, request: pb.UploadStatusRequest, context: Context
    ) -> pb.UploadStatusAnswer | None:
        """Say how much of the caller's own upload is held."""
        async with refusals(context):
            upload_id = reading.hex_id(request.upload_id, "upload_id")
            return pb.UploadStatusAnswer(held=self._status(owner_of(current_caller()), upload_id))

    async def _send(self, owner: str, request: pb.DownloadRequest, context: Context) -> None:
        digest = reading.digest(request.sha256, "sha256")
        offset = reading.count(request.offset, "offset")
        size = (await self._source.stat(digest)).size
        if offset > size:
            raise WrongOffset(offset, size)
        await open_for_answers(context)
        async with self._turns.taken(owner, digest) as turn:
            await self._write(context, pb.DownloadPart(start=pb.DownloadStart(size=size)))
            at = -1
            while at < offset < size:  # a source that has less than it said ends it, and the peer sees that
                at, rest = offset, _rest_of_chunk(offset, size)
                portion = turn.take_portion(rest)
                if self._pieces is None or (offset % CHUNK_BYTES == 0 and portion == rest):
                    # These are shared with other downloads, whose chunks begin at the same bytes.
                    offset = await self._send_chunks(digest, offset, size, turn, context)
                elif piece := await self._pieces.piece(digest, offset, portion):
                    offset += await self._send_part(framed(piece), turn, context)

    async def _send_chunks(self, digest: Digest, offset: int, size: int, turn: Turn, context: Context) -> int:
        """Send whole chunks to the end, or until it should rather be smaller pieces; return how far it got."""
        async with contextlib.aclosing(self._reads.parts(digest, offset, size)) as parts:
            async for part in parts:
                offset += await self._send_part(part, turn, context)
                rest = _rest_of_chunk(offset, size)
                if self._pieces is not None and turn.take_portion(rest) < rest:
                    break
        return offset

    async def _send_part(self, part: FramedChunk, turn: Turn, context: Context) -> int:
        await self._write(context, part)
        self.sent_bytes += part.size
        turn.moved(part.size)
        return part.size

    async def _write(self, context: Context, part: pb.DownloadPart | FramedChunk) -> None:
        try:
            async with asyncio.timeout(self._stall_s):
                await context.write(part)
        except TimeoutError:
            raise _stalled(self._stall_s) from None

    async def _take(self, caller: Caller, context: Context) -> pb.UploadReceipt:
        first = await read_start(context, self._stall_s, "an upload")
        start = _read_start(first.start)
        if self._admit is not None:
            self._admit(caller, start)
        owner = owner_of(caller)
        async with self._storings.of((owner, start.upload_id, start.size, start.sha256)) as storing:
            upload: SpooledUpload | None = None
            if not storing.is_of_use:
                try:
                    upload = await receive(self._spool, owner, start, context, self._stall_s)
                except (UploadDropped, WrongOffset):
                    if not storing.has_begun:  # else another stream of it was quicker
                        raise
                else:
                    storing.begin(functools.partial(self._store, upload))
            try:
                await storing.end()
            finally:
                # All of it may have come once more while another stream's was stored.
                if upload is not None and storing.has_ended:
                    await upload.discard()
        return pb.UploadReceipt(sha256=raw_digest(start.sha256), size=start.size)

    async def _store(self, upload: SpooledUpload) -> None:
        assert self._sink is not None
        try:
            await self._sink.take(upload)
        finally:
            await upload.discard()


async def receive(
    spool: Spool, owner: str, start: UploadStart, context: Context, stall_s: float = STALL_S
) -> SpooledUpload:
    """Read the chunks that follow an upload's start into the spool, until it is whole.

    The parts may be of any message with a oneof ``part`` that holds bytes as ``chunk``.
    """
    # Room is taken with the turn and not before: what queues holds nothing, and cannot be taken for an idle upload.
    async with spool.turns.taken(owner, start.upload_id) as turn:
        incoming = await spool.begin(owner, start)

        try:
            async with spool.go_ons.room(start.size - start.offset) as has_begun:

                async def store(*chunks: Chunk) -> None:
                    has_begun()
                    await incoming.append(*chunks)
                    turn.moved(sum(map(len, chunks)))

                # For the whole upload, so none is left with the least for having begun beside many.
                portion = turn.take_portion(min(CHUNK_BYTES, start.size - start.offset), least=_LEAST_OF_UPLOAD)
                await context.send_initial_metadata(((GO_ON, str(portion)),))
                await store_as_they_come(_chunks(context, stall_s), store)
                return await incoming.finish()
        finally:
            incoming.leave()


async def read_start(context: Context, stall_s: float, what: str) -> Any:
    """Return the first part of an upload, or raise that it is no start."""
    part = await _read_part(context, stall_s)
    if part is END or isinstance(part, memoryview) or part.WhichOneof("part") != "start":
        raise reading.malformed(f"the first part of {what}", "is no start")
    return part


async def _read_part(context: Context, stall_s: float) -> Any:
    try:
        async with asyncio.timeout(stall_s):
            return await context.read()
    except TimeoutError:
        raise _stalled(stall_s) from None


async def _chunks(context: Context, stall_s: float) -> AsyncIterator[memoryview]:
    while (part := await _read_part(context, stall_s)) is not END:
        if not isinstance(part, memoryview):
            raise reading.malformed("a part of an upload after the first", "is no chunk")
        if not part:
            raise reading.malformed("a chunk", "is empty")
        if len(part) > MOST_CHUNK_BYTES:
            raise ChunkTooLarge(len(part))
        yield part


def _read_start(start: pb.UploadStart) -> UploadStart:
    return UploadStart(
        upload_id=reading.hex_id(start.upload_id, "start.upload_id"),
        offset=reading.count(start.offset, "start.offset"),
        size=reading.count(start.size, "start.size", least=1),
        sha256=reading.digest(start.sha256, "start.sha256"),
    )


def _rest_of_chunk(offset: int, size: int) -> int:
    return min(CHUNK_BYTES - offset % CHUNK_BYTES, size - offset)


def _stalled(stall_s: float) -> PeerTooSlow:
    return PeerTooSlow(
        f"the transfer has not moved for {stall_s:g} s", remedy="Check the connection; it goes on where it stopped."
    )
