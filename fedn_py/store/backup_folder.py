"""A backup as it lies on a disk: a folder that ordinary tools can copy, compare and put on a tape.

    manifest.json              what is in it: sizes and digests of everything, and a hash of itself
    documents/<collection>     one document a line, as JSON
    objects/ab/<sha256>        as the embedded store keeps them

The manifest is written last, so a folder without one is no backup: making it can be gone on with, and nothing is read
from it. Nothing is read but what the manifest names, and it names no paths: only collections and digests. Whatever is
read was hashed first.
"""

import hashlib
import json
import os
import secrets
import stat
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import TypeAdapter, ValidationError

from fedn_py.errors import OwnFault, PeerFault
from fedn_py.identity import Digest, InvalidName, parse_digest
from fedn_py.store.content import MAX_DOCUMENT_BYTES
from fedn_py.store.disk import make_folder, named_faults, sync_folder
from fedn_py.store.folder import FolderObjects
from fedn_py.store.lock import FolderLock
from fedn_py.store.ports import Collection, Document

FORMAT = 1
"""The form of a backup; a release that changes it can read the forms before."""

_MANIFEST = "manifest.json"
_UNFINISHED = "unfinished"
_MOST_MANIFEST_BYTES = 256 * 1024**2
_MOST_LINE_BYTES = MAX_DOCUMENT_BYTES + 4096


class NotABackup(PeerFault):
    """A folder is no backup, or none that is whole."""


class BackupExists(PeerFault):
    """A backup would be made where something else is."""


class BackupDamaged(OwnFault):
    """A backup is not what was written."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the backup is damaged: {what}", remedy="Use another backup, or another copy of this one.")


@dataclass(frozen=True, slots=True)
class DocumentFile:
    """One collection's documents: how many, in how many bytes, and their sha256."""

    count: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is in a backup.

    Attributes:
        schema: the form of the documents, as the stores have it.
        software: the release of fedn_py that made it.
        deployment, reducer: of what it is, as the reducer's settings call them.
        created: when the first document was read; seconds since 1970.
        objects: digest to size in bytes.
        lacking: objects that documents name and that the store did not have whole.
    """

    format: Literal[1]
    schema: int
    software: str
    deployment: str
    reducer: str
    created: float
    documents: Mapping[Collection, DocumentFile] = field(default_factory=dict)
    objects: Mapping[Digest, int] = field(default_factory=dict)
    lacking: tuple[Digest, ...] = ()

    @property
    def id(self) -> str:
        """The hash of the whole: no other backup has it."""
        return hashlib.sha256(_canonical(self).encode()).hexdigest()

    @property
    def size(self) -> int:
        """How many bytes documents and objects have."""
        return sum(file.size for file in self.documents.values()) + sum(self.objects.values())


def _canonical(manifest: Manifest) -> str:
    return json.dumps(asdict(manifest), sort_keys=True, separators=(",", ":"))


# ---- writing


class BackupWriter:
    """A backup that is being made; ``open_writing`` makes one.

    Attributes:
        objects: where its objects go.
    """

    def __init__(self, folder: Path, lock: FolderLock) -> None:
        self._folder, self._lock = folder, lock
        self._files: dict[Collection, DocumentFile] = {}
        self.objects = FolderObjects(folder / "objects")

    async def write_documents(self, collection: Collection, documents: AsyncIterator[Document]) -> None:
        """Write a collection's documents, in the order that they come in."""
        count, size, sha256 = 0, 0, hashlib.sha256()
        with named_faults(self._folder), (self._folder / "documents" / collection).open("wb") as file:
            async for document in documents:
                line = json.dumps(_as_json(document), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
                file.write(line)
                sha256.update(line)
                count, size = count + 1, size + len(line)
            file.flush()
            os.fsync(file.fileno())
        self._files[collection] = DocumentFile(count, size, sha256.hexdigest())

    async def finish(self, manifest: Manifest) -> Manifest:
        """Make a backup of what was written, with the objects that the manifest names and no others; return it."""
        whole = replace(manifest, documents=self._files)
        # Left by an earlier try whose documents named them.
        unnamed = [found.digest async for found in self.objects.list() if found.digest not in whole.objects]
        for digest in unnamed:
            await self.objects.delete(digest)
        with named_faults(self._folder):
            incoming = self._folder / "objects" / "incoming"
            for deleted in incoming.iterdir():  # a moment ago, and its bytes are not freed yet
                deleted.unlink(missing_ok=True)
            incoming.rmdir()
            sync_folder(self._folder / "documents")
            text = json.dumps({"manifest": asdict(whole), "sha256": whole.id}, sort_keys=True, indent=1)
            _write_whole(self._folder / _MANIFEST, text)
            (self._folder / _UNFINISHED).unlink(missing_ok=True)
        return whole

    async def close(self) -> None:
        """Let go of the folder, finished or not."""
        await self.objects.close()
        (self._folder / "lock").unlink(missing_ok=True)
        self._lock.release()


def open_writing(folder: Path) -> BackupWriter:
    """Begin a backup in a new folder, or go on with one that was not finished.

    Raises:
        BackupExists: something else is there.
        StoreInUse: it is being made by another process.
        StoreMisconfigured, StoreFull: the disk does not take it.
    """
    with named_faults(folder):
        if (folder / _MANIFEST).exists():
            raise BackupExists(f"{folder} holds a backup already", remedy="Name another folder, such as one by date.")
        begun = (folder / _UNFINISHED).exists()
        if folder.exists() and not begun and (not folder.is_dir() or any(folder.iterdir())):
            raise BackupExists(f"{folder} is there and is no backup", remedy="Name a folder that is new or empty.")
    make_folder(folder)
    lock = FolderLock(folder)
    with named_faults(folder):
        (folder / _UNFINISHED).touch()
        for name in ("documents", "objects", "objects/incoming"):
            make_folder(folder / name)
        for leftover in (folder / "objects" / "incoming").iterdir():
            leftover.unlink()
    return BackupWriter(folder, lock)


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with temporary.open("x", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def _as_json(document: Document) -> dict[str, object]:
    return {
        "key": document.key,
        "version": document.version,
        "fence": document.fence,
        "operation": document.operation,
        "content": document.content,
    }


# ---- reading


class Backup:
    """A whole backup; ``open_backup`` makes one.

    Attributes:
        objects: its objects, each hashed as it is read.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.objects = FolderObjects(folder / "objects")

    def check_documents(self, collection: Collection) -> None:
        """Raise BackupDamaged unless a collection's file is what was written."""
        told, size, sha256 = self.manifest.documents[collection], 0, hashlib.sha256()
        with _regular(self.folder / "documents" / collection) as file:
            while piece := file.read(1024**2):
                sha256.update(piece)
                size += len(piece)
        if (size, sha256.hexdigest()) != (told.size, told.sha256):
            raise BackupDamaged(f"documents/{collection} has {size} bytes that hash wrong, of {told.size}")

    def check_size(self, digest: Digest) -> None:
        """Raise BackupDamaged unless an object is there as a file of its size; its bytes are not looked at."""
        path = self.folder / "objects" / digest[:2] / digest
        with _regular(path) as file:
            size = os.fstat(file.fileno()).st_size
        if size != self.manifest.objects[digest]:
            raise BackupDamaged(f"object {digest} has {size} bytes of {self.manifest.objects[digest]}")

    def documents(self, collection: Collection) -> Iterator[Document]:
        """Go over a collection's documents, in the order that they were read in; raises BackupDamaged."""
        if collection not in self.manifest.documents:  # one that the release that made it did not have
            return
        count = 0
        with _regular(self.folder / "documents" / collection) as file:
            while line := file.readline(_MOST_LINE_BYTES):
                count += 1
                yield _document(line, f"documents/{collection}, line {count}")
        if count != self.manifest.documents[collection].count:
            raise BackupDamaged(f"documents/{collection} has {count} lines")

    async def close(self) -> None:
        """Let go of the folder."""
        await self.objects.close()


def open_backup(folder: Path) -> Backup:
    """Open a backup, of which only the manifest is read and checked.

    Raises:
        NotABackup: the folder is none, or one that was not finished, or of a form that this release cannot read.
        BackupDamaged: its manifest is not what was written.
    """
    if (folder / _UNFINISHED).exists() and not (folder / _MANIFEST).exists():
        raise NotABackup(
            f"{folder} is a backup that was never finished", remedy="Run the same fedn-py backup create again."
        )
    if not (folder / _MANIFEST).exists():
        raise NotABackup(f"{folder} is no backup: it has no {_MANIFEST}", remedy="Name the folder of a backup.")
    with _regular(folder / _MANIFEST) as file:
        text = file.read(_MOST_MANIFEST_BYTES)
    try:
        read = json.loads(text)
        form = read["manifest"]["format"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise BackupDamaged(f"its {_MANIFEST} cannot be read") from None
    if type(form) is int and form > FORMAT:
        raise NotABackup(
            f"{folder} is a backup of form {form}, this release reads form {FORMAT}",
            remedy=f"Use the release that made it: {str(read['manifest'].get('software'))[:40]}.",
        )
    return Backup(folder, _manifest(read))


def _manifest(read: Mapping[str, object]) -> Manifest:
    try:
        manifest = TypeAdapter(Manifest).validate_python(read["manifest"])
        for digest in (*manifest.objects, *manifest.lacking):
            parse_digest(digest)
    except (ValidationError, InvalidName, RecursionError) as fault:
        raise BackupDamaged(f"its {_MANIFEST} has not the form of one") from fault
    if read.get("sha256") != manifest.id:
        raise BackupDamaged(f"its {_MANIFEST} is not the one that was written")
    return manifest


def _document(line: bytes, where: str) -> Document:
    try:
        read = json.loads(line)
        document = Document(
            str(read["key"]), int(read["version"]), int(read["fence"]), str(read["operation"]), dict(read["content"])
        )
    except (ValueError, RecursionError, KeyError, TypeError):
        raise BackupDamaged(f"{where} is no document") from None
    return document


@contextmanager
def _regular(path: Path) -> Iterator[BinaryIO]:
    """Open a file that is neither a link nor a device; raises BackupDamaged."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as fault:
        raise BackupDamaged(f"{path.name} cannot be read: {fault.strerror}") from fault
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BackupDamaged(f"{path.name} is no file")
        yield file
