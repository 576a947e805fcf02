"""Bulk bytes on the wire: how large a chunk is, where objects come from and go to, and what can be wrong with them."""

from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fedn_py.errors import PeerFault
from fedn_py.identity import Digest
from fedn_py.transport.parts import Chunk, Pieces

CHUNK_BYTES = 1024 * 1024
"""What is sent at once: small enough for any memory, large enough that calls cost nothing."""

MOST_CHUNK_BYTES = 2 * CHUNK_BYTES
"""What is taken at once."""

MOST_MESSAGE_BYTES = 4 * CHUNK_BYTES
"""What gRPC takes as one message: a chunk or a large report."""


GO_ON = "fedn-go-on"
"""Initial metadata of an upload: the server takes it, from the offset that was offered, in chunks of so many bytes."""


class ChunkTooLarge(PeerFault):
    """A chunk above the limit of what is taken at once."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"a chunk of {size} bytes is above the limit of {MOST_CHUNK_BYTES}", remedy="Send chunks of 1 MiB."
        )


class DigestMismatch(PeerFault):
    """The bytes that came are whole but not those that were named; they are gone again."""

    def __init__(self, expected: Digest, found: str) -> None:
        super().__init__(
            f"bytes named {expected} hash to {found}",
            remedy="Send them again; if it happens again, look for a faulty disk or for what changes the traffic.",
        )


class WrongOffset(PeerFault):
    """A transfer was to go on where the other side does not stand.

    Attributes:
        held: the offset to go on from.
    """

    def __init__(self, offered: int, held: int) -> None:
        super().__init__(f"a transfer offered to go on at byte {offered}; {held} bytes are here", remedy="Go on there.")
        self.held = held


class UploadMismatch(PeerFault):
    """An upload does not fit what was said of it: another size or digest under its id, or more bytes than declared."""


class TooManyTransfers(PeerFault):
    """One caller has as many transfers open as one may have."""


@dataclass(frozen=True, slots=True)
class UploadStart:
    """What stands before the bytes of any upload.

    Attributes:
        upload_id: random hex, chosen by the sender; the same bytes keep it, other bytes have another.
        offset: the first byte to come.
        size: bytes of the whole.
        sha256: of the whole.
    """

    upload_id: str
    offset: int
    size: int
    sha256: Digest


class Sized(Protocol):
    """What says how large an object is."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...


class ObjectSource(Protocol):
    """Where a Download reads; an object store is one as it is."""

    async def stat(self, digest: Digest) -> Sized:
        """Return an object's size, or raise that it is missing."""
        ...

    def get(self, digest: Digest, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Stream an object's bytes from an offset."""
        ...


class PieceSource(Protocol):
    """Where a Download beside many others reads little at a time."""

    async def piece(self, digest: Digest, offset: int, size: int) -> bytes:
        """Return so many bytes of an object from an offset, fewer at its end, or raise that it is missing."""
        ...


class InChunks(Protocol):
    """Bytes that are made as they are sent, the same ones each time; blocking."""

    @property
    def size(self) -> int:
        """How many they are."""
        ...

    def chunks(self, offset: int) -> Generator[Pieces, None, None]:
        """Yield them from an offset on, each of the tuples a chunk of at most 1 MiB."""
        ...


class ObjectStore(Protocol):
    """Where uploads are stored; an object store is one as it is."""

    async def put(self, chunks: AsyncIterator[bytes], *, expected: Digest | None = None) -> Sized:
        """Store bytes whole, under their digest, or not at all."""
        ...

    async def put_file(self, path: Path, digest: Digest) -> Sized:
        """Store a file, whose bytes were hashed to its digest as they were written; it may be moved away."""
        ...


def pieces(data: Chunk) -> Iterator[Chunk]:
    """Cut bytes into chunks of the size that is sent, without copying them."""
    if 0 < len(data) <= CHUNK_BYTES:
        yield data
        return
    view = memoryview(data)
    for start in range(0, len(view), CHUNK_BYTES):
        yield view[start : start + CHUNK_BYTES]
