import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from browser import Browser
from fake_desk import FakeDesk
from fake_trail import a_trained_session, counted_calls
from web_server import Served, served_around

from fedn_py.identity import ClientId, ClientName, CombinerName
from fedn_py.reducer.shown_network import ClientResultView, ClientView, StoreView
from fedn_py.reducer.shown_rounds import AskedView, RoundView
from fedn_py.settings import CertificateSettings
from fedn_py.web.sandbox_desk import DeskAway
from fedn_py.web.surroundings import Surroundings


@pytest.fixture
def viewer(served: Served, browser: Browser) -> Browser:
    browser.enter(served.control.let_in("viewer"))
    return browser


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def sandbox(certificate: CertificateSettings, desk: FakeDesk) -> Iterator[Served]:
    with served_around(certificate, Surroundings(sandbox=desk)) as served:
        served.control.told = {"deployment": "sandbox"}
        yield served


@pytest.fixture
def admin(sandbox: Served) -> Browser:
    browser = Browser(sandbox)
    browser.enter(sandbox.control.let_in("admin"))
    return browser


def bring(served: Served, count: int) -> None:
    """Have so many clients, without those that were there."""
    served.control.client_views.clear()
    for number in range(count):
        view = ClientView(
            ClientId(f"{number:064x}"), ClientName(f"client-{number:03}"), CombinerName("combiner-1"), connected=True,
            last_seen=1.0, since=1.0,
        )  # fmt: skip
        served.control.client_views[view.id] = view


def listed(page: str) -> list[str]:
    return re.findall(r'<tr id="client-\w+"><td[^>]*><a[^>]*>([^<]+)</a>', page)


def drawn(page: str) -> list[str]:
    return re.findall(r"<g><title>([^:<]+):", page)


def post(browser: Browser, place: str) -> tuple[int, str]:
    referer = f"https://localhost:{browser.served.port}/"
    answer = browser.ask("POST", place, b"", **{"X-CSRFToken": browser.csrf, "Referer": referer})
    return answer.status, answer.headers.get("location", answer.body.decode())


# ---- who is there


def test_the_network_is_drawn_and_listed(viewer: Browser) -> None:
    page = viewer.page("/network")
    assert drawn(page) == listed(page) == ["anna", "bert"]
    assert "anna: attached, has nothing to do" in page
    assert "2 of 10" in page
    assert "localhost:12080" in page
    assert "No session is under way" in page


def test_everybody_shows_where_it_is_in_the_round(served: Served, viewer: Browser) -> None:
    session = a_trained_session(served.control)
    combiner = CombinerName("combiner-1")
    asked = (
        AskedView(ClientName("anna"), combiner, "training"),
        AskedView(ClientName("bert"), combiner, "out", "Late: no"),
    )
    served.control.round_views.append(RoundView(session.id, 1, 1, "collecting", "running", 1.0, 1.0, asked=asked))
    served.control.told = {"active_session": session.id, "round_number": 1}
    page = viewer.page("/network")
    assert "anna: training" in page
    assert "bert: left out of this round" in page
    assert f'href="/sessions/{session.id}"' in page


def test_what_became_of_a_client_is_told_with_its_reason(served: Served, viewer: Browser) -> None:
    session = a_trained_session(served.control).id
    anna = ClientId(b"anna".hex())
    result = ClientResultView(session, 3, "excluded", 1.0, "EntryPointFailed: <b>")
    served.control.client_views[anna] = replace(
        served.control.client_views[anna], connected=False, combiner=None, last_result=result
    )
    page = viewer.page("/network")
    assert f'<a href="/sessions/{session}/rounds/3">Round 3</a>: left out' in page
    assert "EntryPointFailed: &lt;b&gt;" in page
    assert "anna: not attached" in page


def test_sixty_clients_are_drawn_and_more_are_counted(served: Served, viewer: Browser) -> None:
    bring(served, 60)
    assert len(drawn(viewer.page("/network"))) == 60
    bring(served, 300)
    page = viewer.page("/network")
    assert drawn(page) == []
    assert "More than 60 clients: they are counted here" in page
    assert len(listed(page)) == 200
    (then,) = re.findall(r'href="(/network\?after=[^"]+)">Next clients', page)
    rest = viewer.page(then.replace("&amp;", "&"))
    assert listed(rest) == [f"client-{number:03}" for number in range(200, 300)]
    assert "<svg" not in rest.partition("<main")[2]


def test_clients_are_found_by_a_part_of_their_name(served: Served, viewer: Browser) -> None:
    bring(served, 300)
    assert listed(viewer.page("/network?name=T-29")) == [f"client-{number}" for number in range(290, 300)]
    assert "No client has “&lt;b&gt;” in its name" in viewer.page("/network?name=<b>")


def test_an_empty_network_says_what_fills_it(served: Served, viewer: Browser) -> None:
    served.control.client_views.clear()
    served.control.combiner_views.clear()
    page = viewer.page("/network")
    assert "No combiner has joined yet" in page
    assert "fedn-py run combiner" in page
    assert "No client has joined yet" in page


def test_a_store_that_does_not_work_says_why(served: Served, viewer: Browser) -> None:
    served.control.told = {"stores": (StoreView("objects", "MinIO", healthy=False, detail="refuses the keys"),)}
    page = viewer.page("/network")
    assert "MinIO" in page
    assert "does not work" in page
    assert "refuses the keys" in page


def test_the_page_asks_the_reducer_four_things_however_many_clients_there_are(served: Served, viewer: Browser) -> None:
    a_trained_session(served.control)
    bring(served, 300)
    for path in ("/network", "/network?name=client"):
        with counted_calls(served.control) as calls:
            viewer.page(path)
        assert calls.total() <= 4


# ---- in a sandbox


def test_an_admin_kills_a_client_and_starts_it_again(admin: Browser, desk: FakeDesk) -> None:
    page = admin.page("/network")
    assert page.count(">Kill</button>") == 3
    assert "kill -9" in page
    assert post(admin, "/network/processes/anna/kill") == (303, "/network")
    assert desk.views["anna"].exit_code == -9
    assert admin.page("/network").count(">Start again</button>") == 1
    assert post(admin, "/network/processes/anna/start") == (303, "/network")
    assert desk.views["anna"].runs
    assert post(admin, "/network/clients") == (303, "/network")
    assert "client-3" in desk.views


def test_what_the_buttons_of_a_sandbox_do_is_there_as_a_curl_line(admin: Browser) -> None:
    page = admin.page("/network")
    for path in ("processes/NAME/kill", "processes/NAME/start", "clients"):
        assert re.search(rf"<code>curl [^<]* -X POST https://[^<]*/api/v1/sandbox/{path}</code>", page), path


def test_what_the_sandbox_refuses_is_said_in_place(admin: Browser, desk: FakeDesk) -> None:
    status, page = post(admin, "/network/processes/nobody/kill")
    assert status == 422
    assert "<strong>NotOfTheFleet</strong>: this sandbox started no nobody" in page
    desk.away = DeskAway("the sandbox does not answer", remedy="Look at its terminal.")
    page = admin.page("/network")
    assert "the sandbox does not answer. Look at its terminal." in page
    assert listed(page) == ["anna", "bert"]
    assert ">Kill</button>" not in page
    assert post(admin, "/network/processes/anna/kill")[0] == 503


def test_who_may_only_look_kills_nobody(sandbox: Served, desk: FakeDesk) -> None:
    browser = Browser(sandbox)
    browser.enter(sandbox.control.let_in("viewer"))
    assert ">Kill</button>" not in browser.page("/network")
    assert post(browser, "/network/processes/anna/kill")[0] == 403
    assert desk.views["anna"].runs


def test_outside_of_a_sandbox_nobody_is_killed(served: Served, browser: Browser) -> None:
    browser.enter(served.control.let_in("admin"))
    assert ">Kill</button>" not in browser.page("/network")
    assert post(browser, "/network/processes/anna/kill")[0] == 404
