import asyncio
import re
from collections.abc import Iterator
from html import unescape

import pytest
from browser import Browser
from fake_control import FakeControl
from fake_privacy import MASKED, PLAIN, a_view
from fake_trail import a_trained_session, counted_calls
from flask_openapi3.openapi import OpenAPI
from web_server import Served, serving

from fedn_py.identity import SessionId
from fedn_py.runtime.desk import DeskRefused, MaskedUpdateView
from fedn_py.settings import CertificateSettings, LimitSettings
from fedn_py.web import create_app
from fedn_py.web.surroundings import Surroundings

SESSION = f"{1:032x}"


def text_of(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


@pytest.fixture
def viewer(served: Served, browser: Browser) -> Browser:
    browser.enter(served.control.let_in("viewer"))
    return browser


@pytest.fixture
def masked(served: Served, viewer: Browser) -> Browser:
    view = a_trained_session(served.control)
    served.control.privacy_views[view.id] = a_view(MASKED)
    return viewer


def test_without_a_session_the_page_says_what_there_will_be_to_see(viewer: Browser) -> None:
    assert "No session yet" in viewer.page("/privacy")


@pytest.mark.parametrize("path", ["/privacy", f"/privacy?session={SESSION}", f"/sessions/{SESSION}/privacy"])
def test_a_masked_session_s_page_says_who_sees_what_and_what_breaks_it(masked: Browser, path: str) -> None:
    page = masked.page(path)
    text = text_of(page)
    assert "No server sees one client's update" in text
    assert "sum over at least 3 clients" in text
    assert "● clear It is made on the owner's machine, and masked before it leaves." in text
    assert "▒ masked It adds numbers that look random" in text
    assert "What breaks it: The combiner with 2 sum participants" in text
    assert "Metrics summed under the masks loss" in text
    assert page.count('<th scope="row">') == 10


def test_a_session_that_is_not_masked_says_so_first(served: Served, viewer: Browser) -> None:
    view = a_trained_session(served.control)
    served.control.privacy_views[view.id] = a_view(PLAIN)
    text = text_of(viewer.page("/privacy"))
    assert "Not masked. An update of one client is seen as it is by: combiner." in text
    assert "No server sees" not in text


def test_the_report_to_keep_stands_alone(masked: Browser) -> None:
    answer = masked.ask("GET", f"/api/v1/sessions/{SESSION}/privacy.html")
    assert answer.headers["content-disposition"] == f'attachment; filename="privacy-{SESSION[:12]}.html"'
    report = answer.body.decode()
    assert "What breaks it:" in report
    assert "<script" not in report
    assert not re.search(r'(src|href|action)="', report)
    for row in a_view(MASKED).rows:
        assert row.text in unescape(report)


def test_the_page_gives_the_report_along(masked: Browser) -> None:
    assert f'href="/api/v1/sessions/{SESSION}/privacy.html" download' in masked.page("/privacy")


def test_the_same_comes_as_json(masked: Browser) -> None:
    assert f'href="/api/v1/sessions/{SESSION}/privacy" download=' in masked.page("/privacy")
    assert len(masked.ask("GET", f"/api/v1/sessions/{SESSION}/privacy").json["rows"]) == 110


def test_a_page_asks_the_reducer_three_things(masked: Browser, served: Served) -> None:
    with counted_calls(served.control) as calls:
        masked.page("/privacy")
        assert calls.total() <= 3


# ---- in a sandbox


class Desk:
    """A sandbox that has seen one masked update."""

    opened: tuple[float, ...] = (0.0, 0.25, -0.125)
    refusal: DeskRefused | None = None

    async def masked_update(self, client: str = "") -> MaskedUpdateView:
        if self.refusal is not None:
            raise self.refusal
        return MaskedUpdateView(client or "anna", SESSION, 2, (1, 2**31, 2**32 - 1), 651, self.opened)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def in_sandbox(certificate: CertificateSettings, desk: Desk) -> Iterator[Browser]:
    control = FakeControl()
    a_trained_session(control)
    around = Surroundings(sandbox=desk)  # type: ignore[arg-type]
    loops: list[asyncio.AbstractEventLoop] = []

    def make(loop: asyncio.AbstractEventLoop) -> OpenAPI:
        loops.append(loop)
        return create_app(control, loop, LimitSettings(), around=around)

    with serving(make, certificate) as port:
        served = Served(control, port, certificate.certificate_file.parent / "authority.pem", loops[0])
        browser = Browser(served)
        browser.enter(control.let_in("viewer"))
        yield browser


def test_in_a_sandbox_one_masked_update_is_shown_beside_what_was_opened(in_sandbox: Browser) -> None:
    assert 'hx-get="/privacy/masked-update"' in in_sandbox.page("/privacy")
    page = in_sandbox.page("/privacy/masked-update")
    text = text_of(page)
    assert "Of anna in round 2 : the first 3 numbers of 651 masked numbers" in text
    assert "1 2147483648 4294967295 …" in text
    assert "0.00000 0.25000 -0.12500 …" in text
    assert page.count("<svg") == 2


def test_a_session_that_is_not_masked_has_no_masked_update_to_show(in_sandbox: Browser) -> None:
    in_sandbox.served.control.privacy_views[SessionId(SESSION)] = a_view(PLAIN)
    assert "masked-update" not in in_sandbox.page("/privacy")


def test_before_the_commit_nothing_is_opened(in_sandbox: Browser, desk: Desk) -> None:
    desk.opened = ()
    page = in_sandbox.page("/privacy/masked-update")
    assert "nothing has been opened" in page
    assert page.count("<svg") == 1


def test_before_the_first_masked_round_the_panel_says_that_there_is_none_to_look_at(
    in_sandbox: Browser, desk: Desk
) -> None:
    desk.refusal = DeskRefused("NothingMasked", "no masked update has been seen", "Look again after a round.")
    answer = in_sandbox.ask("GET", "/privacy/masked-update")
    assert answer.status == 200
    assert "There is none to look at yet: no masked update has been seen. Look again after a round." in text_of(
        answer.body.decode()
    )
    desk.refusal = DeskRefused("ProcessUnknown", "there is no such client", "")
    assert in_sandbox.ask("GET", "/privacy/masked-update").status == 422


def test_outside_of_a_sandbox_there_is_no_such_panel(masked: Browser) -> None:
    assert "masked-update" not in masked.page("/privacy")
    assert masked.ask("GET", "/privacy/masked-update").status == 404
