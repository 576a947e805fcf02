"""Events are found whatever they are looked for by, and each search reads a bounded number of them."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from reducer_network import Network, a_network
from store_reads import counted_reads

from fedn_py.reducer import event_search
from fedn_py.reducer.control import Page
from fedn_py.reducer.control_faults import UnknownEvent
from fedn_py.reducer.event_log import event_key, indexed
from fedn_py.reducer.event_search import MOST_READ, EventFilter, search
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.records import EventRecord, to_document
from fedn_py.reducer.shown_events import EventView
from fedn_py.store.memory import MemoryDocuments
from fedn_py.store.ports import Collection, Document

MANY = 100_000
KINDS = ("client.attached", "round.committed", "update.refused")


def an_event(seq: int) -> EventRecord:
    """Return event number ``seq``: every 1,000th of round 7 is refused, by one of two clients."""
    rare = seq % 1_000 == 0
    subject = {"client": "anna" if seq % 2_000 else "bert", "round": "7" if rare else "1", "session": "5e55"}
    text = f"Update {seq} was Refused" if rare else f"{seq} goes on"
    return EventRecord(seq, float(seq), "update.refused" if rare else KINDS[seq % 2], "error" if rare else "info",
                       text, subject)  # fmt: skip


class ManyEvents(MemoryDocuments):
    """A store with very many events, each made when it is read.

    Attributes:
        read: how many documents were given.
        asked: by which fields and values it was asked.
    """

    def __init__(self) -> None:
        super().__init__()
        self.read = 0
        self.asked: set[tuple[str, object]] = set()

    async def find(
        self,
        collection: Collection,
        equals: Mapping[str, str | int | bool] | None = None,
        *,
        order_by: str = "",
        descending: bool = False,
        limit: int = 0,
        after: str | int | None = None,
    ) -> Sequence[Document]:
        assert (collection, order_by) == ("events", "seq")
        assert limit > 0
        assert len(equals or {}) <= 1  # there is an index of each, and none of both
        self.asked |= set((equals or {}).items())
        found: list[Document] = []
        begin = (MANY + 1 if descending else 0) if after is None else int(after)
        for seq in range(min(begin - 1, MANY), 0, -1) if descending else range(begin + 1, MANY + 1):
            event = an_event(seq)
            if all(indexed(event)[name] == value for name, value in (equals or {}).items()):
                found.append(Document(event_key(seq), 1, 0, "", to_document(event, **indexed(event))))
            if len(found) == limit:
                break
        self.read += len(found)
        return found


@pytest.mark.parametrize("backwards", [True, False])
def test_one_search_in_a_hundred_thousand_events_reads_no_more_than_its_bound_and_says_where_to_go_on(
    backwards: bool,
) -> None:
    documents = ManyEvents()
    wanted = EventFilter(text="was refused", severity="error", subject={"client": "bert", "round": "7"})

    async def story() -> list[int]:
        mark, seen, searches = None, [], 0
        while True:
            documents.read = 0
            found = await search(Ledger(documents, 1), wanted, begin=mark, backwards=backwards, limit=100)
            assert documents.read <= MOST_READ
            assert all(wanted.accepts(event) for event in found.events)
            seen += [event.seq for event in found.events]
            searches += 1
            if found.next is None:
                assert searches <= MANY // MOST_READ + 1
                return seen
            mark = found.next

    expected = list(range(2_000, MANY + 1, 2_000))
    assert asyncio.run(story()) == (expected[::-1] if backwards else expected)
    assert documents.asked == {("severity", "error")}


def test_a_kind_or_a_severity_is_found_by_the_store_and_a_page_without_more_reads_just_itself() -> None:
    documents = ManyEvents()

    async def story(wanted: EventFilter) -> list[int]:
        documents.read = 0
        found = await search(Ledger(documents, 1), wanted, begin=None, backwards=True, limit=20)
        assert documents.read == 20
        return [event.seq for event in found.events]

    assert asyncio.run(story(EventFilter())) == list(range(MANY, MANY - 20, -1))
    refused = asyncio.run(story(EventFilter(kind="update.refused")))
    assert refused == list(range(MANY, MANY - 20_000, -1_000))
    assert documents.asked == {("kind", "update.refused")}
    errors = asyncio.run(story(EventFilter(severity="error")))
    assert [an_event(seq).severity for seq in errors] == ["error"] * 20
    assert documents.asked == {("kind", "update.refused"), ("severity", "error")}


@pytest.mark.parametrize(
    ("wanted", "accepted"),
    [
        (EventFilter(), True),
        (EventFilter(text="UPDATE 1"), True),
        (EventFilter(text="Update.Ref"), True),  # the kind counts too
        (EventFilter(text="accepted"), False),
        (EventFilter(kind="update.refused"), True),
        (EventFilter(kind="update"), False),
        (EventFilter(severity="error"), True),
        (EventFilter(severity="warning"), False),
        (EventFilter(subject={"client": "anna", "session": "5e55"}), True),
        (EventFilter(subject={"client": "ann"}), False),
        (EventFilter(subject={"combiner": "north"}), False),
    ],
)
def test_what_a_filter_accepts(wanted: EventFilter, accepted: bool) -> None:
    assert wanted.accepts(an_event(1_000)) is accepted


# ---- what REST asks


def in_a_network(scratch: Path, story: Any) -> None:
    async def told() -> None:
        async with a_network(scratch) as network:
            for number in range(1, 41):
                about = {"round": str(number % 4), "session": "5e55", "client": "anna" if number % 2 else "bert"}
                network.events.tell("a.kind", f"Number {number}", "error" if number == 4 else "info", **about)
            await network.events.flush()
            await story(network)

    asyncio.run(told())


def numbers(page: Page[EventView]) -> list[int]:
    return [int(event.text.split()[-1]) for event in page.items]


def test_events_are_paged_backwards_with_any_filter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_search, "MOST_READ", 7)
    monkeypatch.setattr(event_search, "_AT_A_TIME", 3)

    async def story(network: Network) -> None:
        control = network.control
        for filters, wanted in (
            ({}, range(40, 0, -1)),
            ({"client": "anna", "round_number": 3}, range(39, 0, -4)),
            ({"text": "number 1"}, [19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 1]),
            ({"severity": "error", "session": "5e55"}, [4]),
            ({"combiner": "north"}, []),
        ):
            for limit in (1, 2, 5, 100):
                seen: list[int] = []
                before: int | None = 10**9
                while before is not None:
                    with counted_reads(network.documents) as reads:
                        page = await control.events(before=before, limit=limit, **filters)  # type: ignore[arg-type]
                    assert reads.documents <= max(7, limit)
                    seen += numbers(page)
                    before = None if page.next is None else int(page.next)
                assert seen == list(wanted)

    in_a_network(tmp_path, story)


def test_the_newest_that_fit_a_filter_come_oldest_first_and_are_followed_from_there(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        page = await network.control.events(client="bert", limit=3)
        assert numbers(page) == [36, 38, 40]
        assert (await network.control.events(severity="error", text="5")).items == ()
        after = int((await network.control.events(severity="error")).next or 0)
        assert (await network.control.events(after=after, severity="error")).items == ()
        network.events.tell("a.kind", "Number 41", "error")
        await network.events.flush()
        assert numbers(await network.control.events(after=after, severity="error")) == [41]

    in_a_network(tmp_path, story)


def test_one_event_is_found_by_its_number(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        (event,) = (await network.control.events(text="number 17")).items
        with counted_reads(network.documents) as reads:
            assert await network.control.event(event.seq) == event
        assert (reads.queries, reads.documents) == (1, 1)
        with pytest.raises(UnknownEvent):
            await network.control.event(10**9)

    in_a_network(tmp_path, story)
