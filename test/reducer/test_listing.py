"""Lists in pages: nothing lost and nothing twice, however many entries share a place."""

import asyncio
from dataclasses import replace

import pytest

from fedn_py.identity import ClientId, ClientName, Digest
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.listing import InvalidMark, Listing, Source, number_in
from fedn_py.reducer.records import ClientRecord, PackageRecord
from fedn_py.store.memory import MemoryDocuments

PACKAGE = PackageRecord(Digest("0" * 64), "echo", "1", 1, 1, {}, 0.0)


def by_creation(*, descending: bool) -> Listing[PackageRecord]:
    return Listing(
        [Source("packages", PackageRecord, lambda record: record)],
        "created",
        place=lambda record: int(record.created),
        key=lambda record: record.digest,
        read_place=number_in,
        descending=descending,
    )


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 10, 100])
@pytest.mark.parametrize("times", [[1, 2, 3, 4, 5, 6, 7], [5] * 7, [1, 1, 2, 2, 2, 2, 3], [0]])
def test_all_pages_together_are_the_whole_list_in_order(limit: int, descending: bool, times: list[int]) -> None:
    async def story() -> None:
        ledger = Ledger(MemoryDocuments(), 1)
        records = []
        for number, time in enumerate(times):
            digest = Digest(f"{(number * 5) % 7:064x}")
            records.append(replace(PACKAGE, digest=digest, created=float(time)))
            await ledger.add("packages", digest, records[-1], created=time)
        listing, seen, after, pages = by_creation(descending=descending), [], "", 0
        while True:
            page = await listing.page(ledger, after, limit)
            seen += page.items
            pages += 1
            if page.next is None:
                break
            assert len(page.items) == limit
            after = page.next
        assert seen == sorted(records, key=lambda one: (one.created, one.digest), reverse=descending)
        assert pages == -(-len(times) // limit)  # none is empty

    asyncio.run(story())


def test_entries_that_come_and_go_between_two_pages_move_no_others() -> None:
    async def story() -> None:
        ledger = Ledger(MemoryDocuments(), 1)
        for number in range(6):
            digest = Digest(f"{number:064x}")
            await ledger.add("packages", digest, replace(PACKAGE, digest=digest, created=5.0), created=5)
        first = await by_creation(descending=True).page(ledger, "", 3)
        newest = Digest("f" * 64)
        await ledger.add("packages", newest, replace(PACKAGE, digest=newest, created=6.0), created=6)
        second = await by_creation(descending=True).page(ledger, first.next or "", 3)
        assert [int(one.digest, 16) for one in (*first.items, *second.items)] == [5, 4, 3, 2, 1, 0]

    asyncio.run(story())


def test_names_that_several_clients_had_are_all_listed() -> None:
    async def story() -> None:
        ledger = Ledger(MemoryDocuments(), 1)
        for number, name in enumerate(["b", "a", "b", "b", "c"]):
            record = ClientRecord(ClientId(f"{number:032x}"), ClientName(name), "0.1.0", 1.0, 2.0)
            await ledger.add("clients", record.client, record, name=name)
        listing: Listing[ClientRecord] = Listing(
            [Source("clients", ClientRecord, lambda record: record)],
            "name",
            place=lambda record: str(record.name),
            key=lambda record: record.client,
            read_place=str,
        )
        seen, after = [], ""
        while True:
            page = await listing.page(ledger, after, 2)
            seen += [(one.name, int(one.client, 16)) for one in page.items]
            if page.next is None:
                break
            after = page.next
        assert seen == [("a", 1), ("b", 0), ("b", 2), ("b", 3), ("c", 4)]

    asyncio.run(story())


@pytest.mark.parametrize("mark", ["x", "-1/a", "1.5/a", "9" * 30 + "/a", "/a", "٣/a"])
def test_a_mark_that_no_page_gave_is_refused(mark: str) -> None:
    with pytest.raises(InvalidMark, match="no page begins behind"):
        asyncio.run(by_creation(descending=True).page(Ledger(MemoryDocuments(), 1), mark, 10))
