"""Opening the stores that the settings name."""

import asyncio
from pathlib import Path

import pytest

from fedn_py.store.memory import MemoryDocuments
from fedn_py.store.opening import SCHEMA_VERSION, EmbeddedStores, MinIO, MongoDB, check_schema, open_stores
from fedn_py.store.ports import StoreInUse, StoreMisconfigured


def test_the_embedded_stores_open_check_and_open_again(tmp_path: Path) -> None:
    place = EmbeddedStores(tmp_path / "state")

    async def steps() -> None:
        for _ in range(2):
            stores = await open_stores(place, place)
            await stores.check()
            found = await stores.documents.get("network", "schema")
            assert found is not None
            assert found.content == {"version": SCHEMA_VERSION}
            await stores.close()

    asyncio.run(steps())
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["documents", "objects"]


def test_one_folder_is_opened_once_at_a_time_and_a_refusal_leaves_the_first_as_it_was(tmp_path: Path) -> None:
    place = EmbeddedStores(tmp_path)

    async def steps() -> None:
        first = await open_stores(place, place)
        with pytest.raises(StoreInUse, match="in use by another process"):
            await open_stores(place, place)
        await first.check()
        await first.close()

    asyncio.run(steps())


def test_documents_of_another_schema_are_refused_by_name_and_unchanged() -> None:
    async def steps() -> None:
        documents = MemoryDocuments()
        await documents.insert("network", "schema", {"version": 99}, fence=7, operation="newer")
        with pytest.raises(StoreMisconfigured, match=f"schema version 99.*version {SCHEMA_VERSION}"):
            await check_schema(documents)
        found = await documents.get("network", "schema")
        assert found is not None
        assert (found.version, found.content) == (1, {"version": 99})

    asyncio.run(steps())


def test_a_store_that_is_refused_later_lets_go_of_the_one_opened_before(tmp_path: Path) -> None:
    async def steps() -> None:
        place = EmbeddedStores(tmp_path)
        with pytest.raises(StoreMisconfigured):
            await open_stores(place, MinIO("ftp://nowhere", "key", "secret"))
        await (await open_stores(place, place)).close()

    asyncio.run(steps())


def test_places_keep_their_secrets_out_of_what_is_printed() -> None:
    told = repr(MongoDB("mongodb://anna:planted@host/")) + repr(MinIO("http://host", "planted-key", "planted-secret"))
    assert "planted" not in told
