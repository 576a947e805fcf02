"""Sealed answers: streamed both ways, and nothing that is altered."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_world import RPK, RSK, bytes_of

from fedn_py.masking.hashing import tagged_hash
from fedn_py.protocol.masked.answers import (
    PIECE_BYTES,
    TAG_BYTES,
    AnswerKey,
    AnswerPlace,
    AnswerSealer,
    BadAnswer,
    open_stream,
    sealed_bytes,
    unseal_key,
)

PLACE = AnswerPlace(b"c" * 32, b"h" * 32, b"m" * 32, 1)
KEY = b"k" * 32
SIZE = 2 * PIECE_BYTES + 1000
PLAIN = bytes_of("mask sum", SIZE)


def sealed(plain: bytes, place: AnswerPlace = PLACE) -> tuple[list[bytes], bytes, bytes]:
    sealer = AnswerSealer(place, KEY)
    starts = range(0, max(1, len(plain)), PIECE_BYTES)
    pieces = [
        sealer.piece(plain[start : start + PIECE_BYTES], last=start + PIECE_BYTES >= len(plain)) for start in starts
    ]
    return pieces, *sealer.finish(RPK, b"\1" * 32)


PIECES, SEALED_KEY, STREAM_HASH = sealed(PLAIN)


def opened(
    stream: Iterable[bytes], place: AnswerPlace = PLACE, size: int = SIZE, key: AnswerKey | None = None
) -> bytes:
    return b"".join(open_stream(place, key or AnswerKey(KEY, hashlib.sha256(PLAIN).digest()), stream, size))


def test_what_opens_an_answer_is_not_shown() -> None:
    assert repr(AnswerKey(KEY, hashlib.sha256(PLAIN).digest())) == "AnswerKey()"


def test_an_answer_comes_out_as_it_went_in() -> None:
    key = unseal_key(PLACE, SEALED_KEY, RSK)
    assert key == AnswerKey(KEY, hashlib.sha256(PLAIN).digest())
    assert opened(PIECES, key=key) == PLAIN
    assert len(SEALED_KEY) == 112
    assert sum(map(len, PIECES)) == sealed_bytes(SIZE)
    assert hashlib.sha256(b"".join(PIECES)).digest() == STREAM_HASH


def test_a_piece_is_sealed_as_specified() -> None:
    bound = tagged_hash("answer", b"c" * 32, b"h" * 32, b"m" * 32, b"\1")
    nonce = (2).to_bytes(4, "little") + b"\1" + bytes(7)
    assert ChaCha20Poly1305(KEY).decrypt(nonce, PIECES[2], bound) == PLAIN[2 * PIECE_BYTES :]


@settings(max_examples=30, deadline=None)
@given(st.integers(10_000, 3 * PIECE_BYTES))
def test_a_stream_may_come_in_chunks_of_any_size(size: int) -> None:
    stream = b"".join(PIECES)
    assert opened(stream[start : start + size] for start in range(0, len(stream), size)) == PLAIN


@pytest.mark.parametrize("size", [4, PIECE_BYTES - 4, PIECE_BYTES, PIECE_BYTES + 4, 2 * PIECE_BYTES])
def test_lengths_around_a_pieces_border_come_out(size: int) -> None:
    plain = PLAIN[:size]
    pieces, sealed_key, _ = sealed(plain)
    assert opened(pieces, size=size, key=unseal_key(PLACE, sealed_key, RSK)) == plain


@pytest.mark.parametrize(
    "altered",
    [
        [],
        PIECES[:-1],
        PIECES[1:],
        [PIECES[1], PIECES[0], PIECES[2]],
        [*PIECES[:2], PIECES[1], PIECES[2]],
        [*PIECES, b"x"],
        [*PIECES, *PIECES],
        [*PIECES[:2], PIECES[2][:-1]],
        [bytes([PIECES[0][0] ^ 1]) + PIECES[0][1:], *PIECES[1:]],
    ],
    ids=["nothing", "cut", "headless", "reordered", "repeated", "continued", "twice", "shortened", "flipped"],
)
def test_a_stream_that_was_tampered_with_is_refused(altered: list[bytes]) -> None:
    with pytest.raises(BadAnswer) as refused:
        opened(altered)
    assert refused.value.member == PLACE.client_id


def test_a_stream_that_never_ends_is_cut_off() -> None:
    def endless() -> Iterator[bytes]:
        for n in range(100):
            assert n < 5, "read on beyond what can be the answer"
            yield bytes(PIECE_BYTES + TAG_BYTES)

    with pytest.raises(BadAnswer):
        opened(endless(), key=AnswerKey(b"x" * 32, b"y" * 32))


@pytest.mark.parametrize(
    "other",
    [{"ctx": b"x" * 32}, {"included_hash": b"x" * 32}, {"client_id": b"x" * 32}, {"slot": 0}],
)
def test_an_answer_counts_in_its_place_alone(other: dict[str, object]) -> None:
    with pytest.raises(BadAnswer):
        opened(PIECES, replace(PLACE, **other))  # type: ignore[arg-type]


def test_a_stream_of_another_length_than_the_plans_is_refused() -> None:
    for size in (SIZE - 4, SIZE + 4, 4):
        with pytest.raises(BadAnswer):
            opened(PIECES, size=size)


def test_a_stream_that_is_not_what_its_digest_says_is_refused() -> None:
    with pytest.raises(BadAnswer, match="digest"):
        opened(PIECES, key=AnswerKey(KEY, b"x" * 32))


def test_a_key_is_sealed_to_this_attempts_key_alone() -> None:
    """A swapped rpk: whoever holds another key than the plan's reads nothing."""
    with pytest.raises(BadAnswer, match="does not open"):
        unseal_key(PLACE, SEALED_KEY, bytes_of("the combiner's own key"))
    from fedn_py.protocol.masked.sealing import seal

    with pytest.raises(BadAnswer, match="another length"):
        unseal_key(PLACE, seal(b"short", RPK, b"\1" * 32), RSK)


def test_pieces_are_whole_and_the_last_one_is_the_last() -> None:
    sealer = AnswerSealer(PLACE, KEY)
    with pytest.raises(ValueError, match="1 MiB"):
        sealer.piece(b"short", last=False)
    with pytest.raises(ValueError, match="1 MiB"):
        sealer.piece(bytes(PIECE_BYTES + 1), last=True)
    with pytest.raises(ValueError, match="last piece"):
        sealer.finish(RPK, b"\1" * 32)
    sealer.piece(b"short", last=True)
    with pytest.raises(ValueError, match="none follows"):
        sealer.piece(b"more", last=True)
