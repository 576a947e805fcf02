import re
from dataclasses import replace
from html import unescape

import pytest
from browser import Browser
from fake_trail import a_trained_session, counted_calls
from web_server import Served

from fedn_py.identity import ClientName, CombinerName
from fedn_py.reducer.shown_rounds import AskedView, ExcludedView, PhaseView

SESSION = f"{1:032x}"
PAGE = f"/sessions/{SESSION}/rounds/2"


def text_of(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


@pytest.fixture
def viewer(served: Served, browser: Browser) -> Browser:
    a_trained_session(served.control)
    browser.enter(served.control.let_in("viewer"))
    return browser


def test_a_round_tells_who_is_in_its_model_and_what_was_measured(served: Served, viewer: Browser) -> None:
    view = served.control.finish_round(a_trained_session(served.control).id, 2, 0.75)
    phases = (PhaseView("updating", 1.0, 2.0), PhaseView("committing", 3.0, 0.5))
    served.control.round_views[-1] = replace(view, phases=phases, metrics_by_client={"bert": {"accuracy": 0.5}})
    page = viewer.page(PAGE)
    text = text_of(page)
    assert "Round 2 of digits" in text
    assert "Took 2.5 s: updating 2.0 s committing 500 ms" in text
    assert "accuracy 0.75" in text
    assert "anna 10 not released bert 20 0.5" in text
    assert f'href="/models/{"ab" * 32}"' in page
    assert f'href="/events?session={SESSION}&amp;round=2"' in page
    assert f'href="/sessions/{SESSION}/rounds/3"' in page


def test_who_is_left_out_is_told_with_the_reason_and_what_its_training_printed(served: Served, viewer: Browser) -> None:
    view = served.control.finish_round(a_trained_session(served.control).id, 2, 0.75)
    out = ExcludedView(ClientName("carl"), "PackageFailed: train ended with 1", "Traceback:\nValueError: <nan>")
    served.control.round_views[-1] = replace(view, status="failed", reason="TooFewUpdates: 2 of 3", excluded=(out,))
    page = viewer.page(PAGE)
    assert "Failed : TooFewUpdates: 2 of 3" in text_of(page)
    assert "carl PackageFailed: train ended with 1 What its training printed last" in text_of(page)
    assert "ValueError: &lt;nan&gt;" in page


def test_a_masked_round_shows_its_sums_and_who_opened_them(served: Served, viewer: Browser) -> None:
    served.control.mask_round(a_trained_session(served.control).id, 2)
    text = text_of(viewer.page(PAGE))
    assert "anna masked" in text
    assert "2 masks on each update, each held by 1 client; sums of at least 3 clients" in text
    assert (
        "combiner-1 opened, 5 clients bert: slot 0, replica 0, answered anna: slot 1, replica 0, did not answer" in text
    )
    assert "combiner-2 not opened, 0 clients: TooFewUpdates: 1 of 3" in text


def test_a_round_under_way_shows_where_each_client_is_and_follows_it(served: Served, viewer: Browser) -> None:
    view = served.control.finish_round(a_trained_session(served.control).id, 2, 0.75)
    asked = (AskedView(ClientName("anna"), CombinerName("combiner-1"), "training"),)
    served.control.round_views[-1] = replace(view, status="running", phase="updating", clients=(), asked=asked)
    page = viewer.page(PAGE)
    assert "anna combiner-1 training" in text_of(page)
    assert "Nobody yet" in page
    assert 'hx-trigger="fedn-change' in page


@pytest.mark.parametrize(("number", "status"), [("9", 404), ("x", 422), ("0", 422)])
def test_a_round_that_is_not_there_is_told(viewer: Browser, number: str, status: int) -> None:
    assert viewer.ask("GET", f"/sessions/{SESSION}/rounds/{number}").status == status


def test_a_page_asks_the_reducer_three_things(served: Served, viewer: Browser) -> None:
    served.control.finish_round(a_trained_session(served.control).id, 2, 0.75)
    with counted_calls(served.control) as calls:
        viewer.page(PAGE)
    assert calls.total() <= 3
