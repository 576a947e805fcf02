"""What clients say to the combiner, and what the reducer does, turned into events of the combiner's machine.

Who is attached is told whole, so it is told once for many who come and go at the same time. One who leaves and comes
back is told of as gone first: the reducer says to those who come what they may have missed.
"""

import asyncio

from fedn_py.combiner.cells import Cells
from fedn_py.combiner.masked_cells import MaskedCells
from fedn_py.combiner.masking_trust import MaskingTrust
from fedn_py.combiner.reducer_stream import ReducerVoice
from fedn_py.combiner.words import Words
from fedn_py.errors import PeerFault
from fedn_py.identity import ClientId, CombinerName
from fedn_py.protocol.combiner_work import (
    ClientAttached,
    ClientDetached,
    Combiner,
    Effect,
    Event,
    OrderCancelled,
    Ordered,
    TaskNotDone,
)
from fedn_py.protocol.machine import UnexpectedEvent
from fedn_py.protocol.masked.cell_updates import Late
from fedn_py.protocol.masked.cell_work import ClientBarred, CommitteeKept
from fedn_py.protocol.masked.registry import Registered
from fedn_py.protocol.masked.round_messages import BoxAck
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.masked.words import KeyOffer, WordFromClient
from fedn_py.protocol.messages import (
    AttachedClients,
    CellCancelled,
    CellOrder,
    ClientHello,
    ClientWelcome,
    CommitteeStored,
    DismissClient,
    ExpectClient,
    FromClient,
    GoElsewhere,
    Heartbeat,
    HelloAccepted,
    PolicyNews,
    RoundCommitted,
    SaidByClient,
    TaskFailed,
    ToClient,
    ToCombiner,
    UpdateHeader,
    UpdateReceipt,
    ValidationOrder,
    ValidationResult,
    WordForClients,
)
from fedn_py.runtime.logging import logger
from fedn_py.runtime.mailbox import Mailbox
from fedn_py.transport.authentication import Caller
from fedn_py.transport.spool import Spool, SpooledUpload
from fedn_py.transport.streams import Outbox
from fedn_py.transport.tickets import Tickets

ATTACHED_EVERY_S = 0.1
"""Who is attached is told no more often; and of many less often still, as a list is as long as there are many."""

_SHORT_LIST = 1_000

_log = logger("fedn_py.combiner")


class NotYourName(PeerFault):
    """A client says it is another than its ticket was made for."""


class CombinerFull(PeerFault):
    """The combiner has as many clients as it takes."""


class SentAway(PeerFault):
    """The client was dismissed while its update was on its way."""


class Calls:
    """Takes the calls that the gRPC server decoded and the messages of the reducer."""

    def __init__(
        self,
        name: CombinerName,
        tickets: Tickets,
        reducer: ReducerVoice,
        spool: Spool,
        *,
        max_clients: int,
        heartbeat_s: float,
        trust: MaskingTrust | None = None,
    ) -> None:
        self._name = name
        self._tickets = tickets
        self._reducer = reducer
        self._spool = spool
        self._max_clients = max_clients
        self._heartbeat_s = heartbeat_s
        self._trust = trust
        self._policy: PolicyNews | None = None
        self._committed: RoundCommitted | None = None
        self._outboxes: dict[ClientId, Outbox[ToClient]] = {}
        self._left: set[ClientId] = set()
        self._told_at = 0.0
        self._telling: asyncio.TimerHandle | None = None
        self._registered: dict[ClientId, Registered] = {}
        self._sent_away: dict[ClientId, str] = {}
        self._cells: Cells | None = None
        self._masked: MaskedCells | None = None
        self._words: Words | None = None
        self._mailbox: Mailbox[Combiner, Event, Effect] | None = None

    def attach(
        self, cells: Cells, masked: MaskedCells, words: Words, mailbox: Mailbox[Combiner, Event, Effect]
    ) -> None:
        """Give the calls what they are for."""
        self._cells, self._masked, self._words, self._mailbox = cells, masked, words, mailbox

    @property
    def _machine(self) -> Mailbox[Combiner, Event, Effect]:
        assert self._mailbox is not None
        return self._mailbox

    @property
    def _updates(self) -> Cells:
        assert self._cells is not None
        return self._cells

    @property
    def _masked_updates(self) -> MaskedCells:
        assert self._masked is not None
        return self._masked

    @property
    def _relayed(self) -> Words:
        assert self._words is not None
        return self._words

    def send(self, client: ClientId, message: ToClient) -> None:
        """Send to a client if it is attached."""
        outbox = self._outboxes.get(client)
        if outbox is not None:
            outbox.send(message)

    # ---- clients

    async def client_attached(self, hello: ClientHello, caller: Caller, outbox: Outbox[ToClient]) -> None:
        """Take a client in; raises NotYourName, CombinerFull, and why its chain does not make it a registered one."""
        if hello.client != caller.name:
            raise NotYourName(
                "the ticket was made for another client", remedy="Each client needs a state folder of its own."
            )
        if len(self._outboxes) >= self._max_clients:
            raise CombinerFull(
                f"combiner {self._name} has its {self._max_clients} clients", remedy="The client is assigned anew."
            )
        self._look_at(hello)
        if hello.client in self._left:
            self._tell_now()
        self._outboxes[hello.client] = outbox
        outbox.send(ClientWelcome(self._name, self._heartbeat_s))
        if self._policy is not None:
            outbox.send(self._policy)
        if self._committed is not None:
            outbox.send(self._committed)  # while it was away it may have kept an update that nobody wants any more
        self._machine.post(ClientAttached(hello.client))
        self._tell_attached()
        _log.info("client attached", client=hello.name)

    def _look_at(self, hello: ClientHello) -> None:
        self._registered.pop(hello.client, None)
        if self._trust is None:
            return
        if hello.chain is None:
            self._trust.check_standing(hello.client, None)
        else:
            self._registered[hello.client] = self._trust.registered(hello.client, hello.chain)

    async def client_said(self, client: ClientId, message: FromClient) -> None:
        """Hear a client."""
        match message:
            case TaskFailed(generation, reason, log):
                self._machine.post(TaskNotDone(generation, client, reason, log))
            case ValidationResult():
                self._updates.validated(client, message)
            case SaidByClient(word):
                await self._hear(client, word)
            case _:
                pass  # a heartbeat has done its work by arriving

    async def _hear(self, client: ClientId, word: WordFromClient) -> None:
        """Take a word of a masked round; what is refused is named, and harms nobody else."""
        try:
            match word:
                case KeyOffer():
                    await self._masked_updates.keys_offered(client, word)
                case Signed(said=BoxAck.kind):
                    await self._masked_updates.boxes_acknowledged(word)
                case _:
                    await self._relayed.from_client(client, self._registered.get(client), word)
        except UnexpectedEvent:
            pass  # late, and in the log already
        except Late as late:  # an everyday thing
            _log.info("a client's word is passed over", client=self._name_of(client), fault=late.code)
        except PeerFault as refused:
            reason = f"{refused.code}: {refused.message}"
            _log.warning("a client's word is refused", client=self._name_of(client), reason=reason)

    def _name_of(self, client: ClientId) -> str:
        return self._tickets.name_of(client) or client

    async def client_left(self, client: ClientId) -> None:
        """Note that a client's stream has ended."""
        self._outboxes.pop(client, None)
        self._registered.pop(client, None)
        self._left.add(client)
        self._machine.post(ClientDetached(client))
        self._tell_attached()
        _log.info("client left", client=self._tickets.name_of(client) or client)

    async def update_offered(self, header: UpdateHeader, caller: Caller) -> UpdateReceipt | None:
        """Return or raise why an update is not worth receiving."""
        if self._masked_updates.takes(header):
            return await self._masked_updates.offer(ClientId(caller.name), header)
        return self._updates.offer(header)

    async def update_arrived(self, header: UpdateHeader, caller: Caller, update: SpooledUpload) -> UpdateReceipt:
        """Have a whole update judged; raises SentAway where its client was dismissed since it began."""
        reason = self._sent_away.get(ClientId(caller.name))
        if reason is not None:
            await update.discard()
            raise SentAway(f"this client was sent away: {reason}", remedy="Ask the reducer for a combiner again.")
        if header.masked is not None:
            return await self._masked_updates.judge(ClientId(caller.name), header, update)
        return await self._updates.judge(ClientId(caller.name), header, update)

    def _tell_attached(self) -> None:
        """Tell who is attached when all who come and go at this moment have done so."""
        if self._telling is None:
            loop = asyncio.get_running_loop()
            every_s = ATTACHED_EVERY_S * max(1.0, len(self._outboxes) / _SHORT_LIST)
            self._telling = loop.call_at(max(loop.time(), self._told_at + every_s), self._tell_in_time)

    def _tell_in_time(self) -> None:
        self._telling = None
        self._told_at = asyncio.get_running_loop().time()
        self._tell_now()

    def _tell_now(self) -> None:
        self._left.clear()
        self._reducer.attached(AttachedClients(tuple(sorted(self._outboxes))))

    # ---- the reducer

    def reducer_said(self, message: ToCombiner) -> None:
        """Hear the reducer."""
        match message:
            case CellOrder() | ValidationOrder():
                self._machine.post(Ordered(message))
            case CellCancelled():
                self._machine.post(OrderCancelled(message))
            case RoundCommitted():
                self._take_commit(message)
            case ExpectClient(client, name, ticket_sha256, valid_s):
                self._sent_away.pop(client, None)
                self._tickets.expect(client, name, ticket_sha256, valid_s)
            case DismissClient(client, reason):
                self._dismiss(client, reason)
            case WordForClients():
                self._relayed.for_clients(message, self._outboxes)
            case PolicyNews():
                self._take_policy(message)
            case CommitteeStored(committee):
                self._machine.post(CommitteeKept(committee.ctx))
            case HelloAccepted() | Heartbeat():
                pass  # taken by who keeps the stream

    def _take_commit(self, committed: RoundCommitted) -> None:
        """Pass a commit on, once: it is told again with each stream to the reducer."""
        if committed == self._committed:
            return
        self._committed = committed
        if self._outboxes:
            self._updates.committed(committed.model)
        self._sent_away.clear()  # what they still bring is late
        for client in list(self._outboxes):
            self.send(client, committed)
        # Until now they might have come again for a further attempt at the round, and gone on.
        self._machine.spawn(self._spool.drop_unfinished())

    def _take_policy(self, news: PolicyNews) -> None:
        """Go by a policy, pass it on, and part from those whom it no longer lets take part."""
        if news == self._policy:
            return
        if self._trust is not None:
            try:
                self._trust.take_policy(news.policy)
            except PeerFault as refused:
                _log.warning("a policy is refused", reason=f"{refused.code}: {refused.message}")
                return
        self._policy = news
        for client in list(self._outboxes):
            self.send(client, news)
        self._part_from_revoked()

    def _part_from_revoked(self) -> None:
        if self._trust is None:
            return
        known = self._masked_updates.at_work()
        for client in sorted({*known, *self._outboxes}):
            try:
                self._trust.check_standing(client, self._registered.get(client) or known.get(client))
            except PeerFault as fault:
                reason = f"{fault.code}: {fault.message}"
                _log.warning("a client is dismissed", client=self._tickets.name_of(client) or client, reason=reason)
                self._machine.post(ClientBarred(client, reason))
                self._dismiss(client, reason)

    def _dismiss(self, client: ClientId, reason: str) -> None:
        self._tickets.dismiss(client)
        self._sent_away[client] = reason
        outbox = self._outboxes.get(client)
        if outbox is not None:
            outbox.send(GoElsewhere(reason))
            outbox.close(reason)
