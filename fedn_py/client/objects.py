"""Objects from the combiner in a bounded folder of this client: each is what its name says, or is fetched anew."""

import hashlib
import itertools
import os
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
        self._used: dict[str, int] = {}
        self._uses = itertools.count(1)
        folder.mkdir(parents=True, exist_ok=True)

    async def have(self, digest: Digest, fetch: Fetch) -> Path:
        """Return an object's file, downloaded where it is not here or is not what it was.

        Raises:
            FednError: of the download.
        """
        file = self._folder / f"{digest}{self._suffix}"
        self._used[file.name] = next(self._uses)
        # In one call, to change to a thread but once; and before the download, which finds room then.
        if not await in_thread(self._look, file, digest):
            await fetch(digest, file)
        return file

    def _look(self, file: Path, digest: Digest) -> bool:
        """Say whether an object is here, and let go of those that were not used for longest."""
        # Looked at whole each time: a package may have written into it, or a disk may have failed, since the last use.
        is_here = hashes_to(file, digest)
        if is_here:
            os.utime(file)  # for the next life of this process
        else:
            file.unlink(missing_ok=True)
        others = [other for other in self._folder.glob(f"*{self._suffix}") if other != file]
        others.sort(key=self._last_use, reverse=True)
        # Beside the oldest go the beginnings of downloads that were given up, unless it is this one that goes on.
        begun = [part for part in self._folder.glob(".*.part") if not part.name.startswith(f".{file.name}.")]
        for old in [*others[self._most_kept - 1 :], *begun]:
            old.unlink(missing_ok=True)
            self._used.pop(old.name, None)
        return is_here

    def _last_use(self, file: Path) -> tuple[int, int]:
        """Return when it was used; a file system's own clock is too coarse for what this process has done itself."""
        return self._used.get(file.name, 0), file.stat().st_mtime_ns


def hashes_to(file: Path, digest: Digest) -> bool:
    """Say whether a file is there and its content is that of a digest. Blocking."""
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == digest
    except FileNotFoundError:
        return False
