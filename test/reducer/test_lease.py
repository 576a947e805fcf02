"""The lease: judged by its version alone, taken by one of many, kept by whoever lives, given up in good order."""

import asyncio
from collections.abc import Mapping
from typing import Literal

import pytest
from unruly_store import Mischief, Trouble, UnrulyDocuments
from virtual_time import VirtualTime

from fedn_py.identity import InstanceId
from fedn_py.reducer.lease import LEASE_KEY, LOOK_EVERY_S, TTL_S, Holder, Lease, LeaseGone, Watch
from fedn_py.reducer.ledger import Ledger, Superseded
from fedn_py.reducer.patience import WAITED_FOR
from fedn_py.store.memory import MemoryDocuments
from fedn_py.store.ports import Collection, Document, Documents, JSONValue, Outcome, StoreFull, StoreUnavailable


class SlowDocuments(MemoryDocuments):
    """Documents that are ``way_s`` away, there and back; a cut connection loses what is under way.

    Attributes:
        takes_writes: "full" where they are refused, "unknown" where they do not happen and nobody is told so.
        tries: how many writes came since they were taken last.
    """

    def __init__(self, inner: MemoryDocuments, time: VirtualTime, way_s: float) -> None:
        super().__init__()
        self._inner, self._time, self.way_s = inner, time, way_s
        self.away = False
        self.takes_writes: Literal["yes", "full", "unknown"] = "yes"
        self.tries = 0

    async def _way(self) -> None:
        await self._time.sleep(self.way_s)
        if self.away:
            raise StoreUnavailable("the store does not answer", remedy="Wait for it.")

    async def get(self, collection: Collection, key: str) -> Document | None:
        await self._way()
        found = await self._inner.get(collection, key)
        await self._way()
        return found

    async def insert(
        self, collection: Collection, key: str, content: Mapping[str, JSONValue], *, fence: int, operation: str
    ) -> Outcome:
        await self._way()
        outcome = await self._inner.insert(collection, key, content, fence=fence, operation=operation)
        await self._way()
        return outcome

    async def update(
        self,
        collection: Collection,
        key: str,
        content: Mapping[str, JSONValue],
        *,
        version: int,
        fence: int,
        operation: str,
    ) -> Outcome:
        await self._way()
        self.tries += 1
        if self.takes_writes == "full":
            raise StoreFull("the store is full", remedy="Make room.")
        if self.takes_writes == "unknown":
            return "unknown"
        self.tries = 0
        outcome = await self._inner.update(collection, key, content, version=version, fence=fence, operation=operation)
        await self._way()
        return outcome


def holder(name: str) -> Holder:
    return Holder(name, InstanceId(name.encode().hex()), f"{name}.example.org:8090")


def a_lease(documents: Documents, name: str, time: VirtualTime) -> Lease:
    return Lease(documents, holder(name), clock=time.clock, sleep=time.sleep)


async def waited(lease: Lease, time: VirtualTime) -> int:
    """Wait for the lease as a standby does, and return its fence."""
    while True:
        try:
            seen = await lease.look()
            fence = await lease.take(seen) if seen.free else None
        except WAITED_FOR:
            fence = None
        if fence is not None:
            return fence
        await time.sleep(LOOK_EVERY_S)


# ---- the watch


def test_a_version_stands_still_from_the_answer_that_showed_it_to_the_last_question() -> None:
    watch = Watch()
    assert watch.saw(5, 10.0, 11.0) == 0.0
    assert watch.saw(5, 11.5, 14.5) == 0.5
    assert watch.saw(5, 15.0, 15.1) == 4.0
    assert watch.saw(6, 16.0, 16.1) == 0.0
    assert watch.saw(6, 17.0, 17.1) == pytest.approx(0.9)


def test_time_in_which_nobody_looked_does_not_count() -> None:
    watch = Watch()
    watch.saw(5, 10.0, 10.0)
    assert watch.saw(5, 11.0, 11.0) == 1.0
    assert watch.saw(5, 1_000.0, 1_000.0) == 0.0  # this process slept, and so may the other have
    assert watch.saw(5, 1_001.0, 1_001.0) == 1.0


def test_time_in_which_the_store_was_away_does_not_count() -> None:
    watch = Watch()
    watch.saw(5, 10.0, 10.0)
    watch.missed()
    assert watch.saw(5, 11.0, 11.0) == 0.0


# ---- to take it


def test_the_first_takes_it_at_once_and_each_further_holder_has_a_higher_fence() -> None:
    async def story() -> None:
        memory, time = MemoryDocuments(), VirtualTime()
        assert await waited(a_lease(memory, "north", time), time) == 1
        assert time.now == 100.0
        assert await time.until(waited(a_lease(memory, "south", time), time)) == 2
        assert await time.until(waited(a_lease(memory, "east", time), time)) == 3

    asyncio.run(story())


def test_a_dead_holder_is_replaced_after_the_ttl_and_within_ten_seconds() -> None:
    async def story() -> None:
        memory, time = MemoryDocuments(), VirtualTime()
        north, south = a_lease(memory, "north", time), a_lease(memory, "south", time)
        await waited(north, time)
        holding, waiting = asyncio.create_task(north.hold()), asyncio.create_task(waited(south, time))
        await time.passes(100)
        assert not waiting.done()
        holding.cancel()
        died = time.now
        assert await time.until(waiting) == 2
        assert TTL_S - 1 <= time.now - died < 10

    asyncio.run(story())


def test_a_released_lease_is_taken_at_the_next_look() -> None:
    async def story() -> None:
        memory, time = MemoryDocuments(), VirtualTime()
        north, south = a_lease(memory, "north", time), a_lease(memory, "south", time)
        await waited(north, time)
        holding, waiting = asyncio.create_task(north.hold()), asyncio.create_task(waited(south, time))
        await time.passes(3)
        holding.cancel()
        await north.release()
        released = time.now
        assert await time.until(waiting) == 2
        assert time.now - released <= LOOK_EVERY_S

    asyncio.run(story())


def test_of_many_standbys_exactly_one_takes_over() -> None:
    async def story() -> None:
        memory, time = MemoryDocuments(), VirtualTime()
        await waited(a_lease(memory, "north", time), time)
        leases = [a_lease(SlowDocuments(memory, time, 0.1), f"standby-{n}", time) for n in range(5)]
        held = [asyncio.create_task(waited(lease, time)) for lease in leases]
        await time.until(asyncio.wait(held, return_when=asyncio.FIRST_COMPLETED))
        winner = next(place for place, task in enumerate(held) if task.done())
        holding = asyncio.create_task(leases[winner].hold())
        await time.passes(60)
        assert [task.done() for task in held].count(True) == 1
        assert held[winner].result() == 2
        for task in (holding, *held):
            task.cancel()

    asyncio.run(story())


@pytest.mark.parametrize("mischief", ["lost, applied", "lost, not applied"])
@pytest.mark.parametrize("already", [0, 1])
def test_a_taking_whose_answer_was_lost_is_read_back(mischief: Mischief, already: int) -> None:
    async def story() -> None:
        trouble, memory, time = Trouble(), MemoryDocuments(), VirtualTime()
        if already:
            await a_lease(memory, "north", time).take_at_once()
        trouble.begin(2, mischief)
        lease = a_lease(UnrulyDocuments(memory, trouble), "south", time)
        assert await lease.take_at_once() == already + 1
        assert trouble.struck
        document = await memory.get("network", LEASE_KEY)
        assert document is not None
        assert (document.fence, document.version) == (already + 1, already + 1)

    asyncio.run(story())


def test_a_taking_that_arrives_after_it_was_read_back_is_found_at_the_next_look() -> None:
    async def story() -> None:
        memory, time = MemoryDocuments(), VirtualTime()
        late: list[dict[str, object]] = []

        class Late(MemoryDocuments):
            async def get(self, collection: Collection, key: str) -> Document | None:
                return await memory.get(collection, key)

            async def insert(self, collection: Collection, key: str, *rest: object, **more: object) -> Outcome:
                late.append({"content": rest[0], **more})
                return "unknown"

            async def update(self, *rest: object, **more: object) -> Outcome:
                return await memory.update(*rest, **more)  # type: ignore[arg-type]

        lease = a_lease(Late(), "north", time)
        assert await lease.take(await lease.look()) is None
        await memory.insert("network", LEASE_KEY, **late[0])  # type: ignore[arg-type]
        seen = await lease.look()
        assert seen.free
        assert await lease.take(seen) == 2

    asyncio.run(story())


# ---- to keep it


def test_a_holder_whose_store_answers_in_three_seconds_never_loses_it() -> None:
    async def story() -> None:
        memory, time = MemoryDocuments(), VirtualTime()
        north = a_lease(SlowDocuments(memory, time, 1.5), "north", time)
        await time.until(waited(north, time))
        holding = asyncio.create_task(north.hold())
        waiting = [
            asyncio.create_task(waited(a_lease(SlowDocuments(memory, time, way_s), name, time), time))
            for name, way_s in (("south", 1.5), ("east", 0.001))
        ]
        await time.passes(300)
        assert not any(task.done() for task in waiting)
        assert not holding.done()
        for task in (holding, *waiting):
            task.cancel()

    asyncio.run(story())


def test_a_store_that_was_away_for_minutes_costs_nobody_the_lease() -> None:
    async def story() -> None:
        memory, time = MemoryDocuments(), VirtualTime()
        north_store, south_store = SlowDocuments(memory, time, 0.01), SlowDocuments(memory, time, 0.01)
        north = a_lease(north_store, "north", time)
        await time.until(waited(north, time))
        holding = asyncio.create_task(north.hold())
        waiting = asyncio.create_task(waited(a_lease(south_store, "south", time), time))
        await time.passes(10)
        north_store.away = south_store.away = True
        await time.passes(120)
        assert not holding.done()
        north_store.away = south_store.away = False
        await time.passes(60)
        assert not waiting.done()
        assert not holding.done()
        holding.cancel()
        waiting.cancel()

    asyncio.run(story())


@pytest.mark.parametrize("takes_writes", ["full", "unknown"])
def test_a_store_that_took_no_writes_for_minutes_costs_nobody_the_lease(
    takes_writes: Literal["full", "unknown"],
) -> None:
    async def story() -> None:
        memory, time = MemoryDocuments(), VirtualTime()
        north_store, south_store = SlowDocuments(memory, time, 0.01), SlowDocuments(memory, time, 0.01)
        north = a_lease(north_store, "north", time)
        await time.until(waited(north, time))
        holding = asyncio.create_task(north.hold())
        waiting = asyncio.create_task(waited(a_lease(south_store, "south", time), time))
        await time.passes(10)
        north_store.takes_writes = south_store.takes_writes = takes_writes
        await time.passes(120)
        assert not holding.done()
        assert 0 < south_store.tries <= 120 / TTL_S  # each taking that failed begins the count anew
        north_store.takes_writes = south_store.takes_writes = "yes"
        await time.passes(60)
        assert not waiting.done()
        assert not holding.done()
        holding.cancel()
        waiting.cancel()

    asyncio.run(story())


def test_the_fence_of_a_holder_that_was_seen_stays_when_the_stores_are_set_back() -> None:
    async def story() -> None:
        before, memory, time = MemoryDocuments(), MemoryDocuments(), VirtualTime()
        await a_lease(before, "east", time).take_at_once()
        for name in ("north", "south", "north"):
            await a_lease(memory, name, time).take_at_once()
        store = SlowDocuments(memory, time, 0.0)
        waiting = asyncio.create_task(waited(a_lease(store, "west", time), time))
        await time.passes(1)
        store._inner = before
        assert await time.until(waiting) == 4

    asyncio.run(story())


@pytest.mark.parametrize("mischief", ["lost, applied", "lost, not applied", "fails"])
def test_a_renewal_whose_answer_was_lost_is_read_back_and_the_next_one_holds(mischief: Mischief) -> None:
    async def story() -> None:
        trouble, memory, time = Trouble(), MemoryDocuments(), VirtualTime()
        lease = a_lease(UnrulyDocuments(memory, trouble), "north", time)
        await lease.take_at_once()
        trouble.begin(2, mischief)
        holding = asyncio.create_task(lease.hold())
        await time.passes(10)
        assert trouble.struck
        assert not holding.done()
        document = await memory.get("network", LEASE_KEY)
        assert document is not None
        assert document.version >= 9
        holding.cancel()

    asyncio.run(story())


def test_a_holder_ends_by_name_when_another_one_has_taken_over() -> None:
    async def story() -> None:
        memory, time = MemoryDocuments(), VirtualTime()
        north = a_lease(memory, "north", time)
        await north.take_at_once()
        holding = asyncio.create_task(north.hold())
        await time.passes(5)
        await a_lease(memory, "south", time).take_at_once()
        with pytest.raises(Superseded, match="newer reducer"):
            await time.until(holding)

    asyncio.run(story())


def test_a_holder_whose_lease_was_removed_ends_by_name() -> None:
    async def story() -> None:
        memory, time = MemoryDocuments(), VirtualTime()
        north = a_lease(memory, "north", time)
        await north.take_at_once()
        await memory.delete("network", LEASE_KEY, version=1, fence=1)
        with pytest.raises(LeaseGone):
            await time.until(north.hold())

    asyncio.run(story())


def test_a_superseded_holder_does_not_release_what_is_not_its_own() -> None:
    async def story() -> None:
        memory, time = MemoryDocuments(), VirtualTime()
        north, south = a_lease(memory, "north", time), a_lease(memory, "south", time)
        await north.take_at_once()
        await south.take_at_once()
        before = await memory.get("network", LEASE_KEY)
        await north.release()
        assert await memory.get("network", LEASE_KEY) == before

    asyncio.run(story())


def test_the_holder_may_stamp_its_own_lease_beside_the_renewals() -> None:
    async def story() -> None:
        memory, time = MemoryDocuments(), VirtualTime()
        north = a_lease(memory, "north", time)
        ledger = Ledger(memory, await north.take_at_once())
        holding = asyncio.create_task(north.hold())
        for _ in range(5):
            await ledger.stamp("network", LEASE_KEY)
            await time.passes(1.3)
        assert not holding.done()
        await a_lease(memory, "south", time).take_at_once()
        with pytest.raises(Superseded):
            await ledger.stamp("network", LEASE_KEY)
        holding.cancel()

    asyncio.run(story())
