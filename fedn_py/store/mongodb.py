"""Documents in MongoDB, or in a server that speaks its protocol.

A document is ``{_id: key, version, fence, operation, content}``. Every write is one conditional command, acknowledged
by a majority and its journals, and never repeated by the driver: the driver cannot say whether a write whose answer was
lost has happened, so such a write is "unknown" and its writer reads it back by its operation id.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

from pymongo import ASCENDING, DESCENDING, AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError, PyMongoError, WriteConcernError
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import parse_uri

from fedn_py.store.content import encode, field_name
from fedn_py.store.indexes import INDEXES
from fedn_py.store.mongodb_faults import AnswerLost, fault_of, not_acknowledged
from fedn_py.store.ports import (
    Collection,
    Document,
    JSONValue,
    Outcome,
    StoreMisconfigured,
)

_SELECTION_TIMEOUT_MS = 5_000
_CONNECT_TIMEOUT_MS = 5_000
_ANSWER_TIMEOUT_MS = 15_000
_WRITE_CONCERN = WriteConcern("majority", wtimeout=10_000, j=True)

_Stored = dict[str, Any]


class MongoDocuments:
    """Documents in one database; ``open_mongodb`` makes one.

    Args:
        server: how messages name the server: its hosts, without credentials.
    """

    def __init__(self, client: AsyncMongoClient[_Stored], database: str, server: str) -> None:
        self._client = client
        self._database = client[database]
        self._server = server

    async def insert(
        self, collection: Collection, key: str, content: Mapping[str, JSONValue], *, fence: int, operation: str
    ) -> Outcome:
        """See Documents.insert."""
        document = {"_id": key, **_to_stored(1, fence, operation, content)}
        try:
            async with self._named_faults():
                await self._collection(collection).insert_one(document)
        except DuplicateKeyError:
            return "refused"
        except AnswerLost:
            return "unknown"
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
        replacement = _to_stored(version + 1, fence, operation, content)
        try:
            async with self._named_faults():
                result = await self._collection(collection).replace_one(_filter(key, version, fence), replacement)
        except AnswerLost:
            return "unknown"
        return "ok" if result.matched_count else "refused"

    async def get(self, collection: Collection, key: str) -> Document | None:
        """See Documents.get."""
        async with self._named_faults():
            stored = await self._collection(collection).find_one({"_id": key})
        return None if stored is None else _to_document(stored)

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
        direction = DESCENDING if descending else ASCENDING
        place = f"content.{field_name(order_by)}" if order_by else "_id"
        conditions = _conditions(equals or {})
        if after is not None:
            conditions.append({place: {"$lt" if descending else "$gt": after}})
        order = [(place, direction)] if place == "_id" else [(place, direction), ("_id", direction)]
        async with self._named_faults():
            cursor = self._collection(collection).find({"$and": conditions} if conditions else {}).sort(order)
            return [_to_document(stored) async for stored in cursor.limit(limit)]

    async def count(self, collection: Collection, equals: Mapping[str, str | int | bool] | None = None) -> int:
        """See Documents.count."""
        conditions = _conditions(equals or {})
        async with self._named_faults():
            return await self._collection(collection).count_documents({"$and": conditions} if conditions else {})

    async def delete(self, collection: Collection, key: str, *, version: int, fence: int) -> Outcome:
        """See Documents.delete."""
        try:
            async with self._named_faults():
                result = await self._collection(collection).delete_one(_filter(key, version, fence))
        except AnswerLost:
            return "unknown"
        return "ok" if result.deleted_count else "refused"

    async def forget(self) -> None:
        """See Documents.forget; what the server's oplog and backups keep is not in our hands."""

    async def check(self) -> None:
        """See Documents.check."""
        try:
            async with self._named_faults():
                await self._collection("probes").replace_one({"_id": "check"}, {"written": True}, upsert=True)
        except AnswerLost as fault:
            if isinstance(fault.__cause__, WriteConcernError):
                raise not_acknowledged(fault.__cause__, self._server) from fault
            raise

    async def check_topology(self) -> None:
        """Raise StoreMisconfigured where whoever answers is no server that takes writes."""
        async with self._named_faults():
            hello = await self._client.admin.command("hello")
        if not hello.get("isWritablePrimary"):
            raise StoreMisconfigured(
                f"MongoDB at {self._server} answers and takes no writes: it is no primary",
                remedy="Name all members of the replica set in the URI, with replicaSet=NAME and without "
                "directConnection; the primary is found among them.",
            )

    async def now(self) -> datetime | None:
        """See Documents.now."""
        async with self._named_faults():
            hello = await self._client.admin.command("hello")
        its_clock = hello.get("localTime")
        return its_clock.replace(tzinfo=UTC) if isinstance(its_clock, datetime) else None

    async def close(self) -> None:
        """See Documents.close."""
        await self._client.close()

    async def make_indexes(self) -> None:
        """Make the indexes of what documents are found by; nothing happens when they are there."""
        async with self._named_faults():
            for collection, indexes in INDEXES.items():
                for fields in indexes:
                    places = [*(f"content.{name}" for name in fields), "_id"]
                    await self._collection(collection).create_index([(place, ASCENDING) for place in places])

    def _collection(self, name: str) -> AsyncCollection[_Stored]:
        return self._database.get_collection(
            name,
            write_concern=_WRITE_CONCERN,
            read_concern=ReadConcern("majority"),
            read_preference=ReadPreference.PRIMARY,
        )

    @asynccontextmanager
    async def _named_faults(self) -> AsyncIterator[None]:
        try:
            yield
        except DuplicateKeyError:
            raise
        except PyMongoError as error:
            raise fault_of(error, self._server) from error


async def open_mongodb(uri: str, database: str) -> MongoDocuments:
    """Open the documents in a database of the server at ``uri``.

    Raises:
        StoreUnavailable: the server does not answer in time.
        StoreMisconfigured: the URI cannot be read, or the server refuses its user name or password, takes no writes, or
            does not acknowledge them by a majority and its journals.
    """
    try:
        hosts = parse_uri(uri, warn=False)["nodelist"]
        client: AsyncMongoClient[_Stored] = AsyncMongoClient(
            uri,
            appname="fedn_py",
            retryWrites=False,
            serverSelectionTimeoutMS=_SELECTION_TIMEOUT_MS,
            connectTimeoutMS=_CONNECT_TIMEOUT_MS,
            socketTimeoutMS=_ANSWER_TIMEOUT_MS,
        )
    except (PyMongoError, ValueError, TypeError) as error:
        # The library's message may repeat parts of the URI, and so of the password: it goes no further.
        raise StoreMisconfigured(
            f"the URI of MongoDB cannot be used ({type(error).__name__})",
            remedy="Give it as mongodb://USER:PASSWORD@HOST:PORT/, with special characters percent-encoded.",
        ) from None
    server = ",".join(f"{host}:{port}" if port else str(host) for host, port in hosts)
    documents = MongoDocuments(client, database, server)
    try:
        await documents.check_topology()
        await documents.check()
        await documents.make_indexes()
    except BaseException:
        await client.close()
        raise
    return documents


def _filter(key: str, version: int, fence: int) -> _Stored:
    return {"_id": key, "version": version, "fence": {"$lte": fence}}


def _conditions(equals: Mapping[str, str | int | bool]) -> list[_Stored]:
    return [{f"content.{field_name(name)}": value} for name, value in equals.items()]


def _to_stored(version: int, fence: int, operation: str, content: Mapping[str, JSONValue]) -> _Stored:
    encode(content)  # refuses here what every store refuses
    return {"version": version, "fence": fence, "operation": operation, "content": _escaped(content)}


def _to_document(stored: _Stored) -> Document:
    content = cast("Mapping[str, JSONValue]", _unescaped(stored["content"]))
    return Document(stored["_id"], int(stored["version"]), int(stored["fence"]), stored["operation"], content)


# The protocol gives dots and dollars in field names a meaning, and ends them at a zero byte; metrics may be named so.
_ESCAPES = {"%": "%25", ".": "%2E", "$": "%24", "\0": "%00"}
_ESCAPE_TABLE = str.maketrans(_ESCAPES)


def _escaped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name.translate(_ESCAPE_TABLE) or "%": _escaped(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return value


def _unescaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {_unescaped_name(name): _unescaped(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_unescaped(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)  # the library reads 64-bit integers as a type of its own
    return value


def _unescaped_name(name: str) -> str:
    if name == "%":
        return ""
    for character, escape in reversed(_ESCAPES.items()):
        name = name.replace(escape, character)
    return name
