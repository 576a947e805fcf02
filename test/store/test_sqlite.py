"""The SQLite file's own ways to fail."""

import asyncio
import resource
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fedn_py.store.ports import StoreDamaged, StoreFull, StoreMisconfigured, StoreUnavailable
from fedn_py.store.sqlite import open_sqlite, read_sqlite


def test_a_full_disk_refuses_the_write_keeps_what_was_there_and_goes_on_when_there_is_room(tiny_disk: Path) -> None:
    async def steps() -> None:
        documents = await open_sqlite(tiny_disk / "documents.sqlite")
        await documents.insert("rounds", "k", {"a": 1}, fence=1, operation="o1")
        ballast = tiny_disk / "ballast"
        with pytest.raises(OSError, match="No space left"):
            ballast.write_bytes(b"x" * 2 * 1024**2)

        with pytest.raises(StoreFull, match="no room"):
            await documents.update("rounds", "k", {"a": "x" * 200_000}, version=1, fence=1, operation="o2")
        found = await documents.get("rounds", "k")
        assert found is not None
        assert (found.version, found.content) == (1, {"a": 1})

        ballast.unlink()
        assert await documents.update("rounds", "k", {"a": 2}, version=1, fence=1, operation="o3") == "ok"
        await documents.close()

    asyncio.run(steps())


def test_a_write_that_the_disk_broke_off_is_unknown_and_read_back_from_the_disk(tmp_path: Path) -> None:
    async def steps() -> None:
        documents = await open_sqlite(tmp_path / "documents.sqlite")
        await documents.insert("rounds", "k", {"a": 1}, fence=1, operation="o1")

        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, hard))  # the system fails writes beyond it
        try:
            large = {"a": "x" * 2 * 1024**2}
            outcome = await documents.update("rounds", "k", large, version=1, fence=1, operation="o2")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert outcome == "unknown"
        found = await documents.get("rounds", "k")
        assert found is not None
        assert (found.version, found.operation, found.content) == (1, "o1", {"a": 1})
        assert await documents.update("rounds", "k", {"a": 2}, version=1, fence=1, operation="o3") == "ok"
        await documents.close()

    asyncio.run(steps())


def test_a_file_that_is_no_database_is_damaged_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "documents.sqlite"
    path.write_bytes(b"not a database at all" * 1000)
    with pytest.raises(StoreDamaged, match="damaged"):
        asyncio.run(open_sqlite(path))
    assert path.read_bytes() == b"not a database at all" * 1000


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreMisconfigured, match="cannot be opened") as raised:
        asyncio.run(open_sqlite(tmp_path / "absent" / "documents.sqlite"))
    assert raised.value.remedy


def test_only_this_user_may_read_the_file(tmp_path: Path) -> None:
    async def steps() -> None:
        await (await open_sqlite(tmp_path / "documents.sqlite")).close()

    asyncio.run(steps())
    assert (tmp_path / "documents.sqlite").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("collection", "order_by"), [("events", "seq"), ("rounds", "session")])
def test_frequent_queries_use_an_index(tmp_path: Path, collection: str, order_by: str) -> None:
    async def steps() -> None:
        await (await open_sqlite(tmp_path / "documents.sqlite")).close()

    asyncio.run(steps())
    connection = sqlite3.connect(tmp_path / "documents.sqlite")
    place = f"json_extract(content, '$.{order_by}')"
    plan = connection.execute(
        f"EXPLAIN QUERY PLAN SELECT * FROM documents WHERE collection = ? AND {place} > ? ORDER BY {place}, key",
        [collection, 1],
    ).fetchall()
    connection.close()
    told = " ".join(str(row[3]) for row in plan)
    assert f"by_{order_by}" in told
    assert "TEMP B-TREE" not in told


@pytest.mark.parametrize(
    ("collection", "equals", "how"),
    [
        ("events", {}, {"order_by": "seq", "descending": True, "limit": 3}),
        ("events", {"kind": "round.failed"}, {"order_by": "seq", "after": 7, "limit": 3}),
        ("rounds", {"session": "s", "status": "committed"}, {"descending": True, "limit": 1}),
        ("rounds", {"session": "s"}, {"after": "s/000007", "limit": 3}),
        ("rounds", {"model": "m"}, {"limit": 1}),
        ("tokens", {}, {"order_by": "created", "descending": True, "after": 7, "limit": 3}),
        ("sessions", {"status": "running"}, {"limit": 1}),
        ("sessions", {}, {"order_by": "number", "descending": True, "limit": 1}),
        ("clients", {}, {"order_by": "name", "limit": 3}),
    ],
)
def test_what_is_asked_for_often_is_found_by_an_index(
    tmp_path: Path, collection: str, equals: dict[str, str | int | bool], how: dict[str, Any]
) -> None:
    async def story() -> None:
        documents = await open_sqlite(tmp_path / "documents.sqlite")
        statements: list[str] = []

        def watch(connection: sqlite3.Connection) -> None:
            connection.set_trace_callback(statements.append)

        try:
            await documents._run(watch)
            await documents.find(collection, equals, **how)  # type: ignore[arg-type]
            plan = await documents._run(
                lambda open_one: open_one.execute(f"EXPLAIN QUERY PLAN {statements[0]}").fetchall()
            )
        finally:
            await documents.close()
        steps = " ".join(step[3] for step in plan)
        assert "USING INDEX by_" in steps
        assert "TEMP B-TREE" not in steps

    asyncio.run(story())


def files_with(text: bytes, folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if text in path.read_bytes()]


@pytest.mark.parametrize("size", [20, 20_000], ids=["in a page", "over several pages"])
def test_what_was_replaced_is_in_no_file_once_it_is_to_be_forgotten(tmp_path: Path, size: int) -> None:
    async def steps() -> None:
        documents = await open_sqlite(tmp_path / "documents.sqlite")
        for number in range(20):
            await documents.insert("rounds", f"k{number}", {"a": 1}, fence=1, operation="o1")
        await documents.update("rounds", "k7", {"a": "wrapped" * size}, version=1, fence=1, operation="o2")
        await documents.forget()
        assert files_with(b"wrapped", tmp_path)
        await documents.update("rounds", "k7", {"a": "wrapped" * (size // 2)}, version=2, fence=1, operation="o3")
        await documents.update("rounds", "k7", {"a": ""}, version=3, fence=1, operation="o4")
        assert files_with(b"wrapped", tmp_path)
        await documents.forget()
        assert files_with(b"wrapped", tmp_path) == []
        await documents.close()

    asyncio.run(steps())


def test_a_log_that_another_program_reads_is_not_called_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedn_py.store.sqlite._BUSY_TIMEOUT_S", 0.01)

    async def steps() -> None:
        documents = await open_sqlite(tmp_path / "documents.sqlite")
        await documents.insert("rounds", "k", {"a": "wrapped"}, fence=1, operation="o1")
        reader = sqlite3.connect(tmp_path / "documents.sqlite", isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM documents").fetchall()
        await documents.update("rounds", "k", {"a": ""}, version=1, fence=1, operation="o2")
        with pytest.raises(StoreUnavailable, match="another program"):
            await documents.forget()
        reader.close()
        await documents.forget()
        await documents.close()

    asyncio.run(steps())


def test_it_is_read_beside_its_writer_and_after_the_writers_death_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "documents.sqlite"

    async def steps() -> None:
        writing = await open_sqlite(path)
        await writing.insert("events", "1", {"seq": 1}, fence=0, operation="o1")
        reading = read_sqlite(path)
        assert await reading.count("events") == 1
        await writing.insert("events", "2", {"seq": 2}, fence=0, operation="o2")
        assert [document.key for document in await reading.find("events", order_by="seq")] == ["1", "2"]
        with pytest.raises(StoreMisconfigured, match="readonly"):
            await reading.insert("events", "3", {"seq": 3}, fence=0, operation="o3")
        for ending in ("", "-wal"):  # as they lie there when the writer is killed: the log holds what the file has not
            shutil.copyfile(f"{path}{ending}", tmp_path / f"copy{ending}")
        left = read_sqlite(tmp_path / "copy")
        assert await left.count("events") == 2
        for documents in (left, reading, writing):
            await documents.close()

    asyncio.run(steps())
