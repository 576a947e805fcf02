"""The client's objects: what they are named after, or fetched anew; bounded."""

import asyncio
import os
from collections import Counter
from pathlib import Path

import pytest
from grpc_network import digest_of

from fedn_py.client.objects import ObjectFolder
from fedn_py.errors import PeerFault
from fedn_py.identity import Digest


class Away(PeerFault):
    """A combiner of a test is away."""


class Source:
    """Gives out objects as a combiner's download does."""

    def __init__(self, *objects: bytes) -> None:
        self.objects = {digest_of(content): content for content in objects}
        self.fetched: Counter[Digest] = Counter()

    async def __call__(self, digest: Digest, into: Path) -> None:
        self.fetched[digest] += 1
        if digest not in self.objects:
            into.with_name(f".{into.name}.{digest[:16]}.part").write_bytes(b"the beginning")
            raise Away("the combiner is away")
        into.write_bytes(self.objects[digest])  # noqa: ASYNC240


def test_an_object_is_fetched_once_and_again_only_when_it_is_not_what_it_was(tmp_path: Path) -> None:
    source, digest = Source(b"model"), digest_of(b"model")

    async def story() -> None:
        folder = ObjectFolder(tmp_path / "models", ".safetensors", 2)
        file = await folder.have(digest, source)
        assert await folder.have(digest, source) == file
        assert source.fetched[digest] == 1
        for damage in (b"", b"mode", b"MODEL"):
            file.write_bytes(damage)
            await folder.have(digest, source)
            assert file.read_bytes() == b"model"
        assert source.fetched[digest] == 4

    asyncio.run(story())


def test_the_objects_used_last_stay_and_beginnings_of_given_up_downloads_go(tmp_path: Path) -> None:
    contents = [f"object {number}".encode() for number in range(4)]
    source = Source(*contents)
    names = [digest_of(content) for content in contents]

    async def story() -> None:
        folder = ObjectFolder(tmp_path / "models", ".bin", 2)
        with pytest.raises(Away):
            await folder.have(digest_of(b"unknown"), source)
        for name in (*names[:2], names[0], names[2]):
            await folder.have(name, source)
        assert {file.name for file in (tmp_path / "models").iterdir()} == {f"{names[0]}.bin", f"{names[2]}.bin"}

    asyncio.run(story())


def test_room_is_made_before_a_download_and_its_own_beginning_is_gone_on_with(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    contents = [f"object {number}".encode() for number in range(3)]
    source, late = Source(*contents), digest_of(b"late")
    found: list[set[str]] = []

    async def fetch(digest: Digest, into: Path) -> None:
        found.append({file.name for file in folder.iterdir()})
        await source(digest, into)

    async def story() -> None:
        objects = ObjectFolder(folder, ".bin", 2)
        for content in contents:
            await objects.have(digest_of(content), fetch)
        assert found[2] == {f"{digest_of(contents[1])}.bin"}
        for _ in range(2):
            with pytest.raises(Away):
                await objects.have(late, fetch)
        assert found[4] - found[3] == {f".{late}.bin.{late[:16]}.part"}

    asyncio.run(story())


def test_what_was_used_last_in_an_earlier_life_stays(tmp_path: Path) -> None:
    contents = [f"object {number}".encode() for number in range(3)]
    source, names = Source(*contents), [digest_of(content) for content in contents]

    async def story() -> None:
        before = ObjectFolder(tmp_path / "models", ".bin", 3)
        for number, name in enumerate(names):
            os.utime(await before.have(name, source), (number, number))
        await before.have(names[0], source)
        await ObjectFolder(tmp_path / "models", ".bin", 2).have(names[1], source)
        assert {file.name for file in (tmp_path / "models").iterdir()} == {f"{names[0]}.bin", f"{names[1]}.bin"}

    asyncio.run(story())
