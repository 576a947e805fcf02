"""The one hash of the masked protocol: BLAKE2b-256 over a label and length-prefixed fields.

    H(label, f1, ..) = BLAKE2b-256 of lp(label) lp(f1) ..     with lp(x) = u32 length of x, little-endian, then x

The prefixes make the fields unambiguous, the label says what is hashed: no two uses can be taken for each other.

Source: RFC 7693 (BLAKE2b).
"""

import hashlib

DIGEST_BYTES = 32
_DOMAIN = "fedn/pet/1/"


def tagged_hash(label: str, *fields: bytes) -> bytes:
    """Return H("fedn/pet/1/" + label, fields): 32 bytes.

    Args:
        label: what is hashed.
        fields: byte strings; integers come in as fixed-width little-endian (``u8``, ``u32``, ``u64``).
    """
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for field in ((_DOMAIN + label).encode(), *fields):
        state.update(u32(len(field)))
        state.update(field)
    return state.digest()


def plain_hash(data: bytes) -> bytes:
    """Return BLAKE2b-256 of bytes alone."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def u8(value: int) -> bytes:
    """Return an integer below 2**8 as one byte."""
    return value.to_bytes(1, "little")


def u32(value: int) -> bytes:
    """Return an integer below 2**32 as 4 bytes, little-endian."""
    return value.to_bytes(4, "little")


def u64(value: int) -> bytes:
    """Return an integer below 2**64 as 8 bytes, little-endian."""
    return value.to_bytes(8, "little")
