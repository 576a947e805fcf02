"""Where the sandbox's servers listen: as last time, as told, as usual, and always where nobody else does."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedn_py.sandbox.folder import SandboxFolder


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def every(ports: object) -> list[int]:
    return [ports.web, ports.grpc, *ports.combiners]  # type: ignore[attr-defined]


def test_a_port_of_0_asks_for_any_that_are_free(tmp_path: Path) -> None:
    ports = every(SandboxFolder(tmp_path).choose_ports(3, 0))
    assert len(set(ports)) == 5
    assert min(ports) > 1_000


def test_the_ports_of_the_last_start_are_taken_again(tmp_path: Path) -> None:
    first = SandboxFolder(tmp_path).choose_ports(2, 0)
    assert SandboxFolder(tmp_path).choose_ports(2, None) == first


def test_a_port_that_somebody_listens_on_is_left_to_them_and_the_others_follow_the_one_asked_for(
    tmp_path: Path, taken: int
) -> None:
    ports = every(SandboxFolder(tmp_path).choose_ports(1, taken))
    assert taken not in ports
    assert len(set(ports)) == 3
