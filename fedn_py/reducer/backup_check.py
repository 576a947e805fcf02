"""Checking a backup: every byte is hashed, every trail walked, every name looked for; nothing is taken on trust."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from fedn_py.errors import FednError
from fedn_py.identity import Digest
from fedn_py.reducer.backing_up import ORDER, Progress
from fedn_py.reducer.records import RoundRecord, SessionRecord, from_document
from fedn_py.reducer.trail import Link, faults_of, link_of, named_by
from fedn_py.store.backup_folder import Backup, BackupDamaged


@dataclass(frozen=True, slots=True)
class Checked:
    """What a backup turned out to be.

    Attributes:
        id: the hash of the whole.
        rounds: committed ones, of all sessions.
        lacking: objects that the store did not have whole when it was backed up.
        faults: all that is wrong with it, in words; empty where it is as it was made.
    """

    id: str
    deployment: str
    software: str
    created: float
    documents: int
    objects: int
    size: int
    sessions: int
    rounds: int
    lacking: tuple[Digest, ...]
    faults: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing at all is missing or wrong."""
        return not self.faults and not self.lacking


async def check_backup(backup: Backup, progress: Progress) -> Checked:
    """Read all of a backup and say what it is."""
    manifest = backup.manifest
    faults = [*_of_documents(backup)]
    sessions: dict[str, Digest] = {}
    links: dict[str, list[Link]] = {}
    if not faults:
        sessions, links, found = _of_trails(backup)
        faults += found
    faults += [fault async for fault in _of_objects(backup, progress)]
    return Checked(
        manifest.id,
        manifest.deployment,
        manifest.software,
        manifest.created,
        sum(file.count for file in manifest.documents.values()),
        len(manifest.objects),
        manifest.size,
        len(sessions),
        sum(len(of_session) for of_session in links.values()),
        manifest.lacking,
        tuple(faults),
    )


def _of_documents(backup: Backup) -> Iterator[str]:
    for collection in backup.manifest.documents:
        try:
            backup.check_documents(collection)
        except BackupDamaged as fault:
            yield fault.message


def _of_trails(backup: Backup) -> tuple[dict[str, Digest], dict[str, list[Link]], list[str]]:
    """Return each session's seed model and rounds, and what is wrong with them."""
    seeds: dict[str, Digest] = {}
    links: dict[str, list[Link]] = defaultdict(list)
    here = backup.manifest.objects.keys() | set(backup.manifest.lacking)
    faults = []
    try:
        for collection in ORDER:
            for document in backup.documents(collection):
                absent = named_by(collection, document.key, document.content) - here
                faults += [
                    f"{collection} {document.key} names {digest}, which is not there" for digest in sorted(absent)
                ]
                if collection == "sessions":
                    session = from_document(SessionRecord, collection, document.key, document.content)
                    seeds[document.key] = session.terms.seed_model
                if collection == "events" and not document.key.isdecimal():
                    faults.append(f"event {document.key[:80]!r} has no number")
                if collection == "rounds":
                    record = from_document(RoundRecord, collection, document.key, document.content)
                    link = link_of(record)
                    if link is not None:
                        links[record.plan.session].append(link)
    except FednError as fault:  # a document that is no document of this release
        return seeds, links, [*faults, fault.message]
    for name, of_session in links.items():
        if name in seeds:
            faults += faults_of(name, seeds[name], of_session)
        else:
            faults.append(f"there are rounds of session {name}, and not the session")
    return seeds, links, faults


async def _of_objects(backup: Backup, progress: Progress) -> AsyncIterator[str]:
    done, total = 0, sum(backup.manifest.objects.values())
    for digest, size in backup.manifest.objects.items():
        read = 0
        try:
            backup.check_size(digest)
            async for piece in backup.objects.get(digest):
                read += len(piece)
                progress(done + read, total)
        except FednError as fault:
            yield fault.message
        done += size
