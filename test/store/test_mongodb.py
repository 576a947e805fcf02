"""MongoDB's own ways to fail: answers that are lost, refusals, servers that are not there.

What the server of the tests cannot show is said by a proxy before it.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from pymongo import MongoClient
from servers.running import free_port
from wire_proxy import WireProxy, wire_proxy

from fedn_py.store.indexes import INDEXES
from fedn_py.store.mongodb import MongoDocuments, open_mongodb
from fedn_py.store.ports import StoreFull, StoreMisconfigured, StoreUnavailable

services = pytest.mark.services
Steps = Callable[[MongoDocuments, WireProxy], Awaitable[None]]


def run_behind_proxy(uri: str, steps: Steps) -> None:
    """Run steps on an emptied database behind a proxy."""

    async def on_opened() -> None:
        async with wire_proxy(uri) as proxy:
            documents = await open_mongodb(proxy.uri, "test_proxy")
            try:
                await steps(documents, proxy)
            finally:
                await documents.close()

    with MongoClient(uri) as client:
        client.drop_database("test_proxy")
        asyncio.run(on_opened())
        client.drop_database("test_proxy")


@services
@pytest.mark.parametrize(("lost", "is_applied"), [("request", False), ("reply", True)])
@pytest.mark.parametrize("nth", range(4))
def test_a_write_whose_answer_is_lost_is_unknown_and_read_back_by_its_operation(
    mongodb_uri: str, lost: Literal["request", "reply"], is_applied: bool, nth: int
) -> None:
    async def steps(documents: MongoDocuments, proxy: WireProxy) -> None:
        await documents.insert("rounds", "k", {"n": -1}, fence=1, operation="first")
        proxy.lose, proxy.countdown = {"update": lost}, nth
        version = 1
        for number in range(nth):
            assert await write(documents, version, number) == "ok"
            version += 1
        assert await write(documents, version, nth) == "unknown"

        found = await documents.get("rounds", "k")
        assert found is not None
        assert (found.operation == f"o{nth}") is is_applied
        assert found.version == version + is_applied

    async def write(documents: MongoDocuments, version: int, number: int) -> str:
        return await documents.update("rounds", "k", {"n": number}, version=version, fence=1, operation=f"o{number}")

    run_behind_proxy(mongodb_uri, steps)


@services
@pytest.mark.parametrize(("lost", "is_applied"), [("request", False), ("reply", True)])
def test_an_insert_and_a_delete_whose_answer_is_lost_are_unknown(
    mongodb_uri: str, lost: Literal["request", "reply"], is_applied: bool
) -> None:
    async def steps(documents: MongoDocuments, proxy: WireProxy) -> None:
        proxy.lose = {"insert": lost}
        assert await documents.insert("rounds", "k", {}, fence=1, operation="o1") == "unknown"
        assert (await documents.get("rounds", "k") is not None) is is_applied
        await documents.insert("rounds", "k", {}, fence=1, operation="o2")
        proxy.lose = {"delete": lost}
        assert await documents.delete("rounds", "k", version=1, fence=1) == "unknown"
        assert (await documents.get("rounds", "k") is None) is is_applied

    run_behind_proxy(mongodb_uri, steps)


@services
def test_what_documents_are_found_by_has_an_index(mongodb_uri: str) -> None:
    async def steps(documents: MongoDocuments, _: WireProxy) -> None:
        for collection, indexes in INDEXES.items():
            there = await documents._collection(collection).index_information()
            keys = [[name for name, _ in one["key"]] for one in there.values()]
            assert all([*(f"content.{field}" for field in fields), "_id"] in keys for fields in indexes)

    run_behind_proxy(mongodb_uri, steps)


@services
def test_a_write_is_sent_once_only(mongodb_uri: str) -> None:
    async def steps(documents: MongoDocuments, proxy: WireProxy) -> None:
        proxy.lose = {"insert": "request"}
        proxy.seen.clear()
        assert await documents.insert("rounds", "k", {}, fence=1, operation="o") == "unknown"
        assert proxy.seen.count("insert") == 1

    run_behind_proxy(mongodb_uri, steps)


MADE_UP_ANSWERS: list[tuple[dict[str, Any], str]] = [
    ({"ok": 1, "n": 1, "writeConcernError": {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "x"}}, "unknown"),
    ({"ok": 0, "code": 10107, "codeName": "NotWritablePrimary", "errmsg": "x"}, "unknown"),
    ({"ok": 0, "code": 11602, "codeName": "InterruptedDueToReplStateChange", "errmsg": "x"}, "unknown"),
    ({"ok": 0, "code": 50, "codeName": "MaxTimeMSExpired", "errmsg": "x"}, "unknown"),
    ({"ok": 1, "n": 0, "writeErrors": [{"index": 0, "code": 11000, "errmsg": "x"}]}, "refused"),
]


@services
@pytest.mark.parametrize(("answer", "outcome"), MADE_UP_ANSWERS)
def test_an_answer_that_does_not_say_what_became_of_a_write_makes_it_unknown(
    mongodb_uri: str, answer: dict[str, Any], outcome: str
) -> None:
    async def steps(documents: MongoDocuments, proxy: WireProxy) -> None:
        proxy.replies = {"insert": answer}
        assert await documents.insert("rounds", "k", {}, fence=1, operation="o") == outcome

    run_behind_proxy(mongodb_uri, steps)


@services
@pytest.mark.parametrize("code", [64, 100, 2])
def test_a_server_that_does_not_acknowledge_as_it_is_asked_to_fails_its_check_by_that_name(
    mongodb_uri: str, code: int
) -> None:
    async def steps(documents: MongoDocuments, proxy: WireProxy) -> None:
        refusal = {"code": code, "codeName": "UnsatisfiableWriteConcern", "errmsg": "x"}
        proxy.replies = {"update": {"ok": 1, "n": 1, "nModified": 1, "writeConcernError": refusal}}
        with pytest.raises(StoreMisconfigured, match=r"a majority and its journals .UnsatisfiableWriteConcern."):
            await documents.check()

    run_behind_proxy(mongodb_uri, steps)


@services
def test_a_secondary_is_refused_by_name_before_anything_is_written(mongodb_uri: str) -> None:
    async def steps() -> None:
        async with wire_proxy(mongodb_uri) as proxy:
            secondary = {"ok": 1, "isWritablePrimary": False, "secondary": True, "setName": "rs", "hosts": ["a:1"]}
            hello = {**secondary, "me": "a:1", "minWireVersion": 0, "maxWireVersion": 21}
            proxy.replies = {"hello": hello, "ismaster": hello}
            with pytest.raises(StoreMisconfigured, match="it is no primary") as raised:
                await open_mongodb(f"{proxy.uri}?directConnection=true", "test-secondary")
            assert "replicaSet" in raised.value.remedy
            assert not {"update", "insert", "createIndexes"} & set(proxy.seen)

    asyncio.run(steps())


@services
def test_the_server_s_clock_is_told(mongodb_uri: str) -> None:
    async def steps(documents: MongoDocuments, proxy: WireProxy) -> None:
        its_clock = await documents.now()
        assert its_clock is not None
        assert abs(its_clock - datetime.now(UTC)) < timedelta(minutes=5)

    run_behind_proxy(mongodb_uri, steps)


@services
@pytest.mark.parametrize(
    ("code", "name", "fault"),
    [
        (14031, "OutOfDiskSpace", StoreFull),
        (13, "Unauthorized", StoreMisconfigured),
        (18, "AuthenticationFailed", StoreMisconfigured),
        (2, "BadValue", StoreUnavailable),
    ],
)
def test_a_refused_write_raises_what_it_means(mongodb_uri: str, code: int, name: str, fault: type[Exception]) -> None:
    async def steps(documents: MongoDocuments, proxy: WireProxy) -> None:
        proxy.replies = {"insert": {"ok": 0, "code": code, "codeName": name, "errmsg": "x"}}
        with pytest.raises(fault) as raised:
            await documents.insert("rounds", "k", {}, fence=1, operation="o")
        assert name in str(raised.value)
        assert raised.value.remedy

    run_behind_proxy(mongodb_uri, steps)


@services
def test_a_read_whose_answer_is_lost_is_asked_again(mongodb_uri: str) -> None:
    async def steps(documents: MongoDocuments, proxy: WireProxy) -> None:
        await documents.insert("rounds", "k", {}, fence=1, operation="o")
        proxy.lose = {"find": "reply"}
        assert await documents.get("rounds", "k") is not None

    run_behind_proxy(mongodb_uri, steps)


@services
def test_writes_ask_for_the_majority_and_its_journals(mongodb_uri: str) -> None:
    async def steps(documents: MongoDocuments, proxy: WireProxy) -> None:
        concern = documents._collection("rounds").write_concern
        assert (concern.document["w"], concern.document["j"]) == ("majority", True)
        assert documents._client.options.retry_writes is False

    run_behind_proxy(mongodb_uri, steps)


@services
def test_a_uri_cannot_weaken_what_writes_ask_for(mongodb_uri: str) -> None:
    async def steps() -> None:
        documents = await open_mongodb(f"{mongodb_uri}?w=0&retryWrites=true&journal=false", "test_weak")
        concern = documents._collection("rounds").write_concern
        assert (concern.document["w"], concern.document["j"]) == ("majority", True)
        assert documents._client.options.retry_writes is False
        await documents.close()

    asyncio.run(steps())


SECRET = "s3cr%2Fet-planted"


@services
def test_a_wrong_password_is_said_without_the_password(mongodb_uri: str) -> None:
    async def steps() -> None:
        async with wire_proxy(mongodb_uri) as proxy:
            refusal = {"ok": 0, "code": 18, "codeName": "AuthenticationFailed", "errmsg": "Authentication failed."}
            proxy.replies = {"saslStart": refusal}
            with pytest.raises(StoreMisconfigured, match="refuses this user") as raised:
                await open_mongodb(proxy.uri.replace("//", f"//anna:{SECRET}@"), "test_auth")
            assert_no_secret(raised.value)

    asyncio.run(steps())


def test_a_server_that_is_not_there_is_said_in_time_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedn_py.store.mongodb._SELECTION_TIMEOUT_MS", 500)
    port = free_port()
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}") as raised:
        asyncio.run(open_mongodb(f"mongodb://anna:{SECRET}@127.0.0.1:{port}/", "x"))
    assert "Start MongoDB" in raised.value.remedy
    assert_no_secret(raised.value)


@pytest.mark.parametrize(
    "uri",
    [
        f"mongodb://anna:{SECRET}@host:99999999/",
        "mongodb://anna:s3cr/et-planted@host/",
        "mongodb://anna:s3cr:et-planted@host:1/",
        f"postgres://anna:{SECRET}@host/",
        "",
        f"mongodb://anna:{SECRET}@host/?authMechanism=NONSENSE",
    ],
)
def test_a_uri_that_cannot_be_read_is_refused_without_repeating_it(uri: str) -> None:
    with pytest.raises(StoreMisconfigured) as raised:
        asyncio.run(open_mongodb(uri, "x"))
    assert "mongodb://USER:PASSWORD@HOST:PORT/" in raised.value.remedy
    assert_no_secret(raised.value)


def assert_no_secret(error: Exception) -> None:
    told = "".join(traceback.format_exception(error, limit=0))
    assert "planted" not in told
    assert "s3cr" not in told
