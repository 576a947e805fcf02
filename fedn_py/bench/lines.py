"""One process that is the line of each client to its combiner: it carries so many bytes a second, each way.

    python -m fedn_py.bench.lines lines.json

Combiners name its ports as their own. Its buffers are small, so that what a slow line does not take stays where it
comes from, as it does behind a real one.
"""

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fedn_py.runtime.logging import configure_logging
from fedn_py.runtime.processes import run_until_stopped
from fedn_py.runtime.start_checks import raised_file_limit, tell

_HOST = "127.0.0.1"
_AT_ONCE = 16 * 1024
_PIECES_A_SECOND = 10
"""At least, so that signs of life come through a very slow line."""

_BUFFER_BYTES = 64 * 1024
_BACKLOG = 1_000
_FILES_EACH = 2


@dataclass(frozen=True, slots=True)
class LinesPlan:
    """Which lines a process is.

    Attributes:
        ports: where it listens, and the port that each leads to.
        bytes_per_s: of each connection, each way.
        connections: how many there will be, at most.
    """

    ports: tuple[tuple[int, int], ...]
    bytes_per_s: int
    connections: int


def write_plan(file: Path, plan: LinesPlan) -> None:
    """Write what ``main`` reads."""
    file.write_text(json.dumps(asdict(plan)), encoding="utf-8")


class _Lines:
    """All connections to one port."""

    def __init__(self, target: int, bytes_per_s: int) -> None:
        self._target, self._bytes_per_s = target, bytes_per_s
        self._at_once = max(1, min(_AT_ONCE, bytes_per_s // _PIECES_A_SECOND))

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry what a client and its combiner say until one of them ends it."""
        with contextlib.closing(writer), contextlib.suppress(OSError):
            far = await _connected(self._target)
            far_reader, far_writer = await asyncio.open_connection(sock=far, limit=_AT_ONCE)
            with contextlib.closing(far_writer):
                ways = {
                    asyncio.ensure_future(self._carry(reader, far_writer)),
                    asyncio.ensure_future(self._carry(far_reader, writer)),
                }
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(self._at_once):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(len(piece) / self._bytes_per_s)


def _small_socket() -> socket.socket:
    small = socket.socket()
    small.settimeout(0.0)
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)  # before it is connected or listens
    return small


async def _connected(port: int) -> socket.socket:
    far = _small_socket()
    try:
        await asyncio.get_running_loop().sock_connect(far, (_HOST, port))
    except BaseException:
        far.close()
        raise
    return far


async def _run(plan: LinesPlan, stop: asyncio.Event) -> None:
    async with contextlib.AsyncExitStack() as servers:
        for port, target in plan.ports:
            listening = _small_socket()
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((_HOST, port))
            lines = _Lines(target, plan.bytes_per_s)
            server = await asyncio.start_server(lines.connected, sock=listening, limit=_AT_ONCE, backlog=_BACKLOG)
            await servers.enter_async_context(server)
        await stop.wait()


def main(arguments: Sequence[str]) -> None:
    """Be the lines of a plan until SIGTERM."""
    configure_logging("console", "warning", fields={})
    kept = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    plan = LinesPlan(tuple((port, target) for port, target in kept["ports"]), kept["bytes_per_s"], kept["connections"])
    tell(tuple(raised_file_limit(_FILES_EACH * plan.connections + len(plan.ports) + 64)))
    run_until_stopped(lambda stop: _run(plan, stop))


if __name__ == "__main__":
    main(sys.argv[1:])
