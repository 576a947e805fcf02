"""A whole client from its settings, between real servers of a reducer and combiners that can go away and come back."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from builders import a_plan
from grpc_network import (
    AUTHORITY,
    CERTIFICATE,
    Bearers,
    MemoryObjects,
    RecordingCombiner,
    RecordingReducer,
    a_spool,
    digest_of,
)
from masked_world import DEPLOYMENT, EPOCH_SEED, OPERATOR, bytes_of
from safetensors.numpy import load, load_file, save, save_file

from fedn_py.client.assemble import run_client
from fedn_py.client.ports import Fetch, Learned, Learner, LearningTask
from fedn_py.errors import FednError
from fedn_py.identity import ClientId, CombinerName, Generation, SessionId
from fedn_py.protocol.masked.certificates import JoinCredential, OperatorSecret
from fedn_py.protocol.masked.issuing import issue_token
from fedn_py.protocol.messages import (
    Assignment,
    AssignRequest,
    ClientHello,
    RoundPlan,
    ToClient,
    TrainTask,
    UpdateHeader,
    ValidateTask,
    ValidationOrder,
)
from fedn_py.runtime.credential_files import TokenFile, write_token_file
from fedn_py.settings.roles import ClientSettings
from fedn_py.transport.authentication import Caller
from fedn_py.transport.channels import Server, serve
from fedn_py.transport.combiner_server import CombinerService
from fedn_py.transport.reducer_server import ReducerService
from fedn_py.transport.spool import Spool
from fedn_py.transport.transfer_server import StoreSink, TransferPlaces, TransferService

WITHIN_S = 30.0
SESSION = SessionId("5e55" * 4)
NOBODY = ClientId("00" * 32)
MODEL = save({"w": np.zeros(6, np.float32), "steps": np.array([3], np.int64)})
PACKAGE = b"a package"

Found = TypeVar("Found")


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def a_join(site: str = "a site", operator: bytes = bytes(OPERATOR), **changed: Any) -> JoinCredential:
    """A join credential of ``masked_world``'s operator, for one client."""
    secret = OperatorSecret(operator, changed.pop("deployment", DEPLOYMENT), EPOCH_SEED)
    plain = {"token_secret": bytes_of(f"join {site}"), "token_id": bytes_of(f"join {site}", 16), "uses": 1}
    return issue_token(secret, site=site, not_after=2_000_000_000, **{**plain, **changed})  # type: ignore[arg-type]


class AssigningReducer(RecordingReducer):
    """Sends every client to one combiner, with a ticket that says who it is."""

    def __init__(self) -> None:
        super().__init__()
        self.address = ""
        self.requests = 0

    async def assign(self, request: AssignRequest, caller: Caller) -> Assignment:
        self.requests += 1
        self.heard.put_nowait(("assign", (request, caller)))
        if self.refusal is not None:
            raise self.refusal
        ticket = f"client:{request.client}"
        return Assignment(CombinerName("east"), self.address, AUTHORITY.certificate_pem, ticket, 600.0)


@dataclass
class ReducerServer:
    """A reducer's door."""

    calls: AssigningReducer = field(default_factory=AssigningReducer)
    port: int = field(default_factory=a_free_port)
    _server: Server | None = None

    async def open(self) -> None:
        self._server = await serve(
            f"127.0.0.1:{self.port}", [ReducerService(self.calls, heartbeat_s=5.0)], CERTIFICATE, Bearers()
        )

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop(0.0)
            self._server = None


@dataclass
class CombinerServer:
    """A combiner's door: it gives out objects, takes updates, and remembers what it heard."""

    folder: Path
    calls: RecordingCombiner = field(default_factory=lambda: RecordingCombiner(heartbeat_s=2.0))
    objects: MemoryObjects = field(default_factory=lambda: MemoryObjects(MODEL, PACKAGE))
    port: int = field(default_factory=a_free_port)
    headers: list[UpdateHeader] = field(default_factory=list)
    said: list[object] = field(default_factory=list)
    client: ClientId | None = None
    _server: Server | None = None
    _spool: Spool | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def open(self) -> None:
        self._spool = await a_spool(self.folder / f"spool-{self.port}", memory_bytes=1 << 28)
        places = TransferPlaces()
        clients = CombinerService(self.calls, self._spool, heartbeat_s=2.0, places=places)
        objects = TransferService(
            self.objects,
            self._spool,
            sink=StoreSink(self.objects),
            roles=frozenset({"client"}),
            status=clients.held,
            places=places,
        )
        self._server = await serve(self.address, [clients, objects], CERTIFICATE, Bearers())

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop(0.0)
            self._server = None

    async def die(self) -> None:
        """Go away as one that was killed: without a word to its clients."""
        assert self._server is not None
        assert self._server._services
        self._server._services = ()
        await self.close()

    def send(self, message: ToClient) -> None:
        self.calls.outboxes[-1].send(message)

    def train(self, generation: int, **changes: Any) -> RoundPlan:
        """Ask the client to train."""
        base, package = digest_of(MODEL), digest_of(PACKAGE)
        plain: dict[str, Any] = {"session": SESSION, "base_model": base, "package": package}
        plan = a_plan(**{**plain, **changes})
        self.send(TrainTask(plan, Generation(generation)))
        return plan

    def validate(self, generation: int, **changes: Any) -> None:
        """Ask the client to validate."""
        order = ValidationOrder(
            Generation(generation),
            SESSION,
            1,
            digest_of(MODEL),
            digest_of(PACKAGE),
            "{}",
            30.0,
            (self.client or NOBODY,),
        )
        self.send(ValidateTask(replace(order, **changes)))

    async def heard(self, *kinds: str) -> Any:
        """Wait for "attached", "left", "said", "offered", "arrived"."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                kind, content = await self.calls.heard.get()
                if isinstance(content, ClientHello):
                    self.client = content.client
                if kind == "offered":
                    self.headers.append(content)  # type: ignore[arg-type]
                if kind == "said":
                    self.said.append(content)
                if kind in kinds:
                    return content

    async def told(self, kind: type[Found]) -> Found:
        """Wait for the client to say something of a kind."""
        while True:
            message = await self.heard("said")
            if isinstance(message, kind):
                return message


class AddingLearner:
    """Learns by adding 1 to every parameter; can be held back, and can fail."""

    def __init__(self) -> None:
        self.trained: list[LearningTask] = []
        self.validated: list[LearningTask] = []
        self.bases: list[float] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()
        self.fault: FednError | None = None
        self.metrics: Mapping[str, float] = {"secret-loss": 0.25}
        self.closed = False

    async def train(self, base: Path, out_model: Path, task: LearningTask, fetch: Fetch) -> Learned:
        self.trained.append(task)
        self.begun.set()
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        model = load_file(base)
        self.bases.append(float(model["w"][0]))
        model["w"] = model["w"] + np.float32(1)
        save_file(model, out_model)
        return Learned(10, self.metrics)

    async def validate(self, model: Path, task: LearningTask, fetch: Fetch) -> Learned:
        self.validated.append(task)
        self.begun.set()
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return Learned(10, self.metrics)

    async def close(self) -> None:
        self.closed = True


def client_settings(folder: Path, reducer_port: int, **changes: Any) -> ClientSettings:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "authority.pem").write_bytes(AUTHORITY.certificate_pem)
    (folder / "token").write_text("client:anna\n")
    plain = {
        "name": "anna",
        "reducer": f"127.0.0.1:{reducer_port}",
        "authority_file": str(folder / "authority.pem"),
        "token_file": str(folder / "token"),
        "state_dir": str(folder / "state"),
    }
    return ClientSettings(**{**plain, **changes})  # type: ignore[arg-type]  # checked by the model itself


@dataclass
class Network:
    """What a client is between."""

    reducer: ReducerServer
    combiner: CombinerServer
    settings: ClientSettings
    learner: Any


@contextlib.asynccontextmanager
async def running_client(settings: ClientSettings, learner: Learner | None) -> AsyncIterator[None]:
    """Run a client beside a test."""
    stop = asyncio.Event()
    task = asyncio.create_task(run_client(settings, stop, learner))
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        stop.set()
        await task


def story(
    folder: Path,
    told: Callable[[Network], Coroutine[Any, Any, None]],
    *,
    learner: Callable[[], Learner | None] = AddingLearner,
    objects: MemoryObjects | None = None,
    join: JoinCredential | None = None,
    after: Callable[[Network], Coroutine[Any, Any, None]] | None = None,
    **changes: Any,
) -> None:
    """Run a client in a network of one reducer and one combiner, and tell what happens to it.

    Args:
        join: makes it a client of masked rounds.
        after: what there is to tell when it was stopped.
    """

    async def main() -> None:
        reducer, combiner = ReducerServer(), CombinerServer(folder)
        if objects is not None:
            combiner.objects = objects
        reducer.calls.address = combiner.address
        await reducer.open()
        await combiner.open()
        try:
            settings = client_settings(folder / "anna", reducer.port, **changes)
            if join is not None:
                write_token_file(settings.token_file, TokenFile("client:anna", join), replace=True)
            learning = learner()
            network = Network(reducer, combiner, settings, learning)
            async with asyncio.timeout(100):
                async with running_client(settings, learning):
                    await told(network)
                if after is not None:
                    await after(network)
        finally:
            await combiner.close()
            await reducer.close()

    asyncio.run(main())


def values_of(update: bytes) -> list[float]:
    return list(np.frombuffer(update, "<f4"))


def model_of(content: bytes) -> dict[str, Any]:
    return dict(load(content))
