"""Masked cells opened, added and made into a model: exact, and never on a disk."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from artifacts import a_model, chunked, names_in
from closed_cells import (
    METRICS,
    ACell,
    a_base,
    an_encoding,
    opened,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_world import RSK

from fedn_py.errors import FednError
from fedn_py.identity import Digest
from fedn_py.model.pieces import WrongLength
from fedn_py.model.vector import NotFinite
from fedn_py.protocol.masked.answers import PIECE_BYTES
from fedn_py.reducer import unmasking
from fedn_py.reducer.unmasking import (
    CellOutcome,
    MaskedModel,
    OtherCellsOpened,
    masked_model,
    open_cells,
)
from fedn_py.runtime.scratch import DiskFailed
from fedn_py.store.memory import MemoryObjects
from fedn_py.store.ports import ObjectMissing, StoreUnavailable


def the_model(
    scratch: Path, cells: Sequence[ACell], base: bytes, names: Sequence[str] = METRICS
) -> tuple[bytes, MaskedModel]:
    async def story() -> tuple[bytes, MaskedModel]:
        objects, encoding = MemoryObjects(), cells[0].encoding
        parent = (await objects.put(chunked(base))).digest
        found = await open_cells(objects, [await one.stored(objects) for one in cells], encoding, RSK, scratch)
        assert all(outcome == CellOutcome(None) for outcome in found.outcomes.values())
        ctxs = [one.ctx for one in cells]
        made = await masked_model(objects, parent, found, ctxs, encoding, names, scratch)
        assert made.stat.size == len(base)
        return objects.contents[made.stat.digest], made

    found = asyncio.run(story())
    assert names_in(scratch) == []
    return found


# ---- what comes out


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 10), min_size=1, max_size=3),
    k=st.integers(1, 4),
    n=st.sampled_from([1, 20, 700]),
    seed=st.integers(0, 1000),
)
def test_the_model_is_the_base_and_the_mean_in_exact_integers(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], k: int, n: int, seed: int
) -> None:
    encoding, base = an_encoding(n), a_base(n, "F64")
    cells = [ACell(f"cell{place}", encoding, k=k, n=size, seed=seed).made() for place, size in enumerate(sizes)]
    model, made = the_model(tmp_path_factory.mktemp("exact"), cells, base)
    exact = [cell.exact() for cell in cells]
    weight = sum(weight for _, weight in exact)
    got = safetensors.numpy.load(model)["w"]
    before = safetensors.numpy.load(base)["w"]
    for place in range(n):
        total = sum(sums[place] for sums, _ in exact)
        mean = Fraction(total) / Fraction(encoding.scale) / Fraction(weight, encoding.weight_cap)
        assert abs(Fraction(float(got[place])) - Fraction(float(before[place])) - mean) < Fraction(1, 2**50)
    assert made.samples == weight == sum(min(one, 100) for cell in cells for one in cell.samples)


@pytest.mark.parametrize("n", [20, PIECE_BYTES // 4 - 13, PIECE_BYTES // 4 - 12, PIECE_BYTES // 4 + 5, 300_000])
def test_the_mean_is_within_its_bound_of_floating_point_whatever_the_pieces(tmp_path: Path, n: int) -> None:
    encoding = an_encoding(n)
    cells = [ACell("north", encoding, k=3).made(), ACell("south", encoding, k=3, n=2).made()]
    model, _ = the_model(tmp_path, cells, a_base(n, "F64"))
    weights = np.array([min(one, 100) for cell in cells for one in cell.samples], np.float64)
    values = np.clip(np.array([one for cell in cells for one in cell.values], np.float64), -1, 1)
    oracle = weights @ values / weights.sum()
    mean = safetensors.numpy.load(model)["w"] - safetensors.numpy.load(a_base(n, "F64"))["w"]
    assert np.abs(mean - oracle).max() <= encoding.error_bound(5, int(weights.sum())) + 1e-15


def test_integers_keep_the_values_of_the_base(tmp_path: Path) -> None:
    model, _ = the_model(tmp_path, [ACell("north", an_encoding()).made()], a_base(20))
    assert list(safetensors.numpy.load(model)["steps"]) == [7]


def test_metrics_are_the_means_over_those_who_gave_them(tmp_path: Path) -> None:
    cells = [
        ACell("north", an_encoding(weight_cap=150)).made(),
        ACell("south", an_encoding(weight_cap=150), n=2).made(),
    ]
    _, made = the_model(tmp_path, cells, a_base(20))
    given_ = [(w, m) for cell in cells for w, m in zip(cell.samples, cell.metrics, strict=True)]
    losses = [(w, m[2]) for w, m in given_ if m[3]]
    assert set(made.metrics) == {"clip_fraction", "loss"}
    assert made.metrics["clip_fraction"] == pytest.approx(
        sum(w * m[0] for w, m in given_) / sum(w for w, _ in given_), abs=1e-5
    )
    assert made.metrics["loss"] == pytest.approx(sum(w * m for w, m in losses) / sum(w for w, _ in losses), abs=1e-4)


@pytest.mark.parametrize(
    ("has", "fewest"),
    [
        ([1.0, 1.0, 1.0, 1.0], 4),  # the whole weight: so all of them
        ([1.0, 1.0, 1.0, 0.0], 3),
        ([1.0, 1.0, 0.0, 0.0], 2),
        ([1.0, 0.0, 0.0, 0.0], 1),
        ([0.0, 0.0, 0.0, 1.0], 1),  # light as it is
        ([0.0, 1.0, 1.0, 1.0], 3),
    ],
)
def test_who_gave_a_metric_is_told_by_their_weight_and_never_as_more_than_they_are(
    tmp_path: Path, has: list[float], fewest: int
) -> None:
    cell = ACell("north", an_encoding(weight_cap=100), n=4)
    cell.samples, cell.metrics = [100, 100, 90, 40], [(0.5, 1.0, 1.0, one) for one in has]
    _, made = the_model(tmp_path, [cell.made()], a_base(20))
    assert made.givers == {"clip_fraction": 4, "loss": fewest}


def test_a_metric_that_nobody_gave_is_absent(tmp_path: Path) -> None:
    cell = ACell("north", an_encoding())
    cell.metrics = [(0.5, 1.0, 0.0, 0.0)] * cell.n
    _, made = the_model(tmp_path, [cell.made()], a_base(20))
    assert made.metrics == {"clip_fraction": pytest.approx(0.5, abs=1e-5)}


def test_a_metric_at_its_bound_does_not_come_out_beyond_it(tmp_path: Path) -> None:
    cell = ACell("north", an_encoding(n_max=10, weight_cap=100_000_000))
    cell.samples, cell.metrics = [1, 1, 1], [(1.0, 1.0, -8.0, 1.0)] * cell.n
    _, made = the_model(tmp_path, [cell.made()], a_base(20))
    assert made.metrics["clip_fraction"] <= 1.0
    assert made.metrics["loss"] >= -8.0


def test_samples_are_counted_in_the_unit_of_the_weights(tmp_path: Path) -> None:
    cell = ACell("north", an_encoding(weight_unit=10))
    cell.samples = [10, 40, 1_000]
    _, made = the_model(tmp_path, [cell.made()], a_base(20))
    assert made.samples == 1_050


def test_the_same_cells_in_another_order_make_the_same_model(tmp_path: Path) -> None:
    cells = [ACell("north", an_encoding()).made(), ACell("south", an_encoding(), n=5).made()]
    assert the_model(tmp_path, cells, a_base(20))[0] == the_model(tmp_path, cells[::-1], a_base(20))[0]


def test_a_cell_that_does_not_open_is_not_in_the_total(tmp_path: Path) -> None:
    good, bad = ACell("north", an_encoding()).made(), ACell("south", an_encoding()).made()
    bad.answer(0, 0, bad.slot_sum(1))
    both, alone = opened(tmp_path, bad, good), opened(tmp_path, good)
    assert both.passed == alone.passed == {good.ctx}
    assert [list(piece) for piece in both.mean()] == [list(piece) for piece in alone.mean()]
    assert both.samples == alone.samples


# ---- stores, disks, memory


def test_a_model_is_made_of_exactly_the_cells_that_opened(tmp_path: Path) -> None:
    async def story() -> None:
        objects, encoding = MemoryObjects(), an_encoding()
        base = (await objects.put(chunked(a_base(20)))).digest
        cells = [ACell(name, encoding).made() for name in ("north", "south")]
        found = await open_cells(objects, [await one.stored(objects) for one in cells], encoding, RSK, tmp_path)
        for ctxs in ([], [cells[0].ctx], [cells[0].ctx, cells[1].ctx, bytes(32)]):
            with pytest.raises(OtherCellsOpened):
                await masked_model(objects, base, found, ctxs, encoding, METRICS, tmp_path)
        await masked_model(objects, base, found, [one.ctx for one in cells], encoding, METRICS, tmp_path)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("base", "fault"),
    [(a_base(19), WrongLength), (a_base(21), WrongLength), (a_model({"w": ("F16", [65504.0] * 20)}), NotFinite)],
)
def test_what_makes_no_model_is_refused_by_name_and_leaves_nothing(
    tmp_path: Path, base: bytes, fault: type[FednError]
) -> None:
    cell = ACell("north", an_encoding(clip=100.0))
    cell.values = [np.full(20, 99.0, np.float32)] * cell.n
    cell.made()

    async def story() -> None:
        objects = MemoryObjects()
        parent = (await objects.put(chunked(base))).digest
        found = await open_cells(objects, [await cell.stored(objects)], cell.encoding, RSK, tmp_path)
        before = set(objects.contents)
        with pytest.raises(fault):
            await masked_model(objects, parent, found, [cell.ctx], cell.encoding, METRICS, tmp_path)
        assert set(objects.contents) == before

    asyncio.run(story())
    assert names_in(tmp_path) == []


def test_a_store_that_is_away_is_no_fault_of_the_cell(tmp_path: Path) -> None:
    class Away(MemoryObjects):
        async def get(self, digest: Digest, *, offset: int = 0) -> AsyncIterator[bytes]:
            raise StoreUnavailable("the store is away")
            yield b""

    async def story() -> None:
        objects, cell = Away(), ACell("north", an_encoding()).made()
        with pytest.raises(StoreUnavailable):
            await open_cells(objects, [await cell.stored(objects)], cell.encoding, RSK, tmp_path)

    asyncio.run(story())
    assert names_in(tmp_path) == []


def test_a_partial_that_is_gone_is_the_fault_of_its_cell_alone(tmp_path: Path) -> None:
    async def story() -> None:
        objects, encoding = MemoryObjects(), an_encoding()
        cells = [await ACell(name, encoding).made().stored(objects) for name in ("north", "south")]
        await objects.delete(cells[0].partial)
        found = await open_cells(objects, cells, encoding, RSK, tmp_path)
        assert isinstance(found.outcomes[cells[0].ctx].fault, ObjectMissing)
        assert found.passed == {cells[1].ctx}

    asyncio.run(story())


def test_a_scratch_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    async def story() -> None:
        objects, cell = MemoryObjects(), ACell("north", an_encoding()).made()
        with pytest.raises(DiskFailed, match="masked sums"):
            await open_cells(objects, [await cell.stored(objects)], cell.encoding, RSK, tmp_path / "gone")

    asyncio.run(story())


def test_what_is_on_the_disk_is_masked_or_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, bytes] = {}
    real = unmasking._tried

    def looking(*args: object) -> object:
        outcome = real(*args)  # type: ignore[arg-type]
        seen.update({path.name: path.read_bytes() for path in tmp_path.glob("*/*")})
        return outcome

    monkeypatch.setattr(unmasking, "_tried", looking)
    made = ACell("north", an_encoding()).made()
    opened(tmp_path, made)
    assert set(seen.values()) == {made.partial, *made.streams.values()}


@pytest.mark.parametrize(
    ("names", "models_opening", "models_making"), [(("north", "south", "west"), 3, 2), (("north",), 1, 1)]
)
def test_memory_is_three_models_however_many_cells_there_are_and_one_for_a_single_cell(
    tmp_path: Path, names: Sequence[str], models_opening: int, models_making: int
) -> None:
    n = 8_000_000 if len(names) == 1 else 2_000_000
    cells = [ACell(name, an_encoding(n), n=2).made() for name in names]

    async def story() -> tuple[int, int]:
        objects, encoding = MemoryObjects(), cells[0].encoding
        base = (await objects.put(chunked(a_base(n), 1_000_000))).digest
        asked = [await one.stored(objects) for one in cells]
        tracemalloc.start()
        found = await open_cells(objects, asked, encoding, RSK, tmp_path)
        opening = tracemalloc.get_traced_memory()[1]
        objects.put = counting  # type: ignore[method-assign]
        tracemalloc.reset_peak()
        await masked_model(objects, base, found, [one.ctx for one in cells], encoding, METRICS, tmp_path)
        making = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return opening, making

    async def counting(chunks: AsyncIterator[bytes], *, expected: Digest | None = None):  # type: ignore[no-untyped-def]
        async for _ in chunks:
            pass
        return await MemoryObjects().put(chunked(b"done"))

    opening, making = asyncio.run(story())
    assert opening < models_opening * 4 * n + 24_000_000
    assert making < models_making * 4 * n + 24_000_000
