"""Counting what is read of a document store, for those who promise to read little."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fedn_py.store.ports import Documents


@dataclass
class Reads:
    """How often a store was asked, and how many documents it gave."""

    queries: int = 0
    documents: int = 0


@contextmanager
def counted_reads(documents: Documents) -> Iterator[Reads]:
    """Count what is read of a store meanwhile."""
    reads = Reads()
    find, get, count = documents.find, documents.get, documents.count

    async def counting_find(*args: Any, **how: Any) -> Any:
        found = await find(*args, **how)
        reads.queries += 1
        reads.documents += len(found)
        return found

    async def counting_get(*args: Any) -> Any:
        reads.queries += 1
        reads.documents += 1
        return await get(*args)

    async def counting_count(*args: Any) -> Any:
        reads.queries += 1
        return await count(*args)

    documents.find, documents.get = counting_find, counting_get  # type: ignore[method-assign]
    documents.count = counting_count  # type: ignore[method-assign]
    try:
        yield reads
    finally:
        documents.find, documents.get, documents.count = find, get, count  # type: ignore[method-assign]
