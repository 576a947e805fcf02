"""Builders for tests over real gRPC and TLS on loopback: servers that record, objects in memory, a proxy that cuts."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedn_py.errors import FednError, PeerFault
from fedn_py.identity import ClientId, ClientName, CombinerName, Digest, Generation, InstanceId, TokenId
from fedn_py.protocol.messages import (
    Assignment,
    AssignRequest,
    ClientHello,
    ClientWelcome,
    CombinerHello,
    FromClient,
    FromCombiner,
    HelloAccepted,
    ToClient,
    ToCombiner,
    UpdateHeader,
    UpdateReceipt,
)
from fedn_py.transport.authentication import Authenticator, Caller, NoToken, Role
from fedn_py.transport.certificates import Authority, ServerCertificate, issue_server_certificate, make_authority
from fedn_py.transport.channels import Channel, Server, Service, secure_channel, serve
from fedn_py.transport.combiner_server import CombinerService
from fedn_py.transport.reducer_server import ReducerService
from fedn_py.transport.spool import Spool, SpooledUpload, open_spool
from fedn_py.transport.streams import Outbox
from fedn_py.transport.transfer import Patience
from fedn_py.transport.transfer_server import StoreSink, TransferPlaces, TransferService

ANNA, BERT = ClientId("a1" * 16), ClientId("be" * 16)
EAST, LIFE = CombinerName("east"), InstanceId("0123456789abcdef")
AUTHORITY: Authority = make_authority("the tests' authority")
CERTIFICATE: ServerCertificate = issue_server_certificate(AUTHORITY, "server", ["localhost", "127.0.0.1"])
QUICK = Patience(attempts=5, base_s=0.01, cap_s=0.05)
HEARTBEAT_S = 5.0


class ObjectGone(PeerFault):
    """An object store of a test does not have it."""


def digest_of(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


def a_header(data: bytes, *, upload_id: str = "ab" * 8, samples: int = 10, sha256: str | None = None) -> UpdateHeader:
    return UpdateHeader(
        Generation(7), upload_id, len(data), Digest(sha256 or digest_of(data)), samples, {"loss": 0.5}, "mean"
    )


class Bearers(Authenticator):
    """Takes "combiner", "client:<id>" and so on as what it says."""

    async def authenticate(self, bearer: str, method: str) -> Caller:
        role, _, name = bearer.partition(":")
        roles: Mapping[str, Role] = {"admin": "admin", "viewer": "viewer", "combiner": "combiner", "client": "client"}
        if role not in roles:
            raise NoToken("no such bearer")
        return Caller(roles[role], name or role, TokenId("00" * 8))


@dataclass(frozen=True)
class Size:
    size: int


class MemoryObjects:
    """An object source and sink."""

    def __init__(self, *objects: bytes) -> None:
        self.objects = {digest_of(data): data for data in objects}
        self.offsets: list[int] = []

    async def stat(self, digest: Digest) -> Size:
        if digest not in self.objects:
            raise ObjectGone(f"no object {digest}")
        return Size(len(self.objects[digest]))

    async def get(self, digest: Digest, *, offset: int = 0) -> AsyncIterator[bytes]:
        self.offsets.append(offset)
        data = self.objects[digest]
        for start in range(offset, len(data), 1 << 20):
            yield data[start : start + (1 << 20)]

    async def put(self, chunks: AsyncIterator[bytes], *, expected: Digest | None = None) -> Size:
        data = b"".join([chunk async for chunk in chunks])
        assert digest_of(data) == expected
        self.objects[digest_of(data)] = data
        return Size(len(data))

    async def put_file(self, path: Path, digest: Digest) -> Size:
        data = await asyncio.to_thread(path.read_bytes)
        assert digest_of(data) == digest
        self.objects[digest] = data
        return Size(len(data))


@dataclass
class RecordingReducer:
    """ReducerCalls that accept everybody and write down what they are told."""

    refusal: FednError | None = None
    heard: asyncio.Queue[tuple[str, object]] = field(default_factory=asyncio.Queue)
    outboxes: list[Outbox[ToCombiner]] = field(default_factory=list)
    heartbeat_s: float = HEARTBEAT_S

    async def combiner_joined(self, hello: CombinerHello, caller: Caller, outbox: Outbox[ToCombiner]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.outboxes.append(outbox)
        self.heard.put_nowait(("joined", hello))
        outbox.send(HelloAccepted(self.heartbeat_s, 1))

    async def combiner_said(self, name: CombinerName, instance: InstanceId, message: FromCombiner) -> None:
        self.heard.put_nowait(("said", message))

    async def combiner_left(self, name: CombinerName, instance: InstanceId) -> None:
        self.heard.put_nowait(("left", name))

    async def assign(self, request: AssignRequest, caller: Caller) -> Assignment:
        if self.refusal is not None:
            raise self.refusal
        self.heard.put_nowait(("assign", (request, caller)))
        return Assignment(EAST, "127.0.0.1:12080", AUTHORITY.certificate_pem, "t" * 43, 600.0)


@dataclass
class RecordingCombiner:
    """CombinerCalls that accept everybody, read updates back, and write down what they are told."""

    refusal: FednError | None = None
    heartbeat_s: float = HEARTBEAT_S
    heard: asyncio.Queue[tuple[str, object]] = field(default_factory=asyncio.Queue)
    outboxes: list[Outbox[ToClient]] = field(default_factory=list)
    updates: list[bytes] = field(default_factory=list)
    keep_bytes: bool = True
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def client_attached(self, hello: ClientHello, caller: Caller, outbox: Outbox[ToClient]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.outboxes.append(outbox)
        self.heard.put_nowait(("attached", hello))
        outbox.send(ClientWelcome(EAST, self.heartbeat_s))

    async def client_said(self, client: ClientId, message: FromClient) -> None:
        self.heard.put_nowait(("said", message))

    async def client_left(self, client: ClientId) -> None:
        self.heard.put_nowait(("left", client))

    async def update_offered(self, header: UpdateHeader, caller: Caller) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.heard.put_nowait(("offered", header))

    async def update_arrived(self, header: UpdateHeader, caller: Caller, update: SpooledUpload) -> UpdateReceipt:
        self.heard.put_nowait(("judging", header))
        await self.gate.wait()
        chunks = [chunk if self.keep_bytes else b"" async for chunk in update.chunks()]
        self.updates.append(b"".join(chunks))
        await update.discard()
        self.heard.put_nowait(("arrived", header))
        return UpdateReceipt(accepted=True)


@contextlib.asynccontextmanager
async def serving(
    *services: Service,
    authenticator: Authenticator | None = None,
    certificate: ServerCertificate = CERTIFICATE,
    **limits: Any,
) -> AsyncIterator[str]:
    """Run a server; yields its address."""
    server: Server = await serve("127.0.0.1:0", services, certificate, authenticator or Bearers(), **limits)
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        await server.stop(0.5)


@contextlib.asynccontextmanager
async def reducer(
    calls: RecordingReducer, spool: Spool | None = None, objects: MemoryObjects | None = None, heartbeat_s: float = 5.0
) -> AsyncIterator[str]:
    """Run a reducer's server, with objects where a spool is given."""
    services: list[Service] = [ReducerService(calls, heartbeat_s=heartbeat_s)]
    if spool is not None:
        store = objects or MemoryObjects()
        services.append(TransferService(store, spool, sink=StoreSink(store), roles=frozenset({"combiner"})))
    async with serving(*services) as address:
        yield address


@contextlib.asynccontextmanager
async def combiner(
    calls: RecordingCombiner,
    spool: Spool,
    objects: MemoryObjects | None = None,
    *,
    heartbeat_s: float = HEARTBEAT_S,
    stall_s: float = 60.0,
) -> AsyncIterator[str]:
    """Run a combiner's server."""
    places = TransferPlaces()
    service = CombinerService(calls, spool, heartbeat_s=heartbeat_s, places=places, stall_s=stall_s)
    transfer = TransferService(
        objects or MemoryObjects(),
        spool,
        sink=None,
        roles=frozenset({"client"}),
        status=service.held,
        places=places,
        stall_s=stall_s,
    )
    async with serving(service, transfer) as address:
        yield address


async def a_spool(
    folder: Path,
    *,
    memory_bytes: int = 1 << 20,
    disk_bytes: int = 1 << 28,
    most_uploads: int = 16,
    idle_s: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
    **limits: Any,
) -> Spool:
    return await open_spool(
        folder,
        memory_bytes=memory_bytes,
        disk_bytes=disk_bytes,
        most_uploads=most_uploads,
        idle_s=idle_s,
        clock=clock,
        **limits,
    )


def connected(address: str, bearer: str = f"client:{ANNA}", authority: Authority = AUTHORITY) -> Channel:
    return secure_channel(address, authority.certificate_pem, bearer)


A_CLIENT = ClientHello(ANNA, ClientName("anna"), "0.1.0")
A_COMBINER = CombinerHello(EAST, LIFE, "127.0.0.1:12080", 100, "0.1.0")


class CuttingProxy:
    """Passes bytes on to a server and cuts connections: each of ``cuts`` is how many bytes one may carry.

    After the last of them connections last. ``upward`` counts what clients sent, else what they received.
    """

    def __init__(self, target: str, cuts: list[int], *, upward: bool) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._cuts = list(cuts)
        self._upward = upward
        self._tasks: set[asyncio.Task[None]] = set()
        self.cut = 0

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut_all(self) -> None:
        """Cut the connections that there are now."""
        for task in self._tasks:
            task.cancel()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        allowance = self._cuts.pop(0) if self._cuts else None
        passing: list[asyncio.Future[None]] = []
        writers = [writer]
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
            writers.append(there_writer)
            up = self._pass(reader, there_writer, allowance if self._upward else None)
            down = self._pass(there_reader, writer, None if self._upward else allowance)
            passing += [asyncio.ensure_future(up), asyncio.ensure_future(down)]
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in passing:
                one.cancel()
            await asyncio.gather(*passing, return_exceptions=True)
            for one_writer in writers:
                one_writer.transport.abort()
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, allowance: int | None) -> None:
        passed = 0
        while data := await reader.read(1 << 16):
            passed += len(data)
            if allowance is not None and passed > allowance:
                self.cut += 1
                return
            writer.write(data)
            await writer.drain()
