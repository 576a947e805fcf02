"""The restore drill on MongoDB and MinIO: backed up, lost, restored by other settings' names, and gone on with."""

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path

import pymongo
import pytest
from grpc_network import AUTHORITY, CERTIFICATE
from kept_trail import FIRST, Kept, backed_up, digest_of, untold
from servers.running import S3Server

from fedn_py.reducer.assemble import assemble, places
from fedn_py.reducer.backup_check import check_backup
from fedn_py.reducer.restored import NUMBERS_SKIPPED
from fedn_py.reducer.restoring import RestoreUnfinished, StoresNotEmpty, mend_objects, restore_backup
from fedn_py.reducer.shown_sessions import SessionOptions
from fedn_py.settings.roles import ReducerSettings
from fedn_py.store.backup_folder import open_backup
from fedn_py.store.opening import open_objects, open_reading, open_stores
from fedn_py.store.ports import ObjectCorrupt, StoreUnavailable
from fedn_py.transport.certificates import write_pair

pytestmark = pytest.mark.services


@pytest.fixture
def settings(tmp_path: Path, mongodb_uri: str, minio_server: S3Server) -> Iterator[ReducerSettings]:
    """The reducer's settings, with a database and a bucket of this test's own."""
    name = f"test-{uuid.uuid4().hex}"
    files = {"certificate_file": tmp_path / "r.pem", "key_file": tmp_path / "r.key"}
    write_pair(CERTIFICATE.certificate_pem, CERTIFICATE.key_pem, *files.values())
    (tmp_path / "authority.pem").write_bytes(AUTHORITY.certificate_pem)
    keys = {"access_key": minio_server.access_key, "secret_key": minio_server.secret_key}
    yield ReducerSettings.model_validate(
        {
            "listen_grpc": "127.0.0.1:0",
            "listen_web": "127.0.0.1:0",
            "state_dir": tmp_path / "state",
            "certificate": {**files, "authority_file": tmp_path / "authority.pem"},
            "mongodb": {"uri": mongodb_uri, "database": name},
            "minio": {"url": minio_server.url, "bucket": name, **keys},
        }
    )
    lose_documents(mongodb_uri, name)


def lose_documents(uri: str, database: str) -> None:
    with pymongo.MongoClient[dict[str, object]](uri) as client:
        client.drop_database(database)


async def lose_objects(settings: ReducerSettings) -> None:
    objects = await open_objects(places(settings)[1])
    async for found in objects.list():
        await objects.delete(found.digest)
    await objects.close()


def test_a_network_on_mongodb_and_minio_goes_on_from_its_backup(
    settings: ReducerSettings, tmp_path: Path, mongodb_uri: str
) -> None:
    async def story() -> None:
        assert settings.mongodb is not None
        stores = await open_stores(*places(settings))
        kept = Kept(stores.documents, stores.objects)
        await kept.begin()
        models = await kept.trained(status="running")
        reading = await open_reading(*places(settings))
        manifest = await backed_up(reading, tmp_path / "backup")
        await reading.close()
        backup = open_backup(tmp_path / "backup")
        assert (await check_backup(backup, untold)).is_whole
        with pytest.raises(StoresNotEmpty):
            await restore_backup(backup, stores, "kim", untold)
        await stores.close()

        lose_documents(mongodb_uri, settings.mongodb.database)
        await lose_objects(settings)
        stores = await open_stores(*places(settings))
        restored = await restore_backup(backup, stores, "kim", untold)
        assert (restored.backup, restored.by) == (manifest.id, "kim")
        mended = await mend_objects(backup, stores.objects, untold)
        assert (mended.put, mended.sound) == ((), len(manifest.objects))
        await stores.close()

        reducer = assemble(settings)
        await reducer.start()
        control = reducer.control
        assert (await control.status()).restored == restored.text
        seen = await control.session(FIRST)
        assert (seen.status, seen.rounds_done, seen.final_model) == ("stopped", 2, models[-1])
        steps = [step async for step in await control.verify_object(models[-1])]
        assert [step.outcome for step in steps] == ["whole"]
        options = SessionOptions(package=digest_of(b"package"), seed_model=models[-1], rounds=1)
        begun = await control.start_session(options)
        assert begun.number == 2 + NUMBERS_SKIPPED
        assert (await control.status()).restored == ""
        await reducer.stop()

    asyncio.run(story())


def test_no_reducer_starts_on_stores_that_are_half_restored(
    settings: ReducerSettings, tmp_path: Path, mongodb_uri: str
) -> None:
    async def story() -> None:
        kept = Kept()
        await kept.begin()
        await kept.trained()
        await backed_up(kept.stores, tmp_path / "backup")
        backup = open_backup(tmp_path / "backup")
        next(path for path in (tmp_path / "backup" / "objects").rglob("*") if path.is_file()).write_bytes(b"")
        stores = await open_stores(*places(settings))
        with pytest.raises(ObjectCorrupt):  # a backup that nobody checked
            await restore_backup(backup, stores, "kim", untold)
        await stores.close()
        with pytest.raises(RestoreUnfinished, match=backup.manifest.id[:12]):
            await assemble(settings).start()

    asyncio.run(story())


def test_a_database_that_holds_no_network_is_not_backed_up(settings: ReducerSettings) -> None:
    with pytest.raises(StoreUnavailable, match="no schema version"):
        asyncio.run(open_reading(*places(settings)))
