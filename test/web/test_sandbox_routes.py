from collections.abc import Iterator

import pytest
from fake_desk import FakeDesk
from web_server import Served, served_around

from fedn_py.settings import CertificateSettings
from fedn_py.web.sandbox_desk import DeskAway
from fedn_py.web.surroundings import Surroundings

PACKAGE = "ab" * 32


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def sandbox(certificate: CertificateSettings, desk: FakeDesk) -> Iterator[Served]:
    with served_around(certificate, Surroundings(sandbox=desk)) as served:
        yield served


@pytest.fixture
def admin(sandbox: Served) -> str:
    return sandbox.control.let_in("admin")


ASKED = [
    ("GET", "processes", None),
    ("GET", "masked-update", None),
    ("POST", "processes/anna/kill", None),
    ("POST", "processes/anna/start", None),
    ("POST", "clients", None),
    ("POST", "client-tokens", {"label": "hospital-a"}),
    ("POST", "seed-models", {"package": PACKAGE}),
]


def test_a_process_is_killed_and_started_again(sandbox: Served, desk: FakeDesk, admin: str) -> None:
    def exit_codes(method: str, path: str) -> dict[str, object]:
        answer = sandbox.ask(method, f"/api/v1/sandbox/{path}", token=admin).json
        return {one["name"]: one["exit_code"] for one in answer["items"]}

    assert exit_codes("GET", "processes")["anna"] is None
    assert exit_codes("POST", "processes/anna/kill") == {
        "reducer": None, "combiner-1": None, "anna": -9, "bert": None,
    }  # fmt: skip
    assert not desk.views["anna"].runs
    assert exit_codes("POST", "processes/anna/start")["anna"] is None
    assert desk.views["anna"].runs


def test_a_client_is_added(sandbox: Served, desk: FakeDesk, admin: str) -> None:
    answer = sandbox.ask("POST", "/api/v1/sandbox/clients", token=admin)
    assert (answer.status, answer.json) == (201, {"name": "client-3"})
    assert "client-3" in desk.views


def test_a_clients_token_comes_with_its_join_credential_once(sandbox: Served, desk: FakeDesk, admin: str) -> None:
    body = {"label": "hospital-a", "valid_s": 2 * 86_400.0}
    answer = sandbox.ask("POST", "/api/v1/sandbox/client-tokens", body, token=admin)
    assert answer.status == 201
    assert answer.json["text"].startswith("fedn1.secret-of-hospital-a\nfedn-join-1:")
    assert answer.json["join_id"] == "0f" * 16
    assert desk.tokens == [("hospital-a", 2.0)]
    for wrong in (
        {"label": ""},
        {"label": "Hospital A"},
        {"label": "a", "valid_s": -1},
        {"label": "a", "role": "admin"},
    ):
        assert sandbox.ask("POST", "/api/v1/sandbox/client-tokens", wrong, token=admin).status == 422, wrong
    assert len(desk.tokens) == 1


def test_a_package_makes_its_seed_model(sandbox: Served, admin: str) -> None:
    answer = sandbox.ask("POST", "/api/v1/sandbox/seed-models", {"package": PACKAGE}, token=admin)
    assert (answer.status, answer.json) == (201, {"digest": PACKAGE, "size": 1})
    assert answer.headers["location"] == f"/api/v1/models/{PACKAGE}"
    assert sandbox.ask("POST", "/api/v1/sandbox/seed-models", {"package": "x"}, token=admin).status == 422


def test_a_masked_update_is_shown_beside_what_was_opened(sandbox: Served) -> None:
    viewer = sandbox.control.let_in("viewer")
    shown = sandbox.ask("GET", "/api/v1/sandbox/masked-update", token=viewer).json
    assert (shown["client"], shown["words"], shown["n_words"], shown["opened"]) == ("anna", [1, 2], 4, [0.5, 0.25])


def test_who_may_only_look_does_nothing(sandbox: Served, desk: FakeDesk) -> None:
    viewer = sandbox.control.let_in("viewer")
    before = dict(desk.views)
    for method, path, body in ASKED:
        status = sandbox.ask(method, f"/api/v1/sandbox/{path}", body, token=viewer).status
        assert status == (200 if method == "GET" else 403), path
    assert (desk.views, desk.tokens) == (before, [])


def test_what_the_sandbox_refuses_is_told_in_its_own_words(sandbox: Served, desk: FakeDesk, admin: str) -> None:
    refused = sandbox.ask("POST", "/api/v1/sandbox/processes/nobody/kill", token=admin)
    assert (refused.status, refused.json["code"]) == (422, "NotOfTheFleet")
    desk.away = DeskAway("the sandbox does not answer", remedy="Look at its terminal.")
    for method, path, body in ASKED:
        assert sandbox.ask(method, f"/api/v1/sandbox/{path}", body, token=admin).status == 503, path


def test_in_every_other_network_there_is_nothing_of_it(served: Served) -> None:
    admin = served.control.let_in("admin")
    for method, path, body in ASKED:
        answer = served.ask(method, f"/api/v1/sandbox/{path}", body, token=admin)
        assert (answer.status, answer.json["detail"]) == (404, "there is no sandbox here"), path
        assert "fedn-py sandbox" in answer.json["remedy"]
