"""Where a combiner's objects come from: the object store of its settings, or else the reducer."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from fedn_py.combiner.ports import Arriving
from fedn_py.identity import Digest
from fedn_py.runtime.file_chunks import file_chunks
from fedn_py.runtime.scratch import disk_faults
from fedn_py.store.ports import Objects
from fedn_py.transport.chunks import pieces
from fedn_py.transport.landing import part_of
from fedn_py.transport.reducer_channels import ReducerChannels
from fedn_py.transport.transfer import Bytes, download, upload_object


class StoreUpstream:
    """An object store of its own."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def fetch(self, digest: Digest, into: Path, arriving: Arriving | None = None) -> None:
        """Copy an object to a file, whole and checked."""
        partial, here = into.with_name(f"{into.name}.partial"), 0
        try:
            size = (await self._objects.stat(digest)).size if arriving is not None else 0
            with disk_faults("fetching an object"), partial.open("wb", buffering=0) as file:
                async for chunk in self._objects.get(digest):
                    await asyncio.to_thread(_write, file, chunk)
                    here += len(chunk)
                    if arriving is not None:
                        arriving(partial, here, size)
            await asyncio.to_thread(partial.replace, into)
        finally:
            await asyncio.to_thread(partial.unlink, missing_ok=True)

    async def store(self, source: Path | Bytes, digest: Digest) -> None:
        """Store a file, or bytes in memory, as an object."""
        chunks = file_chunks(source) if isinstance(source, Path) else _chunks(source)
        await self._objects.put(chunks, expected=digest)


class ReducerUpstream:
    """The reducer's object store, over its gRPC."""

    def __init__(self, channels: ReducerChannels) -> None:
        self._channels = channels

    async def fetch(self, digest: Digest, into: Path, arriving: Arriving | None = None) -> None:
        """Copy an object to a file, whole and checked."""
        part = part_of(into, digest)

        def progress(here: int, size: int) -> None:
            if arriving is not None:
                arriving(part, here, size)

        await download(self._channels.current, digest, into, progress=progress)

    async def store(self, source: Path | Bytes, digest: Digest) -> None:
        """Store a file, or bytes in memory, as an object."""
        await upload_object(self._channels.current, secrets.token_hex(16), digest, source)


def _write(file: IO[bytes], chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


async def _chunks(source: Bytes) -> AsyncIterator[bytes]:
    for chunk in pieces(memoryview(source).cast("B")):
        yield bytes(chunk)
