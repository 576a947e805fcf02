"""Looking through the archive of a compute package that comes from strangers, before anything of it is unpacked.

A package is a ``.tar.gz``. Rules kept here:

- Regular files and folders only: no links, devices, sparse files; no absolute path, no ``..``, no name that stands
  twice, none that differs from another only in upper and lower case (they would be one file on some systems).
- Bytes are counted while they are decompressed, not believed: a bound on each file, on all, on their number and on
  how far the archive may swell.

The archive is first decompressed into a temporary file, because a reader that cannot seek would have to hold in
memory what hostile headers announce.
"""

import gzip
import hashlib
import io
import os
import tarfile
import tempfile
import unicodedata
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from fedn_py.errors import OwnFault, PeerFault
from fedn_py.identity import Digest

MIB = 1024 * 1024
_CHUNK_BYTES = MIB
_RATIO_FLOOR_BYTES = 16 * MIB  # below this a high compression ratio is harmless
_MAX_PATH_CHARACTERS = 1_024
_MAX_NAME_BYTES = 255
_MAX_READS_FOR_A_MEMBER = 32  # header, long name, extended header, and what each of them announces: far fewer
_PLAIN_TYPES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE)


class UnsafeArchive(PeerFault):
    """An archive that is broken, or holds something that a package may not hold.

    Attributes:
        member: the path in the archive, empty where the whole archive is meant.
        why: what is wrong with it.
    """

    def __init__(self, member: str, why: str) -> None:
        where = f"{member[:200]!a} {why}" if member else f"it {why}"
        super().__init__(
            f"the package is not safe to unpack: {where}",
            remedy="Make the package with: fedn-py package create FOLDER",
        )
        self.member, self.why = member, why


class PackageTooLarge(PeerFault):
    """A package with more or larger files than this side takes."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(
            f"the package has {what}, more than {limit:,}",
            remedy="Leave data and environments out of it (.fednignore), or have the limit raised where it is refused.",
        )
        self.limit = limit


class UnpackingFailed(OwnFault):
    """This side could not write what a sound package holds, mostly for lack of space."""


@dataclass(frozen=True, slots=True)
class PackageLimits:
    """How large a package may be.

    Attributes:
        archive_bytes: the .tar.gz itself.
        total_bytes: all files unpacked.
        file_bytes: one file unpacked.
        members: files and folders.
        ratio: how many times larger than the archive its content may be, beyond 16 MiB.
    """

    archive_bytes: int = 1024 * MIB
    total_bytes: int = 2048 * MIB
    file_bytes: int = 1024 * MIB
    members: int = 10_000
    ratio: int = 200


DEFAULT_LIMITS = PackageLimits()


@contextmanager
def opened(file: Path, limits: PackageLimits) -> Iterator[tuple[Digest, tarfile.TarFile]]:
    """Open an archive for as long as the context lasts; gives its sha256 and the reader of its members.

    Raises:
        UnsafeArchive, PackageTooLarge: why it is refused; also from within the context, where reading goes wrong.
        UnpackingFailed: the file cannot be read, or there is no room to decompress it.
    """
    try:
        size = file.stat().st_size
    except OSError as fault:
        raise UnpackingFailed(f"{file} cannot be read: {fault.strerror}", remedy="Check the path.") from fault
    if size > limits.archive_bytes:
        raise PackageTooLarge(f"{size:,} bytes", limits.archive_bytes)
    with tempfile.TemporaryFile() as plain:
        digest = _decompress(file, cast("IO[bytes]", plain), size, limits)
        try:
            with tarfile.open(fileobj=_ForwardReader(cast("IO[bytes]", plain)), mode="r:") as archive:
                yield digest, archive
        except (tarfile.TarError, EOFError, RecursionError, ValueError, OverflowError) as fault:
            raise UnsafeArchive("", f"is no sound tar archive ({type(fault).__name__})") from fault


def _decompress(file: Path, plain: IO[bytes], size: int, limits: PackageLimits) -> Digest:
    # Headers and padding come on top of the files' bytes: at most two blocks for each member and its long name.
    most = limits.total_bytes + limits.members * 4 * tarfile.BLOCKSIZE + tarfile.RECORDSIZE
    with file.open("rb") as raw:
        digest = hashlib.file_digest(raw, "sha256").hexdigest()
        raw.seek(0)
        written = 0
        try:
            with gzip.GzipFile(fileobj=raw) as content:
                while chunk := content.read(_CHUNK_BYTES):
                    written += len(chunk)
                    if written > most:
                        raise PackageTooLarge(f"over {limits.total_bytes:,} bytes unpacked", limits.total_bytes)
                    if written > max(_RATIO_FLOOR_BYTES, size * limits.ratio):
                        raise UnsafeArchive("", f"swells to more than {limits.ratio} times its size")
                    plain.write(chunk)
        except (gzip.BadGzipFile, EOFError, zlib.error) as fault:
            raise UnsafeArchive("", f"is not a whole gzip file ({fault})") from fault
        except OSError as fault:
            raise UnpackingFailed(
                f"{file} cannot be decompressed: {fault}", remedy="Free or enlarge the disk."
            ) from fault
    plain.seek(0)
    return Digest(digest)


class _ForwardReader(io.RawIOBase):
    """Lets tarfile go forwards only and read a little, a few times for each member, while it looks for headers.

    A header may announce a negative size, which sends tarfile round in circles, or a huge one for what it keeps in
    memory. Headers that describe headers have tarfile call itself for each of them.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._reached = -1
        self._reads = 0
        self.headers_only = True

    def begin_member(self) -> None:
        """Allow the reads of one more member."""
        self._reads = 0

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MIB:
            raise tarfile.ReadError("a header asks for too much")
        self._reads += 1
        if self.headers_only and self._reads > _MAX_READS_FOR_A_MEMBER:
            raise tarfile.ReadError("headers describe headers")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if self.headers_only:
            if whence != os.SEEK_SET or offset <= self._reached:
                raise tarfile.ReadError("a header leads backwards")
            self._reached = offset
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def checked_members(archive: tarfile.TarFile, limits: PackageLimits) -> list[tarfile.TarInfo]:
    """Return every member, its name made plain, or raise UnsafeArchive or PackageTooLarge."""
    members: list[tarfile.TarInfo] = []
    seen: dict[str, str] = {}
    total = 0
    reader = cast("_ForwardReader", archive.fileobj)
    for member in archive:
        reader.begin_member()
        _check_kind(member, limits)
        member.name = _checked_path(member.name)
        total += member.size
        if len(members) >= limits.members:
            raise PackageTooLarge(f"over {limits.members:,} files", limits.members)
        if total > limits.total_bytes:
            raise PackageTooLarge(f"over {limits.total_bytes:,} bytes unpacked", limits.total_bytes)
        if member.name != ".":
            _check_unique(member, seen)
            members.append(member)
    reader.headers_only = False
    return members


def _check_kind(member: tarfile.TarInfo, limits: PackageLimits) -> None:
    if member.issym() or member.islnk():
        raise UnsafeArchive(member.name, f"is a link (to {member.linkname[:200]!a})")
    if member.type not in _PLAIN_TYPES or member.issparse():
        raise UnsafeArchive(member.name, "is neither a plain file nor a folder")
    if member.size < 0 or (member.isdir() and member.size):
        raise UnsafeArchive(member.name, f"has a size of {member.size}")
    if member.size > limits.file_bytes:
        raise PackageTooLarge(f"a file {member.name[:200]!a} of {member.size:,} bytes", limits.file_bytes)


def _checked_path(name: str) -> str:
    """Return the path without leading ``./`` and trailing ``/``, or raise UnsafeArchive."""
    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        raise UnsafeArchive(name, "is an absolute path")
    parts = PurePosixPath(name).parts
    if ".." in parts:
        raise UnsafeArchive(name, "leads out of the package")
    if "\\" in name or any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise UnsafeArchive(name, "has characters that a path may not have")
    if len(name) > _MAX_PATH_CHARACTERS or any(len(part.encode()) > _MAX_NAME_BYTES for part in parts):
        raise UnsafeArchive(name, "is too long a path")
    return "/".join(parts) or "."


def _check_unique(member: tarfile.TarInfo, seen: dict[str, str]) -> None:
    """Refuse a second member of the same name, a name's twin in another case, and a file used as a folder.

    ``seen`` maps each folded path, of members and of the folders they imply, to its spelling; a trailing slash marks
    a folder.
    """
    path = PurePosixPath(member.name)
    for parent in reversed(path.parents[:-1]):
        _claim(f"{parent}/", member.name, seen)
    if member.isdir():
        _claim(f"{path}/", member.name, seen)
        return
    if _folded(str(path)) in seen:
        raise UnsafeArchive(member.name, "stands twice, or once in another case")
    _claim(str(path), member.name, seen)


def _claim(spelling: str, name: str, seen: dict[str, str]) -> None:
    if seen.setdefault(_folded(spelling.rstrip("/")), spelling) != spelling:
        raise UnsafeArchive(name, "stands twice, or once in another case")


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
