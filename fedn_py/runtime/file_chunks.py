"""Files as streams of bytes, read in worker threads."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

CHUNK_BYTES = 1024 * 1024


async def file_chunks(path: Path, offset: int = 0) -> AsyncGenerator[bytes, None]:
    """Stream a file's bytes from an offset in pieces of 1 MiB."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        await asyncio.to_thread(file.seek, offset)
        while (held := [await asyncio.to_thread(file.read, CHUNK_BYTES)])[0]:
            yield held.pop()  # not kept here as well while whoever reads is busy with it
    finally:
        await asyncio.to_thread(file.close)
