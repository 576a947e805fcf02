"""Where a download comes down: a file beside the one wanted, hashed as it grows, renamed when it is whole and right."""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from fedn_py.errors import OwnFault, PeerFault
from fedn_py.identity import Digest
from fedn_py.transport import reading
from fedn_py.transport.chunks import CHUNK_BYTES, DigestMismatch
from fedn_py.transport.completion import in_thread
from fedn_py.transport.parts import Chunk


class ObjectTooLarge(PeerFault):
    """An object is larger than what is taken here."""


class DiskUnusable(OwnFault):
    """A downloaded file cannot be written."""


class Landing:
    """One download on its way into a file. One task at a time.

    Attributes:
        received: bytes here, those of an earlier broken download included.
        size: bytes in all, 0 until the sender has said so.
    """

    def __init__(self, into: Path, digest: Digest, most_bytes: int | None) -> None:
        self.digest = digest
        self.received = 0
        self.size = 0
        self._into = into
        self._most_bytes = most_bytes
        # Named by the digest too, so that what is left of one object is never gone on with as another.
        self._part = into.with_name(f".{into.name}.{digest[:16]}.part")
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._found = ""

    async def open(self) -> None:
        """Take up what an earlier download left, or start an empty file."""
        await self._on_disk(self._open)

    def expect(self, size: int) -> None:
        """Learn the object's size from its sender."""
        if self._most_bytes is not None and size > self._most_bytes:
            raise ObjectTooLarge(
                f"object {self.digest} has {size} bytes, above the limit of {self._most_bytes}",
                remedy="Raise the limit, if an object of this size is meant.",
            )
        self.size = size

    async def append(self, *chunks: Chunk) -> None:
        """Add the next bytes; with the last of them the file gets its name, if they are right."""
        # Nothing follows a last byte, whatever size the sender may have named since.
        if self._found or self.received + sum(map(len, chunks)) > self.size:
            await self.remove()
            raise reading.malformed("a download", f"brings more than its {self.size} bytes")
        await self._on_disk(functools.partial(self._append, chunks))

    async def finish(self) -> int:
        """Give the file its name if it is whole and right, and return its size; wrong bytes are deleted."""
        if self.received < self.size:
            raise reading.malformed("a download", f"ended at {self.received} of {self.size} bytes")
        if not self._found:  # nothing has come, as all was here before or as there is nothing
            await self._on_disk(self._complete)
        if self._found != self.digest:
            raise DigestMismatch(self.digest, self._found)
        return self.size

    async def remove(self) -> None:
        """Delete what is here."""
        await self.close()
        await self._on_disk(self._remove)

    async def restart(self) -> None:
        """Delete what is here and begin with an empty file."""
        await self.remove()
        self.received, self._hash, self._found = 0, hashlib.sha256(), ""
        await self.open()

    async def close(self) -> None:
        """Let go of the file; what is here stays for the next attempt."""
        if self._file is not None:
            # What a full disk did not take is downloaded again.
            with contextlib.suppress(OSError):
                await in_thread(self._file.close)
            self._file = None

    def _open(self) -> None:
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("a+b")
        self._file.seek(0)
        while piece := self._file.read(CHUNK_BYTES):
            self._hash.update(piece)
            self.received += len(piece)

    def _append(self, chunks: Sequence[Chunk]) -> None:
        assert self._file is not None
        for chunk in chunks:
            self._file.write(chunk)
            self._hash.update(chunk)
            self.received += len(chunk)
        # Here and not in another call: to change to a thread once more costs more than all of this for a small object.
        if self.received == self.size:
            self._complete()

    def _complete(self) -> None:
        assert self._file is not None
        # Not synced: whoever reads the file in a later life checks its digest first, and fetches it anew.
        self._file.close()
        self._file = None
        self._found = self._hash.hexdigest()
        if self._found == self.digest:
            self._part.replace(self._into)
        else:
            self._part.unlink(missing_ok=True)

    def _remove(self) -> None:
        self._part.unlink(missing_ok=True)
        if self._found == self.digest:
            self._into.unlink(missing_ok=True)

    async def _on_disk(self, work: Callable[[], None]) -> None:
        try:
            await in_thread(work)
        except OSError as fault:
            raise DiskUnusable(
                f"{self._part} cannot be written: {fault.strerror}", remedy="Check the disk's room and who may write."
            ) from fault
