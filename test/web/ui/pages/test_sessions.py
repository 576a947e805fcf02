import re
from dataclasses import replace
from urllib.parse import urlencode

import pytest
from artifacts import a_model
from browser import Browser
from fake_trail import counted_calls
from web_server import Served

from fedn_py.identity import ClientName, CombinerName, SessionId
from fedn_py.reducer.shown_rounds import AskedView, CombinerProgressView, ExcludedView, PhaseView
from fedn_py.reducer.shown_sessions import SessionView


@pytest.fixture
def admin(served: Served, browser: Browser) -> Browser:
    browser.enter(served.control.let_in("admin"))
    return browser


def a_session(served: Served, **fields: object) -> SessionView:
    """Start a session over REST, and say what of it is otherwise."""
    token = served.control.let_in("admin")
    package = served.ask("POST", "/api/v1/packages", b"an archive", token=token).json["digest"]
    model = served.ask("POST", "/api/v1/models", a_model(), token=token).json["digest"]
    body = {"package": package, "seed_model": model, "rounds": 5, "name": "digits"}
    started = served.ask("POST", "/api/v1/sessions", body, token=token).json["id"]
    views = served.control.session_views
    views[started] = replace(views[started], **fields)  # type: ignore[arg-type]
    return views[started]


def post(browser: Browser, path: str, **form: str) -> int:
    body = urlencode({"csrf_token": browser.csrf, **form}).encode()
    return browser.ask("POST", path, body, Referer=f"https://localhost:{browser.served.port}/").status


def test_the_list_has_the_newest_first_and_says_how_far_each_is(served: Served, admin: Browser) -> None:
    assert "No session yet" in admin.page("/sessions")
    first = a_session(served, status="finished", rounds_done=5, name="first")
    a_session(served, status="waiting", reason="need 3 clients, have 1", name="second", final_model=first.id)
    page = admin.page("/sessions")
    assert page.index("second") < page.index("first")
    assert "0 of 5" in page
    assert "5 of 5" in page
    assert "need 3 clients, have 1" in page
    assert "digits 1" in page


def test_a_session_says_why_it_waits(served: Served, admin: Browser) -> None:
    waiting = "need 3 clients, have 1; hospital-b was last seen 4 minutes ago"
    session = a_session(served, status="waiting", reason=waiting)
    page = admin.page(f"/sessions/{session.id}")
    assert waiting in page
    assert "0 of 5 rounds done" in page
    assert "No round yet" in page


def test_a_round_under_way_shows_each_combiner_and_each_client(served: Served, admin: Browser) -> None:
    session = a_session(served, rounds_done=1)
    served.control.finish_round(session.id, 1, 0.75)
    running = replace(
        served.control.finish_round(session.id, 2, 0.0),
        status="running",
        phase="updating",
        model=None,
        clients=(),
        metrics={},
        progress=(CombinerProgressView(CombinerName("north"), "collecting", 2, 3, 1),),
        asked=(
            AskedView(ClientName("anna"), CombinerName("north"), "training"),
            AskedView(ClientName("bert"), CombinerName("north"), "out", "Failed: no data"),
        ),
    )
    served.control.round_views[-1] = running
    page = admin.page(f"/sessions/{session.id}")
    assert "north: 2 of 6 clients are in" in page
    assert "2 clients asked" in page
    assert "Failed: no data" in page


def test_rounds_are_a_table_with_the_time_of_each_phase_and_who_was_left_out(served: Served, admin: Browser) -> None:
    session = a_session(served, rounds_done=2)
    served.control.finish_round(session.id, 1, 0.5)
    done = replace(
        served.control.finish_round(session.id, 2, 0.75),
        excluded=(ExcludedView(ClientName("carl"), "TooLate: after the deadline"),),
        phases=(PhaseView("updating", 1.0, 3.25), PhaseView("committing", 4.25, 0.5)),
    )
    served.control.round_views[-1] = done
    page = admin.page(f"/sessions/{session.id}")
    assert "updating 3.2 s" in page
    assert "committing 500 ms" in page
    assert "TooLate: after the deadline" in page
    assert f'href="/events?session={session.id}&amp;round=2"' in page
    assert "accuracy by round" in page
    assert "0.75" in page


def test_older_rounds_are_on_pages_of_their_own(served: Served, admin: Browser) -> None:
    session = a_session(served, rounds_done=60, rounds_wanted=99)
    for number in range(1, 61):
        served.control.finish_round(session.id, number, 0.5)
    newest = admin.page(f"/sessions/{session.id}")
    assert 'href="/sessions/' + session.id + '?before=37"' in newest
    older = admin.page(f"/sessions/{session.id}?before=37")
    shown = re.findall(r'data-label="round">(?:<a[^>]*>)?(\d+)<', older)
    assert shown == [str(number) for number in range(36, 11, -1)]


@pytest.mark.parametrize(
    ("status", "shown", "hidden"),
    [
        ("running", ["Pause after this round", "Stop after this round", "Stop now"], ["Resume"]),
        ("waiting", ["Pause", "Stop now"], ["Resume", "after this round"]),
        ("paused", ["Resume", "Stop now"], ["Pause after", "Stop after"]),
        ("failed", ["Resume", "Stop now"], ["Pause after", "Stop after"]),
        ("finished", [], ["Pause", "Resume", "Stop now", "Change counts"]),
    ],
)
def test_a_status_has_its_buttons(
    served: Served, admin: Browser, status: str, shown: list[str], hidden: list[str]
) -> None:
    page = admin.page(f"/sessions/{a_session(served, status=status).id}")
    assert [text for text in shown if f">{text}</button>" not in page] == []
    assert [text for text in hidden if text in page] == []


def test_buttons_pause_resume_and_stop(served: Served, admin: Browser) -> None:
    session = a_session(served)
    views = served.control.session_views
    for verb, status in (("pause", "paused"), ("resume?new_work=true", "running"), ("stop", "stopped")):
        assert post(admin, f"/sessions/{session.id}/{verb}") == 303
        assert views[session.id].status == status
    assert served.control.new_works == 1
    assert post(admin, f"/sessions/{session.id}/stop") == 409


def test_an_action_by_script_is_answered_with_the_page_to_go_to_or_with_what_is_wrong(
    served: Served, admin: Browser
) -> None:
    session = a_session(served)
    headers = {"HX-Request": "true", "X-CSRFToken": admin.csrf, "Referer": f"https://localhost:{served.port}/"}
    done = admin.ask("POST", f"/sessions/{session.id}/pause", b"", **headers)
    assert (done.status, done.headers["hx-redirect"]) == (204, f"/sessions/{session.id}")
    refused = admin.ask("POST", f"/sessions/{session.id}/pause", b"", **headers)
    assert refused.status == 409
    assert b"WrongSessionStatus" in refused.body
    assert b"<html" not in refused.body


def test_limits_are_changed_and_what_cannot_be_is_said_beside_its_field(served: Served, admin: Browser) -> None:
    session = a_session(served)
    assert post(admin, f"/sessions/{session.id}/change", rounds="9", update_timeout_s="30") == 303
    changed = served.control.session_views[session.id]
    assert (changed.options.rounds, changed.options.update_timeout_s) == (9, 30.0)
    body = urlencode({"csrf_token": admin.csrf, "rounds": "many"}).encode()
    wrong = admin.ask("POST", f"/sessions/{session.id}/change", body, Referer=f"https://localhost:{served.port}/")
    assert wrong.status == 422
    assert b'value="many"' in wrong.body
    assert b'class="why wrong-why" id="rounds-why"' in wrong.body


def test_the_command_of_a_change_follows_what_is_typed_and_nothing_is_changed(served: Served, admin: Browser) -> None:
    session = a_session(served)
    headers = {"HX-Request": "true", "X-CSRFToken": admin.csrf, "Referer": f"https://localhost:{served.port}/"}
    place = f"/sessions/{session.id}/change/check"
    page = admin.ask(
        "POST", place, urlencode({"rounds": "9", "retry_delay_s": "7.5"}).encode(), **headers
    ).body.decode()
    assert "fedn-py session change digits --rounds 9 --retry-delay 7.5" in page
    assert "{&#34;rounds&#34;: 9, &#34;retry_delay_s&#34;: 7.5}" in page
    assert 'class="why hint" id="rounds-why"' in page
    page = admin.ask("POST", place, urlencode({"rounds": "many"}).encode(), **headers).body.decode()
    assert "fedn-py session change" not in page
    assert 'class="why wrong-why" id="rounds-why" data-why="rounds" hx-swap-oob="true"' in page
    assert '<a href="#rounds">Rounds</a>' in page
    assert served.control.session_views[session.id] == session


def test_masking_is_told_as_the_newest_round_had_it(served: Served, admin: Browser) -> None:
    session = a_session(served, rounds_done=1)
    masked = replace(session, options=replace(session.options, masking="pet"))
    served.control.session_views[session.id] = masked
    assert "k by cell size, r by cell size, g_min by cell size" in admin.page(f"/sessions/{session.id}")
    served.control.mask_round(session.id, 1)
    page = admin.page(f"/sessions/{session.id}")
    assert "k 2, r 1, g_min 3 and reopen reducer in round 1" in page


def test_viewers_see_no_button_and_can_press_none(served: Served, browser: Browser) -> None:
    session = a_session(served)
    browser.enter(served.control.let_in("viewer"))
    page = browser.page(f"/sessions/{session.id}")
    for text in ("Pause", "Stop", "Change counts"):
        assert text not in page
    assert "Start a session" not in browser.page("/sessions")
    for verb in ("pause", "resume", "stop", "change"):
        assert post(browser, f"/sessions/{session.id}/{verb}") == 403
    assert browser.ask("GET", "/sessions/new").status == 403
    assert served.control.session_views[session.id].status == "running"


@pytest.mark.parametrize("name", ["nosuch", "ff", "F" * 99])
def test_a_session_that_is_not_there_is_said_to_be_unknown(admin: Browser, name: str) -> None:
    answer = admin.ask("GET", f"/sessions/{name}")
    assert answer.status == 404
    assert b"UnknownSession" in answer.body


def test_a_name_that_is_html_is_shown_as_it_is(served: Served, admin: Browser) -> None:
    session = a_session(served, name="<b>bold</b>", reason="<script>")
    page = admin.page(f"/sessions/{session.id}")
    assert "<b>bold" not in page
    assert "<script>" not in page.split("<main")[1]


def test_pages_of_sessions_ask_the_reducer_a_bounded_number_of_things(served: Served, admin: Browser) -> None:
    session = a_session(served, rounds_done=30)
    for number in range(1, 31):
        served.control.finish_round(SessionId(session.id), number, 0.5)
    with counted_calls(served.control) as asked:
        admin.page(f"/sessions/{session.id}")
    assert asked == {"status": 1, "session": 1, "rounds": 1, "package": 1}
    with counted_calls(served.control) as asked:
        admin.page("/sessions")
    assert asked == {"status": 1, "sessions": 1, "packages": 1}
