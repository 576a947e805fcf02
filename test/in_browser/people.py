"""Somebody at a browser, and the sandbox that they look at."""

import re
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from running_network import ROOT

from fedn_py.api.network import Network
from fedn_py.api.profile import load_profile

DIGITS = ROOT / "test" / "digits-sklearn"
CLIENTS = 5
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
