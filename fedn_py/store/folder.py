"""Objects in a folder of this machine: folder/ab/<sha256>, each written beside, synced and moved into place whole."""

import asyncio
import contextlib
import errno
import hashlib
import itertools
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from fedn_py.identity import Digest, InvalidName, parse_digest
from fedn_py.store.disk import make_folder, named_faults, sync_folder
from fedn_py.store.hashing import PIECE_BYTES, check_expected, corrupt, file_pieces, missing, write_hashed
from fedn_py.store.lock import FolderLock
from fedn_py.store.ports import Linked, ObjectStat, StoreFull
from fedn_py.store.threads import Threads

_N_THREADS = 4
_PIECES_AT_ONCE = 4
_FREED_AFTER_S = 1.0
_WRITTEN_AHEAD_BYTES = 16 * 1024**2
_FRESH_S = 60.0
_UNTOUCHED = ("st_ino", "st_size", "st_mtime_ns")
_NO_SECOND_NAME = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP})


class FolderObjects:
    """Objects in files; ``open_folder`` makes one.

    Args:
        lock: of one process at a time, who may write; None where nothing is written, or the folder is not shared.
    """

    def __init__(self, folder: Path, lock: FolderLock | None = None) -> None:
        self._folder = folder
        self._lock = lock
        self._threads = Threads("objects", _N_THREADS)
        self._numbers = itertools.count()
        self._set_aside: set[Path] = set()
        self._written: dict[Digest, _Written] = {}

    async def put(self, chunks: AsyncIterator[bytes], *, expected: Digest | None = None) -> ObjectStat:
        """See Objects.put."""
        incoming = self._new_incoming()
        try:
            await self._threads.run(incoming.create)
            digest, size = await write_hashed(chunks, incoming.write, self._threads)
            check_expected(digest, expected)
            await self._threads.run(self._keep, incoming, digest)
        except StoreFull:
            for aside in tuple(self._set_aside):
                self._free(aside)  # there is room when it is tried again
            raise
        finally:
            await self._threads.run(incoming.let_go)
        return ObjectStat(digest, size, 0.0)

    async def put_file(self, path: Path, digest: Digest) -> ObjectStat:
        """See Objects.put_file: it is moved here, or copied from another disk."""
        stat = await self._threads.run(self._move_here, path, digest)
        if stat is None:
            with named_faults(path.parent):
                async with contextlib.aclosing(file_pieces(path, self._threads)) as pieces:
                    stat = await self.put(pieces, expected=digest)
                await self._threads.run(path.unlink)
        return stat

    async def link(self, digest: Digest, into: Path) -> Linked:
        """See Objects.link."""
        return await self._threads.run(self._link, digest, into)

    async def get(self, digest: Digest, *, offset: int = 0) -> AsyncIterator[bytes]:
        """See Objects.get; what comes next is read while a piece is on its way."""
        reading = _Reading(digest, self._path(digest), self._folder, offset)
        ahead = asyncio.create_task(self._threads.run(reading.pieces))
        try:
            while True:
                pieces, is_last = await ahead
                if not is_last:
                    ahead = asyncio.create_task(self._threads.run(reading.pieces))
                for piece in pieces:
                    yield piece
                if is_last:
                    return
        finally:
            ahead.cancel()  # which waits for the thread
            await asyncio.wait([ahead])
            if not ahead.cancelled():
                ahead.exception()  # seen: it was raised, or nobody reads on
            await self._threads.run(reading.let_go)

    async def stat(self, digest: Digest) -> ObjectStat:
        """See Objects.stat."""
        return await self._threads.run(self._stat, digest)

    async def delete(self, digest: Digest) -> None:
        """See Objects.delete."""

        aside = await self._threads.run(self._put_aside, digest)
        if aside is not None:
            self._set_aside.add(aside)
            asyncio.get_running_loop().call_later(_FREED_AFTER_S, self._free, aside)

    async def list(self) -> AsyncIterator[ObjectStat]:
        """See Objects.list."""
        for shelf in await self._threads.run(lambda: [path for path in self._folder.iterdir() if path.is_dir()]):
            for stat in await self._threads.run(self._stats, shelf):
                yield stat

    async def check(self) -> None:
        """See Objects.check."""

        def work() -> None:
            incoming = self._new_incoming()
            try:
                incoming.create()
                incoming.write(b"check")
            finally:
                incoming.let_go()

        await self._threads.run(work)

    async def now(self) -> datetime | None:
        """See Objects.now."""
        return None

    async def close(self) -> None:
        """See Objects.close."""
        left, self._set_aside = self._set_aside, set()
        for aside in left:
            with contextlib.suppress(OSError):  # the next start clears what is left
                await self._threads.run(aside.unlink, missing_ok=True)
        self._threads.close()
        if self._lock is not None:
            self._lock.release()

    def _path(self, digest: Digest) -> Path:
        return self._folder / digest[:2] / digest

    def _new_incoming(self) -> "_Incoming":
        return _Incoming(self._folder / "incoming" / str(next(self._numbers)), self._folder)

    def _move_here(self, path: Path, digest: Digest) -> ObjectStat | None:
        incoming = self._new_incoming()
        try:
            if not incoming.take(path):
                return None
            size = incoming.status().st_size
            self._keep(incoming, digest)
        finally:
            incoming.let_go()
        return ObjectStat(digest, size, 0.0)

    def _keep(self, incoming: "_Incoming", digest: Digest) -> None:
        written = _Written(incoming.status(), time.monotonic())
        incoming.keep_as(self._path(digest))
        self._written = {**{one: kept for one, kept in self._written.items() if kept.is_fresh()}, digest: written}

    def _link(self, digest: Digest, into: Path) -> Linked:
        with named_faults(self._folder):
            try:
                into.hardlink_to(self._path(digest))
            except FileNotFoundError:
                if not into.parent.is_dir():
                    raise
                raise missing(digest) from None
            except OSError as error:
                if error.errno in _NO_SECOND_NAME:
                    return "not"
                raise
            written = self._written.get(digest)
            is_untouched = written is not None and written.is_fresh() and written.is_of(into.stat())
        return "just hashed" if is_untouched else "to be checked"

    def _put_aside(self, digest: Digest) -> Path | None:
        """Take an object's name away; return where its bytes are now, None where there are none.

        To free a large file takes a disk so long that others' syncs wait for it, and an object is removed where much
        is synced: at the end of a round.
        """
        aside = self._folder / "incoming" / str(next(self._numbers))
        with named_faults(self._folder):
            try:
                self._path(digest).rename(aside)
            except FileNotFoundError:
                return None
        return aside

    def _free(self, aside: Path) -> None:
        if aside in self._set_aside:
            self._set_aside.discard(aside)
            self._threads.start(aside.unlink, missing_ok=True)

    def _stat(self, digest: Digest) -> ObjectStat:
        with named_faults(self._folder):
            try:
                status = self._path(digest).stat()
            except FileNotFoundError:
                raise missing(digest) from None
        return ObjectStat(digest, status.st_size, max(0.0, time.time() - status.st_mtime))

    def _stats(self, shelf: Path) -> tuple[ObjectStat, ...]:
        found = []
        for path in shelf.iterdir():
            with contextlib.suppress(InvalidName, FileNotFoundError):  # not ours; deleted meanwhile
                status = path.stat()
                age_s = max(0.0, time.time() - status.st_mtime)
                found.append(ObjectStat(parse_digest(path.name), status.st_size, age_s))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class _Written:
    """A file that was hashed as it was written.

    Attributes:
        status: when that was done.
        at: seconds, monotonic.
    """

    status: os.stat_result
    at: float

    def is_fresh(self) -> bool:
        """Say whether it has lain for moments only; what lies longer is read from the disk, where it may rot."""
        return time.monotonic() - self.at < _FRESH_S

    def is_of(self, status: os.stat_result) -> bool:
        """Say whether a file is the one that was written, and has not been written to since."""
        return all(getattr(status, name) == getattr(self.status, name) for name in _UNTOUCHED)


class _Reading:
    """An object that is read from an offset, some pieces at a time, in a thread; the last piece only of a whole one."""

    def __init__(self, digest: Digest, path: Path, folder: Path, offset: int) -> None:
        self._digest, self._path, self._folder, self._offset = digest, path, folder, offset
        self._sha256 = None if offset else hashlib.sha256()
        self._file: BinaryIO | None = None
        self._withheld: list[bytes] = []

    def pieces(self) -> tuple[list[bytes], bool]:
        """Return the next pieces, and whether they are the last; raises ObjectMissing, ObjectCorrupt."""
        pieces, piece = self._withheld, b""
        with named_faults(self._folder):
            while len(pieces) <= _PIECES_AT_ONCE:
                piece = self._opened().read(PIECE_BYTES)
                if self._sha256 is not None:
                    self._sha256.update(piece)
                if piece:
                    pieces.append(piece)
                if len(piece) < PIECE_BYTES:
                    break
        if len(piece) == PIECE_BYTES:
            self._withheld = [pieces.pop()]
            return pieces, False
        if self._sha256 is not None and self._sha256.hexdigest() != self._digest:
            raise corrupt(self._digest)
        return pieces, True

    def let_go(self) -> None:
        if self._file is not None:
            self._file.close()

    def _opened(self) -> BinaryIO:
        if self._file is None:
            try:
                self._file = self._path.open("rb")
            except FileNotFoundError:
                raise missing(self._digest) from None
            self._file.seek(self._offset)
        return self._file


class _Incoming:
    """A file that is being written, to be kept under its digest or not at all."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path, self._folder = path, folder
        self._file: BinaryIO | None = None
        self._written = self._on_its_way = 0

    def create(self) -> None:
        with named_faults(self._folder):
            self._file = self._path.open("xb", buffering=0)

    def write(self, chunk: bytes) -> None:
        assert self._file is not None
        rest = memoryview(chunk)
        with named_faults(self._folder):
            while rest:
                rest = rest[self._file.write(rest) :]
            self._written += len(chunk)
            self._send_ahead()

    def _send_ahead(self) -> None:
        """Have the disk begin with what is written, so that the sync at the end has little left to wait for."""
        fresh = self._written - self._on_its_way
        if fresh >= _WRITTEN_AHEAD_BYTES and hasattr(os, "posix_fadvise"):
            assert self._file is not None
            # Linux begins to write such pages, and drops none that is not written yet.
            os.posix_fadvise(self._file.fileno(), self._on_its_way, fresh, os.POSIX_FADV_DONTNEED)
            self._on_its_way = self._written

    def take(self, path: Path) -> bool:
        """Take a file of the same disk in the place of one that is written; False where it is on another one."""
        with named_faults(self._folder):
            try:
                path.rename(self._path)
            except OSError as error:
                if error.errno == errno.EXDEV:
                    return False
                raise
            self._file = self._path.open("rb+")
            os.utime(self._path)
        return True

    def status(self) -> os.stat_result:
        assert self._file is not None
        with named_faults(self._folder):
            return os.fstat(self._file.fileno())

    def keep_as(self, target: Path) -> None:
        assert self._file is not None
        with named_faults(self._folder):
            os.fsync(self._file.fileno())
            if not target.parent.is_dir():
                target.parent.mkdir(mode=0o700, exist_ok=True)
                sync_folder(self._folder)
            self._path.replace(target)
            sync_folder(target.parent)

    def let_go(self) -> None:
        if self._file is not None:
            self._file.close()
        self._path.unlink(missing_ok=True)


async def open_folder(folder: Path) -> FolderObjects:
    """Open the objects in ``folder``, which is made if it is absent, and clear what an interrupted put left there.

    Raises:
        StoreInUse: another process has it open.
        StoreMisconfigured: it cannot be made or written to.
    """
    make_folder(folder / "incoming")
    lock = FolderLock(folder)
    try:
        with named_faults(folder):
            for leftover in (folder / "incoming").iterdir():
                leftover.unlink()
    except BaseException:
        lock.release()
        raise
    return FolderObjects(folder, lock)
