"""What people do at the web pages alone, from an empty network to a trained model, before real processes."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from people import CLIENTS, DIGITS, LiveSandbox, Person, serious
from playwright.sync_api import BrowserContext, expect
from safetensors.numpy import load

from fedn_py.execution.packing import create_package

ROUNDS = 3


def test_somebody_trains_a_masked_model_from_an_empty_network_with_nothing_but_the_pages(
    sandbox: LiveSandbox, person: Person, tmp_path: Path
) -> None:
    page = person.page
    person.see("Upload a compute package")

    # A wrong package shows why, in place.
    wrong = tmp_path / "wrong.tar.gz"
    wrong.write_bytes(b"no archive")
    person.upload("/api/v1/packages", wrong)
    expect(page.locator("[data-said].bad:visible")).to_contain_text(re.compile("archive|gzip"))
    assert [one for one in person.complaints if "422" not in one] == []
    person.complaints.clear()

    archive = tmp_path / "digits.tar.gz"
    digest = create_package(DIGITS, archive)
    person.upload("/api/v1/packages", archive)
    person.see(digest[:12])
    person.see("train")
    person.have_the_seed_model_made()

    person.open_the_session_form()
    page.get_by_label("Rounds", exact=True).fill("0")
    page.get_by_label("Rounds", exact=True).blur()
    page.get_by_label("Rounds", exact=True).fill(str(ROUNDS))
    page.get_by_label("Required").fill("3")
    # One more than there are: each round waits a little for it, which leaves a person time to pause.
    page.get_by_label("Wanted").fill(str(CLIENTS + 1))
    page.get_by_label("Gathering timeout, s").fill("4")
    page.locator("#masking-pet").check()
    session = person.start_the_session()

    # Paused, it loses a client that is killed from the page; resumed, it goes on without it.
    person.see(re.compile("waiting"))
    page.get_by_role("button", name=re.compile("^Pause")).click()
    resume = page.get_by_role("button", name=re.compile("^Resume")).first
    expect(resume).to_be_visible()
    killed = "client-2"
    person.kill(killed)
    person.go(f"/sessions/{session}")
    resume.click()
    person.see("finished")
    rounds = sandbox.network.rounds(session)
    assert [one.number for one in rounds if one.status == "done"] == [1, 2, 3]
    assert all(one.masking is not None and one.masking.scheme == "pet" for one in rounds)
    assert killed not in {client.name for client in rounds[-1].clients}
    assert len(rounds[-1].clients) == CLIENTS - 1
    accuracy = [one.metrics["accuracy"] for one in rounds]
    assert accuracy[-1] > accuracy[0]

    person.go(f"/validation?session={session}")
    curve = page.locator("[data-chart*='accuracy'] canvas, figure:has-text('accuracy') canvas").first
    expect(curve).to_be_visible()
    shown = page.locator("[data-chart]").evaluate_all("all => all.map(one => one.dataset.chart)")
    assert any(f"{accuracy[-1]:.3f}"[:5] in told for told in shown)

    # The final model is downloaded, and is what its digest says.
    person.go("/models")
    final = rounds[-1].model
    assert final is not None
    page.locator(f"a[href='/models/{final}']").first.click()
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("Download")).first.click()
    content = Path(download.value.path()).read_bytes()
    assert hashlib.sha256(content).hexdigest() == final
    assert load(content)["coef_"].dtype == np.float32

    # Why a client is missing is found under Events.
    person.go("/events")
    page.get_by_text("More filters").click()
    page.get_by_label("Client", exact=True).fill(killed)
    page.get_by_role("button", name="Show").click()
    page.wait_for_url(re.compile(f"client={killed}"))
    person.see(re.compile(rf"{killed} is no longer attached to combiner-1"))

    assert person.asked_elsewhere() == []
    assert person.complaints == []


def test_a_page_follows_the_network_without_being_loaded_again(sandbox: LiveSandbox, person: Person) -> None:
    page = person.page
    person.go("/clients")
    page.evaluate("document.body.dataset.mark = 'still the same page'")
    sandbox.network.create_token("viewer", "somebody new")
    person.see("somebody new")
    assert page.evaluate("document.body.dataset.mark") == "still the same page"


def test_a_viewer_sees_all_of_it_and_can_change_nothing(sandbox: LiveSandbox, context: BrowserContext) -> None:
    token, _ = sandbox.network.create_token("viewer", "auditor")
    page = context.new_page()
    page.goto(sandbox.url)
    page.get_by_label(re.compile("^Token")).fill(token)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{sandbox.url}/")
    assert page.locator("form[data-upload]").count() == 0
    for address in ("/sessions", "/network", "/models"):
        page.goto(sandbox.url + address)
        assert page.locator("main form[method=post]").count() == 0, address
    refused = page.evaluate(
        """async () => { const sent = await fetch('/api/v1/packages', {method: 'POST', body: 'x', headers:
        {'X-CSRFToken': document.body.dataset.csrf, 'Content-Type': 'application/octet-stream'}});
        return sent.status; }"""
    )
    assert refused == 403


@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/sessions",
        "/sessions/new",
        "/network",
        "/models",
        "/validation",
        "/events",
        "/clients",
        "/privacy",
        "/api",
    ],
)
def test_a_page_has_no_serious_fault_for_people_who_see_or_move_differently(
    sandbox: LiveSandbox, person: Person, address: str
) -> None:
    page = person.page
    page.goto(sandbox.url + address)
    assert serious(page) == []
    page.emulate_media(color_scheme="dark")
    assert serious(page, "color-contrast") == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert person.asked_elsewhere() == []
    assert person.complaints == []
