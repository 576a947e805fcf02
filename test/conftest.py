"""What all tests share: modules beside this file can be imported, real servers run, and skips are told at the end."""

import os
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from servers.build import NAMES, NotBuilt, build, find
from servers.running import NotReady, S3Server, running_minio, running_mongodb, running_versitygw

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Running = TypeVar("Running")

REQUIRED = os.environ.get("FEDN_REQUIRE_SERVICES") == "1"
"""Where set, what a test needs and is not there is a failure and no skip."""


def absent(reason: str) -> NoReturn:
    """Skip the test for want of something that this machine lacks; ``reason`` begins with "needs"."""
    if REQUIRED:
        pytest.fail(f"{reason} (FEDN_REQUIRE_SERVICES=1 makes this a failure)", pytrace=False)
    pytest.skip(reason)


# ---- real servers -------------------------------------------------------------------------------------------


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build missing servers before the first test: no test's time limit has room for it."""
    if session.config.option.collectonly:
        return
    if any(item.get_closest_marker("services") for item in session.items):
        for name in NAMES:
            if find(name) is None:
                with suppress(NotBuilt):  # its tests will say so
                    build(name)


@pytest.fixture(scope="session")
def mongodb_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A MongoDB-wire server's URI, without credentials."""
    with _started("mongod", running_mongodb(tmp_path_factory.mktemp("mongod"))) as uri:
        yield uri


@pytest.fixture(scope="session")
def minio_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """MinIO."""
    with _started("minio", running_minio(tmp_path_factory.mktemp("minio"))) as server:
        yield server


@pytest.fixture(scope="session")
def versitygw_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Another S3 server."""
    with _started("versitygw", running_versitygw(tmp_path_factory.mktemp("versitygw"))) as server:
        yield server


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """The system's Chromium, without a window; for one module: while it runs, no other event loop can in its thread."""
    from chromium import find_chromium, running_chromium

    path = find_chromium()
    if path is None:
        absent("needs chromium: install it; .ci/install does on Debian and Ubuntu")
    with running_chromium(path) as browser:
        yield browser


@pytest.fixture(scope="session")
def servers_of_its_own() -> None:
    """For a test that starts and kills MongoDB-wire servers and MinIOs itself: they are there, or it is left out."""
    for name in ("mongod", "minio"):
        _look_for(name)


def _look_for(name: str) -> None:
    if find(name) is None:
        absent(f"needs {name}: put it on PATH, or install Go 1.24 or newer and run python test/servers/build.py")


@contextmanager
def _started(name: str, server: AbstractContextManager[Running]) -> Iterator[Running]:
    """Run a server that must be there already, or leave the test out."""
    _look_for(name)
    try:
        running = server.__enter__()
    except NotReady as error:
        absent(f"needs {name}: {error}")
    try:
        yield running
    finally:
        server.__exit__(None, None, None)


# ---- the last lines ------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around all others, so that nothing is printed below it
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    """Say what was left out for want of something, and how to get it."""
    yield
    reasons = Counter(
        str(report.longrepr[2]).removeprefix("Skipped: ")
        for report in terminalreporter.getreports("skipped")
        if isinstance(report.longrepr, tuple)
    )
    lacking = {reason: count for reason, count in reasons.items() if reason.startswith("needs")}
    if lacking:
        terminalreporter.section("not run here")
    for reason, count in sorted(lacking.items()):
        terminalreporter.line(f"{count} tests left out: {reason}")
