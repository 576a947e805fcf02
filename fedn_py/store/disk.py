"""What the adapters ask of a local disk, with its errors named."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedn_py.store.ports import StoreFull, StoreMisconfigured, StoreUnavailable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG})


@contextmanager
def named_faults(folder: Path) -> Iterator[None]:
    """Turn an OSError into StoreFull, StoreMisconfigured or StoreUnavailable, with ``folder`` in the message."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFull(
                f"there is no room left in {folder}: {error.strerror}",
                remedy="Free some disk space or raise the quota; nothing was kept of what was being written.",
            ) from error
        if error.errno in _REFUSED:
            raise StoreMisconfigured(
                f"{folder} cannot be written to: {error}",
                remedy="Give the process a folder of its own that it may write to.",
            ) from error
        raise StoreUnavailable(
            f"the disk failed under {folder}: {error}", remedy="Check the disk and the system's log."
        ) from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, as syncing a file does not."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder that this user alone may read, and its parents; nothing happens when it is there."""
    with named_faults(folder):
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_folder(folder.parent)
