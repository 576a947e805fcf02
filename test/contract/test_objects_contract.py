"""What every object store keeps to, in memory, in a folder and on two real S3 servers."""

import asyncio
import hashlib
import io
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from minio import Minio
from servers.running import S3Server

from fedn_py.identity import Digest
from fedn_py.store.folder import FolderObjects, open_folder
from fedn_py.store.measured import MeasuredObjects
from fedn_py.store.memory import MemoryObjects
from fedn_py.store.minio import open_minio
from fedn_py.store.ports import ObjectCorrupt, ObjectMissing, Objects

MIB = 1024**2
SMALL = b"global model"
EMPTY_DIGEST = Digest(hashlib.sha256(b"").hexdigest())


@dataclass(frozen=True)
class Place:
    """A store under test.

    Attributes:
        open: opens it, again after it was closed.
        damage: puts other bytes where an object is, behind the store's back.
    """

    open: Callable[[], Awaitable[Objects]]
    damage: Callable[[Objects, Digest, bytes], None]


@pytest.fixture(
    params=[
        "memory",
        "measured",
        "folder",
        pytest.param("minio", marks=pytest.mark.services),
        pytest.param("versitygw", marks=pytest.mark.services),
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param in {"memory", "measured"}:
        yield memory_place(measured=request.param == "measured")
    elif request.param == "folder":
        yield folder_place(tmp_path / "objects")
    else:
        server: S3Server = request.getfixturevalue(f"{request.param}_server")
        yield s3_place(server, f"test-{uuid.uuid4().hex}")


def memory_place(*, measured: bool) -> Place:
    objects = MemoryObjects()

    async def reopen() -> Objects:
        return MeasuredObjects(objects, lambda *_: None) if measured else objects

    def damage(_: Objects, digest: Digest, content: bytes) -> None:
        objects.contents[digest] = content

    return Place(reopen, damage)


def folder_place(folder: Path) -> Place:
    def damage(objects: Objects, digest: Digest, content: bytes) -> None:
        assert isinstance(objects, FolderObjects)
        (folder / digest[:2] / digest).write_bytes(content)

    return Place(lambda: open_folder(folder), damage)


def s3_place(server: S3Server, bucket: str) -> Place:
    def damage(_: Objects, digest: Digest, content: bytes) -> None:
        client = Minio(
            endpoint=urlsplit(server.url).netloc,
            access_key=server.access_key,
            secret_key=server.secret_key,
            secure=False,
            region="us-east-1",
        )
        client.put_object(bucket_name=bucket, object_name=digest, data=io.BytesIO(content), length=len(content))

    return Place(lambda: open_minio(server.url, server.access_key, server.secret_key, bucket), damage)


def run(place: Place, steps: Callable[[Objects], Awaitable[None]]) -> None:
    async def on_opened() -> None:
        objects = await place.open()
        try:
            await steps(objects)
        finally:
            await objects.close()

    asyncio.run(on_opened())


async def chunks(content: bytes, size: int = MIB) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def read(objects: Objects, digest: Digest, offset: int = 0) -> bytes:
    return b"".join([piece async for piece in objects.get(digest, offset=offset)])


def digest_of(content: bytes) -> Digest:
    return Digest(hashlib.sha256(content).hexdigest())


async def listed(objects: Objects) -> dict[Digest, int]:
    return {stat.digest: stat.size async for stat in objects.list()}


def random_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 20 * MIB + 7])
def test_bytes_are_read_as_they_were_put(place: Place, size: int) -> None:
    content = random_bytes(size)

    async def steps(objects: Objects) -> None:
        put = await objects.put(chunks(content, 700_001))
        assert (put.digest, put.size) == (digest_of(content), size)
        assert await read(objects, put.digest) == content
        stat = await objects.stat(put.digest)
        assert (stat.digest, stat.size) == (put.digest, size)
        assert 0 <= stat.age_s < 60
        assert await listed(objects) == {put.digest: size}

    run(place, steps)


def test_no_piece_is_larger_than_a_mebibyte(place: Place) -> None:
    async def steps(objects: Objects) -> None:
        put = await objects.put(chunks(random_bytes(3 * MIB + 5), 3 * MIB))
        assert max([len(piece) async for piece in objects.get(put.digest)]) <= MIB
        assert max([len(piece) async for piece in objects.get(put.digest, offset=1)]) <= MIB

    run(place, steps)


def test_reading_begins_at_any_offset_and_gives_nothing_from_the_end_on(place: Place) -> None:
    content = random_bytes(2 * MIB + 11)

    async def steps(objects: Objects) -> None:
        digest = (await objects.put(chunks(content))).digest
        for offset in (1, MIB, MIB + 1, len(content) - 1):
            assert await read(objects, digest, offset) == content[offset:]
        assert await read(objects, digest, len(content)) == b""
        assert await read(objects, digest, len(content) + 5) == b""

    run(place, steps)


def test_objects_are_there_when_the_store_is_opened_again(place: Place) -> None:
    async def write(objects: Objects) -> None:
        await objects.put(chunks(SMALL))

    async def check(objects: Objects) -> None:
        assert await read(objects, digest_of(SMALL)) == SMALL

    run(place, write)
    run(place, check)


def test_the_same_bytes_are_stored_once(place: Place) -> None:
    async def steps(objects: Objects) -> None:
        first = await objects.put(chunks(SMALL))
        second = await objects.put(chunks(SMALL, 3))
        assert first.digest == second.digest
        assert await listed(objects) == {first.digest: len(SMALL)}

    run(place, steps)


def test_the_same_bytes_put_at_once_by_many_are_stored_once(place: Place) -> None:
    async def steps(objects: Objects) -> None:
        content = random_bytes(MIB)
        await asyncio.gather(*(objects.put(chunks(content)) for _ in range(6)))
        assert await listed(objects) == {digest_of(content): MIB}
        assert await read(objects, digest_of(content)) == content

    run(place, steps)


def test_a_stream_that_breaks_off_leaves_nothing_and_its_error_passes_through(place: Place) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield random_bytes(MIB)
        raise ConnectionResetError("the peer is gone")

    async def steps(objects: Objects) -> None:
        with pytest.raises(ConnectionResetError, match="the peer is gone"):
            await objects.put(broken())
        assert await listed(objects) == {}

    run(place, steps)


def test_a_put_that_is_cancelled_leaves_nothing(place: Place) -> None:
    async def steps(objects: Objects) -> None:
        arrived = asyncio.Event()

        async def stalled() -> AsyncIterator[bytes]:
            yield SMALL
            arrived.set()
            await asyncio.Event().wait()

        put = asyncio.create_task(objects.put(stalled()))
        await arrived.wait()
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put
        assert await listed(objects) == {}

    run(place, steps)


def test_bytes_other_than_the_expected_ones_are_refused_and_leave_nothing(place: Place) -> None:
    async def steps(objects: Objects) -> None:
        with pytest.raises(ObjectCorrupt):
            await objects.put(chunks(SMALL), expected=digest_of(b"another"))
        assert await listed(objects) == {}
        assert (await objects.put(chunks(SMALL), expected=digest_of(SMALL))).digest == digest_of(SMALL)

    run(place, steps)


DAMAGES = {
    "a flipped bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "a flipped first bit": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "a cut end": lambda content: content[:-1],
    "nothing left": lambda content: b"",
    "one byte more": lambda content: content + b"x",
}


@pytest.mark.parametrize("damaged", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("size", [len(SMALL), MIB, 2 * MIB + 1])
def test_damaged_bytes_are_never_served_whole(place: Place, size: int, damaged: Callable[[bytes], bytes]) -> None:
    content = random_bytes(size)

    async def steps(objects: Objects) -> None:
        digest = (await objects.put(chunks(content))).digest
        stored = damaged(content)
        place.damage(objects, digest, stored)
        served = bytearray()

        async def serve() -> None:
            async for piece in objects.get(digest):
                served.extend(piece)

        with pytest.raises(ObjectCorrupt, match=digest):
            await serve()
        assert len(served) < len(stored) or not stored

    run(place, steps)


def test_putting_an_object_again_heals_a_damaged_one(place: Place) -> None:
    async def steps(objects: Objects) -> None:
        digest = (await objects.put(chunks(SMALL))).digest
        place.damage(objects, digest, SMALL[::-1])
        await objects.put(chunks(SMALL))
        assert await read(objects, digest) == SMALL

    run(place, steps)


def test_what_is_missing_is_said_and_its_deletion_does_nothing(place: Place) -> None:
    async def steps(objects: Objects) -> None:
        for wanted in (digest_of(b"never put"), EMPTY_DIGEST):
            with pytest.raises(ObjectMissing, match=wanted):
                await read(objects, wanted)
            with pytest.raises(ObjectMissing, match=wanted):
                await read(objects, wanted, 1)
            with pytest.raises(ObjectMissing, match=wanted):
                await objects.stat(wanted)
            await objects.delete(wanted)

    run(place, steps)


def test_a_deleted_object_is_gone_and_others_stay(place: Place) -> None:
    async def steps(objects: Objects) -> None:
        gone = (await objects.put(chunks(b"gone"))).digest
        stays = (await objects.put(chunks(b"stays"))).digest
        await objects.delete(gone)
        assert await listed(objects) == {stays: 5}
        with pytest.raises(ObjectMissing):
            await objects.stat(gone)

    run(place, steps)


def test_a_reader_may_leave_in_the_middle(place: Place) -> None:
    async def steps(objects: Objects) -> None:
        digest = (await objects.put(chunks(random_bytes(3 * MIB)))).digest
        for _ in range(12):  # more often than there are connections
            async with aclosing(objects.get(digest)) as pieces:
                await anext(pieces)
        assert len(await read(objects, digest)) == 3 * MIB

    run(place, steps)


def test_a_store_that_works_passes_its_check_and_the_check_leaves_no_object(place: Place) -> None:
    async def steps(objects: Objects) -> None:
        await objects.check()
        await objects.check()
        assert await listed(objects) == {}

    run(place, steps)


@pytest.mark.parametrize("size", [1, 3 * MIB + 5])
def test_a_file_is_stored_as_its_bytes_are_and_gone_from_its_place(place: Place, tmp_path: Path, size: int) -> None:
    content, path = random_bytes(size), tmp_path / "upload"
    path.write_bytes(content)

    async def steps(objects: Objects) -> None:
        put = await objects.put_file(path, digest_of(content))
        assert (put.digest, put.size) == (digest_of(content), size)
        assert (await objects.stat(put.digest)).age_s < 60
        assert await read(objects, put.digest) == content
        assert await listed(objects) == {put.digest: size}

    run(place, steps)
    assert not path.exists()


def test_a_second_name_is_given_where_there_are_files_and_outlives_the_object(place: Place, tmp_path: Path) -> None:
    async def steps(objects: Objects) -> None:
        digest = (await objects.put(chunks(SMALL))).digest
        if await objects.link(digest, tmp_path / "second") != "not":
            await objects.put(chunks(SMALL))
            await objects.delete(digest)
            assert (tmp_path / "second").read_bytes() == SMALL
        else:
            assert not (tmp_path / "second").exists()

    run(place, steps)
