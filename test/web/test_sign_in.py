from pathlib import Path

import pytest
from browser import Browser
from web_server import Served

from fedn_py.web.sign_in import LinkSpent, SignInLinks, cookie_key


def test_without_a_cookie_every_page_leads_to_the_one_to_sign_in(browser: Browser) -> None:
    answer = browser.ask("GET", "/")
    assert (answer.status, answer.headers["location"]) == (303, "/sign-in?then=/?")
    assert b"Sign in" in browser.ask("GET", "/sign-in").body


def test_a_link_signs_in_once(served: Served, browser: Browser) -> None:
    token = served.control.let_in("admin")
    link = served.ask("POST", "/api/v1/sign-in-links", token=token).json["path"]
    assert browser.ask("GET", link).status == 200
    assert browser.ask("GET", "/").status == 200
    again = Browser(served)
    answer = again.ask("GET", link)
    assert answer.status == 403
    assert b"LinkSpent" in answer.body
    assert again.ask("GET", "/").status == 303


def test_the_cookie_is_for_this_host_by_https_and_for_no_script_and_holds_no_secret(
    served: Served, browser: Browser
) -> None:
    token = served.control.let_in("admin")
    browser.enter(token)
    assert browser.set_cookie.startswith("__Host-fedn-")
    for attribute in ("Secure", "HttpOnly", "SameSite=Strict", "Path=/"):
        assert attribute in browser.set_cookie
    assert token.rpartition(".")[2] not in browser.set_cookie


def test_a_token_signs_in_and_another_text_says_what_is_wrong(served: Served, browser: Browser) -> None:
    wrong = browser.sign_in("fedn1.wrong")
    assert wrong.status == 401
    assert b"the token is unknown" in wrong.body
    assert browser.ask("GET", "/").status == 303
    assert browser.sign_in(served.control.let_in("viewer")).status == 200
    assert browser.ask("GET", "/").status == 200


@pytest.mark.parametrize("role", ["client", "combiner"])
def test_a_process_s_token_signs_nobody_in(served: Served, browser: Browser, role: str) -> None:
    token = served.control.let_in(role)  # type: ignore[arg-type]
    assert browser.sign_in(token).status == 403
    assert browser.ask("GET", "/").status == 303


def test_a_revoked_token_signs_its_browsers_out(served: Served, browser: Browser) -> None:
    token = served.control.let_in("admin")
    browser.enter(token)
    del served.control.callers[token]
    assert browser.ask("GET", "/").status == 303
    assert browser.ask("GET", "/api/v1/status").status == 401


def test_another_site_signs_nobody_in(served: Served, browser: Browser) -> None:
    token = served.control.let_in("viewer")
    elsewhere = {"Origin": "https://elsewhere.example", "Referer": "https://elsewhere.example/"}
    for headers in ({}, elsewhere):
        assert browser.ask("POST", "/sign-in", f"token={token}".encode(), **headers).status == 403
        assert browser.ask("GET", "/").status == 303


def test_signing_out_forgets_the_browser(served: Served, browser: Browser) -> None:
    browser.enter(served.control.let_in("viewer"))
    assert browser.ask("POST", "/sign-out", f"csrf_token={browser.csrf}".encode(), Referer=_here(served)).status == 303
    assert browser.ask("GET", "/").status == 303


def test_a_change_by_cookie_shows_that_a_page_of_ours_made_it(served: Served, browser: Browser) -> None:
    browser.enter(served.control.let_in("admin"))
    body = b'{"role": "viewer", "label": "x"}'
    json = {"Content-Type": "application/json"}
    csrf = browser.csrf
    for headers in (
        {},
        {"X-CSRFToken": "guessed", "Referer": _here(served)},
        {"X-CSRFToken": csrf},
        {"X-CSRFToken": csrf, "Referer": "https://elsewhere.example/"},
    ):
        refused = browser.ask("POST", "/api/v1/tokens", body, **json, **headers)
        assert (refused.status, refused.json["code"]) == (403, "NotAllowed"), headers
    assert not served.control.token_views
    assert (
        browser.ask("POST", "/api/v1/tokens", body, **json, **{"X-CSRFToken": csrf, "Referer": _here(served)}).status
        == 201
    )


def test_a_cookie_that_was_changed_is_worth_nothing(served: Served, browser: Browser) -> None:
    browser.enter(served.control.let_in("admin"))
    name, value = next(iter(browser.cookies.items()))
    browser.cookies[name] = ("A" if value[0] != "A" else "B") + value[1:]
    assert browser.ask("GET", "/").status == 303


def test_guessing_ends_after_ten_wrong_attempts_and_the_rest_goes_on(served: Served, browser: Browser) -> None:
    for _ in range(10):
        assert browser.sign_in("x").status == 401
    refused = browser.sign_in("x")
    assert refused.status == 429
    assert int(refused.headers["retry-after"]) > 0
    assert browser.ask("GET", "/sign-in").status == 200
    assert served.ask("GET", "/api/v1/status", token=served.control.let_in("admin")).status == 200


@pytest.mark.parametrize(
    "then",
    [
        "//elsewhere.example",
        "https://elsewhere.example",
        "/\\elsewhere.example",
        "/%09/elsewhere.example",
        "/%0d/elsewhere.example",
        "/%0a/elsewhere.example",
        "",
    ],
)
def test_signing_in_leads_to_no_other_site(served: Served, browser: Browser, then: str) -> None:
    token = served.control.let_in("admin")
    page = browser.sign_in(token, then).body.decode()
    assert 'content="0;url=/"' in page


def test_a_link_is_too_old_after_a_quarter_of_an_hour() -> None:
    now = [0.0]
    links = SignInLinks(lambda: now[0])
    path = links.make("ab" * 8)  # type: ignore[arg-type]
    now[0] = 901.0
    with pytest.raises(LinkSpent):
        links.take(path.partition("=")[2])


def test_the_key_of_the_cookies_is_kept_and_is_its_owner_s_alone(tmp_path: Path) -> None:
    file = tmp_path / "state" / "web.key"
    key = cookie_key(file)
    assert len(key) >= 32
    assert cookie_key(file) == key
    assert file.stat().st_mode & 0o777 == 0o600


def _here(served: Served) -> str:
    return f"https://localhost:{served.port}/"
