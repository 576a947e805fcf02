"""Somebody at a browser, and the sandbox that they look at."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from running_network import ROOT

from fedn_py.api.network import Network
from fedn_py.api.profile import load_profile

DIGITS = ROOT / "test" / "digits-sklearn"
CLIENTS = 6
AT_MOST_MS = 30_000


@dataclass
class LiveSandbox:
    """A sandbox that waits for somebody at its web pages."""

    folder: Path
    process: subprocess.Popen[str]
    network: Network

    @property
    def url(self) -> str:
        return load_profile(self.folder / "profile.yaml").urls[0]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=60)


@contextmanager
def running_sandbox(folder: Path, *words: str) -> Iterator[LiveSandbox]:
    """Start a sandbox that trains nothing, with these words on its command line, and end it."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("FEDN_")}
    command = [sys.executable, "-m", "fedn_py", "sandbox", "--no-session", "--dir", str(folder), "--port", "0", *words]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=plain | {"PYTHONUNBUFFERED": "1"},
    )
    said = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if re.search(r"Ctrl-C ends", line):
            break
    assert process.poll() is None, "".join(said)
    running = LiveSandbox(folder, process, Network.of(load_profile(folder / "profile.yaml")))
    try:
        yield running
    finally:
        running.stop()


@dataclass
class Person:
    """Somebody at a browser; whatever the pages ask for is kept, to be judged at the end."""

    page: Page
    url: str
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda line: self.complaints.append(line.text) if line.type == "error" else None)
        self.page.on("pageerror", lambda fault: self.complaints.append(str(fault)))
        self.page.on("dialog", lambda dialog: dialog.accept())

    def see(self, text: str | re.Pattern[str]) -> None:
        """Wait until a text is on the page, by itself."""
        expect(self.page.locator("main")).to_contain_text(text)

    def go(self, place: str) -> None:
        self.page.goto(self.url + place)

    def sign_in(self, link: str) -> None:
        """Open the link that the sandbox printed."""
        self.page.goto(link)
        self.page.wait_for_url(f"{self.url}/")

    def upload(self, where: str, file: Path) -> None:
        self.page.locator(f"form[data-upload='{where}'] input[type=file]").first.set_input_files(file)

    def have_the_seed_model_made(self) -> None:
        self.page.get_by_role("button", name=re.compile("Create it with")).click()
        self.see("coef_")

    def open_the_session_form(self) -> None:
        self.page.get_by_role("link", name="Choose rounds, clients and masking").click()

    def start_the_session(self) -> str:
        """Send the form, and return the session's id."""
        self.page.get_by_role("button", name="Start the session").click()
        self.page.wait_for_url(re.compile(r"/sessions/[0-9a-f]+$"))
        return self.page.url.rpartition("/")[2]

    def kill(self, name: str) -> None:
        """Kill a process of the sandbox, as a power cut would."""
        self.go("/network")
        row = self.page.get_by_role("row", name=re.compile(name))
        row.get_by_role("button", name=re.compile("Kill")).click()
        expect(row.get_by_role("button", name=re.compile("Start"))).to_be_visible()

    def asked_elsewhere(self) -> list[str]:
        return [one for one in self.asked if not one.startswith((self.url, "data:", "about:", "blob:"))]


MORE_OF_THE_SAME = ("section[id] ~ section[id] ~ section[id]:not(:last-of-type)", "nav li ~ li ~ li")
"""On the page of the API: its sections and links but the first two and the last, all of which one template makes."""


def serious(page: Page, *rules: str) -> list[str]:
    """Return what axe-core finds serious or critical on a page, by these rules or by all."""
    options = {"runOnly": {"type": "rule", "values": list(rules)}} if rules else {}
    # Of 80 sections that are made alike it would look at each: 20 s for that page alone.
    seen = {"exclude": [[one] for one in MORE_OF_THE_SAME]} if page.url.endswith("/api") else None
    found = Axe().run(page, context=seen, options=options).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {node['target']} {node.get('failureSummary', '')}"
        for one in found
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"]
    ]
