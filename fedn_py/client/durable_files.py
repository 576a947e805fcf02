"""Files that are whole or not there, and where they must outlive a power cut, on the disk before anything is said."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fedn_py.errors import OwnFault


class StateDamaged(OwnFault):
    """Something in the state folder is missing or cannot be read; the client does not go on without it."""


@contextmanager
def durable(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write to; at the end it has its name, and file and folder are synced. A fault leaves nothing."""
    with whole(path) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write to, for this user alone, that has its name at the end. A fault leaves nothing.

    A power cut may leave anything under its name: who reads it in another life of this process looks at its digest.
    """
    with (
        in_the_making(path) as partial,
        os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file,
    ):
        yield file


@contextmanager
def in_the_making(path: Path) -> Iterator[Path]:
    """Give the name under which to write a file that has its own at the end; a fault leaves nothing."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Sync a folder's list of names."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
