"""Objects from the combiner in a bounded folder of this client: each is what its name says, or is fetched anew."""

import hashlib
import os
import time
from pathlib import Path

from fedn_py.client.ports import Fetch
from fedn_py.identity import Digest
from fedn_py.transport.completion import in_thread


class ObjectFolder:
    """Keeps the objects that were used last.

    Args:
        folder: made if absent.
        suffix: of the files' names, behind the digest.
        most_kept: how many stay.
    """

    def __init__(self, folder: Path, suffix: str, most_kept: int) -> None:
        self._folder = folder
        self._suffix = suffix
        self._most_kept = most_kept
        folder.mkdir(parents=True, exist_ok=True)

    async def have(self, digest: Digest, fetch: Fetch) -> Path:
        """Return an object's file, downloaded where it is not here or is not what it was.

        Raises:
            FednError: of the download.
        """
        file = self._folder / f"{digest}{self._suffix}"
        # Looked at whole each time: a package may have written into it, or a disk may have failed, since the last use.
        if not await in_thread(hashes_to, file, digest):
            await in_thread(file.unlink, missing_ok=True)
            await fetch(digest, file)
        await in_thread(self._tidy, file)
        return file

    def _tidy(self, newest: Path) -> None:
        now = time.time_ns()  # a file system's own clock is too coarse to tell which was used last
        os.utime(newest, ns=(now, now))
        others = [file for file in self._folder.glob(f"*{self._suffix}") if file != newest]
        others.sort(key=lambda file: file.stat().st_mtime_ns, reverse=True)
        # Beside the oldest go the beginnings of downloads that were given up: none is under way now.
        for file in [*others[self._most_kept - 1 :], *self._folder.glob(".*.part")]:
            file.unlink(missing_ok=True)


def hashes_to(file: Path, digest: Digest) -> bool:
    """Say whether a file is there and its content is that of a digest. Blocking."""
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == digest
    except FileNotFoundError:
        return False
