"""From partial aggregates to the next global model: read where they are, merged piece by piece, stored.

Where the store keeps its objects on this disk, their own files are read, and hashed beside the merge unless they were
as they were written moments ago; elsewhere they are copied to scratch files and hashed on the way. Either way nothing
is stored of bytes that are not what their names say.
"""

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from fedn_py.aggregation.weighted_sum import mean_chunks
from fedn_py.errors import FednError
from fedn_py.identity import Digest
from fedn_py.model.pieces import elements
from fedn_py.model.vector import apply_mean
from fedn_py.runtime.model_files import mapped_model
from fedn_py.runtime.scratch import disk_faults
from fedn_py.store.hashing import corrupt
from fedn_py.store.ports import ObjectCorrupt, Objects, ObjectStat
from fedn_py.transport.completion import in_thread

_PIECE_BYTES = 1024 * 1024
_DRAWN_BYTES = 2 * 1024 * 1024


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
        at_hand = AtHand(objects)
        await all_or_none(at_hand.have(d, p) for d, p in zip([base, *sums], paths, strict=True))
        return await store_drawn(objects, lambda: _merged(paths[0], paths[1:], weights), at_hand)


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


class AtHand:
    """Objects in files, to be read only: the store's own under a second name, or checked copies."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._linked: dict[Path, Digest] = {}
        self._unchecked: set[Path] = set()

    async def have(self, digest: Digest, path: Path) -> None:
        """Have an object in a file; raises ObjectMissing, and ObjectCorrupt where it is a copy."""
        with disk_faults("fetching an object"):
            linked = await self._objects.link(digest, path)
            if linked != "not":
                self._linked[path] = digest
                if linked == "to be checked":
                    self._unchecked.add(path)
                return
            with path.open("wb") as file:
                async for chunk in self._objects.get(digest):
                    await in_thread(file.write, chunk)

    async def check(self) -> None:
        """Raise ObjectCorrupt unless each file has what its object's name says; to be done before anything follows.

        Those that were hashed as they were written moments ago, and are as they were, are not read.
        """
        await all_or_none(in_thread(check_file, path, self._linked[path]) for path in self._unchecked)

    def is_whole(self, path: Path) -> bool:
        """Say whether one file has what its object's name says; heavy, for a worker thread."""
        try:
            check_file(path, self._linked[path])
        except KeyError:
            return True
        except ObjectCorrupt:
            return False
        return True


def check_file(path: Path, digest: Digest) -> None:
    """Raise ObjectCorrupt unless a file's bytes hash to ``digest``."""
    with disk_faults("reading an object"), path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise corrupt(digest)


def _merged(base: Path, sums: Sequence[Path], weights: Sequence[int]) -> Iterator[bytes]:
    with ExitStack() as opened:
        model, layout = opened.enter_context(mapped_model(base))
        streams = [elements(_pieces(opened, path), "<f8") for path in sums]
        yield from apply_mean(model, layout, mean_chunks(streams, weights, layout.n_parameters))


def _pieces(opened: ExitStack, path: Path) -> Iterator[memoryview]:
    """Yield a file's bytes, in a buffer that the next piece takes over."""
    file = opened.enter_context(path.open("rb", buffering=0))
    buffer = memoryview(bytearray(_PIECE_BYTES))
    while count := file.readinto(buffer):
        yield buffer[:count]


async def store_drawn(objects: Objects, make: Callable[[], Iterator[bytes]], at_hand: AtHand) -> ObjectStat:
    """Store what a heavy iterator yields.

    Args:
        at_hand: what it is drawn from; checked meanwhile, and nothing is stored where that fails.
    """
    checked = asyncio.ensure_future(at_hand.check())
    try:
        async with aclosing(_drawn_in_thread(make)) as pieces, aclosing(_held_to(pieces, checked)) as held:
            return await objects.put(held)
    finally:
        checked.cancel()
        await asyncio.gather(checked, return_exceptions=True)


async def _held_to(pieces: AsyncIterator[bytes], checked: Awaitable[None]) -> AsyncGenerator[bytes, None]:
    """Pass pieces on, and end in good order only where what they were drawn from was found to be whole."""
    try:
        async for piece in pieces:
            yield piece
    except FednError:
        await checked  # bytes that are damaged are the cause, whatever came of them
        raise
    await checked


async def _drawn_in_thread(make: Callable[[], Iterator[bytes]]) -> AsyncGenerator[bytes, None]:
    """Draw from a heavy iterator in a worker thread, some MiB at a time, so that the event loop goes on."""
    pieces = make()
    try:
        while drawn := await in_thread(_some, pieces):
            yield drawn
    finally:
        await in_thread(pieces.close)  # type: ignore[attr-defined]


def _some(pieces: Iterator[bytes]) -> bytes:
    """Return the next pieces in one, nothing at the end."""
    drawn, size = [], 0
    for piece in pieces:
        drawn.append(piece)
        size += len(piece)
        if size >= _DRAWN_BYTES:
            break
    return b"".join(drawn)
