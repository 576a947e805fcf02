"""The Chromium of this machine, driven without a window."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright


def find_chromium() -> str | None:
    """Return the path of a Chromium that is installed, or nothing."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def running_chromium(path: str) -> Iterator[Browser]:
    """Run the Chromium of this path."""
    with sync_playwright() as playwright:
        # Its own sandbox needs rights that a container often has not; it sees nothing but pages of our own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
