import time
from dataclasses import replace

import pytest
from artifacts import a_model
from browser import Browser
from fake_trail import counted_calls
from web_server import Served

from fedn_py.identity import ClientId, ClientName
from fedn_py.reducer.shown_events import EventView


@pytest.fixture
def admin(served: Served, browser: Browser) -> Browser:
    browser.enter(served.control.let_in("admin"))
    return browser


def upload(served: Served, what: str, content: bytes) -> str:
    digest: str = served.ask("POST", f"/api/v1/{what}", content, token=served.control.let_in("admin")).json["digest"]
    return digest


def test_an_empty_network_greets_with_three_steps(admin: Browser) -> None:
    page = admin.page("/")
    steps = ["Upload a compute package", "Upload or create the seed model", "Start a session"]
    assert [page.index(step) for step in steps] == sorted(page.index(step) for step in steps)
    assert 'data-upload="/api/v1/packages"' in page
    assert 'data-upload="/api/v1/models"' in page
    assert "fedn-py package upload" in page
    assert "/sessions/new" not in page


def test_a_package_shows_its_digest_entry_points_and_files(served: Served, admin: Browser) -> None:
    digest = upload(served, "packages", b"an archive")
    for page in (admin.page("/"), admin.page(f"/packages/{digest}")):
        assert digest in page
        assert "python train.py" in page
        assert "src/train.py" in page
        assert "2.05 kB" in page


def test_a_model_shows_its_tensors_and_the_last_step_opens(served: Served, admin: Browser) -> None:
    package = upload(served, "packages", b"an archive")
    model = upload(served, "models", a_model())
    page = admin.page("/")
    assert "2 \u00d7 3" in page
    assert "scalar" in page
    assert f'href="/sessions/new?package={package}&amp;seed={model}"' in page


def test_the_operator_s_command_for_a_seed_model_is_the_package_s_own(served: Served, admin: Browser) -> None:
    upload(served, "packages", b"an archive")
    view = served.control.package_views[0]
    served.control.package_views[0] = replace(view, entry_points={"startup": "python seed.py"})
    assert "python seed.py seed.safetensors" in admin.page("/")


def test_a_viewer_sees_where_things_are_and_no_way_to_change_them(served: Served, browser: Browser) -> None:
    upload(served, "packages", b"an archive")
    upload(served, "models", a_model())
    browser.enter(served.control.let_in("viewer"))
    page = browser.page("/")
    assert "data-upload" not in page
    assert "/sessions/new" not in page
    assert "You may look and change nothing" in page


def started(served: Served) -> str:
    token = served.control.let_in("admin")
    package, model = upload(served, "packages", b"an archive"), upload(served, "models", a_model())
    body = {"package": package, "seed_model": model, "rounds": 3, "name": "digits"}
    session: str = served.ask("POST", "/api/v1/sessions", body, token=token).json["id"]
    return session


def test_a_network_that_works_says_that_all_is_well_and_what_to_do_next(served: Served, admin: Browser) -> None:
    session = started(served)
    page = admin.page("/")
    assert 'class="card health good"' in page
    assert "All is well" in page
    assert f'<a class="button first" href="/sessions/{session}">Watch the round</a>' in page


def test_who_is_away_is_told_to_be_of_the_first_clients_only_where_there_are_more(
    served: Served, admin: Browser
) -> None:
    started(served)
    assert "of the first" not in admin.page("/")
    (some, _) = served.control.client_views.values()
    for number in range(200):
        view = replace(some, id=ClientId(f"{number:064x}"), name=ClientName(f"client-{number}"))
        served.control.client_views[view.id] = view
    assert "of the first 200" in admin.page("/")


def test_a_failure_is_told_with_its_reason(served: Served, admin: Browser) -> None:
    session = started(served)
    served.control.finish_round(served.control.session_views[session].id, 1, 0.5)
    served.control.event_views.append(EventView(7, time.time(), "round.failed", "error", "round 2 failed: TooFew"))
    page = admin.page("/")
    assert 'class="card health bad"' in page
    assert "round 2 failed: TooFew" in page


def test_the_first_page_asks_the_reducer_a_bounded_number_of_things(served: Served, admin: Browser) -> None:
    with counted_calls(served.control) as asked:
        admin.page("/")
    assert asked == {"status": 1, "packages": 1, "models": 1, "sessions": 1}
    started(served)
    with counted_calls(served.control) as asked:
        admin.page("/")
    assert asked == {
        "status": 1,
        "packages": 1,
        "models": 1,
        "sessions": 1,
        "rounds": 1,
        "combiners": 1,
        "clients": 1,
        "events": 1,
    }
