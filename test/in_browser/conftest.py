"""A real browser before a real network: Chromium of this machine, and a sandbox whose processes are this test's own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))
sys.path.insert(0, str(Path(__file__).parent))

from people import AT_MOST_MS, CLIENTS, DIGITS, LiveSandbox, Person, running_sandbox


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSandbox]:
    folder = tmp_path_factory.mktemp("browser") / "sandbox"
    words = ("--clients", str(CLIENTS), "--combiners", "1", "--project", str(DIGITS))
    with running_sandbox(folder, *words) as running:
        yield running


@pytest.fixture
def context(chromium: Browser, tmp_path: Path) -> Iterator[BrowserContext]:
    # The sandbox's authority is in no browser's list.
    context = chromium.new_context(ignore_https_errors=True, accept_downloads=True)
    context.set_default_timeout(AT_MOST_MS)
    expect.set_options(timeout=AT_MOST_MS)
    try:
        yield context
    finally:
        context.close()


@pytest.fixture
def person(sandbox: LiveSandbox, context: BrowserContext) -> Person:
    """An admin who has just opened the link that the sandbox printed."""
    someone = Person(context.new_page(), sandbox.url)
    someone.sign_in(sandbox.network.sign_in_link())
    return someone
