"""The objects of a simulated network: named by their digest, put before they are named, swept when nobody names them.

The bytes are in the services' own store in memory, which serves nothing that does not hash to its name.
"""

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from simulator.working import at_once

from fedn_py.identity import Digest
from fedn_py.store.memory import MemoryObjects
from fedn_py.store.ports import StoreUnavailable

if TYPE_CHECKING:
    from simulator.world import World


class ObjectShelf:
    """Objects by digest, each with the instant at which it was put last.

    Attributes:
        away: nobody reaches them now.
    """

    def __init__(self, world: "World", served: Callable[[MemoryObjects, Digest], bytes]) -> None:
        self._world, self._served = world, served
        self._objects = MemoryObjects()
        self._put_at: dict[Digest, float] = {}
        self._ever: dict[Digest, bytes] = {}
        self.away = False

    def __contains__(self, digest: Digest) -> bool:
        """Say whether an object is there, for those who watch."""
        return digest in self._objects.contents

    def seen(self, digest: Digest) -> bytes:
        """Return an object as it was put, for those who watch."""
        return self._ever[digest]

    def put(self, content: bytes) -> Digest:
        """Store an object; raises StoreUnavailable."""
        self._reach()
        digest: Digest = at_once(self._objects.put(_in_one_piece(content))).digest
        if digest in self._ever:
            self._world.chaos.noticed("the same bytes are put again")
        self._put_at[digest], self._ever[digest] = self._world.clock.now, content
        return digest

    def get(self, digest: Digest) -> bytes:
        """Read an object; raises StoreUnavailable, ObjectMissing, ObjectCorrupt."""
        self._reach()
        whole = self._objects.contents.get(digest)
        if whole is not None and self._world.chaos.happens("object store lies"):
            self._objects.contents[digest] = whole[:-1] + bytes([whole[-1] ^ 1])
        try:
            content = self._served(self._objects, digest)
        finally:
            if whole is not None:
                self._objects.contents[digest] = whole
        self._world.invariants.served(digest, content)
        return content

    def _reach(self) -> None:
        if self.away:
            raise StoreUnavailable("the objects cannot be reached")

    # ---- the sweep

    def unnamed(self, named: frozenset[Digest], older_than_s: float) -> list[Digest]:
        """List what nothing names and was put long enough ago."""
        now = self._world.clock.now
        return [d for d in sorted(self._put_at) if d not in named and now - self._put_at[d] > older_than_s]

    def delete(self, digest: Digest) -> None:
        """Remove an object."""
        at_once(self._objects.delete(digest))
        self._put_at.pop(digest, None)
        self._world.invariants.deleted(digest)


def served(objects: MemoryObjects, digest: Digest) -> bytes:
    """Read an object as the store serves it."""

    async def whole() -> bytes:
        return b"".join([piece async for piece in objects.get(digest)])

    content: bytes = at_once(whole())
    return content


async def _in_one_piece(content: bytes) -> AsyncIterator[bytes]:
    yield content
