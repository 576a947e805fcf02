"""A new holder stamps what is under way first, and what an older one may still insert comes to nothing."""

import asyncio
from dataclasses import replace

import pytest
from builders import a_plan, some_terms

from fedn_py.identity import InstanceId
from fedn_py.reducer.lease import Holder, Lease
from fedn_py.reducer.ledger import Ledger, Superseded
from fedn_py.reducer.records import RoundRecord, SessionRecord, round_key
from fedn_py.reducer.round_records import write_attempt
from fedn_py.reducer.takeover import stamp_live
from fedn_py.store.memory import MemoryDocuments
from fedn_py.store.ports import Collection, Document

TERMS = some_terms()
SESSION = TERMS.session


def a_round(number: int, *, generation: int = 1) -> RoundRecord:
    return RoundRecord(a_plan(round_number=number), "running", generation, (), started=1.0, attempt_started=1.0)  # type: ignore[arg-type]


async def taken(documents: MemoryDocuments, name: str) -> Ledger:
    me = Holder(name, InstanceId(name), f"{name}.example.org:8090")
    return Ledger(documents, await Lease(documents, me).take_at_once())


async def begun(ledger: Ledger, rounds: int, status: str = "running") -> None:
    session = SessionRecord("session-1", TERMS, status, "", 1.0)  # type: ignore[arg-type]
    await ledger.add("sessions", SESSION, session, number=TERMS.number, status=status)
    for number in range(1, rounds + 1):
        await write_attempt(ledger, a_round(number))


async def fence_of(documents: MemoryDocuments, collection: Collection, key: str) -> int:
    document = await documents.get(collection, key)
    assert document is not None
    return document.fence


@pytest.mark.parametrize("status", ["running", "paused"])
def test_the_session_under_way_and_its_newest_round_are_stamped(status: str) -> None:
    async def story() -> None:
        memory = MemoryDocuments()
        await begun(await taken(memory, "north"), 3, status)
        await stamp_live(await taken(memory, "south"))
        assert await fence_of(memory, "sessions", SESSION) == 2
        assert [await fence_of(memory, "rounds", round_key(SESSION, number)) for number in (1, 2, 3)] == [1, 1, 2]

    asyncio.run(story())


def test_nothing_is_stamped_of_a_session_that_has_ended() -> None:
    async def story() -> None:
        memory = MemoryDocuments()
        await begun(await taken(memory, "north"), 1, "finished")
        await stamp_live(await taken(memory, "south"))
        assert await fence_of(memory, "sessions", SESSION) == 1

    asyncio.run(story())


def test_an_older_holder_that_opens_the_next_round_after_the_takeover_ends_before_anything_follows() -> None:
    async def story() -> None:
        memory = MemoryDocuments()
        north = await taken(memory, "north")
        await begun(north, 2)
        south = await taken(memory, "south")
        await stamp_live(south)
        with pytest.raises(Superseded):
            await write_attempt(north, a_round(3))
        # What it inserted is met by the new holder, which makes it its own: it is one document, of one reducer.
        await write_attempt(south, a_round(3, generation=7))
        assert await fence_of(memory, "rounds", round_key(SESSION, 3)) == 2
        with pytest.raises(Superseded):
            await north.change(
                "rounds", round_key(SESSION, 3), RoundRecord, lambda old: replace(old, status="committed")
            )
        kept = await south.get("rounds", round_key(SESSION, 3), RoundRecord)
        assert kept is not None
        assert (kept.generation, kept.status) == (7, "running")

    asyncio.run(story())


def test_a_round_that_was_opened_just_before_the_takeover_is_stamped_by_it() -> None:
    """The older holder's confirmation and the new one's look meet on the session: one of the two sees the other."""

    async def story() -> None:
        for steps in range(12):
            memory = MemoryDocuments()
            north = await taken(memory, "north")
            await begun(north, 1)
            slow = Ledger(Stepping(memory), north.fence)
            opening = asyncio.create_task(write_attempt(slow, a_round(2)))
            for _ in range(steps):
                await asyncio.sleep(0)
            await stamp_live(await taken(memory, "south"))
            (outcome,) = await asyncio.gather(opening, return_exceptions=True)
            stamped = await memory.get("rounds", round_key(SESSION, 2))
            assert isinstance(outcome, Superseded) or (stamped is not None and stamped.fence == 2), steps

    asyncio.run(story())


class Stepping(MemoryDocuments):
    """Documents whose every call lets others work first."""

    def __init__(self, inner: MemoryDocuments) -> None:
        super().__init__()
        self._collections = inner._collections

    async def get(self, collection: Collection, key: str) -> Document | None:
        await asyncio.sleep(0)
        return await super().get(collection, key)

    async def insert(self, *rest: object, **more: object) -> object:  # type: ignore[override]
        await asyncio.sleep(0)
        return await super().insert(*rest, **more)  # type: ignore[arg-type]

    async def update(self, *rest: object, **more: object) -> object:  # type: ignore[override]
        await asyncio.sleep(0)
        return await super().update(*rest, **more)  # type: ignore[arg-type]
