"""The next global model: the base and the mean of the sums, exactly rounded, a piece at a time, nothing left behind."""

import asyncio
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from artifacts import a_model, a_sum, chunked, names_in
from awaiting import until
from unruly_store import Trouble, UnrulyObjects

from fedn_py.aggregation.weighted_sum import NoWeight
from fedn_py.errors import FednError
from fedn_py.identity import Digest
from fedn_py.model.layout import NotAModel
from fedn_py.model.pieces import WrongLength
from fedn_py.model.vector import NotFinite
from fedn_py.reducer import merging
from fedn_py.reducer.merging import next_model
from fedn_py.runtime.scratch import DiskFailed
from fedn_py.store import folder
from fedn_py.store.folder import open_folder
from fedn_py.store.memory import MemoryObjects
from fedn_py.store.ports import ObjectCorrupt, ObjectMissing, StoreUnavailable

BASE = a_model({"w": ("F32", (1.0, 2.0, 3.0)), "steps": ("I64", (7,))})


async def kept(objects: MemoryObjects, *contents: bytes) -> list[Digest]:
    return [(await objects.put(chunked(content))).digest for content in contents]


def merged(scratch: Path, base: bytes, sums: list[bytes], weights: list[int]) -> bytes:
    async def story() -> bytes:
        objects = MemoryObjects()
        base_digest, *digests = await kept(objects, base, *sums)
        stat = await next_model(objects, base_digest, digests, weights, scratch)
        assert stat.size == len(base)
        return objects.contents[stat.digest]

    return asyncio.run(story())


@pytest.mark.parametrize("dtype", ["F16", "F32", "F64"])
def test_it_is_the_weighted_mean_in_exact_arithmetic(tmp_path: Path, dtype: str) -> None:
    random = np.random.default_rng(3)
    base = random.normal(size=501)
    sums = [random.normal(size=501) * scale for scale in (1.0, 50.0, 1e-3, 7.0)]
    weights = [3, 170, 1, 26]
    model = merged(tmp_path, a_model({"w": (dtype, list(base))}), [a_sum(list(one)) for one in sums], weights)
    got = safetensors.numpy.load(model)["w"].astype(np.float64)
    stored = safetensors.numpy.load(a_model({"w": (dtype, list(base))}))["w"].astype(np.float64)
    step = {"F16": 2.0**-10, "F32": 2.0**-23, "F64": 2.0**-51}[dtype]
    for place in range(501):
        mean = sum(Fraction(float(one[place])) for one in sums) / sum(weights)
        exact = Fraction(float(stored[place])) + mean
        size = max(abs(exact), sum(abs(Fraction(float(one[place]))) for one in sums) / sum(weights), Fraction(1, 1000))
        assert abs(Fraction(float(got[place])) - exact) <= size * Fraction(step)


def test_integers_keep_the_values_of_the_base(tmp_path: Path) -> None:
    model = safetensors.numpy.load(merged(tmp_path, BASE, [a_sum([4.0, 8.0, 12.0])], [4]))
    assert list(model["w"]) == [2.0, 4.0, 6.0]
    assert list(model["steps"]) == [7]


def test_the_order_of_the_sums_and_how_they_are_split_makes_no_difference(tmp_path: Path) -> None:
    one = merged(tmp_path, BASE, [a_sum([3.0, 5.0, 7.0])], [6])
    two = merged(tmp_path, BASE, [a_sum([1.0, 2.0, 3.0]), a_sum([2.0, 3.0, 4.0])], [2, 4])
    turned = merged(tmp_path, BASE, [a_sum([2.0, 3.0, 4.0]), a_sum([1.0, 2.0, 3.0])], [4, 2])
    assert one == two == turned


def test_two_combiners_may_send_the_same_sum(tmp_path: Path) -> None:
    same = a_sum([1.0, 2.0, 3.0])
    assert merged(tmp_path, BASE, [same, same], [1, 1]) == merged(tmp_path, BASE, [same], [1])


@pytest.mark.parametrize(
    ("base", "sums", "weights", "fault"),
    [
        (BASE, [a_sum([1.0, 2.0])], [1], WrongLength),
        (BASE, [a_sum([1.0, 2.0, 3.0, 4.0])], [1], WrongLength),
        (BASE, [a_sum([1.0, 2.0, 3.0])[:-1]], [1], WrongLength),
        (BASE, [b""], [1], WrongLength),
        (BASE, [a_sum([1.0, 2.0, 3.0]), b""], [1, 1], WrongLength),
        (BASE, [a_sum([1.0, float("nan"), 3.0])], [1], NotFinite),
        (BASE, [a_sum([1e300, 1.0, 3.0])], [1], NotFinite),
        (BASE, [a_sum([1.0, 2.0, 3.0])], [0], NoWeight),
        (BASE, [], [], NoWeight),
        (b"", [a_sum([1.0, 2.0, 3.0])], [1], NotAModel),
        (b"no model", [a_sum([1.0, 2.0, 3.0])], [1], NotAModel),
    ],
)
def test_what_makes_no_model_is_refused_by_name_and_leaves_nothing(
    tmp_path: Path, base: bytes, sums: list[bytes], weights: list[int], fault: type[FednError]
) -> None:
    async def story() -> None:
        objects = MemoryObjects()
        base_digest, *digests = await kept(objects, base, *sums)
        before = set(objects.contents)
        with pytest.raises(fault):
            await next_model(objects, base_digest, digests, weights, tmp_path)
        assert set(objects.contents) == before

    asyncio.run(story())
    assert names_in(tmp_path) == []


def test_an_object_that_is_gone_or_damaged_is_named(tmp_path: Path) -> None:
    async def story() -> None:
        objects = MemoryObjects()
        base, total = await kept(objects, BASE, a_sum([1.0, 2.0, 3.0]))
        with pytest.raises(ObjectMissing):
            await next_model(objects, base, [Digest("0" * 64)], [1], tmp_path)
        objects.contents[total] = a_sum([1.0, 2.0, 4.0])
        with pytest.raises(ObjectCorrupt):
            await next_model(objects, base, [total], [1], tmp_path)

    asyncio.run(story())
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("damaged", [0, 1])
@pytest.mark.parametrize("harm", [lambda content: content[:-1] + b"x", lambda content: content[:-1], lambda _: b""])
def test_files_of_the_store_are_merged_where_they_are_and_nothing_comes_of_damaged_ones(
    tmp_path: Path, damaged: int, harm: Callable[[bytes], bytes]
) -> None:
    async def story() -> None:
        objects = await open_folder(tmp_path / "objects")
        contents = BASE, a_sum([1.0, 2.0, 3.0])
        digests = [(await objects.put(chunked(content))).digest for content in contents]
        model = await next_model(objects, digests[0], digests[1:], [1], tmp_path)
        stored = b"".join([piece async for piece in objects.get(model.digest)])
        assert list(safetensors.numpy.load(stored)["w"]) == [2.0, 4.0, 6.0]
        await objects.delete(model.digest)
        before = {stat.digest async for stat in objects.list()}
        (tmp_path / "objects" / digests[damaged][:2] / digests[damaged]).write_bytes(harm(contents[damaged]))
        with pytest.raises(ObjectCorrupt, match=digests[damaged]):
            await next_model(objects, digests[0], digests[1:], [1], tmp_path)
        assert {stat.digest async for stat in objects.list()} == before
        await objects.close()

    asyncio.run(story())
    assert names_in(tmp_path) == ["objects"]


@pytest.mark.parametrize("lain", [False, True])
def test_what_was_hashed_as_it_was_stored_is_hashed_once_more_only_when_it_has_lain_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lain: bool
) -> None:
    checked: list[Digest] = []
    monkeypatch.setattr(merging, "check_file", lambda _, digest: checked.append(digest))

    async def story() -> list[Digest]:
        objects = await open_folder(tmp_path / "objects")
        base, total = [(await objects.put(chunked(one))).digest for one in (BASE, a_sum([1.0, 2.0, 3.0]))]
        if lain:
            monkeypatch.setattr(folder, "_FRESH_S", 0.0)
        await next_model(objects, base, [total], [1], tmp_path)
        await objects.close()
        return [base, total]

    stored = asyncio.run(story())
    assert sorted(checked) == (sorted(stored) if lain else [])


def test_no_file_is_left_whichever_call_of_the_store_fails(tmp_path: Path) -> None:
    async def story() -> None:
        for at in range(1, 20):
            objects, trouble = MemoryObjects(), Trouble()
            base, *sums = await kept(objects, BASE, a_sum([1.0, 2.0, 3.0]), a_sum([4.0, 5.0, 6.0]))
            trouble.begin(at, "fails")
            unruly = UnrulyObjects(objects, trouble)
            if at <= 4:
                with pytest.raises(StoreUnavailable):
                    await next_model(unruly, base, sums, [1, 1], tmp_path)
            else:
                await next_model(unruly, base, sums, [1, 1], tmp_path)
            assert names_in(tmp_path) == []
            if not trouble.struck:
                return
        raise AssertionError("the loop must end by itself")

    asyncio.run(story())


def test_when_one_object_cannot_be_fetched_nobody_goes_on_fetching_the_others(tmp_path: Path) -> None:
    class Slow(MemoryObjects):
        fetching = 0

        async def get(self, digest: Digest, *, offset: int = 0) -> AsyncIterator[bytes]:
            if digest not in self.contents:
                raise StoreUnavailable("gone")
            self.fetching += 1
            try:
                await asyncio.Event().wait()
                yield b""
            finally:
                self.fetching -= 1

    async def story() -> None:
        objects = Slow()
        (base,) = await kept(objects, BASE)
        with pytest.raises(StoreUnavailable):
            await next_model(objects, base, [Digest("0" * 64)], [1], tmp_path)
        assert objects.fetching == 0

    asyncio.run(story())


def test_a_scratch_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    async def story() -> None:
        objects = MemoryObjects()
        base, total = await kept(objects, BASE, a_sum([1.0, 2.0, 3.0]))
        with pytest.raises(DiskFailed, match="merging"):
            await next_model(objects, base, [total], [1], tmp_path / "gone")

    asyncio.run(story())


def test_a_merge_that_is_cancelled_while_it_computes_ends_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    real = merging.apply_mean

    def slow(*args: object) -> object:
        for piece in real(*args):  # type: ignore[arg-type]
            begun.set()
            go_on.wait(10)
            yield piece

    monkeypatch.setattr(merging, "apply_mean", slow)

    async def story() -> None:
        objects = MemoryObjects()
        base, total = await kept(objects, BASE, a_sum([1.0, 2.0, 3.0]))
        merge = asyncio.create_task(next_model(objects, base, [total], [1], tmp_path))
        await until(begun.is_set)
        merge.cancel()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await merge
        assert names_in(tmp_path) == []

    asyncio.run(story())


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    class Counting(MemoryObjects):
        async def put(self, chunks: AsyncIterator[bytes], *, expected: Digest | None = None):  # type: ignore[no-untyped-def]
            tracemalloc.start()
            size = 0
            async for chunk in chunks:
                size += len(chunk)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert size > 16_000_000
            assert peak < 20_000_000  # some pieces, sooner or later let go of by threads; the model alone has 16 MB
            return await super().put(chunked(b"done"))

    async def story() -> None:
        objects = Counting()
        values = np.zeros(4_000_000)
        inner = MemoryObjects()
        base, *sums = await kept(
            inner, a_model({"w": ("F32", values)}), values.tobytes(), (values + 1).tobytes(), (values + 2).tobytes()
        )
        objects.contents = inner.contents
        await next_model(objects, base, sums, [1, 1, 1], tmp_path)

    asyncio.run(story())
