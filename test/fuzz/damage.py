"""What can happen to a message: bytes that are cut off, bits that turn over, and fields that are not what they were.

Damage to bytes is anybody's on the way. An edit of a field leaves the encoding valid: it is read, and must be refused
for what it says.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nacl.signing import SigningKey

from fedn_py.protocol.masked.encoding import (
    Body,
    Exactly,
    Form,
    Many,
    Nested,
    OneOf,
    Real,
    Text,
    Unsigned,
    UpTo,
    layout,
)
from fedn_py.protocol.masked.signing import Signed, sign


@dataclass(frozen=True)
class Damaged:
    """A body's bytes after something has happened to them.

    Attributes:
        how: what has happened, to be read in a failure and to do it again.
        field: the path of the field that it happened to, empty where it is bytes.
    """

    how: str
    content: bytes
    field: str = ""


def truncations(content: bytes, chance: random.Random, count: int) -> Iterator[Damaged]:
    """Yield the bytes cut off at ``count`` places, the two ends among them."""
    for size in _sample(len(content), chance, count):
        yield Damaged(f"cut off after {size} of {len(content)} bytes", content[:size])


def flips(content: bytes, chance: random.Random, count: int) -> Iterator[Damaged]:
    """Yield the bytes with one bit turned over, in ``count`` of them."""
    for place in _sample(len(content), chance, count):
        bit = chance.randrange(8)
        changed = bytearray(content)
        changed[place] ^= 1 << bit
        yield Damaged(f"bit {bit} of byte {place} turned over", bytes(changed))


def extensions(content: bytes) -> Iterator[Damaged]:
    """Yield the bytes with more behind them."""
    yield Damaged("one more byte", content + b"\0")
    yield Damaged("twice", content + content)


def bytes_damaged(content: bytes, chance: random.Random, count: int) -> Iterator[Damaged]:
    """Yield some of each."""
    yield from truncations(content, chance, count)
    yield from flips(content, chance, count)
    yield from extensions(content)


def _sample(size: int, chance: random.Random, count: int) -> list[int]:
    if size <= count:
        return list(range(size))
    ends = {0, size - 1}
    return sorted(ends | set(chance.sample(range(size), max(0, count - len(ends)))))


# ---- fields


def edits(body: Body) -> Iterator[Damaged]:
    """Yield the body with each of its fields edited, however deep, as long as it can be written."""
    for path, changed in _edited(body):
        try:
            yield Damaged(f"{path} edited", changed.encode(), path)
        except ValueError:
            continue  # at a limit: the edit is none that can be written


def _edited(body: Body) -> Iterator[tuple[str, Any]]:
    for name, form in layout(type(body)):  # type: ignore[arg-type]
        for path, value in _other_values(form, getattr(body, name)):
            yield f"{name}{path}", replace(body, **{name: value})  # type: ignore[type-var]


def _other_values(form: Form, value: Any) -> Iterator[tuple[str, Any]]:
    match form:
        case Unsigned():
            yield "", value + 1
            yield "", max(0, value - 1) if value else value + 2
        case Real():
            yield "", value * 2 + 1
        case Exactly():
            yield "", _flipped(value)
            yield "", bytes(len(value))
        case UpTo():
            yield "", _flipped(value) if value else b"x"
            yield "", value + b"\0"
        case Text():
            yield "", value + "x"
        case OneOf(words):
            yield "", words[(words.index(value) + 1) % len(words)]
        case Nested():
            for path, inner in _edited(value):
                yield f".{path}", inner
        case Many(item):
            yield from _other_lists(item, value)


def _other_lists(item: Form, values: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    if not values:
        return
    yield "[one less]", tuple(values[:-1])
    yield "[one twice]", (*values, values[0])
    if len(values) > 1 and values[0] != values[-1]:
        yield "[turned round]", tuple(reversed(values))
    for place in {0, len(values) - 1}:
        for path, inner in _other_values(item, values[place]):
            yield f"[{place}]{path}", (*values[:place], inner, *values[place + 1 :])


def _flipped(value: bytes) -> bytes:
    middle = len(value) // 2
    return value[:middle] + bytes([value[middle] ^ 0x10]) + value[middle + 1 :]


# ---- signed bodies


def resigned(signed: Signed, kind: type[Body], key: SigningKey, **changed: Any) -> Signed:
    """Return what was signed with some of its fields changed, signed by a key."""
    body: Any = kind.decode(signed.body)
    return sign(replace(body, **changed), key)


def by_another(signed: Signed, kind: type[Body], key: SigningKey) -> Iterator[Damaged]:
    """Yield what was signed in the ways that somebody else can sign it."""
    body = kind.decode(signed.body)
    other = sign(body, key)
    yield Damaged("signed by another key", other.encode(), "signer")
    yield Damaged("signed by another key in its name", replace(other, signer=signed.signer).encode(), "signature")
    yield Damaged("another kind is said of it", replace(signed, said="sealed").encode(), "said")
    yield Damaged("the signature of something else", sign_other(signed, key).encode(), "signature")


def sign_other(signed: Signed, key: SigningKey) -> Signed:
    """Return a message whose signature is by its key, over another body."""
    return replace(signed, signature=key.sign(b"something else").signature)
