"""A download's file: there when its last byte is, and never with one more."""

import asyncio
from pathlib import Path

import pytest
from grpc_network import digest_of

from fedn_py.transport.chunks import DigestMismatch
from fedn_py.transport.landing import Landing
from fedn_py.transport.reading import MalformedMessage

CONTENT = b"a model"


def names(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


def test_the_file_has_its_name_with_its_last_byte(tmp_path: Path) -> None:
    file = tmp_path / "model"

    async def story() -> None:
        landing = Landing(file, digest_of(CONTENT), None)
        await landing.open()
        landing.expect(len(CONTENT))
        await landing.append(CONTENT[:3])
        assert names(tmp_path) == [f".model.{digest_of(CONTENT)[:16]}.part"]
        await landing.append(CONTENT[3:5], CONTENT[5:])
        assert names(tmp_path) == ["model"]
        assert await landing.finish() == len(CONTENT)

    asyncio.run(story())
    assert file.read_bytes() == CONTENT


@pytest.mark.parametrize("named", [len(CONTENT), 2 * len(CONTENT)])
def test_what_follows_the_last_byte_is_refused_whatever_size_is_named_then(tmp_path: Path, named: int) -> None:
    async def story() -> None:
        landing = Landing(tmp_path / "model", digest_of(CONTENT), None)
        await landing.open()
        landing.expect(len(CONTENT))
        await landing.append(CONTENT)
        landing.expect(named)  # as of another attempt
        with pytest.raises(MalformedMessage):
            await landing.append(CONTENT)
        assert names(tmp_path) == []

    asyncio.run(story())


def test_wrong_bytes_are_deleted_with_the_last_of_them(tmp_path: Path) -> None:
    async def story() -> None:
        landing = Landing(tmp_path / "model", digest_of(b"another"), None)
        await landing.open()
        landing.expect(len(CONTENT))
        await landing.append(CONTENT)
        assert names(tmp_path) == []
        with pytest.raises(DigestMismatch):
            await landing.finish()

    asyncio.run(story())
