"""One upload as it is held: how much of it is here, who writes it, and where it lies, with one change at a time."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from fedn_py.errors import PeerFault
from fedn_py.transport.chunks import CHUNK_BYTES, DigestMismatch, UploadMismatch, UploadStart, WrongOffset
from fedn_py.transport.completion import in_thread
from fedn_py.transport.parts import Chunk
from fedn_py.transport.spooled import DiskBytes, HeldBytes, MemoryBytes

_FREED_QUICKLY_BYTES = 16 * 1024 * 1024
"""Memory that is given back in a millisecond or two; with more of it the event loop would stand still."""


class UploadTakenOver(PeerFault):
    """A newer stream of the same upload has taken over from this one."""


class UploadDropped(PeerFault):
    """An upload is no longer wanted; its bytes are gone."""


class UploadIncomplete(PeerFault):
    """A sender ended before all declared bytes were there; what came is kept for it to go on."""


class HeldUpload:
    """What is held of one upload; its lock lets one change happen at a time.

    Attributes:
        key: its owner, and the id that the owner gave it.
        size, sha256: as they were declared.
        bytes: where it lies.
        received: bytes that are here.
        touched: when one of them last came.
        whole: whether all are here, and hash right.
    """

    def __init__(self, key: tuple[str, str], start: UploadStart, held: HeldBytes, clock: Callable[[], float]) -> None:
        self.key, self.size, self.sha256 = key, start.size, start.sha256
        self.bytes = held
        self.received = 0
        self.touched = clock()
        self._clock = clock
        self._lock = asyncio.Lock()
        self._holder: object | None = None
        self._moves = self._dropped = False
        self.whole = False

    @property
    def in_memory(self) -> bool:
        """Whether it takes memory."""
        return isinstance(self.bytes, MemoryBytes)

    @property
    def on_disk(self) -> bool:
        """Whether it takes disk; while it is moved there it takes both."""
        return self._moves or isinstance(self.bytes, DiskBytes)

    @property
    def is_left(self) -> bool:
        """Whether its stream has ended before it was whole, and no newer one goes on with it."""
        return self._holder is None and not self.whole and not self._dropped

    def idle_since(self, instant: float) -> bool:
        """Say whether bytes are missing and none came since an instant: a whole upload waits for us, not we for it."""
        return self.touched < instant and not self.whole and not self._lock.locked()

    async def hand_to(self, holder: object, offset: int) -> None:
        """Let this stream alone write it, from an offset on; raises WrongOffset, UploadDropped."""
        async with self._lock:
            self._check_kept()
            if offset != self.received:
                raise WrongOffset(offset, self.received)
            self._holder = holder
            self.touched = self._clock()

    def leave(self, holder: object) -> None:
        """Learn that a stream writes it no more."""
        if self._holder is holder:
            self._holder = None

    def begin_move(self) -> None:
        """Take room on disk from now on, as ``move_to`` follows."""
        self._moves = True

    async def move_to(self, path: Path) -> None:
        """Move what a stream has left here from memory into a file; raises OSError, and then nothing has changed.

        What another stream goes on with in the meantime stays where it is.
        """
        try:
            async with self._lock:
                if self.is_left and self.in_memory:
                    await self._move(DiskBytes(path))
        finally:
            self._moves = False

    async def _move(self, moved: DiskBytes) -> None:
        try:
            await in_thread(_copy, self.bytes, moved)
        except BaseException:
            await in_thread(moved.remove)
            raise
        self.bytes, old = moved, self.bytes
        await in_thread(old.remove)

    async def append(self, holder: object, chunks: Sequence[Chunk]) -> None:
        """Add bytes, or raise UploadMismatch, UploadTakenOver, UploadDropped or OSError."""
        async with self._lock:
            self._check_holder(holder)
            if self.received + sum(map(len, chunks)) > self.size:
                raise UploadMismatch(
                    f"upload {self.key[1]} brings more than its {self.size} bytes",
                    remedy="Declare the size of all bytes that follow.",
                )
            self.touched = self._clock()
            await in_thread(self._store, chunks)

    async def finish(self, holder: object) -> None:
        """Make it whole, or raise UploadIncomplete, DigestMismatch, UploadTakenOver, UploadDropped or OSError."""
        async with self._lock:
            self._check_holder(holder)
            if self.received < self.size:
                raise UploadIncomplete(
                    f"upload {self.key[1]} ended at {self.received} of {self.size} bytes", remedy="Go on from there."
                )
            found = self.bytes.sha256()
            if found != self.sha256:
                raise DigestMismatch(self.sha256, found)
            if isinstance(self.bytes, DiskBytes):
                await in_thread(self.bytes.flush)
            self.whole = True

    async def free(self) -> None:
        """Give back what it takes; a stream that still writes it is refused."""
        # Marked before the lock is waited for: a stream between two chunks learns at its next one.
        self._dropped = True
        async with self._lock:
            if isinstance(self.bytes, MemoryBytes) and self.received <= _FREED_QUICKLY_BYTES:
                self.bytes.remove()
            else:
                await in_thread(self.bytes.remove)

    def forget(self) -> None:
        """Free an idle upload, from a place that cannot wait: nobody writes it."""
        self._dropped = True
        asyncio.get_running_loop().run_in_executor(None, self.bytes.remove)

    def _store(self, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            # Counted in the same breath as stored, so that the count is right even if the stream dies here.
            self.bytes.append(chunk)
            self.received += len(chunk)

    def _check_holder(self, holder: object) -> None:
        self._check_kept()
        if self._holder is not holder:
            raise UploadTakenOver(f"upload {self.key[1]} goes on in a newer stream")

    def _check_kept(self) -> None:
        if self._dropped:
            raise UploadDropped(f"upload {self.key[1]} is no longer wanted")


def _copy(held: HeldBytes, into: HeldBytes) -> None:
    for piece in held.read(CHUNK_BYTES):
        into.append(piece)
