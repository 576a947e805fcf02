"""A combiner's process in a masked network; follows masked_cells.py, calls.py and others in fedn_py/combiner."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from simulator.combiner_node import CombinerNode
from simulator.masked.certified import CHAINS, NOW_S, combiner_credential
from simulator.masked.working import Work, WorkingNode
from simulator.network import Stream
from simulator.nodes import Node

from fedn_py.combiner.masked_reports import closed_cell
from fedn_py.combiner.masking_trust import MaskingTrust
from fedn_py.errors import FednError, PeerFault
from fedn_py.identity import ClientId, CombinerName, Generation
from fedn_py.masking.hashing import plain_hash
from fedn_py.masking.pet import add_masked
from fedn_py.model.pieces import WrongLength
from fedn_py.protocol.combiner_work import (
    AnswerUpload,
    ClientAttached,
    Forget,
    NotReported,
    ObjectsNotFetched,
    OrderCancelled,
    Ordered,
    Reported,
    UpdateAdded,
    UpdateNotAdded,
)
from fedn_py.protocol.machine import UnexpectedEvent
from fedn_py.protocol.masked.boxes import WrongShape, check_header
from fedn_py.protocol.masked.cell_updates import Late
from fedn_py.protocol.masked.cell_work import (
    AddVector,
    BoxesAcknowledged,
    CheckTerms,
    ClientBarred,
    CollectingKeys,
    CollectingUpdates,
    DropBoxes,
    KeysOffered,
    ReportUnclosed,
    SendBoxes,
    SendCommittee,
    StoreSum,
    TellCommittee,
    TermsChecked,
    UploadOffered,
    VectorArrived,
)
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.offers import check_offer
from fedn_py.protocol.masked.registry import Registered
from fedn_py.protocol.masked.round_messages import BoxAck, BoxFor, IncludedRow
from fedn_py.protocol.masked.round_messages import UpdateHeader as SignedHeader
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.masked.words import Boxes, KeyOffer, MaskedUpload, StreamWanted
from fedn_py.protocol.messages import (
    CellCancelled,
    CellFailed,
    CellOrder,
    ClientHello,
    ClientWelcome,
    CombinerHello,
    CommitteeFormed,
    DismissClient,
    MaskedPartial,
    MetricsSummary,
    PolicyNews,
    RoundCommitted,
    SaidByClient,
    SaidToClient,
    UpdateReceipt,
    ValidationOrder,
    ValidationReport,
    WordForClients,
    WordPassedOn,
)

if TYPE_CHECKING:
    from simulator.masked.world import MaskedWorld

Reply = Callable[[Any], None]
MOST_WORDS = 500
LATE = Late()


@dataclass
class Held:
    """What is held for one masked cell: terms, the running sum, boxes by upload."""

    terms: CellTerms
    words: "np.ndarray[Any, Any]"
    boxes: dict[IncludedRow, MaskedUpload] = field(default_factory=dict)


@dataclass(frozen=True)
class Arrived:
    """A whole vector that waits to be judged."""

    upload: MaskedUpload
    vector: bytes


class MaskedCombinerNode(WorkingNode, CombinerNode):
    """One of the combiners."""

    world: "MaskedWorld"

    def begin(self) -> None:
        """Start with nothing and join."""
        self.trust = MaskingTrust(combiner_credential(CombinerName(self.name)), lambda: NOW_S)
        self.trust.chains = CHAINS
        self.policy: PolicyNews | None = None
        self.registered: dict[ClientId, Registered] = {}
        self.held: dict[Generation, Held] = {}
        self.arrived: dict[str, Arrived] = {}
        self.arrivals = count(1)
        self.replies: dict[str, Reply] = {}
        self.asked_streams: set[tuple[ClientId, bytes]] = set()
        self.committee: CommitteeFormed | None = None
        self.words: deque[WordPassedOn] = deque()
        super().begin()

    def heard(self, stream: Stream, message: Any) -> None:
        """Take a message from the reducer or from a client."""
        self.world.invariants.servers.reached(self, message, by_reducer=False)
        super().heard(stream, message)

    # ---- the reducer

    def _dial(self) -> None:
        reducer = self.world.reducer
        if not reducer.up or self.world.clock.now < self.cut_off_until:
            self.later(self.world.chaos.backoff_s(), self._dial)
            return
        self.upstream = self.world.open_stream(self, reducer)
        most = self.world.sizes.max_clients
        name = CombinerName(self.name)
        self.upstream.send(self, CombinerHello(name, self.instance, self.name, most, "", self.trust.certificate))
        self._tell_attached()
        for again in (self.committee, self.report):
            if again is not None:
                self.world.chaos.noticed(f"{type(again).__name__} said again")
                self.upstream.send(self, again)
        while self.words:
            self.upstream.send(self, self.words.popleft())

    def _report(self, message: Any) -> None:
        answers = MaskedPartial | CellFailed | ValidationReport
        known = self.committee
        if known is not None and isinstance(message, answers) and message.generation > known.generation:
            self.committee = None
        super()._report(message)

    def _heard_reducer(self, message: Any) -> None:
        match message:
            case CellOrder() | ValidationOrder():
                self.take(Ordered(message))
            case CellCancelled():
                self.take(OrderCancelled(message))
            case RoundCommitted():
                self._send_all(message)
            case WordForClients():
                for client in message.clients or tuple(self.streams):
                    if isinstance(message.word, StreamWanted):
                        self.asked_streams.add((client, message.word.ctx))
                    self._send(client, SaidToClient(message.word))
            case PolicyNews():
                self._take_policy(message)
            case DismissClient(client):
                self._dismiss(client)

    def _take_policy(self, news: PolicyNews) -> None:
        if news == self.policy:
            return
        try:
            self.trust.take_policy(news.policy)
        except PeerFault as fault:
            self.world.refused(self, news, fault)
            return
        self.policy = news
        self._send_all(news)
        known = self._at_work()
        for client in sorted({*known, *self.streams}):
            try:
                self.trust.check_standing(client, self.registered.get(client) or known.get(client))
            except PeerFault as fault:
                self.world.chaos.noticed("a revoked client is parted from")
                self.take(ClientBarred(client, f"{fault.code}: {fault.message}"))
                self._dismiss(client)

    def _at_work(self) -> dict[ClientId, Registered | None]:
        work = self.state.work
        clients: dict[ClientId, Registered | None] = {}
        if isinstance(work, CollectingKeys | CollectingUpdates):
            clients |= dict.fromkeys(work.order.clients)
        if isinstance(work, CollectingKeys):
            clients |= {client: offer.client for client, offer in work.offers.items()}
        if isinstance(work, CollectingUpdates):
            clients |= {ClientId(one.client_id.hex()): one for one in work.entries.values()}
        return clients

    def _dismiss(self, client: ClientId) -> None:
        if client in self.streams:
            self.streams[client].break_off()
            self._leave(client)

    # ---- clients

    def _send(self, client: ClientId, message: Any) -> None:
        if client in self.streams:
            self.streams[client].send(self, message)

    def _send_all(self, message: Any) -> None:
        for client in list(self.streams):
            self._send(client, message)

    def _leave(self, client: ClientId) -> None:
        self.registered.pop(client, None)
        super()._leave(client)

    def _heard_client(self, stream: Stream, client: ClientId, message: Any) -> None:
        match message:
            case ClientHello(chain=chain):
                assert chain is not None
                try:
                    self.registered[client] = self.trust.registered(client, chain)
                except PeerFault as fault:
                    self.world.refused(self, message, fault)
                    stream.break_off()
                    return
                self.streams[client] = stream
                stream.send(self, ClientWelcome(CombinerName(self.name), 10.0))
                if self.policy is not None:
                    stream.send(self, self.policy)
                self.take(ClientAttached(client))
                self._tell_attached()
            case SaidByClient(word):
                self._hear(client, word)
            case _:
                super()._heard_client(stream, client, message)

    def _hear(self, client: ClientId, word: Any) -> None:
        try:
            match word:
                case KeyOffer():
                    self._take_offer(client, word)
                case Signed(said=BoxAck.kind):
                    if isinstance(self.state.work, CollectingUpdates):
                        self.world.invariants.servers.acknowledged(self, word)
                        self.take(BoxesAcknowledged(self.state.work.order.generation, word))
                case _:
                    self._pass_on(WordPassedOn(client, word))
        except UnexpectedEvent:
            pass
        except PeerFault as fault:
            self.world.refused(self, word, fault)

    def _take_offer(self, client: ClientId, offer: KeyOffer) -> None:
        work = self.state.work
        if not isinstance(work, CollectingKeys | CollectingUpdates) or work.terms.ctx0 != offer.ctx0:
            return
        self.trust.registered(client, offer.chain)
        checked = check_offer(offer, work.terms, CHAINS)
        self.take(KeysOffered(work.order.generation, client, checked))

    def _pass_on(self, word: WordPassedOn) -> None:
        if self.upstream is not None:
            self.upstream.send(self, word)
            return
        if len(self.words) >= MOST_WORDS:
            self.words.popleft()
        self.words.append(word)

    # ---- what clients bring

    def masked_upload(
        self, client: ClientId, generation: Generation, upload: MaskedUpload, vector: bytes, reply: Reply
    ) -> None:
        """Take an upload: header and boxes at once, the bytes when they are here."""
        self.world.invariants.servers.reached(self, upload, by_reducer=False)
        self.world.invariants.servers.reached(self, vector, by_reducer=False)
        refusal = self._offered(client, generation, upload, len(vector))
        if refusal is not None:
            reply(refusal)
            return
        self.spawn(self._receive(client, generation, upload, vector, reply))

    def _offered(
        self, client: ClientId, generation: Generation, upload: MaskedUpload, size: int
    ) -> UpdateReceipt | None:
        work = self.state.work
        if not isinstance(work, CollectingUpdates) or work.order.generation != generation:
            return _refusal(LATE)
        try:
            self.trust.registered(client, upload.chain)
            n_words = work.terms.encoding.n_words
            verified = check_header(upload.header, upload.chain, work.acknowledged.committee, n_words, CHAINS)
            if tuple(tuple(plain_hash(box) for box in slot) for slot in upload.boxes) != verified.header.box_hashes:
                raise WrongShape("its boxes are not those that it names")
            if size != 4 * n_words:
                raise WrongLength("a masked update", size, 4 * n_words)
        except FednError as fault:
            return _refusal(fault)
        row = IncludedRow(verified.client.client_id, verified.hash)
        self.held[generation].boxes[row] = upload
        try:
            taken = Node.take(self, UploadOffered(generation, client, verified.client, row))
        except PeerFault as fault:
            self.held[generation].boxes.pop(row, None)
            return _refusal(fault)
        self.still_up()
        return None if taken else _refusal(LATE)

    def _receive(
        self, client: ClientId, generation: Generation, upload: MaskedUpload, vector: bytes, reply: Reply
    ) -> Work:
        stream = self.streams.get(client)
        yield self.world.chaos.uniform(0.05, 3)
        if self.streams.get(client) is not stream or (stream is not None and stream.broken):
            self.world.chaos.noticed("masked upload cut")
            return
        if self.world.chaos.happens("vector damaged"):
            vector = bytes(len(vector))
        header = SignedHeader.decode(upload.header.body)
        row = IncludedRow(header.client_id, self.world.header_hash(upload.header.body))
        key = f"arrival {next(self.arrivals)}"
        self.arrived[key], self.replies[key] = Arrived(upload, vector), reply
        self.take(VectorArrived(generation, key, client, row))

    def take_stream(self, client: ClientId, stream: bytes, reply: Reply) -> None:
        """Take the sealed stream of an answer, if the reducer asked this client for one."""
        if not any(one == client for one, _ in self.asked_streams):
            self.world.chaos.noticed("stream not asked for here")
            return  # refused; its member is asked again
        self.spawn(self._put_stream(stream, reply))

    def _put_stream(self, stream: bytes, reply: Reply) -> Work:
        yield self.world.chaos.uniform(0.05, 1)
        if self.world.chaos.happens("stream lost"):
            return
        self.world.store.put(stream)
        reply(True)

    # ---- effects

    def perform(self, effect: Any) -> None:
        """Do one effect."""
        match effect:
            case CheckTerms(order):
                self.spawn(self._check(order), self._take_all)
            case TellCommittee(formed):
                self.committee = formed
                if self.upstream is not None:
                    self.upstream.send(self, formed)
            case SendCommittee(client, body):
                self._send(client, SaidToClient(body))
            case SendBoxes(generation, member, rows):
                self.later(0.02, lambda: self._relay(generation, member, rows))
            case DropBoxes(generation, row):
                self.held[generation].boxes.pop(row, None)
            case AddVector():
                self.world.invariants.servers.vector_taken(self, effect)
                self.spawn(self._add_vector(effect), self._take_all)
            case StoreSum():
                self.spawn(self._store_sum(effect), self._take_all)
            case ReportUnclosed(generation, included, excluded):
                self.world.chaos.noticed("cell closed with too few")
                self._report(MaskedPartial(generation, None, included, excluded, MetricsSummary()))
            case AnswerUpload(upload_id, receipt):
                self.arrived.pop(upload_id, None)
                if upload_id in self.replies:
                    self.replies.pop(upload_id)(receipt)
            case Forget(generation):
                self.held.pop(generation, None)
            case _:
                super().perform(effect)

    def _take_all(self, events: Iterable[Any] | None) -> None:
        for event in events or ():
            self.take(event)

    def _relay(self, generation: Generation, member: ClientId, rows: Iterable[IncludedRow]) -> None:
        held, work = self.held.get(generation), self.state.work
        if held is None or not isinstance(work, CollectingUpdates):
            return
        committee = work.acknowledged.committee
        seat = committee.member(bytes.fromhex(member))
        assert seat is not None
        boxes = [
            BoxFor(upload.chain, upload.header, upload.boxes[seat.slot][seat.replica])
            for upload in (held.boxes[row] for row in rows if row in held.boxes)
        ]
        if boxes:
            self._send(member, SaidToClient(Boxes(committee.ctx, tuple(boxes))))

    def _check(self, order: CellOrder) -> Work:
        yield self.world.chaos.uniform(0.01, 1)
        if self.world.chaos.happens("objects not fetched"):
            return [ObjectsNotFetched(order.generation, "StoreUnavailable: the store is away")]
        try:
            terms = self.trust.check_order(order)
        except FednError as fault:
            return [ObjectsNotFetched(order.generation, f"{fault.code}: {fault.message}")]
        self.held[order.generation] = Held(terms, np.zeros(terms.encoding.n_words, np.uint32))
        return [TermsChecked(order.generation, terms)]

    def _add_vector(self, effect: AddVector) -> Work:
        yield self.world.chaos.uniform(0.01, 1)
        generation, key = effect.generation, effect.upload_id
        held, arrived = self.held.get(generation), self.arrived.get(key)
        if held is None or arrived is None:
            return [UpdateNotAdded(generation, key, "Late: the round ended while the update was being added")]
        header = SignedHeader.decode(arrived.upload.header.body)
        if plain_hash(arrived.vector) != header.vector_hash:
            return [UpdateNotAdded(generation, key, "DigestMismatch: it is not the vector that its header names")]
        add_masked(held.words, np.frombuffer(arrived.vector, "<u4").astype(np.uint32))
        return [UpdateAdded(generation, key)]

    def _store_sum(self, effect: StoreSum) -> Work:
        generation = effect.generation
        yield self.world.chaos.uniform(0.05, 300 if self.world.chaos.happens("partial stored very late") else 2)
        held = self.held.get(generation)
        if held is None:
            return []
        if self.world.chaos.happens("partial not stored"):
            return [NotReported(generation, "StoreUnavailable: the store is away")]
        digest = self.world.store.put(held.words.astype("<u4").tobytes())
        self.perhaps_crash()
        closed = self.trust.sign(closed_cell(effect, digest))
        self._report(MaskedPartial(generation, closed, len(effect.rows), effect.excluded, MetricsSummary()))
        return [Reported(generation)]


def _refusal(fault: FednError) -> UpdateReceipt:
    return UpdateReceipt(accepted=False, reason=f"{fault.code}: {fault.message}")
