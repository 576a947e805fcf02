"""The benchmark of the web pages: it runs, and its numbers are whole. How fast the pages are is for it to print.

What it cannot say on a loaded machine is said here: how often a page asks the store, and how much it reads.
"""

import asyncio
import re
from contextlib import ExitStack
from functools import cache
from typing import Any

import pytest
from fake_control import FakeControl
from store_reads import Reads, counted_reads

from fedn_py.bench import web
from fedn_py.bench.web import AIM_MS, SESSION, History, Row, measure, over_aim, pages
from fedn_py.identity import Digest
from fedn_py.reducer import assemble
from fedn_py.settings import LimitSettings
from fedn_py.web import create_app

PAGES = pages(SESSION, Digest("a" * 64), Digest("b" * 64))
OUTSIDE = {"ui.static", "ui.show_sign_in", "ui.enter"}
OF_A_SANDBOX = {"ui.show_masked_update"}

SMALL = History(clients=30, rounds=4, in_round=10)
LARGE = History(clients=300, rounds=120, in_round=10)
QUERIES = {"start": 13, "validation": 7, "session": 6}
"""The most of one page; 5 of every other one."""
LISTED = {
    "start": 200,
    "network": 200,
    "validation": 500,
    "new session": 100,
    "clients": 100,
    "models": 50,
    "events": 50,
    "session": 25,
}
"""The longest list of a page."""
BESIDE = 15
"""Documents that a page may read beside its longest list: who looks, the session, the newest round."""


def test_every_page_of_a_network_with_a_history_is_made_and_timed() -> None:
    rows, _ = measured(SMALL)
    assert set(rows) == set(PAGES)
    for name, row in rows.items():
        assert 0 < row["median_ms"] <= row["max_ms"], name
        assert row["bytes"] > 1_000, name


@pytest.mark.parametrize("page", PAGES)
def test_a_page_asks_and_reads_no_more_of_the_store_however_long_the_history(page: str) -> None:
    few, many = measured(SMALL)[1][page], measured(LARGE)[1][page]
    assert 0 < few.queries == many.queries <= QUERIES.get(page, 5)
    assert 0 < few.documents <= many.documents <= LISTED.get(page, 0) + BESIDE


def test_no_page_is_left_out() -> None:
    app = create_app(FakeControl(), asyncio.new_event_loop(), LimitSettings())
    adapter = app.url_map.bind("localhost")
    measured = {adapter.match(address.partition("?")[0])[0] for address in PAGES.values()}
    there = {
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("ui.") and "GET" in (rule.methods or ())
    }
    assert there - measured == OUTSIDE | OF_A_SANDBOX


def test_pages_that_miss_the_aim_are_told() -> None:
    rows = {name: {"median_ms": AIM_MS + more, "max_ms": 1e6} for name, more in (("quick", -0.1), ("slow", 0.0))}
    assert over_aim(rows) == {"slow"}


@cache
def measured(history: History) -> tuple[dict[str, Row], dict[str, Reads]]:
    """Return each page's row, and what its last request read of the reducer's documents."""
    open_stores, ask = assemble.open_stores, web._ask
    counted: list[Reads] = []
    found: dict[str, Reads] = {}

    async def open_counted(*places: Any) -> Any:
        stores = await open_stores(*places)
        counted.append(counting.enter_context(counted_reads(stores.documents)))
        return stores

    def ask_counted(connection: Any, address: str, cookie: str) -> Any:
        (reads,) = counted
        queries, documents = reads.queries, reads.documents
        answer = ask(connection, address, cookie)
        found[_without_digests(address)] = Reads(reads.queries - queries, reads.documents - documents)
        return answer

    with pytest.MonkeyPatch.context() as patched, ExitStack() as counting:
        patched.setattr(assemble, "open_stores", open_counted)
        patched.setattr(web, "_ask", ask_counted)
        patched.setattr(web, "_EVENTS_A_ROUND", 2)
        rows = asyncio.run(measure(history, repeats=1))
    return rows, {name: found[_without_digests(address)] for name, address in PAGES.items()}


def _without_digests(address: str) -> str:
    return re.sub("[0-9a-f]{64}", "DIGEST", address)
