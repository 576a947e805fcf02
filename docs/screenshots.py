"""Takes the pictures of docs/tutorial/in-the-browser.md: walks its steps in a real browser, before a real sandbox.

``make screenshots`` writes them to docs/tutorial/images. Their names stay; what is drawn at random (ids, ports) and
measured (times) differs from one run to the next.
"""

import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chromium import find_chromium, running_chromium
from people import DIGITS, Person, running_sandbox
from playwright.sync_api import Locator, expect

from fedn_py.execution.packing import create_package
from fedn_py.reducer.shown_sessions import SessionView

IMAGES = Path(__file__).resolve().parent / "tutorial" / "images"
WIDTH, HEIGHT = 1280, 800
AT_MOST_BYTES = 150_000
WITHIN_S = 120.0
"""For all that is waited for: a busy machine takes its time."""

ROUNDS = 50
KILLED = "client-2"
_MARGIN = 8
_HOLD_STILL = """async ([wanted, within_s]) => {
  const until = Date.now() + 1000 * within_s;
  while (!document.querySelector(wanted)) {
    if (Date.now() > until) throw new Error(`${wanted} was not to be seen`);
    await new Promise(requestAnimationFrame);
  }
  const live = document.getElementById("live");
  const copy = live.cloneNode(true);
  copy.id = "still";
  live.replaceWith(copy);
}"""
"""Waits for what a page shows only for a moment, and puts a copy in its place that no change reaches any more."""


class NotTaken(Exception):
    """A picture could not be taken, or is not fit for a page."""


@dataclass(frozen=True)
class Camera:
    """Takes pictures of what a person sees: the page from its top, or from one part of it to the end of another."""

    person: Person

    def take(self, name: str, *, begin: Locator | None = None, end: Locator | None = None) -> None:
        """Write one picture; without an end it is as high as a window."""
        page = self.person.page
        page.evaluate("scrollTo(0, 0)")
        top = 0.0 if begin is None else _box(begin)["y"] - _MARGIN
        bottom = top + HEIGHT if end is None else _box(end)["y"] + _box(end)["height"] + _MARGIN
        file = IMAGES / f"{name}.png"
        clip = {"x": 0, "y": top, "width": WIDTH, "height": bottom - top}
        page.screenshot(path=file, full_page=True, clip=clip)
        size = file.stat().st_size
        if size > AT_MOST_BYTES:
            raise NotTaken(f"{file} has {size:,} bytes, and {AT_MOST_BYTES:,} at most do for a page")
        sys.stdout.write(f"{file.name:<24}{size:>8,} bytes\n")


def _box(part: Locator) -> dict[str, float]:
    box = part.bounding_box()
    if box is None:
        raise NotTaken(f"{part} is not on the page")
    return {**box}


def begin_session(person: Person, camera: Camera, scratch: Path) -> str:
    """Walk from the empty network to a session that runs, and return its id."""
    page = person.page
    person.see("Upload a compute package")
    steps = page.locator("section.step")
    camera.take("first-page", end=steps.nth(2))

    archive = scratch / "digits.tar.gz"
    digest = create_package(DIGITS, archive)
    person.upload("/api/v1/packages", archive)
    person.see(digest)
    camera.take("package-uploaded", end=steps.nth(0))

    person.have_the_seed_model_made()
    camera.take("seed-model", begin=steps.nth(1), end=steps.nth(2))

    person.open_the_session_form()
    page.get_by_label("Rounds", exact=True).fill(str(ROUNDS))
    page.get_by_label("Name", exact=True).fill("first-session")
    page.locator("#masking-pet").check()
    camera.take("session-form", end=page.locator("fieldset").nth(0))
    return person.start_the_session()


def lose_a_client(person: Person, camera: Camera, session: str, look: Callable[[], SessionView]) -> None:
    """See the session run, kill a client, and see its rounds go on without it."""
    page = person.page
    _await(lambda: look().rounds_done >= 4)
    person.go(f"/sessions/{session}")
    expect(page.locator("canvas").first).to_be_visible()
    camera.take("running-session")

    person.kill(KILLED)
    before = look().rounds_done
    _await(lambda: look().rounds_done > before + 1)
    page.evaluate(_HOLD_STILL, [".mark.training", WITHIN_S])
    camera.take("network", end=page.get_by_role("row", name=re.compile(KILLED)))


def look_at_what_came_of_it(person: Person, camera: Camera, session: str) -> None:
    """Visit the pages that tell of a session that is finished."""
    page = person.page
    person.go(f"/validation?session={session}")
    expect(page.locator("canvas").first).to_be_visible()
    camera.take("validation", end=page.locator("figure.chart").first)

    person.go(f"/models?session={session}")
    camera.take("models", end=page.locator(".trail li").nth(4))

    person.go(f"/events?client={KILLED}")
    person.see("no longer attached")
    camera.take("events", end=page.locator(".events"))

    person.go(f"/privacy?session={session}")
    expect(page.locator("#masked-update figure").nth(1)).to_be_visible()
    camera.take(
        "privacy", begin=page.get_by_role("heading", name="What each party sees"), end=page.locator("table.exposures")
    )
    camera.take(
        "masked-update", begin=page.locator("section:has(> #masked-update)"), end=page.locator("#masked-update")
    )

    person.go("/clients")
    page.get_by_label("Name of the site").fill("hospital-a")
    page.get_by_role("button", name="Make its token").click()
    person.see("shown here once")
    camera.take("clients", end=page.locator("section[aria-labelledby=made] .copied").nth(1))


def _await(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not there():
        if time.monotonic() > deadline:
            raise NotTaken(f"the network did not get there within {WITHIN_S:g} s")
        time.sleep(0.1)


def main() -> None:
    """Take all pictures."""
    path = find_chromium()
    if path is None:
        sys.exit("The pictures need chromium: install it; .ci/install does on Debian and Ubuntu.")
    IMAGES.mkdir(exist_ok=True)
    expect.set_options(timeout=WITHIN_S * 1000)
    with (
        tempfile.TemporaryDirectory() as scratch,
        running_sandbox(Path(scratch) / "sandbox") as sandbox,
        running_chromium(path) as browser,
    ):
        context = browser.new_context(
            ignore_https_errors=True,  # the sandbox's authority is in no browser's list
            viewport={"width": WIDTH, "height": HEIGHT},
            color_scheme="light",
            reduced_motion="reduce",
            locale="en-GB",
            timezone_id="UTC",
        )
        context.set_default_timeout(WITHIN_S * 1000)
        person = Person(context.new_page(), sandbox.url)
        camera = Camera(person)
        person.sign_in(sandbox.network.sign_in_link())
        session = begin_session(person, camera, Path(scratch))
        lose_a_client(person, camera, session, lambda: sandbox.network.session(session))
        _await(lambda: sandbox.network.session(session).status == "finished")
        look_at_what_came_of_it(person, camera, session)


if __name__ == "__main__":
    main()
