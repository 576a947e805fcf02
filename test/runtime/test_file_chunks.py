"""Files as streams: all of their bytes, a piece at a time, and closed whatever happens."""

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path

import pytest
from awaiting import until

from fedn_py.runtime.file_chunks import CHUNK_BYTES, file_chunks

CONTENT = bytes(range(256)) * (CHUNK_BYTES // 256) * 2 + b"the end"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def read(path: Path, offset: int = 0) -> list[bytes]:
    async def story() -> list[bytes]:
        return [chunk async for chunk in file_chunks(path, offset)]

    return asyncio.run(story())


def open_files() -> int:
    # Files alone: sockets of a server that another test has told to end may close at any time.
    return sum(map(Path.is_file, Path("/proc/self/fd").iterdir()))


def test_a_file_comes_whole_in_pieces_of_a_mebibyte(file: Path) -> None:
    chunks = read(file)
    assert [len(chunk) for chunk in chunks] == [CHUNK_BYTES, CHUNK_BYTES, 7]
    assert b"".join(chunks) == CONTENT


@pytest.mark.parametrize("offset", [1, CHUNK_BYTES, len(CONTENT) - 1, len(CONTENT), len(CONTENT) + 100])
def test_it_begins_at_an_offset(file: Path, offset: int) -> None:
    assert b"".join(read(file, offset)) == CONTENT[offset:]


def test_an_empty_file_has_no_pieces(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert read(tmp_path / "empty") == []


def test_a_file_that_is_not_there_is_told_at_the_first_piece(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "gone")


def test_the_file_is_closed_when_nobody_reads_on(file: Path) -> None:
    async def story() -> None:
        async with aclosing(file_chunks(file)) as chunks:
            await anext(chunks)
            before = open_files()
        assert open_files() == before - 1

    asyncio.run(story())


def test_the_file_is_closed_when_its_reader_is_cancelled(file: Path) -> None:
    async def story() -> None:
        await asyncio.to_thread(open_files)  # the thread's own files are there from now on
        before = open_files()
        reached = asyncio.Event()

        async def reading() -> None:
            async with aclosing(file_chunks(file)) as chunks:
                async for _ in chunks:
                    reached.set()
                    await asyncio.Event().wait()

        reader = asyncio.create_task(reading())
        await reached.wait()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        assert open_files() == before

    asyncio.run(story())


def test_a_piece_is_its_reader_s_alone(tmp_path: Path) -> None:
    async def story() -> None:
        (tmp_path / "file").write_bytes(bytes(CHUNK_BYTES))
        stream = file_chunks(tmp_path / "file")
        piece = await anext(stream)
        async with asyncio.timeout(10):
            # The name here, and the one that the call adds; the thread that read it has it a moment longer.
            await until(lambda: sys.getrefcount(piece) == 2)
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(story())
