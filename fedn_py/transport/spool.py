"""Where uploads wait until they are whole: in memory up to a budget, else on disk, each bounded.

Memory is worth a wait: an upload that finds none free waits, before its first byte, for as long as others keep giving
theirs back, and goes to disk when they do not. Where there is no room either, it is refused in the end, and its sender
tries again, later and later.

Rules: how many bytes are held is this side's own truth, and a sender goes on from there or not at all; an upload has
one writer at a time, the newest; one that cannot go on is freed at once and the others go on; what a former life of
the process left behind is removed at start.
"""

import errno
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from fedn_py.errors import OwnFault
from fedn_py.transport.chunks import CHUNK_BYTES, DigestMismatch, UploadMismatch, UploadStart, WrongOffset
from fedn_py.transport.completion import in_thread
from fedn_py.transport.go_ons import GoOns
from fedn_py.transport.held_upload import HeldUpload
from fedn_py.transport.left_uploads import LeftUploads
from fedn_py.transport.memory_queue import MemoryQueue
from fedn_py.transport.parts import Chunk, Pieces
from fedn_py.transport.spooled import DiskBytes, HeldBytes, MemoryBytes
from fedn_py.transport.turns import QUICK, Turns
from fedn_py.transport.waiting_line import WaitingLine

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PART = ".part"


MOST_RECEIVING = 64
"""How many uploads are received at once unless said otherwise."""


_QUICK_BYTES_A_SECOND = 32 * 1024 * 1024
"""Where uploads come in as quickly as this, what waits for memory would not come in sooner on disk."""


_ADDED_BYTES_A_SECOND = 32 * 1024 * 1024
"""An upload that is not quicker than this, from its first byte until it is added, is not waited for."""


class SpoolFull(OwnFault):
    """There is no room for this upload now; those that are under way go on."""


class SpoolBroken(OwnFault):
    """The spool's folder cannot be written or read."""


class Spool:
    """Uploads on their way in, each known by its owner and the id that the owner gave it.

    Use ``open_spool``. For one event loop; reading, writing and hashing happen in worker threads.

    Args:
        memory_bytes: for uploads held in memory, in all.
        disk_bytes: for uploads on disk, in all.
        most_uploads: how many are held at once, whole ones included.
        most_receiving: how many are received at once; a further one waits before its first byte, since each costs
            some MiB of buffers on its way. Quick ones wait for each other sooner.
        alone_bytes: an upload of at most so many bytes is held in memory, whatever the budget, when no other is.
        memory_wait_s: memory that is taken is waited for while some of it is given back at least this often (of large
            uploads less often: such a one takes longer itself), while what is in it comes in quickly, and while the
            disk has no room either, for two minutes at most. 0 for no wait.
        line: where uploads wait for their turns; None where any number may.
        idle_s: an upload without a writer for so long gives way when room is needed.
        clock: seconds, monotonic.

    Attributes:
        turns: one is taken while an upload is received.
        go_ons: room is taken from the word to an upload that it shall go on until its first bytes.
        received_bytes: all that came in so far.
    """

    def __init__(
        self,
        folder: Path,
        *,
        memory_bytes: int,
        disk_bytes: int,
        most_uploads: int,
        idle_s: float,
        clock: Callable[[], float],
        most_receiving: int = MOST_RECEIVING,
        alone_bytes: int = 0,
        memory_wait_s: float = 0.0,
        line: WaitingLine | None = None,
    ) -> None:
        self._folder = folder
        self.turns = Turns(min(QUICK, most_receiving), most=most_receiving, line=line)
        self.go_ons = GoOns()
        self.received_bytes = self._received_in_memory = 0
        self._alone_bytes = alone_bytes
        self._memory_wait_s = memory_wait_s
        self._memory_queue = MemoryQueue(
            self._fits_in_memory, self._goes_to_disk, lambda: self._received_in_memory, self._room_taken, self._wait_s
        )
        self._memory_bytes, self._disk_bytes = memory_bytes, disk_bytes
        self._most_uploads, self._idle_s, self._clock = most_uploads, idle_s, clock
        self._uploads: dict[tuple[str, str], HeldUpload] = {}
        self._left = LeftUploads(
            self._uploads.values,
            self._fits_beside,
            lambda: self._disk_bytes - self.disk_held,
            self._new_file,
            self._memory_queue.freed,
        )

    @property
    def uploads(self) -> int:
        """How many uploads are held."""
        return len(self._uploads)

    @property
    def memory_held(self) -> int:
        """Bytes of memory set aside for the uploads held."""
        return sum(upload.size for upload in self._uploads.values() if upload.in_memory)

    @property
    def disk_held(self) -> int:
        """Bytes of disk set aside for the uploads held."""
        return sum(upload.size for upload in self._uploads.values() if upload.on_disk)

    def held(self, owner: str, upload_id: str) -> int:
        """Return how many bytes of an upload are here, 0 for one that is not known."""
        upload = self._uploads.get((owner, upload_id))
        return upload.received if upload is not None else 0

    async def begin(self, owner: str, start: UploadStart) -> "Incoming":
        """Take an upload from an offset on; an older stream of the same upload is cut off.

        Raises:
            UploadMismatch: the id stands for other bytes.
            WrongOffset: other bytes are held than up to the offset; it says how many.
            SpoolFull: no room.
        """
        key = (owner, start.upload_id)
        if key not in self._uploads:
            if start.offset != 0:
                raise WrongOffset(start.offset, 0)
            if not self._fits_in_memory(start.size):
                self._left.make_room(start.size)
            async with self._memory_queue.room_for(start.size, lambda: key in self._uploads) as in_memory:
                if key not in self._uploads:  # a newer stream of it may have been quicker
                    self._add(key, start, in_memory=in_memory)
        upload = self._uploads[key]
        if (upload.size, upload.sha256) != (start.size, start.sha256):
            raise UploadMismatch(
                f"upload {start.upload_id} was declared as {upload.size} bytes of {upload.sha256}, "
                f"and now as {start.size} bytes of {start.sha256}",
                remedy="Give other bytes an upload id of their own.",
            )
        incoming = Incoming(self, upload)
        await upload.hand_to(incoming, start.offset)
        return incoming

    async def discard(self, owner: str, upload_id: str) -> None:
        """Free an upload, whole or not; a stream that still writes it is refused. Unknown ones are ignored."""
        upload = self._uploads.get((owner, upload_id))
        if upload is not None:
            await self.drop(upload)

    async def drop(self, upload: HeldUpload) -> None:
        """Free one upload's bytes and place."""
        if self._uploads.get(upload.key) is upload:
            del self._uploads[upload.key]
        in_memory = upload.in_memory
        try:
            await upload.free()
        finally:
            if in_memory:
                self._memory_queue.freed()

    def count(self, size: int, upload: HeldUpload) -> None:
        """Count bytes that came in for an upload."""
        self.received_bytes += size
        if upload.in_memory:
            self._received_in_memory += size

    def leave(self, upload: HeldUpload, holder: object) -> None:
        """Learn that a stream writes an upload no more; it makes room for those who wait."""
        upload.leave(holder)
        if self._memory_queue.next_size is not None:
            self._left.make_room(self._memory_queue.next_size)

    async def drop_unfinished(self) -> None:
        """Free the uploads that are not whole: nobody wants them any more."""
        for upload in list(self._uploads.values()):
            if not upload.whole:
                await self.drop(upload)

    async def close(self) -> None:
        """Free everything."""
        for upload in list(self._uploads.values()):
            await self.drop(upload)
        await self._left.close()

    def _add(self, key: tuple[str, str], start: UploadStart, *, in_memory: bool) -> None:
        self._make_room(start.size)
        if in_memory:
            held: HeldBytes = MemoryBytes()
        elif self.disk_held + start.size <= self._disk_bytes:
            held = DiskBytes(self._new_file())
        else:
            raise self._full(start.size)
        self._uploads[key] = HeldUpload(key, start, held, self._clock)

    def _new_file(self) -> Path:
        return self._folder / f"{secrets.token_hex(16)}{_PART}"

    def _make_room(self, size: int) -> None:
        self._let_idle_go(size)
        if not self._has_room(size):
            raise self._full(size)

    def _let_idle_go(self, size: int) -> None:
        """Let idle uploads go, the longest idle first, until one of this size has a place."""
        idle = sorted(
            (one for one in self._uploads.values() if one.idle_since(self._clock() - self._idle_s)),
            key=lambda one: one.touched,
        )
        for upload in idle:
            if self._has_room(size):
                return
            del self._uploads[upload.key]
            upload.forget()
            if upload.in_memory:
                self._memory_queue.freed()

    def _has_room(self, size: int) -> bool:
        fits = self._fits_in_memory(size) or self.disk_held + size <= self._disk_bytes
        return fits and len(self._uploads) < self._most_uploads

    def _goes_to_disk(self, size: int, came: int) -> bool:
        """Say whether an upload that has waited for memory in vain does better on disk, or can be nowhere.

        While others come in quickly it would only take from their speed there; and while the disk is full as well, it
        waits for whichever is free first.
        """
        self._let_idle_go(size)
        if self._memory_bytes < size > self._alone_bytes and size > self._disk_bytes:
            return True
        return self.disk_held + size <= self._disk_bytes and came < self._wait_s(size) * _QUICK_BYTES_A_SECOND

    def _wait_s(self, size: int) -> float:
        """Return how long memory is waited for without any being freed; 0 for no wait."""
        return self._memory_wait_s + size / _ADDED_BYTES_A_SECOND if self._memory_wait_s else 0.0

    def _fits_in_memory(self, size: int) -> bool:
        return self._fits_beside(self.memory_held, size)

    def _fits_beside(self, held: int, size: int) -> bool:
        return held + size <= self._memory_bytes or (not held and size <= self._alone_bytes)

    def _full(self, size: int) -> SpoolFull:
        return SpoolFull(
            f"no room for an upload of {size} bytes: {self._room_taken()}",
            remedy="It is tried again later; give the spool more room if it happens often.",
        )

    def _room_taken(self) -> str:
        return (
            f"{len(self._uploads)} of {self._most_uploads} uploads, "
            f"{self.memory_held} of {self._memory_bytes} bytes of memory and "
            f"{self.disk_held} of {self._disk_bytes} bytes of disk are taken"
        )


async def open_spool(
    folder: Path,
    *,
    memory_bytes: int,
    disk_bytes: int,
    most_uploads: int,
    idle_s: float,
    clock: Callable[[], float],
    most_receiving: int = MOST_RECEIVING,
    alone_bytes: int = 0,
    memory_wait_s: float = 0.0,
    line: WaitingLine | None = None,
) -> Spool:
    """Make the spool's folder, remove what a former life left in it, and return the Spool (its Args say the rest)."""
    try:
        await in_thread(_prepare, folder)
    except OSError as fault:
        raise SpoolBroken(
            f"the spool folder {folder} cannot be prepared: {fault.strerror}",
            remedy="Check that the folder can be written by this process and that its disk has room.",
        ) from fault
    return Spool(
        folder,
        memory_bytes=memory_bytes,
        disk_bytes=disk_bytes,
        most_uploads=most_uploads,
        idle_s=idle_s,
        clock=clock,
        most_receiving=most_receiving,
        alone_bytes=alone_bytes,
        memory_wait_s=memory_wait_s,
        line=line,
    )


class Incoming:
    """One stream's hold on one upload: it appends until it ends, is cut, or a newer stream takes over."""

    def __init__(self, spool: Spool, upload: HeldUpload) -> None:
        self._spool = spool
        self._upload = upload

    async def append(self, *chunks: Chunk) -> None:
        """Add the next bytes; those held in memory stay in the pieces in which they came, uncopied.

        Raises:
            UploadMismatch: more bytes than declared; the upload is freed.
            SpoolFull, SpoolBroken: the disk is full or broken; the upload is freed.
            UploadTakenOver, UploadDropped: nothing was added.
        """
        try:
            await self._upload.append(self, chunks)
        except UploadMismatch:
            await self._spool.drop(self._upload)
            raise
        except OSError as fault:
            await self._spool.drop(self._upload)
            raise _disk_fault(fault) from fault
        self._spool.count(sum(map(len, chunks)), self._upload)

    def leave(self) -> None:
        """End the hold; what is not whole stays for a newer stream to go on with, on disk if others need the memory."""
        self._spool.leave(self._upload, self)

    async def finish(self) -> "SpooledUpload":
        """Return the whole upload.

        Raises:
            UploadIncomplete: bytes are missing; they may still come.
            DigestMismatch: the bytes are not those declared; the upload is freed.
        """
        try:
            await self._upload.finish(self)
        except DigestMismatch:
            await self._spool.drop(self._upload)
            raise
        except OSError as fault:
            await self._spool.drop(self._upload)
            raise _disk_fault(fault) from fault
        return SpooledUpload(self._spool, self._upload)


class SpooledUpload:
    """A whole upload whose bytes hash to what was declared, until it is discarded.

    Attributes:
        size: bytes.
        sha256: of them.
    """

    def __init__(self, spool: Spool, upload: HeldUpload) -> None:
        self._spool = spool
        self._upload = upload
        self.size = upload.size
        self.sha256 = upload.sha256

    @property
    def file(self) -> Path | None:
        """Its bytes' own file, which a store may take; None where they are in memory."""
        return self._upload.bytes.file

    @property
    def source(self) -> Path | Pieces:
        """Its bytes to be uploaded elsewhere: the file, or what is in memory, not copied."""
        return self.file or tuple(self.blocks())

    async def chunks(self) -> AsyncIterator[bytes]:
        """Read it back in chunks of 1 MiB, as often as wanted; each is bytes of its own."""
        blocks = self.blocks()
        try:
            while block := await in_thread(lambda: bytes(next(blocks, b""))):
                yield block
        finally:
            blocks.close()

    def blocks(self) -> "_Blocks":
        """Read it back in chunks of 1 MiB in the calling thread; of bytes on disk not the event loop's."""
        return _Blocks(self._upload.bytes.read(CHUNK_BYTES))

    async def discard(self) -> None:
        """Free its bytes."""
        await self._spool.drop(self._upload)


class _Blocks(Iterator[Chunk]):
    """An iterator over held bytes that can be closed before its end."""

    def __init__(self, source: Iterator[Chunk]) -> None:
        self._source = source

    def __next__(self) -> Chunk:
        return next(self._source)

    def close(self) -> None:
        getattr(self._source, "close", lambda: None)()


def _prepare(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for orphan in folder.glob(f"*{_PART}"):
        orphan.unlink(missing_ok=True)


def _disk_fault(fault: OSError) -> OwnFault:
    if fault.errno in _NO_ROOM:
        return SpoolFull(
            f"the disk of the spool is full: {fault.strerror}", remedy="Free disk space where the spool's folder is."
        )
    return SpoolBroken(
        f"the spool cannot be written: {fault.strerror}", remedy="Check the disk where the spool's folder is."
    )
