"""Opens the stores that the settings name: the embedded ones, MongoDB, MinIO, in any pairing."""

from dataclasses import dataclass, field
from pathlib import Path

from fedn_py.store.disk import make_folder
from fedn_py.store.folder import FolderObjects, open_folder
from fedn_py.store.lock import FolderLock
from fedn_py.store.minio import open_minio
from fedn_py.store.mongodb import open_mongodb
from fedn_py.store.ports import Document, Documents, Objects, StoreMisconfigured, StoreUnavailable
from fedn_py.store.sqlite import open_sqlite, read_sqlite

SCHEMA_VERSION = 1
"""The form of all documents; a release that changes it brings the steps from the form before."""


@dataclass(frozen=True, slots=True)
class EmbeddedStores:
    """SQLite and files in a folder of this machine: <folder>/documents/ and <folder>/objects/."""

    folder: Path


@dataclass(frozen=True, slots=True)
class MongoDB:
    """A database of a MongoDB server.

    Attributes:
        uri: mongodb://USER:PASSWORD@HOST:PORT/; a secret.
    """

    uri: str = field(repr=False)
    database: str = "fedn_py"


@dataclass(frozen=True, slots=True)
class MinIO:
    """A bucket of an S3 server.

    Attributes:
        url: http://HOST:PORT or https://HOST:PORT.
        ca_file: the server's certificate authority, where the system does not know it.
    """

    url: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    bucket: str = "fedn-py"
    ca_file: Path | None = None
    region: str = "us-east-1"


@dataclass(frozen=True, slots=True)
class Stores:
    """Both stores of a network."""

    documents: Documents
    objects: Objects

    async def check(self) -> None:
        """Raise StoreUnavailable, StoreMisconfigured or StoreFull unless both can be read and written now."""
        await self.documents.check()
        await self.objects.check()

    async def close(self) -> None:
        """Let go of both."""
        try:
            await self.documents.close()
        finally:
            await self.objects.close()


async def open_stores(documents_at: EmbeddedStores | MongoDB, objects_at: EmbeddedStores | MinIO) -> Stores:
    """Open both stores and check that the documents are of this release's schema.

    Raises:
        StoreUnavailable, StoreMisconfigured, StoreInUse, StoreDamaged, StoreFull: as the two openers say.
    """
    documents = await open_documents(documents_at)
    try:
        await check_schema(documents)
        return Stores(documents, await open_objects(objects_at))
    except BaseException:
        await documents.close()
        raise


async def open_documents(place: EmbeddedStores | MongoDB) -> Documents:
    """Open the documents.

    Raises:
        StoreUnavailable: the server does not answer in time.
        StoreMisconfigured: it refuses the credentials, or the folder cannot be written to.
        StoreInUse: another process has the folder open.
        StoreDamaged: the file in the folder is no database, or a damaged one.
    """
    if isinstance(place, MongoDB):
        return await open_mongodb(place.uri, place.database)
    folder = place.folder / "documents"
    make_folder(folder)
    lock = FolderLock(folder)
    return await open_sqlite(folder / "documents.sqlite", lock)


async def open_objects(place: EmbeddedStores | MinIO) -> Objects:
    """Open the objects.

    Raises:
        StoreUnavailable: the server does not answer in time.
        StoreMisconfigured: it refuses the keys, or the folder cannot be written to.
        StoreInUse: another process has the folder open.
    """
    if isinstance(place, MinIO):
        return await open_minio(
            place.url, place.access_key, place.secret_key, place.bucket, region=place.region, ca_file=place.ca_file
        )
    return await open_folder(place.folder / "objects")


async def open_reading(documents_at: EmbeddedStores | MongoDB, objects_at: EmbeddedStores | MinIO) -> Stores:
    """Open both stores to read what is there, beside a reducer that runs on them.

    Raises:
        StoreUnavailable, StoreMisconfigured, StoreDamaged: as the two openers say; also where there is no store.
    """
    if isinstance(documents_at, MongoDB):
        documents: Documents = await open_mongodb(documents_at.uri, documents_at.database)
    else:
        documents = read_sqlite(_present(documents_at.folder / "documents" / "documents.sqlite"))
    try:
        check_version(await documents.get("network", "schema"))
        if isinstance(objects_at, MinIO):
            return Stores(documents, await open_objects(objects_at))
        return Stores(documents, FolderObjects(_present(objects_at.folder / "objects")))
    except BaseException:
        await documents.close()
        raise


def _present(path: Path) -> Path:
    if not path.exists():
        raise StoreMisconfigured(f"there is no {path}", remedy="Do the settings name the state_dir of the reducer?")
    return path


async def check_schema(documents: Documents) -> None:
    """Write the schema version into an empty store; raise StoreMisconfigured if another one is there."""
    outcome = await documents.insert("network", "schema", {"version": SCHEMA_VERSION}, fence=0, operation="schema")
    if outcome == "ok":
        return
    check_version(await documents.get("network", "schema"))


def check_version(found: Document | None) -> None:
    """Raise unless the document that names the form of all documents names this release's."""
    if found is None:
        raise StoreUnavailable(
            "the documents name no schema version",
            remedy="Try again when the store answers; where it does, look whether the settings name the right one.",
        )
    if found.content.get("version") != SCHEMA_VERSION:
        raise StoreMisconfigured(
            f"the documents are of schema version {found.content.get('version')}, this release of fedn_py writes"
            f" version {SCHEMA_VERSION}; nothing was changed",
            remedy="Start the release that wrote them, or give this one a database of its own.",
        )
