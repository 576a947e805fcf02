from browser import Browser
from web_server import Served


def test_every_route_of_the_api_has_its_place_and_its_curl_line(served: Served, browser: Browser) -> None:
    browser.enter(served.control.let_in("viewer"))
    page = browser.page("/api")
    document = served.ask("GET", "/api/v1/openapi.json").json
    for path, item in document["paths"].items():
        for method in item:
            assert f"{method.upper()} {path}" in page
    assert f"https://localhost:{served.port}/api/v1/sessions/$SESSION/rounds" in page
    assert "from fedn_py.api import connect" in page
    assert "/api/v1/openapi.json" in page


def test_a_form_links_to_the_forms_it_is_made_of(served: Served, browser: Browser) -> None:
    browser.enter(served.control.let_in("viewer"))
    page = browser.page("/api")
    for name in served.ask("GET", "/api/v1/openapi.json").json["components"]["schemas"]:
        assert f'id="schema-{name}"' in page
    assert 'href="#schema-ContributorView"' in page
