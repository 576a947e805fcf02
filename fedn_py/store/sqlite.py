"""Documents in one SQLite file: the store of a network that needs nothing installed.

One thread owns the connection. Each operation is a single statement and so a transaction of its own; it has
reached the disk when it is acknowledged (write-ahead log, synchronous=FULL).
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from fedn_py.store.content import decode, encode, field_name
from fedn_py.store.disk import sync_folder
from fedn_py.store.indexes import INDEXES, Fields, index_for
from fedn_py.store.lock import FolderLock
from fedn_py.store.ports import (
    Collection,
    Document,
    JSONValue,
    Outcome,
    StoreDamaged,
    StoreFull,
    StoreMisconfigured,
    StoreUnavailable,
)
from fedn_py.store.threads import Threads

T = TypeVar("T")
_Values = list[str | int]

_TABLES = (
    """CREATE TABLE IF NOT EXISTS documents (
        collection TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, fence INTEGER NOT NULL,
        operation TEXT NOT NULL, content TEXT NOT NULL, PRIMARY KEY (collection, key)) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS probes (name TEXT PRIMARY KEY, written INTEGER NOT NULL)",
)
_JSON_TYPES = {bool: ("true", "false"), int: ("integer", "integer"), str: ("text", "text")}
_BUSY_TIMEOUT_S = 10.0


class SqliteDocuments:
    """Documents in a file; ``open_sqlite`` and ``read_sqlite`` make one.

    Args:
        connect: opens the file, once and again after the disk has failed under it.
    """

    def __init__(self, path: Path, lock: FolderLock | None, connect: Callable[[Path], sqlite3.Connection]) -> None:
        self._path = path
        self._lock = lock
        self._connect = connect
        self._threads = Threads("sqlite", 1)
        self._connection: sqlite3.Connection | None = None

    async def insert(
        self, collection: Collection, key: str, content: Mapping[str, JSONValue], *, fence: int, operation: str
    ) -> Outcome:
        """See Documents.insert."""
        return await self._write(
            "INSERT INTO documents VALUES (?, ?, 1, ?, ?, ?) ON CONFLICT DO NOTHING",
            [collection, key, fence, operation, encode(content)],
        )

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
        return await self._write(
            "UPDATE documents SET version = version + 1, fence = ?, operation = ?, content = ?"
            " WHERE collection = ? AND key = ? AND version = ? AND fence <= ?",
            [fence, operation, encode(content), collection, key, version, fence],
        )

    async def get(self, collection: Collection, key: str) -> Document | None:
        """See Documents.get."""
        found = await self._read("WHERE collection = ? AND key = ?", [collection, key])
        return found[0] if found else None

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
        where, values = _where(collection, equals or {})
        place = f"json_extract(content, '$.{field_name(order_by)}')" if order_by else "key"
        direction = "DESC" if descending else "ASC"
        if after is not None:
            where += f" AND {place} {'<' if descending else '>'} ?"
            values.append(after)
        # The order by key alone is said once: said twice, SQLite would sort what an index has in order.
        order = f"{place} {direction}, key {direction}" if order_by else f"key {direction}"
        clause = f"{_index_for(collection, equals or {}, order_by)} {where} ORDER BY {order}"
        if limit:
            clause += " LIMIT ?"
            values.append(limit)
        return await self._read(clause, values)

    async def count(self, collection: Collection, equals: Mapping[str, str | int | bool] | None = None) -> int:
        """See Documents.count."""
        where, values = _where(collection, equals or {})
        where = f"{_index_for(collection, equals or {}, '')} {where}"

        def work(connection: sqlite3.Connection) -> int:
            # The clause is put together from constants and checked field names; all values are bound.
            row = connection.execute(f"SELECT count(*) FROM documents {where}", values).fetchone()  # noqa: S608
            return int(row[0])

        return await self._run(work)

    async def delete(self, collection: Collection, key: str, *, version: int, fence: int) -> Outcome:
        """See Documents.delete."""
        return await self._write(
            "DELETE FROM documents WHERE collection = ? AND key = ? AND version = ? AND fence <= ?",
            [collection, key, version, fence],
        )

    async def forget(self) -> None:
        """See Documents.forget: the write-ahead log is emptied, and pages are overwritten when they are let go."""

        def work(connection: sqlite3.Connection) -> None:
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise _held_by_another(self._path)

        await self._run(work)

    async def check(self) -> None:
        """See Documents.check."""
        await self._write("INSERT INTO probes VALUES ('check', 1) ON CONFLICT DO UPDATE SET written = written + 1", [])

    async def now(self) -> datetime | None:
        """See Documents.now."""
        return None

    async def close(self) -> None:
        """See Documents.close."""
        await self._threads.run(self._disconnect)
        self._threads.close()
        if self._lock is not None:
            self._lock.release()

    async def _write(self, statement: str, values: _Values) -> Outcome:
        def work(connection: sqlite3.Connection) -> Outcome:
            return "ok" if connection.execute(statement, values).rowcount else "refused"

        try:
            return await self._run(work)
        except _Interrupted:
            return "unknown"

    async def _read(self, clause: str, values: _Values) -> list[Document]:
        def work(connection: sqlite3.Connection) -> list[Document]:
            select = f"SELECT key, version, fence, operation, content FROM documents {clause}"  # noqa: S608  # as above
            return [
                Document(key, version, fence, operation, decode(text))
                for key, version, fence, operation, text in connection.execute(select, values)
            ]

        return await self._run(work)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._threads.run(self._with_connection, work)

    def _with_connection(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._connect(self._path)
            return work(self._connection)
        except sqlite3.Error as error:
            fault = _fault(error, self._path)
            if isinstance(fault, _Interrupted):
                # What has reached the disk decides: only a new connection reads it from there.
                self._disconnect()
            raise fault from error

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()


class _Interrupted(StoreUnavailable):
    """The disk failed while something was written: it is there, or it is not."""


async def open_sqlite(path: Path, lock: FolderLock | None = None) -> SqliteDocuments:
    """Open the documents in ``path``, a file that is made if it is absent; ``lock`` is released with them.

    Raises:
        StoreMisconfigured: the file cannot be made or opened.
        StoreDamaged: it is no database, or a damaged one.
        StoreFull: there is no room for it.
    """
    documents = SqliteDocuments(path, lock, _connect)
    try:
        await documents.check()
    except BaseException:
        await documents.close()
        raise
    return documents


def read_sqlite(path: Path) -> SqliteDocuments:
    """Open the documents in ``path`` to be read alone, beside a process that writes them; nothing is made."""
    return SqliteDocuments(path, None, _connect_reading)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_TIMEOUT_S)
    try:
        path.chmod(0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        for statement in (*_TABLES, *map(_make_index, {fields for indexes in INDEXES.values() for fields in indexes})):
            connection.execute(statement)
        sync_folder(path.parent)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False,
        timeout=_BUSY_TIMEOUT_S,
    )  # fmt: skip


def _make_index(fields: Fields) -> str:
    """Return the statement for an index over all collections: they are in one table."""
    places = ", ".join(f"json_extract(content, '$.{name}')" for name in fields)
    return f"CREATE INDEX IF NOT EXISTS {_index_name(fields)} ON documents (collection, {places}, key)"


def _index_name(fields: Fields) -> str:
    return f"by_{'_and_'.join(fields)}"


def _index_for(collection: Collection, equals: Mapping[str, str | int | bool], order_by: str) -> str:
    """Return the index that answers a query, for SQLite itself would read a whole collection in its place."""
    fields = index_for(collection, equals, order_by)
    return f"INDEXED BY {_index_name(fields)}" if fields is not None else ""


def _where(collection: str, equals: Mapping[str, str | int | bool]) -> tuple[str, _Values]:
    clauses, values = ["WHERE collection = ?"], [collection]
    bound: _Values = [*values]
    for name, value in equals.items():
        path = f"'$.{field_name(name)}'"
        # The JSON type is compared too, as SQLite reads true as 1.
        clauses.append(f"json_extract(content, {path}) = ? AND json_type(content, {path}) = ?")
        bound += [int(value) if isinstance(value, bool) else value, _JSON_TYPES[type(value)][value is False]]
    return " AND ".join(clauses), bound


def _held_by_another(path: Path) -> StoreUnavailable:
    return StoreUnavailable(
        f"{path} is held by another program for more than {_BUSY_TIMEOUT_S:.0f} s",
        remedy="Close the program that has the file open.",
    )


def _fault(error: sqlite3.Error, path: Path) -> Exception:
    """Return what an error of the library means for whoever runs this process."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    match code:
        case sqlite3.SQLITE_FULL:
            return StoreFull(f"there is no room left for {path}", remedy="Free some disk space; nothing was written.")
        case sqlite3.SQLITE_IOERR:
            return _Interrupted(f"the disk failed under {path}: {error}", remedy="Check the disk and the system's log.")
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return StoreDamaged(f"{path} is damaged: {error}", remedy="Restore it from a backup; it was not changed.")
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return StoreMisconfigured(
                f"{path} cannot be opened for writing: {error}",
                remedy="Give the process a folder of its own that it may write to.",
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return _held_by_another(path)
        case _:
            return StoreUnavailable(f"{path}: {error}", remedy="Check the disk and the system's log.")
