"""What streams that were cut have left in memory, and how it makes room for what comes in now.

Their senders may be back in a second, or never; nobody else should have to wait for that. So it moves to disk as soon
as another upload finds no memory, and its sender goes on with it there.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

from fedn_py.transport.held_upload import HeldUpload


class LeftUploads:
    """Moves uploads that nobody writes from memory to disk; for one event loop.

    Args:
        uploads: all that are held.
        fits: says whether, beside so many bytes in memory, there is place for so many more.
        disk_free: bytes.
        new_file: a path where there is no file yet.
        freed: called when memory was freed.
    """

    def __init__(
        self,
        uploads: Callable[[], Iterable[HeldUpload]],
        fits: Callable[[int, int], bool],
        disk_free: Callable[[], int],
        new_file: Callable[[], Path],
        freed: Callable[[], None],
    ) -> None:
        self._uploads, self._fits, self._disk_free = uploads, fits, disk_free
        self._new_file, self._freed = new_file, freed
        self._moves: set[asyncio.Task[None]] = set()

    def make_room(self, size: int) -> None:
        """Begin to move all that is left in memory, where an upload of this size has a place without it."""
        in_memory = [one for one in self._uploads() if one.in_memory]
        if not self._fits(sum(one.size for one in in_memory if not one.is_left), size):
            return
        for upload in in_memory:
            if upload.is_left and not upload.on_disk and upload.size <= self._disk_free():
                upload.begin_move()
                move = asyncio.ensure_future(self._move(upload))
                self._moves.add(move)
                move.add_done_callback(self._moves.discard)

    async def close(self) -> None:
        """Wait for the moves that are under way."""
        await asyncio.gather(*self._moves)

    async def _move(self, upload: HeldUpload) -> None:
        try:
            with contextlib.suppress(OSError):  # then it stays where it is
                await upload.move_to(self._new_file())
        finally:
            if not upload.in_memory:
                self._freed()
