"""Records in the document store: read, added and changed by single conditional updates.

A write whose answer was lost is read back by its operation id before anything follows from it. Every write carries
this reducer's fence; a document stamped by a newer reducer is not touched again.

What was written last is remembered, so that the next change of the same document need not read it: a document that
has become another one meanwhile has another version, the change of it is refused, and it is read then.
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fedn_py.errors import OwnFault
from fedn_py.reducer.records import from_document, to_document
from fedn_py.store.ports import Collection, Document, Documents, JSONValue, Outcome, StoreUnavailable

Record = TypeVar("Record")
Fields = Mapping[str, str | int | bool]


class RecordExists(OwnFault):
    """A document with this key is there already."""


class NoRecord(OwnFault):
    """No document has this key."""


class Superseded(OwnFault):
    """Another reducer has taken over this document; this one may no longer write it."""

    def __init__(self, collection: str, key: str) -> None:
        super().__init__(
            f"document {key!r} of {collection} belongs to a newer reducer",
            remedy="Only one reducer is active on these stores. Start this one again: it waits as a standby.",
        )


@dataclass(frozen=True, slots=True)
class _Written:
    """A document as this reducer left it, and the record that is in it; None where it was not looked into."""

    document: Document
    record: Any = None


_MOST_REMEMBERED = 8


class Ledger:
    """Records of one kind each by collection and key.

    Args:
        fence: this reducer's number, higher than that of every reducer before it.
    """

    def __init__(self, documents: Documents, fence: int) -> None:
        self._documents = documents
        self._fence = fence
        self._written: OrderedDict[tuple[Collection, str], _Written] = OrderedDict()

    @property
    def fence(self) -> int:
        """This reducer's number."""
        return self._fence

    async def add(self, collection: Collection, key: str, record: object, **indexed: str | int | bool) -> None:
        """Add a record.

        Raises:
            RecordExists: the key is taken.
            StoreUnavailable: nothing is known to have changed.
        """
        operation = secrets.token_hex(8)
        content = to_document(record, **indexed)
        outcome = await self._documents.insert(collection, key, content, fence=self._fence, operation=operation)
        if await self._happened(outcome, collection, key, operation):
            self._remember(collection, Document(key, 1, self._fence, operation, content), record)
            return
        raise RecordExists(f"{collection} has a document {key!r} already", remedy="Choose another name.")

    async def change(
        self,
        collection: Collection,
        key: str,
        kind: type[Record],
        change: Callable[[Record], Record],
        **indexed: str | int | bool,
    ) -> Record:
        """Read a record, change it and write it back on the condition that nobody else did in between.

        Indexed fields stay as they are, but for those given here.

        Raises:
            NoRecord: the key is not there.
            Superseded: a newer reducer has stamped the document.
            StoreUnavailable: nothing is known to have changed.
        """
        written = self._written.pop((collection, key), None)
        if written is not None and isinstance(written.record, kind):
            try:
                record = change(written.record)
            except Exception:  # what stands against it is said of the document as it is
                record = None
            if record is not None:
                content = {**written.document.content, **to_document(record, **indexed)}
                if await self._replace(collection, written.document, content, record):
                    return record
        while True:
            document = await self._read(collection, key)
            if document is None:
                raise NoRecord(f"{collection} has no document {key!r}")
            record = change(from_document(kind, collection, key, document.content))
            content = {**document.content, **to_document(record, **indexed)}
            if await self._replace(collection, document, content, record):
                return record

    async def put(self, collection: Collection, key: str, record: object, **indexed: str | int | bool) -> None:
        """Add a record, or replace the one that is there.

        Raises:
            Superseded: a newer reducer has stamped the document.
            StoreUnavailable: nothing is known to have changed.
        """
        while True:
            document = await self._read(collection, key)
            if document is None:
                try:
                    return await self.add(collection, key, record, **indexed)
                except RecordExists:
                    continue
            if await self._replace(collection, document, to_document(record, **indexed), record):
                return None

    async def stamp(self, collection: Collection, key: str) -> None:
        """Put this reducer's fence on a document that stays as it is; nothing happens where there is none.

        It shows a document that was just inserted to be this reducer's to add: an insertion has no fence to obey, and
        this write, on a document that a newer reducer stamps before it looks, has.

        Raises:
            Superseded: a newer reducer has stamped it.
            StoreUnavailable: nothing is known to have changed.
        """
        written = self._written.pop((collection, key), None)
        if written is not None and await self._replace(
            collection, written.document, written.document.content, written.record
        ):
            return
        while (document := await self._read(collection, key)) is not None:
            if await self._replace(collection, document, document.content):
                return

    async def get(self, collection: Collection, key: str, kind: type[Record]) -> Record | None:
        """Read one record."""
        document = await self._documents.get(collection, key)
        written = self._written.get((collection, key))
        if written is not None and (document is None or document.version != written.document.version):
            del self._written[collection, key]
        return None if document is None else from_document(kind, collection, key, document.content)

    async def written(self, collection: Collection, key: str, kind: type[Record]) -> Record | None:
        """Return one record as it was left here last, or read it; another reducer's changes may be missing.

        Only for what nothing follows from but a write that carries this reducer's fence.
        """
        known = self._written.get((collection, key))
        if known is not None and isinstance(known.record, kind):
            return known.record
        return await self.get(collection, key, kind)

    async def find(
        self,
        collection: Collection,
        kind: type[Record],
        equals: Fields | None = None,
        *,
        order_by: str = "",
        descending: bool = False,
        limit: int = 0,
        after: str | int | None = None,
    ) -> Sequence[Record]:
        """Read the records whose indexed fields equal all of ``equals``; the rest as in ``Documents.find``."""
        found = await self._documents.find(
            collection, equals or {}, order_by=order_by, descending=descending, limit=limit, after=after
        )
        return [from_document(kind, collection, document.key, document.content) for document in found]

    async def count(self, collection: Collection, equals: Fields | None = None) -> int:
        """Count records."""
        return await self._documents.count(collection, equals or {})

    async def forget(self) -> None:
        """Leave nothing of what was replaced in the store's own files; raises StoreUnavailable."""
        await self._documents.forget()

    async def _read(self, collection: Collection, key: str) -> Document | None:
        """Read a document that is to be replaced; raises Superseded."""
        document = await self._documents.get(collection, key)
        if document is not None and document.fence > self._fence:
            raise Superseded(collection, key)
        return document

    async def _replace(
        self, collection: Collection, document: Document, content: Mapping[str, JSONValue], record: object = None
    ) -> bool:
        operation = secrets.token_hex(8)
        self._written.pop((collection, document.key), None)
        outcome = await self._documents.update(
            collection, document.key, content, version=document.version, fence=self._fence, operation=operation
        )
        if not await self._happened(outcome, collection, document.key, operation):
            return False
        after = Document(document.key, document.version + 1, self._fence, operation, content)
        self._remember(collection, after, record)
        return True

    def _remember(self, collection: Collection, document: Document, record: object) -> None:
        known = self._written.get((collection, document.key))
        if known is not None and known.document.version > document.version:
            return  # a later write was told of first
        self._written[collection, document.key] = _Written(document, record)
        self._written.move_to_end((collection, document.key))
        while len(self._written) > _MOST_REMEMBERED:
            self._written.popitem(last=False)

    async def _happened(self, outcome: Outcome, collection: Collection, key: str, operation: str) -> bool:
        """Tell whether a write was applied or refused; an unknown outcome is read back by its operation id.

        Raises:
            StoreUnavailable: it was lost on the way, or may yet arrive. It is not repeated here: a store that goes on
                answering so is waited for by those who can wait.
        """
        if outcome != "unknown":
            return outcome == "ok"
        written = await self._documents.get(collection, key)
        if written is None or written.operation != operation:
            raise StoreUnavailable(
                f"a document of {collection} may not have been stored", remedy="Try again when the store answers."
            )
        return True
