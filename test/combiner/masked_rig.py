"""A combiner's masked cell on real gRPC, with clients that do by script what clients do, and real cryptography."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import masked_world as world
import numpy as np
from combiner_rig import QUICK, WITHIN_S, AttachedClient, Rig, a_combiner, a_model, digest_of
from masked_world import AClient, AnUpload
from nacl.signing import SigningKey

from fedn_py.combiner.masking_trust import MaskingTrust
from fedn_py.identity import ClientId, ClientName, Digest, Generation, SessionId
from fedn_py.protocol.masked.boxes import BadBox, open_box
from fedn_py.protocol.masked.certificates import Policy, ServerCredential
from fedn_py.protocol.masked.committee import Committee, check_committee
from fedn_py.protocol.masked.contexts import CellTerms, cell_terms
from fedn_py.protocol.masked.lottery import slots_drawn
from fedn_py.protocol.masked.round_messages import BoxAck, CellClosed, CommitteeBody, IncludedRow, Plan, Refused
from fedn_py.protocol.masked.signing import Signed, read_signed, sign
from fedn_py.protocol.masked.words import Boxes, KeyOffer, MaskedTerms, MaskedUpload, StoredCommittee
from fedn_py.protocol.messages import (
    CellOrder,
    ClientHello,
    ClientWelcome,
    CommitteeFormed,
    CommitteeStored,
    MaskedPartial,
    PolicyNews,
    RoundPlan,
    SaidByClient,
    SaidToClient,
    TaskFailed,
    TrainTask,
    UpdateHeader,
    UpdateReceipt,
)
from fedn_py.transport.combiner_link import CombinerLink
from fedn_py.transport.transfer import upload_update

Word = TypeVar("Word")

ANNA, BERT, CARL, DORA, EMIL, FRED, GINA, HANS = world.CLIENTS
N_PARAMETERS = 20
MODEL = a_model(N_PARAMETERS)
PACKAGE = b"a package"
SESSION = SessionId(world.SESSION.hex())


def id_of(client: AClient) -> ClientId:
    return ClientId(client.id.hex())


def a_trust() -> MaskingTrust:
    """What the combiner believes and signs with."""
    certificate = world.a_certificate(world.COMBINER, role="combiner")
    credential = ServerCredential(
        bytes(world.OPERATOR.verify_key), world.DEPLOYMENT, certificate, bytes(world.COMBINER)
    )
    return MaskingTrust(credential, lambda: world.NOW_S)


@dataclass
class MaskedRound:
    """One masked cell as its reducer orders it."""

    clients: Sequence[AClient]
    generation: int = 1
    wanted: int | None = None
    update_timeout_s: float = 60.0
    plan: dict[str, Any] = field(default_factory=dict)
    cell: dict[str, Any] = field(default_factory=dict)
    policy: Policy | None = world.POLICY
    plan_key: SigningKey = world.REDUCER
    order_key: SigningKey = world.REDUCER
    certificate: Signed = field(default_factory=world.a_certificate)

    @property
    def signed_terms(self) -> MaskedTerms:
        plan = world.a_plan(
            **{
                "base_sha256": bytes.fromhex(digest_of(MODEL)),
                "package_sha256": bytes.fromhex(digest_of(PACKAGE)),
                "n_parameters": N_PARAMETERS,
                **self.plan,
            }
        )
        order = world.an_order(plan, **{"generation": self.generation, **self.cell})
        return MaskedTerms(self.certificate, sign(plan, self.plan_key), sign(order, self.order_key))

    @property
    def terms(self) -> CellTerms:
        """What the signed terms say; of those whose order is for another plan, nothing."""
        signed = self.signed_terms
        return cell_terms(world.DEPLOYMENT, signed.plan.body, signed.order.body)

    def committee_of(self, body: CommitteeBody) -> Committee:
        """Return a committee as whoever relies on it checks it."""
        terms = self.terms
        return check_committee(
            body, terms.ctx0, terms.order, terms.plan.beacon, world.chains(), standing=world.STANDING
        )

    @property
    def order(self) -> CellOrder:
        plan = Plan.decode(self.signed_terms.plan.body)
        unsigned = RoundPlan(
            SESSION,
            1,
            plan.round,
            plan.attempt,
            digest_of(MODEL),
            digest_of(PACKAGE),
            "{}",
            "pet",
            self.update_timeout_s,
        )
        clients = tuple(id_of(client) for client in self.clients)
        wanted = len(clients) if self.wanted is None else self.wanted
        return CellOrder(unsigned, Generation(self.generation), clients, wanted, self.signed_terms)


@dataclass
class Scripted:
    """One client at its stream, and what it does there unless the test has it do otherwise."""

    client: AClient
    round: MaskedRound
    attached: AttachedClient
    committee: Committee | None = None
    boxes_seen: list[IncludedRow] = field(default_factory=list)
    refuses: frozenset[bytes] = frozenset()
    silent: bool = False

    async def task(self) -> TrainTask:
        return await self.attached.next(TrainTask)

    def say(self, word: Any) -> None:
        self.attached.link.send(SaidByClient(word))

    def fail(self, reason: str) -> None:
        self.attached.link.send(TaskFailed(Generation(self.round.generation), reason))

    def offer(self, **changed: Any) -> KeyOffer:
        """The keys for all slots that the lottery drew this client for."""
        terms = self.round.terms
        slots = slots_drawn(terms.plan.beacon, terms.order.k, self.client.registered, terms.order.n_draw)
        keys = tuple(sign(world.a_key_message(terms, self.client, slot), self.client.key) for slot in slots)
        return replace(KeyOffer(terms.ctx0, self.client.chain, keys), **changed)

    async def hears_committee(self) -> Committee:
        self.committee = self.round.committee_of(await self.hears(CommitteeBody))
        return self.committee

    async def hears(self, kind: type[Word]) -> Word:
        while True:
            word = (await self.attached.next(SaidToClient)).word
            if isinstance(word, kind):
                return word

    async def looks_at_boxes(self) -> None:
        """Look at boxes as a member does, for ever."""
        async for message in self.attached.messages:
            if isinstance(message, SaidToClient) and isinstance(message.word, Boxes):
                self._look_at(message.word)

    def _look_at(self, boxes: Boxes) -> None:
        committee = self.committee
        assert committee is not None
        assert boxes.ctx == committee.ctx
        seat = committee.member(self.client.id)
        assert seat is not None
        for box in boxes.boxes:
            try:
                opened = open_box(
                    box,
                    seat,
                    self.client.esk,
                    committee=committee,
                    n_words=self.round.terms.encoding.n_words,
                    chains=world.chains(),
                )
            except BadBox as bad:
                self._ack((), (Refused(bad.client_id, bad.reason),))
                continue
            row = IncludedRow(opened.verified.client.client_id, opened.verified.hash)
            self.boxes_seen.append(row)
            if row.client_id in self.refuses:
                self._ack((), (Refused(row.client_id, "a test"),))
            elif not self.silent:
                self._ack((row,), ())

    def acknowledges(self, *accepted: IncludedRow) -> None:
        """Say that these boxes are right, whoever's they are."""
        self._ack(accepted, ())

    def _ack(self, accepted: tuple[IncludedRow, ...], rejected: tuple[Refused, ...]) -> None:
        assert self.committee is not None
        self.say(sign(BoxAck(self.committee.ctx, accepted, rejected), self.client.key))

    def upload(self, number: int = 0) -> AnUpload:
        assert self.committee is not None
        return world.an_upload(self.round.terms, self.committee, self.client, number)

    def header(self, upload: AnUpload, **changed: Any) -> UpdateHeader:
        """What is said of a masked update."""
        content = upload.vector.tobytes()
        header = UpdateHeader(
            Generation(self.round.generation),
            upload.verified.header.upload_id.hex(),
            len(content),
            digest_of(content),
            0,
            {},
            "none",
            MaskedUpload(self.client.chain, upload.header, upload.sealed.boxes),
        )
        return replace(header, **changed)

    async def sends(self, upload: AnUpload, content: bytes | None = None, **changed: Any) -> UpdateReceipt:
        """Upload a masked update, or other bytes under its header."""
        content = upload.vector.tobytes() if content is None else content
        said = {"size": len(content), "sha256": digest_of(content), **changed}
        return await upload_update(self.attached.channel, self.header(upload, **said), content, patience=QUICK)


@dataclass
class MaskedRig:
    """A combiner and the clients of one masked cell."""

    rig: Rig
    round: MaskedRound
    clients: dict[str, Scripted] = field(default_factory=dict)
    looking: list[asyncio.Task[None]] = field(default_factory=list)

    def __getitem__(self, client: AClient) -> Scripted:
        return self.clients[client.name]

    async def order(self) -> None:
        await self.rig.stored(MODEL, PACKAGE)
        self.rig.calls.reducer_said(self.round.order)

    async def form(self) -> Committee:
        """Have everybody offer keys, and hear the committee."""
        for one in self.clients.values():
            await one.task()
            one.say(one.offer())
        await self.store_committee()
        committees = [await one.hears_committee() for one in self.clients.values()]
        return committees[0]

    async def store_committee(self) -> None:
        """Have the reducer store the committee that it hears of next, and say so."""
        formed = await self.rig.reducer.next(CommitteeFormed)
        ctx = self.round.committee_of(formed.committee).ctx
        self.rig.calls.reducer_said(CommitteeStored(StoredCommittee(ctx)))

    def look(self, *members: AClient) -> None:
        """Have members look at boxes from now on; all of them unless named."""
        committee = next(iter(self.clients.values())).committee
        assert committee is not None
        for member in members or world.members_of(committee):
            self.looking.append(asyncio.create_task(self[member].looks_at_boxes()))

    async def partial(self) -> MaskedPartial:
        return await self.rig.reducer.next(MaskedPartial)

    def closed(self, partial: MaskedPartial) -> CellClosed:
        assert partial.closed is not None
        return read_signed(partial.closed, CellClosed, signer=bytes(world.COMBINER.verify_key))

    def stored_sum(self, closed: CellClosed) -> np.ndarray:
        content = self.rig.store.contents[Digest(closed.partial_sha256.hex())]
        assert hashlib.sha256(content).digest() == closed.partial_sha256
        return np.frombuffer(content, "<u4")


@contextlib.asynccontextmanager
async def masked_attached(
    rig: Rig, client: AClient, *, policy: bool = True, **hello: Any
) -> AsyncIterator[AttachedClient]:
    """Attach as a registered client; gives its stream from the policy on, where there is one."""
    said = replace(ClientHello(id_of(client), ClientName(client.name), "0.1.0", client.chain), **hello)
    async with rig.channel(id_of(client)) as channel, CombinerLink(channel, said) as link:
        messages = link.messages()
        assert isinstance(await anext(messages), ClientWelcome)
        if policy:
            assert isinstance(await anext(messages), PolicyNews)
        yield AttachedClient(channel, link, messages)


@contextlib.asynccontextmanager
async def a_masked_cell(
    folder: Path, *clients: AClient, order: bool = True, options: dict[str, Any] | None = None, **changed: Any
) -> AsyncIterator[MaskedRig]:
    """Run a combiner with a masked cell whose clients are attached."""
    the_round = MaskedRound(clients, **changed)
    given = {"grace_s": 30.0, "trust": a_trust(), **(options or {})}
    async with asyncio.timeout(3 * WITHIN_S), a_combiner(folder, **given) as rig, contextlib.AsyncExitStack() as stack:
        if the_round.policy is not None:
            rig.calls.reducer_said(PolicyNews(sign(the_round.policy, world.OPERATOR)))
        masked = MaskedRig(rig, the_round)
        for client in clients:
            attached = await stack.enter_async_context(
                masked_attached(rig, client, policy=the_round.policy is not None)
            )
            masked.clients[client.name] = Scripted(client, the_round, attached)
        if order:
            await masked.order()
        try:
            yield masked
        finally:
            for task in masked.looking:
                task.cancel()
            ended = await asyncio.gather(*masked.looking, return_exceptions=True)
            for fault in ended:
                assert fault is None or isinstance(fault, asyncio.CancelledError), fault
