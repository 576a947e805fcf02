"""The folder's own ways to fail."""

import asyncio
import hashlib
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from awaiting import until

from fedn_py.identity import Digest
from fedn_py.store import folder as folder_store
from fedn_py.store.folder import FolderObjects, open_folder
from fedn_py.store.ports import (
    ObjectCorrupt,
    ObjectMissing,
    StoreFull,
    StoreInUse,
    StoreMisconfigured,
    StoreUnavailable,
)


async def some(n_chunks: int) -> AsyncIterator[bytes]:
    for number in range(n_chunks):
        yield bytes([number % 256]) * 65_536


async def one_piece(content: bytes) -> AsyncIterator[bytes]:
    yield content


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_full_disk_refuses_the_object_frees_its_bytes_and_others_go_on(tiny_disk: Path) -> None:
    async def steps() -> None:
        objects = await open_folder(tiny_disk / "objects")
        with pytest.raises(StoreFull, match="no room left"):
            await objects.put(some(40))
        assert files(tiny_disk) == ["lock"]
        kept = await objects.put(some(2))
        assert files(tiny_disk) == sorted([kept.digest, "lock"])
        await objects.close()

    asyncio.run(steps())


def test_a_size_limit_of_the_process_is_a_full_store(tmp_path: Path) -> None:
    async def steps(objects: FolderObjects) -> None:
        with pytest.raises(StoreFull):
            await objects.put(some(40))
        assert files(tmp_path) == ["lock"]

    async def on_opened() -> None:
        objects = await open_folder(tmp_path / "objects")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024**2, hard))
        try:
            await steps(objects)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            await objects.close()

    asyncio.run(on_opened())


def test_what_an_interrupted_put_left_is_removed_when_the_folder_is_opened(tmp_path: Path) -> None:
    incoming = tmp_path / "objects" / "incoming"
    incoming.mkdir(parents=True)
    (incoming / "0").write_bytes(b"half an object")

    async def steps() -> None:
        await (await open_folder(tmp_path / "objects")).close()

    asyncio.run(steps())
    assert list(incoming.iterdir()) == []


def test_foreign_files_are_neither_listed_nor_touched(tmp_path: Path) -> None:
    async def steps() -> None:
        objects = await open_folder(tmp_path / "objects")
        put = await objects.put(some(1))
        (tmp_path / "objects" / put.digest[:2] / "notes.txt").write_text("mine")
        assert [stat.digest async for stat in objects.list()] == [put.digest]
        await objects.close()

    asyncio.run(steps())


def test_two_processes_do_not_open_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    other = (
        "import asyncio, pathlib, sys; from fedn_py.store.folder import open_folder;"
        "held = asyncio.run(open_folder(pathlib.Path(sys.argv[1]))); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", other, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(StoreInUse, match=f"process id {process.pid}"):
            asyncio.run(open_folder(folder))
        process.kill()
    asyncio.run(reopened(folder))


async def reopened(folder: Path) -> None:
    await (await open_folder(folder)).close()


def test_a_path_that_cannot_be_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreMisconfigured, match="cannot be written to"):
        asyncio.run(open_folder(tmp_path / "file" / "objects"))


def test_only_this_user_may_enter_the_folder(tmp_path: Path) -> None:
    asyncio.run(reopened(tmp_path / "objects"))
    assert (tmp_path / "objects" / "incoming").stat().st_mode & 0o077 == 0


def test_what_is_not_there_has_no_second_name(tmp_path: Path) -> None:
    async def steps() -> None:
        objects = await open_folder(tmp_path / "objects")
        with pytest.raises(ObjectMissing):
            await objects.link(Digest("0" * 64), tmp_path / "second")
        await objects.close()

    asyncio.run(steps())
    assert not (tmp_path / "second").exists()


LATER: dict[str, Callable[[pytest.MonkeyPatch, Path], object]] = {
    "written to": lambda _, path: path.write_bytes(b"a s"),
    "replaced": lambda _, path: (path.rename(path.with_name("old")), path.write_bytes(b"a sum")),
    "kept for long": lambda patch, _: patch.setattr(folder_store, "_FRESH_S", 0.0),
}


@pytest.mark.parametrize("later", [None, *LATER])
@pytest.mark.parametrize("as_file", [False, True])
def test_what_was_hashed_as_it_was_written_need_not_be_checked_for_a_moment_while_nobody_touches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: str | None, as_file: bool
) -> None:
    async def steps() -> str:
        objects = await open_folder(tmp_path / "objects")
        digest = Digest(hashlib.sha256(b"a sum").hexdigest())
        if as_file:
            (tmp_path / "upload").write_bytes(b"a sum")
            await objects.put_file(tmp_path / "upload", digest)
        else:
            await objects.put(one_piece(b"a sum"))
        if later is not None:
            LATER[later](monkeypatch, tmp_path / "objects" / digest[:2] / digest)
        linked = await objects.link(digest, tmp_path / "second")
        await objects.close()
        return linked

    assert asyncio.run(steps()) == ("just hashed" if later is None else "to be checked")


def test_what_an_earlier_life_has_written_is_to_be_checked(tmp_path: Path) -> None:
    async def steps() -> None:
        objects = await open_folder(tmp_path / "objects")
        put = await objects.put(one_piece(b"a sum"))
        await objects.close()
        objects = await open_folder(tmp_path / "objects")
        assert await objects.link(put.digest, tmp_path / "second") == "to be checked"
        await objects.close()

    asyncio.run(steps())


def test_a_file_of_another_disk_is_copied_and_held_to_its_digest(tiny_disk: Path, tmp_path: Path) -> None:
    async def steps() -> None:
        objects = await open_folder(tmp_path / "objects")
        path = tiny_disk / "upload"
        path.write_bytes(b"a sum")
        with pytest.raises(ObjectCorrupt):
            await objects.put_file(path, Digest("0" * 64))
        put = await objects.put_file(path, Digest(hashlib.sha256(b"a sum").hexdigest()))
        assert not path.exists()
        assert await objects.link(put.digest, tiny_disk / "second") == "not"
        assert files(tmp_path) == sorted([put.digest, "lock"])
        await objects.close()

    asyncio.run(steps())


def test_a_file_that_is_gone_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    async def steps() -> None:
        objects = await open_folder(tmp_path / "objects")
        with pytest.raises(StoreUnavailable):
            await objects.put_file(tmp_path / "upload", Digest("0" * 64))
        await objects.close()

    asyncio.run(steps())
    assert files(tmp_path) == ["lock"]


def test_the_bytes_of_a_deleted_object_are_freed_a_moment_later_and_at_the_latest_with_the_store(
    tmp_path: Path,
) -> None:
    async def steps() -> None:
        objects = await open_folder(tmp_path / "objects")
        first, second = await objects.put(some(1)), await objects.put(some(2))
        await objects.delete(first.digest)
        assert [stat.digest async for stat in objects.list()] == [second.digest]
        await until(lambda: files(tmp_path) == sorted([second.digest, "lock"]))
        await objects.delete(second.digest)
        await objects.close()

    asyncio.run(steps())
    assert files(tmp_path) == ["lock"]


def test_a_full_disk_is_given_the_room_of_deleted_objects_at_once(tiny_disk: Path) -> None:
    async def steps() -> None:
        objects = await open_folder(tiny_disk / "objects")
        kept = await objects.put(some(10))
        await objects.delete(kept.digest)
        with pytest.raises(StoreFull):
            await objects.put(some(40))
        assert (await objects.put(some(11))).size == 11 * 65_536
        await objects.close()

    asyncio.run(steps())
