"""What is inside packages and models: the right answer, little memory, and few reads of the stores."""

import asyncio
import json
import math
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from artifacts import MANIFEST, a_model, a_package, chunked
from reducer_network import Network, a_network
from store_reads import counted_reads

from fedn_py.identity import Digest
from fedn_py.reducer import contents
from fedn_py.reducer.control_faults import UnknownModel, UnknownPackage
from fedn_py.reducer.shown_contents import PackageFileView, TensorView
from fedn_py.store.ports import ObjectCorrupt


def in_a_network(scratch: Path, story: Callable[[Network], Awaitable[None]]) -> None:
    async def told() -> None:
        async with a_network(scratch) as network:
            await story(network)

    asyncio.run(told())


def test_the_files_of_a_package_are_told_with_their_sizes(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        files = {"fedn.yaml": MANIFEST, "model.py": b"print('hello')", "data/labels.txt": b"one\ntwo\n"}
        package = await network.control.upload_package(chunked(a_package(files)))
        assert await network.control.package_files(package.digest) == tuple(
            PackageFileView(path, len(content)) for path, content in files.items()
        )
        with pytest.raises(UnknownPackage):
            await network.control.package_files(Digest("0" * 64))

    in_a_network(tmp_path, story)
    assert list(tmp_path.iterdir()) == []  # the archive is gone again


def test_the_tensors_of_a_model_are_told_with_what_their_numbers_are_like(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        model = a_model({"w": ("F32", (1.0, 2.0, 3.0)), "none": ("F32", ()), "steps": ("I64", (7, 0))})
        digest = (await network.control.upload_model(chunked(model))).digest
        thirds = pytest.approx(math.sqrt(2 / 3))
        assert {one.name: one for one in await network.control.model_tensors(digest)} == {
            "w": TensorView("w", "F32", (3,), 12, 1.0, 3.0, 2.0, thirds, 0.0, 0),  # type: ignore[arg-type]
            "none": TensorView("none", "F32", (0,), 0, None, None, None, None, 0.0, 0),
            "steps": TensorView("steps", "I64", (2,), 16, 0.0, 7.0, 3.5, 3.5, 0.5, 0),
        }
        with pytest.raises(UnknownModel):
            await network.control.model_tensors(Digest("0" * 64))

    in_a_network(tmp_path, story)


def test_the_tensors_of_a_trained_model_are_told_too(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        await network.combiner()
        await network.start_session()
        await network.at_rest()
        (newest, seed) = (await network.control.models(None)).items
        made, first = [await network.control.model_tensors(one.digest) for one in (newest, seed)]
        assert [(one.name, one.shape) for one in made] == [(one.name, one.shape) for one in first]
        assert made[0].mean != first[0].mean

    in_a_network(tmp_path, story)


def test_asking_again_reads_no_object_and_few_documents(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        package = (await network.control.upload_package(chunked(a_package()))).digest
        model = (await network.control.upload_model(chunked(a_model()))).digest
        first = await network.control.package_files(package), await network.control.model_tensors(model)
        read: list[Digest] = []
        real = network.stored.objects.get

        def noting(digest: Digest, *, offset: int = 0) -> AsyncIterator[bytes]:
            async def pieces() -> AsyncIterator[bytes]:
                read.append(digest)
                async for piece in real(digest, offset=offset):
                    yield piece

            return pieces()

        network.stored.objects.get = noting  # type: ignore[method-assign, assignment]
        with counted_reads(network.documents) as reads:
            assert await network.control.package_files(package) == first[0]
        assert (reads.queries, reads.documents) == (1, 1)
        with counted_reads(network.documents) as reads:
            assert await network.control.model_tensors(model) == first[1]
        assert reads.queries <= 2
        assert read == []

    in_a_network(tmp_path, story)


def test_a_damaged_object_is_told_and_looked_at_anew_once_it_is_put_back(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        model = a_model({"w": ("F32", (1.0,) * 400_000)})
        digest = (await network.control.upload_model(chunked(model, 100_000))).digest
        network.stored.objects.contents[digest] = model[:-1] + b"\x01"
        with pytest.raises(ObjectCorrupt):
            await network.control.model_tensors(digest)
        network.stored.objects.contents[digest] = model
        assert (await network.control.model_tensors(digest))[0].mean == 1.0

    in_a_network(tmp_path, story)


def test_a_model_of_any_size_takes_little_memory() -> None:
    piece, pieces = bytes(1 << 20), 100
    entry = {"dtype": "F32", "shape": [pieces << 18], "data_offsets": [0, pieces << 20]}
    header = json.dumps({"w": entry}).encode()
    head = len(header).to_bytes(8, "little") + header

    async def stream() -> AsyncIterator[bytes]:
        yield head
        for _ in range(pieces):
            yield piece

    tracemalloc.start()
    try:
        (tensor,) = asyncio.run(contents._tensors(len(head) + (pieces << 20), stream()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tensor.zeros, tensor.mean, tensor.size) == (1.0, 0.0, pieces << 20)
    assert peak < 24 << 20
