import re

import pytest
from browser import Browser
from fake_trail import a_trained_session, counted_calls
from web_server import Served

from fedn_py.reducer.shown_events import EventView, Severity

SESSION = "00000000000000000000000000000001"
ROUND = {"session": SESSION, "round": "2"}


def tell(served: Served, kind: str, text: str, severity: Severity = "info", **subject: str) -> None:
    seq = len(served.control.event_views) + 1
    served.control.event_views.append(EventView(seq, 1_700_000_000.0 + seq, kind, severity, text, subject))


def listed(page: str) -> list[int]:
    return [int(seq) for seq in re.findall(r'<li id="event-(\d+)"', page)]


@pytest.fixture
def viewer(served: Served, browser: Browser) -> Browser:
    browser.enter(served.control.let_in("viewer"))
    return browser


@pytest.fixture
def told(served: Served, viewer: Browser) -> Browser:
    a_trained_session(served.control)
    tell(served, "client.attached", "anna is attached to north", client="anna", combiner="north")
    tell(served, "round.started", "round 2: 2 clients", **ROUND)
    tell(served, "update.refused", "bert is not in round 2: NotFinite: inf", "warning", client="bert", **ROUND)
    tell(served, "round.failed", "round 2 failed: <b>TooFewUpdates</b>", "error", **ROUND)
    tell(served, "model.uploaded", "seed model uploaded", model="5e" * 32)
    return viewer


def test_without_events_the_page_says_what_will_be_there(viewer: Browser) -> None:
    assert "Nothing has happened yet" in viewer.page("/events")


def test_events_come_newest_first_with_what_they_are_about(told: Browser) -> None:
    page = told.page("/events")
    assert listed(page) == [5, 4, 3, 2, 1]
    assert "bert is not in round 2: NotFinite: inf" in page
    assert "round 2 failed: &lt;b&gt;TooFewUpdates" in page
    assert f'<a href="/sessions/{SESSION}" title="{SESSION}">digits</a>' in page
    assert f'href="/sessions/{SESSION}/rounds/2"' in page
    assert f'href="/models/{"5e" * 32}"' in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("text=NOTFINITE", [3]),
        ("severity=error", [4]),
        ("kind=round.started", [2]),
        (f"session={SESSION}", [4, 3, 2]),
        (f"session={SESSION}&round=2&client=bert", [3]),
        ("combiner=north", [1]),
        ("text=&kind=&severity=&session=&round=&client=anna&combiner=", [1]),
    ],
)
def test_filters_stand_in_the_url_and_in_the_form(told: Browser, query: str, found: list[int]) -> None:
    page = told.page(f"/events?{query}")
    assert listed(page) == found
    for name, value in re.findall(r"(\w+)=([^&]+)", query):
        assert re.search(rf'name="{name}"[^>]*value="{value}"|value="{value}" selected|<option selected>{value}', page)


def test_what_no_event_is_like_is_said(told: Browser) -> None:
    assert "No event is like this" in told.page("/events?text=nowhere")


def test_a_search_that_ends_early_offers_to_go_on(served: Served, told: Browser) -> None:
    served.control.events_at_once = 2
    page = told.page("/events?client=anna")
    assert "there are older ones" in page.lower()
    on = re.search(r'href="(/events\?[^"]*before=[^"]*)"', page)
    assert on is not None
    assert "client=anna" in on[1]


def test_paging_back_reaches_every_event_once(served: Served, viewer: Browser) -> None:
    for number in range(120):
        tell(served, "round.committed", f"number {number}")
    path, seen = "/events?kind=round.committed", []
    while path:
        page = viewer.page(path)
        seen += listed(page)
        older = re.search(r'<a class="button" href="(/events\?before[^"]*|/events\?[^"]*before=[^"]*)"', page)
        path = older[1].replace("&amp;", "&") if older else ""
    assert seen == list(range(120, 0, -1))


def test_only_the_newest_are_fetched_again_when_something_happens(told: Browser) -> None:
    assert 'hx-trigger="fedn-change' in told.page("/events?client=bert")
    older = told.page("/events?before=3")
    assert listed(older) == [2, 1]
    assert 'hx-trigger="fedn-change' not in older
    assert "this page stays as it is" in older


def test_each_event_has_a_page(told: Browser) -> None:
    page = told.page("/events/3")
    assert "bert is not in round 2: NotFinite: inf" in page
    assert 'href="/events?client=bert"' in page
    assert told.ask("GET", "/events/99").status == 404
    assert told.ask("GET", "/events/x").status == 422


def test_the_command_and_the_curl_line_ask_for_the_same(told: Browser) -> None:
    page = told.page("/events?kind=round.failed&severity=error&text=a%20b")
    assert "fedn-py event list --text &#39;a b&#39; --kind round.failed --severity error" in page
    assert "/api/v1/events?text=a+b&amp;kind=round.failed&amp;severity=error" in page


def test_a_page_asks_the_reducer_three_things(told: Browser, served: Served) -> None:
    with counted_calls(served.control) as calls:
        told.page("/events")
    assert calls.total() <= 3
