"""From partial aggregates to the next global model: fetched to scratch files, merged piece by piece, stored."""

import asyncio
import mmap
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from fedn_py.aggregation.weighted_sum import mean_chunks
from fedn_py.identity import Digest
from fedn_py.model.pieces import elements
from fedn_py.model.vector import apply_mean
from fedn_py.runtime.model_files import mapped_model
from fedn_py.runtime.scratch import disk_faults
from fedn_py.store.ports import Objects, ObjectStat
from fedn_py.transport.completion import in_thread

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
    async with folder_in(scratch, "merging partial aggregates") as folder:
        paths = [folder / "base", *(folder / f"sum-{number}" for number in range(len(sums)))]
        await all_or_none(fetch(objects, d, p) for d, p in zip([base, *sums], paths, strict=True))
        return await store_drawn(objects, lambda: _merged(paths[0], paths[1:], weights))


@asynccontextmanager
async def folder_in(scratch: Path, doing: str) -> AsyncIterator[Path]:
    """Make a folder for the files at hand, which are gone afterwards.

    Args:
        doing: what is being done, for the message of a fault.
    """
    with disk_faults(doing):
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="merge-", dir=scratch))
    try:
        yield folder
    finally:
        await in_thread(shutil.rmtree, folder, ignore_errors=True)


async def all_or_none(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all of it at once; where one fails, end the others before its fault is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def fetch(objects: Objects, digest: Digest, path: Path) -> None:
    """Copy an object to a file."""
    with disk_faults("fetching an object"), path.open("wb") as file:
        async for chunk in objects.get(digest):
            await in_thread(file.write, chunk)


def _merged(base: Path, sums: Sequence[Path], weights: Sequence[int]) -> Iterator[bytes]:
    with ExitStack() as opened:
        model, layout = opened.enter_context(mapped_model(base))
        streams = [elements(_pieces(opened, path), "<f8") for path in sums]
        yield from apply_mean(model, layout, mean_chunks(streams, weights, layout.n_parameters))


def _pieces(opened: ExitStack, path: Path) -> Iterator[bytes]:
    if not path.stat().st_size:  # an empty file cannot be mapped
        return iter(())
    file = opened.enter_context(path.open("rb"))
    mapped = opened.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return (mapped[start : start + _PIECE_BYTES] for start in range(0, len(mapped), _PIECE_BYTES))


async def store_drawn(objects: Objects, make: Callable[[], Iterator[bytes]]) -> ObjectStat:
    """Store what a heavy iterator yields."""
    async with aclosing(_drawn_in_thread(make)) as pieces:
        return await objects.put(pieces)


async def _drawn_in_thread(make: Callable[[], Iterator[bytes]]) -> AsyncGenerator[bytes, None]:
    """Draw each piece of a heavy iterator in a worker thread, so that the event loop goes on."""
    pieces = make()
    try:
        while (piece := await in_thread(next, pieces, None)) is not None:
            yield piece
    finally:
        await in_thread(pieces.close)  # type: ignore[attr-defined]
