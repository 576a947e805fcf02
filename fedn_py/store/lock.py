"""A folder that one process at a time may use."""

import fcntl
import os
from pathlib import Path

from fedn_py.store.ports import StoreInUse, StoreMisconfigured


class FolderLock:
    """Holds a folder for this process until released; the system releases it when the process dies."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            StoreInUse: another process holds it.
            StoreMisconfigured: the folder cannot be written to.
        """
        path = folder / "lock"
        try:
            self._file = path.open("a+")
        except OSError as error:
            raise StoreMisconfigured(
                f"{path} cannot be opened: {error.strerror}",
                remedy="Give the process a folder of its own that it may write to.",
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read(20).strip() or "unknown"
            self._file.close()
            raise StoreInUse(
                f"{folder} is in use by another process (process id {holder})",
                remedy="Stop that process first, or give this one another folder.",
            ) from error
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Let others have the folder."""
        self._file.close()
