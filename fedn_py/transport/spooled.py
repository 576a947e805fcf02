"""The bytes of one upload, in memory or in a file, hashed as they come. Blocking: called in worker threads."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from fedn_py.transport.parts import Chunk

_WRITTEN_AHEAD_BYTES = 16 * 1024**2
_OF_ITS_OWN_BYTES = 64 * 1024
_JOINED_BYTES = 1024**2


class HeldBytes(Protocol):
    """Bytes that grow at their end."""

    def append(self, chunk: Chunk) -> None:
        """Add bytes, or raise OSError."""
        ...

    def flush(self) -> None:
        """Make everything readable, or raise OSError."""
        ...

    def sha256(self) -> str:
        """Return the hex sha256 of everything added."""
        ...

    def read(self, most: int) -> Iterator[Chunk]:
        """Read everything back in pieces of at most ``most`` bytes."""
        ...

    @property
    def file(self) -> Path | None:
        """The file that has everything; None where it is in memory."""
        ...

    def remove(self) -> None:
        """Free everything; a second time does nothing."""
        ...


class MemoryBytes:
    """Bytes in memory, in the pieces in which they came; small ones are joined, for each takes room of its own."""

    def __init__(self) -> None:
        self._pieces: list[Chunk | bytearray] = []
        self._read_pieces = 0
        self._hash = hashlib.sha256()

    def append(self, chunk: Chunk) -> None:
        """Add bytes."""
        if len(chunk) >= _OF_ITS_OWN_BYTES:
            self._pieces.append(chunk)
        elif self._can_grow():
            self._pieces[-1] += chunk  # type: ignore[operator]  # it is a bytearray
        else:
            self._pieces.append(bytearray(chunk))
        self._hash.update(chunk)

    def _can_grow(self) -> bool:
        # A reader may still have a view of a piece that it was given, and then that cannot be resized.
        last = self._pieces[-1] if len(self._pieces) > self._read_pieces else None
        return isinstance(last, bytearray) and len(last) < _JOINED_BYTES

    def flush(self) -> None:
        """Do nothing: they are readable."""

    def sha256(self) -> str:
        """Return the hex sha256 of everything added."""
        return self._hash.hexdigest()

    def read(self, most: int) -> Iterator[Chunk]:
        """Read everything back in pieces of at most ``most`` bytes."""
        self._read_pieces = len(self._pieces)
        for piece in list(self._pieces):
            for start in range(0, len(piece), most):
                yield memoryview(piece)[start : start + most]

    @property
    def file(self) -> Path | None:
        """None: they are in memory."""
        return None

    def remove(self) -> None:
        """Free everything, piece by piece, so that other threads have their turns: a GB takes 50 ms and more."""
        while self._pieces:
            self._pieces.pop()


class DiskBytes:
    """Bytes in a file of their own, which is made with the first of them and readable for its owner only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._written = self._on_its_way = 0

    def append(self, chunk: Chunk) -> None:
        """Add bytes, or raise OSError."""
        if self._file is None:
            self._file = self._path.open("xb")
            self._path.chmod(0o600)
        self._file.write(chunk)
        self._hash.update(chunk)
        self._written += len(chunk)
        if self._written - self._on_its_way >= _WRITTEN_AHEAD_BYTES and hasattr(os, "posix_fadvise"):
            # Linux begins to write such pages, and drops none that is not written yet: a store that takes the file
            # and syncs it has little left to wait for.
            fresh = self._written - self._on_its_way
            os.posix_fadvise(self._file.fileno(), self._on_its_way, fresh, os.POSIX_FADV_DONTNEED)
            self._on_its_way = self._written

    def flush(self) -> None:
        """Write out what the file still buffers and let go of its handle."""
        if self._file is not None and not self._file.closed:
            self._file.close()

    def sha256(self) -> str:
        """Return the hex sha256 of everything added."""
        return self._hash.hexdigest()

    def read(self, most: int) -> Iterator[Chunk]:
        """Read everything back in pieces of at most ``most`` bytes."""
        with self._path.open("rb") as file:
            while piece := file.read(most):
                yield piece

    @property
    def file(self) -> Path | None:
        """The file, where there is one: it is made with the first bytes."""
        return self._path if self._file is not None else None

    def remove(self) -> None:
        """Remove the file."""
        if self._file is not None and not self._file.closed:
            # A full disk fails the last flush too; the bytes go anyway.
            with contextlib.suppress(OSError):
                self._file.close()
        self._path.unlink(missing_ok=True)
