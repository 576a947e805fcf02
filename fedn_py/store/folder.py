"""Objects in a folder of this machine: folder/ab/<sha256>, each written beside, synced and moved into place whole."""

import contextlib
import itertools
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from fedn_py.identity import Digest, InvalidName, parse_digest
from fedn_py.store.disk import make_folder, named_faults, sync_folder
from fedn_py.store.hashing import PIECE_BYTES, check_expected, missing, verified, write_hashed
from fedn_py.store.lock import FolderLock
from fedn_py.store.ports import ObjectStat
from fedn_py.store.threads import Threads

_N_THREADS = 4


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

    async def put(self, chunks: AsyncIterator[bytes], *, expected: Digest | None = None) -> ObjectStat:
        """See Objects.put."""
        incoming = self._new_incoming()
        try:
            await self._threads.run(incoming.create)
            digest, size = await write_hashed(chunks, incoming.write, self._threads)
            check_expected(digest, expected)
            await self._threads.run(incoming.keep_as, self._path(digest))
        finally:
            await self._threads.run(incoming.let_go)
        return ObjectStat(digest, size, 0.0)

    async def get(self, digest: Digest, *, offset: int = 0) -> AsyncIterator[bytes]:
        """See Objects.get."""
        pieces = self._pieces(digest, offset)
        checked = pieces if offset else verified(pieces, digest, self._threads)
        async with contextlib.aclosing(pieces), contextlib.aclosing(checked):
            async for piece in checked:
                yield piece

    async def stat(self, digest: Digest) -> ObjectStat:
        """See Objects.stat."""
        return await self._threads.run(self._stat, digest)

    async def delete(self, digest: Digest) -> None:
        """See Objects.delete."""

        def work() -> None:
            with named_faults(self._folder):
                self._path(digest).unlink(missing_ok=True)

        await self._threads.run(work)

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
        self._threads.close()
        if self._lock is not None:
            self._lock.release()

    def _path(self, digest: Digest) -> Path:
        return self._folder / digest[:2] / digest

    def _new_incoming(self) -> "_Incoming":
        return _Incoming(self._folder / "incoming" / str(next(self._numbers)), self._folder)

    async def _pieces(self, digest: Digest, offset: int) -> AsyncGenerator[bytes, None]:
        file = await self._threads.run(self._open, digest, offset)
        try:
            while piece := await self._threads.run(self._read, file):
                yield piece
        finally:
            await self._threads.run(file.close)

    def _open(self, digest: Digest, offset: int) -> BinaryIO:
        with named_faults(self._folder):
            try:
                file = self._path(digest).open("rb")
            except FileNotFoundError:
                raise missing(digest) from None
            file.seek(offset)
            return file

    def _read(self, file: BinaryIO) -> bytes:
        with named_faults(self._folder):
            return file.read(PIECE_BYTES)

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


class _Incoming:
    """A file that is being written, to be kept under its digest or not at all."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path, self._folder = path, folder
        self._file: BinaryIO | None = None

    def create(self) -> None:
        with named_faults(self._folder):
            self._file = self._path.open("xb", buffering=0)

    def write(self, chunk: bytes) -> None:
        assert self._file is not None
        rest = memoryview(chunk)
        with named_faults(self._folder):
            while rest:
                rest = rest[self._file.write(rest) :]

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
