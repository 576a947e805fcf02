"""What holds of every page, whatever it shows: it is there, has no inline code, and loads nothing from elsewhere."""

import asyncio
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from browser import Browser
from fake_control import FakeControl
from fake_trail import PACKAGE, SEED, a_trained_session
from web_server import Served

from fedn_py.reducer.shown_events import EventView
from fedn_py.settings import LimitSettings
from fedn_py.web import create_app

FAR = "https://elsewhere.example/?x='\"<b onclick=a>"
"""In names and texts of the network: it must not become a part of a page."""

NOT_TO_BE_SEEN = {
    "ui.static",
    "ui.enter",
    "ui.client_file",
    "ui.authority_file",
    "ui.report_privacy",
    "ui.show_masked_update",
}
LEADS_ELSEWHERE = {
    "src",
    "href",
    "action",
    "formaction",
    "poster",
    "data",
    "hx-get",
    "hx-post",
    "data-live",
    "data-upload",
}
EXAMPLES = {
    "session": f"{1:032x}",
    "number": "1",
    "digest": SEED,
    "seq": "1",
    "client": b"anna".hex(),
    "name": "combiner-1",
    "token": f"{0:016x}",
}
"""For each name in a page's path."""


def paths() -> list[str]:
    app = create_app(FakeControl(), asyncio.new_event_loop(), LimitSettings())
    rules = [
        rule.rule
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("ui.") and "GET" in (rule.methods or ()) and rule.endpoint not in NOT_TO_BE_SEEN
    ]
    return [_filled(rule) for rule in sorted(set(rules))]


def _filled(rule: str) -> str:
    examples = EXAMPLES | ({"digest": PACKAGE} if rule.startswith("/packages") else {})
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: examples[found[1]], rule)


class Elements(HTMLParser):
    """All elements of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def admin(served: Served, browser: Browser) -> Browser:
    control = served.control
    session = a_trained_session(control, name=FAR).id
    control.finish_round(session, 1, 0.5)
    about = {"session": session, "round": "1", "client": FAR}
    control.event_views.append(EventView(1, 1.0, "round.failed", "error", FAR, about))
    browser.enter(control.let_in("admin"))
    return browser


def test_no_page_needs_inline_code_or_another_host(admin: Browser) -> None:
    for path in [*paths(), "/sign-in", "/nowhere"]:
        answer = admin.ask("GET", path, Accept="text/html")
        assert answer.status == (404 if path == "/nowhere" else 200), path
        elements = Elements(answer.body.decode()).found
        assert [tag for tag, _ in elements].count("h1") == 1, path
        for tag, attributes in elements:
            where = (path, tag, attributes)
            assert not [name for name in attributes if name == "style" or name.startswith("on")], where
            assert tag != "style", where
            assert tag != "script" or attributes.get("src"), where
            for name in LEADS_ELSEWHERE & attributes.keys():
                assert re.match(r"[/#](?!/)", attributes[name] or ""), where


def test_every_link_leads_to_a_page_that_there_is(admin: Browser) -> None:
    routes = create_app(FakeControl(), asyncio.new_event_loop(), LimitSettings()).url_map.bind("localhost")
    for path in paths():
        for tag, attributes in Elements(admin.page(path)).found:
            place = (attributes.get("href") or "").partition("#")[0].partition("?")[0]
            if tag == "a" and place:
                assert routes.test(place, "GET"), (path, place)


def test_every_field_of_every_form_has_a_label(admin: Browser) -> None:
    for path in paths():
        page = admin.page(path)
        elements = Elements(page).found
        labelled = {attributes.get("for") for tag, attributes in elements if tag == "label"}
        for tag, attributes in elements:
            if tag not in {"input", "select", "textarea"} or attributes.get("type") in {"hidden", "checkbox", "radio"}:
                continue
            assert attributes.get("id") in labelled or "aria-label" in attributes or "hidden" in attributes, (
                path,
                attributes,
            )


def test_a_fault_while_a_part_of_a_page_is_fetched_is_told_in_that_part(admin: Browser) -> None:
    answer = admin.ask("GET", f"/models/{'0' * 64}", **{"HX-Request": "true"})
    assert answer.status == 404
    assert answer.body.startswith(b'<p class="notice bad"')
    assert (answer.headers["hx-reselect"], answer.headers["hx-reswap"]) == (".notice", "innerHTML")


def test_who_may_not_see_a_page_is_led_back_and_can_leave(served: Served, browser: Browser) -> None:
    browser.enter(served.control.let_in("viewer"))
    answer = browser.ask("GET", "/clients", Accept="text/html")
    page = answer.body.decode()
    assert answer.status == 403
    assert 'href="/sessions"' in page
    assert 'href="/clients"' not in page
    assert 'action="/sign-out"' in page


def test_every_page_that_answers_what_was_sent_fetches_what_changes_from_where_it_is(admin: Browser) -> None:
    view = next(iter(admin.served.control.session_views.values()))
    admin.served.control.session_views[view.id] = replace(view, status="running")
    app = create_app(FakeControl(), asyncio.new_event_loop(), LimitSettings())
    sent = {"X-CSRFToken": admin.csrf, "Referer": f"https://localhost:{admin.served.port}/"}
    live = set()
    for rule in app.url_map.iter_rules():
        if not rule.endpoint.startswith("ui.") or "POST" not in (rule.methods or ()) or rule.endpoint == "ui.leave":
            continue
        answer = admin.ask("POST", _filled(rule.rule), b"rounds=many", Accept="text/html", **sent)
        for _, attributes in Elements(answer.body.decode()).found if b"<html" in answer.body else []:
            if attributes.get("id") == "live" and (place := attributes.get("hx-get")):
                assert admin.ask("GET", place).status == 200, (rule.rule, place)
                live.add(rule.endpoint)
    assert {"ui.change_session", "ui.make_token"} <= live


def test_a_person_who_looks_at_what_only_a_button_asks_for_is_told_on_a_page(admin: Browser) -> None:
    place = f"/sessions/{EXAMPLES['session']}/change"
    answer = admin.ask("GET", place, Accept="text/html,*/*")
    assert answer.status == 405
    assert b"<h1>Method Not Allowed</h1>" in answer.body
    assert admin.ask("GET", place, Accept="application/json").json["code"] == "MethodNotAllowed"
