"""Checks of single fields that came over the network: each returns the value inside trusts, or names the field.

Rules: nothing that a peer sends is used before it passed one of these, and every list and text has a bound.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Never, TypeVar

from fedn_py.identity import Digest, InvalidName, parse_name
from fedn_py.protocol.masked.encoding import MalformedMessage

MOST_CLIENTS = 10_000
"""Clients that one message may list."""

MOST_REASON_CHARS = 1_000
"""Length of a reason; longer ones are cut by whoever sends them."""

MOST_LOG_CHARS = 8_000
"""Length of a captured log; of longer ones the end is sent."""

MOST_PARAMETERS_BYTES = 256 * 1024
"""Length of a task's parameters."""

_MOST_METRICS = 200
_MOST_NAME_CHARS = 128
_MOST_COUNT = 2**53
_MOST_SECONDS = 10 * 366 * 86_400.0
_HEX_ID = re.compile(r"[0-9a-f]{8,64}")
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]{1,253}):(?P<port>[0-9]{1,5})")

Element = TypeVar("Element")


def malformed(field: str, why: str) -> MalformedMessage:
    """Return the fault that names a field and what is wrong with it."""
    return MalformedMessage("message", field, why)


def digest(value: bytes, field: str) -> Digest:
    """Return 32 raw bytes as a digest."""
    if len(value) != 32:
        raise malformed(field, f"has {len(value)} bytes where a sha256 has 32")
    return Digest(value.hex())


def hex_id(value: str, field: str) -> str:
    """Return an id: 8 to 64 lower-case hex digits."""
    if not _HEX_ID.fullmatch(value):
        raise malformed(field, f"is {value[:80]!r} where 8 to 64 lower-case hex digits belong")
    return value


def name(value: str, field: str) -> str:
    """Return the name of a client or combiner."""
    try:
        return parse_name(value, field)
    except InvalidName as fault:
        raise malformed(field, f"is {value[:80]!r}, which is no name") from fault


def count(value: int, field: str, *, least: int = 0) -> int:
    """Return a whole number from ``least`` to 2**53."""
    if not least <= value <= _MOST_COUNT:
        raise malformed(field, f"is {value}, must be from {least} to 2**53")
    return value


def seconds(value: float, field: str) -> float:
    """Return a duration above 0 and below ten years."""
    if not (math.isfinite(value) and 0.0 < value <= _MOST_SECONDS):
        raise malformed(field, f"is {value}, must be a number of seconds above 0")
    return value


def text(value: str, field: str, *, most: int, least: int = 0) -> str:
    """Return a text of ``least`` to ``most`` characters."""
    if not least <= len(value) <= most:
        raise malformed(field, f"has {len(value)} characters, must have {least} to {most}")
    return value


def raw(value: bytes, field: str, *, most: int) -> bytes:
    """Return 1 to ``most`` bytes."""
    if not 1 <= len(value) <= most:
        raise malformed(field, f"has {len(value)} bytes, must have 1 to {most}")
    return value


def address(value: str, field: str) -> str:
    """Return host:port, the host a name, an IPv4 address or an IPv6 address in brackets."""
    match = _ADDRESS.fullmatch(value)
    if match is None or not 1 <= int(match["port"]) <= 65_535:
        raise malformed(field, f"is {value[:80]!r} where host:port belongs")
    return value


def json_object(value: str, field: str) -> str:
    """Return a text that is one JSON object, as it came."""
    if len(value) > MOST_PARAMETERS_BYTES:
        raise malformed(field, f"has {len(value)} characters, must have at most {MOST_PARAMETERS_BYTES}")
    try:
        parsed = json.loads(value, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as fault:
        raise malformed(field, "is no JSON") from fault
    if not isinstance(parsed, dict):
        raise malformed(field, "is JSON but no object")
    return value


def few(values: Iterable[Element], field: str, *, most: int = MOST_CLIENTS) -> tuple[Element, ...]:
    """Return a list of at most ``most`` elements."""
    elements = tuple(values)
    if len(elements) > most:
        raise malformed(field, f"has {len(elements)} elements, must have at most {most}")
    return elements


def metrics(values: Mapping[str, float], field: str) -> dict[str, float]:
    """Return metrics: at most 200, named, every value finite."""
    metric_names(values, field)
    for metric, value in values.items():
        if not math.isfinite(value):
            raise malformed(f"{field}[{metric!r}]", f"is {value}, must be finite")
    return dict(values)


def metric_names(values: Iterable[str], field: str) -> None:
    """Check the names of metrics: at most 200, of 1 to 128 printable characters."""
    for metric in few(values, field, most=_MOST_METRICS):
        if not (1 <= len(metric) <= _MOST_NAME_CHARS and metric.isprintable()):
            raise malformed(
                field, f"has the name {metric[:80]!r}, must have 1 to {_MOST_NAME_CHARS} printable characters"
            )


def _refuse_constant(constant: str) -> Never:
    raise ValueError(constant)
