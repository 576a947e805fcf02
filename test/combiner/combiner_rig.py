"""A combiner's parts at work on real gRPC and real files: its objects in memory, its reducer a list."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from builders import a_plan
from grpc_network import a_spool, connected, serving
from safetensors.numpy import save

from fedn_py.combiner.answer_streams import AnswerStreams
from fedn_py.combiner.arrivals import Arrivals
from fedn_py.combiner.calls import Calls
from fedn_py.combiner.cells import Cells
from fedn_py.combiner.masked_cells import MaskedCells
from fedn_py.combiner.masking_trust import MaskingTrust
from fedn_py.combiner.reducer_stream import ReducerVoice
from fedn_py.combiner.shelf import Shelf
from fedn_py.combiner.upstream import StoreUpstream
from fedn_py.combiner.words import Words
from fedn_py.identity import ClientId, ClientName, CombinerName, Digest, Generation, SessionId
from fedn_py.protocol.combiner import step
from fedn_py.protocol.combiner_work import Combiner
from fedn_py.protocol.messages import (
    CellOrder,
    ClientHello,
    ClientWelcome,
    ExpectClient,
    FromCombiner,
    PartialAggregate,
    RoundPlan,
    RoundProgress,
    ToClient,
    UpdateHeader,
    UpdateReceipt,
    ValidationOrder,
)
from fedn_py.runtime.mailbox import Mailbox
from fedn_py.store.memory import MemoryObjects
from fedn_py.store.ports import ObjectStat
from fedn_py.transport.channels import Channel
from fedn_py.transport.combiner_link import CombinerLink
from fedn_py.transport.combiner_server import CombinerService
from fedn_py.transport.spool import Spool
from fedn_py.transport.tickets import Tickets, new_ticket
from fedn_py.transport.transfer import Patience, upload_update
from fedn_py.transport.transfer_server import TransferPlaces, TransferService

ANNA, BERT, CARL = (ClientId(text * 32) for text in ("a1", "be", "ca"))
SESSION = SessionId("5e55" * 4)
WITHIN_S = 20.0
QUICK = Patience(attempts=5, base_s=0.01, cap_s=0.05)

Message = TypeVar("Message")


def a_model(n_parameters: int = 6) -> bytes:
    """Return a model of float32 parameters and a counter."""
    return save({"w": np.zeros(n_parameters, np.float32), "steps": np.array([3], np.int64)})


def an_update(*values: float) -> bytes:
    """Return an update's bytes."""
    return np.array(values, "<f4").tobytes()


def digest_of(content: bytes) -> Digest:
    return Digest(hashlib.sha256(content).hexdigest())


def a_header(update: bytes, *, generation: int = 1, samples: int = 10, **changes: Any) -> UpdateHeader:
    """Return what is said of an update; its upload is named after its bytes unless given another name."""
    digest = digest_of(update)
    header = UpdateHeader(Generation(generation), digest[:16], len(update), digest, samples, {"loss": 0.5}, "client")
    return replace(header, **changes)


@dataclass
class HeardByReducer:
    """The reducer's end of the combiner's stream."""

    messages: list[FromCombiner] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, message: FromCombiner) -> None:
        self.messages.append(message)
        self.news.set()

    async def next(self, kind: type[Message], after: int = 0) -> Message:
        """Wait for a message of a kind, the first from a position on."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                for message in self.messages[after:]:
                    if isinstance(message, kind):
                        return message
                self.news.clear()
                await self.news.wait()


class AwayObjects(MemoryObjects):
    """Objects in a store that takes none from when it is away on."""

    def __init__(self) -> None:
        super().__init__()
        self.away, self.asked = False, asyncio.Event()

    async def put(self, chunks: AsyncIterator[bytes], *, expected: Digest | None = None) -> ObjectStat:
        if self.away:
            self.asked.set()
            await asyncio.Event().wait()
        return await super().put(chunks, expected=expected)


@dataclass
class Rig:
    """A combiner at work."""

    address: str
    calls: Calls
    cells: Cells
    spool: Spool
    shelf: Shelf
    voice: ReducerVoice
    mailbox: Mailbox[Any, Any, Any]
    store: MemoryObjects
    reducer: HeardByReducer
    folder: Path

    async def stored(self, *contents: bytes) -> tuple[Digest, ...]:
        for content in contents:
            await self.store.put(one_piece(content))
        return tuple(digest_of(content) for content in contents)

    async def plan(self, model: bytes | None = None, **changes: Any) -> RoundPlan:
        base, package = await self.stored(model or a_model(), b"a package")
        return a_plan(session=SESSION, base_model=base, package=package, **changes)

    async def order(self, *clients: ClientId, generation: int = 1, **changes: Any) -> RoundPlan:
        """Order a cell and return its plan."""
        plan = await self.plan(**changes)
        self.calls.reducer_said(CellOrder(plan, Generation(generation), clients, len(clients)))
        return plan

    async def order_validation(self, *clients: ClientId, generation: int = 1) -> None:
        model, package = await self.stored(a_model(), b"a package")
        order = ValidationOrder(Generation(generation), SESSION, 1, model, package, "{}", 30.0, clients)
        self.calls.reducer_said(order)

    async def collecting(self, generation: int = 1) -> None:
        """Wait until updates of a generation can be taken."""
        async with asyncio.timeout(WITHIN_S):
            await self.mailbox.until(
                lambda state: (
                    type(state.work).__name__ in {"Collecting", "Validating"}
                    and state.work.order.generation == generation
                )
            )

    async def partial(self, generation: int = 1) -> PartialAggregate:
        """Wait for the report of a generation."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                reports = [m for m in self.reducer.messages if isinstance(m, PartialAggregate)]
                for report in reports:
                    if report.generation == generation:
                        return report
                self.reducer.news.clear()
                await self.reducer.news.wait()

    def sum_of(self, partial: PartialAggregate) -> list[float]:
        assert partial.sum_object is not None
        return list(np.frombuffer(self.store.contents[partial.sum_object], "<f8"))

    @contextlib.asynccontextmanager
    async def channel(self, client: ClientId) -> AsyncIterator[Channel]:
        """Connect as a client that the reducer has assigned here."""
        ticket, sha256 = new_ticket()
        self.calls.reducer_said(ExpectClient(client, ClientName(client[:4]), sha256, 600.0))
        async with connected(self.address, ticket) as channel:
            yield channel

    @contextlib.asynccontextmanager
    async def attached(self, client: ClientId) -> AsyncIterator["AttachedClient"]:
        """Attach as a client."""
        hello = ClientHello(client, ClientName(client[:4]), "0.1.0")
        async with self.channel(client) as channel, CombinerLink(channel, hello) as link:
            messages = link.messages()
            assert isinstance(await anext(messages), ClientWelcome)
            yield AttachedClient(channel, link, messages)

    async def upload(self, client: ClientId, update: bytes, **changes: Any) -> UpdateReceipt:
        """Upload an update as a client and return the answer."""
        async with self.channel(client) as channel:
            return await upload_update(channel, a_header(update, **changes), update, patience=QUICK)


@dataclass
class AttachedClient:
    """A client's end of its stream."""

    channel: Channel
    link: CombinerLink
    messages: AsyncIterator[ToClient]

    async def next(self, kind: type[Message]) -> Message:
        """Wait for a message of a kind."""
        async with asyncio.timeout(WITHIN_S):
            async for message in self.messages:
                if isinstance(message, kind):
                    return message
        raise AssertionError(f"the stream ended without a {kind.__name__}")


async def until(reached: Callable[[], bool]) -> None:
    """Wait for what has no event of its own: files, and counts of bytes."""
    async with asyncio.timeout(WITHIN_S):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def one_piece(content: bytes) -> AsyncIterator[bytes]:
    yield content


@contextlib.asynccontextmanager
async def a_combiner(
    folder: Path,
    *,
    grace_s: float = 0.0,
    acks_s: float = 10.0,
    max_clients: int = 100,
    memory_bytes: int = 1 << 20,
    store: Any = None,
    trust: MaskingTrust | None = None,
) -> AsyncIterator[Rig]:
    """Run a combiner's parts, joined to a reducer that listens."""
    store = store or MemoryObjects()
    upstream = StoreUpstream(store)
    tickets, voice, reducer = Tickets(asyncio.get_running_loop().time), ReducerVoice(), HeardByReducer()
    spool = await a_spool(folder / "spool", memory_bytes=memory_bytes, most_uploads=max_clients)
    calls = Calls(CombinerName("east"), tickets, voice, spool, max_clients=max_clients, heartbeat_s=5.0, trust=trust)
    (folder / "objects").mkdir(parents=True)
    shelf = Shelf(upstream, folder / "objects")
    arrivals, streams = Arrivals(), AnswerStreams(upstream)
    masked = MaskedCells(shelf, upstream, voice, calls.send, arrivals=arrivals, streams=streams, trust=trust)
    cells = Cells(shelf, upstream, voice, calls.send, arrivals=arrivals, masked=masked)
    words = Words(voice, calls.send, streams, asyncio.get_running_loop().time)
    mailbox: Mailbox[Any, Any, Any] = Mailbox("combiner", Combiner(grace_s, acks_s=acks_s), step, cells.perform)
    cells.attach(mailbox)
    calls.attach(cells, masked, words, mailbox)
    voice.connected(reducer)  # type: ignore[arg-type]  # the one method of a link that it uses
    places = TransferPlaces()
    clients = CombinerService(calls, spool, heartbeat_s=5.0, places=places)
    objects = TransferService(
        shelf,
        spool,
        sink=None if trust is None else streams,
        roles=frozenset({"client"}),
        status=clients.held,
        places=places,
        admit=streams.admit,
    )
    running = asyncio.create_task(mailbox.run())
    try:
        async with serving(clients, objects, authenticator=tickets) as address:
            yield Rig(address, calls, cells, spool, shelf, voice, mailbox, store, reducer, folder)
            if running.done():
                running.result()  # a fault of the machine is this test's fault
    finally:
        mailbox.close()
        await asyncio.gather(running, return_exceptions=True)
        await spool.close()


def progress_of(messages: list[FromCombiner]) -> list[RoundProgress]:
    return [message for message in messages if isinstance(message, RoundProgress)]
