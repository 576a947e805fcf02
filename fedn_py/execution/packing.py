"""Making a compute package from a folder: the same files give the same bytes, whenever and wherever.

Left out: hidden files, ``__pycache__``, virtual environments, and what ``.fednignore`` in the folder lists, one
pattern of a path or name a line (``*``, ``?``, ``[...]``; a trailing slash means a folder; ``#`` begins a comment).
"""

import fnmatch
import gzip
import hashlib
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from fedn_py.errors import OwnFault
from fedn_py.execution.archive import PackageWithoutManifest, check_files
from fedn_py.execution.manifest import MANIFEST_NAME, parse_manifest
from fedn_py.identity import Digest

IGNORE_NAME = ".fednignore"
_NEVER = ("__pycache__", "*.pyc", "*.egg-info", "node_modules")


class UnpackableFolder(OwnFault):
    """A folder with something that a package cannot hold."""


def create_package(folder: Path, out_file: Path) -> Digest:
    """Pack a folder with a ``fedn.yaml`` into a ``.tar.gz``.

    Returns:
        sha256 of the archive; equal files give an equal digest.

    Raises:
        PackageWithoutManifest, InvalidManifest: there is no sound fedn.yaml.
        UnpackableFolder: a link is in the folder, or it is no folder.
    """
    if not folder.is_dir():
        raise UnpackableFolder(f"{folder} is no folder", remedy=f"Give the folder that {MANIFEST_NAME} is in.")
    if not (folder / MANIFEST_NAME).is_file():
        raise PackageWithoutManifest
    files = package_files(folder, leave_out=out_file)
    check_files(parse_manifest((folder / MANIFEST_NAME).read_bytes()), set(files))
    partial = out_file.with_name(f"{out_file.name}.partial")
    try:
        with (
            partial.open("wb") as raw,
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as compressed,
            tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for name in files:
                _add(archive, folder / name, name)
        partial.replace(out_file)
    finally:
        partial.unlink(missing_ok=True)
    with out_file.open("rb") as packed:
        return Digest(hashlib.file_digest(packed, "sha256").hexdigest())


def package_files(folder: Path, leave_out: Path | None = None) -> list[str]:
    """Return the files of a folder that belong into its package, sorted by path.

    Raises:
        UnpackableFolder: one of them is a link, a device or the like.
    """
    patterns = [*_NEVER, *_ignored(folder)]
    return sorted(name for name in _walk(folder, folder, patterns) if folder / name != leave_out)


def _walk(folder: Path, root: Path, patterns: list[str]) -> Iterator[str]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        name = Path(entry.path).relative_to(root).as_posix()
        if entry.name.startswith(".") or any(_matches(name, entry, pattern) for pattern in patterns):
            continue
        if entry.is_dir(follow_symlinks=False):
            if not (Path(entry.path) / "pyvenv.cfg").exists():
                yield from _walk(Path(entry.path), root, patterns)
        elif entry.is_file(follow_symlinks=False):
            yield name
        else:
            raise UnpackableFolder(
                f"{name} is a link or no plain file, which a package cannot hold",
                remedy=f"Copy the file into the folder, or list it in {IGNORE_NAME}.",
            )


def _matches(name: str, entry: os.DirEntry[str], pattern: str) -> bool:
    if pattern.endswith("/"):
        if not entry.is_dir(follow_symlinks=False):
            return False
        pattern = pattern.rstrip("/")
    return fnmatch.fnmatchcase(name, pattern.lstrip("/")) or fnmatch.fnmatchcase(entry.name, pattern)


def _ignored(folder: Path) -> list[str]:
    file = folder / IGNORE_NAME
    if not file.is_file():
        return []
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    member = tarfile.TarInfo(name)
    status = path.stat()
    member.size = status.st_size
    member.mode = 0o755 if status.st_mode & 0o100 else 0o644
    with path.open("rb") as content:
        archive.addfile(member, content)
