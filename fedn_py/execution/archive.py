"""Checking compute packages and unpacking them into a folder of their own.

A member is extracted only after the whole archive has passed, and a package's folder appears whole or not at all.
"""

import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fedn_py.errors import PeerFault
from fedn_py.execution.archive_scan import DEFAULT_LIMITS, PackageLimits, UnpackingFailed, checked_members, opened
from fedn_py.execution.manifest import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    Command,
    InvalidManifest,
    Manifest,
    parse_manifest,
)
from fedn_py.execution.python_env import parse_python_env
from fedn_py.identity import Digest


class PackageWithoutManifest(PeerFault):
    """A package without fedn.yaml in its root."""

    def __init__(self, found_at: str = "") -> None:
        hint = f" (there is one at {found_at[:200]!a})" if found_at else ""
        super().__init__(
            f"the package has no {MANIFEST_NAME} in its root{hint}",
            remedy=f"Run fedn-py package create on the folder that {MANIFEST_NAME} is in.",
        )


@dataclass(frozen=True, slots=True)
class PackageContents:
    """What is in a package that passed.

    Attributes:
        digest: sha256 of the archive's bytes.
        archive_bytes, total_bytes: the archive's size, and that of its files.
        files: path to size of each regular file, in the archive's order.
    """

    digest: Digest
    manifest: Manifest
    archive_bytes: int
    total_bytes: int
    files: dict[str, int]


@dataclass(frozen=True, slots=True)
class UnpackedPackage:
    """A package's own folder on this machine."""

    digest: Digest
    manifest: Manifest
    folder: Path


def inspect_archive(file: Path, limits: PackageLimits = DEFAULT_LIMITS) -> PackageContents:
    """Check a package without unpacking it.

    Raises:
        UnsafeArchive, PackageTooLarge, PackageWithoutManifest, InvalidManifest, InvalidPythonEnv: why it is refused.
    """
    with opened(file, limits) as (digest, archive):
        members = checked_members(archive, limits)
        return _contents(file, digest, archive, members)


def unpack(file: Path, into: Path, limits: PackageLimits = DEFAULT_LIMITS) -> UnpackedPackage:
    """Check a package and unpack it into the folder ``into/<digest>``, unless that is there already.

    Raises:
        UnsafeArchive, PackageTooLarge, PackageWithoutManifest, InvalidManifest, InvalidPythonEnv: why it is refused.
        UnpackingFailed: the disk is full or cannot be written.
    """
    with opened(file, limits) as (digest, archive):
        members = checked_members(archive, limits)
        contents = _contents(file, digest, archive, members)
        folder = into / digest
        if not folder.is_dir():
            try:
                _extract(archive, members, folder)
            except OSError as fault:
                raise UnpackingFailed(
                    f"the package could not be unpacked into {into}: {fault}", remedy="Free or enlarge the disk."
                ) from fault
    return UnpackedPackage(digest, contents.manifest, folder)


def _contents(file: Path, digest: Digest, archive: tarfile.TarFile, members: list[tarfile.TarInfo]) -> PackageContents:
    files = {member.name: member for member in members if member.isreg()}
    if MANIFEST_NAME not in files:
        raise PackageWithoutManifest(next((name for name in files if name.endswith(f"/{MANIFEST_NAME}")), ""))
    manifest = parse_manifest(_start_of(archive, files[MANIFEST_NAME]))
    sizes = {name: member.size for name, member in files.items()}
    check_files(manifest, set(sizes))
    if manifest.python_env:
        parse_python_env(_start_of(archive, files[manifest.python_env]))
    return PackageContents(digest, manifest, file.stat().st_size, sum(sizes.values()), sizes)


def _start_of(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    return stream.read(MAX_MANIFEST_BYTES + 1) if stream else b""


def check_files(manifest: Manifest, files: set[str]) -> None:
    """Raise InvalidManifest where the manifest names a file that the package does not have."""
    faults = [
        f"{name} runs {script!r}, which is not in the package"
        for name, command in manifest.commands().items()
        if (script := _script(command)) and script not in files
    ]
    if manifest.python_env and manifest.python_env not in files:
        faults.append(f"python_env is {manifest.python_env!r}, which is not in the package")
    if faults:
        raise InvalidManifest(faults)


def _script(command: Command) -> str:
    """Return the package's own file that a command runs, where the command line shows it."""
    first, *others = command.words
    if first.startswith("./"):
        return first.removeprefix("./")
    if first in ("python", "python3") and others and others[0].endswith(".py"):
        return others[0].removeprefix("./")
    return ""


def _extract(archive: tarfile.TarFile, members: list[tarfile.TarInfo], folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder.parent))
    try:
        for member in members:
            archive.extract(member, partial, set_attrs=True, filter="data")
        _flush(partial)
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process unpacked the same package in the meantime otherwise
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _flush(folder: Path) -> None:
    # After a power failure the renamed folder must not hold empty files.
    for path in [folder, *folder.rglob("*")]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
