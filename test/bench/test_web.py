"""The benchmark of the web pages: it runs, and its numbers are whole. How fast the pages are is for it to print."""

import asyncio

from fake_control import FakeControl

from fedn_py.bench.web import SESSION, History, measure, pages
from fedn_py.identity import Digest
from fedn_py.settings import LimitSettings
from fedn_py.web import create_app

PAGES = pages(SESSION, Digest("a" * 64), Digest("b" * 64))
OUTSIDE = {"ui.static", "ui.show_sign_in", "ui.enter"}
FILES = {"ui.client_file", "ui.authority_file"}
OF_A_SANDBOX = {"ui.show_masked_update"}


def test_every_page_of_a_network_with_a_history_is_made_and_timed() -> None:
    rows = asyncio.run(measure(History(clients=30, rounds=4, in_round=10), repeats=1))
    assert set(rows) == set(PAGES)
    for name, row in rows.items():
        assert 0 < row["median_ms"] <= row["max_ms"], name
        assert row["bytes"] > 1_000, name


def test_no_page_is_left_out() -> None:
    app = create_app(FakeControl(), asyncio.new_event_loop(), LimitSettings())
    adapter = app.url_map.bind("localhost")
    measured = {adapter.match(address.partition("?")[0])[0] for address in PAGES.values()}
    there = {
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("ui.") and "GET" in (rule.methods or ())
    }
    assert there - measured == OUTSIDE | FILES | OF_A_SANDBOX
