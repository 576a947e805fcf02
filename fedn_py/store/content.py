"""Documents as JSON text, and what is refused on the way in."""

import json
import re
from collections.abc import Mapping
from typing import cast

from fedn_py.store.ports import JSONValue, NotStorable

MAX_DOCUMENT_BYTES = 16 * 1024**2 - 16 * 1024
"""MongoDB's limit less room for the fields of our own; the other stores keep to it, so that moving is possible."""

_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INT64 = range(-(2**63), 2**63)


def encode(content: Mapping[str, JSONValue]) -> str:
    """Return a document as JSON text.

    Raises:
        NotStorable: a float is not finite, an integer needs more than 64 bits, or the text is too long.
    """
    _check_integers(content)
    try:
        text = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        size = len(text.encode())
    except (ValueError, RecursionError) as error:  # NaN, infinity, half a surrogate pair, no end to the nesting
        raise NotStorable(f"a document cannot be stored: {error}", remedy="Keep every number finite.") from error
    if size > MAX_DOCUMENT_BYTES:
        raise too_large(size)
    return text


def decode(text: str) -> Mapping[str, JSONValue]:
    """Return the document that ``encode`` made ``text`` of."""
    return cast("Mapping[str, JSONValue]", json.loads(text))


def too_large(size: int) -> NotStorable:
    """Return the error for a document of ``size`` bytes."""
    return NotStorable(
        f"a document of {size} bytes is above the limit of {MAX_DOCUMENT_BYTES}",
        remedy="Lower the number of clients of a round, or the length of the logs they send.",
    )


def field_name(name: str) -> str:
    """Return the name of a top-level field that a query may hold, or raise ValueError: it is put into the query."""
    if not _FIELD.fullmatch(name):
        raise ValueError(f"{name!r} is no field that can be asked for")
    return name


def _check_integers(value: object) -> None:
    if isinstance(value, int) and value not in _INT64:
        raise NotStorable(f"{str(value)[:40]} does not fit in 64 bits", remedy="Keep integers within 64 bits.")
    if isinstance(value, Mapping):
        for item in value.values():
            _check_integers(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_integers(item)
