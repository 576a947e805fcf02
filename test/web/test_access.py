import asyncio
import re

import pytest
from fake_control import FakeControl
from web_server import Served

from fedn_py.settings import LimitSettings
from fedn_py.web import create_app
from fedn_py.web.access import PUBLIC

SOME = {"number": "1", "session": "00", "seq": "1"}


def routes() -> list[tuple[str, str, str]]:
    app = create_app(FakeControl(), asyncio.new_event_loop(), LimitSettings())
    found = []
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda match: SOME.get(match[1], "ab" * 32), rule.rule)
        found += [(rule.endpoint, method, path) for method in sorted(rule.methods or ()) if method != "OPTIONS"]
    return found


CLOSED = [(method, path) for endpoint, method, path in routes() if endpoint not in PUBLIC]
PAGES = {(method, path) for endpoint, method, path in routes() if endpoint.startswith("ui.")}


FOR_ADMINS = {"/api/v1/tokens", "/clients", "/sessions/new"}
FOR_VIEWERS = {"/api/v1/sign-in-links", "/sign-out"}


def test_only_these_routes_are_public() -> None:
    assert {path for endpoint, _, path in routes() if endpoint in PUBLIC} == {
        "/enter",
        "/healthz",
        "/readyz",
        "/api/v1/openapi.json",
        "/sign-in",
        f"/static/{'ab' * 32}",
    }


def test_every_other_route_asks_for_a_token(served: Served) -> None:
    assert len(CLOSED) > 20
    for method, path in CLOSED:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp4"}):
            answer = served.ask(method, path, headers=headers)
            if (method, path) in PAGES:
                assert answer.status == 303, (method, path)
                assert answer.headers["location"].startswith("/sign-in"), (method, path)
            else:
                assert answer.status == 401, (method, path)
                assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("role", ["client", "combiner"])
def test_a_token_to_join_with_opens_no_route(served: Served, role: str) -> None:
    token = served.control.let_in(role)  # type: ignore[arg-type]
    for method, path in CLOSED:
        assert served.ask(method, path, token=token).status == 403, (method, path)


def test_a_viewer_may_look_and_change_nothing(served: Served) -> None:
    token = served.control.let_in("viewer")
    for method, path in CLOSED:
        status = served.ask(method, path, token=token).status
        looks = method in {"GET", "HEAD"} and path not in FOR_ADMINS
        if looks or path in FOR_VIEWERS:
            assert status not in {401, 403}, (method, path)
        else:
            assert status == 403, (method, path)


def test_a_caller_without_a_token_is_told_before_the_upload_is_read(served: Served) -> None:
    connection = served.connect()
    connection.putrequest("POST", "/api/v1/models")
    connection.putheader("Content-Length", "1000000")
    connection.endheaders()
    assert connection.getresponse().status == 401
    connection.close()
