"""Folders for files that do not outlive their process, and what their disk may lack."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedn_py.errors import OwnFault


class DiskFull(OwnFault):
    """This host's disk has no room left for what is at hand."""


class NoFilesLeft(OwnFault):
    """This process, or this host, has as many files and connections open as it may."""


class DiskFailed(OwnFault):
    """This host's disk cannot be read or written."""


@contextmanager
def disk_faults(doing: str) -> Iterator[None]:
    """Turn the system's errors about a disk into faults with a way out.

    Args:
        doing: what is being done, for the message: "keeping the upload".
    """
    try:
        yield
    except OSError as fault:
        where = f" ({fault.filename})" if fault.filename else ""
        if fault.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull(
                f"the disk is full: {doing} needs more room{where}",
                remedy="Free some room on this host's disk, or give state_dir a larger one.",
            ) from fault
        if fault.errno in {errno.EMFILE, errno.ENFILE}:
            raise NoFilesLeft(
                f"no more files can be opened: {doing} needs one",
                remedy="Raise this process's limit of open files (LimitNOFILE in a systemd unit), or let fewer in.",
            ) from fault
        raise DiskFailed(
            f"the disk failed while {doing}: {fault.strerror or fault}{where}",
            remedy="Look at this host's disk and at the rights of state_dir.",
        ) from fault


def empty_folder(path: Path) -> Path:
    """Make a folder, or empty it of what an earlier life left there, and return it; raises DiskFull, DiskFailed."""
    with disk_faults("emptying a scratch folder"):
        if path.exists():
            shutil.rmtree(path)
        path.mkdir(parents=True, mode=0o700)
    return path
