"""Links do to connections what their weather says, and nothing else."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from chaos.links import BLACK_HOLE, FINE, Links, Weather


class Echo:
    """A server that sends back what it gets."""

    def __init__(self) -> None:
        self.answers = True
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        self.got = bytearray()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._door.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        try:
            while piece := connection.recv(65_536):
                self.got += piece
                if self.answers:
                    connection.sendall(piece)
        except OSError:
            pass
        connection.close()

    def close(self) -> None:
        self._door.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def links() -> Iterator[Links]:
    made = Links()
    yield made
    made.close()


def dialled(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=10.0)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def received(connection: socket.socket, size: int) -> bytes:
    got = bytearray()
    while len(got) < size and (piece := connection.recv(size - len(got))):
        got += piece
    return bytes(got)


def await_end(connection: socket.socket) -> None:
    """Wait until the other side has ended the connection, in whichever way."""
    with suppress(ConnectionError):
        while connection.recv(65_536):
            pass


def until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.005)


def test_in_fine_weather_everything_passes_as_it_is(links: Links, echo: Echo) -> None:
    sent = bytes(range(256)) * 1_000
    with dialled(links.open("echo", echo.port)) as connection:
        connection.sendall(sent)
        assert received(connection, len(sent)) == sent


def test_each_cut_lets_exactly_so_many_bytes_through_and_then_a_connection_is_whole(links: Links, echo: Echo) -> None:
    echo.answers = False  # an answer that nobody reads would take what has arrived along with the connection
    port = links.open("echo", echo.port)
    links.become("echo", Weather(cut_after=(1_000, 500)))
    for passed in (1_000, 1_500):
        with dialled(port) as connection:
            connection.sendall(b"x" * 5_000)
            await_end(connection)
        until(lambda passed=passed: len(echo.got) == passed)  # type: ignore[misc]
    assert links.cuts("echo") == 2
    echo.answers = True
    with dialled(port) as connection:
        connection.sendall(b"y" * 5_000)
        assert received(connection, 5_000) == b"y" * 5_000


def test_what_a_black_hole_held_arrives_when_the_weather_is_better(links: Links, echo: Echo) -> None:
    with dialled(links.open("echo", echo.port)) as connection:
        links.become("echo", BLACK_HOLE)
        connection.sendall(b"held")
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(4)
        assert not echo.got
        connection.settimeout(10.0)
        links.become("echo", FINE)
        assert received(connection, 4) == b"held"


def test_one_direction_alone_can_be_held(links: Links, echo: Echo) -> None:
    with dialled(links.open("echo", echo.port)) as connection:
        links.become("echo", Weather(held=frozenset({"down"})))
        connection.sendall(b"there")
        until(lambda: bytes(echo.got) == b"there")
        links.become("echo", FINE)
        assert received(connection, 5) == b"there"


def test_a_throttled_link_passes_byte_by_byte_and_the_rest_at_once_when_it_is_healed(links: Links, echo: Echo) -> None:
    with dialled(links.open("echo", echo.port)) as connection:
        links.become("echo", Weather(bytes_per_s=1.0))
        connection.sendall(b"slow" * 1_000)
        until(lambda: len(echo.got) == 1)
        links.heal()
        assert received(connection, 4_000) == b"slow" * 1_000


def test_a_link_that_refuses_cuts_new_connections(links: Links, echo: Echo) -> None:
    port = links.open("echo", echo.port)
    links.become("echo", Weather(refuses=True))
    with dialled(port) as connection:
        await_end(connection)
    assert not echo.got


def test_whoever_watches_sees_both_directions_and_the_end(links: Links, echo: Echo) -> None:
    seen: list[tuple[str, bytes]] = []
    port = links.open("echo", echo.port, lambda _, way, data, __: seen.append((way, data)))
    with dialled(port) as connection:
        connection.sendall(b"abc")
        assert received(connection, 3) == b"abc"
    until(lambda: len(seen) == 3)
    assert seen == [("up", b"abc"), ("down", b"abc"), ("up", b"")]
