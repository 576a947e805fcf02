"""The labelled hash."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn_py.masking.hashing import plain_hash, tagged_hash, u8, u32, u64

fields = st.lists(st.binary(max_size=20), max_size=4)


def test_the_hash_is_blake2b_over_length_prefixed_fields() -> None:
    expected = hashlib.blake2b(digest_size=32)
    for field in (b"fedn/pet/1/plan", b"", b"abc"):
        expected.update(len(field).to_bytes(4, "little") + field)
    assert tagged_hash("plan", b"", b"abc") == expected.digest()


@given(fields, fields)
def test_fields_cut_elsewhere_hash_to_something_else(some: list[bytes], others: list[bytes]) -> None:
    assert (tagged_hash("plan", *some) == tagged_hash("plan", *others)) == (some == others)


def test_two_labels_never_give_the_same_hash() -> None:
    assert tagged_hash("plan", b"x") != tagged_hash("order", b"x")


def test_integers_are_little_endian_and_of_fixed_width() -> None:
    assert (u8(1), u32(2), u64(3)) == (b"\1", b"\2\0\0\0", b"\3" + bytes(7))
    for write, beyond in ((u8, 2**8), (u32, 2**32), (u64, 2**64)):
        with pytest.raises(OverflowError):
            write(beyond)


def test_the_plain_hash_is_blake2b_of_the_bytes_alone() -> None:
    assert plain_hash(b"abc") == hashlib.blake2b(b"abc", digest_size=32).digest()
