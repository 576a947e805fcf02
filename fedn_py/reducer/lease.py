"""The lease: the one document that says which reducer is active on these stores, and since which fence.

Rules it keeps:

- Whoever takes the lease raises its fence by one, in one conditional update: of many that try, one succeeds.
- The holder writes the document again every second, so that its version rises. A holder is taken for dead when the
  version has stood still for the whole TTL by the watcher's own monotonic clock. No two clocks are ever compared.
- Time in which the watcher could not look does not count: a store that was away says nothing of the holder. Nor does
  the time before a taking that failed: a store that takes no writes takes none of the holder's either.
- A holder that cannot renew goes on. What protects the documents is the fence in every write, not the lease.
- A write with an unknown outcome is read back: the document names the instance that wrote it.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fedn_py.errors import FednError, OwnFault
from fedn_py.identity import InstanceId
from fedn_py.reducer.ledger import Superseded
from fedn_py.reducer.records import from_document, to_document
from fedn_py.runtime.logging import logger
from fedn_py.store.ports import Document, Documents, Outcome

LEASE_KEY = "lease"
TTL_S = 7.0
RENEW_EVERY_S = 1.0
LOOK_EVERY_S = 0.5
MOST_GAP_S = 2.0
"""Between two looks; a watcher that was away for longer begins to count anew."""

_RELEASE_TRIES = 5

_log = logger("fedn_py.reducer")


class LeaseGone(OwnFault):
    """The lease document of an active reducer is not there any more, or of an earlier time."""

    def __init__(self) -> None:
        super().__init__(
            "the lease in the document store is not the one that this reducer took: somebody removed or restored it",
            remedy="Stop every reducer on these stores, look at what was done to them, and start one again.",
        )


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lease.

    Attributes:
        name, address: for people.
        instance: of this life of the process.
        state_key: by what its state key is known; empty where it runs no masked rounds.
        credential: the public key that it signs masked rounds with, in hex; empty where it runs none.
    """

    name: str
    instance: InstanceId
    address: str
    state_key: str = ""
    credential: str = ""

    def __str__(self) -> str:
        """Return it as people read it."""
        return f"{self.name} ({self.address})"


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """The lease as it is stored.

    Attributes:
        released: its holder has ended in good order; anybody may take it at once.
    """

    holder: Holder
    released: bool = False


@dataclass(slots=True)
class Watch:
    """How long a lease has stood still, by this process's own clock alone."""

    _version: int | None = None
    _since: float = 0.0
    _answered: float = 0.0

    def saw(self, version: int, asked: float, answered: float) -> float:
        """Note a version, asked for and answered at these times; return the seconds it has stood still for certain."""
        looked_away = asked - self._answered > MOST_GAP_S
        if version != self._version or looked_away:
            self._since = answered
        self._version, self._answered = version, answered
        return max(0.0, asked - self._since)

    def missed(self) -> None:
        """Note that nothing could be seen."""
        self._version = None


@dataclass(frozen=True, slots=True)
class Seen:
    """The lease at one look.

    Attributes:
        version: of the document, 0 where there is none.
        holder: who holds it or did last; None where nobody ever has.
        moved: it was written since the look before: somebody lives.
        free: it may be taken.
    """

    version: int
    fence: int
    holder: Holder | None
    moved: bool
    free: bool


class Lease:
    """One reducer's view of the lease, and its hold on it.

    Args:
        me: who takes it here.
        above: a fence that was in use here before, though the stores may not know of it any more; those that are
            seen here are remembered too.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        documents: Documents,
        me: Holder,
        *,
        above: int = 0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._documents = documents
        self._me = me
        self._above = above
        self._clock, self._sleep = clock, sleep
        self._watch = Watch()
        self._looked_at: int | None = None
        self._version, self._fence = 0, 0

    # ---- to take it

    async def look(self) -> Seen:
        """Read the lease and judge its holder; raises what the store does, after which the count begins anew."""
        asked = self._clock()
        try:
            document = await self._documents.get("network", LEASE_KEY)
        except FednError:
            self._watch.missed()
            raise
        version = 0 if document is None else document.version
        still_s = self._watch.saw(version, asked, self._clock())
        moved = self._looked_at is not None and version != self._looked_at
        self._looked_at = version
        if document is None:
            return Seen(0, 0, None, moved=False, free=True)
        self._above = max(self._above, document.fence)
        record = _record(document)
        mine = record.holder.instance == self._me.instance  # by a write that arrived after nobody waited for it
        free = record.released or mine or still_s >= TTL_S
        return Seen(version, document.fence, record.holder, moved=moved and not record.released, free=free)

    async def take(self, seen: Seen) -> int | None:
        """Take the lease as it was seen; return this reducer's fence, None where somebody else was faster.

        Where it is not taken, or nobody knows, whether the holder lives is counted anew.

        Raises:
            StoreUnavailable: nobody knows yet; look again.
            StoreFull, StoreMisconfigured: the store takes no writes.
        """
        self._watch.missed()
        fence = max(seen.fence, self._above) + 1
        content = to_document(LeaseRecord(self._me))
        operation = secrets.token_hex(8)
        if seen.version:
            outcome = await self._documents.update(
                "network", LEASE_KEY, content, version=seen.version, fence=fence, operation=operation
            )
        else:
            outcome = await self._documents.insert("network", LEASE_KEY, content, fence=fence, operation=operation)
        version = seen.version + 1
        if outcome != "ok":  # refused may still be by a write of this very instance, which arrived late
            written = await self._documents.get("network", LEASE_KEY)
            if written is None or _record(written).holder.instance != self._me.instance:
                return None
            version, fence = written.version, written.fence
        self._version, self._fence = version, fence
        return fence

    async def take_at_once(self) -> int:
        """Take the lease whoever held it: for stores that no other process can have open.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        while True:
            fence = await self.take(await self.look())
            if fence is not None:
                return fence

    # ---- to keep it

    async def hold(self) -> None:
        """Renew the lease until cancelled.

        Raises:
            Superseded: another reducer has taken it.
            LeaseGone: it is not there any more.
        """
        away = False
        while True:
            await self._sleep(RENEW_EVERY_S)
            try:
                await self._renew()
                away = False
            except (Superseded, LeaseGone):
                raise
            except FednError as fault:
                if not away:
                    _log.warning("the lease cannot be renewed; this reducer goes on", reason=fault.message)
                away = True

    async def _renew(self) -> None:
        if await self._write(LeaseRecord(self._me)) == "ok":
            self._version += 1
            return
        await self._read_back()

    async def _read_back(self) -> None:
        """Go on from the version that is there, where it is still this reducer's."""
        document = await self._documents.get("network", LEASE_KEY)
        if document is not None and document.fence > self._fence:
            raise Superseded("network", LEASE_KEY)
        if document is None or _record(document).holder.instance != self._me.instance:
            raise LeaseGone
        self._version = document.version

    async def release(self) -> None:
        """Let another reducer have the lease at once; nothing happens where that does not succeed: it ends by itself.

        Nobody renews it any more, or takes it here again.
        """
        try:
            for _ in range(_RELEASE_TRIES):
                if await self._write(LeaseRecord(self._me, released=True)) == "ok":
                    return
                await self._read_back()
        except Superseded:
            pass  # it is released
        except FednError as fault:
            _log.warning("the lease could not be released; it ends by itself", reason=fault.message)

    async def _write(self, record: LeaseRecord) -> Outcome:
        return await self._documents.update(
            "network",
            LEASE_KEY,
            to_document(record),
            version=self._version,
            fence=self._fence,
            operation=secrets.token_hex(8),
        )


def _record(document: Document) -> LeaseRecord:
    return from_document(LeaseRecord, "network", document.key, document.content)
