"""What sessions are made of: compute packages and models, checked before they are stored."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fedn_py.execution.archive import PackageContents, inspect_archive
from fedn_py.identity import Digest, SessionId
from fedn_py.model.layout import ModelLayout
from fedn_py.model.vector import check_finite
from fedn_py.reducer.control_faults import UnknownModel, UnknownObject, UnknownPackage
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.ledger import Ledger, RecordExists
from fedn_py.reducer.naming import look_after
from fedn_py.reducer.records import MadeModel, PackageRecord, RoundRecord, SeedModelRecord, round_key
from fedn_py.reducer.token_book import now_ms
from fedn_py.runtime.file_chunks import file_chunks
from fedn_py.runtime.model_files import mapped_model
from fedn_py.runtime.scratch import disk_faults
from fedn_py.store.ports import Objects, ObjectStat
from fedn_py.transport.completion import in_thread


class Catalogue:
    """Takes packages and seed models in, and finds models.

    Args:
        scratch: folder for uploads while they are checked.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        ledger: Ledger,
        objects: Objects,
        events: EventLog,
        scratch: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._objects = objects
        self._events = events
        self._scratch = scratch
        self._clock = clock

    async def add_package(self, chunks: AsyncIterator[bytes]) -> PackageRecord:
        """Store a compute package.

        Raises:
            PackageWithoutManifest, InvalidManifest, UnsafeArchive, PackageTooLarge: clients could not use it.
        """
        async with self._received(chunks) as path:
            contents = await asyncio.to_thread(inspect_archive, path)
            record = self._package_record(contents, await self._stored(path, contents.digest))
            try:
                await self._ledger.add("packages", record.digest, record, created=now_ms(record.created))
            except RecordExists:
                return await self.package(record.digest)
            await look_after(self._objects, record.digest, lambda: self._stored(path, record.digest))
        text = f"compute package {record.name} {record.version} uploaded, {record.size:,} bytes"
        self._events.tell("package.uploaded", text, package=record.digest)
        return record

    def _package_record(self, contents: PackageContents, stat: ObjectStat) -> PackageRecord:
        manifest = contents.manifest
        commands = {name: " ".join(command.words) for name, command in manifest.commands().items()}
        return PackageRecord(
            stat.digest, manifest.name, manifest.version, stat.size, len(contents.files), commands, self._clock()
        )

    async def add_seed_model(self, chunks: AsyncIterator[bytes]) -> SeedModelRecord:
        """Store a seed model.

        Raises:
            NotAModel, UnsupportedModel, NothingToTrain, NotFinite: no session could start from it.
        """
        async with self._received(chunks) as path:
            layout = await asyncio.to_thread(_checked_layout, path)
            stat = await self._stored(path)
            record = SeedModelRecord(
                stat.digest, stat.size, layout.n_parameters, len(layout.tensors), layout.signature(), self._clock()
            )
            try:
                await self._ledger.add("models", record.digest, record, created=now_ms(record.created))
            except RecordExists:
                return await self._seed(record.digest)
            await look_after(self._objects, record.digest, lambda: self._stored(path, record.digest))
        text = f"seed model uploaded, {record.parameters:,} parameters in {record.tensors} tensors"
        self._events.tell("model.uploaded", text, model=record.digest)
        return record

    async def _stored(self, path: Path, expected: Digest | None = None) -> ObjectStat:
        return await self._objects.put(file_chunks(path), expected=expected)

    @asynccontextmanager
    async def _received(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[Path]:
        """Write an upload to a file of its own, which is gone afterwards."""
        with disk_faults("keeping the upload"):
            folder = Path(await in_thread(tempfile.mkdtemp, prefix="upload-", dir=self._scratch))
        try:
            path = folder / "upload"
            with disk_faults("keeping the upload"), path.open("wb") as file:
                async for chunk in chunks:
                    await in_thread(file.write, chunk)
            yield path
        finally:
            await in_thread(shutil.rmtree, folder, ignore_errors=True)

    async def package(self, digest: Digest) -> PackageRecord:
        """Return a package's record, or raise UnknownPackage."""
        record = await self._ledger.get("packages", digest, PackageRecord)
        if record is None:
            raise UnknownPackage(digest)
        return record

    async def package_contents(self, digest: Digest) -> PackageContents:
        """Look through a package's archive again, by the same rules as when it was uploaded.

        Raises:
            ObjectMissing, ObjectCorrupt, StoreUnavailable: of the store.
        """
        async with self._received(self._objects.get(digest)) as path:
            return await in_thread(inspect_archive, path)

    async def model(self, digest: Digest) -> SeedModelRecord | RoundRecord:
        """Return the record of a seed model or of the round that made a model, or raise UnknownModel."""
        seed = await self._ledger.get("models", digest, SeedModelRecord)
        if seed is not None:
            return seed
        made = await self._ledger.find("rounds", RoundRecord, {"model": digest}, limit=1)
        if not made:
            raise UnknownModel(digest)
        return made[0]

    async def check_known(self, digest: Digest) -> None:
        """Raise UnknownObject unless a model or a package has this digest."""
        try:
            await self.model(digest)
        except UnknownModel:
            if await self._ledger.get("packages", digest, PackageRecord) is None:
                raise UnknownObject(digest) from None

    async def _seed(self, digest: Digest) -> SeedModelRecord:
        record = await self._ledger.get("models", digest, SeedModelRecord)
        if record is None:
            raise UnknownModel(digest)
        return record

    async def trail(self, session: SessionId, after: int | None, limit: int) -> Sequence[MadeModel]:
        """Return the committed rounds of a session, newest first, beyond the round ``after``."""
        beyond = round_key(session, after) if after is not None else None
        return await self._committed(session, beyond, limit)

    async def head(self, session: SessionId) -> tuple[int, Digest | None]:
        """Return how many rounds of a session are committed, and its newest global model."""
        newest = await self._committed(session, None, 1)
        return (newest[0].plan.round_number, newest[0].model) if newest else (0, None)

    async def _committed(self, session: SessionId, beyond: str | None, limit: int) -> Sequence[MadeModel]:
        # By key, which has the number in it: the stores find it without reading all rounds of the session.
        of_it = {"session": session, "status": "committed"}
        return await self._ledger.find("rounds", MadeModel, of_it, descending=True, limit=limit, after=beyond)

    async def open_model(self, digest: Digest) -> tuple[int, AsyncIterator[bytes]]:
        """Return a model's size in bytes and a stream of them; raises UnknownModel."""
        await self.model(digest)
        stat = await self._objects.stat(digest)
        return stat.size, self._objects.get(digest)


def _checked_layout(path: Path) -> ModelLayout:
    with mapped_model(path) as (model, layout):
        layout.check_trainable()
        check_finite(model, layout)
        return layout
