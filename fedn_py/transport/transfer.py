"""Bulk transfer at its caller: uploads and downloads that survive cuts and end in bytes that hash right, or in a fault.

After a cut the other side's truth decides where an upload goes on, and the file on this side where a download does.
A transfer is given up after a number of attempts in a row that moved nothing.
"""

import asyncio
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from fedn_py.identity import Digest
from fedn_py.protocol.backoff import delay_s
from fedn_py.protocol.messages import UpdateHeader, UpdateReceipt
from fedn_py.transport import codec, reading
from fedn_py.transport.channels import Channel
from fedn_py.transport.chunks import CHUNK_BYTES, GO_ON, InChunks, UploadStart, pieces
from fedn_py.transport.codec_fields import raw_digest
from fedn_py.transport.completion import in_thread, to_the_end
from fedn_py.transport.landing import Landing
from fedn_py.transport.overlap import store_as_they_come
from fedn_py.transport.parts import Chunk, FramedChunk, Pieces, cut, framed, part_reader, write_part
from fedn_py.transport.status import PeerUnreachable, RemoteFault, restored
from fedn_py.transport.streams import END
from fedn_py.wire.v1 import network_pb2, transfer_pb2

_ASK_TIMEOUT_S = 20.0
_STALL_S = 60.0
_TRY_AGAIN = frozenset(
    {
        "WrongOffset",
        "UploadIncomplete",
        "SpoolFull",
        "TooManyTransfers",
        "NotYourTurn",
        "PeerTooSlow",
        "StoreUnavailable",
        "StoreFull",
        "DiskFull",
    }
)
"""Refusals that another attempt may not meet."""

_LEAST_CHUNK_BYTES = 4 * 1024
"""A server that wants smaller ones is not understood."""

_MOST_DIGITS = 20
_UNCALLED_S = 20.0
"""Who was put off and is not called comes by itself after so long, or half as long again: a call may have been lost."""

_READ_AT_ONCE = 4
"""Chunks; as many again are read while these are sent."""

Bytes = bytes | bytearray | memoryview | Pieces


Source = Path | Bytes | InChunks


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a broken transfer is tried again.

    Attributes:
        attempts: failures in a row, without a byte moved in between, after which it is given up.
        base_s, cap_s: bounds of the waits between them (full jitter).
    """

    attempts: int = 10
    base_s: float = 0.5
    cap_s: float = 30.0


class _Attempts:
    """Counts failures without progress and waits between them, or until the server calls."""

    def __init__(self, channel: Channel, patience: Patience) -> None:
        self._call_ups, self._patience = channel.call_ups, patience
        self._called = self._call_ups.count
        self._failures = 0
        self._furthest = -1

    def begin(self) -> None:
        """Learn that an attempt begins: a call that comes from now on may be for it."""
        self._called = self._call_ups.count

    async def failed_at(self, position: int, fault: RemoteFault | PeerUnreachable) -> None:
        """Wait before the next attempt, or raise the fault when patience is at its end."""
        if isinstance(fault, RemoteFault) and fault.code not in _TRY_AGAIN:
            raise fault
        if fault.code == "NotYourTurn":
            # No failure: the server says itself when it has time.
            await self._call_ups.beyond(self._called, _UNCALLED_S * random.uniform(1, 1.5))
            return
        self._failures = 1 if position > self._furthest else self._failures + 1
        self._furthest = max(self._furthest, position)
        if self._failures >= self._patience.attempts:
            raise fault
        await asyncio.sleep(delay_s(self._failures, random.random(), self._patience.base_s, self._patience.cap_s))


# ---- up


async def upload_object(
    channel: Channel, upload_id: str, digest: Digest, source: Source, *, patience: Patience | None = None
) -> None:
    """Upload an object to the store behind a server; returns when it is stored.

    Raises:
        RemoteFault: refused.
        PeerUnreachable: patience is at its end.
    """
    size = await _size_of(source)

    def start(offset: int) -> transfer_pb2.UploadPart:
        begin = UploadStart(upload_id, offset, size, digest)
        return transfer_pb2.UploadPart(start=_write_start(begin))

    await _upload(
        channel,
        upload_id=upload_id,
        source=source,
        method=channel.stub(_BulkStub).Upload,
        start=start,
        patience=patience or Patience(),
    )


async def upload_update(
    channel: Channel, header: UpdateHeader, source: Source, *, patience: Patience | None = None
) -> UpdateReceipt:
    """Upload an update to a combiner and return what it says of it.

    Args:
        header: its size and sha256 are those of ``source``.

    Raises:
        RemoteFault: refused before it was judged.
        PeerUnreachable: patience is at its end.
    """
    wire = codec.write_update_header(header)
    receipt = await _upload(
        channel,
        upload_id=header.upload_id,
        source=source,
        method=channel.stub(_BulkStub).SendUpdate,
        start=lambda offset: network_pb2.UpdatePart(start=network_pb2.UpdateStart(header=wire, offset=offset)),
        patience=patience or Patience(),
    )
    return codec.read_update_receipt(receipt)


async def _upload(
    channel: Channel,
    *,
    upload_id: str,
    source: Source,
    method: Callable[[], Any],
    start: Callable[[int], Any],
    patience: Patience,
) -> Any:
    attempts = _Attempts(channel, patience)
    # Nearly every upload is a new one, of which nothing is held: asking first would cost it a round trip.
    held, asked = 0, False
    while True:
        attempts.begin()
        try:
            return await _send(method(), start(held), source, held)
        except grpc.aio.AioRpcError as error:
            fault = restored(error, channel.address)
        if asked or fault.code != "WrongOffset":
            await attempts.failed_at(held, fault)
        if fault.code == "NotYourTurn":
            continue  # nothing was asked of its bytes
        held = await _held(channel, upload_id, attempts, held)
        asked = True


async def _held(channel: Channel, upload_id: str, attempts: _Attempts, before: int) -> int:
    """Return from where the other side wants an upload to go on."""
    ask = channel.stub(_BulkStub).UploadStatus
    while True:
        try:
            answer = await ask(transfer_pb2.UploadStatusRequest(upload_id=upload_id), timeout=_ASK_TIMEOUT_S)
            return reading.count(answer.held, "held")
        except grpc.aio.AioRpcError as error:
            await attempts.failed_at(before, restored(error, channel.address))


async def _send(call: Any, start: Any, source: Source, offset: int) -> Any:
    try:
        await call.write(start)
        # No byte is sent before the server asks for it: what it refuses costs nothing, and grpc.aio loses the words
        # of a refusal that meets a write.
        wanted = dict(tuple(await call.initial_metadata())).get(GO_ON)
        if wanted is None:
            return await call
        async with aclosing(_read(source, offset, _at_once(wanted))) as chunks:
            async for chunk in chunks:
                await call.write(chunk)
        await call.done_writing()
    except asyncio.InvalidStateError:
        # The server has answered before all was sent; its answer is what counts.
        return await call
    except BaseException:
        call.cancel()
        raise
    return await call


async def _size_of(source: Source) -> int:
    if isinstance(source, Path):
        return (await in_thread(source.stat)).st_size
    if isinstance(source, tuple):
        return sum(map(len, source))
    if isinstance(source, bytes | bytearray | memoryview):
        return memoryview(source).nbytes
    return source.size


def _at_once(wanted: str | bytes) -> int:
    """Return how large chunks should be, as the server has it."""
    try:
        size = int(wanted[:_MOST_DIGITS])
    except ValueError:
        return CHUNK_BYTES
    return size if _LEAST_CHUNK_BYTES <= size <= CHUNK_BYTES else CHUNK_BYTES


async def _read(source: Source, offset: int, at_once: int) -> AsyncGenerator[FramedChunk, None]:
    if isinstance(source, bytes | bytearray | memoryview | tuple):
        for piece in pieces_of(source, offset):
            for part in cut((piece,), at_once):
                yield framed(*part)
        return
    made = _of_file(source, offset) if isinstance(source, Path) else source.chunks(offset)
    batches = _Batches(made, at_once)
    ahead: asyncio.Future[list[FramedChunk]] | None = asyncio.ensure_future(in_thread(batches.next))
    try:
        while ahead is not None:
            chunks = await ahead
            ahead = None if batches.at_end else asyncio.ensure_future(in_thread(batches.next))
            for chunk in chunks:
                yield chunk
    finally:
        if ahead is not None:
            await to_the_end(asyncio.gather(ahead, return_exceptions=True))
        batches.close()


def pieces_of(source: Bytes, offset: int = 0) -> Iterator[Chunk]:
    """Cut bytes in memory, from an offset on, into chunks of the size that is sent, without copying them."""
    if not isinstance(source, tuple):
        yield from pieces(memoryview(source).cast("B")[offset:])
        return
    for piece in source:
        if offset < len(piece):
            yield memoryview(piece)[offset:]
        offset = max(0, offset - len(piece))


def _of_file(path: Path, offset: int) -> Generator[Pieces, None, None]:
    with path.open("rb", buffering=0) as file:
        left = file.seek(0, os.SEEK_END) - file.seek(offset)
        while left > 0 and (chunk := file.read(CHUNK_BYTES)):
            left -= len(chunk)
            yield (chunk,)


class _Batches:
    """Chunks, a few at a time: to change to a worker thread and back costs as much as to read one.

    Attributes:
        at_end: whether there are no more.
    """

    def __init__(self, chunks: Generator[Pieces, None, None], at_once: int) -> None:
        self._chunks, self._at_once = chunks, at_once
        self.at_end = False

    def next(self) -> list[FramedChunk]:
        """Make the next ones; blocking."""
        batch: list[FramedChunk] = []
        for _ in range(_READ_AT_ONCE):
            chunk = next(self._chunks, None)
            if chunk is None:
                self.at_end = True
                break
            batch += (framed(*part) for part in cut(chunk, self._at_once))
        return batch

    def close(self) -> None:
        """Let go of what they are made of."""
        self._chunks.close()


def _write_start(start: UploadStart) -> transfer_pb2.UploadStart:
    return transfer_pb2.UploadStart(
        upload_id=start.upload_id, offset=start.offset, size=start.size, sha256=raw_digest(start.sha256)
    )


# ---- down


async def download(
    channel: Channel,
    digest: Digest,
    into: Path,
    *,
    most_bytes: int | None = None,
    patience: Patience | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Download an object into a file, which appears whole and right or not at all.

    What an earlier, broken download of the same object left beside it is gone on with.

    Args:
        most_bytes: a larger object is refused with ObjectTooLarge; None takes any.
        progress: called with bytes here and bytes in all.

    Returns:
        The object's size in bytes.

    Raises:
        RemoteFault: refused, ObjectMissing for one.
        DigestMismatch: other bytes came; they are deleted.
        DiskUnusable: the file cannot be written.
        PeerUnreachable: patience is at its end.
    """
    attempts = _Attempts(channel, patience or Patience())
    landing = Landing(into, digest, most_bytes)
    await landing.open()
    try:
        while True:
            attempts.begin()
            try:
                await _fetch(channel, landing, progress)
                return await landing.finish()
            except grpc.aio.AioRpcError as error:
                fault = restored(error, channel.address)
                if fault.code == "WrongOffset":
                    # More is on this disk than the object has: what an earlier download left is not of it.
                    await landing.restart()
                await attempts.failed_at(landing.received, fault)
            except TimeoutError:
                await attempts.failed_at(
                    landing.received, PeerUnreachable(channel.address, f"no bytes for {_STALL_S:g} s")
                )
    finally:
        await landing.close()


async def _fetch(channel: Channel, landing: Landing, progress: Callable[[int, int], None] | None) -> None:
    call = channel.stub(_BulkStub).Download(
        transfer_pb2.DownloadRequest(sha256=raw_digest(landing.digest), offset=landing.received),
    )

    async def store(*chunks: Chunk) -> None:
        await landing.append(*chunks)
        if progress is not None:
            progress(landing.received, landing.size)

    try:
        first = await _next_part(call)
        if first is END or isinstance(first, memoryview) or first.WhichOneof("part") != "start":
            raise reading.malformed("the first part of a download", "is no start")
        landing.expect(reading.count(first.start.size, "start.size"))
        await store_as_they_come(_chunks_of(call), store)
    finally:
        call.cancel()


async def _chunks_of(call: Any) -> AsyncIterator[memoryview]:
    while (part := await _next_part(call)) is not END:
        if not isinstance(part, memoryview) or not part:
            raise reading.malformed("a part of a download after the first", "is no chunk")
        yield part


async def _next_part(call: Any) -> Any:
    async with asyncio.timeout(_STALL_S):
        return await call.read()


# ---- the calls


class _BulkStub:
    """The calls that bring bytes, as the generated stubs have them but for how parts are written and read."""

    def __init__(self, channel: Any) -> None:
        self.Download = channel.unary_stream(
            "/fedn_py.wire.v1.Transfer/Download",
            request_serializer=transfer_pb2.DownloadRequest.SerializeToString,
            response_deserializer=part_reader(transfer_pb2.DownloadPart),
        )
        self.Upload = channel.stream_unary(
            "/fedn_py.wire.v1.Transfer/Upload",
            request_serializer=write_part,
            response_deserializer=transfer_pb2.UploadReceipt.FromString,
        )
        self.UploadStatus = channel.unary_unary(
            "/fedn_py.wire.v1.Transfer/UploadStatus",
            request_serializer=transfer_pb2.UploadStatusRequest.SerializeToString,
            response_deserializer=transfer_pb2.UploadStatusAnswer.FromString,
        )
        self.SendUpdate = channel.stream_unary(
            "/fedn_py.wire.v1.Combiner/SendUpdate",
            request_serializer=write_part,
            response_deserializer=network_pb2.UpdateReceipt.FromString,
        )
