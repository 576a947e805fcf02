"""A combiner's process in a masked network; follows masked_cells.py, calls.py and others in fedn_py/combiner."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from simulator.combiner_node import CombinerNode
from simulator.lease import ReducerWelcome
from simulator.masked.cells import Cells
from simulator.masked.certified import CHAINS, NOW_S, combiner_credential
from simulator.network import Stream
from simulator.working import WorkingNode

from fedn_py.combiner.masking_trust import MaskingTrust
from fedn_py.errors import PeerFault
from fedn_py.identity import ClientId, CombinerName
from fedn_py.protocol.combiner_work import (
    AnswerUpload,
    ClientAttached,
    Forget,
    OrderCancelled,
    Ordered,
)
from fedn_py.protocol.machine import UnexpectedEvent
from fedn_py.protocol.masked.cell_updates import Late
from fedn_py.protocol.masked.cell_work import (
    AddVector,
    BoxesAcknowledged,
    CheckTerms,
    ClientBarred,
    CollectingKeys,
    CollectingUpdates,
    CommitteeKept,
    DropBoxes,
    KeysOffered,
    ReportUnclosed,
    SendBoxes,
    SendCommittee,
    StoreSum,
    TellCommittee,
)
from fedn_py.protocol.masked.offers import check_offer
from fedn_py.protocol.masked.registry import Registered
from fedn_py.protocol.masked.round_messages import BoxAck
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.masked.words import KeyOffer, StreamWanted
from fedn_py.protocol.messages import (
    CellCancelled,
    CellFailed,
    CellOrder,
    ClientHello,
    ClientWelcome,
    CombinerHello,
    CommitteeFormed,
    CommitteeStored,
    DismissClient,
    MaskedPartial,
    MetricsSummary,
    PolicyNews,
    RoundCommitted,
    SaidByClient,
    SaidToClient,
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


class MaskedCombinerNode(WorkingNode, CombinerNode):
    """One of the combiners."""

    world: "MaskedWorld"

    def begin(self) -> None:
        """Start with nothing and join."""
        self.trust = MaskingTrust(combiner_credential(CombinerName(self.name)), lambda: NOW_S)
        self.trust.chains = CHAINS
        self.policy: PolicyNews | None = None
        self.registered: dict[ClientId, Registered] = {}
        self.cells = Cells(self)
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
        reducer = self.next_reducer()
        if reducer is None:
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

    def report_of_cell(self, message: Any) -> None:
        """Answer an order, and say it again on every new stream until the next one takes its place."""
        self._report(message)

    def _report(self, message: Any) -> None:
        answers = MaskedPartial | CellFailed | ValidationReport
        known = self.committee
        if known is not None and isinstance(message, answers) and message.generation > known.generation:
            self.committee = None
        super()._report(message)

    def _heard_reducer(self, message: Any) -> None:
        match message:
            case ReducerWelcome(fence):
                self.welcomed(fence)
            case CellOrder() | ValidationOrder():
                self.take(Ordered(message))
            case CellCancelled():
                self.take(OrderCancelled(message))
            case RoundCommitted():
                self.take_commit(message)
            case WordForClients():
                for client in message.clients or tuple(self.streams):
                    if isinstance(message.word, StreamWanted):
                        self.asked_streams.add((client, message.word.ctx))
                    self.send(client, SaidToClient(message.word))
            case PolicyNews():
                self._take_policy(message)
            case CommitteeStored(committee):
                self.take(CommitteeKept(committee.ctx))
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

    def send(self, client: ClientId, message: Any) -> None:
        if client in self.streams:
            self.streams[client].send(self, message)

    def _send_all(self, message: Any) -> None:
        for client in list(self.streams):
            self.send(client, message)

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
                for news in (self.policy, self.committed):
                    if news is not None:
                        stream.send(self, news)
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

    # ---- effects

    def perform(self, effect: Any) -> None:
        """Do one effect."""
        match effect:
            case CheckTerms(order):
                self.spawn(self.cells.check(order), self.take_all)
            case TellCommittee(formed):
                self.committee = formed
                if self.upstream is not None:
                    self.upstream.send(self, formed)
            case SendCommittee(client, body):
                self.world.invariants.servers.committee_handed_out(self)
                self.send(client, SaidToClient(body))
            case SendBoxes(generation, member, rows):
                self.later(0.02, lambda: self.cells.relay(generation, member, rows))
            case DropBoxes(generation, row):
                self.cells.held[generation].boxes.pop(row, None)
            case AddVector():
                self.world.invariants.servers.vector_taken(self, effect)
                self.spawn(self.cells.add_vector(effect), self.take_all)
            case StoreSum():
                self.spawn(self.cells.store_sum(effect), self.take_all)
            case ReportUnclosed(generation, included, excluded):
                self.world.chaos.noticed("cell closed with too few")
                self._report(MaskedPartial(generation, None, included, excluded, MetricsSummary()))
            case AnswerUpload(upload_id, receipt):
                self.cells.arrived.pop(upload_id, None)
                if upload_id in self.cells.replies:
                    self.cells.replies.pop(upload_id)(receipt)
            case Forget(generation):
                self.cells.held.pop(generation, None)
            case _:
                super().perform(effect)

    def take_all(self, events: Iterable[Any] | None) -> None:
        """Take what work has returned."""
        for event in events or ():
            self.take(event)
