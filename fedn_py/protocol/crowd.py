"""The clients that a machine's state names, as a value that is cheap to change.

A state is a frozen value, and each event makes a new one. A frozenset of all clients would be copied whole for each
client that answers, which for all of them together grows with their square.
"""

from collections.abc import Iterable, Iterator, Set
from typing import Any

from fedn_py.identity import ClientId

_N_PARTS = 128
"""About the square root of the most clients of a combiner: parts are as large as there are many of them."""


class Crowd(Set[ClientId]):
    """A set of clients, equal to a frozenset of the same; one more or one less leaves all parts but one as they are."""

    __slots__ = ("_parts", "_size")

    def __init__(self, clients: Iterable[ClientId] = ()) -> None:
        parts: list[list[ClientId]] = [[] for _ in range(_N_PARTS)]
        for client in clients:
            parts[hash(client) % _N_PARTS].append(client)
        self._parts = tuple(frozenset(part) for part in parts)
        self._size = sum(map(len, self._parts))

    def __contains__(self, client: object) -> bool:
        return client in self._parts[hash(client) % _N_PARTS]

    def __iter__(self) -> Iterator[ClientId]:
        for part in self._parts:
            yield from part

    def __len__(self) -> int:
        return self._size

    def __hash__(self) -> int:
        return self._hash()

    def __repr__(self) -> str:
        return f"Crowd({sorted(self)})"

    def __or__(self, others: Iterable[Any]) -> "Crowd":
        """Return the clients of both."""
        return self._changed({client for client in others if client not in self}, frozenset.union, 1)

    def __sub__(self, others: Iterable[Any]) -> "Crowd":
        """Return the clients that are not of the others."""
        return self._changed({client for client in others if client in self}, frozenset.difference, -1)

    def _changed(self, clients: set[ClientId], change: Any, by: int) -> "Crowd":
        if not clients:
            return self
        parts = list(self._parts)
        for client in clients:
            place = hash(client) % _N_PARTS
            parts[place] = change(parts[place], (client,))
        changed = Crowd.__new__(Crowd)
        changed._parts, changed._size = tuple(parts), self._size + by * len(clients)
        return changed
