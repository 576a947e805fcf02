"""Parts of transfers: what is written and read here is what the generated classes write and read."""

from typing import Any

import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import example, given
from hypothesis import strategies as st

from fedn_py.transport.parts import FramedChunk, cut, framed, part_reader, write_part
from fedn_py.wire.v1 import network_pb2, transfer_pb2

KINDS: tuple[type[Message], ...] = (transfer_pb2.UploadPart, transfer_pb2.DownloadPart, network_pb2.UpdatePart)
SIZES = (0, 1, 127, 128, 16_383, 16_384, (1 << 20) - 1, 1 << 20, (1 << 21) - 1, 1 << 21, 1 << 22)


def as_generated(kind: Any, wire: bytes) -> bytes | Message:
    part = kind.FromString(wire)
    chunk: bytes | Message = part.chunk if part.WhichOneof("part") == "chunk" else part
    return chunk


def as_read(kind: type[Message], wire: bytes) -> bytes | Message:
    part = part_reader(kind)(wire)
    return bytes(part) if isinstance(part, memoryview) else part


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_a_chunk_is_written_and_read_as_the_generated_class_does(kind: Any, size: int) -> None:
    chunk = bytes(range(256)) * (size // 256) + bytes(size % 256)
    wire = kind(chunk=chunk).SerializeToString()
    assert framed(chunk) == framed(memoryview(chunk)) == FramedChunk(wire, size)
    assert framed(chunk[:3], memoryview(chunk)[3:]) == FramedChunk(wire, size)
    assert write_part(framed(chunk)) == wire
    assert as_read(kind, wire) == chunk


@given(start=st.builds(transfer_pb2.UploadStart, upload_id=st.text(), offset=st.integers(0, 2**64 - 1)))
def test_a_start_is_written_and_read_as_the_generated_class_does(start: transfer_pb2.UploadStart) -> None:
    part = transfer_pb2.UploadPart(start=start)
    assert write_part(part) == part.SerializeToString()
    assert part_reader(transfer_pb2.UploadPart)(write_part(part)) == part


def fields() -> st.SearchStrategy[bytes]:
    """Return messages that are nearly a chunk: several fields, long lengths, strange tags, cut ends."""
    tag = st.sampled_from([b"\x12", b"\x0a", b"\x1a", b"\x10", b"\x92\x00", b"\x18"])
    length = st.sampled_from(
        [b"\x00", b"\x01", b"\x03", b"\x83\x00", b"\x83\x80\x00", b"\x83\x80\x80\x80\x00", b"\xff"]
    )
    one = st.tuples(tag, length, st.binary(max_size=5)).map(b"".join)
    return st.lists(one | st.binary(max_size=4), max_size=3).map(b"".join)


@given(wire=fields())
@example(b"")
@example(b"\x12")
@example(b"\x12\x80")
@example(b"\x12\x03ab")
@example(b"\x12\x01a\x12\x01b")
@example(b"\x12\x01a\x0a\x00")
@example(b"\x12\x81\x00a")
def test_whatever_comes_is_taken_or_refused_as_the_generated_class_does(wire: bytes) -> None:
    for kind in KINDS:
        try:
            expected = as_generated(kind, wire)
        except DecodeError:
            with pytest.raises(DecodeError):
                as_read(kind, wire)
        else:
            assert as_read(kind, wire) == expected


def test_a_chunk_is_a_view_of_its_message() -> None:
    wire = framed(b"x" * 1000).wire
    part = part_reader(transfer_pb2.UploadPart)(wire)
    assert part.obj is wire


@given(pieces=st.lists(st.binary(max_size=20), max_size=6), at_once=st.integers(1, 30))
def test_chunks_that_are_cut_have_the_size_that_was_asked_for_and_the_same_bytes(
    pieces: list[bytes], at_once: int
) -> None:
    parts = [b"".join(part) for part in cut(tuple(pieces), at_once)]
    assert b"".join(parts) == b"".join(pieces)
    assert all(len(part) == at_once for part in parts[:-1])
    assert all(0 < len(part) <= at_once for part in parts)
