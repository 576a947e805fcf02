"""The log beside a client's memory, looked at before SQLite opens the two: SQLite takes one that is none for empty.

The database itself says whether it is whole without its log. Where it is not, the log has a header from its first
moment on, and a newer one takes the place of an older one at once, so nothing but damage makes it short or wrong. What
follows the header is not looked at: a log without one whole commit is what a cut right behind a new header leaves.

Source: SQLite's "Database File Format", sections "Application ID" and "WAL File Format".
"""

import struct
from pathlib import Path

NEEDS_LOG = 1
"""In the database's header, its application's own number: what was written last is in the log."""

_MARK = slice(68, 72)
_MAGIC = {b"\x37\x7f\x06\x82": "<", b"\x37\x7f\x06\x83": ">"}
"""First bytes of a log, and in which order the bytes of a number are summed."""

_HEADER_BYTES, _SUMMED_BYTES = 32, 24


def fault_of_log(database: Path) -> str | None:
    """Say what is wrong with the log of a database; None where nothing is, or where none is needed.

    Nobody in this process has the database open: whoever closes a file lets go of all locks of its process on it.

    Raises:
        OSError: the database or its log cannot be read.
    """
    if int.from_bytes(_first_bytes(database, _MARK.stop)[_MARK], "big") != NEEDS_LOG:
        return None
    log = database.with_name(f"{database.name}-wal")
    header = _first_bytes(log, _HEADER_BYTES) if log.exists() else b""
    if not header:
        return f"{log} is missing, with what was written last"
    if not _is_header(header):
        return f"{log} is damaged, with what was written last"
    return None


def _first_bytes(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _is_header(header: bytes) -> bool:
    order = _MAGIC.get(header[:4])
    if order is None or len(header) < _HEADER_BYTES:
        return False
    first = second = 0
    for one, other in struct.iter_unpack(f"{order}II", header[:_SUMMED_BYTES]):
        first = (first + one + second) % 2**32
        second = (second + other + first) % 2**32
    return header[_SUMMED_BYTES:] == struct.pack(">II", first, second)
