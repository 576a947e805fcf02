"""The shelf: fetched once, kept while it is held, bounded beyond."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import IO

import pytest
from combiner_rig import ANNA, BERT, Rig, a_combiner, a_model, digest_of, one_piece, until

from fedn_py.combiner.coming import Coming
from fedn_py.combiner.ports import Arriving
from fedn_py.combiner.shelf import Shelf, the_rest
from fedn_py.combiner.upstream import StoreUpstream
from fedn_py.errors import FednError
from fedn_py.identity import Digest, Generation
from fedn_py.model.layout import NotAModel
from fedn_py.protocol.combiner_work import ObjectsNotFetched
from fedn_py.runtime.scratch import DiskFailed
from fedn_py.store.memory import MemoryObjects
from fedn_py.store.ports import ObjectMissing, StoreUnavailable
from fedn_py.transport.transfer import download


class CountingUpstream(StoreUpstream):
    """Counts what is fetched, and holds it back until told."""

    def __init__(self, objects: MemoryObjects) -> None:
        super().__init__(objects)
        self.fetched: Counter[Digest] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self, digest: Digest, into: Path, arriving: Arriving | None = None) -> None:
        self.fetched[digest] += 1
        await self.gate.wait()
        await super().fetch(digest, into, arriving)


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


# ---- as it comes


class Trickle(StoreUpstream):
    """Brings an object in as many bytes as it is told, and then ends as it is told."""

    def __init__(self, content: bytes) -> None:
        super().__init__(MemoryObjects())
        self.content = content
        self.steps: asyncio.Queue[int | FednError] = asyncio.Queue()

    async def fetch(self, digest: Digest, into: Path, arriving: Arriving | None = None) -> None:
        assert arriving is not None
        part, here = into.with_name("part"), 0
        with part.open("wb", buffering=0) as file:
            while here < len(self.content):
                here += await self._step(file, here)
                arriving(part, here, len(self.content))
        await self._step(file, here)
        part.replace(into)

    async def _step(self, file: IO[bytes], here: int) -> int:
        step = await self.steps.get()
        if isinstance(step, FednError):
            raise step
        return file.write(self.content[here : here + step]) if step else 0


MODEL = a_model(300_000)


def trickling(folder: Path) -> tuple[Shelf, Trickle]:
    folder.mkdir()
    upstream = Trickle(MODEL)
    return Shelf(upstream, folder), upstream


async def given_out(shelf: Shelf, offset: int, into: bytearray) -> None:
    async for piece in shelf.get(digest_of(MODEL), offset=offset):
        into.extend(piece)


def test_a_model_is_given_out_while_it_comes_and_its_last_byte_when_it_is_whole(tmp_path: Path) -> None:
    async def story() -> None:
        shelf, upstream = trickling(tmp_path / "shelf")
        holding = asyncio.create_task(shelf.hold_as_it_comes(digest_of(MODEL)))
        await asyncio.sleep(0.02)
        assert not holding.done()
        upstream.steps.put_nowait(300_000)
        layout = await holding
        assert layout.n_parameters == 300_000
        assert (await shelf.stat(digest_of(MODEL))).size == len(MODEL)
        rest = asyncio.create_task(shelf.rest([digest_of(MODEL)]))
        received = [bytearray(), bytearray(MODEL[:700_000])]
        takers = [asyncio.create_task(given_out(shelf, len(one), one)) for one in received]
        await until(lambda: len(received[0]) == 300_000)
        upstream.steps.put_nowait(len(MODEL))
        await until(lambda: len(received[0]) == len(received[1]) == len(MODEL) - 1)
        await asyncio.sleep(0.02)
        assert not any(taker.done() for taker in takers)
        assert not rest.done()
        upstream.steps.put_nowait(0)
        await asyncio.gather(*takers, rest)
        assert received == [MODEL, MODEL]
        assert await content_of(shelf, digest_of(MODEL)) == MODEL
        assert (await shelf.hold_as_it_comes(digest_of(MODEL))).n_parameters == 300_000

    asyncio.run(story())


def test_a_model_that_does_not_come_whole_is_never_given_out_whole_and_can_be_had_anew(tmp_path: Path) -> None:
    async def story() -> None:
        shelf, upstream = trickling(tmp_path / "shelf")
        upstream.steps.put_nowait(len(MODEL))
        await shelf.hold_as_it_comes(digest_of(MODEL))
        received = bytearray()
        taker = asyncio.create_task(given_out(shelf, 0, received))
        ending = asyncio.create_task(the_rest(shelf, Generation(7), [digest_of(MODEL)]))
        await until(lambda: len(received) == len(MODEL) - 1)
        upstream.steps.put_nowait(StoreUnavailable("gone"))
        with pytest.raises(StoreUnavailable):
            await taker
        assert await ending == [ObjectsNotFetched(Generation(7), "StoreUnavailable: gone")]
        with pytest.raises(ObjectMissing):
            await shelf.stat(digest_of(MODEL))
        for step in (len(MODEL), 0):
            upstream.steps.put_nowait(step)
        await shelf.hold([digest_of(MODEL)])
        await given_out(shelf, len(received), received)
        assert received == MODEL

    asyncio.run(story())


def test_a_model_that_cannot_be_had_fails_before_anybody_is_asked_to_train_it(tmp_path: Path) -> None:
    async def story() -> None:
        shelf, upstream = trickling(tmp_path / "shelf")
        upstream.steps.put_nowait(StoreUnavailable("away"))
        with pytest.raises(StoreUnavailable):
            await shelf.hold_as_it_comes(digest_of(MODEL))
        no_model, _ = await a_shelf(tmp_path / "other", b"no model", b"")
        for content in (b"no model", b""):
            with pytest.raises(NotAModel):
                await no_model.hold_as_it_comes(digest_of(content))

    asyncio.run(story())


def test_a_transfer_that_began_anew_is_said_to_those_who_took_from_the_first(tmp_path: Path) -> None:
    async def story() -> None:
        coming = Coming(digest_of(MODEL), tmp_path / "whole")
        first, second = tmp_path / "first", tmp_path / "second"
        first.write_bytes(MODEL[:1000])
        coming.moved(first, 1000, len(MODEL))
        pieces = coming.pieces(0)
        received = await anext(pieces)
        assert received == MODEL[:1000]
        first.unlink()
        second.write_bytes(MODEL)
        second.rename(tmp_path / "whole")
        coming.arrived(len(MODEL))
        with pytest.raises(StoreUnavailable, match="anew"):
            await anext(pieces)
        rest = b"".join([piece async for piece in coming.pieces(1000)])
        assert received + rest == MODEL

    asyncio.run(story())
