"""Real processes for system tests; ``start_network`` ends what a test started."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pymongo
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from running_network import RunningNetwork

from fedn_py.sandbox.folder import Where


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture
def mongodb_uri(mongodb_uri: str) -> str:
    """The server's URI, with nothing left in it of another test's network: stores belong to one operator's."""
    with pymongo.MongoClient[dict[str, object]](mongodb_uri) as client:
        client.drop_database("fedn_py")
    return mongodb_uri


@pytest.fixture
def start_network(tmp_path: Path) -> Iterator[Callable[..., RunningNetwork]]:
    """Return what starts a network on free ports."""
    started: list[RunningNetwork] = []

    def start(combiners: int = 1, where: Where | None = None, **environ: str) -> RunningNetwork:
        network = RunningNetwork(tmp_path / "network", combiners, where, environ)
        started.append(network)
        return network

    yield start
    for network in started:
        network.stop()
