"""Bytes on their way into and out of an object store, hashed in a thread as they pass."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

from fedn_py.identity import Digest
from fedn_py.store.ports import ObjectCorrupt, ObjectMissing
from fedn_py.store.threads import Threads

PIECE_BYTES = 1024**2
"""The largest piece that ``Objects.get`` gives."""


async def write_hashed(
    chunks: AsyncIterator[bytes], write: Callable[[bytes], object], threads: Threads
) -> tuple[Digest, int]:
    """Hand a stream to ``write``, chunk by chunk in a thread; return its digest and its size in bytes.

    The next chunk is drawn while one is written; no thread writes any more when this ends, however it does.
    """
    sha256 = hashlib.sha256()
    size = 0

    def take(chunk: bytes) -> None:
        sha256.update(chunk)
        write(chunk)

    taking: asyncio.Task[None] | None = None
    try:
        async for chunk in chunks:
            if taking is not None:
                await taking
            taking = asyncio.create_task(threads.run(take, chunk))
            size += len(chunk)
        if taking is not None:
            await taking
    finally:
        await _ended(taking)
    return Digest(sha256.hexdigest()), size


async def _ended(work: asyncio.Task[None] | None) -> None:
    """Wait for the end of work in a thread, whose outcome nobody needs any more."""
    if work is not None:
        work.cancel()  # which waits for the thread
        await asyncio.wait([work])
        with contextlib.suppress(asyncio.CancelledError):
            work.exception()


async def verified(pieces: AsyncIterator[bytes], digest: Digest, threads: Threads) -> AsyncGenerator[bytes, None]:
    """Pass a whole object on, its last piece only once all of it hashes to ``digest``; else raise ObjectCorrupt."""
    sha256 = hashlib.sha256()
    withheld: bytes | None = None
    async for piece in pieces:
        await threads.run(sha256.update, piece)
        if withheld is not None:
            yield withheld
        withheld = piece
    if sha256.hexdigest() != digest:
        raise corrupt(digest)
    if withheld is not None:
        yield withheld


def corrupt(digest: Digest) -> ObjectCorrupt:
    """Return the error for a stored object whose bytes do not hash to its name."""
    return ObjectCorrupt(
        f"the bytes stored as {digest} do not hash to that name",
        remedy="Check the disk or the object store, and put the same object there again or restore it from a backup.",
    )


def missing(digest: Digest) -> ObjectMissing:
    """Return the error for a digest that no object has."""
    return ObjectMissing(f"no object {digest} is stored", remedy="Check the digest, or put the object there first.")


def check_expected(digest: Digest, expected: Digest | None) -> None:
    """Raise ObjectCorrupt when a stream that should have been ``expected`` is ``digest``."""
    if expected is not None and digest != expected:
        raise ObjectCorrupt(
            f"the bytes that came hash to {digest}, not to {expected}", remedy="Send the object again from its start."
        )


async def file_pieces(path: Path, threads: Threads) -> AsyncGenerator[bytes, None]:
    """Stream a file of this host in pieces of at most 1 MiB."""
    file = await threads.run(path.open, "rb")
    try:
        while piece := await threads.run(file.read, PIECE_BYTES):
            yield piece
    finally:
        await threads.run(file.close)
