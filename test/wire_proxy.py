"""A TCP proxy before a MongoDB-wire server that loses or makes up the answer to a chosen command."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import bson

OP_MSG = 2013


@dataclass
class WireProxy:
    """What the proxy does; change it between commands.

    Attributes:
        uri: where it listens.
        lose: command name to what is lost with the connection: the request before the server sees it, or its reply.
        countdown: how many more of these commands pass before one is lost; each loss takes its command out of lose.
        replies: command name to a reply made up for it; the server does not see the command.
        seen: names of all commands that came.
    """

    uri: str
    lose: dict[str, Literal["request", "reply"]] = field(default_factory=dict)
    countdown: int = 0
    replies: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def _loses(self, command: str) -> Literal["request", "reply"] | None:
        if command not in self.lose:
            return None
        if self.countdown:
            self.countdown -= 1
            return None
        return self.lose.pop(command)

    async def pass_on(self, client: tuple[asyncio.StreamReader, asyncio.StreamWriter], server_port: int) -> None:
        reader, writer = client
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", server_port)
        try:
            while True:
                message = await _read_message(reader)
                command = _command(message)
                self.seen.append(command)
                if command in self.replies:
                    writer.write(_reply_to(message, self.replies[command]))
                    continue
                lost = self._loses(command)
                if lost == "request":
                    return
                server_writer.write(message)
                reply = await _read_message(server_reader)
                if lost == "reply":
                    return
                writer.write(reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            server_writer.close()
            writer.close()


@asynccontextmanager
async def wire_proxy(target_uri: str) -> AsyncIterator[WireProxy]:
    """Run a proxy before the server at ``target_uri``, mongodb://127.0.0.1:PORT/."""
    target_port = urlsplit(target_uri).port
    assert target_port is not None
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(proxy.pass_on((reader, writer), target_port))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy = WireProxy(f"mongodb://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    try:
        yield proxy
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    length = await reader.readexactly(4)
    return length + await reader.readexactly(struct.unpack("<i", length)[0] - 4)


def _command(message: bytes) -> str:
    """Return the name of a message's command: the first field of its body."""
    start = 21 if struct.unpack("<i", message[12:16])[0] == OP_MSG else message.index(b"\0", 20) + 9
    first = message[start + 5 : message.index(b"\0", start + 5)]
    return first.decode()


def _reply_to(message: bytes, reply: Mapping[str, Any]) -> bytes:
    request_id = struct.unpack("<i", message[4:8])[0]
    body = struct.pack("<iB", 0, 0) + bson.encode(reply)
    return struct.pack("<iiii", 16 + len(body), 1, request_id, OP_MSG) + body
