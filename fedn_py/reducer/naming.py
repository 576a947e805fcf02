"""Objects and the documents that name them: whether one is named, and that what was just named is there."""

from collections.abc import Awaitable, Callable

from fedn_py.identity import Digest
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.records import PackageRecord, RoundRecord, SeedModelRecord
from fedn_py.store.ports import ObjectMissing, Objects, ObjectStat


async def is_named(ledger: Ledger, digest: Digest) -> bool:
    """Say whether an object is a package, a seed model or a round's model, and so more than an attempt's."""
    if await ledger.get("models", digest, SeedModelRecord) is not None:
        return True
    if await ledger.get("packages", digest, PackageRecord) is not None:
        return True
    return bool(await ledger.find("rounds", RoundRecord, {"model": digest}, limit=1))


async def look_after(objects: Objects, digest: Digest, store: Callable[[], Awaitable[ObjectStat]]) -> None:
    """Store an object again that was removed while it was being named; before anybody is told of it.

    Raises:
        ObjectMissing: it is gone again.
        FednError: what ``store`` raises.
    """
    try:
        await objects.stat(digest)
    except ObjectMissing:
        await store()
        await objects.stat(digest)
