"""A backup on a disk: whole or none, and nothing in it is believed that was not hashed."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fedn_py.errors import FednError
from fedn_py.identity import Digest
from fedn_py.store.backup_folder import (
    Backup,
    BackupDamaged,
    Manifest,
    NotABackup,
    open_backup,
    open_writing,
)
from fedn_py.store.ports import Document, ObjectCorrupt, StoreInUse

MODEL = b"a model" * 1000
SESSION = Document("5e55", 3, 7, "op", {"name": "Köln", "rounds": 3, "done": True, "loss": 0.1})


async def some(*things: Document) -> AsyncIterator[Document]:
    for thing in things:
        yield thing


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def written(folder: Path) -> Manifest:
    writer = open_writing(folder)
    await writer.write_documents("sessions", some(SESSION, replace(SESSION, key="5e56")))
    stat = await writer.objects.put(pieces(MODEL))
    manifest = await writer.finish(Manifest(1, 1, "0.1.0", "hospitals", "reducer", 1.0, {}, {stat.digest: stat.size}))
    await writer.close()
    return manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    asyncio.run(written(tmp_path / "backup"))
    return tmp_path / "backup"


def read(folder: Path) -> None:
    """Read all of a backup, as verify and restore do."""

    async def story() -> None:
        backup: Backup = open_backup(folder)
        try:
            backup.check_documents("sessions")
            assert list(backup.documents("sessions")) == [SESSION, replace(SESSION, key="5e56")]
            for digest in backup.manifest.objects:
                backup.check_size(digest)
                async for _ in backup.objects.get(digest):
                    pass
        finally:
            await backup.close()

    asyncio.run(story())


def the_model(folder: Path) -> Path:
    (found,) = [path for path in (folder / "objects").rglob("*") if path.is_file()]
    return found


def test_what_was_written_is_read_and_the_manifest_is_the_last_of_it(folder: Path) -> None:
    read(folder)
    assert {path.name for path in folder.iterdir()} == {"manifest.json", "documents", "objects"}
    newest = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime_ns)
    assert newest.name == "manifest.json"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_copy_of_it_on_a_disk_that_cannot_be_written_is_read_too(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    before = sorted(folder.rglob("*"))
    read(folder)
    assert sorted(folder.rglob("*")) == before
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o700)


def test_two_at_once_do_not_write_one_backup(tmp_path: Path) -> None:
    first = open_writing(tmp_path / "backup")
    with pytest.raises(StoreInUse):
        open_writing(tmp_path / "backup")
    asyncio.run(first.close())
    asyncio.run(open_writing(tmp_path / "backup").close())


# ---- damage


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def link(path: Path) -> None:
    """Put a link in its place, to a file of the same bytes elsewhere."""
    elsewhere = path.parents[3] / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def pipe(path: Path) -> None:
    """Put something in its place that nobody ever reads to its end."""
    path.unlink()
    os.mkfifo(path)


DAMAGE: list[Callable[[Path], None]] = [flip, cut, Path.unlink, link, pipe]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_object_is_not_read(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(the_model(folder))
    with pytest.raises((BackupDamaged, ObjectCorrupt)):
        read(folder)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_documents_are_not_read(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder / "documents" / "sessions")
    with pytest.raises(BackupDamaged, match="sessions"):
        read(folder)


@pytest.mark.parametrize("damage", [flip, cut, pipe, lambda path: path.write_text("[" * 100_000)])
def test_a_damaged_manifest_is_not_believed(folder: Path, damage: Callable[[Path], None]) -> None:
    text = (folder / "manifest.json").read_text()
    for at in range(3):
        (folder / "manifest.json").unlink(missing_ok=True)
        (folder / "manifest.json").write_text(text.rstrip("\n")[: len(text) - at * 40])
        damage(folder / "manifest.json")
        with pytest.raises(BackupDamaged, match=r"manifest\.json"):
            open_backup(folder)


def test_a_manifest_of_another_backup_is_found_out(folder: Path, tmp_path: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["manifest"]["deployment"] = "another"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BackupDamaged, match="not the one that was written"):
        open_backup(folder)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "a" * 63, "A" * 64, "é" * 64, ""])
def test_a_manifest_that_names_anything_but_digests_is_refused_though_its_hash_is_right(
    folder: Path, name: str
) -> None:
    manifest = open_backup(folder).manifest
    for how in ({"objects": {Digest(name): 1}}, {"lacking": (Digest(name),)}):
        _write(folder, replace(manifest, **how))  # type: ignore[arg-type]
        with pytest.raises(BackupDamaged):
            open_backup(folder)


def test_a_collection_that_is_a_path_is_refused(folder: Path) -> None:
    manifest = open_backup(folder).manifest
    files = {"../../etc": manifest.documents["sessions"]}
    _write(folder, replace(manifest, documents=files))  # type: ignore[arg-type]
    with pytest.raises(BackupDamaged):
        open_backup(folder)


def _write(folder: Path, manifest: Manifest) -> None:
    (folder / "manifest.json").write_text(json.dumps({"manifest": asdict(manifest), "sha256": manifest.id}))


@pytest.mark.parametrize(
    ("line", "said"),
    [("{", "line 2"), ("[]", "line 2"), ('{"key": "a"}', "line 2"), ('{"key":"a","content":3}', "line 2")],
)
def test_a_line_that_is_no_document_is_named(folder: Path, line: str, said: str) -> None:
    file = folder / "documents" / "sessions"
    file.write_text(file.read_text().splitlines()[0] + f"\n{line}\n")
    with pytest.raises(BackupDamaged, match=said):
        list(open_backup(folder).documents("sessions"))


def test_a_folder_that_is_none_says_so(tmp_path: Path) -> None:
    for make in (lambda: None, (tmp_path / "backup").mkdir):
        make()
        with pytest.raises(NotABackup, match="is no backup"):
            open_backup(tmp_path / "backup")


def test_a_form_of_a_later_release_is_named_with_that_release(folder: Path) -> None:
    _write(folder, replace(open_backup(folder).manifest, format=2, software="9.9"))  # type: ignore[arg-type]
    with pytest.raises(NotABackup, match="form 2") as refused:
        open_backup(folder)
    assert isinstance(refused.value, FednError)
    assert "9.9" in refused.value.remedy
