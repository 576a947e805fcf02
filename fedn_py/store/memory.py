"""Both stores in memory: for tests and simulations, gone with the process."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fedn_py.identity import Digest
from fedn_py.store.content import decode, encode, field_name
from fedn_py.store.hashing import PIECE_BYTES, check_expected, corrupt, missing
from fedn_py.store.ports import Collection, Document, JSONValue, Linked, ObjectStat, Outcome


@dataclass(frozen=True, slots=True)
class _Stored:
    version: int
    fence: int
    operation: str
    text: str  # JSON: what a caller does to its mapping afterwards changes nothing here


class MemoryDocuments:
    """Documents in dictionaries."""

    def __init__(self) -> None:
        self._collections: dict[str, dict[str, _Stored]] = {}

    async def insert(
        self, collection: Collection, key: str, content: Mapping[str, JSONValue], *, fence: int, operation: str
    ) -> Outcome:
        """See Documents.insert."""
        text = encode(content)
        documents = self._collections.setdefault(collection, {})
        if key in documents:
            return "refused"
        documents[key] = _Stored(1, fence, operation, text)
        return "ok"

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
        """See Documents.update."""
        text = encode(content)
        if not self._matches(collection, key, version, fence):
            return "refused"
        self._collections[collection][key] = _Stored(version + 1, fence, operation, text)
        return "ok"

    async def get(self, collection: Collection, key: str) -> Document | None:
        """See Documents.get."""
        stored = self._collections.get(collection, {}).get(key)
        return None if stored is None else _document(key, stored)

    async def find(
        self,
        collection: Collection,
        equals: Mapping[str, str | int | bool] | None = None,
        *,
        order_by: str = "",
        descending: bool = False,
        limit: int = 0,
        after: str | int | None = None,
    ) -> Sequence[Document]:
        """See Documents.find."""

        def place(document: Document) -> JSONValue:
            return document.content[field_name(order_by)] if order_by else document.key

        found = self._matching(collection, equals or {})
        # Sorted twice, as a sort keeps the order of equals: by key first, then by the field.
        found.sort(key=lambda document: document.key, reverse=descending)
        found.sort(key=place, reverse=descending)  # type: ignore[arg-type]  # one kind per field, by the port's rule
        if after is not None:
            beyond = [place(document) < after if descending else place(document) > after for document in found]  # type: ignore[operator]
            found = [document for document, is_beyond in zip(found, beyond, strict=True) if is_beyond]
        return found[:limit] if limit else found

    async def count(self, collection: Collection, equals: Mapping[str, str | int | bool] | None = None) -> int:
        """See Documents.count."""
        return len(self._matching(collection, equals or {}))

    async def delete(self, collection: Collection, key: str, *, version: int, fence: int) -> Outcome:
        """See Documents.delete."""
        if not self._matches(collection, key, version, fence):
            return "refused"
        del self._collections[collection][key]
        return "ok"

    async def forget(self) -> None:
        """See Documents.forget."""

    async def check(self) -> None:
        """See Documents.check."""

    async def now(self) -> datetime | None:
        """See Documents.now."""
        return None

    async def close(self) -> None:
        """See Documents.close."""

    def _matches(self, collection: str, key: str, version: int, fence: int) -> bool:
        stored = self._collections.get(collection, {}).get(key)
        return stored is not None and stored.version == version and stored.fence <= fence

    def _matching(self, collection: str, equals: Mapping[str, str | int | bool]) -> list[Document]:
        documents = [_document(key, stored) for key, stored in self._collections.get(collection, {}).items()]
        return [document for document in documents if _has_all(document.content, equals)]


def _document(key: str, stored: _Stored) -> Document:
    return Document(key, stored.version, stored.fence, stored.operation, decode(stored.text))


def _has_all(content: Mapping[str, JSONValue], equals: Mapping[str, str | int | bool]) -> bool:
    # The type counts, as Python takes True for 1 and the other stores do not.
    return all(
        content.get(field_name(name)) == value and type(content.get(name)) is type(value)
        for name, value in equals.items()
    )


class MemoryObjects:
    """Objects in a dictionary.

    Attributes:
        contents: what is stored; a test that wants a damaged object changes it here.
    """

    def __init__(self) -> None:
        self.contents: dict[Digest, bytes] = {}
        self._stored_at: dict[Digest, float] = {}

    async def put(self, chunks: AsyncIterator[bytes], *, expected: Digest | None = None) -> ObjectStat:
        """See Objects.put."""
        content = b"".join([bytes(chunk) async for chunk in chunks])
        digest = Digest(hashlib.sha256(content).hexdigest())
        check_expected(digest, expected)
        self.contents[digest] = content
        self._stored_at[digest] = time.monotonic()
        return ObjectStat(digest, len(content), 0.0)

    async def put_file(self, path: Path, digest: Digest) -> ObjectStat:
        """See Objects.put_file."""
        content = await asyncio.to_thread(path.read_bytes)
        self.contents[digest] = content
        self._stored_at[digest] = time.monotonic()
        await asyncio.to_thread(path.unlink)
        return ObjectStat(digest, len(content), 0.0)

    async def link(self, digest: Digest, into: Path) -> Linked:  # noqa: ARG002 - the port's
        """See Objects.link: there are no files."""
        return "not"

    async def get(self, digest: Digest, *, offset: int = 0) -> AsyncIterator[bytes]:
        """See Objects.get."""
        content = self._content(digest)
        is_damaged = offset == 0 and hashlib.sha256(content).hexdigest() != digest
        starts = range(offset, len(content), PIECE_BYTES)
        for start in starts[:-1] if is_damaged else starts:
            yield content[start : start + PIECE_BYTES]
        if is_damaged:
            raise corrupt(digest)

    async def stat(self, digest: Digest) -> ObjectStat:
        """See Objects.stat."""
        return ObjectStat(digest, len(self._content(digest)), time.monotonic() - self._stored_at[digest])

    async def delete(self, digest: Digest) -> None:
        """See Objects.delete."""
        self.contents.pop(digest, None)
        self._stored_at.pop(digest, None)

    async def list(self) -> AsyncIterator[ObjectStat]:
        """See Objects.list."""
        for digest in tuple(self.contents):
            if digest in self.contents:
                yield await self.stat(digest)

    async def check(self) -> None:
        """See Objects.check."""

    async def now(self) -> datetime | None:
        """See Objects.now."""
        return None

    async def close(self) -> None:
        """See Objects.close."""

    def _content(self, digest: Digest) -> bytes:
        if digest not in self.contents:
            raise missing(digest)
        return self.contents[digest]
