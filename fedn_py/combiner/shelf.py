"""Objects at hand: models and packages, fetched once and given out to any number of clients.

A bounded folder of files named by digest. What the work at hand needs is held and never evicted; of the rest, what
was asked for last is kept longest.
"""

import asyncio
import contextlib
import itertools
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from fedn_py.combiner.ports import Upstream
from fedn_py.errors import FednError
from fedn_py.identity import Digest
from fedn_py.runtime.file_chunks import file_chunks
from fedn_py.runtime.logging import logger
from fedn_py.runtime.scratch import disk_faults
from fedn_py.store.ports import ObjectMissing
from fedn_py.transport.completion import in_thread

MOST_KEPT = 8

_log = logger("fedn_py.combiner")


@dataclass(frozen=True, slots=True)
class OnShelf:
    """An object at hand and its size in bytes."""

    digest: Digest
    size: int


class Shelf:
    """Fetches objects once and serves them; an ``ObjectSource`` and a ``PieceSource``.

    Args:
        folder: empty at the start.
        most_kept: objects kept beyond those that are held.
    """

    def __init__(self, upstream: Upstream, folder: Path, most_kept: int = MOST_KEPT) -> None:
        self._upstream = upstream
        self._folder = folder
        self._most_kept = most_kept
        self._sizes: OrderedDict[Digest, int] = OrderedDict()
        self._held: frozenset[Digest] = frozenset()
        self._evicted = itertools.count(1)
        self._fetching: dict[Digest, asyncio.Task[None]] = {}

    def path(self, digest: Digest) -> Path:
        """Return the file of an object that is at hand."""
        return self._folder / digest

    async def hold(self, digests: Iterable[Digest]) -> None:
        """Have these objects at hand from now on, in the place of those that were held before.

        Raises:
            FednError: of the upstream, for the first object that cannot be had.
        """
        wanted = tuple(dict.fromkeys(digests))
        self._held = frozenset(wanted)
        await asyncio.gather(*(self._have(digest) for digest in wanted))
        await self._evict()

    async def prefetch(self, digest: Digest) -> None:
        """Have an object come that is likely to be held next; who holds it meanwhile waits for the same transfer."""
        try:
            await self._have(digest)
        except FednError as fault:  # whoever needs it will hear of it
            _log.info("an object is not here yet", object=digest, reason=f"{fault.code}: {fault.message}")

    async def stat(self, digest: Digest) -> OnShelf:
        """Return an object's size, or raise ObjectMissing."""
        if digest not in self._sizes:
            raise _missing(digest)
        self._sizes.move_to_end(digest)
        return OnShelf(digest, self._sizes[digest])

    async def get(self, digest: Digest, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Stream an object from an offset, or raise ObjectMissing where it has left."""
        try:
            async with contextlib.aclosing(file_chunks(self.path(digest), offset)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except FileNotFoundError:
            raise _missing(digest) from None

    async def piece(self, digest: Digest, offset: int, size: int) -> bytes:
        """Return some bytes of an object, or raise ObjectMissing where it had to leave since its download began."""
        if digest in self._sizes:
            self._sizes.move_to_end(digest)
        return await in_thread(_piece_of, self.path(digest), digest, offset, size)

    async def _have(self, digest: Digest) -> None:
        if digest in self._sizes:
            self._sizes.move_to_end(digest)
            return
        task = self._fetching.get(digest)
        if task is None:
            task = asyncio.create_task(self._fetch(digest))
            self._fetching[digest] = task
            task.add_done_callback(lambda _: self._fetching.pop(digest, None))
        await asyncio.shield(task)

    async def _fetch(self, digest: Digest) -> None:
        path = self.path(digest)
        with disk_faults("fetching an object"):
            await self._upstream.fetch(digest, path)
            self._sizes[digest] = await asyncio.to_thread(lambda: path.stat().st_size)

    async def _evict(self) -> None:
        spare = [digest for digest in self._sizes if digest not in self._held]
        # All of them in one go, without a wait in between: who asks meanwhile finds an object whole or not at all.
        leaving = [self._put_aside(digest) for digest in spare[: max(0, len(spare) - self._most_kept)]]
        if leaving:
            with disk_faults("letting go of an object"):
                # In one call, which ends whatever becomes of its caller: what is put aside has no owner any more.
                await in_thread(_remove, leaving)

    def _put_aside(self, digest: Digest) -> Path:
        """Take an object's name away: it may be fetched again while the disk is still freeing what is here."""
        del self._sizes[digest]
        leaving = self._folder / f"{digest}.{next(self._evicted)}.leaving"
        with disk_faults("letting go of an object"):
            self.path(digest).rename(leaving)
        return leaving


def _missing(digest: Digest) -> ObjectMissing:
    return ObjectMissing(
        f"object {digest} is not at this combiner", remedy="Ask only for the model and the package of the task at hand."
    )


def _piece_of(path: Path, digest: Digest, offset: int, size: int) -> bytes:
    # Not kept open: of many slow downloads each would need a file of its own.
    try:
        with path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), size, offset)
    except FileNotFoundError:
        raise _missing(digest) from None


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
