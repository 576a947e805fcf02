"""Records in the store: conditional, fenced, and read back where the answer of a write was lost."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from unruly_store import Mischief, Trouble, UnrulyDocuments

from fedn_py.identity import CombinerName
from fedn_py.reducer.ledger import Ledger, NoRecord, RecordExists, Superseded
from fedn_py.reducer.records import CombinerRecord, RecordDamaged
from fedn_py.store.memory import MemoryDocuments
from fedn_py.store.ports import StoreUnavailable

NORTH = CombinerRecord(CombinerName("north"), "north:12080", 10, "0.1.0", 1.0)


def test_a_record_is_added_read_changed_and_found() -> None:
    async def story() -> None:
        ledger = Ledger(MemoryDocuments(), 1)
        await ledger.add("combiners", "north", NORTH, name="north")
        assert await ledger.get("combiners", "north", CombinerRecord) == NORTH
        changed = await ledger.change("combiners", "north", CombinerRecord, lambda old: replace(old, max_clients=11))
        assert changed.max_clients == 11
        assert await ledger.find("combiners", CombinerRecord, {"name": "north"}) == [changed]
        assert await ledger.count("combiners", {"name": "north"}) == 1
        assert await ledger.get("combiners", "south", CombinerRecord) is None

    asyncio.run(story())


def test_a_key_is_taken_once_and_a_record_that_is_not_there_cannot_be_changed() -> None:
    async def story() -> None:
        ledger = Ledger(MemoryDocuments(), 1)
        await ledger.add("combiners", "north", NORTH)
        with pytest.raises(RecordExists, match="north"):
            await ledger.add("combiners", "north", NORTH)
        with pytest.raises(NoRecord, match="south"):
            await ledger.change("combiners", "south", CombinerRecord, lambda old: old)

    asyncio.run(story())


def test_putting_adds_and_then_replaces() -> None:
    async def story() -> None:
        ledger = Ledger(MemoryDocuments(), 1)
        await ledger.put("combiners", "north", NORTH, name="north")
        await ledger.put("combiners", "north", replace(NORTH, address="moved:1"), name="north")
        (found,) = await ledger.find("combiners", CombinerRecord)
        assert found.address == "moved:1"

    asyncio.run(story())


def test_changes_made_at_once_are_all_there() -> None:
    async def story() -> None:
        ledger = Ledger(MemoryDocuments(), 1)
        await ledger.add("combiners", "north", NORTH)

        async def one_more() -> None:
            await ledger.change(
                "combiners", "north", CombinerRecord, lambda old: replace(old, max_clients=old.max_clients + 1)
            )

        await asyncio.gather(*(one_more() for _ in range(20)))
        record = await ledger.get("combiners", "north", CombinerRecord)
        assert record is not None
        assert record.max_clients == NORTH.max_clients + 20

    asyncio.run(story())


def renamed(address: str) -> Callable[[CombinerRecord], CombinerRecord]:
    return lambda old: replace(old, address=address)


def test_what_was_written_here_last_is_changed_and_stamped_without_being_read() -> None:
    async def story() -> None:
        trouble, memory = Trouble(), MemoryDocuments()
        ledger = Ledger(UnrulyDocuments(memory, trouble), 1)
        await ledger.add("combiners", "north", NORTH, name="north")
        trouble.begin(0, "fails")
        assert await ledger.change("combiners", "north", CombinerRecord, renamed("x:1")) == replace(
            NORTH, address="x:1"
        )
        await ledger.stamp("combiners", "north")
        await ledger.change("combiners", "north", CombinerRecord, lambda old: replace(old, max_clients=9))
        assert trouble.calls == 3
        found = await ledger.find("combiners", CombinerRecord, {"name": "north"})
        assert found == [replace(NORTH, address="x:1", max_clients=9)]

    asyncio.run(story())


def test_what_another_has_changed_meanwhile_is_read_and_changed_as_it_is() -> None:
    async def story() -> None:
        memory = MemoryDocuments()
        ledger, other = Ledger(memory, 1), Ledger(memory, 1)
        await ledger.add("combiners", "north", NORTH)
        await other.change("combiners", "north", CombinerRecord, renamed("x:1"))
        changed = await ledger.change("combiners", "north", CombinerRecord, lambda old: replace(old, max_clients=9))
        assert changed == replace(NORTH, address="x:1", max_clients=9)
        await other.stamp("combiners", "north")
        await ledger.stamp("combiners", "north")
        document = await memory.get("combiners", "north")
        assert document is not None
        assert document.version == 5

    asyncio.run(story())


def test_what_stands_against_a_change_is_said_of_the_document_as_it_is() -> None:
    def only_at_x(old: CombinerRecord) -> CombinerRecord:
        if old.address != "x:1":
            raise LookupError(old.address)
        return replace(old, max_clients=9)

    async def story() -> None:
        memory = MemoryDocuments()
        ledger, other = Ledger(memory, 1), Ledger(memory, 1)
        await ledger.add("combiners", "north", NORTH)
        with pytest.raises(LookupError):
            await ledger.change("combiners", "north", CombinerRecord, only_at_x)
        await ledger.change("combiners", "north", CombinerRecord, renamed("y:1"))
        await other.change("combiners", "north", CombinerRecord, renamed("x:1"))
        assert (await ledger.change("combiners", "north", CombinerRecord, only_at_x)).max_clients == 9

    asyncio.run(story())


def test_a_newer_reducer_s_stamp_is_seen_by_a_change_of_what_is_remembered() -> None:
    async def story() -> None:
        memory = MemoryDocuments()
        ledger, newer = Ledger(memory, 1), Ledger(memory, 2)
        await ledger.add("combiners", "north", NORTH)
        await newer.stamp("combiners", "north")
        for write in (
            lambda: ledger.change("combiners", "north", CombinerRecord, renamed("x:1")),
            lambda: ledger.stamp("combiners", "north"),
        ):
            await ledger.put("combiners", "south", NORTH)
            with pytest.raises(Superseded):
                await write()

    asyncio.run(story())


@pytest.mark.parametrize("what", ["add", "change", "put new", "put again"])
def test_a_write_whose_answer_was_lost_is_read_back(what: str) -> None:
    async def story() -> None:
        trouble = Trouble()
        memory = MemoryDocuments()
        ledger = Ledger(UnrulyDocuments(memory, trouble), 1)
        if what in {"change", "put again"}:
            await ledger.add("combiners", "north", NORTH)
        writes_at = {"add": 1, "change": 1, "put new": 2, "put again": 2}[what]
        trouble.begin(writes_at, "lost, applied")
        match what:
            case "add":
                await ledger.add("combiners", "north", NORTH)
            case "change":
                await ledger.change("combiners", "north", CombinerRecord, lambda old: replace(old, address="x:1"))
            case _:
                await ledger.put("combiners", "north", replace(NORTH, address="x:1"))
        assert trouble.struck
        document = await memory.get("combiners", "north")
        assert document is not None
        assert document.version == (2 if what in {"change", "put again"} else 1)  # written once

    asyncio.run(story())


@pytest.mark.parametrize("what", ["add", "change", "put"])
def test_a_write_that_was_lost_and_not_applied_is_told_at_once(what: str) -> None:
    async def story() -> None:
        trouble = Trouble()
        ledger = Ledger(UnrulyDocuments(MemoryDocuments(), trouble), 1)
        if what == "change":
            await ledger.add("combiners", "north", NORTH)
        trouble.begin(2 if what == "put" else 1, "lost, not applied")
        write = {
            "add": lambda: ledger.add("combiners", "north", NORTH),
            "change": lambda: ledger.change("combiners", "north", CombinerRecord, lambda old: old),
            "put": lambda: ledger.put("combiners", "north", NORTH),
        }[what]
        with pytest.raises(StoreUnavailable):
            await write()
        # Whoever waits between two tries is above: a store that always answers so must not be asked without end.
        assert trouble.calls <= 3

    asyncio.run(story())


def test_a_document_of_a_newer_reducer_is_not_touched() -> None:
    async def story() -> None:
        memory = MemoryDocuments()
        older, newer = Ledger(memory, 1), Ledger(memory, 2)
        await older.add("combiners", "north", NORTH)
        await newer.change("combiners", "north", CombinerRecord, lambda old: old)
        with pytest.raises(Superseded, match="newer reducer"):
            await older.change("combiners", "north", CombinerRecord, lambda old: replace(old, address="old:1"))
        with pytest.raises(Superseded):
            await older.put("combiners", "north", replace(NORTH, address="old:1"))
        assert await newer.get("combiners", "north", CombinerRecord) == NORTH

    asyncio.run(story())


def test_a_newer_reducer_that_comes_between_reading_and_writing_wins() -> None:
    async def story() -> None:
        memory = MemoryDocuments()
        older, newer = Ledger(memory, 1), Ledger(memory, 2)
        await older.add("combiners", "north", NORTH)
        documents = memory._collections["combiners"]

        def takes_over(old: CombinerRecord) -> CombinerRecord:
            documents["north"] = replace(documents["north"], fence=2)
            return replace(old, address="old:1")

        with pytest.raises(Superseded):
            await older.change("combiners", "north", CombinerRecord, takes_over)
        assert await newer.get("combiners", "north", CombinerRecord) == NORTH

    asyncio.run(story())


def test_a_damaged_document_is_named() -> None:
    async def story() -> None:
        memory = MemoryDocuments()
        await memory.insert("combiners", "north", {"record": {"name": "north"}}, fence=1, operation="x")
        with pytest.raises(RecordDamaged, match="'north' of combiners") as caught:
            await Ledger(memory, 1).get("combiners", "north", CombinerRecord)
        assert "backup" in caught.value.remedy

    asyncio.run(story())


# ---- the fence


def test_a_stamp_puts_the_fence_on_a_document_that_stays_as_it_is() -> None:
    async def story() -> None:
        memory = MemoryDocuments()
        await Ledger(memory, 1).add("combiners", "north", NORTH, name="north")
        await Ledger(memory, 2).stamp("combiners", "north")
        document = await memory.get("combiners", "north")
        assert document is not None
        assert (document.fence, document.version) == (2, 2)
        assert await Ledger(memory, 2).get("combiners", "north", CombinerRecord) == NORTH
        with pytest.raises(Superseded, match="newer reducer"):
            await Ledger(memory, 1).stamp("combiners", "north")

    asyncio.run(story())


def test_a_stamp_makes_no_document_where_there_is_none() -> None:
    async def story() -> None:
        memory = MemoryDocuments()
        await Ledger(memory, 1).stamp("combiners", "north")
        assert await memory.get("combiners", "north") is None

    asyncio.run(story())


@pytest.mark.parametrize("mischief", ["lost, applied", "lost, not applied"])
def test_a_stamp_whose_answer_was_lost_is_read_back(mischief: Mischief) -> None:
    async def story() -> None:
        trouble, memory = Trouble(), MemoryDocuments()
        await Ledger(memory, 1).add("combiners", "north", NORTH, name="north")
        trouble.begin(2, mischief)
        stamping = Ledger(UnrulyDocuments(memory, trouble), 2).stamp("combiners", "north")
        if mischief == "lost, applied":
            await stamping
        else:
            with pytest.raises(StoreUnavailable):
                await stamping
        document = await memory.get("combiners", "north")
        assert document is not None
        assert document.fence == (2 if mischief == "lost, applied" else 1)

    asyncio.run(story())


def test_what_was_written_here_last_is_had_without_being_read_and_anything_else_is_read() -> None:
    async def story() -> None:
        trouble, memory = Trouble(), MemoryDocuments()
        ledger = Ledger(UnrulyDocuments(memory, trouble), 1)
        await ledger.add("combiners", "north", NORTH)
        await Ledger(memory, 1).add("combiners", "south", NORTH)
        trouble.begin(0, "fails")
        assert await ledger.written("combiners", "north", CombinerRecord) == NORTH
        assert trouble.calls == 0
        assert await ledger.written("combiners", "south", CombinerRecord) == NORTH
        assert trouble.calls == 1

    asyncio.run(story())
