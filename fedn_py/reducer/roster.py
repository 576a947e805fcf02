"""Who is connected: combiners by their streams, clients by what combiners say, and who was sent where.

Rules it keeps:

- One client at a time under a name; one life of a combiner at a time under a name.
- A client is let in at a combiner by a ticket made for the two of them; the combiner learns only its hash.
- A combiner that is away for longer than the grace is lost; until then nobody is sent to it.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fedn_py.errors import PeerFault
from fedn_py.identity import ClientId, ClientName, CombinerName, InstanceId, TokenId
from fedn_py.protocol.assignment import Room, choose_combiner
from fedn_py.protocol.messages import (
    Assignment,
    AssignRequest,
    AttachedClients,
    CombinerHello,
    DismissClient,
    ExpectClient,
    ToCombiner,
)
from fedn_py.protocol.reducer_work import ClientsChanged, CombinerJoined, CombinerLost, Event
from fedn_py.reducer.event_log import EventLog
from fedn_py.transport.streams import Outbox
from fedn_py.transport.tickets import new_ticket

TICKET_VALID_S = 24 * 3600.0
_ON_THEIR_WAY_S = 30.0


class NameTaken(PeerFault):
    """Another client or combiner is connected under this name."""


class NoCombiner(PeerFault):
    """No combiner is connected, or none has room."""


@dataclass(slots=True)
class ConnectedCombiner:
    """A combiner that has joined, and may be away for a moment.

    Attributes:
        outbox: to its stream; None while it is away.
        away_since: on the loop's clock, None while its stream is open.
    """

    hello: CombinerHello
    token: TokenId
    outbox: Outbox[ToCombiner] | None
    clients: frozenset[ClientId] = frozenset()
    last_heard: float = 0.0
    lost_timer: asyncio.TimerHandle | None = None


@dataclass(frozen=True, slots=True)
class AssignedClient:
    """Where a client was sent.

    Attributes:
        at: when, on the loop's clock.
    """

    name: ClientName
    combiner: CombinerName
    token: TokenId
    at: float


@dataclass(slots=True)
class RosterLimits:
    """How long things may take.

    Attributes:
        combiner_grace_s: a combiner whose stream broke has this long to come back.
    """

    combiner_grace_s: float = 20.0


class Roster:
    """Who is connected, and who was sent where.

    Args:
        tell_machine: told of combiners that come and go and of their clients.
        authority_pem: handed to clients, to check combiners' certificates with.
        known: names of the clients that were here before this process began.
    """

    def __init__(
        self,
        tell_machine: Callable[[Event], None],
        events: EventLog,
        authority_pem: bytes,
        known: Mapping[ClientId, ClientName],
        limits: RosterLimits | None = None,
    ) -> None:
        self._tell_machine = tell_machine
        self._events = events
        self._authority_pem = authority_pem
        self._limits = limits or RosterLimits()
        self._combiners: dict[CombinerName, ConnectedCombiner] = {}
        self._clients: dict[ClientId, AssignedClient] = {}
        self._known = dict(known)
        self._names = {name: client for client, name in known.items()}
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
        entry = ConnectedCombiner(hello, token, outbox, last_heard=self._loop.time())
        if before is not None and before.hello.instance == hello.instance:
            entry.clients = before.clients
        self._combiners[hello.name] = entry
        self._tell_machine(CombinerJoined(hello.name, hello.instance))
        self._events.tell("combiner.joined", f"combiner {hello.name} joined from {hello.address}", combiner=hello.name)

    def leave(self, name: CombinerName, instance: InstanceId) -> None:
        """Note that a combiner's stream has ended; it is lost unless it comes back in time."""
        entry = self._combiners.get(name)
        if entry is None or entry.hello.instance != instance or entry.outbox is None:
            return
        entry.outbox = None
        grace_s = self._limits.combiner_grace_s
        entry.lost_timer = self._loop.call_later(grace_s, self._lose, name, entry.hello.instance)
        self._events.tell(
            "combiner.away", f"combiner {name} is away; it has {grace_s:g} s to come back", "warning", combiner=name
        )

    def attached(self, name: CombinerName, instance: InstanceId, message: AttachedClients) -> None:
        """Note who is attached to a combiner."""
        entry = self._combiners.get(name)
        if entry is None or entry.hello.instance != instance:
            return
        entry.last_heard = self._loop.time()
        now = frozenset(message.clients)
        if now == entry.clients:
            return
        came, went = now - entry.clients, entry.clients - now
        entry.clients = now
        self._tell_machine(ClientsChanged(name, instance, now))
        for client in sorted(came):
            self._events.tell(
                "client.attached", f"{self.name_of(client)} attached to {name}", **self._who(client, name)
            )
        for client in sorted(went):
            text = f"{self.name_of(client)} is no longer attached to {name}"
            self._events.tell("client.detached", text, "warning", **self._who(client, name))

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

    # ---- clients

    def assign(self, request: AssignRequest, token: TokenId, valid_s: float) -> Assignment:
        """Send a client to a combiner.

        Args:
            valid_s: how long the client's token is still good for.

        Raises:
            NameTaken: another client is connected under its name.
            NoCombiner: there is none with room.
        """
        self._check_name(request)
        rooms = {
            name: Room(self._load(name, request.client), entry.hello.max_clients)
            for name, entry in self._combiners.items()
            if entry.outbox is not None
        }
        chosen = choose_combiner(rooms, request.preferred_combiner)
        if chosen is None:
            full = f"all {len(rooms)} combiners are full" if rooms else "no combiner is connected"
            raise NoCombiner(full, remedy="Start a combiner, or raise max_clients of one; the client keeps trying.")
        before = self._clients.get(request.client)
        if before is not None and before.combiner != chosen and before.combiner in self._combiners:
            self._dismiss(request.client, before, "it attaches elsewhere")
        ticket, ticket_sha256 = new_ticket()
        valid_s = min(TICKET_VALID_S, valid_s)
        entry = self._combiners[chosen]
        assert entry.outbox is not None
        entry.outbox.send(ExpectClient(request.client, request.name, ticket_sha256, valid_s))
        self._clients[request.client] = AssignedClient(request.name, chosen, token, self._loop.time())
        self._names[request.name], self._known[request.client] = request.client, request.name
        return Assignment(chosen, entry.hello.address, self._authority_pem, ticket, valid_s)

    def _check_name(self, request: AssignRequest) -> None:
        holder = self._names.get(request.name)
        if holder is None or holder == request.client or not self._is_here(holder):
            return
        text = f"a client named {request.name!r} is already connected"
        self._events.tell(
            "client.refused", f"NameTaken: {text}; another one asked for its name", "warning", client=request.name
        )
        raise NameTaken(text, remedy="Give this client another name in its settings, or stop the other one.")

    def _is_here(self, client: ClientId) -> bool:
        return any(client in entry.clients for entry in self._combiners.values()) or self._on_its_way(client)

    def _on_its_way(self, client: ClientId) -> bool:
        assigned = self._clients.get(client)
        return assigned is not None and self._loop.time() - assigned.at < _ON_THEIR_WAY_S

    def _load(self, name: CombinerName, newcomer: ClientId) -> int:
        """Count who is attached to a combiner or on the way to it, without the newcomer."""
        entry = self._combiners[name]
        coming = {c for c, a in self._clients.items() if a.combiner == name and self._on_its_way(c)}
        return len((entry.clients | coming) - {newcomer})

    def _dismiss(self, client: ClientId, assigned: AssignedClient, reason: str) -> None:
        entry = self._combiners.get(assigned.combiner)
        if entry is not None and entry.outbox is not None:
            entry.outbox.send(DismissClient(client, reason))

    def revoke(self, token: TokenId) -> None:
        """Cut off everybody who came in by a token."""
        for client, assigned in list(self._clients.items()):
            if assigned.token == token:
                self._dismiss(client, assigned, "its token was revoked")
                del self._clients[client]
        for entry in self._combiners.values():
            if entry.token == token and entry.outbox is not None:
                entry.outbox.close("its token was revoked")

    def name_of(self, client: ClientId) -> ClientName:
        """Return what people call a client."""
        return self._known.get(client, ClientName(client[:12]))

    def where(self) -> dict[ClientId, tuple[ClientName, CombinerName]]:
        """Return the attached clients, with their names and combiners."""
        return {
            client: (self.name_of(client), name) for name, entry in self._combiners.items() for client in entry.clients
        }

    def _who(self, client: ClientId, combiner: CombinerName) -> dict[str, str]:
        return {"client": self.name_of(client), "combiner": combiner}
