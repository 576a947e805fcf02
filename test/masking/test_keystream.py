"""ChaCha20 keystreams: published answers, libsodium's own bytes, chunks in any order."""

import hashlib

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from hypothesis import given
from hypothesis import strategies as st
from nacl.utils import randombytes_deterministic

from fedn_py.masking.keystream import CHUNK_WORDS, Keystream, chunk_sizes


def words(key: bytes, count: int) -> np.ndarray:
    out = np.empty(count, np.uint32)
    stream, start = Keystream(key), 0
    for number, size in enumerate(chunk_sizes(count)):
        stream.chunk(number, out[start : start + size])
        start += size
    return out


def test_the_cipher_is_that_of_rfc_8439() -> None:
    """Section 2.3.2, and appendix A.1, test vectors 1 and 2."""
    nonce = bytes.fromhex("000000090000004a00000000")
    cipher = Cipher(ChaCha20(bytes(range(32)), (1).to_bytes(4, "little") + nonce), mode=None).encryptor()
    assert cipher.update(bytes(64)).hex() == (
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
    )
    cipher = Cipher(ChaCha20(bytes(32), bytes(16)), mode=None).encryptor()
    assert cipher.update(bytes(128)).hex() == (
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
    )


def test_a_stream_is_libsodiums_deterministic_random_bytes() -> None:
    stream = words(bytes(32), 2**18).tobytes()
    assert stream[:64].hex() == (
        "a11f8f12d0876f736d2d8fd26e14c2de88f163e3271710c676c7384cb3621279"
        "fe60241816c5cf335d4e3fec25915fae69d0cba73ac4c39e44c2a59d52fae929"
    )
    assert hashlib.sha256(stream).hexdigest() == "351483a5d938824f761e11fa8137e55334853694c0e12b5a9e93330c00f5c7b2"


@given(st.binary(min_size=32, max_size=32), st.integers(1, 3 * CHUNK_WORDS))
def test_any_key_and_length_give_libsodiums_bytes(key: bytes, count: int) -> None:
    assert words(key, count).tobytes() == randombytes_deterministic(count * 4, key)


def test_a_chunk_far_on_is_the_one_that_counting_would_come_to() -> None:
    out = np.empty(CHUNK_WORDS, np.uint32)
    Keystream(bytes(32)).chunk(5, out)
    everything = randombytes_deterministic(6 * CHUNK_WORDS * 4, bytes(32))
    assert out.tobytes() == everything[-CHUNK_WORDS * 4 :]


@given(st.permutations(range(5)), st.integers(1, CHUNK_WORDS))
def test_chunks_drawn_in_any_order_are_the_same(order: list[int], last: int) -> None:
    sizes = [CHUNK_WORDS] * 4 + [last]
    in_order, stream = words(b"k" * 32, sum(sizes)), Keystream(b"k" * 32)
    for number in order:
        out = np.empty(sizes[number], np.uint32)
        stream.chunk(number, out)
        start = number * CHUNK_WORDS
        assert np.array_equal(out, in_order[start : start + sizes[number]])


def test_a_short_read_does_not_shift_what_comes_after_it() -> None:
    stream, out = Keystream(b"k" * 32), np.empty(CHUNK_WORDS, np.uint32)
    stream.chunk(0, out[:3])
    stream.chunk(1, out)
    assert np.array_equal(out, words(b"k" * 32, 2 * CHUNK_WORDS)[CHUNK_WORDS:])


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keystream(bytes(31))


@given(st.integers(0, 10 * CHUNK_WORDS))
def test_chunks_cover_a_vector_and_only_the_last_is_short(count: int) -> None:
    sizes = chunk_sizes(count)
    assert sum(sizes) == count
    assert all(size == CHUNK_WORDS for size in sizes[:-1])
    assert all(sizes)
