"""Connections that can be made bad: TCP proxies on loopback, one before each server, with a weather of their own.

TLS passes through as it is. All links of a run share one event loop in a thread; their weather is changed from outside.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from servers.running import free_port

Direction = Literal["up", "down"]
"""up: towards the server."""

Watch = Callable[[int, Direction, bytes, float], None]
"""Told of a connection's number, of bytes on their way, and when they came; b"" at the end of a connection."""

_PIECE = 65_536
_STEPS_PER_S = 10


@dataclass(frozen=True, slots=True)
class Weather:
    """What a link does to what passes.

    Attributes:
        latency_s: how long each piece waits.
        bytes_per_s: in each direction of each connection; None for no bound.
        held: directions in which nothing passes, without anybody being told; it arrives when the weather is better.
        cut_after: bytes towards the server, over all connections from now on, after which the connection that they
            went through is cut; each further count begins at the cut before.
        refuses: new connections are cut at once.
    """

    latency_s: float = 0.0
    bytes_per_s: float | None = None
    held: frozenset[Direction] = frozenset()
    cut_after: tuple[int, ...] = ()
    refuses: bool = False


FINE = Weather()
BLACK_HOLE = Weather(held=frozenset({"up", "down"}))


@dataclass(slots=True, eq=False)
class Connection:
    """Both sides of one connection."""

    number: int
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def cut(self) -> None:
        """End it as a broken line does."""
        for writer in self.writers:
            writer.transport.abort()


class Link:
    """One proxy before one port.

    Attributes:
        port: where it listens.
        cuts: how many connections the weather has cut.
    """

    def __init__(self, target: int, watch: Watch | None) -> None:
        self._target, self._watch = target, watch
        self._weather = FINE
        self._changed = asyncio.Event()
        self._connections: dict[int, Connection] = {}
        self._passed_up = 0
        self._numbers = 0
        self.port = 0
        self.cuts = 0

    async def open(self) -> None:
        """Begin to listen."""
        self.port = free_port()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=_PIECE)

    async def close(self) -> None:
        """Cut everything and listen no more."""
        self._server.close()
        self.cut()

    def become(self, weather: Weather) -> None:
        """Change the weather, for connections that there are too."""
        self._weather, self._passed_up = weather, 0
        self._changed.set()
        self._changed = asyncio.Event()

    def cut(self) -> None:
        """Cut all connections."""
        for connection in tuple(self._connections.values()):
            connection.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._weather.refuses:
            writer.transport.abort()
            return
        self._numbers += 1
        connection = Connection(self._numbers, [writer])
        self._connections[connection.number] = connection
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target, limit=_PIECE)
            connection.writers.append(server_writer)
            carriers = [
                asyncio.ensure_future(self._carry(connection, reader, server_writer, "up")),
                asyncio.ensure_future(self._carry(connection, server_reader, writer, "down")),
            ]
            await asyncio.wait(carriers, return_when=asyncio.FIRST_COMPLETED)
            for carrier in carriers:
                carrier.cancel()
            await asyncio.gather(*carriers, return_exceptions=True)
        except OSError:
            pass  # nobody listens there: the caller sees its connection end
        finally:
            connection.cut()
            del self._connections[connection.number]
            if self._watch is not None:
                self._watch(connection.number, "up", b"", time.monotonic())

    async def _carry(
        self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Direction
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_PIECE):
                if self._watch is not None and way == "up":
                    self._watch(connection.number, way, data, time.monotonic())
                if not await self._pass(connection, data, writer, way):
                    return
                if self._watch is not None and way == "down":
                    self._watch(connection.number, way, data, time.monotonic())

    async def _pass(self, connection: Connection, data: bytes, writer: asyncio.StreamWriter, way: Direction) -> bool:
        """Let a piece pass as the weather is; tell whether the connection goes on."""
        await self._let_through(way)
        if self._weather.latency_s:
            await asyncio.sleep(self._weather.latency_s)
        if way == "up" and self._weather.cut_after:
            cut_after, *further = self._weather.cut_after
            self._passed_up += len(data)
            if self._passed_up >= cut_after:
                rest = self._passed_up - cut_after
                self._weather, self._passed_up = replace(self._weather, cut_after=tuple(further)), 0
                self.cuts += 1
                writer.write(data[: len(data) - rest])
                with contextlib.suppress(TimeoutError):  # as much of it as the other side takes is to arrive
                    await asyncio.wait_for(writer.drain(), 1.0)
                connection.cut()
                return False
        while self._weather.bytes_per_s is not None and data:
            step = max(1, int(self._weather.bytes_per_s / _STEPS_PER_S))
            writer.write(data[:step])
            await writer.drain()
            data, rate = data[step:], self._weather.bytes_per_s
            with contextlib.suppress(TimeoutError):  # better weather ends the wait
                await asyncio.wait_for(self._changed.wait(), step / rate)
            await self._let_through(way)
        writer.write(data)
        await writer.drain()
        return True

    async def _let_through(self, way: Direction) -> None:
        while way in self._weather.held:
            await self._changed.wait()


class Links:
    """All links of a run, and the thread that they run in."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._thread.start()
        self._links: dict[str, Link] = {}

    def open(self, name: str, target: int, watch: Watch | None = None) -> int:
        """Put a link before a port and return its own."""
        link = self._links[name] = Link(target, watch)
        self._do(link.open())
        return link.port

    def become(self, name: str, weather: Weather) -> None:
        """Change a link's weather."""
        self._call(lambda: self._links[name].become(weather))

    def cut(self, name: str) -> None:
        """Cut a link's connections; new ones pass."""
        self._call(self._links[name].cut)

    def cuts(self, name: str) -> int:
        """Return how many connections of a link the weather has cut."""
        return self._links[name].cuts

    def heal(self) -> None:
        """Have fine weather everywhere."""
        for name in self._links:
            self.become(name, FINE)

    def close(self) -> None:
        """End all links and their thread."""
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        for link in self._links.values():
            await link.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _call(self, what: Callable[[], None]) -> None:
        async def called() -> None:
            what()

        self._do(called())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10.0)
