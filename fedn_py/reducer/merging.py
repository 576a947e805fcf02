"""From partial aggregates to the next global model: fetched to scratch files, merged piece by piece, stored."""

import asyncio
import mmap
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from fedn_py.aggregation.weighted_sum import mean_chunks
from fedn_py.identity import Digest
from fedn_py.model.pieces import elements
from fedn_py.model.vector import apply_mean
from fedn_py.runtime.model_files import mapped_model
from fedn_py.runtime.scratch import disk_faults
from fedn_py.store.ports import Objects, ObjectStat

_PIECE_BYTES = 1024 * 1024


async def next_model(
    objects: Objects, base: Digest, sums: Sequence[Digest], weights: Sequence[int], scratch: Path
) -> ObjectStat:
    """Store (base + sum of the sums / sum of the weights) as a model and return its digest.

    Args:
        sums: float64[n_parameters] objects, one a combiner.
        weights: the sum of the samples in each.
        scratch: folder for the files at hand; needs room for the base and the sums.

    Raises:
        StoreUnavailable, ObjectMissing, ObjectCorrupt: of the store.
        DiskFull, DiskFailed: of the scratch folder.
        NoWeight, WrongLength, NotFinite: the sums do not make a model.
    """
    with disk_faults("merging partial aggregates"):
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="merge-", dir=scratch))
    try:
        paths = [folder / "base", *(folder / f"sum-{number}" for number in range(len(sums)))]
        await asyncio.gather(*(fetch(objects, d, p) for d, p in zip([base, *sums], paths, strict=True)))
        return await objects.put(_drawn_in_thread(lambda: _merged(paths[0], paths[1:], weights)))
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def fetch(objects: Objects, digest: Digest, path: Path) -> None:
    """Copy an object to a file."""
    with disk_faults("fetching an object"), path.open("wb") as file:
        async for chunk in objects.get(digest):
            await asyncio.to_thread(file.write, chunk)


def _merged(base: Path, sums: Sequence[Path], weights: Sequence[int]) -> Iterator[bytes]:
    with ExitStack() as opened:
        model, layout = opened.enter_context(mapped_model(base))
        streams = [elements(_pieces(_mapped(opened, path)), "<f8") for path in sums]
        yield from apply_mean(model, layout, mean_chunks(streams, weights, layout.n_parameters))


def _mapped(opened: ExitStack, path: Path) -> mmap.mmap:
    file = opened.enter_context(path.open("rb"))
    return opened.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _pieces(mapped: mmap.mmap) -> Iterator[bytes]:
    return (mapped[start : start + _PIECE_BYTES] for start in range(0, len(mapped), _PIECE_BYTES))


async def _drawn_in_thread(make: Callable[[], Iterator[bytes]]) -> AsyncIterator[bytes]:
    """Draw each piece of a heavy iterator in a worker thread, so that the event loop goes on."""
    pieces = make()
    try:
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece
    finally:
        await asyncio.to_thread(pieces.close)  # type: ignore[attr-defined]
