"""Putting a backup back into empty stores, or single objects back into stores that lack them.

A mark stands in the stores from the first write to the last: a reducer does not start on stores that are half
restored, and the same restore can be run again and goes on. Objects come before the documents that name them.
"""

import contextlib
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from fedn_py.errors import OwnFault, PeerFault
from fedn_py.identity import Digest
from fedn_py.reducer.backing_up import LEFT_OUT, MARK, ORDER, Progress
from fedn_py.reducer.event_log import event_key, indexed
from fedn_py.reducer.lease import LEASE_KEY, LeaseRecord
from fedn_py.reducer.ledger import Ledger, RecordExists
from fedn_py.reducer.records import EventRecord, from_document, to_document
from fedn_py.reducer.restored import (
    KIND,
    NUMBERS_SKIPPED,
    Restored,
    newest_session,
    restored,
    stop_sessions,
    write_restored,
)
from fedn_py.store.backup_folder import Backup
from fedn_py.store.opening import SCHEMA_VERSION, Stores
from fedn_py.store.ports import (
    Collection,
    Document,
    Documents,
    ObjectCorrupt,
    ObjectMissing,
    Objects,
    StoreUnavailable,
)

FENCES_SKIPPED = 1_000_000
"""More than the starts of reducers after a backup: what an older one's fence stamped stays below the next."""


class StoresNotEmpty(PeerFault):
    """A backup would be restored over something else."""


class OtherSchema(PeerFault):
    """A backup's documents have another form than this release writes."""


class RestoreUnfinished(OwnFault):
    """The stores hold a part of a backup."""

    def __init__(self, backup: str) -> None:
        super().__init__(
            f"the stores are half restored from backup {backup[:12]}",
            remedy="Run fedn-py backup restore with that backup again; it goes on. Or empty the stores.",
        )


@dataclass(frozen=True, slots=True)
class Mended:
    """What came of putting objects back.

    Attributes:
        put: those that were missing or corrupt, and are there now.
        sound: how many were there and right.
    """

    put: tuple[Digest, ...]
    sound: int


async def check_not_half_restored(documents: Documents) -> None:
    """Raise RestoreUnfinished where a restore was begun and not finished."""
    mark = await documents.get("network", MARK)
    if mark is not None:
        raise RestoreUnfinished(str(mark.content.get("backup")))


async def mend_objects(backup: Backup, objects: Objects, progress: Progress) -> Mended:
    """Put each object of a backup that the store has not, or not whole, into it; what is sound stays as it is."""
    put: list[Digest] = []
    done, total = 0, sum(backup.manifest.objects.values())
    for digest, size in backup.manifest.objects.items():
        if not await _is_sound(objects, digest):
            await objects.put(backup.objects.get(digest), expected=digest)
            put.append(digest)
        done += size
        progress(done, total)
    return Mended(tuple(put), len(backup.manifest.objects) - len(put))


async def _is_sound(objects: Objects, digest: Digest) -> bool:
    try:
        async for _ in objects.get(digest):
            pass
    except (ObjectMissing, ObjectCorrupt):
        return False
    return True


async def restore_backup(backup: Backup, stores: Stores, by: str, progress: Progress) -> Restored:
    """Put a backup, which was checked, into stores that hold no documents, and return what was written down of it.

    Raises:
        OtherSchema, StoresNotEmpty: nothing was changed.
        RestoreUnfinished: of another backup.
    """
    schema = backup.manifest.schema
    if schema != SCHEMA_VERSION:
        raise OtherSchema(
            f"the backup's documents are of schema version {schema}, this release writes version {SCHEMA_VERSION}",
            remedy=f"Restore with the release that made the backup ({backup.manifest.software}), then upgrade.",
        )
    documents = stores.documents
    done = await _done(documents, backup.manifest.id)
    if done is not None:
        return done
    await _mark(documents, backup.manifest.id)
    await mend_objects(backup, stores.objects, progress)
    fence, last_event = 0, 0
    lease: Document | None = None
    for collection in ORDER:
        for document in backup.documents(collection):
            fence = max(fence, document.fence)
            if (collection, document.key) == ("network", LEASE_KEY):
                lease = document
                continue
            if collection == "events":
                last_event = max(last_event, int(document.key))
            await _insert(documents, collection, document, document.fence)
    fence += FENCES_SKIPPED
    if lease is not None:
        await _put_lease(documents, lease, fence)
    return await _finish(backup, documents, Ledger(documents, fence), by, last_event + 1)


async def _done(documents: Documents, backup: str) -> Restored | None:
    """Return what was written down where this backup was restored here, and nothing has happened since."""
    reading = Ledger(documents, 0)
    newest = await reading.find("events", EventRecord, order_by="seq", descending=True, limit=1)
    if not newest or (newest[0].kind, newest[0].subject.get("backup")) != (KIND, backup):
        return None
    return await restored(reading) if await documents.get("network", MARK) is None else None


async def _mark(documents: Documents, backup: str) -> None:
    """Mark empty stores as half restored; nothing happens where this restore was begun before."""
    mark = await documents.get("network", MARK)
    if mark is not None:
        if mark.content.get("backup") != backup:
            raise RestoreUnfinished(str(mark.content.get("backup")))
        return
    # Marked first and looked at then: a reducer that starts does it the other way round, so one of the two sees it.
    await _insert(documents, "network", Document(MARK, 1, 0, f"restoring {backup[:16]}", {"backup": backup}), 0)
    for collection in ORDER:
        found = await documents.find(collection, {}, limit=3)
        other = next((one.key for one in found if (collection, one.key) not in LEFT_OUT), None)
        if other is not None:
            await _unmark(documents)
            raise StoresNotEmpty(
                f"the store holds documents already: {other} of {collection}",
                remedy="Name another database or state_dir in the settings, or take away what is there. Objects alone "
                "are put back with --objects-only.",
            )


async def _insert(documents: Documents, collection: Collection, document: Document, fence: int) -> None:
    """Insert a document that may be there from a try that was broken off."""
    outcome = await documents.insert(
        collection, document.key, document.content, fence=fence, operation=document.operation
    )
    if outcome == "unknown" and await documents.get(collection, document.key) is None:
        raise StoreUnavailable(
            f"a document of {collection} may not have been stored", remedy="Run the same restore again; it goes on."
        )


async def _put_lease(documents: Documents, lease: Document, fence: int) -> None:
    """Have a lease that the next reducer takes at once, above the fences of all that may have been."""
    holder = from_document(LeaseRecord, "network", LEASE_KEY, lease.content).holder
    released = replace(lease, content=to_document(LeaseRecord(holder, released=True)))
    await _insert(documents, "network", released, fence)
    while (here := await documents.get("network", LEASE_KEY)) is not None and here.fence < fence:
        # Of a reducer that was started just now; it sees the mark and ends.
        await documents.update(
            "network", LEASE_KEY, released.content, version=here.version, fence=fence, operation=lease.operation
        )


async def _finish(backup: Backup, documents: Documents, ledger: Ledger, by: str, event: int) -> Restored:
    """Say what was done, where everybody looks; then take the mark away."""
    manifest, now = backup.manifest, time.time()
    made = datetime.fromtimestamp(manifest.created, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    why = f"the stores were restored from backup {manifest.id[:12]} of {made}"
    stopped = await stop_sessions(ledger, why, now)
    newest = await newest_session(ledger)
    text = (
        f"{why}, by {by}. What came after it is not here: models that were made since, uploads, and tokens, of which "
        f"those that were revoked since are good again until they are revoked again. {' '.join(stopped)}"
    ).strip()
    record = Restored(now, by, manifest.id, text, (newest.terms.number if newest else 0) + 1 + NUMBERS_SKIPPED)
    told = EventRecord(event, now, KIND, "error", text, {"backup": manifest.id})
    with contextlib.suppress(RecordExists):  # told by a try that was broken off
        await ledger.add("events", event_key(told.seq), told, **indexed(told))
    await write_restored(ledger, record)
    await _unmark(documents)
    return record


async def _unmark(documents: Documents) -> None:
    """Take the mark away: the one write that makes a network of what was restored."""
    await documents.delete("network", MARK, version=1, fence=0)
    if await documents.get("network", MARK) is not None:
        raise StoreUnavailable("the restore is not finished", remedy="Run the same restore again; it goes on.")
