"""The parts of bulk transfers on the wire: as the generated classes write and read them, without their copies.

Every part is a message whose oneof ``part`` holds a start or, as field 2, a chunk: one tag, one length, the bytes.
That is written here by one join and read as a view into the message as gRPC has received it. Whatever does not look
exactly like it is left to the generated class, so that both ways agree on what is refused and on what is not.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message

Chunk = bytes | memoryview
"""Bytes of a transfer, as they came or as they go."""

Pieces = tuple[Chunk, ...]
"""All bytes of a transfer, in pieces of at most 1 MiB."""

_CHUNK_TAG: Final = 0x12  # field 2, length-delimited
_MOST_LENGTH_BYTES: Final = 4  # of what gRPC takes as one message
_MORE: Final = 0x80


@dataclass(frozen=True, slots=True)
class FramedChunk:
    """A chunk as it stands on the wire, to be sent as often as wanted.

    Attributes:
        size: of its bytes alone.
    """

    wire: bytes
    size: int


def framed(*pieces: Chunk) -> FramedChunk:
    """Write a chunk, which may be in pieces."""
    size = sum(map(len, pieces))
    return FramedChunk(b"".join((_prefix(size), *pieces)), size)


def cut(pieces: Pieces, at_once: int) -> Iterator[Pieces]:
    """Cut the pieces of a chunk into those of several, of so many bytes each but for the last; nothing is copied."""
    part: list[Chunk] = []
    room = at_once
    for piece in pieces:
        rest = memoryview(piece)
        while len(rest) >= room:
            yield (*part, rest[:room])
            part, rest, room = [], rest[room:], at_once
        if rest:
            part.append(rest)
            room -= len(rest)
    if part:
        yield tuple(part)


def write_part(part: Message | FramedChunk) -> bytes:
    """Return a part as it stands on the wire."""
    return part.wire if isinstance(part, FramedChunk) else part.SerializeToString()


def part_reader(kind: type[Message]) -> Callable[[bytes], Any]:
    """Return what reads parts of a kind: a chunk becomes a memoryview of the message that brought it.

    Args:
        kind: a generated class with a oneof ``part``.
    """

    def read(wire: bytes) -> Message | memoryview:
        start = _start_of_chunk(wire)
        if start:
            return memoryview(wire)[start:]
        part: Any = kind.FromString(wire)
        return memoryview(part.chunk) if part.WhichOneof("part") == "chunk" else part

    return read


def _prefix(size: int) -> bytes:
    prefix = bytearray((_CHUNK_TAG,))
    while size >= _MORE:
        prefix.append(size % _MORE | _MORE)
        size //= _MORE
    prefix.append(size)
    return bytes(prefix)


def _start_of_chunk(wire: bytes) -> int:
    """Return where the bytes begin in a message that is exactly one chunk, 0 for any other message."""
    if not wire or wire[0] != _CHUNK_TAG:
        return 0
    size, shift = 0, 0
    for position in range(1, min(len(wire), 1 + _MOST_LENGTH_BYTES)):
        byte = wire[position]
        size |= (byte & ~_MORE) << shift
        if byte < _MORE:
            return position + 1 if position + 1 + size == len(wire) else 0
        shift += 7
    return 0
