"""A backup holds a network's documents and models as they fit together, and nothing that opens a sum."""

import asyncio
import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from kept_trail import FIRST, SEALED, SECOND, SUM, WRAPPED, Kept, a_kept_network, backed_up, digest_of, untold
from unruly_store import Trouble, UnrulyDocuments, UnrulyObjects

from fedn_py.identity import Digest
from fedn_py.reducer.backing_up import make_backup
from fedn_py.reducer.backup_check import Checked, check_backup
from fedn_py.reducer.records import SessionRecord
from fedn_py.store.backup_folder import (
    BackupExists,
    BackupWriter,
    DocumentFile,
    NotABackup,
    open_backup,
    open_writing,
)
from fedn_py.store.memory import MemoryObjects
from fedn_py.store.opening import Stores
from fedn_py.store.ports import Document, StoreUnavailable


async def checked(folder: Path) -> Checked:
    backup = open_backup(folder)
    try:
        return await check_backup(backup, untold)
    finally:
        await backup.close()


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_it_holds_every_document_and_every_model_and_is_found_whole(tmp_path: Path) -> None:
    async def story() -> None:
        kept = await a_kept_network()
        manifest = await backed_up(kept.stores, tmp_path / "backup")

        assert set(manifest.objects) == {digest_of(one) for one in (b"package", b"seed", b"5e55/1", b"5e55/2")}
        counts = {name: file.count for name, file in manifest.documents.items() if file.count}
        assert counts == {"sessions": 1, "rounds": 2, "packages": 1, "models": 1, "events": 1, "network": 1}
        found = await checked(tmp_path / "backup")
        assert found.is_whole
        assert (found.id, found.deployment, found.sessions, found.rounds) == (manifest.id, "hospitals", 1, 2)
        made = {path.name for path in (tmp_path / "backup").iterdir()}
        assert made == {"manifest.json", "documents", "objects"}

    asyncio.run(story())


def test_no_key_of_an_attempt_is_in_it_nor_what_serves_an_attempt_alone(tmp_path: Path) -> None:
    async def story() -> None:
        kept = await a_kept_network(status="running")
        terms = await kept.session(SECOND, 2, "running")
        await kept.running(terms, 1, terms.seed_model)
        await backed_up(kept.stores, tmp_path / "backup")

        assert (await checked(tmp_path / "backup")).is_whole
        everything = contents(tmp_path / "backup")
        assert WRAPPED.encode() not in everything
        assert SEALED.encode() not in everything
        assert SUM.encode() not in everything

    asyncio.run(story())


def test_progress_ends_at_all_bytes(tmp_path: Path) -> None:
    async def story() -> None:
        kept, told = await a_kept_network(), []
        writer = open_writing(tmp_path / "backup")
        await make_backup(
            kept.stores, writer, lambda done, total: told.append((done, total)), deployment="", reducer=""
        )
        await writer.close()
        total = len(b"package" + b"seed" + b"5e55/1" + b"5e55/2")
        assert told[-1] == (total, total)
        assert [done for done, _ in told] == sorted(done for done, _ in told)

    asyncio.run(story())


# ---- beside a reducer at work


class WhileRead:
    """Documents that change while they are read: just before the n-th query something is done."""

    def __init__(self, kept: Kept, at: int, what: Any) -> None:
        self._kept, self._at, self._what, self._calls = kept, at, what, 0

    async def find(self, *given: Any, **how: Any) -> Any:
        self._calls += 1
        if self._calls == self._at:
            await self._what()
        return await self._kept.documents.find(*given, **how)


@pytest.mark.parametrize("at", [1, 2, 3, 4, 6])
def test_whatever_is_committed_while_it_is_read_the_trail_in_it_is_whole(tmp_path: Path, at: int) -> None:
    async def story() -> None:
        kept = await a_kept_network(status="running")
        (session,) = await kept.ledger.find("sessions", SessionRecord)
        models = [digest_of(b"5e55/2")]
        await kept.running(session.terms, 3, models[0])

        async def train_on() -> None:
            terms = (await kept.session(SECOND, 2, "running")) if at % 2 else None
            if terms is not None:
                await kept.committed(terms, 1, terms.seed_model, b"second/1")
            for number in (3, 4):
                models.append(await kept.committed(session.terms, number, models[-1], f"5e55/{number}".encode()))

        documents: Any = WhileRead(kept, at, train_on)
        await backed_up(Stores(documents, kept.objects), tmp_path / "backup", at_once=1)
        assert (await checked(tmp_path / "backup")).faults == ()

    asyncio.run(story())


# ---- stores and disks that fail


def test_an_object_that_is_missing_or_corrupt_is_named_and_all_else_is_there(tmp_path: Path) -> None:
    async def story() -> None:
        kept = await a_kept_network()
        gone, wrong = digest_of(b"5e55/1"), digest_of(b"seed")
        assert isinstance(kept.objects, MemoryObjects)
        del kept.objects.contents[gone]
        kept.objects.contents[wrong] = b"sEEd"
        manifest = await backed_up(kept.stores, tmp_path / "backup")

        assert set(manifest.lacking) == {gone, wrong}
        assert set(manifest.objects) == {digest_of(b"package"), digest_of(b"5e55/2")}
        found = await checked(tmp_path / "backup")
        assert (found.faults, found.is_whole) == ((), False)

    asyncio.run(story())


@pytest.mark.parametrize("at", [1, 4, 9, 11, 14, 17])
def test_broken_off_it_is_no_backup_and_the_same_again_goes_on(tmp_path: Path, at: int) -> None:
    """The calls: 9 pages of documents, then a look at each of 4 objects, then the reading of each."""

    async def story() -> None:
        kept, trouble, folder = await a_kept_network(), Trouble(), tmp_path / "backup"
        stores = Stores(UnrulyDocuments(kept.documents, trouble), UnrulyObjects(kept.objects, trouble))
        trouble.begin(at, "fails")
        with pytest.raises(StoreUnavailable):
            await backed_up(stores, folder)
        with pytest.raises(NotABackup, match="never finished"):
            open_backup(folder)
        trouble.begin(0, "fails")
        await backed_up(stores, folder)
        assert (await checked(folder)).is_whole

    asyncio.run(story())


def test_gone_on_with_it_copies_no_object_twice_and_drops_what_nothing_names(tmp_path: Path) -> None:
    async def story() -> None:
        kept = await a_kept_network()
        writer: BackupWriter = open_writing(tmp_path / "backup")
        first = digest_of(b"5e55/1")
        await writer.objects.put(kept.objects.get(first))
        await writer.objects.put(_bytes(b"of an attempt"))
        await writer.close()
        assert isinstance(kept.objects, MemoryObjects)
        read: list[Digest] = []
        get = kept.objects.get
        kept.objects.get = lambda digest, **how: (read.append(digest), get(digest, **how))[1]  # type: ignore[method-assign]
        manifest = await backed_up(kept.stores, tmp_path / "backup")
        assert set(read) == set(manifest.objects) - {first}
        assert (await checked(tmp_path / "backup")).is_whole
        names = {path.name for path in (tmp_path / "backup" / "objects").rglob("*") if path.is_file()}
        assert names == set(manifest.objects)

    asyncio.run(story())


async def _bytes(content: bytes) -> Any:
    yield content


def test_a_folder_that_holds_anything_else_is_left_alone(tmp_path: Path) -> None:
    async def story() -> None:
        kept = await a_kept_network()
        await backed_up(kept.stores, tmp_path / "backup")
        before = contents(tmp_path / "backup")
        with pytest.raises(BackupExists, match="holds a backup already"):
            await backed_up(kept.stores, tmp_path / "backup")
        assert contents(tmp_path / "backup") == before
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "thesis.txt").write_text("mine")
        with pytest.raises(BackupExists, match="is no backup"):
            await backed_up(kept.stores, tmp_path / "other")
        assert (tmp_path / "other" / "thesis.txt").read_text() == "mine"

    asyncio.run(story())


# ---- what is found wrong


def a_document_changed(folder: Path, collection: str, change: Any) -> None:
    """Change documents of a backup as somebody does who can write its manifest too."""
    manifest = open_backup(folder).manifest
    file = folder / "documents" / collection
    lines = [json.dumps(change(json.loads(line))) for line in file.read_text().splitlines()]
    text = "".join(f"{line}\n" for line in lines if line != "null")
    file.write_text(text)
    told = DocumentFile(len(text.splitlines()), len(text.encode()), hashlib.sha256(text.encode()).hexdigest())
    manifest = replace(manifest, documents={**manifest.documents, collection: told})
    whole = {"manifest": asdict(manifest), "sha256": manifest.id}
    (folder / "manifest.json").write_text(json.dumps(whole))


def without_round_1(document: dict[str, Any]) -> dict[str, Any] | None:
    return None if document["key"].endswith("/000001") else document


def from_elsewhere(document: dict[str, Any]) -> dict[str, Any]:
    if document["key"].endswith("/000002"):
        document["content"]["record"]["plan"]["base_model"] = digest_of(b"seed")
    return document


def of_nobody(document: dict[str, Any]) -> dict[str, Any]:
    document["content"]["record"]["model"] = "a" * 64
    return document


def no_record(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "content": {}}


@pytest.mark.parametrize(
    ("collection", "change", "said"),
    [
        ("rounds", without_round_1, "lacks round 1"),
        ("rounds", from_elsewhere, "round 2 was made from model"),
        ("rounds", of_nobody, f"names {'a' * 64}, which is not there"),
        ("sessions", lambda _: None, "not the session"),
        ("packages", no_record, "of packages cannot be read"),
        ("events", lambda document: {**document, "key": "last"}, "event 'last' has no number"),
    ],
)
def test_a_trail_that_is_not_whole_is_named(tmp_path: Path, collection: str, change: Any, said: str) -> None:
    async def story() -> None:
        kept = await a_kept_network()
        await backed_up(kept.stores, tmp_path / "backup")
        a_document_changed(tmp_path / "backup", collection, change)
        found = await checked(tmp_path / "backup")
        assert any(said in fault for fault in found.faults), found.faults

    asyncio.run(story())


def test_a_document_and_its_fence_come_back_as_they_were(tmp_path: Path) -> None:
    async def story() -> None:
        kept = await a_kept_network()
        await backed_up(kept.stores, tmp_path / "backup")
        backup = open_backup(tmp_path / "backup")
        (found,) = backup.documents("sessions")
        await backup.close()
        original = await kept.documents.get("sessions", FIRST)
        assert isinstance(original, Document)
        assert (found.content, found.fence, found.operation) == (
            original.content,
            original.fence,
            original.operation,
        )

    asyncio.run(story())
