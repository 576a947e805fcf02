"""Where a combiner's objects come from: the object store of its settings, or else the reducer."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

from fedn_py.identity import Digest
from fedn_py.runtime.file_chunks import file_chunks
from fedn_py.runtime.scratch import disk_faults
from fedn_py.store.ports import Objects
from fedn_py.transport.reducer_channels import ReducerChannels
from fedn_py.transport.transfer import Bytes, download, pieces_of, upload_object


class StoreUpstream:
    """An object store of its own."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def fetch(self, digest: Digest, into: Path) -> None:
        """Copy an object to a file, whole and checked."""
        partial = into.with_name(f"{into.name}.partial")
        try:
            with disk_faults("fetching an object"), partial.open("wb") as file:
                async for chunk in self._objects.get(digest):
                    await asyncio.to_thread(file.write, chunk)
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

    async def fetch(self, digest: Digest, into: Path) -> None:
        """Copy an object to a file, whole and checked."""
        await download(self._channels.current, digest, into)

    async def store(self, source: Path | Bytes, digest: Digest) -> None:
        """Store a file, or bytes in memory, as an object."""
        await upload_object(self._channels.current, secrets.token_hex(16), digest, source)


async def _chunks(source: Bytes) -> AsyncIterator[bytes]:
    for chunk in pieces_of(source):
        yield bytes(chunk)
