"""A whole combiner from its settings, and the reducer that it joins: a real server that can go away and come back."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from builders import a_plan
from combiner_rig import SESSION, WITHIN_S, a_model, digest_of
from grpc_network import (
    AUTHORITY,
    CERTIFICATE,
    Bearers,
    MemoryObjects,
    RecordingReducer,
    a_spool,
    connected,
    serve,
)

from fedn_py.identity import ClientId, ClientName, Digest, Generation
from fedn_py.protocol.messages import (
    CellOrder,
    ClientHello,
    ClientWelcome,
    CombinerHello,
    ExpectClient,
    HelloAccepted,
    ToCombiner,
)
from fedn_py.settings.roles import CombinerSettings
from fedn_py.transport.authentication import Caller
from fedn_py.transport.certificates import write_pair
from fedn_py.transport.channels import Channel, Server
from fedn_py.transport.combiner_link import CombinerLink
from fedn_py.transport.reducer_server import ReducerService
from fedn_py.transport.spool import Spool
from fedn_py.transport.streams import Outbox
from fedn_py.transport.tickets import new_ticket
from fedn_py.transport.transfer_server import StoreSink, TransferService

Message = TypeVar("Message")


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def written_settings(folder: Path, reducer_port: int, **changes: Any) -> dict[str, Any]:
    """Write what a combiner's settings name and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    write_pair(CERTIFICATE.certificate_pem, CERTIFICATE.key_pem, folder / "server.pem", folder / "server.key")
    (folder / "authority.pem").write_bytes(AUTHORITY.certificate_pem)
    (folder / "token").write_text("combiner\nwhat follows is not shown\n")
    port = a_free_port()
    settings: dict[str, Any] = {
        "name": "east",
        "listen": f"127.0.0.1:{port}",
        "advertise": f"127.0.0.1:{port}",
        "reducer": f"127.0.0.1:{reducer_port}",
        "authority_file": str(folder / "authority.pem"),
        "certificate": {"certificate_file": str(folder / "server.pem"), "key_file": str(folder / "server.key")},
        "token_file": str(folder / "token"),
        "state_dir": str(folder / "state"),
        "heartbeat_s": 1.0,
    }
    return settings | changes


def combiner_settings(folder: Path, reducer_port: int, **changes: Any) -> CombinerSettings:
    return CombinerSettings(**written_settings(folder, reducer_port, **changes))


class AttentiveReducer(RecordingReducer):
    """Wants to hear from its combiners often."""

    fence = 1

    async def combiner_joined(self, hello: CombinerHello, caller: Caller, outbox: Outbox[ToCombiner]) -> None:
        self.outboxes.append(outbox)
        self.heard.put_nowait(("joined", hello))
        outbox.send(HelloAccepted(1.0, self.fence))


@dataclass
class ReducerServer:
    """A reducer's door on one port: it can be closed and opened again, and remembers what it heard."""

    folder: Path
    port: int = field(default_factory=a_free_port)
    calls: RecordingReducer = field(default_factory=AttentiveReducer)
    objects: MemoryObjects = field(default_factory=MemoryObjects)
    _server: Server | None = None
    _spool: Spool | None = None

    async def open(self) -> None:
        self._spool = await a_spool(self.folder / "reducer-spool", memory_bytes=1 << 28)
        transfer = TransferService(
            self.objects, self._spool, sink=StoreSink(self.objects), roles=frozenset({"combiner"})
        )
        services = [ReducerService(self.calls, heartbeat_s=1.0), transfer]
        self._server = await serve(f"127.0.0.1:{self.port}", services, CERTIFICATE, Bearers())

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop(0.0)
            self._server = None

    def send(self, message: ToCombiner) -> None:
        self.calls.outboxes[-1].send(message)

    async def heard(self, what: str) -> Any:
        """Wait for "joined", "left" or "said"."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                kind, content = await self.calls.heard.get()
                if kind == what:
                    return content

    async def told(self, kind: type[Message]) -> Message:
        """Wait for the combiner to say something of a kind."""
        while True:
            message = await self.heard("said")
            if isinstance(message, kind):
                return message

    def order(self, *clients: ClientId, generation: int = 1, model: bytes | None = None, **changes: Any) -> CellOrder:
        """Order a cell."""
        content = model or a_model()
        self.objects.objects |= {digest_of(one): one for one in (content, b"a package")}
        plan = a_plan(session=SESSION, base_model=digest_of(content), package=digest_of(b"a package"), **changes)
        order = CellOrder(plan, Generation(generation), clients, len(clients))
        self.send(order)
        return order

    def let_in(self, client: ClientId) -> str:
        """Have the combiner expect a client, and return its ticket."""
        ticket, sha256 = new_ticket()
        self.send(ExpectClient(client, ClientName(client[:4]), sha256, 600.0))
        return ticket

    def sum_of(self, digest: Digest | None) -> bytes:
        assert digest is not None
        return self.objects.objects[digest]


@contextlib.asynccontextmanager
async def a_reducer(folder: Path) -> AsyncIterator[ReducerServer]:
    server = ReducerServer(folder)
    await server.open()
    try:
        yield server
    finally:
        await server.close()


@contextlib.asynccontextmanager
async def attached(address: str, client: ClientId, ticket: str) -> AsyncIterator[tuple[Channel, CombinerLink, Any]]:
    """Attach to a combiner that runs beside this; gives the channel, the link and its messages after the welcome."""
    hello = ClientHello(client, ClientName(client[:4]), "0.1.0")
    async with connected(address, ticket) as channel, CombinerLink(channel, hello) as link:
        messages = link.messages()
        assert isinstance(await anext(messages), ClientWelcome)
        yield channel, link, messages
