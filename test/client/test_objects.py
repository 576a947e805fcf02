"""The client's objects: what they are named after, or fetched anew; bounded."""

import asyncio
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
