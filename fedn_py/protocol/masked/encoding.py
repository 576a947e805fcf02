"""Bodies of signed messages as bytes: one way to write each, and no other bytes are read.

A body is its fields in the order of its dataclass: integers and reals little-endian and of fixed width, byte strings
of fixed length as they are, all else behind a u32 length or count. Reading is total: bytes of anybody's making give a
body or MalformedMessage, which names the field. It consumes every byte, so that ``decode(data).encode() == data``
for all data that is read at all: what is hashed and signed cannot be written in two ways.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, ClassVar, Protocol, Self, get_type_hints

from fedn_py.errors import PeerFault


class MalformedMessage(PeerFault):
    """A message that is not written as its kind is.

    Attributes:
        kind: of message.
        field: the first one that cannot be.
    """

    def __init__(self, kind: str, field: str, reason: str) -> None:
        super().__init__(
            f"a {kind} is malformed: {field} {reason}",
            remedy="Both sides must run the same version; if they do, the sender is at fault.",
        )
        self.kind, self.field = kind, field


class NotReadable(Exception):
    """A field's bytes are refused; becomes MalformedMessage where the field's name is known."""


class Reader:
    """Bytes that are consumed from the front."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes, or raise NotReadable."""
        end = self._position + size
        if end > len(self._data):
            raise NotReadable(f"is cut off: {size} bytes are needed, {len(self._data) - self._position} are left")
        taken, self._position = self._data[self._position : end], end
        return taken

    def left(self) -> int:
        """Return how many bytes have not been consumed."""
        return len(self._data) - self._position


class Form(Protocol):
    """How values of one kind are written."""

    def write(self, value: Any) -> bytes:
        """Return the value's bytes, or raise ValueError."""

    def read(self, reader: Reader) -> Any:
        """Consume and return a value, or raise NotReadable."""


@dataclass(frozen=True, slots=True)
class Unsigned:
    """An integer from ``least`` to ``most`` in ``width`` bytes."""

    width: int
    least: int = 0
    most: int | None = None

    def write(self, value: int) -> bytes:
        """Return the integer little-endian."""
        self._check(value, ValueError)
        return value.to_bytes(self.width, "little")

    def read(self, reader: Reader) -> int:
        """Consume an integer."""
        value = int.from_bytes(reader.take(self.width), "little")
        self._check(value, NotReadable)
        return value

    def _check(self, value: int, fault: type[Exception]) -> None:
        most = 2 ** (8 * self.width) - 1 if self.most is None else self.most
        if not self.least <= value <= most:
            raise fault(f"is {value}, must be from {self.least} to {most}")


@dataclass(frozen=True, slots=True)
class Real:
    """A finite float64."""

    def write(self, value: float) -> bytes:
        """Return the number as IEEE 754 binary64."""
        if not math.isfinite(value):
            raise ValueError("is not finite")
        return struct.pack("<d", value)

    def read(self, reader: Reader) -> float:
        """Consume a number."""
        value = float(struct.unpack("<d", reader.take(8))[0])
        if not math.isfinite(value):
            raise NotReadable("is not finite")
        return value


@dataclass(frozen=True, slots=True)
class Exactly:
    """A byte string of one length."""

    size: int

    def write(self, value: bytes) -> bytes:
        """Return the bytes."""
        if len(value) != self.size:
            raise ValueError(f"has {len(value)} bytes, must have {self.size}")
        return bytes(value)

    def read(self, reader: Reader) -> bytes:
        """Consume the bytes."""
        return reader.take(self.size)


@dataclass(frozen=True, slots=True)
class UpTo:
    """A byte string of at most ``most`` bytes behind its length."""

    most: int

    def write(self, value: bytes) -> bytes:
        """Return length and bytes."""
        if len(value) > self.most:
            raise ValueError(f"has {len(value)} bytes, may have {self.most}")
        return len(value).to_bytes(4, "little") + value

    def read(self, reader: Reader) -> bytes:
        """Consume length and bytes."""
        size = int.from_bytes(reader.take(4), "little")
        if size > self.most:
            raise NotReadable(f"has {size} bytes, may have {self.most}")
        return reader.take(size)


@dataclass(frozen=True, slots=True)
class Text:
    """Printable text of at most ``most`` bytes of UTF-8."""

    most: int

    def write(self, value: str) -> bytes:
        """Return length and UTF-8."""
        if not value.isprintable():
            raise ValueError("holds what cannot be printed")
        return UpTo(self.most).write(value.encode())

    def read(self, reader: Reader) -> str:
        """Consume length and UTF-8."""
        try:
            value = UpTo(self.most).read(reader).decode()
        except UnicodeDecodeError:
            raise NotReadable("is not UTF-8") from None
        if not value.isprintable():
            raise NotReadable("holds what cannot be printed")
        return value


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of a few words, as its place in the list."""

    words: tuple[str, ...]

    def write(self, value: str) -> bytes:
        """Return the word's place."""
        if value not in self.words:
            raise ValueError(f"is {value!r}, must be one of {', '.join(self.words)}")
        return bytes([self.words.index(value)])

    def read(self, reader: Reader) -> str:
        """Consume a place and return its word."""
        place = reader.take(1)[0]
        if place >= len(self.words):
            raise NotReadable(f"is choice {place} of {len(self.words)}")
        return self.words[place]


@dataclass(frozen=True, slots=True)
class Many:
    """From ``least`` to ``most`` values of one form behind their count."""

    item: Form
    most: int
    least: int = 0

    def write(self, value: Sequence[Any]) -> bytes:
        """Return the count and the values."""
        if not self.least <= len(value) <= self.most:
            raise ValueError(f"has {len(value)} entries, must have {self.least} to {self.most}")
        return len(value).to_bytes(4, "little") + b"".join(self.item.write(item) for item in value)

    def read(self, reader: Reader) -> tuple[Any, ...]:
        """Consume the count and the values."""
        count = int.from_bytes(reader.take(4), "little")
        if not self.least <= count <= self.most:
            raise NotReadable(f"has {count} entries, must have {self.least} to {self.most}")
        return tuple(self.item.read(reader) for _ in range(count))


class Body:
    """A dataclass that can be written and read; its fields' types say how, as ``Annotated[type, Form]``.

    Attributes:
        kind: what it is; part of what is signed.
    """

    __slots__ = ()
    kind: ClassVar[str]

    def encode(self) -> bytes:
        """Return the body's bytes.

        Raises:
            ValueError: a field's value is not one that may be written.
        """
        parts = []
        for name, form in layout(type(self)):  # type: ignore[arg-type]
            try:
                parts.append(form.write(getattr(self, name)))
            except ValueError as error:
                raise ValueError(f"{self.kind}.{name} {error}") from error
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the body that the bytes are.

        Raises:
            MalformedMessage: names the field.
        """
        reader = Reader(data)
        body = cls.read(reader)
        if reader.left():
            raise MalformedMessage(cls.kind, "the end", f"is followed by {reader.left()} bytes")
        return body

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Consume a body."""
        values = {}
        for name, form in layout(cls):  # type: ignore[arg-type]
            try:
                values[name] = form.read(reader)
            except NotReadable as error:
                raise MalformedMessage(cls.kind, name, str(error)) from None
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Nested:
    """A body within a body."""

    body: type[Body]

    def write(self, value: Body) -> bytes:
        """Return the inner body's bytes."""
        if type(value) is not self.body:
            raise ValueError(f"is a {type(value).__name__}, must be a {self.body.__name__}")
        return value.encode()

    def read(self, reader: Reader) -> Body:
        """Consume the inner body."""
        return self.body.read(reader)


@cache
def layout(body: type[Body]) -> tuple[tuple[str, Form], ...]:
    """Return a body's fields in their order, each with how it is written."""
    hints = get_type_hints(body, include_extras=True)
    return tuple((field.name, hints[field.name].__metadata__[0]) for field in fields(body))  # type: ignore[arg-type]


U8 = Annotated[int, Unsigned(1)]
U32 = Annotated[int, Unsigned(4)]
U64 = Annotated[int, Unsigned(8)]
Count32 = Annotated[int, Unsigned(4, least=1)]
Float = Annotated[float, Real()]
Bytes16 = Annotated[bytes, Exactly(16)]
Bytes32 = Annotated[bytes, Exactly(32)]
Bytes64 = Annotated[bytes, Exactly(64)]
Name = Annotated[str, Text(64)]

MOST_LINE_BYTES = 300
Line = Annotated[str, Text(MOST_LINE_BYTES)]


def as_line(text: str) -> str:
    """Return text as one printable line that a ``Line`` has room for."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return printable.encode()[:MOST_LINE_BYTES].decode(errors="ignore")
