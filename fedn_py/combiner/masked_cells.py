"""Performs what the combiner's machine asks for masked cells, and verifies what clients bring to them.

Nothing that opens a sum is ever here: a combiner has masked vectors, boxes that it cannot open, and their sum.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from fedn_py.aggregation.metrics import check_metrics
from fedn_py.combiner.answer_streams import AnswerStreams
from fedn_py.combiner.arrivals import Arrivals
from fedn_py.combiner.box_relay import BoxRelay
from fedn_py.combiner.masked_reports import closed_cell, released
from fedn_py.combiner.masked_sum import WORD_BYTES, MaskedSum
from fedn_py.combiner.masking_trust import MaskingTrust, NoMaskingCredential
from fedn_py.combiner.ports import ReducerStream, Upstream
from fedn_py.combiner.shelf import Shelf
from fedn_py.combiner.storing import StoringSums
from fedn_py.errors import FednError, PeerFault
from fedn_py.identity import ClientId, Generation
from fedn_py.masking.hashing import plain_hash
from fedn_py.model.pieces import WrongLength
from fedn_py.protocol.combiner_work import (
    Combiner,
    Effect,
    Event,
    NotReported,
    ObjectsNotFetched,
    Reported,
    UpdateAdded,
    UpdateNotAdded,
)
from fedn_py.protocol.machine import StartTimer
from fedn_py.protocol.masked.boxes import VerifiedHeader, WrongShape, check_header
from fedn_py.protocol.masked.cell import UNMASKED
from fedn_py.protocol.masked.cell_updates import AlreadyIn, AlreadyRefused, Late, NotAssigned
from fedn_py.protocol.masked.cell_work import (
    AddVector,
    BoxesAcknowledged,
    CellEffect,
    CheckTerms,
    CollectingKeys,
    CollectingUpdates,
    DropBoxes,
    KeysOffered,
    ReportingSum,
    ReportUnclosed,
    SendBoxes,
    SendCommittee,
    StoreSum,
    TellCommittee,
    TermsChecked,
    UploadOffered,
    VectorArrived,
)
from fedn_py.protocol.masked.contexts import CellTerms, header_hash
from fedn_py.protocol.masked.offers import check_offer
from fedn_py.protocol.masked.registry import Registered
from fedn_py.protocol.masked.round_messages import IncludedRow
from fedn_py.protocol.masked.round_messages import UpdateHeader as SignedHeader
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.masked.words import KeyOffer, MaskedUpload
from fedn_py.protocol.messages import (
    MaskedPartial,
    Metrics,
    SaidToClient,
    ToClient,
    UpdateHeader,
    UpdateReceipt,
)
from fedn_py.runtime.logging import logger
from fedn_py.runtime.mailbox import Mailbox
from fedn_py.runtime.model_files import read_layout
from fedn_py.runtime.scratch import disk_faults
from fedn_py.transport.spool import SpooledUpload

_log = logger("fedn_py.combiner")


@dataclass(slots=True)
class HeldCell:
    """What is held for one masked cell.

    Attributes:
        told: metrics of clients whose site, and whose operator, let them go one by one.
        relay: once there is a committee.
    """

    terms: CellTerms
    total: MaskedSum
    told: dict[ClientId, Metrics] = field(default_factory=dict)
    relay: BoxRelay | None = None


class MaskedCells:
    """The shell around the machine's masked states.

    Args:
        send: puts a message into a client's outbox; drops it when the client is not attached.
        streams: told how long the answers of a closed cell will be.
        trust: None for a combiner that nobody has certified.
    """

    def __init__(
        self,
        shelf: Shelf,
        upstream: Upstream,
        reducer: ReducerStream,
        send: Callable[[ClientId, ToClient], None],
        *,
        arrivals: Arrivals,
        streams: AnswerStreams,
        trust: MaskingTrust | None,
    ) -> None:
        self._streams = streams
        self._trust = trust
        self._shelf = shelf
        self._upstream = upstream
        self._reducer = reducer
        self._send = send
        self._arrivals = arrivals
        self._held: dict[Generation, HeldCell] = {}
        self._storing = StoringSums()
        self._mailbox: Mailbox[Combiner, Event, Effect] | None = None

    def attach(self, mailbox: Mailbox[Combiner, Event, Effect]) -> None:
        """Give the shell the machine that it serves."""
        self._mailbox = mailbox

    @property
    def _machine(self) -> Mailbox[Combiner, Event, Effect]:
        assert self._mailbox is not None
        return self._mailbox

    @property
    def _certified(self) -> MaskingTrust:
        if self._trust is None:
            raise NoMaskingCredential
        return self._trust

    def at_work(self) -> dict[ClientId, Registered | None]:
        """Return the clients of the masked cell at hand, attached or not, and what those have shown of themselves."""
        work = self._machine.state.work
        clients: dict[ClientId, Registered | None] = {}
        if isinstance(work, CollectingKeys | CollectingUpdates):
            clients |= dict.fromkeys(work.order.clients)
        if isinstance(work, CollectingKeys):
            clients |= {client: offer.client for client, offer in work.offers.items()}
        if isinstance(work, CollectingUpdates):
            clients |= {ClientId(one.client_id.hex()): one for one in work.entries.values()}
        return clients

    # ---- what clients say

    async def keys_offered(self, client: ClientId, offer: KeyOffer) -> None:
        """Take a client's keys; raises Late for those of another cell, and the PeerFault of those that are refused."""
        work = self._machine.state.work
        if not isinstance(work, CollectingKeys | CollectingUpdates) or work.terms.ctx0 != offer.ctx0:
            raise Late
        self._certified.registered(client, offer.chain)
        checked = check_offer(offer, work.terms, self._certified.chains)
        await self._machine.deliver(KeysOffered(work.order.generation, client, checked))

    async def boxes_acknowledged(self, signed: Signed) -> None:
        """Take a member's word on boxes; raises Late when the cell is closed, and the PeerFault of a refused one."""
        work = self._machine.state.work
        if not isinstance(work, CollectingUpdates):
            raise Late
        await self._machine.deliver(BoxesAcknowledged(work.order.generation, signed))

    # ---- what clients bring

    def takes(self, header: UpdateHeader) -> bool:
        """Say whether an update is one for this part of the combiner."""
        work = self._machine.state.work
        if isinstance(work, CollectingKeys | CollectingUpdates | ReportingSum):
            return header.masked is not None or work.order.generation == header.generation
        return header.masked is not None

    async def offer(self, client: ClientId, header: UpdateHeader) -> UpdateReceipt | None:
        """Relay an upload's boxes, or return why it is not wanted.

        Raises:
            PeerFault: it is not what a registered client sends.
        """
        work = self._machine.state.work
        if header.masked is None:
            return UNMASKED
        if not isinstance(work, CollectingUpdates) or work.order.generation != header.generation:
            return _refusal(Late())
        verified = self._verified(client, header, header.masked, work)
        row = IncludedRow(verified.client.client_id, verified.hash)
        relay = self._relay(header.generation)
        relay.keep(row, header.masked)
        try:
            await self._machine.deliver(UploadOffered(header.generation, client, verified.client, row))
        except (Late, NotAssigned, AlreadyIn, AlreadyRefused) as refused:
            relay.drop(row)
            return _refusal(refused)
        except PeerFault:
            relay.drop(row)
            raise
        return None

    def _verified(
        self, client: ClientId, header: UpdateHeader, masked: MaskedUpload, work: CollectingUpdates
    ) -> VerifiedHeader:
        trust, committee, n_words = self._certified, work.acknowledged.committee, work.terms.encoding.n_words
        trust.registered(client, masked.chain)
        verified = check_header(masked.header, masked.chain, committee, n_words, trust.chains)
        if tuple(tuple(plain_hash(box) for box in slot) for slot in masked.boxes) != verified.header.box_hashes:
            raise WrongShape("its boxes are not those that it names")
        if header.size != WORD_BYTES * n_words:
            raise WrongLength("a masked update", header.size, WORD_BYTES * n_words)
        check_metrics(header.metrics)
        return verified

    def _relay(self, generation: Generation) -> BoxRelay:
        held, work = self._held[generation], self._machine.state.work
        if held.relay is None:
            assert isinstance(work, CollectingUpdates)
            held.relay = BoxRelay(work.acknowledged.committee, self._send)
        return held.relay

    async def judge(self, client: ClientId, header: UpdateHeader, upload: SpooledUpload) -> UpdateReceipt:
        """Have the machine take or refuse a whole masked update, and free its bytes."""
        assert header.masked is not None
        row = IncludedRow(bytes.fromhex(client), header_hash(header.masked.header.body))

        def tell(key: str) -> None:
            self._machine.post(VectorArrived(header.generation, key, client, row))

        return await self._arrivals.judged(client, header, upload, tell)

    # ---- effects

    def perform(self, effect: CellEffect | StartTimer[Event]) -> None:
        """Do one effect."""
        match effect:
            case CheckTerms():
                self._machine.spawn(self._check(effect))
            case TellCommittee(formed):
                self._reducer.tell_committee(formed)
            case SendCommittee(client, body):
                self._send(client, SaidToClient(body))
            case SendBoxes(generation, member, rows):
                self._relay(generation).send(member, rows)
            case DropBoxes(generation, row):
                self._relay(generation).drop(row)
            case AddVector():
                self._machine.spawn(self._add(effect))
            case StoreSum():
                self._storing.add(effect.generation, self._machine.spawn(self._store(effect)))
            case ReportUnclosed(generation, included, excluded):
                metrics = released(self._held[generation].told)
                self._reducer.report(MaskedPartial(generation, None, included, excluded, metrics))
            case StartTimer():
                pass  # the mailbox's own

    def forget(self, generation: Generation) -> None:
        """Let go of a cell's sum and boxes."""
        held = self._held.pop(generation, None)
        if held is not None and held.relay is not None:
            held.relay.close()
        self._storing.forget(generation)

    async def _check(self, effect: CheckTerms) -> list[Event]:
        order = effect.order
        try:
            terms = self._certified.check_order(order)
            await self._shelf.hold((order.plan.base_model, order.plan.package))
            with disk_faults("reading a model"):
                layout = await asyncio.to_thread(read_layout, self._shelf.path(order.plan.base_model))
            if layout.n_parameters != terms.plan.n_parameters:
                raise WrongLength("the plan's update", 4 * terms.plan.n_parameters, 4 * layout.n_parameters)
        except FednError as fault:
            return [ObjectsNotFetched(order.generation, f"{fault.code}: {fault.message}")]
        self._held[order.generation] = HeldCell(terms, MaskedSum(terms.encoding.n_words))
        return [TermsChecked(order.generation, terms)]

    async def _add(self, effect: AddVector) -> list[Event]:
        generation, upload_id = effect.generation, effect.upload_id
        held, arrived = self._held.get(generation), self._arrivals.get(upload_id)
        if held is None or arrived is None or arrived.header.masked is None:
            return [UpdateNotAdded(generation, upload_id, "Late: the round ended while the update was being added")]
        try:
            with disk_faults("reading an update"):
                vector_hash = SignedHeader.decode(arrived.header.masked.header.body).vector_hash
                await held.total.add(arrived.upload, vector_hash)
        except FednError as fault:
            _log.info("masked update not added", client=arrived.client, reason=f"{fault.code}: {fault.message}")
            return [UpdateNotAdded(generation, upload_id, f"{fault.code}: {fault.message}")]
        if arrived.header.release == "client" and held.terms.plan.metrics_release == "client":
            held.told[arrived.client] = arrived.header.metrics
        return [UpdateAdded(generation, upload_id)]

    async def _store(self, effect: StoreSum) -> list[Event]:
        generation = effect.generation
        held = self._held.get(generation)
        if held is None:
            return []  # cancelled in the meantime
        try:
            content, digest = await held.total.whole()
            await self._upstream.store(content, digest)
        except FednError as fault:
            return [NotReported(generation, f"{fault.code}: {fault.message}")]
        if self._held.get(generation) is not held:
            return []  # cancelled while the store was away: a newer answer may have been given
        self._streams.expected(effect.ctx, WORD_BYTES * held.terms.encoding.n_words)
        closed = self._certified.sign(closed_cell(effect, digest))
        partial = MaskedPartial(generation, closed, len(effect.rows), effect.excluded, released(held.told))
        self._reducer.report(partial)
        return [Reported(generation)]


def _refusal(fault: PeerFault) -> UpdateReceipt:
    return UpdateReceipt(accepted=False, reason=f"{fault.code}: {fault.message}")
