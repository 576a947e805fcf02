"""Objects at hand: models and packages, fetched once and given out to any number of clients.

A bounded folder of files named by digest. What the work at hand needs is held and never evicted; of the rest, what
was asked for last is kept longest. A model is given out while it comes: its clients need not wait for its last byte.
"""

import asyncio
import contextlib
import itertools
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from fedn_py.combiner.coming import Coming
from fedn_py.combiner.ports import Upstream
from fedn_py.errors import FednError
from fedn_py.identity import Digest, Generation
from fedn_py.model.layout import ModelLayout, head_size, parse_layout
from fedn_py.protocol.combiner_work import Event, ObjectsNotFetched
from fedn_py.runtime.file_chunks import file_chunks
from fedn_py.runtime.logging import logger
from fedn_py.runtime.scratch import disk_faults
from fedn_py.store.ports import ObjectMissing

MOST_KEPT = 8

_log = logger("fedn_py.combiner")


@dataclass(frozen=True, slots=True)
class OnShelf:
    """An object at hand and its size in bytes."""

    digest: Digest
    size: int


class Shelf:
    """Fetches objects once and serves them; an ``ObjectSource``.

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
        self._coming: dict[Digest, tuple[Coming, asyncio.Task[None]]] = {}

    def path(self, digest: Digest) -> Path:
        """Return the file of an object that is at hand."""
        return self._folder / digest

    async def hold(self, digests: Iterable[Digest]) -> None:
        """Have these objects at hand from now on, in the place of those that were held before.

        Raises:
            FednError: of the upstream, for the first object that cannot be had.
        """
        wanted = tuple(digests)
        self._held = frozenset(wanted)
        await self.rest(wanted)

    async def rest(self, digests: Iterable[Digest]) -> None:
        """Wait until objects are here whole; raises FednError for the first that cannot be had."""
        await asyncio.gather(*(self._have(digest) for digest in dict.fromkeys(digests)))
        await self._evict()

    async def hold_as_it_comes(self, model: Digest, *others: Digest) -> ModelLayout:
        """Hold a model, of which the first bytes are here when this returns, and other objects that are here whole.

        ``rest`` tells whether all of them comes.

        Raises:
            FednError: of the upstream, for the first object that cannot be had.
            NotAModel, UnsupportedModel: it is none.
        """
        self._held = frozenset((model, *others))
        await asyncio.gather(self._begun(model), *(self._have(digest) for digest in others))
        return await self._layout(model)

    async def _layout(self, model: Digest) -> ModelLayout:
        size, head = (await self.stat(model)).size, bytearray()
        async with contextlib.aclosing(cast("AsyncGenerator[bytes, None]", self.get(model))) as pieces:
            async for piece in pieces:
                head += piece
                if len(head) >= 8 and len(head) >= head_size(bytes(head[:8])):
                    break
        return parse_layout(bytes(head), size)

    async def prefetch(self, digest: Digest) -> None:
        """Have an object come that is likely to be held next; who holds it meanwhile waits for the same transfer."""
        try:
            await self._have(digest)
        except FednError as fault:  # whoever needs it will hear of it
            _log.info("an object is not here yet", object=digest, reason=f"{fault.code}: {fault.message}")

    async def stat(self, digest: Digest) -> OnShelf:
        """Return an object's size, or raise ObjectMissing."""
        if digest in self._coming:
            return OnShelf(digest, await self._coming[digest][0].begun())
        if digest not in self._sizes:
            raise ObjectMissing(
                f"object {digest} is not at this combiner",
                remedy="Ask only for the model and the package of the task at hand.",
            )
        self._sizes.move_to_end(digest)
        return OnShelf(digest, self._sizes[digest])

    def get(self, digest: Digest, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Stream an object from an offset, as it comes where it is on its way."""
        if digest in self._coming:
            return self._coming[digest][0].pieces(offset)
        return file_chunks(self.path(digest), offset)

    async def _have(self, digest: Digest) -> None:
        if digest in self._sizes:
            self._sizes.move_to_end(digest)
            return
        await asyncio.shield(self._on_its_way(digest)[1])

    async def _begun(self, digest: Digest) -> None:
        if digest not in self._sizes:
            await self._on_its_way(digest)[0].begun()

    def _on_its_way(self, digest: Digest) -> tuple[Coming, asyncio.Task[None]]:
        if digest not in self._coming:
            coming = Coming(digest, self.path(digest))
            fetching = asyncio.create_task(self._fetch(digest, coming))
            fetching.add_done_callback(_seen)
            self._coming[digest] = coming, fetching
        return self._coming[digest]

    async def _fetch(self, digest: Digest, coming: Coming) -> None:
        path = self.path(digest)
        try:
            with disk_faults("fetching an object"):
                await self._upstream.fetch(digest, path, coming.moved)
                size = await asyncio.to_thread(lambda: path.stat().st_size)
        except Exception as fault:
            coming.failed(fault)
            raise
        else:
            self._sizes[digest] = size
            coming.arrived(size)
        finally:
            del self._coming[digest]

    async def _evict(self) -> None:
        spare = [digest for digest in self._sizes if digest not in self._held]
        for digest in spare[: max(0, len(spare) - self._most_kept)]:
            del self._sizes[digest]
            # Out of the way at once: the same object may be fetched again while the disk is still freeing this one.
            leaving = self._folder / f"{digest}.{next(self._evicted)}.leaving"
            with disk_faults("letting go of an object"):
                self.path(digest).rename(leaving)
                await asyncio.to_thread(leaving.unlink)


def _seen(task: asyncio.Task[None]) -> None:
    """Look at what came of a fetch: those who wait for its first bytes alone have their own word of it."""
    if not task.cancelled():
        task.exception()


async def the_rest(shelf: Shelf, generation: Generation, digests: Iterable[Digest]) -> list[Event]:
    """Wait for the rest of what a cell has begun with; returns that it does not come, if so."""
    try:
        await shelf.rest(digests)
    except FednError as fault:
        return [ObjectsNotFetched(generation, f"{fault.code}: {fault.message}")]
    return []
