"""An object on its way to this host, given out while it comes.

What is given out is what the sender's store found to be whole or, of a store that is read here, is being found so: its
last byte is kept back until the object is here and its digest is right, so nobody receives a whole wrong object.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from fedn_py.identity import Digest
from fedn_py.store.ports import StoreUnavailable

_PIECE_BYTES = 1024 * 1024


class Coming:
    """One object on its way into a file; for one event loop.

    Attributes:
        size: bytes in all, 0 until the sender has said so.
    """

    def __init__(self, digest: Digest, whole_at: Path) -> None:
        self._digest, self._whole_at = digest, whole_at
        self._file = whole_at
        self._here = 0
        self.size = 0
        self._whole = False
        self._fault: Exception | None = None
        self._moves = 0
        self._next: asyncio.Future[None] | None = None

    def moved(self, file: Path, here: int, size: int) -> None:
        """Note how much is in the file."""
        self._file, self._here, self.size = file, here, size
        self._wake()

    def arrived(self, size: int) -> None:
        """Note that the object is whole and right, and has its name."""
        self._file, self.size, self._whole = self._whole_at, size, True
        self._wake()

    def failed(self, fault: Exception) -> None:
        """Note that it does not come."""
        self._fault = fault
        self._wake()

    def _wake(self) -> None:
        self._moves += 1
        if self._next is not None:
            self._next.set_result(None)
            self._next = None

    async def begun(self) -> int:
        """Wait until its size is known and return it; raises why it does not come."""
        while not self.size and not self._whole:
            await self._after(self._moves)
        return self.size

    async def _after(self, moves: int) -> None:
        """Wait until there was a move more than so many; raises why it does not come."""
        while self._moves == moves and self._fault is None:
            if self._next is None:
                self._next = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._next)
        if self._fault is not None and not self._whole:
            raise self._fault

    async def pieces(self, offset: int) -> AsyncIterator[bytes]:
        """Give out its bytes from an offset, as they come.

        Raises:
            StoreUnavailable: its transfer has begun anew; what was given out may be gone on with.
            FednError: why it does not come.
        """
        await self.begun()
        file, position = await asyncio.to_thread(self._opened, offset), offset
        try:
            while True:
                moves, is_whole = self._moves, self._whole
                here = self.size if is_whole else min(self._here, self.size - 1)
                piece = await asyncio.to_thread(_read, file, here - position)
                position += len(piece)
                if piece:
                    yield piece
                elif is_whole and position >= self.size:
                    return
                elif is_whole:
                    raise StoreUnavailable(
                        f"the transfer of object {self._digest} has begun anew", remedy="Go on from there; it is here."
                    )
                else:
                    await self._after(moves)
        finally:
            await asyncio.to_thread(file.close)

    def _opened(self, offset: int) -> BinaryIO:
        try:
            file = self._file.open("rb")
        except FileNotFoundError:  # it has become whole just now
            file = self._whole_at.open("rb")
        file.seek(offset)
        return file


def _read(file: BinaryIO, most: int) -> bytes:
    return file.read(min(most, _PIECE_BYTES)) if most > 0 else b""
