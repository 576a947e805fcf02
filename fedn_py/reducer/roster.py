"""Who is connected: combiners by their streams, clients by what combiners say, and who was sent where.

Rules it keeps:

- One client at a time under a name; one life of a combiner at a time under a name.
- A client is let in at a combiner by a ticket made for the two of them; the combiner learns only its hash.
- A combiner that is away for longer than its grace is lost; until then nobody is sent to it.
- Who came by a token that was revoked, or was sent elsewhere, is dismissed wherever it shows up, at any later time.
- Who was moved out of a masked cell that was too small does not come back to that combiner while the session runs.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from fedn_py.errors import PeerFault
from fedn_py.identity import ClientId, ClientName, CombinerName, InstanceId, TokenId
from fedn_py.protocol.assignment import Room, choose_combiner
from fedn_py.protocol.masked.registry import Registered
from fedn_py.protocol.masked.words import WordToClient
from fedn_py.protocol.messages import (
    Assignment,
    AssignRequest,
    AttachedClients,
    CombinerHello,
    DismissClient,
    ExpectClient,
    ToCombiner,
    WordForClients,
)
from fedn_py.protocol.reducer_work import ClientsChanged, CombinerJoined, CombinerLost, Event
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.registrations import Registrations
from fedn_py.transport.streams import Outbox
from fedn_py.transport.tickets import new_ticket

TICKET_VALID_S = 24 * 3600.0
_LEAST_VALID_S = 1.0
_ON_THEIR_WAY_S = 30.0
_TOLD_AGAIN_S = 60.0
_MOST_TOLD = 1_000
_REVOKED = "its token was revoked"


class NameTaken(PeerFault):
    """Another client or combiner is connected under this name."""


class NoCombiner(PeerFault):
    """No combiner is connected, or none has room."""


@dataclass(slots=True)
class ConnectedCombiner:
    """A combiner that has joined, and may be away for a moment.

    Attributes:
        outbox: to its stream; None while it is away.
        coming: clients that were sent there and are not attached yet.
        registered: those of its clients that can take part in masked rounds here.
        masking_key: what the operator certified it by; None where it runs no masked cells.
    """

    hello: CombinerHello
    token: TokenId
    outbox: Outbox[ToCombiner] | None
    clients: frozenset[ClientId] = frozenset()
    coming: set[ClientId] = field(default_factory=set)
    lost_timer: asyncio.TimerHandle | None = None
    registered: frozenset[ClientId] = frozenset()
    masking_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class KnownClient:
    """A client that is or was here, and the token that it came by last."""

    name: ClientName
    token: TokenId


@dataclass(frozen=True, slots=True)
class AssignedClient:
    """Where a client was sent, and when on the loop's clock."""

    combiner: CombinerName
    at: float


@dataclass(frozen=True, slots=True)
class Moved:
    """A client that was sent away from a combiner, and where it is to go while there is room."""

    away_from: CombinerName
    targets: frozenset[CombinerName]


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterLimits:
    """How long things may take.

    Attributes:
        expected_grace_s: a combiner that an earlier reducer knew has this long to notice that that one is gone, and
            to come here.
        combiner_grace_s: a combiner whose stream broke has this long to come back.
    """

    expected_grace_s: float
    combiner_grace_s: float = 20.0


class Roster:
    """Who is connected, and who was sent where.

    Args:
        tell_machine: told of combiners that come and go and of their clients.
        authority_pem: handed to clients, to check combiners' certificates with.
        known: the clients that were here before this process began.
        revoked: the tokens that were revoked before.
        registrations: of clients and combiners with the operator; None in a network without one.
    """

    def __init__(
        self,
        tell_machine: Callable[[Event], None],
        events: EventLog,
        authority_pem: bytes,
        known: Mapping[ClientId, KnownClient],
        limits: RosterLimits,
        *,
        revoked: Collection[TokenId] = (),
        registrations: Registrations | None = None,
    ) -> None:
        self._tell_machine = tell_machine
        self._events = events
        self._authority_pem = authority_pem
        self._limits = limits
        self._combiners: dict[CombinerName, ConnectedCombiner] = {}
        self._clients: dict[ClientId, AssignedClient] = {}
        self._on_their_way: deque[tuple[ClientId, AssignedClient]] = deque()
        self._known: dict[ClientId, KnownClient] = {}
        self._names: dict[ClientName, set[ClientId]] = {}
        self._told_taken: dict[ClientName, float] = {}
        for client, entry in known.items():
            self._note(client, entry)
        self._revoked = set(revoked)
        self._registrations = registrations
        self._moved: dict[ClientId, Moved] = {}
        self.on_came: Callable[[frozenset[ClientId]], None] = lambda _: None
        """Told of clients that have attached anywhere."""
        self._loop = asyncio.get_running_loop()

    # ---- combiners

    def join(self, hello: CombinerHello, token: TokenId, outbox: Outbox[ToCombiner]) -> None:
        """Take a combiner in.

        Raises:
            NameTaken: another life of it has its stream open.
        """
        before = self._combiners.get(hello.name)
        if before is not None and before.outbox is not None and before.hello.instance != hello.instance:
            raise NameTaken(
                f"a combiner named {hello.name!r} is connected",
                remedy="Give this combiner another name, or stop the other one first.",
            )
        if before is not None and before.lost_timer is not None:
            before.lost_timer.cancel()
        entry = ConnectedCombiner(hello, token, outbox, masking_key=self._masking_key(hello))
        if before is not None and before.hello.instance == hello.instance:
            entry.clients, entry.coming, entry.registered = before.clients, before.coming, before.registered
        self._combiners[hello.name] = entry
        self._tell_machine(CombinerJoined(hello.name, hello.instance, hello.max_clients))
        self._events.tell("combiner.joined", f"combiner {hello.name} joined from {hello.address}", combiner=hello.name)

    def _masking_key(self, hello: CombinerHello) -> bytes | None:
        if self._registrations is None or hello.certificate is None:
            return None
        try:
            return self._registrations.combiner_key(hello.certificate)
        except PeerFault as fault:
            text = f"combiner {hello.name} runs no masked cells: {fault.code}: {fault.message}"
            self._events.tell("combiner.not_certified", text, "error", combiner=hello.name)
            return None

    def leave(self, name: CombinerName, instance: InstanceId) -> None:
        """Note that a combiner's stream has ended; it is lost unless it comes back in time."""
        entry = self._combiners.get(name)
        if entry is None or entry.hello.instance != instance or entry.outbox is None:
            return
        entry.outbox = None
        grace_s = self._limits.combiner_grace_s
        self._await(name, entry.hello.instance, grace_s)
        self._events.tell(
            "combiner.away", f"combiner {name} is away; it has {grace_s:g} s to come back", "warning", combiner=name
        )

    def part(self, name: CombinerName, instance: InstanceId) -> None:
        """Note that a combiner stops by itself: its clients go elsewhere at once."""
        entry = self._combiners.get(name)
        if entry is None or entry.hello.instance != instance:
            return
        if entry.lost_timer is not None:
            entry.lost_timer.cancel()
        del self._combiners[name]
        self._tell_machine(CombinerLost(name, instance))
        self._events.tell("combiner.left", f"combiner {name} was stopped and has left", "warning", combiner=name)

    def attached(self, name: CombinerName, instance: InstanceId, message: AttachedClients) -> frozenset[ClientId]:
        """Note who is attached to a combiner, and return who no longer is."""
        entry = self._combiners.get(name)
        if entry is None or entry.hello.instance != instance:
            return frozenset()
        now = frozenset(message.clients)
        self._dismiss_unwelcome(name, now)
        registered = self._registered(entry, now)
        if (now, registered) == (entry.clients, entry.registered):
            return frozenset()
        came, went = now - entry.clients, entry.clients - now
        entry.clients, entry.registered = now, registered
        entry.coming -= now
        self._tell_machine(ClientsChanged(name, instance, now, registered))
        self.on_came(came)
        for client in sorted(came):
            self._events.tell(
                "client.attached", f"{self.name_of(client)} attached to {name}", **self._who(client, name)
            )
        for client in sorted(went):
            text = f"{self.name_of(client)} is no longer attached to {name}"
            self._events.tell("client.detached", text, "warning", **self._who(client, name))
        return went

    def _registered(self, entry: ConnectedCombiner, clients: frozenset[ClientId]) -> frozenset[ClientId]:
        if self._registrations is None or entry.masking_key is None:
            return frozenset()
        return frozenset(client for client in clients if self._registrations.holds(client))

    def send(self, name: CombinerName, instance: InstanceId, message: ToCombiner) -> None:
        """Send to a combiner if that life of it is connected; otherwise its loss is noticed in its own time."""
        entry = self._combiners.get(name)
        if entry is not None and entry.hello.instance == instance and entry.outbox is not None:
            entry.outbox.send(message)

    def send_all(self, message: ToCombiner) -> None:
        """Send to every connected combiner."""
        for entry in self._combiners.values():
            if entry.outbox is not None:
                entry.outbox.send(message)

    def say(self, clients: Collection[ClientId], word: WordToClient) -> None:
        """Have a word passed on to clients, each through the combiner that it is attached to now."""
        for entry in self._combiners.values():
            here = tuple(sorted(client for client in clients if client in entry.clients))
            if here and entry.outbox is not None:
                entry.outbox.send(WordForClients(here, word))

    def combiners(self) -> dict[CombinerName, ConnectedCombiner]:
        """Return the combiners that have joined and are not lost."""
        return dict(self._combiners)

    def _lose(self, name: CombinerName, instance: InstanceId) -> None:
        entry = self._combiners.get(name)
        if entry is None or entry.hello.instance != instance or entry.outbox is not None:
            return
        del self._combiners[name]
        self._tell_machine(CombinerLost(name, instance))
        self._events.tell("combiner.lost", f"combiner {name} did not come back", "error", combiner=name)

    def expect(self, name: CombinerName, instance: InstanceId) -> None:
        """Give a combiner that an earlier life of this reducer knew its time to come back; then it is lost."""
        if name not in self._combiners:
            before = CombinerHello(name, instance, "", 0, "")
            self._combiners[name] = ConnectedCombiner(before, TokenId(""), None)
            self._await(name, instance, self._limits.expected_grace_s)

    def _await(self, name: CombinerName, instance: InstanceId, grace_s: float) -> None:
        later = self._loop.call_later(grace_s, self._lose, name, instance)
        self._combiners[name].lost_timer = later

    # ---- clients

    def assign(self, request: AssignRequest, token: TokenId, valid_s: float) -> Assignment:
        """Send a client to a combiner.

        Args:
            valid_s: how long the client's token is still good for.

        Raises:
            NameTaken: another client is connected under its name.
            NoCombiner: there is none with room.
            ChainOfAnother, Revoked, Expired, UnknownOperator: the operator does not vouch for it as it says.
        """
        if self._registrations is not None:
            self._registrations.admit(request)
        self._check_name(request)
        self._expect_no_longer()
        rooms = {
            name: Room(self._load(entry, request.client), entry.hello.max_clients)
            for name, entry in self._combiners.items()
            if entry.outbox is not None
        }
        chosen = choose_combiner(self._allowed(request.client, rooms), request.preferred_combiner)
        if chosen is None:
            full = f"all {len(rooms)} combiners are full" if rooms else "no combiner is connected"
            raise NoCombiner(full, remedy="Start a combiner, or raise max_clients of one; the client keeps trying.")
        self._note(request.client, KnownClient(request.name, token))
        self._send_there(request.client, chosen)
        ticket, ticket_sha256 = new_ticket()
        # No less than what can be said: a token that has run out in the meantime must not cost a combiner its stream.
        valid_s = max(_LEAST_VALID_S, min(TICKET_VALID_S, valid_s))
        entry = self._combiners[chosen]
        assert entry.outbox is not None
        entry.outbox.send(ExpectClient(request.client, request.name, ticket_sha256, valid_s))
        return Assignment(chosen, entry.hello.address, self._authority_pem, ticket, valid_s)

    def _allowed(self, client: ClientId, rooms: dict[CombinerName, Room]) -> dict[CombinerName, Room]:
        """Return where a client may go: one that was moved goes where it was sent, as long as there is room."""
        moved = self._moved.get(client)
        if moved is None:
            return rooms
        others = {name: room for name, room in rooms.items() if name != moved.away_from}
        if not others:  # better in a small cell than nowhere
            del self._moved[client]
            return rooms
        free = {n: room for n, room in others.items() if n in moved.targets and room.clients < room.max_clients}
        return free or others

    def move(self, combiner: CombinerName, clients: Collection[ClientId], targets: frozenset[CombinerName]) -> None:
        """Send clients away from a combiner for as long as the session runs."""
        for client in sorted(clients):
            self._moved[client] = Moved(combiner, targets)
            if combiner in self._combiners:
                self._dismiss(combiner, client, "its cell is too small; it attaches elsewhere")

    def end_moves(self) -> None:
        """Let every client go to any combiner again."""
        self._moved.clear()

    def hold_to_policy(self) -> None:
        """Send away whom the operator no longer vouches for, and tell the machine who is left."""
        for name, entry in self._combiners.items():
            if entry.masking_key is not None:
                entry.masking_key = self._masking_key(entry.hello)
            self._dismiss_unwelcome(name, entry.clients)
            registered = self._registered(entry, entry.clients)
            if registered != entry.registered:
                entry.registered = registered
                self._tell_machine(ClientsChanged(name, entry.hello.instance, entry.clients, registered))

    def _check_name(self, request: AssignRequest) -> None:
        others = self._names.get(request.name, set()) - {request.client}
        if not any(self._is_here(other) for other in others):
            return
        text = f"a client named {request.name!r} is already connected"
        now = self._loop.time()
        if now >= self._told_taken.get(request.name, 0.0):
            # The one that is refused keeps asking; the event log need not hold every time.
            if len(self._told_taken) >= _MOST_TOLD:
                self._told_taken.clear()
            self._told_taken[request.name] = now + _TOLD_AGAIN_S
            self._events.tell(
                "client.refused", f"NameTaken: {text}; another one asked for its name", "warning", client=request.name
            )
        raise NameTaken(text, remedy="Give this client another name in its settings, or stop the other one.")

    def _is_here(self, client: ClientId) -> bool:
        self._expect_no_longer()
        return any(client in entry.clients or client in entry.coming for entry in self._combiners.values())

    def _note(self, client: ClientId, now: KnownClient) -> None:
        before = self._known.get(client)
        if before is not None:
            self._names[before.name].discard(client)
        self._known[client] = now
        self._names.setdefault(now.name, set()).add(client)

    def _send_there(self, client: ClientId, combiner: CombinerName) -> None:
        before = self._clients.get(client)
        if before is not None and before.combiner in self._combiners:
            self._combiners[before.combiner].coming.discard(client)
        self._clients[client] = AssignedClient(combiner, self._loop.time())
        for name, entry in self._combiners.items():
            if name != combiner and (client in entry.clients or (before is not None and before.combiner == name)):
                self._dismiss(name, client, "it attaches elsewhere")
        if client not in self._combiners[combiner].clients:
            self._combiners[combiner].coming.add(client)
            self._on_their_way.append((client, self._clients[client]))

    def _expect_no_longer(self) -> None:
        """Keep no place for those who were sent somewhere a while ago and did not come."""
        late = self._loop.time() - _ON_THEIR_WAY_S
        while self._on_their_way and self._on_their_way[0][1].at <= late:
            client, sent = self._on_their_way.popleft()
            if self._clients.get(client) is sent and sent.combiner in self._combiners:
                self._combiners[sent.combiner].coming.discard(client)

    def _load(self, entry: ConnectedCombiner, newcomer: ClientId) -> int:
        """Count who is attached to a combiner or on the way to it, without the newcomer."""
        return len(entry.clients) + len(entry.coming) - (newcomer in entry.clients or newcomer in entry.coming)

    def _dismiss(self, combiner: CombinerName, client: ClientId, reason: str) -> None:
        """Send a client away; where its combiner is away, this is done when it is back and names its clients."""
        entry = self._combiners[combiner]
        if entry.outbox is not None:
            entry.outbox.send(DismissClient(client, reason))

    def _dismiss_unwelcome(self, combiner: CombinerName, clients: Collection[ClientId]) -> None:
        for client in clients:
            known, sent = self._known.get(client), self._clients.get(client)
            fault = self._registrations.fault_of(client) if self._registrations is not None else ""
            moved = self._moved.get(client)
            if known is not None and known.token in self._revoked:
                self._dismiss(combiner, client, _REVOKED)
            elif fault:
                self._dismiss(combiner, client, fault)
            elif moved is not None and moved.away_from == combiner:
                self._dismiss(combiner, client, "its cell is too small; it attaches elsewhere")
            elif sent is not None and sent.combiner != combiner and sent.combiner in self._combiners:
                self._dismiss(combiner, client, "it attaches elsewhere")

    def revoke(self, token: TokenId) -> None:
        """Cut off everybody who came in by a token, now and whenever they show up again."""
        self._revoked.add(token)
        for client in self.holders(token):
            sent = self._clients.pop(client, None)
            for name, entry in self._combiners.items():
                if client in entry.clients or (sent is not None and sent.combiner == name):
                    self._dismiss(name, client, _REVOKED)
                entry.coming.discard(client)
        for entry in self._combiners.values():
            if entry.token == token and entry.outbox is not None:
                entry.outbox.close(_REVOKED)

    def token_of(self, client: ClientId) -> TokenId | None:
        """Return the token that a client came by last; None where it is not known here."""
        known = self._known.get(client)
        return known.token if known is not None else None

    def is_revoked(self, client: ClientId) -> bool:
        """Tell whether the token is revoked that a client came by last."""
        return self.token_of(client) in self._revoked

    def holders(self, token: TokenId) -> frozenset[ClientId]:
        """Return the clients that came by a token last."""
        return frozenset(client for client, known in self._known.items() if known.token == token)

    def registered(self, clients: Iterable[ClientId]) -> list[Registered]:
        """Return what is known of those clients that showed what the operator vouches for them by."""
        known = map(self._registrations.registered, clients) if self._registrations is not None else ()
        return [client for client in known if client is not None]

    def name_of(self, client: ClientId) -> ClientName:
        """Return what people call a client."""
        known = self._known.get(client)
        return known.name if known is not None else ClientName(client[:12])

    def where(self) -> dict[ClientId, tuple[ClientName, CombinerName]]:
        """Return the attached clients, with their names and combiners."""
        return {
            client: (self.name_of(client), name) for name, entry in self._combiners.items() for client in entry.clients
        }

    def _who(self, client: ClientId, combiner: CombinerName) -> dict[str, str]:
        return {"client": self.name_of(client), "combiner": combiner}
