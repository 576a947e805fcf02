"""What clients say to the combiner, and what the reducer does, turned into events of the combiner's machine."""

from fedn_py.combiner.cells import Cells
from fedn_py.combiner.reducer_stream import ReducerVoice
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
from fedn_py.protocol.messages import (
    AttachedClients,
    CellCancelled,
    CellOrder,
    ClientHello,
    ClientWelcome,
    DismissClient,
    ExpectClient,
    FromClient,
    GoElsewhere,
    HelloAccepted,
    RoundCommitted,
    TaskFailed,
    ToClient,
    ToCombiner,
    UpdateHeader,
    UpdateReceipt,
    ValidationOrder,
    ValidationResult,
)
from fedn_py.runtime.logging import logger
from fedn_py.runtime.mailbox import Mailbox
from fedn_py.transport.authentication import Caller
from fedn_py.transport.spool import Spool, SpooledUpload
from fedn_py.transport.streams import Outbox
from fedn_py.transport.tickets import Tickets

_log = logger("fedn_py.combiner")


class NotYourName(PeerFault):
    """A client says it is another than its ticket was made for."""


class CombinerFull(PeerFault):
    """The combiner has as many clients as it takes."""


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
    ) -> None:
        self._name = name
        self._tickets = tickets
        self._reducer = reducer
        self._spool = spool
        self._max_clients = max_clients
        self._heartbeat_s = heartbeat_s
        self._outboxes: dict[ClientId, Outbox[ToClient]] = {}
        self._cells: Cells | None = None
        self._mailbox: Mailbox[Combiner, Event, Effect] | None = None

    def attach(self, cells: Cells, mailbox: Mailbox[Combiner, Event, Effect]) -> None:
        """Give the calls what they are for."""
        self._cells, self._mailbox = cells, mailbox

    @property
    def _machine(self) -> Mailbox[Combiner, Event, Effect]:
        assert self._mailbox is not None
        return self._mailbox

    @property
    def _updates(self) -> Cells:
        assert self._cells is not None
        return self._cells

    def send(self, client: ClientId, message: ToClient) -> None:
        """Send to a client if it is attached."""
        outbox = self._outboxes.get(client)
        if outbox is not None:
            outbox.send(message)

    # ---- clients

    async def client_attached(self, hello: ClientHello, caller: Caller, outbox: Outbox[ToClient]) -> None:
        """Take a client in; raises NotYourName, CombinerFull."""
        if hello.client != caller.name:
            raise NotYourName(
                "the ticket was made for another client", remedy="Each client needs a state folder of its own."
            )
        if len(self._outboxes) >= self._max_clients:
            raise CombinerFull(
                f"combiner {self._name} has its {self._max_clients} clients", remedy="The client is assigned anew."
            )
        self._outboxes[hello.client] = outbox
        outbox.send(ClientWelcome(self._name, self._heartbeat_s))
        self._machine.post(ClientAttached(hello.client))
        self._tell_attached()
        _log.info("client attached", client=hello.name)

    async def client_said(self, client: ClientId, message: FromClient) -> None:
        """Hear a client."""
        match message:
            case TaskFailed(generation, reason, log):
                self._machine.post(TaskNotDone(generation, client, reason, log))
            case ValidationResult():
                self._updates.validated(client, message)
            case _:
                pass  # a heartbeat has done its work by arriving

    async def client_left(self, client: ClientId) -> None:
        """Note that a client's stream has ended."""
        self._outboxes.pop(client, None)
        self._machine.post(ClientDetached(client))
        self._tell_attached()
        _log.info("client left", client=self._tickets.name_of(client) or client)

    async def update_offered(self, header: UpdateHeader, caller: Caller) -> None:  # noqa: ARG002 - as the port says
        """Raise why an update is not worth receiving."""
        self._updates.check_offer(header)

    async def update_arrived(self, header: UpdateHeader, caller: Caller, update: SpooledUpload) -> UpdateReceipt:
        """Have a whole update judged."""
        return await self._updates.judge(ClientId(caller.name), header, update)

    def _tell_attached(self) -> None:
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
                for client in list(self._outboxes):
                    self.send(client, message)
                # Until now they might have come again for a further attempt at the round, and gone on.
                self._machine.spawn(self._spool.drop_unfinished())
            case ExpectClient(client, name, ticket_sha256, valid_s):
                self._tickets.expect(client, name, ticket_sha256, valid_s)
            case DismissClient(client, reason):
                self._dismiss(client, reason)
            case HelloAccepted():
                pass  # taken by who keeps the stream

    def _dismiss(self, client: ClientId, reason: str) -> None:
        self._tickets.dismiss(client)
        outbox = self._outboxes.get(client)
        if outbox is not None:
            outbox.send(GoElsewhere(reason))
            outbox.close(reason)
