"""Which queries the stores' indexes answer, and that a reducer makes no others."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from reducer_network import Stored, a_network

from fedn_py.store.indexes import index_for
from fedn_py.store.memory import MemoryDocuments
from fedn_py.store.ports import Collection, Document

READ_WHOLE = {"clients", "combiners", "tokens"}
"""What a reducer has in its memory anyway, or one for each server or person: read whole, at a start or for a list."""


@pytest.mark.parametrize(
    ("collection", "equals", "order_by", "fields"),
    [
        ("rounds", {"session"}, "", ("session",)),
        ("rounds", {"session", "status"}, "", ("session",)),
        ("events", {"kind"}, "seq", ("kind", "seq")),
        ("events", {"kind", "severity"}, "seq", ("kind", "seq")),
        ("events", set(), "seq", ("seq",)),
        ("tokens", {"created"}, "created", ("created",)),
        ("rounds", {"status"}, "", None),
        ("events", set(), "kind", None),
        ("network", {"status"}, "", None),
    ],
)
def test_an_index_answers_what_its_fields_are_asked_for(
    collection: str, equals: set[str], order_by: str, fields: tuple[str, ...] | None
) -> None:
    assert index_for(collection, equals, order_by) == fields


class WatchedDocuments(MemoryDocuments):
    """Documents that note what they are asked for by no index.

    Attributes:
        unfound: these queries.
        asked: how many there were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unfound: list[tuple[str, tuple[str, ...], str]] = []
        self.asked = 0

    async def find(
        self, collection: Collection, equals: Mapping[str, str | int | bool] | None = None, **how: Any
    ) -> Sequence[Document]:
        """Note and answer a query."""
        order_by = how.get("order_by", "")
        self.asked += 1
        if index_for(collection, equals or {}, order_by) is None:
            self.unfound.append((collection, tuple(equals or ()), order_by))
        return await super().find(collection, equals, **how)


def test_what_a_reducer_asks_for_has_an_index(tmp_path: Path) -> None:
    documents = WatchedDocuments()

    async def story() -> None:
        stored = Stored(documents=documents)
        async with a_network(tmp_path, stored) as network:
            await network.combiner()
            session = await network.start_session()
            await network.at_rest()
            control = network.control
            for listed in (control.sessions, control.packages, control.clients, control.tokens):
                await listed()
            await control.combiners()
            await control.events(kind="session.started")
            await control.events(after=3, severity="warning")
            await control.rounds(session.id)
            found = await control.models(session.id)
            await control.models(None)
            await control.model(found.items[0].digest)
        async with a_network(tmp_path, stored):
            pass

    asyncio.run(story())
    assert documents.asked > 20
    assert [query for query in documents.unfound if query[0] not in READ_WHOLE or query[1:] != ((), "")] == []
