"""Making a backup of a network's stores, beside a reducer that runs on them.

Documents are read one by one while they change. What makes them fit together is the order: sessions before their
rounds, and the newest round first, so that a round which is in the backup finds the one before it committed. Objects
come after the documents that name them. Only what is for good is taken: models and packages, whose objects no document
ever stops naming. What serves an attempt under way stays behind, its key before all: no backup can open a sum.
"""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import fedn_py
from fedn_py.identity import Digest
from fedn_py.reducer.masked_documents import MaskedDocument
from fedn_py.reducer.records import RoundRecord, from_document, to_document
from fedn_py.reducer.trail import named_by
from fedn_py.store.backup_folder import FORMAT, BackupWriter, Manifest
from fedn_py.store.opening import SCHEMA_VERSION, Stores
from fedn_py.store.ports import Collection, Document, Documents, ObjectCorrupt, ObjectMissing, Objects

Progress = Callable[[int, int], None]
"""Told of bytes done and bytes in all, often."""

ORDER: tuple[Collection, ...] = (
    "sessions",
    "rounds",
    "packages",
    "models",
    "clients",
    "combiners",
    "tokens",
    "events",
    "network",  # last: its fence is above that of all others
)
_AT_ONCE = 50
"""Documents in memory together."""

MARK = "restoring"
"""The document of stores that are half restored."""

LEFT_OUT = frozenset({("network", "schema"), ("network", MARK)})
"""What says of the stores themselves how they are."""


async def make_backup(
    stores: Stores,
    writer: BackupWriter,
    progress: Progress,
    *,
    deployment: str,
    reducer: str,
    at_once: int = _AT_ONCE,
) -> Manifest:
    """Write a backup of what the stores hold, and finish it.

    An object that the store has not, or not whole, is named in the manifest as lacking.

    Raises:
        RecordDamaged: a document cannot be read.
        StoreUnavailable, StoreFull: of the stores, and of the backup's disk; the same can be done again.
    """
    created = time.time()
    wanted: set[Digest] = set()
    sessions: set[str] = set()
    for collection in ORDER:
        documents = _taken(stores.documents, collection, sessions, at_once)
        await writer.write_documents(collection, _noted(documents, collection, sessions, wanted))
    objects, lacking = await _copied(stores.objects, writer.objects, wanted, progress)
    manifest = Manifest(FORMAT, SCHEMA_VERSION, fedn_py.__version__, deployment, reducer, created)  # type: ignore[arg-type]
    return await writer.finish(replace(manifest, objects=objects, lacking=tuple(sorted(lacking))))


async def _taken(
    documents: Documents, collection: Collection, sessions: set[str], at_once: int
) -> AsyncIterator[Document]:
    """Give a collection's documents as a backup holds them."""
    async for document in _all(documents, collection, at_once, descending=collection == "rounds"):
        if (collection, document.key) in LEFT_OUT:
            continue
        if collection == "rounds":
            if document.key.partition("/")[0] in sessions:  # another began since the sessions were read
                yield _without_attempt(document)
        else:
            yield document


async def _noted(
    documents: AsyncIterator[Document], collection: Collection, sessions: set[str], wanted: set[Digest]
) -> AsyncIterator[Document]:
    """Pass documents on, and note what they name."""
    async for document in documents:
        if collection == "sessions":
            sessions.add(document.key)
        wanted |= named_by(collection, document.key, document.content)
        yield document


async def _all(
    documents: Documents, collection: Collection, at_once: int, *, descending: bool
) -> AsyncIterator[Document]:
    after: str | None = None
    more = True
    while more:
        found = await documents.find(collection, {}, descending=descending, limit=at_once, after=after)
        for document in found:
            yield document
        more = len(found) == at_once
        after = found[-1].key if more else None


def _without_attempt(document: Document) -> Document:
    """Return a round's document without what opens an attempt's sums, or serves it alone."""
    record = from_document(RoundRecord, "rounds", document.key, document.content)
    kept: MaskedDocument | None = None
    if record.document is not None:
        attempts = tuple(replace(attempt, streams={}) for attempt in record.document.attempts)
        kept = replace(record.document, attempts=attempts, round_key="")
    cells = tuple(replace(cell, partial=None) for cell in record.cells)
    return replace(document, content={**document.content, **to_document(replace(record, document=kept, cells=cells))})


async def _copied(
    source: Objects, target: Objects, wanted: set[Digest], progress: Progress
) -> tuple[dict[Digest, int], set[Digest]]:
    """Copy objects; return the size of each that is there, and those that the source has not whole."""
    sizes: dict[Digest, int] = {}
    lacking: set[Digest] = set()
    for digest in sorted(wanted):
        try:
            sizes[digest] = (await source.stat(digest)).size
        except ObjectMissing:
            lacking.add(digest)
    present = {found.digest: found.size async for found in target.list()}  # of a try that was broken off
    done, total = 0, sum(sizes.values())
    for digest, size in sizes.items():
        if present.get(digest) != size:
            try:
                await target.put(_counted(source.get(digest), done, total, progress), expected=digest)
            except (ObjectMissing, ObjectCorrupt):
                lacking.add(digest)
        done += size
        progress(done, total)
    return {digest: size for digest, size in sizes.items() if digest not in lacking}, lacking


async def _counted(pieces: AsyncIterator[bytes], done: int, total: int, progress: Progress) -> AsyncIterator[bytes]:
    async for piece in pieces:
        done += len(piece)
        progress(min(done, total), total)
        yield piece
