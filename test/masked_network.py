"""Combiners and clients of masked rounds, played by the test with real keys: they seal, mask, add, answer and abort."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import masked_world as world
import numpy as np
from artifacts import chunked
from masked_world import COMBINER, AClient, AnUpload
from reducer_network import NORTH, NORTH_1, Network, PlayedCombiner, Stored

from fedn_py.identity import ClientId, ClientName, Digest, TokenId
from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import CellTerms, cell_terms
from fedn_py.protocol.masked.differencing import Proofs
from fedn_py.protocol.masked.opening_work import Attempt
from fedn_py.protocol.masked.registry import verify_server
from fedn_py.protocol.masked.round_messages import (
    Abort,
    Answer,
    CellClosed,
    CommitteeBody,
    Included,
    NotOpened,
    OpenSum2,
    Plan,
)
from fedn_py.protocol.masked.signing import Signed, read_signed, sign
from fedn_py.protocol.masked.words import AbortWanted, MaskedTerms, StreamSent, StreamWanted, WordFromClient
from fedn_py.protocol.messages import (
    AssignRequest,
    AttachedClients,
    CellOrder,
    CombinerHello,
    CommitteeFormed,
    MaskedPartial,
    MetricsSummary,
    ToCombiner,
    WordForClients,
    WordPassedOn,
)
from fedn_py.reducer.masked_documents import attempt_of
from fedn_py.reducer.records import RoundRecord
from fedn_py.transport.authentication import Caller
from fedn_py.transport.streams import Outbox


def client_id(client: AClient) -> ClientId:
    return ClientId(client.id.hex())


@dataclass
class PlayedCell:
    """What a combiner and its clients know of one order."""

    order: CellOrder
    terms: CellTerms
    committee: Committee
    body: CommitteeBody
    uploads: list[AnUpload]
    streams: dict[bytes, bytes] = field(default_factory=dict)
    answers: dict[bytes, Signed] = field(default_factory=dict)


@dataclass
class MaskedCombiner(PlayedCombiner):
    """A combiner with real clients.

    Attributes:
        clients: that are attached.
        key: that the operator certified.
        closes: whether it closes its cell; otherwise that waits for ``close``.
        mute: clients that neither answer nor send streams.
        said: every word that clients were told.
    """

    clients: Sequence[AClient] = world.CLIENTS[:5]
    key: Any = COMBINER
    closes: bool = True
    mute: set[str] = field(default_factory=set)
    aborts: bool = True
    cells: dict[bytes, PlayedCell] = field(default_factory=dict)
    said: list[tuple[tuple[ClientId, ...], Any]] = field(default_factory=list)

    async def join(self) -> None:
        self.outbox: Outbox[ToCombiner] = Outbox(self.name)
        certificate = world.a_certificate(self.key, role="combiner")
        hello = CombinerHello(self.name, self.instance, f"{self.name}:12080", 100, "0.1.0", certificate)
        caller = Caller("combiner", self.name, TokenId("c0" * 8))
        await self.network.calls.combiner_joined(hello, caller, self.outbox)
        await self.assign(*self.clients)
        await self.attach(*(client_id(client) for client in self.clients))
        self._listening = asyncio.create_task(self._listen())
        self.network.tasks.append(self._listening)

    async def assign(self, *clients: AClient) -> None:
        for client in clients:
            request = AssignRequest(client_id(client), ClientName(client.name), self.name, "0.1.0", client.chain)
            await self.network.calls.assign(request, Caller("client", client.name, TokenId("c1" * 8)))

    async def attach(self, *clients: ClientId) -> None:
        await self.say(AttachedClients(clients))

    async def _listen(self) -> None:
        while (message := await self.outbox.next()) is not None:
            self.heard.append(message)
            if isinstance(message, CellOrder):
                self.orders.append(message)
                if not self.silent:
                    await self.begin(message)
            elif isinstance(message, WordForClients):
                self.said.append((message.clients, message.word))
                await self.tell(message)

    # ---- a cell

    async def begin(self, order: CellOrder) -> None:
        """Form the committee, take everybody's update, and close."""
        cell = self.form(order)
        await self.say(CommitteeFormed(order.generation, cell.body))
        if self.closes:
            await self.say(await self.closed(cell))

    def form(self, order: CellOrder) -> PlayedCell:
        masked = order.masked
        assert isinstance(masked, MaskedTerms)
        policy = self.network.credentials.policy  # type: ignore[union-attr]
        reducer = verify_server(masked.certificate, world.TRUST, "reducer", policy, world.NOW_S).server_key
        for signed in (masked.plan, masked.order):
            assert signed.signer == reducer
        terms = cell_terms(world.DEPLOYMENT, masked.plan.body, masked.order.body)
        assert terms.order.combiner == bytes(self.key.verify_key)
        there = [client for client in self.clients if client_id(client) in order.clients]
        committee = world.a_committee(terms, there)
        uploads = [world.an_upload(terms, committee, client) for client in there]
        body = CommitteeBody(terms.ctx0, world.the_rows(terms, there))
        cell = PlayedCell(order, terms, committee, body, uploads)
        self.cells[committee.ctx] = cell
        return cell

    async def closed(self, cell: PlayedCell, uploads: Sequence[AnUpload] | None = None) -> MaskedPartial:
        uploads = cell.uploads if uploads is None else list(uploads)
        cell.uploads = list(uploads)
        total = np.sum([upload.vector for upload in uploads], axis=0, dtype=np.uint32)
        digest = (await self.network.stored.objects.put(chunked(total.tobytes()))).digest
        body = CellClosed(cell.committee.ctx, world.the_rows_of(uploads), bytes.fromhex(digest), ())
        generation = cell.order.generation
        return MaskedPartial(generation, sign(body, self.key), len(uploads), (), MetricsSummary())

    # ---- members

    async def tell(self, message: WordForClients) -> None:
        for client in self.clients:
            if client_id(client) in message.clients and client.name not in self.mute:
                for word in await self.reply(client, message.word):
                    await self.pass_on(client, word)

    async def pass_on(self, client: AClient, word: WordFromClient) -> None:
        await self.say(WordPassedOn(client_id(client), word))

    async def reply(self, client: AClient, word: Any) -> list[WordFromClient]:
        match word:
            case Included():
                opening = read_signed(word.opening, OpenSum2, signer=bytes(world.REDUCER.verify_key))
                return [self.answer(client, opening.ctx)]
            case StreamWanted(ctx):
                return [await self.send_stream(client, ctx)]
            case AbortWanted(ctx) if self.aborts:
                return [sign(Abort(ctx, "asked to"), client.key)]
        return []

    def answer(self, client: AClient, ctx: bytes) -> Signed:
        cell = self.cells[ctx]
        if client.id not in cell.answers:
            signed, stream = world.an_answer(cell.terms, cell.committee, client, cell.uploads)
            cell.answers[client.id], cell.streams[client.id] = signed, stream
        return cell.answers[client.id]

    async def send_stream(self, client: AClient, ctx: bytes) -> StreamSent:
        stream = self.cells[ctx].streams[client.id]
        stat = await self.network.stored.objects.put(chunked(stream))
        return StreamSent(ctx, bytes.fromhex(stat.digest), stat.size)

    def members(self) -> list[AClient]:
        """The members of the newest cell."""
        return list(world.members_of(list(self.cells.values())[-1].committee, self.clients))

    def words(self, kind: Any) -> list[Any]:
        """Every word of a kind that clients were told."""
        if isinstance(kind, str):
            return [word for _, word in self.said if isinstance(word, Signed) and word.said == kind]
        return [word for _, word in self.said if isinstance(word, kind)]


async def a_masked_combiner(network: Network, **changed: Any) -> MaskedCombiner:
    combiner = MaskedCombiner(network, **{"name": NORTH, "instance": NORTH_1, **changed})
    await combiner.join()
    return combiner


def expected_mean(clients: Sequence[AClient], n: int) -> np.ndarray:
    """The mean of what clients send: each has the same weight."""
    return np.mean([world.the_values(client, n).astype(np.float64) for client in clients], axis=0)


def nonce_of(signed: Signed) -> bytes:
    return read_signed(signed, Answer).nonce


def digest_of(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


async def the_round(stored: Stored) -> RoundRecord:
    return (await stored.rounds())[-1]


def attempts_of(record: RoundRecord) -> list[Attempt]:
    assert record.document is not None
    return [attempt_of(kept) for kept in record.document.attempts]


def released(*combiners: MaskedCombiner) -> set[bytes]:
    """Every ctx that was said never to have been opened: to clients, or in a plan."""
    said = {read_signed(word, NotOpened).ctx for one in combiners for word in one.words(NotOpened.kind)}
    for combiner in combiners:
        for order in combiner.orders:
            assert isinstance(order, CellOrder)
            assert order.masked is not None
            proofs = Proofs()
            for void in Plan.decode(order.masked.plan.body).voids:
                proofs = proofs.with_void(void, world.REDUCERS)
            said |= proofs.voids
    return said
