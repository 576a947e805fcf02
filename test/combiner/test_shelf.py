"""The shelf: fetched once, kept while it is held, bounded beyond."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from combiner_rig import ANNA, BERT, Rig, a_combiner, a_model, digest_of, one_piece

from fedn_py.combiner.shelf import Shelf
from fedn_py.combiner.upstream import StoreUpstream
from fedn_py.identity import Digest
from fedn_py.runtime.scratch import DiskFailed
from fedn_py.store.memory import MemoryObjects
from fedn_py.store.ports import ObjectMissing
from fedn_py.transport.transfer import download


class CountingUpstream(StoreUpstream):
    """Counts what is fetched, and holds it back until told."""

    def __init__(self, objects: MemoryObjects) -> None:
        super().__init__(objects)
        self.fetched: Counter[Digest] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self, digest: Digest, into: Path) -> None:
        self.fetched[digest] += 1
        await self.gate.wait()
        await super().fetch(digest, into)


async def a_shelf(folder: Path, *contents: bytes, most_kept: int = 2) -> tuple[Shelf, CountingUpstream]:
    store = MemoryObjects()
    for content in contents:
        await store.put(one_piece(content))
    upstream = CountingUpstream(store)
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240
    return Shelf(upstream, folder, most_kept), upstream


async def content_of(shelf: Shelf, digest: Digest, offset: int = 0) -> bytes:
    assert (await shelf.stat(digest)).size > 0
    return b"".join([chunk async for chunk in shelf.get(digest, offset=offset)])


def test_an_object_is_fetched_once_for_all_that_want_it_at_the_same_time(tmp_path: Path) -> None:
    async def story() -> None:
        shelf, upstream = await a_shelf(tmp_path / "shelf", b"model")
        upstream.gate.clear()
        waiting = [asyncio.create_task(shelf.hold([digest_of(b"model")])) for _ in range(20)]
        await asyncio.sleep(0)
        upstream.gate.set()
        await asyncio.gather(*waiting)
        await shelf.hold([digest_of(b"model")])
        assert upstream.fetched == {digest_of(b"model"): 1}
        assert await content_of(shelf, digest_of(b"model")) == b"model"
        assert await content_of(shelf, digest_of(b"model"), 2) == b"del"

    asyncio.run(story())


def test_many_clients_download_at_once_what_was_fetched_once(tmp_path: Path) -> None:
    model = a_model(300_000)

    async def story() -> None:
        async with asyncio.timeout(60), a_combiner(tmp_path / "combiner") as rig:
            upstream = CountingUpstream(rig.store)
            rig.shelf._upstream = upstream
            plan = await rig.order(ANNA, model=model)
            await rig.collecting()

            async def one(number: int, rig: Rig) -> None:
                async with rig.channel(BERT) as channel:
                    await download(channel, plan.base_model, tmp_path / f"{number}")

            await asyncio.gather(*(one(number, rig) for number in range(8)))
            assert upstream.fetched[plan.base_model] == 1
            assert all((tmp_path / f"{number}").read_bytes() == model for number in range(8))

    asyncio.run(story())


def test_what_is_held_is_never_evicted_and_of_the_rest_the_longest_unused_goes_first(tmp_path: Path) -> None:
    contents = [f"object {number}".encode() for number in range(5)]
    names = [digest_of(content) for content in contents]

    async def story() -> None:
        shelf, upstream = await a_shelf(tmp_path / "shelf", *contents, most_kept=1)
        await shelf.hold(names[:3])  # more than are kept, all of them held
        for name in names[:3]:
            await shelf.stat(name)
        await shelf.stat(names[0])
        await shelf.hold([names[3]])
        assert (await shelf.stat(names[3])).size
        assert (await shelf.stat(names[0])).size
        for name in names[1:3]:
            with pytest.raises(ObjectMissing):
                await shelf.stat(name)
        assert {file.name for file in (tmp_path / "shelf").iterdir()} == {names[0], names[3]}
        await shelf.hold([names[1]])
        assert upstream.fetched[names[1]] == 2

    asyncio.run(story())


def test_orders_that_follow_each_other_at_once_evict_each_object_once_and_none_that_is_held(tmp_path: Path) -> None:
    contents = [f"object {number}".encode() for number in range(6)]
    names = [digest_of(content) for content in contents]

    async def story() -> None:
        shelf, _ = await a_shelf(tmp_path / "shelf", *contents, most_kept=0)
        await shelf.hold(names)
        await asyncio.gather(shelf.hold(names[:1]), shelf.hold(names[:1]), shelf.hold(names[4:]))
        for name in names[4:]:
            assert await content_of(shelf, name)
        assert {file.name for file in (tmp_path / "shelf").iterdir()} == set(names[4:])

    asyncio.run(story())


def test_a_download_that_has_begun_ends_whole_though_its_object_is_evicted(tmp_path: Path) -> None:
    large, other = bytes(3 << 20), b"other"

    async def story() -> None:
        shelf, _ = await a_shelf(tmp_path / "shelf", large, other, most_kept=0)
        await shelf.hold([digest_of(large)])
        stream = shelf.get(digest_of(large))
        received = await anext(stream)
        await shelf.hold([digest_of(other)])
        received += b"".join([chunk async for chunk in stream])
        assert received == large

    asyncio.run(story())


def test_pieces_are_read_from_anywhere_until_their_object_has_left(tmp_path: Path) -> None:
    async def story() -> None:
        shelf, _ = await a_shelf(tmp_path / "shelf", b"model", b"other", most_kept=0)
        model = digest_of(b"model")
        await shelf.hold([model])
        assert [await shelf.piece(model, offset, 3) for offset in (0, 1, 3, 5)] == [b"mod", b"ode", b"el", b""]
        await shelf.hold([digest_of(b"other")])
        with pytest.raises(ObjectMissing):
            await shelf.piece(model, 0, 3)

    asyncio.run(story())


def test_a_fetch_that_failed_leaves_nothing_and_is_tried_again_by_the_next_order(tmp_path: Path) -> None:
    async def story() -> None:
        shelf, upstream = await a_shelf(tmp_path / "shelf")
        with pytest.raises(ObjectMissing):
            await shelf.hold([digest_of(b"model")])
        assert list((tmp_path / "shelf").iterdir()) == []
        await upstream._objects.put(one_piece(b"model"))
        await shelf.hold([digest_of(b"model")])
        assert await content_of(shelf, digest_of(b"model")) == b"model"

    asyncio.run(story())


def test_a_folder_that_is_gone_is_a_fault_with_a_name(tmp_path: Path) -> None:
    async def story() -> None:
        shelf, _ = await a_shelf(tmp_path / "shelf", b"a", b"b", most_kept=0)
        await shelf.hold([digest_of(b"a")])
        shelf.path(digest_of(b"a")).unlink()
        with pytest.raises(DiskFailed):
            await shelf.hold([digest_of(b"b")])

    asyncio.run(story())
