"""The sweep: removes objects that no document names, of rounds that came to nothing or processes that died.

Objects are stored before the document that names them, and the same bytes may be stored again at any time. So that no
document ever names what was swept:

- An object is swept only at an age beyond the grace, by the store's own clock; to store it again renews its age.
- What was stored through this reducer is left alone for the grace, whatever the store says of its age, and a sweep that
  strikes while it is stored is noticed: it is stored again.
- What the reducer has in use is left alone for as long as that takes: the sums that came for the attempt at hand, and
  a model from when it is stored to when its round's document names it, however long that cannot be written.
- Whether an object is named is asked of the documents right before it is removed, and so is the lease.

Only the active reducer sweeps. One that was stopped for hours between its last question and a removal could remove
what its successor has just stored again: no store that is spoken to here can remove on a condition.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from fedn_py.errors import FednError
from fedn_py.identity import Digest
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.lease import LEASE_KEY
from fedn_py.reducer.ledger import Superseded
from fedn_py.reducer.records import UNDER_WAY
from fedn_py.reducer.swept_objects import SweptObjects
from fedn_py.store.ports import Documents, JSONValue, ObjectStat

_MOST_IN_EVENT = 5
_HASH_BYTES = 32


class Sweep:
    """Removes what nothing names, again and again.

    Args:
        fence: this reducer's.
        every_s: between the end of a sweep and the next one.
        in_use: names what the reducer works with, whether a document names it yet or not.
        on_end: told of the end of each sweep: what broke it off, None for a good one.
    """

    def __init__(
        self,
        documents: Documents,
        objects: SweptObjects,
        events: EventLog,
        *,
        fence: int,
        every_s: float,
        in_use: Callable[[], Collection[Digest]],
        on_end: Callable[[FednError | None], None] = lambda _: None,
    ) -> None:
        self._documents, self._objects, self._events = documents, objects, events
        self._fence, self._every_s, self._in_use = fence, every_s, in_use
        self._on_end = on_end
        self._named: set[Digest] = set()

    async def run(self) -> None:
        """Sweep until cancelled; raises Superseded where another reducer is the active one."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.once()
            except Superseded:
                raise
            except FednError as fault:
                text = f"the sweep of unnamed objects broke off and is done again later: {fault.message}"
                self._events.tell("sweep.failed", text, "warning")
                self._on_end(fault)
            else:
                self._on_end(None)

    async def once(self) -> Sequence[ObjectStat]:
        """Remove what is old and unnamed, tell of it, and return it.

        Raises:
            Superseded: another reducer is the active one.
            StoreUnavailable, StoreMisconfigured: of the stores; what is left is swept the next time.
        """
        removed: list[ObjectStat] = []
        try:
            async for digest in self._objects.old():
                stat = None if await self._is_named(digest) else await self._removed(digest)
                removed += [stat] if stat is not None else []
        finally:
            if removed:
                self._tell(removed)
        return removed

    async def _removed(self, digest: Digest) -> ObjectStat | None:
        async def may_go() -> bool:
            lease = await self._documents.get("network", LEASE_KEY)
            if lease is not None and lease.fence > self._fence:
                raise Superseded("network", LEASE_KEY)
            # First, as what is in use may be named, and not in use any more, by the time that the documents are read.
            if digest in self._in_use() or await self._is_named(digest) or digest in await self._under_way():
                return False
            return digest not in self._in_use()  # and last, for a sum that came in the meantime

        return await self._objects.remove_old(digest, may_go)

    async def _is_named(self, digest: Digest) -> bool:
        """Say whether an object is a package, a seed model or a round's model: it is one for good then."""
        if digest not in self._named:
            documents = self._documents
            found = (
                await documents.get("packages", digest) is not None
                or await documents.get("models", digest) is not None
                or bool(await documents.find("rounds", {"model": digest}, limit=1))
            )
            if not found:
                return False
            self._named.add(digest)
        return True

    async def _under_way(self) -> set[Digest]:
        """Return whatever the newest round of each session under way may name: its sums and sealed streams."""
        found: set[Digest] = set()
        for status in UNDER_WAY:
            for session in await self._documents.find("sessions", {"status": status}):
                newest = await self._documents.find("rounds", {"session": session.key}, descending=True, limit=1)
                for document in (session, *newest):
                    found.update(hashes_in(document.content))
        return found

    def _tell(self, removed: Sequence[ObjectStat]) -> None:
        names = ", ".join(stat.digest[:12] for stat in removed[:_MOST_IN_EVENT])
        more = f" and {len(removed) - _MOST_IN_EVENT} more" if len(removed) > _MOST_IN_EVENT else ""
        size = sum(stat.size for stat in removed)
        text = f"{len(removed)} objects that nothing names were removed, {size:,} bytes: {names}{more}"
        self._events.tell("objects.swept", text)


def hashes_in(content: JSONValue | Mapping[str, JSONValue]) -> Iterator[Digest]:
    """Yield each text in a document that is, or may be, the name of an object: in hex, or as masked attempts write it.

    Whatever a record is made of, a name in it is seen; what only looks like one keeps an object that nobody has.
    """
    if isinstance(content, Mapping):
        for value in content.values():
            yield from hashes_in(value)
    elif isinstance(content, list):
        for value in content:
            yield from hashes_in(value)
    elif isinstance(content, str) and len(content) == 2 * _HASH_BYTES:
        yield Digest(content)
    elif isinstance(content, str) and len(content) == len(base64.b64encode(bytes(_HASH_BYTES))):
        try:
            yield Digest(base64.b64decode(content, validate=True).hex())
        except binascii.Error:
            return
