"""Who may see what: bytes that are secret are known by name here, and looked for in all that reaches a server."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

MOST_KNOWN = 160
"""Secrets that are looked for; older ones are of rounds that are over."""


@dataclass(frozen=True)
class Secret:
    """Bytes of one client.

    Attributes:
        what: "seed", "mask", "plain vector" and so on.
    """

    what: str
    client: str
    content: bytes


class Labels:
    """The secrets of the rounds at hand."""

    def __init__(self) -> None:
        self._known: deque[Secret] = deque(maxlen=MOST_KNOWN)
        self._masked: deque[Secret] = deque(maxlen=MOST_KNOWN)

    def keep(self, what: str, client: str, content: bytes) -> None:
        """Know bytes that no server may ever hold."""
        self._known.append(Secret(what, client, content))

    def keep_masked(self, client: str, content: bytes) -> None:
        """Know one client's masked vector, which combiners alone may hold."""
        self._masked.append(Secret("masked vector", client, content))

    def found_in(self, value: Any, *, by_reducer: bool) -> Secret | None:
        """Return a secret that is in a message or object and may not be there, or None."""
        content = b"|".join(bytes_in(value))
        for secret in self._known:
            if secret.content in content:
                return secret
        if by_reducer:
            for secret in self._masked:
                if secret.content in content:
                    return secret
        return None


def bytes_in(value: Any) -> Iterator[bytes]:
    """Yield all bytes that a value is made of."""
    if isinstance(value, bytes | bytearray):
        yield bytes(value)
    elif isinstance(value, tuple | list | set | frozenset):
        for one in value:
            yield from bytes_in(one)
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from bytes_in(key)
            yield from bytes_in(one)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from bytes_in(getattr(value, field.name))
