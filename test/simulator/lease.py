"""Which of the reducers is the one that acts: the services' own lease and ledger, on simulated time and documents.

A reducer that stands by takes the lease when it has stood still for its time, stamps its fence on the session and
its newest round, and only then reads them. What keeps an older one from doing harm is the fence in the filter of
every write, not its belief that it still holds the lease.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simulator.documents import Kept, StoreLink
from simulator.working import Pause, Signal, Work, WorkingNode, awaited

from fedn_py.identity import InstanceId, SessionId
from fedn_py.reducer.lease import LOOK_EVERY_S, Holder, Lease, LeaseGone
from fedn_py.reducer.ledger import Ledger, NoRecord, RecordExists, Superseded
from fedn_py.reducer.records import round_key
from fedn_py.reducer.round_records import CommittedElsewhere, KeyStillHeld
from fedn_py.store.ports import StoreUnavailable

if TYPE_CHECKING:
    from simulator.documents import Shelf

STRETCHED = 3
"""Looks and renewals are this many times rarer than the services', so that long runs stay short; the term is theirs."""

NOT_THE_ONE = (Superseded, CommittedElsewhere, KeyStillHeld, LeaseGone)
"""What ends a reducer that is not the one any more."""


@dataclass(frozen=True)
class ReducerWelcome:
    """The first word of a reducer on a combiner's stream; one that stands by ends the stream instead.

    Attributes:
        fence: the number that it has taken over with.
    """

    fence: int


class LeasedNode(WorkingNode):
    """A reducer that acts while the lease is its own, and stands by until then.

    Attributes:
        fence: the number that it acts with; 0 until it has stamped it on all that is under way.
    """

    fence = 0

    @property
    def shelf(self) -> "Shelf":
        """The documents."""
        shelf: Shelf = self.world.store.shelf
        return shelf

    def stand_by(self) -> None:
        """Wait for the lease, and act when it has come."""
        self.fence = 0
        self.link: StoreLink = self.world.machines.link(self, self.shelf)
        self.lease: Lease = self.world.machines.lease(self)
        self.spawn(self._standing_by())

    def crash(self) -> None:
        """See Node.crash."""
        self.fence = 0
        super().crash()

    def spawn(self, work: Work, ended: Callable[[Any], None] = lambda _: None) -> None:
        """Do work beside the machine; where another reducer has taken over, this one stops."""
        super().spawn(self._guarded(work), ended)

    def _guarded(self, work: Work) -> Work:
        try:
            return (yield from work)
        except NOT_THE_ONE as fault:
            self.world.stopped_by_name(self, fault)
            yield Signal()  # nobody fires it: this life is over

    # ---- the lease

    def _standing_by(self) -> Work:
        while (fence := (yield from self._try_to_take())) is None:
            yield STRETCHED * LOOK_EVERY_S
        self.world.invariants.lease_taken(self, fence)
        self.ledger = Ledger(self.link, fence)
        yield from self.world.machines.stamp(self)
        self.world.invariants.taken_over(fence)
        self.spawn(awaited(self.lease.hold()))
        yield from self.leave_room()
        self.fence = fence
        self.act()

    def _try_to_take(self) -> Work:
        try:
            seen = yield from awaited(self.lease.look())
            return (yield from awaited(self.lease.take(seen))) if seen.free else None
        except StoreUnavailable:
            return None

    def leave_room(self) -> Work:
        """Leave room for what earlier reducers gave out and did not write down."""
        raise NotImplementedError

    def act(self) -> None:
        """Go on with what the documents say."""
        raise NotImplementedError

    # ---- documents

    def changed(self, collection: Any, key: str, change: Callable[[Any], Any]) -> Work:
        """Change a document by the ledger's rules, waiting while the store is away; returns its new value.

        Raises:
            Superseded: another reducer has taken over.
        """

        def of(kept: Kept) -> Kept:
            return self.shelf.keep(change(self.shelf.value(kept)))

        kept: Kept = yield from self.patiently(lambda: awaited(self.ledger.change(collection, key, Kept, of)))
        return self.shelf.value(kept)

    def round_changed(self, session: SessionId, number: int, change: Callable[[Any], Any]) -> Work:
        """Change the document of a round."""
        return (yield from self.changed("rounds", round_key(session, number), change))

    def round_written(self, fresh: Any, reopened: Callable[[Any], Any]) -> Work:
        """Write a round's document, or change the one that is there; follows round_records.write_attempt."""
        session = fresh.plan.session
        key = round_key(session, fresh.plan.round_number)
        while True:
            try:
                written = yield from self.changed("rounds", key, reopened)
            except NoRecord:
                try:
                    kept = self.shelf.keep(fresh)
                    yield from self.patiently(lambda kept=kept: awaited(self.ledger.add("rounds", key, kept)))  # type: ignore[misc]
                except RecordExists:
                    continue
                written = fresh
            yield from self.patiently(lambda: awaited(self.ledger.stamp("sessions", session)))
            return written

    def patiently(self, work: Callable[[], Work]) -> Work:
        """Do something again and again while a store is away; follows fedn_py/reducer/patience.py."""
        waited = False
        while True:
            try:
                done = yield from work()
            except StoreUnavailable:
                if not waited:
                    self.world.chaos.noticed("reducer waits for a store")
                waited = True
                yield self.world.rng.uniform(0.2, 3)
            else:
                return done


def lease_of(node: LeasedNode) -> Lease:
    """Return a process's view of the lease."""
    me = Holder(node.name, InstanceId(f"{node.name}#{node.life}"), "")

    async def sleep(seconds: float) -> None:
        await Pause(STRETCHED * seconds)

    return Lease(node.link, me, clock=node.monotonic, sleep=sleep)


def stamp(node: LeasedNode) -> Work:
    """Put a new reducer's fence on what is under way; follows fedn_py/reducer/takeover.py."""
    store = node.world.store
    session = store.terms.session
    yield from node.patiently(lambda: awaited(node.ledger.stamp("sessions", session)))
    if store.rounds:
        key = round_key(session, max(store.rounds))
        yield from node.patiently(lambda: awaited(node.ledger.stamp("rounds", key)))
