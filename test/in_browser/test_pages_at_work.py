"""What only a browser does with the pages: marking fields while one types, drawing, and folding away."""

from dataclasses import replace

import pytest
from artifacts import a_model
from people import Person
from playwright.sync_api import BrowserContext, expect
from web_server import Served, certificate, served

__all__ = ["certificate", "served"]


@pytest.fixture
def admin(served: Served, context: BrowserContext) -> Person:
    """An admin before a network that stands still."""
    someone = Person(context.new_page(), f"https://localhost:{served.port}")
    path = served.ask("POST", "/api/v1/sign-in-links", token=served.control.let_in("admin")).json["path"]
    someone.go(path)
    someone.page.wait_for_url(f"{someone.url}/")
    return someone


def started(served: Served) -> str:
    token = served.control.let_in("admin")
    package = served.ask("POST", "/api/v1/packages", b"an archive", token=token).json["digest"]
    model = served.ask("POST", "/api/v1/models", a_model(), token=token).json["digest"]
    body = {"package": package, "seed_model": model, "rounds": 5, "name": "digits"}
    session: str = served.ask("POST", "/api/v1/sessions", body, token=token).json["id"]
    return session


def test_fields_are_marked_and_cleared_in_place_as_one_types(served: Served, admin: Person) -> None:
    started(served)
    admin.go("/sessions/new")
    page = admin.page
    rounds, weight_unit = page.locator("#rounds"), page.locator("[id='masked.weight_unit']")
    rounds.fill("0")
    expect(page.locator("#rounds-why")).to_contain_text("must be greater than or equal to 1")
    expect(rounds).to_have_attribute("aria-invalid", "true")
    expect(rounds).to_be_focused()
    rounds.fill("3")
    expect(page.locator("#rounds-why")).to_be_hidden()
    expect(rounds).not_to_have_attribute("aria-invalid", "true")
    page.locator("#clients_required").fill("9")
    expect(page.locator("#clients_required-why")).to_have_text("2 are attached: it will wait.")
    page.locator("#masking-pet").check()
    weight_unit.fill("0")
    expect(weight_unit).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#checked")).to_contain_text("Weight unit: must be")
    assert admin.complaints == []


def test_the_command_of_a_change_follows_the_hand_and_stays_open(served: Served, admin: Person) -> None:
    admin.go(f"/sessions/{started(served)}")
    change = admin.page.locator("#change")
    change.locator("summary").first.click()
    change.get_by_text("As a command").click()
    admin.page.get_by_label("Rounds", exact=True).fill("9")
    expect(change.locator("code").first).to_contain_text("--rounds 9")
    expect(change.locator("code").first).to_be_visible()


def test_curves_are_drawn_anew_in_the_colours_of_another_scheme(served: Served, admin: Person) -> None:
    views = served.control.session_views
    session = replace(views[started(served)], rounds_done=2)
    views[session.id] = session
    for number in (1, 2):
        served.control.finish_round(session.id, number, number / 4)
    admin.page.emulate_media(color_scheme="light")
    admin.go(f"/sessions/{session.id}")
    canvas = admin.page.locator("[data-chart] canvas").first
    light = canvas.evaluate("canvas => canvas.toDataURL()")
    admin.page.emulate_media(color_scheme="dark")
    admin.page.wait_for_function(
        "light => document.querySelector('[data-chart] canvas').toDataURL() !== light", arg=light
    )
    assert admin.complaints == []


def test_a_narrow_screen_shows_clients_in_the_table_and_folds_the_drawing_away(admin: Person) -> None:
    page = admin.page
    drawing = page.locator(".network svg").first
    page.set_viewport_size({"width": 1280, "height": 800})
    admin.go("/network")
    expect(drawing).to_be_visible()
    page.set_viewport_size({"width": 360, "height": 740})
    admin.go("/network")
    expect(drawing).to_be_hidden()
    expect(page.get_by_role("link", name="anna")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_text("Drawing", exact=True).click()
    page.evaluate("document.body.dispatchEvent(new CustomEvent('fedn-change'))")
    expect(drawing).to_be_visible()
