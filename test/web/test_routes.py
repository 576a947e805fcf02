import asyncio
import csv
import hashlib
import io
from dataclasses import replace

import pytest
from fake_control import FakeControl
from fake_desk import FakeDesk
from web_server import Served

from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.reducer.shown_events import EventView
from fedn_py.reducer.shown_measurements import MetricView
from fedn_py.settings import LimitSettings
from fedn_py.web import create_app
from fedn_py.web.surroundings import Surroundings

DIGEST = "ab" * 32

TWINS = {
    "ui.add_client": "POST /api/v1/sandbox/clients",
    "ui.change_session": "PATCH /api/v1/sessions/{session}",
    "ui.kill_process": "POST /api/v1/sandbox/processes/{name}/kill",
    "ui.make_seed_model": "POST /api/v1/sandbox/seed-models",
    "ui.make_token": "POST /api/v1/tokens",
    "ui.pause_session": "POST /api/v1/sessions/{session}/pause",
    "ui.resume_session": "POST /api/v1/sessions/{session}/resume",
    "ui.revoke_client": "POST /api/v1/clients/{client}/revoke",
    "ui.revoke_token": "DELETE /api/v1/tokens/{token}",
    "ui.start_process": "POST /api/v1/sandbox/processes/{name}/start",
    "ui.start_session": "POST /api/v1/sessions",
    "ui.stop_session": "POST /api/v1/sessions/{session}/stop",
    "ui.verify_model": "POST /api/v1/objects/{digest}/verify",
}
"""Each action of the pages, and the same in the REST API."""

CHANGE_NOTHING = {"ui.check_change", "ui.check_session", "ui.leave", "ui.sign_in_by_token"}
"""What pages post that is about a form or a browser alone."""


@pytest.fixture
def admin(served: Served) -> str:
    return served.control.let_in("admin")


def a_session(served: Served, admin: str, **options: object) -> dict[str, object]:
    package = served.ask("POST", "/api/v1/packages", b"package", token=admin).json["digest"]
    model = served.ask("POST", "/api/v1/models", b"model", token=admin).json["digest"]
    body = {"package": package, "seed_model": model, "rounds": 3, **options}
    answer = served.ask("POST", "/api/v1/sessions", body, token=admin)
    assert answer.status == 201, answer.body
    assert answer.headers["location"] == f"/api/v1/sessions/{answer.json['id']}"
    return answer.json  # type: ignore[no-any-return]


def test_status_tells_what_the_reducer_does(served: Served, admin: str) -> None:
    status = served.ask("GET", "/api/v1/status", token=admin).json
    assert status["reducer"] == "reducer"
    assert status["phase"] == "idle"
    assert status["stores"] == [{"keeps": "documents", "kind": "memory", "healthy": True, "detail": ""}]


def test_a_session_is_started_paused_resumed_and_stopped(served: Served, admin: str) -> None:
    session = a_session(served, admin, validate=False, parameters={"rate": 0.1})
    assert session["options"]["validate"] is False  # type: ignore[index]
    assert session["options"]["parameters"] == {"rate": 0.1}  # type: ignore[index]
    for step, status in (("pause", "paused"), ("resume", "running"), ("stop", "stopped")):
        answer = served.ask("POST", f"/api/v1/sessions/{session['id']}/{step}", token=admin)
        assert (answer.status, answer.json["status"]) == (200, status)
    assert served.ask("GET", f"/api/v1/sessions/{session['id']}", token=admin).json["status"] == "stopped"


def test_a_session_is_stopped_after_its_round_where_that_is_said(served: Served, admin: str) -> None:
    path = f"/api/v1/sessions/{a_session(served, admin)['id']}"
    answer = served.ask("POST", f"{path}/stop?after_round=true", token=admin).json
    assert (answer["status"], answer["intent"]) == ("running", "end")
    assert served.ask("POST", f"{path}/stop?after=true", token=admin).status == 422
    assert served.ask("POST", f"{path}/stop?after_round=false", token=admin).json["status"] == "stopped"


def test_a_session_is_changed_in_what_is_given_alone(served: Served, admin: str) -> None:
    session = a_session(served, admin, clients_required=2)
    path = f"/api/v1/sessions/{session['id']}"
    answer = served.ask("PATCH", path, {"rounds": 9, "retry_delay_s": 0}, token=admin)
    assert answer.status == 200, answer.body
    assert answer.json["rounds_wanted"] == 9
    assert answer.json["options"] == {**session["options"], "rounds": 9, "retry_delay_s": 0.0}  # type: ignore[dict-item]
    served.ask("POST", f"{path}/stop", token=admin)
    assert served.ask("PATCH", path, {"rounds": 10}, token=admin).status == 409


def test_what_each_party_sees_is_told(served: Served, admin: str) -> None:
    session = a_session(served, admin)
    view = served.ask("GET", f"/api/v1/sessions/{session['id']}/privacy", token=admin).json
    assert (view["session"], view["scheme"], view["k"], view["r"], view["g_min"]) == (session["id"], "pet", 2, 1, 3)
    assert view["rows"][0] == {
        "party": "combiner",
        "datum": "update of one client",
        "exposure": "masked",
        "text": "It adds numbers that look random.",
    }
    assert view["assumptions"][0]["broken_by"] == "The combiner with 2 sum participants."


def test_limits_are_checked_as_at_the_start_of_a_session(served: Served, admin: str) -> None:
    path = f"/api/v1/sessions/{a_session(served, admin)['id']}"
    body = {
        "rounds": 0, "clients_wanted": -1, "clients_required": 0, "update_timeout_s": 0, "validation_timeout_s": 1e9,
        "max_attempts": 0, "retry_delay_s": -1, "gather_timeout_s": 1e9, "masking": "none",
    }  # fmt: skip
    answer = served.ask("PATCH", path, body, token=admin)
    assert answer.status == 422
    assert {fault["where"] for fault in answer.json["faults"]} == set(body)


def test_a_masked_session_is_started_with_its_terms(served: Served, admin: str) -> None:
    terms = {"clip": 0.5, "n_max": 20, "weight_cap": 500, "weight_unit": 10, "k": 3, "r": 2, "g_min": 8}
    session = a_session(served, admin, masking="pet", masked={**terms, "reopen": "strict", "metrics": {"loss": 8.0}})
    options = session["options"]
    assert options["masking"] == "pet"  # type: ignore[index]
    assert options["masked"] == {**terms, "reopen": "strict", "metrics": {"loss": 8.0}}  # type: ignore[index]
    kept = served.control.session_views[session["id"]].options  # type: ignore[index]
    assert kept.masked == MaskedOptions(**terms, reopen="strict", metrics={"loss": 8.0})


def test_a_session_that_says_nothing_of_masking_is_not_masked(served: Served, admin: str) -> None:
    session = a_session(served, admin)
    kept = served.control.session_views[session["id"]].options  # type: ignore[index]
    assert (kept.masking, kept.masked) == ("none", MaskedOptions())


def test_terms_of_masking_that_cannot_be_read_are_told_with_their_places(served: Served, admin: str) -> None:
    masked = {"clip": 0, "weight_unit": 0, "k": -1, "reopen": "never", "metrics": {"loss": "much"}, "mask": 1}
    body = {"package": DIGEST, "seed_model": DIGEST, "rounds": 1, "masking": "xor", "masked": masked}
    answer = served.ask("POST", "/api/v1/sessions", body, token=admin)
    assert answer.status == 422
    places = {"clip", "weight_unit", "k", "reopen", "metrics.loss", "mask"}
    assert {fault["where"] for fault in answer.json["faults"]} == {"masking", *(f"masked.{place}" for place in places)}


def test_a_masked_round_tells_no_count_of_a_single_client(served: Served, admin: str) -> None:
    session = a_session(served, admin, masking="pet")
    served.control.mask_round(session["id"], 1)  # type: ignore[arg-type]
    view = served.ask("GET", f"/api/v1/sessions/{session['id']}/rounds/1", token=admin).json
    assert view["clients"] == [{"name": "anna", "samples": None}, {"name": "bert", "samples": None}]
    assert view["samples"] == 30
    assert (view["masking"]["scheme"], view["masking"]["k"], view["masking"]["g_min"]) == ("pet", 2, 3)
    assert view["masking"]["cells"][0]["members"][1] == {"name": "anna", "slot": 1, "replica": 0, "answered": False}
    assert view["masking"]["cells"][1]["reason"] == "TooFewUpdates: 1 of 3"


def test_a_session_is_resumed_with_a_new_work_where_that_is_said(served: Served, admin: str) -> None:
    path = f"/api/v1/sessions/{a_session(served, admin)['id']}"
    for query, works in (("", 0), ("?new_work=true", 1), ("?new_work=false", 1)):
        served.ask("POST", f"{path}/pause", token=admin)
        assert served.ask("POST", f"{path}/resume{query}", token=admin).status == 200
        assert served.control.new_works == works
    assert served.ask("POST", f"{path}/resume?new=true", token=admin).status == 422


def test_rounds_come_in_pages(served: Served, admin: str) -> None:
    session = a_session(served, admin)
    for number in (1, 2, 3):
        served.control.finish_round(session["id"], number, 0.5)  # type: ignore[arg-type]
    path = f"/api/v1/sessions/{session['id']}/rounds"
    first = served.ask("GET", f"{path}?limit=2", token=admin).json
    assert [view["number"] for view in first["items"]] == [1, 2]
    second = served.ask("GET", f"{path}?limit=2&after={first['next']}", token=admin).json
    assert [view["number"] for view in second["items"]] == [3]
    assert second["next"] is None
    assert served.ask("GET", f"{path}/2", token=admin).json["clients"][0] == {"name": "anna", "samples": 10}


def test_validations_come_in_pages_and_say_what_is_hidden(served: Served, admin: str) -> None:
    session = a_session(served, admin)
    for number in (1, 2, 3):
        served.control.finish_round(session["id"], number, 0.5)  # type: ignore[arg-type]
    path = f"/api/v1/sessions/{session['id']}/validations"
    first = served.ask("GET", f"{path}?limit=2", token=admin).json
    assert [view["number"] for view in first["items"]] == [1, 2]
    (last,) = served.ask("GET", f"{path}?limit=2&after={first['next']}", token=admin).json["items"]
    assert last["metrics"][0]["by_client"] == {"anna": 0.25, "bert": 0.75}
    assert (last["training"][0]["mean"], last["training"][0]["hidden"]) == (None, "1 clients gave it")


def test_validations_of_all_rounds_come_as_one_table(served: Served, admin: str) -> None:
    session = a_session(served, admin)
    for number in range(1, 301):
        served.control.finish_round(session["id"], number, 0.5)  # type: ignore[arg-type]
    answer = served.ask("GET", f"/api/v1/sessions/{session['id']}/validations.csv", token=admin)
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"].endswith('.csv"')
    rows = list(csv.DictReader(io.StringIO(answer.body.decode(), newline="")))
    assert len(rows) == 300 * 4
    assert [(row["round"], row["measured"], row["metric"], row["of"], row["value"]) for row in rows[:4]] == [
        ("1", "validation", "accuracy", "mean", "0.5"),
        ("1", "validation", "accuracy", "anna", "0.25"),
        ("1", "validation", "accuracy", "bert", "0.75"),
        ("1", "training", "loss", "mean", ""),
    ]
    assert rows[3]["hidden"] == "1 clients gave it"
    assert served.ask("GET", "/api/v1/sessions/00/validations.csv", token=admin).status == 404


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@sum(a1)", "\uff1d1", 'a",=1', "a;b", '=cmd|"/c calc"!a1', "\uff20a"]
)
def test_no_name_in_a_table_becomes_a_formula(served: Served, admin: str, name: str) -> None:
    session = a_session(served, admin)
    served.control.finish_round(session["id"], 1, -0.5)  # type: ignore[arg-type]
    (view,) = served.control.validation_views
    metric = MetricView(name, -0.5, 1, by_client={name: -0.5})
    served.control.validation_views[0] = replace(view, metrics=(metric,), training=())
    body = served.ask("GET", f"/api/v1/sessions/{session['id']}/validations.csv", token=admin).body.decode()
    _, mean, client = list(csv.reader(io.StringIO(body, newline="")))
    harmless = name if name.startswith("a") else f"'{name}"
    assert (mean[4], client[4], client[5]) == (harmless, harmless, harmless)
    assert (mean[6], client[6]) == ("-0.5", "-0.5")  # a number stays one


def test_a_model_goes_up_and_down_unchanged(served: Served, admin: str) -> None:
    content = bytes(range(256)) * (3 * 4096)
    digest = hashlib.sha256(content).hexdigest()
    up = served.ask("POST", "/api/v1/models", content, token=admin)
    assert (up.status, up.json["digest"], up.json["size"]) == (201, digest, len(content))
    down = served.ask("GET", f"/api/v1/models/{digest}/content", token=admin)
    assert down.body == content
    assert down.headers["content-length"] == str(len(content))
    assert down.headers["etag"] == f'"{digest}"'
    again = served.ask("GET", f"/api/v1/models/{digest}/content", token=admin, headers={"If-None-Match": f'"{digest}"'})
    assert (again.status, again.body) == (304, b"")


def test_a_package_shows_its_files_and_a_model_its_tensors(served: Served, admin: str) -> None:
    options = a_session(served, admin)["options"]
    files = served.ask("GET", f"/api/v1/packages/{options['package']}/files", token=admin).json  # type: ignore[index]
    assert files["items"][1] == {"path": "src/train.py", "size": 2048}
    tensors = served.ask("GET", f"/api/v1/models/{options['seed_model']}/tensors", token=admin).json  # type: ignore[index]
    assert [(one["name"], one["shape"], one["mean"], one["not_finite"]) for one in tensors["items"]] == [
        ("b", [], 0.5, 0),
        ("w", [2, 3], None, 6),
    ]


def test_combiners_clients_packages_and_events_are_listed(served: Served, admin: str) -> None:
    a_session(served, admin)
    for path, name in (("combiners", "combiner-1"), ("clients", "anna"), ("packages", "digits")):
        assert served.ask("GET", f"/api/v1/{path}", token=admin).json["items"][0]["name"] == name
    assert served.ask("GET", "/api/v1/events?severity=error&limit=5", token=admin).json == {"items": [], "next": None}


def test_a_client_is_shown_and_revoked_by_an_admin_alone(served: Served, admin: str) -> None:
    anna = f"/api/v1/clients/{b'anna'.hex()}"
    viewer = served.control.let_in("viewer")
    shown = served.ask("GET", anna, token=viewer).json
    assert (shown["name"], shown["combiner"], shown["revoked"], shown["last_result"]) == (
        "anna", "combiner-1", False, None,
    )  # fmt: skip
    assert served.ask("POST", f"{anna}/revoke", token=viewer).status == 403
    assert served.ask("POST", f"{anna}/revoke", token=admin).json["revoked"] is True
    assert served.ask("GET", anna, token=viewer).json["connected"] is False
    assert served.ask("GET", "/api/v1/clients/not-hex", token=viewer).status == 422


def test_events_are_searched_paged_backwards_and_shown_one_by_one(served: Served, admin: str) -> None:
    served.control.event_views = [
        EventView(
            seq, 1.0, "a.kind", "info", f"Number {seq}", {"round": str(seq % 2), "session": "5e55", "client": "c"}
        )
        for seq in range(1, 31)
    ]
    served.control.events_at_once = 4

    def seen(query: str) -> list[int]:
        return [event["seq"] for event in served.ask("GET", f"/api/v1/events?{query}", token=admin).json["items"]]

    assert seen("before=31&limit=2") == [30, 29]
    assert seen("before=31&round=1&session=5e55&client=c&text=NUMBER") == [29, 27]
    assert seen("before=31&combiner=north") == []
    assert served.ask("GET", "/api/v1/events?before=31&combiner=north", token=admin).json["next"] == "27"
    assert seen("after=3&limit=2") == [4, 5]
    assert served.ask("GET", "/api/v1/events/17", token=admin).json["text"] == "Number 17"
    for wrong in ("before=1&after=2", "round=0", "session=X", "before=-1", "text=" + "x" * 201, "client=" + "x" * 64):
        assert served.ask("GET", f"/api/v1/events?{wrong}", token=admin).status == 422, wrong


def test_a_token_is_shown_once_and_can_be_revoked(served: Served, admin: str) -> None:
    body = {"role": "client", "label": "hospital", "valid_s": 3600}
    made = served.ask("POST", "/api/v1/tokens", body, token=admin).json
    assert made["text"].startswith("fedn1.")
    listed = served.ask("GET", "/api/v1/tokens", token=admin)
    assert made["text"].encode() not in listed.body
    identity = made["token"]["id"]
    assert served.ask("DELETE", f"/api/v1/tokens/{identity}", token=admin).json["revoked"] is True


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/sessions/00",
        "/api/v1/sessions/00/rounds/1",
        "/api/v1/clients/00",
        "/api/v1/sessions/00/privacy",
        "/api/v1/sessions/00/privacy.html",
        "/api/v1/events/17",
        f"/api/v1/models/{DIGEST}",
        f"/api/v1/models/{DIGEST}/content",
        f"/api/v1/models/{DIGEST}/tensors",
        f"/api/v1/packages/{DIGEST}",
        f"/api/v1/packages/{DIGEST}/files",
        "/api/v1/nowhere",
        "/nowhere",
    ],
)
def test_what_is_not_there_is_a_404_with_a_code(served: Served, admin: str, path: str) -> None:
    answer = served.ask("GET", path, token=admin)
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["code"].startswith(("Unknown", "NotFound"))
    assert answer.json["status"] == 404


def test_what_does_not_fit_the_present_state_is_a_409_with_the_way_out(served: Served, admin: str) -> None:
    session = a_session(served, admin)
    body = {"package": session["options"]["package"], "seed_model": session["options"]["seed_model"], "rounds": 1}  # type: ignore[index]
    answer = served.ask("POST", "/api/v1/sessions", body, token=admin)
    assert answer.status == 409
    assert answer.json["code"] == "SessionUnderWay"
    assert "fedn-py session stop" in answer.json["remedy"]


def test_every_fault_of_a_request_is_told_with_its_place(served: Served, admin: str) -> None:
    body = {"package": "x", "seed_model": DIGEST, "rounds": 0, "round": 3, "update_timeout_s": "soon"}
    answer = served.ask("POST", "/api/v1/sessions", body, token=admin)
    assert answer.status == 422
    assert answer.json["code"] == "InvalidRequest"
    assert {fault["where"] for fault in answer.json["faults"]} == {"package", "rounds", "round", "update_timeout_s"}


@pytest.mark.parametrize("query", ["limit=0", "limit=many", "page=2", "after=" + "x" * 300])
def test_a_query_that_is_not_understood_is_refused(served: Served, admin: str, query: str) -> None:
    assert served.ask("GET", f"/api/v1/sessions?{query}", token=admin).status == 422


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"rounds": NaN}', "application/json", 400),
        (b'{"rounds": 1, "rounds": 2}', "application/json", 400),
        (b"[" * 4000, "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[]", "application/json", 422),
        (b"rounds=1", "application/x-www-form-urlencoded", 415),
        (b'"' + b"x" * 5000 + b'"', "application/json", 413),
        (b"", "application/json", 400),
    ],
)
def test_a_body_that_is_no_proper_json_is_refused(
    served: Served, admin: str, body: bytes, media_type: str, status: int
) -> None:
    answer = served.ask("POST", "/api/v1/sessions", body, token=admin, headers={"Content-Type": media_type})
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_refused_upload_says_why(served: Served, admin: str) -> None:
    answer = served.ask("POST", "/api/v1/models", b"not a model", token=admin)
    assert answer.status == 422
    assert answer.json["code"] == "NotAModelFile"
    assert answer.json["remedy"]


def test_an_upload_beyond_the_limit_is_a_413_before_its_bytes_are_read(served: Served, admin: str) -> None:
    connection = served.connect()
    connection.putrequest("POST", "/api/v1/packages")
    connection.putheader("Authorization", f"Bearer {admin}")
    connection.putheader("Content-Length", str(2 << 20))
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 413
    assert b"max_package_bytes" in response.read()
    connection.close()
    assert served.control.package_views == []


def test_an_upload_without_its_length_is_refused(served: Served, admin: str) -> None:
    connection = served.connect()
    headers = {"Authorization": f"Bearer {admin}"}
    connection.request("POST", "/api/v1/models", body=iter([b"model"]), headers=headers, encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 411
    response.read()
    connection.close()


def test_an_upload_that_breaks_off_stores_nothing(served: Served, admin: str) -> None:
    connection = served.connect()
    connection.putrequest("POST", "/api/v1/models")
    connection.putheader("Authorization", f"Bearer {admin}")
    connection.putheader("Content-Length", "1000")
    connection.endheaders()
    connection.send(b"half of it")
    connection.close()
    assert served.ask("GET", "/api/v1/models", token=admin).json["items"] == []


def test_every_action_of_a_page_is_in_the_api_too() -> None:
    around = Surroundings(sandbox=FakeDesk())
    app = create_app(FakeControl(), asyncio.new_event_loop(), LimitSettings(), around=around)
    posted = {one.endpoint for one in app.url_map.iter_rules() if (one.methods or set()) - {"GET", "HEAD", "OPTIONS"}}
    actions = {endpoint for endpoint in posted if endpoint.startswith("ui.")} - CHANGE_NOTHING
    described = {f"{method.upper()} {path}" for path, item in app.api_doc["paths"].items() for method in item}
    assert actions == set(TWINS)
    assert set(TWINS.values()) <= described


def test_openapi_describes_every_route_and_its_answers(served: Served) -> None:
    described = served.ask("GET", "/api/v1/openapi.json").json
    assert described["openapi"].startswith("3.1")
    assert set(described["paths"]) == {
        "/api/v1/authority",
        "/api/v1/client-settings",
        "/api/v1/clients",
        "/api/v1/clients/{client}",
        "/api/v1/clients/{client}/revoke",
        "/api/v1/combiners",
        "/api/v1/events",
        "/api/v1/events/{seq}",
        "/api/v1/live",
        "/api/v1/live/poll",
        "/api/v1/models",
        "/api/v1/models/{digest}",
        "/api/v1/models/{digest}/content",
        "/api/v1/models/{digest}/tensors",
        "/api/v1/objects/{digest}/verify",
        "/api/v1/packages",
        "/api/v1/packages/{digest}",
        "/api/v1/packages/{digest}/files",
        "/api/v1/sandbox/client-tokens",
        "/api/v1/sandbox/clients",
        "/api/v1/sandbox/masked-update",
        "/api/v1/sandbox/processes",
        "/api/v1/sandbox/processes/{name}/kill",
        "/api/v1/sandbox/processes/{name}/start",
        "/api/v1/sandbox/seed-models",
        "/api/v1/sessions",
        "/api/v1/sessions/{session}",
        "/api/v1/sessions/{session}/pause",
        "/api/v1/sessions/{session}/privacy",
        "/api/v1/sessions/{session}/privacy.html",
        "/api/v1/sessions/{session}/resume",
        "/api/v1/sessions/{session}/rounds",
        "/api/v1/sessions/{session}/rounds/{number}",
        "/api/v1/sessions/{session}/stop",
        "/api/v1/sign-in-links",
        "/api/v1/sessions/{session}/validations",
        "/api/v1/sessions/{session}/validations.csv",
        "/api/v1/status",
        "/api/v1/tokens",
        "/api/v1/tokens/{token}",
        "/healthz",
        "/readyz",
    }
    schemas = described["components"]["schemas"]
    assert "accuracy" not in str(schemas)
    assert set(schemas["SessionView"]["properties"]) >= {"id", "status", "rounds_done", "options"}
    assert schemas["StartSession"]["additionalProperties"] is False
    assert schemas["StartSession"]["properties"]["masking"]["enum"] == ["none", "pet"]
    assert all(field["description"] for field in schemas["MaskedTerms"]["properties"].values())
    assert "masking" in schemas["RoundView"]["properties"]
    for path, methods in described["paths"].items():
        for operation in methods.values():
            assert operation.get("security", []) == ([{"token": []}] if path.startswith("/api/") else [])
            assert operation["summary"]
