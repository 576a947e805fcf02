"""The ports of the stores: documents (the network's state) and objects (models, packages, partial aggregates).

Rules, for every adapter:

- **Objects before documents.** An object is whole and durable before a document names it.
- **One conditional update on one document** is the only way state changes: no transactions. The filter holds
  the version that the writer read and the writer's fence; each update raises the version by one.
- A write has **three results**: ok, refused and unknown (applied or not, the answer was lost). A writer that
  gets Unknown reads the document back and looks for its own operation id.
- An acknowledged write survives the loss of the process and of the power.
- A field that a query names holds strings, integers or booleans, and one of these kinds only; true is not 1.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from fedn_py.errors import OwnFault, PeerFault
from fedn_py.identity import Digest

JSONValue = None | bool | int | float | str | list["JSONValue"] | dict[str, "JSONValue"]
"""What a document may hold. Integers fit in 64 bits, floats are finite; a whole document has less than 16 MiB."""

Collection = Literal["sessions", "rounds", "packages", "models", "combiners", "clients", "tokens", "events", "network"]

Outcome = Literal["ok", "refused", "unknown"]


class StoreUnavailable(OwnFault):
    """A store cannot be reached or does not answer in time; nothing is known to have changed."""


class StoreFull(OwnFault):
    """A store has no room left; the write did not happen."""


class StoreMisconfigured(OwnFault):
    """A store answers, but not as it must: wrong credentials, no bucket, a schema of another version."""


class StoreInUse(OwnFault):
    """Another process has these files open; two of them must not write there."""


class StoreDamaged(OwnFault):
    """A store's files are not what was written there; nothing is read from them or begun anew."""


class NotStorable(OwnFault):
    """A document holds what no store takes: a number out of range, or too much of anything."""


class ObjectMissing(PeerFault):
    """No object has this digest."""


class ObjectCorrupt(OwnFault):
    """An object's bytes do not hash to its name; they are never served."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document as it was read.

    Attributes:
        key: unique in its collection.
        version: 1 when inserted, one more with each update.
        fence: the highest fence of any writer of it.
        operation: the operation id of the write that made this version.
        content: everything else.
    """

    key: str
    version: int
    fence: int
    operation: str
    content: Mapping[str, JSONValue]


class Documents(Protocol):
    """Documents in named collections, each with a version and a fence."""

    async def insert(
        self, collection: Collection, key: str, content: Mapping[str, JSONValue], *, fence: int, operation: str
    ) -> Outcome:
        """Add a document at version 1; refused when the key is taken."""
        ...

    async def update(
        self,
        collection: Collection,
        key: str,
        content: Mapping[str, JSONValue],
        *,
        version: int,
        fence: int,
        operation: str,
    ) -> Outcome:
        """Replace the content of the document that has exactly this version and no higher fence; else refused."""
        ...

    async def get(self, collection: Collection, key: str) -> Document | None:
        """Read one document, as of the last acknowledged write."""
        ...

    async def find(
        self,
        collection: Collection,
        equals: Mapping[str, str | int | bool] = ...,
        *,
        order_by: str = "",
        descending: bool = False,
        limit: int = 0,
        after: str | int | None = None,
    ) -> Sequence[Document]:
        """Read the documents whose top-level fields equal all of ``equals``.

        Args:
            order_by: a top-level field that all of them have; "" orders by key. Ties are broken by key.
            limit: 0 for all.
            after: only documents whose ``order_by`` value is beyond this one, in the order asked for.
        """
        ...

    async def count(self, collection: Collection, equals: Mapping[str, str | int | bool] = ...) -> int:
        """Count the documents whose top-level fields equal all of ``equals``."""
        ...

    async def delete(self, collection: Collection, key: str, *, version: int, fence: int) -> Outcome:
        """Remove the document that has exactly this version and no higher fence; else refused.

        After "unknown", a document that is gone says nothing of who removed it.
        """
        ...

    async def forget(self) -> None:
        """Leave nothing of what was replaced or deleted in files that this process owns; logs of a server may keep it.

        Raises StoreUnavailable where it may still be there.
        """
        ...

    async def check(self) -> None:
        """Raise StoreUnavailable or StoreMisconfigured unless documents can be read and written now."""
        ...

    async def now(self) -> datetime | None:
        """Return the store's own clock; None where it is this host's."""
        ...

    async def close(self) -> None:
        """Let go of connections and files."""
        ...


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """An object's size in bytes and its age in seconds by the store's own clock."""

    digest: Digest
    size: int
    age_s: float


Linked: TypeAlias = Literal["not", "to be checked", "just hashed"]
"""What became of giving an object's file a second name; "just hashed" is one that this process has hashed as it was
written, moments ago, and that nobody has written to since."""


class Objects(Protocol):
    """Immutable bytes, named by their sha256. No size limit but the disk's."""

    async def put(self, chunks: AsyncIterator[bytes], *, expected: Digest | None = None) -> ObjectStat:
        """Store a stream of bytes whole or not at all and return its digest and size.

        Bytes that are already stored are stored once, and their age begins anew. With ``expected``, other bytes
        raise ObjectCorrupt and leave nothing behind; so does an error of ``chunks``, which passes through.
        """
        ...

    async def put_file(self, path: Path, digest: Digest) -> ObjectStat:
        """Store a file of this host, which is the store's from now on and may be gone from its place.

        Args:
            digest: what whoever wrote the file has hashed its bytes to as they went there; a store that takes the
                file itself does not read it again.
        """
        ...

    async def link(self, digest: Digest, into: Path) -> Linked:
        """Give an object's own file a second name, which spares a copy; "not" where objects are no files of this disk.

        The bytes are not checked: whoever reads them never writes to them and, unless they are "just hashed", holds
        them against the digest before anything follows from them. Raises ObjectMissing where objects are files.
        """
        ...

    def get(self, digest: Digest, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Stream an object's bytes from ``offset`` in pieces of at most 1 MiB; nothing from its end on.

        Raises ObjectMissing, or ObjectCorrupt at the end of a whole read (offset 0) whose bytes hash wrong: the
        last piece is withheld then, so nobody receives a whole wrong object.
        """
        ...

    async def stat(self, digest: Digest) -> ObjectStat:
        """Return an object's size and age, or raise ObjectMissing."""
        ...

    async def delete(self, digest: Digest) -> None:
        """Remove an object; nothing happens when it is not there."""
        ...

    def list(self) -> AsyncIterator[ObjectStat]:
        """Go over all objects, in no particular order."""
        ...

    async def check(self) -> None:
        """Raise StoreUnavailable or StoreMisconfigured unless objects can be read and written now."""
        ...

    async def now(self) -> datetime | None:
        """Return the store's own clock as of its last answer; None where it is this host's, or nothing is known."""
        ...

    async def close(self) -> None:
        """Let go of connections and files."""
        ...
