"""Packages and models on their way in: whole, safe and named once, or refused and not a byte kept."""

import asyncio
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from artifacts import a_model, a_package, chunked, names_in
from unruly_store import Mischief, Trouble, UnrulyDocuments, UnrulyObjects

from fedn_py.errors import FednError, PeerFault
from fedn_py.execution.archive import PackageWithoutManifest
from fedn_py.execution.archive_scan import UnsafeArchive
from fedn_py.execution.manifest import InvalidManifest
from fedn_py.identity import Digest
from fedn_py.model.layout import NotAModel, NothingToTrain
from fedn_py.model.vector import NotFinite
from fedn_py.reducer.catalogue import Catalogue
from fedn_py.reducer.control_faults import UnknownModel, UnknownPackage
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.records import EventRecord, PackageRecord, SeedModelRecord
from fedn_py.runtime.scratch import DiskFailed
from fedn_py.store.memory import MemoryDocuments, MemoryObjects
from fedn_py.store.ports import StoreUnavailable


@dataclass
class Shelves:
    documents: MemoryDocuments
    objects: MemoryObjects
    events: EventLog
    catalogue: Catalogue
    trouble: Trouble

    async def kinds(self) -> list[str]:
        await self.events.flush()
        found = await Ledger(self.documents, 1).find("events", EventRecord, order_by="seq")
        return [event.kind for event in found]

    def nothing_is_kept(self, scratch: Path) -> bool:
        collections = self.documents._collections
        kept = collections.get("packages") or collections.get("models")
        return not (kept or self.objects.contents or names_in(scratch))


def on_shelves(scratch: Path, story: Callable[[Shelves], Awaitable[None]]) -> None:
    async def told() -> None:
        documents, objects, trouble = MemoryDocuments(), MemoryObjects(), Trouble()
        ledger = Ledger(UnrulyDocuments(documents, trouble), 1)
        events = EventLog(Ledger(documents, 1), 0)
        catalogue = Catalogue(ledger, UnrulyObjects(objects, trouble), events, scratch, clock=lambda: 5.0)
        await story(Shelves(documents, objects, events, catalogue, trouble))

    asyncio.run(told())


def test_a_package_is_stored_described_and_found(tmp_path: Path) -> None:
    async def story(shelves: Shelves) -> None:
        content = a_package()
        record = await shelves.catalogue.add_package(chunked(content))
        assert (record.name, record.version, record.size, record.files) == ("echo", "1", len(content), 2)
        assert record.entry_points["train"] == "python model.py train"
        assert shelves.objects.contents == {record.digest: content}
        assert await shelves.catalogue.package(record.digest) == record
        assert await shelves.kinds() == ["package.uploaded"]
        assert names_in(tmp_path) == []

    on_shelves(tmp_path, story)


def test_a_seed_model_is_stored_described_and_opened(tmp_path: Path) -> None:
    async def story(shelves: Shelves) -> None:
        content = a_model({"w": ("F32", (1.0, 2.0)), "steps": ("I64", (3,))})
        record = await shelves.catalogue.add_seed_model(chunked(content))
        assert (record.size, record.parameters, record.tensors, record.created) == (len(content), 2, 2, 5.0)
        assert await shelves.catalogue.model(record.digest) == record
        size, pieces = await shelves.catalogue.open_model(record.digest)
        assert (size, b"".join([piece async for piece in pieces])) == (len(content), content)
        assert await shelves.kinds() == ["model.uploaded"]
        assert names_in(tmp_path) == []

    on_shelves(tmp_path, story)


def test_the_same_bytes_again_are_the_same_record_and_no_news(tmp_path: Path) -> None:
    async def story(shelves: Shelves) -> None:
        first = await shelves.catalogue.add_package(chunked(a_package()))
        shelves.catalogue._clock = lambda: 99.0
        assert await shelves.catalogue.add_package(chunked(a_package(), 7)) == first
        model = await shelves.catalogue.add_seed_model(chunked(a_model()))
        shelves.catalogue._clock = lambda: 100.0
        assert await shelves.catalogue.add_seed_model(chunked(a_model())) == model
        assert await shelves.kinds() == ["package.uploaded", "model.uploaded"]

    on_shelves(tmp_path, story)


def test_two_uploads_of_the_same_bytes_at_once_end_in_one_record(tmp_path: Path) -> None:
    async def story(shelves: Shelves) -> None:
        uploads = [shelves.catalogue.add_package(chunked(a_package(), 5)) for _ in range(4)]
        assert len({record.digest for record in await asyncio.gather(*uploads)}) == 1
        assert await shelves.kinds() == ["package.uploaded"]

    on_shelves(tmp_path, story)


def a_member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


HOSTILE_PACKAGES = {
    "no archive": (b"this is no archive at all", PeerFault),
    "empty": (b"", PeerFault),
    "cut short": (a_package()[:-20], PeerFault),
    "no manifest": (a_package({"model.py": b""}), PackageWithoutManifest),
    "bad manifest": (a_package({"fedn.yaml": b"{{{", "model.py": b""}), InvalidManifest),
    "climbs": (a_package(None, a_member("../../etc/cron.d/x")), UnsafeArchive),
    "absolute": (a_package(None, a_member("/etc/passwd")), UnsafeArchive),
    "symbolic link": (a_package(None, a_member("link", tarfile.SYMTYPE, "/etc/passwd")), UnsafeArchive),
    "hard link": (a_package(None, a_member("link", tarfile.LNKTYPE, "model.py")), UnsafeArchive),
    "device": (a_package(None, a_member("dev", tarfile.CHRTYPE)), UnsafeArchive),
    "twice": (a_package(None, a_member("model.py")), UnsafeArchive),
}


@pytest.mark.parametrize("which", HOSTILE_PACKAGES)
def test_a_hostile_package_is_refused_and_nothing_is_kept(tmp_path: Path, which: str) -> None:
    async def story(shelves: Shelves) -> None:
        content, fault = HOSTILE_PACKAGES[which]
        with pytest.raises(fault):
            await shelves.catalogue.add_package(chunked(content))
        assert shelves.nothing_is_kept(tmp_path)
        assert await shelves.kinds() == []

    on_shelves(tmp_path, story)


def header(text: bytes, body: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + body


HOSTILE_MODELS = {
    "empty": (b"", NotAModel),
    "pickle": (b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x94.", NotAModel),
    "header longer than the file": ((2**62).to_bytes(8, "little") + b"{}", NotAModel),
    "deeply nested": (header(b"[" * 100_000), NotAModel),
    "no object": (header(b"[]"), NotAModel),
    "cut short": (a_model()[:-1], NotAModel),
    "bytes behind": (a_model() + b"x", NotAModel),
    "integers alone": (a_model({"steps": ("I64", (1, 2))}), NothingToTrain),
    "not a number": (a_model({"w": ("F32", (1.0, float("nan")))}), NotFinite),
    "infinite": (a_model({"w": ("F64", (float("inf"),))}), NotFinite),
}


@pytest.mark.parametrize("which", HOSTILE_MODELS)
def test_a_hostile_model_is_refused_and_nothing_is_kept(tmp_path: Path, which: str) -> None:
    async def story(shelves: Shelves) -> None:
        content, fault = HOSTILE_MODELS[which]
        with pytest.raises(fault):
            await shelves.catalogue.add_seed_model(chunked(content))
        assert shelves.nothing_is_kept(tmp_path)
        assert await shelves.kinds() == []

    on_shelves(tmp_path, story)


class Broke(PeerFault):
    """The connection broke."""


async def broken(content: bytes) -> AsyncIterator[bytes]:
    yield content[: len(content) // 2]
    raise Broke("the connection broke")


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async def story(shelves: Shelves) -> None:
        with pytest.raises(Broke):
            await shelves.catalogue.add_package(broken(a_package()))
        with pytest.raises(Broke):
            await shelves.catalogue.add_seed_model(broken(a_model()))
        assert shelves.nothing_is_kept(tmp_path)

    on_shelves(tmp_path, story)


def test_an_upload_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    async def story(shelves: Shelves) -> None:
        reached = asyncio.Event()

        async def stalling() -> AsyncIterator[bytes]:
            yield a_model()[:5]
            reached.set()
            await asyncio.Event().wait()

        upload = asyncio.create_task(shelves.catalogue.add_seed_model(stalling()))
        await reached.wait()
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        assert shelves.nothing_is_kept(tmp_path)

    on_shelves(tmp_path, story)


@pytest.mark.parametrize("mischief", ["fails", "lost, applied", "lost, not applied"])
@pytest.mark.parametrize("what", ["package", "model"])
def test_whichever_call_goes_wrong_an_upload_is_whole_or_told_and_can_be_repeated(
    tmp_path: Path, mischief: Mischief, what: str
) -> None:
    async def story(shelves: Shelves) -> None:
        shelves.trouble.begin(at, mischief)

        async def upload() -> PackageRecord | SeedModelRecord:
            if what == "package":
                return await shelves.catalogue.add_package(chunked(a_package()))
            return await shelves.catalogue.add_seed_model(chunked(a_model()))

        try:
            record = await upload()
        except StoreUnavailable:
            assert shelves.trouble.struck
            record = await upload()
        assert list(shelves.objects.contents) == [record.digest]
        assert names_in(tmp_path) == []
        ended.append(not shelves.trouble.struck)

    ended: list[bool] = []
    for number in range(1, 20):
        at = number
        on_shelves(tmp_path, story)
        if ended[-1]:
            return
    raise AssertionError("the loop must end by itself")


@pytest.mark.parametrize("what", ["package", "seed model"])
def test_what_goes_while_it_is_named_is_stored_again(tmp_path: Path, what: str) -> None:
    async def story(shelves: Shelves) -> None:
        insert = shelves.documents.insert

        async def gone_by_then(collection: Any, *args: Any, **how: Any) -> Any:
            if collection in {"packages", "models"}:
                shelves.objects.contents.clear()
            return await insert(collection, *args, **how)

        shelves.documents.insert = gone_by_then  # type: ignore[method-assign]
        upload = shelves.catalogue.add_package if what == "package" else shelves.catalogue.add_seed_model
        record = await upload(chunked(a_package() if what == "package" else a_model()))
        assert list(shelves.objects.contents) == [record.digest]

    on_shelves(tmp_path, story)


def test_a_disk_that_fails_is_named(tmp_path: Path) -> None:
    async def story(shelves: Shelves) -> None:
        with pytest.raises(DiskFailed, match="keeping the upload"):
            await shelves.catalogue.add_package(chunked(a_package()))

    on_shelves(tmp_path / "gone", story)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    async def story(shelves: Shelves) -> None:
        nobody = Digest("0" * 64)
        with pytest.raises(UnknownPackage):
            await shelves.catalogue.package(nobody)
        with pytest.raises(UnknownModel):
            await shelves.catalogue.model(nobody)
        with pytest.raises(UnknownModel):
            await shelves.catalogue.open_model(nobody)

    on_shelves(tmp_path, story)


def test_an_object_that_is_no_model_cannot_be_opened_as_one(tmp_path: Path) -> None:
    async def story(shelves: Shelves) -> None:
        package = await shelves.catalogue.add_package(chunked(a_package()))
        with pytest.raises(FednError) as caught:
            await shelves.catalogue.open_model(package.digest)
        assert caught.value.code == "UnknownModel"

    on_shelves(tmp_path, story)
