import json
import re
import shlex
from collections.abc import Iterator
from html import unescape
from urllib.parse import urlencode

import pytest
from browser import Browser
from fake_desk import FakeDesk
from fake_trail import counted_calls
from web_server import Answer, served_around

from fedn_py.identity import ClientId
from fedn_py.runtime.desk import DeskRefused
from fedn_py.settings import CertificateSettings
from fedn_py.web.surroundings import Joining, Surroundings

JOINING = Joining(12070, "-----BEGIN CERTIFICATE-----\n")


@pytest.fixture
def admin(certificate: CertificateSettings) -> Iterator[Browser]:
    with served_around(certificate, Surroundings(joining=JOINING)) as served:
        browser = Browser(served)
        browser.enter(served.control.let_in("admin"))
        yield browser


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def in_sandbox(certificate: CertificateSettings, desk: FakeDesk) -> Iterator[Browser]:
    with served_around(certificate, Surroundings(desk, JOINING)) as served:
        served.control.told = {"deployment": "sandbox", "masks": True}
        browser = Browser(served)
        browser.enter(served.control.let_in("admin"))
        yield browser


def make(browser: Browser, **fields: str) -> Answer:
    return post(browser, "/clients/tokens", urlencode({"role": "client", "days": "30", **fields}).encode())


def post(browser: Browser, place: str, body: bytes = b"") -> Answer:
    referer = f"https://localhost:{browser.served.port}/"
    return browser.ask("POST", place, body, **{"X-CSRFToken": browser.csrf, "Referer": referer})


def test_it_is_for_admins_alone(admin: Browser) -> None:
    viewer = Browser(admin.served)
    viewer.enter(admin.served.control.let_in("viewer"))
    assert viewer.ask("GET", "/clients").status == 403
    assert make(viewer, label="hospital-a").status == 403
    assert admin.served.control.token_views == {}


def test_in_a_sandbox_one_click_makes_a_token_with_its_join_credential_shown_once(
    in_sandbox: Browser, desk: FakeDesk
) -> None:
    answer = make(in_sandbox, label="hospital-a")
    page = answer.body.decode()
    assert desk.tokens == [("hospital-a", 30.0)]
    assert "fedn1.secret-of-hospital-a\nfedn-join-1:c2VjcmV0" in page
    assert "0f" * 16 in page
    assert answer.headers["cache-control"] == "no-store"
    assert "location" not in answer.headers
    assert "secret-of" not in in_sandbox.page("/clients")
    # What is fetched again at the next change is the list, and not a token more.
    assert 'id="live" hx-get="/clients"' in page


def test_without_masks_the_page_makes_the_token(admin: Browser) -> None:
    page = make(admin, label="hospital-a").body.decode()
    (view,) = admin.served.control.token_views.values()
    assert (view.role, view.label, view.not_after - view.created) == ("client", "hospital-a", 30 * 86_400.0)
    assert re.search(r"<code>fedn1\.\w+\.client", page)
    assert "It has no join credential" not in page


def test_with_masks_it_is_the_operators_to_make_and_the_page_says_how(admin: Browser) -> None:
    admin.served.control.told = {"masks": True}
    page = admin.page("/clients?site=hospital-b")
    assert (
        "fedn-py token create --role client --label hospital-b --days 365 --operator-key operator.key "
        "-o hospital-b.token" in page
    )
    assert "is on no server" in page
    assert "It has no join credential" in make(admin, label="hospital-b").body.decode()


def test_what_is_wrong_is_said_beside_the_form_and_makes_nothing(
    admin: Browser, in_sandbox: Browser, desk: FakeDesk
) -> None:
    for browser in (admin, in_sandbox):
        for fields in ({"label": ""}, {"label": "Hospital A"}, {"label": "a", "role": "king"}, {"label": "a" * 200}):
            answer = make(browser, **fields)
            assert answer.status == 422, fields
            assert b'role="alert"' in answer.body
        assert browser.served.control.token_views == {}
    assert desk.tokens == []
    desk.away = DeskRefused("LabelRefused", "the label is odd", "Choose another")
    assert b"the label is odd" in make(in_sandbox, label="hospital-a").body


@pytest.mark.parametrize("days", ["", "nan", "inf", "-1", "1e9", "ten"])
def test_a_strange_number_of_days_is_none(admin: Browser, days: str) -> None:
    assert make(admin, label="hospital-a", days=days).status == 200
    (view,) = admin.served.control.token_views.values()
    assert 0 < view.not_after - view.created <= 3650 * 86_400.0


def test_tokens_for_combiners_and_people_are_made_too(in_sandbox: Browser, desk: FakeDesk) -> None:
    for role in ("combiner", "viewer", "admin"):
        assert "fedn1." in make(in_sandbox, label="The north", role=role).body.decode()
    assert [view.role for view in in_sandbox.served.control.token_views.values()] == ["combiner", "viewer", "admin"]
    assert desk.tokens == []


def test_a_site_is_given_its_files_by_the_api(admin: Browser) -> None:
    made = make(admin, label="hospital-a").body.decode()
    for place in ("/api/v1/client-settings?name=hospital-a", "/api/v1/authority"):
        assert f'href="{place}" download' in made
        assert admin.ask("GET", place).status == 200


def test_in_a_sandbox_the_curl_line_makes_the_same_token_as_the_page(in_sandbox: Browser) -> None:
    page = unescape(in_sandbox.page("/clients?site=hospital-a"))
    (shown,) = re.findall(r"<code>(curl [^<]*/api/v1/sandbox/client-tokens)</code>", page)
    curl = shlex.split(shown)
    assert json.loads(curl[curl.index("-d") + 1]) == {"label": "hospital-a", "valid_s": 365 * 86_400.0}


def test_a_client_and_a_token_are_revoked_after_a_question(admin: Browser) -> None:
    make(admin, label="hospital-a")
    (token,) = admin.served.control.token_views
    page = admin.page("/clients")
    assert 'hx-confirm="Cut off anna?' in page
    assert 'hx-confirm="Make the token of hospital-a worthless?' in page
    anna = ClientId(b"anna".hex())
    for place in (f"/clients/{anna}/revoke", f"/clients/tokens/{token}/revoke"):
        answer = post(admin, place)
        assert (answer.status, answer.headers["location"]) == (303, "/clients")
    assert admin.served.control.client_views[anna].revoked
    assert admin.served.control.token_views[token].revoked
    assert admin.page("/clients").count(">revoked<") == 2


def test_no_page_says_the_secret_of_a_token_that_is_there(admin: Browser) -> None:
    secret = re.search(r"fedn1\.\w+\.(\w+)", make(admin, label="hospital-a").body.decode())
    assert secret is not None
    assert secret[1] not in admin.page("/clients")


def test_empty_lists_say_what_fills_them(admin: Browser) -> None:
    admin.served.control.client_views.clear()
    page = admin.page("/clients")
    assert "No client has joined yet" in page
    assert "No token yet" in page


def test_the_page_asks_the_reducer_three_things(admin: Browser) -> None:
    with counted_calls(admin.served.control) as calls:
        admin.page("/clients")
    assert calls.total() <= 3
