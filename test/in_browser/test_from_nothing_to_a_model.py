"""What people do at the web pages alone, from an empty network to a trained model, before real processes."""

import hashlib
import re
from pathlib import Path

import numpy as np
from people import CLIENTS, DIGITS, LiveSandbox, Person, serious
from playwright.sync_api import BrowserContext, expect
from safetensors.numpy import load

from fedn_py.execution.packing import create_package

ROUNDS = 3
PAGES = (
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
)


def judge(person: Person, address: str) -> None:
    """See that a page has no serious fault for people who see or move differently, and fits a telephone."""
    page = person.page
    page.set_viewport_size({"width": 1280, "height": 800})
    page.emulate_media(color_scheme="light")
    person.go(address)
    assert serious(page) == [], address
    page.emulate_media(color_scheme="dark")
    assert serious(page, "color-contrast") == [], address
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, address


def test_somebody_trains_a_masked_model_from_an_empty_network_with_nothing_but_the_pages(
    sandbox: LiveSandbox, person: Person, tmp_path: Path
) -> None:
    page = person.page
    person.see("Upload a compute package")
    killed, spoiled = "client-2", "client-3"
    for file in sandbox.folder.glob(f"data/*/{spoiled}/*"):
        file.write_bytes(b"no data")

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
    # Small steps, so that each round is better than the one before.
    page.get_by_label("Parameters, JSON").fill('{"epochs": 1, "learning_rate": 0.01}')
    page.locator("#masking-pet").check()
    session = person.start_the_session()

    # Paused, it loses a client that is killed from the page; resumed, it goes on without it.
    person.see(re.compile("waiting"))
    page.get_by_role("button", name=re.compile("^Pause")).click()
    resume = page.get_by_role("button", name=re.compile("^Resume")).first
    expect(resume).to_be_visible()
    person.kill(killed)
    person.go(f"/sessions/{session}")
    resume.click()
    person.see("finished")
    rounds = sandbox.network.rounds(session)
    assert [one.number for one in rounds if one.status == "done"] == [1, 2, 3]
    assert all(one.masking is not None and one.masking.scheme == "pet" for one in rounds)
    assert killed not in {client.name for client in rounds[-1].clients}
    assert len(rounds[-1].clients) == CLIENTS - 2
    accuracy = [one.metrics["accuracy"] for one in rounds]
    assert accuracy[-1] > accuracy[0]

    person.go(f"/validation?session={session}")
    curve = page.locator("[data-chart*='accuracy'] canvas, figure:has-text('accuracy') canvas").first
    expect(curve).to_be_visible()
    shown = page.locator("[data-chart]").evaluate_all("all => all.map(one => JSON.parse(one.dataset.chart))")
    assert [float(f"{one:.6g}") for one in accuracy] in [one["values"] for chart in shown for one in chart["series"]]

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

    # Why clients are missing is found under Events.
    for client, reason in (
        (killed, "is no longer attached to combiner-1"),
        (spoiled, "is not in round 1: EntryPointFailed"),
    ):
        person.go("/events")
        page.get_by_text("More filters").click()
        page.get_by_label("Client", exact=True).fill(client)
        page.get_by_role("button", name="Show").click()
        page.wait_for_url(re.compile(f"client={client}"))
        person.see(re.compile(rf"{client}\W.*{reason}"))

    of_session = [f"/sessions/{session}{page}" for page in ("", "/rounds/3", "/privacy")]
    for address in [
        *PAGES,
        *of_session,
        f"/models/{final}",
        f"/packages/{digest}",
        "/privacy/masked-update",
        "/events/1",
    ]:
        judge(person, address)
    assert person.asked_elsewhere() == []
    assert person.complaints == []


def test_a_viewer_sees_all_of_it_and_can_change_nothing(sandbox: LiveSandbox, context: BrowserContext) -> None:
    token, _ = sandbox.network.create_token("viewer", "auditor")
    page = context.new_page()
    page.goto(sandbox.url)
    assert serious(page) == []
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
