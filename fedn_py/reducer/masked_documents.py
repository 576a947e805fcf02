"""Masked attempts as they are kept in a round's document, and how values become plain JSON and are read back.

A round's document is the truth of its attempts: what is not in it has not happened, and what is in it is finished by
whoever is the reducer then. Bytes are kept as base64, signed bodies byte for byte as they were signed.
"""

import base64
import binascii
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from fedn_py.errors import OwnFault
from fedn_py.identity import CombinerName, Digest
from fedn_py.protocol.masked.encoding import Body, MalformedMessage
from fedn_py.protocol.masked.opening_work import Attempt
from fedn_py.protocol.masked.round_messages import CommitteeBody
from fedn_py.protocol.masked.signing import Signed
from fedn_py.store.ports import JSONValue

Value = TypeVar("Value")


class AttemptDamaged(OwnFault):
    """What is kept of a masked attempt cannot be read."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"what is kept of a masked attempt cannot be read: {why}",
            remedy="Was it written by another version, or changed by hand? Restore it from a backup.",
        )


@dataclass(frozen=True, slots=True)
class AttemptDocument:
    """What is kept of one attempt.

    Attributes:
        number: of the attempt.
        attempt: the machine's part of it, as ``as_json`` writes it.
        plan: the signed plan.
        orders: combiner to its signed order.
        committees: combiner to its cell's committee, once it is formed.
        streams: "<ctx>/<member>" to the stored sealed stream of a member's answer.
    """

    number: int
    attempt: Mapping[str, Any]
    plan: str
    orders: Mapping[CombinerName, str]
    committees: Mapping[CombinerName, str] = field(default_factory=dict)
    streams: Mapping[str, Digest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MaskedDocument:
    """What is kept of a masked round beside what people see.

    Attributes:
        attempts: all that were planned, the newest last.
        round_key: the newest one's secret key, wrapped; empty once it is unset.
        commit: the signed RoundCommitted; empty before.
        link: from this round's beacon to the next one's; empty before the commit.
    """

    attempts: tuple[AttemptDocument, ...] = ()
    round_key: str = field(default="", repr=False)
    commit: str = ""
    link: str = ""

    def of(self, number: int) -> AttemptDocument | None:
        """Return what is kept of the attempt of this number, or None."""
        return next((one for one in self.attempts if one.number == number), None)


def text_of(data: bytes) -> str:
    """Return bytes as text."""
    return base64.b64encode(data).decode()


def bytes_of(text: str) -> bytes:
    """Return the bytes that a text stands for; raises AttemptDamaged."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise AttemptDamaged("some bytes are not base64") from None


def body_text(body: Body) -> str:
    """Return a body as text."""
    return text_of(body.encode())


def signed_of(text: str) -> Signed:
    """Return the signed body that a text stands for; raises AttemptDamaged."""
    return cast("Signed", _read(Signed, text))


def committee_of(text: str) -> CommitteeBody:
    """Return the committee that a text stands for; raises AttemptDamaged."""
    return cast("CommitteeBody", _read(CommitteeBody, text))


def attempt_of(document: AttemptDocument) -> Attempt:
    """Return the machine's part of an attempt; raises AttemptDamaged."""
    return from_json(Attempt, document.attempt)


# ---- any frozen value


def as_json(value: object) -> Any:
    """Return a value of dataclasses, tuples, sets, mappings, bytes and plain values as JSON.

    Sets are sorted, mappings keep their order.
    """
    match value:
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return text_of(value)
        case Body():
            return body_text(value)
        case tuple():
            return [as_json(one) for one in value]
        case frozenset():
            return sorted((as_json(one) for one in value), key=str)
        case Mapping():
            # No lists in lists: not every server that speaks MongoDB's protocol takes them.
            return [{"key": as_json(key), "value": as_json(one)} for key, one in value.items()]
        case _ if is_dataclass(value):
            return {one.name: as_json(getattr(value, one.name)) for one in fields(value)}
        case _:
            raise TypeError(f"a {type(value).__name__} cannot be kept in a document")


def from_json(kind: type[Value], value: JSONValue | Mapping[str, Any]) -> Value:
    """Return the value of this kind that ``as_json`` wrote so; raises AttemptDamaged."""
    return cast("Value", _read(kind, value))


def _read(kind: Any, value: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {Union, types.UnionType}:
        (inner,) = (one for one in arguments if one is not types.NoneType)
        return None if value is None else _read(inner, value)
    if origin is Literal:
        return _checked(value, value in arguments, f"{value!r} is none of {arguments}")
    if origin in {tuple, frozenset}:
        _checked(value, isinstance(value, list), "a list is expected")
        return origin(_read(arguments[0], one) for one in value)
    if origin is not None and issubclass(origin, Mapping):
        _checked(value, isinstance(value, list) and all(map(_is_pair, value)), "keys and values are expected")
        return {_read(arguments[0], one["key"]): _read(arguments[1], one["value"]) for one in value}
    if is_dataclass(kind) and not issubclass(cast("type", kind), Body):
        return _read_dataclass(cast("type", kind), value)
    return _read_plain(kind, value)


def _read_dataclass(kind: type, value: Any) -> Any:
    hints = _hints(kind)
    fits = isinstance(value, Mapping) and value.keys() == hints.keys()
    _checked(value, fits, f"the fields of a {kind.__name__} are not those that this version writes")
    return kind(**{name: _read(hint, value[name]) for name, hint in hints.items()})


def _read_plain(kind: type, value: Any) -> Any:
    if kind is bytes or issubclass(kind, Body):
        data = bytes_of(_checked(value, isinstance(value, str), "a text is expected"))
        try:
            return data if kind is bytes else kind.decode(data)
        except MalformedMessage as fault:
            raise AttemptDamaged(fault.message) from fault
    return _checked(value, type(value) is kind, f"{kind.__name__} is expected")


def _is_pair(value: object) -> bool:
    return isinstance(value, Mapping) and value.keys() == {"key", "value"}


def _checked(value: Any, holds: object, why: str) -> Any:
    if not holds:
        raise AttemptDamaged(why)
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {one.name: hints[one.name] for one in fields(kind)}
