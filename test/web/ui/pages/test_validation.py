import json
import re
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
from browser import Browser
from fake_trail import a_trained_session, counted_calls
from web_server import Served

from fedn_py.protocol.masked.options import MaskedOptions

FIRST, SECOND = f"{1:032x}", f"{2:032x}"


@pytest.fixture
def viewer(served: Served, browser: Browser) -> Browser:
    browser.enter(served.control.let_in("viewer"))
    return browser


def charts(page: str) -> dict[str, Any]:
    """Return what is drawn, by metric."""
    found = re.findall(r"<figcaption>([^<]*)</figcaption>.*?</figure>", page, re.DOTALL)
    parts = re.split(r"<figcaption>[^<]*</figcaption>", page)[1:]
    drawn = {}
    for name, part in zip(found, parts, strict=True):
        told = re.search(r'data-chart="([^"]*)"', part.partition("</figure>")[0])
        drawn[name] = json.loads(unescape(told[1])) if told else None
    return drawn


def text_of(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


def test_without_a_session_the_page_says_what_will_be_there(viewer: Browser) -> None:
    assert "No session yet" in viewer.page("/validation")


def test_the_newest_session_is_shown_where_none_is_asked_for(served: Served, viewer: Browser) -> None:
    a_trained_session(served.control, name="old")
    a_trained_session(served.control, name="new", number=2)
    assert "Validation of new" in text_of(viewer.page("/validation"))


def test_every_metric_is_a_curve_with_the_spread_of_its_clients_and_a_table(served: Served, viewer: Browser) -> None:
    a_trained_session(served.control)
    page = viewer.page(f"/validation?session={FIRST}")
    drawn = charts(page)
    names = {metric: chart and [one["name"] for one in chart["series"]] for metric, chart in drawn.items()}
    assert names == {
        "accuracy": ["mean", "smallest", "lower quartile", "upper quartile", "largest"],
        "recall": None,
        "loss": ["mean"],
    }
    assert drawn["accuracy"]["x"] == [1, 2, 3]
    assert drawn["accuracy"]["series"][0]["values"] == [0.75, 0.875, 0.9375]
    text = text_of(page)
    assert "While training loss Table" in text
    assert "Upper quartile Largest 3 000300000000 0.9375 2 0.875" in text
    assert f'href="/api/v1/sessions/{FIRST}/validations.csv" download' in page


def test_a_mean_of_too_few_is_told_and_not_drawn(served: Served, viewer: Browser) -> None:
    a_trained_session(served.control)
    text = text_of(viewer.page(f"/validation?session={FIRST}"))
    assert "2 clients: hidden in round 1 to 3: 2 clients gave it, and a mean is shown of at least 3." in text


def test_a_client_s_own_curve_is_drawn_where_it_is_wanted_and_released(served: Served, viewer: Browser) -> None:
    a_trained_session(served.control)
    page = viewer.page(f"/validation?session={FIRST}&client=bert&client=nobody")
    assert [one["name"] for one in charts(page)["accuracy"]["series"]][5:] == ["bert"]
    assert [one["name"] for one in charts(page)["loss"]["series"]] == ["mean"]
    assert re.findall(r'name="client" value="(\w+)" data-at-once( checked)?', page) == [
        ("anna", ""),
        ("bert", " checked"),
    ]


def test_two_sessions_lie_over_each_other_and_what_they_have_differently_is_listed(
    served: Served, viewer: Browser
) -> None:
    a_trained_session(served.control, parameters={"lr": 0.1}, masked=MaskedOptions(clip=5.0))
    a_trained_session(served.control, rounds=5, number=2, parameters={"lr": 0.2, "momentum": 0.5})
    page = viewer.page(f"/validation?session={FIRST}&against={SECOND}")
    chart = charts(page)["accuracy"]
    assert chart["x"] == [1, 2, 3, 4, 5]
    means = [(one["name"], one["dashed"]) for one in chart["series"] if one["kind"] == "mean"]
    assert means == [("mean of session 1", False), ("mean of session 2", True)]
    differing = re.findall(
        r'<tr class="differs"><td><code>([\w.]+)</code></td><td [^>]*>([^<]*)</td><td [^>]*>([^<]*)', page
    )
    assert [(name, unescape(one), unescape(other)) for name, one, other in differing] == [
        ("rounds", "3", "5"),
        ("parameters.lr", "0.1", "0.2"),
        ("masked.clip", "5.0", "10.0"),
        ("parameters.momentum", "not given", "0.5"),
    ]


def test_a_session_without_rounds_says_what_it_waits_for(served: Served, viewer: Browser) -> None:
    view = a_trained_session(served.control, rounds=0)
    served.control.session_views[view.id] = replace(view, status="waiting", reason="1 of 3 clients are attached")
    text = text_of(viewer.page(f"/validation?session={FIRST}"))
    assert "Nothing measured yet" in text
    assert "It waits: 1 of 3 clients are attached" in text


def test_a_session_that_does_not_validate_says_so(served: Served, viewer: Browser) -> None:
    a_trained_session(served.control, validate=False)
    served.control.validation_views[:] = [
        replace(one, metrics=(), validated=False) for one in served.control.validation_views
    ]
    text = text_of(viewer.page(f"/validation?session={FIRST}"))
    assert "This session was started without validation" in text


def test_a_very_long_session_is_drawn_in_parts(served: Served, viewer: Browser) -> None:
    a_trained_session(served.control, rounds=1_200)
    page = viewer.page(f"/validation?session={FIRST}")
    assert (charts(page)["loss"]["x"][0], charts(page)["loss"]["x"][-1]) == (701, 1_200)
    assert page.count("<tr><td>1200</td>") == 3
    assert page.count("<tr><td>701</td>") == 0
    earlier = re.search(r'href="(/validation[^"]*until=700)"', page)
    assert earlier is not None
    assert charts(viewer.page(unescape(earlier[1])))["loss"]["x"][0] == 201


@pytest.mark.parametrize(
    ("query", "status"), [("session=zz", 422), ("session=00", 404), (f"session={FIRST}&against=00", 404)]
)
def test_a_session_that_is_not_there_is_told(served: Served, viewer: Browser, query: str, status: int) -> None:
    a_trained_session(served.control)
    assert viewer.ask("GET", f"/validation?{query}").status == status


@pytest.mark.parametrize(
    ("query", "most"), [("", 3), (f"session={FIRST}", 4), (f"session={FIRST}&against={SECOND}", 6)]
)
def test_a_page_asks_the_reducer_a_few_things(served: Served, viewer: Browser, query: str, most: int) -> None:
    a_trained_session(served.control, rounds=600)
    a_trained_session(served.control, number=2)
    with counted_calls(served.control) as calls:
        viewer.page(f"/validation?{query}")
    assert calls.total() <= most
