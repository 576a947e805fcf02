"""The reducer's process in a masked network; follows fedn_py/reducer/rounds.py, masked_rounds.py and roster.py.

Its events wait in a mailbox: while one effect takes its time, what comes in waits, and words are still heard.
"""

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from simulator.lease import ReducerWelcome
from simulator.masked.attempts import Attempts, ordered
from simulator.masked.certified import Speaker
from simulator.masked.reducer_words import ReducerWords
from simulator.masked.store import MaskedRow
from simulator.masked.unmasking import Unmasking
from simulator.network import Stream
from simulator.reducer_node import ReducerNode
from simulator.store import SessionRow, first_progress
from simulator.working import Work, awaited

from fedn_py.identity import ClientId, ClientName, CombinerName
from fedn_py.protocol.assignment import Room, choose_combiner
from fedn_py.protocol.masked.registry import Registered
from fedn_py.protocol.masked.words import MaskedTerms, WordToClient
from fedn_py.protocol.masked_rounds_work import (
    MaskedEffect,
    PlanMasked,
)
from fedn_py.protocol.messages import (
    AttachedClients,
    CellFailed,
    CellOrder,
    CombinerHello,
    CommitteeFormed,
    DismissClient,
    MaskedPartial,
    PolicyNews,
    ValidationReport,
    WordForClients,
    WordPassedOn,
)
from fedn_py.protocol.reducer_terms import SessionTerms
from fedn_py.protocol.reducer_work import (
    CellGaveUp,
    ClientsChanged,
    CloseFailedAttempt,
    ExpectCombiner,
    MoveClients,
    OpenAttempt,
    RecordChange,
    RecordIntent,
    RecordLimits,
    RecordNewWork,
    RecordSession,
    RecordValidation,
    SendCancel,
    SendOrder,
    SessionStarted,
    TellCommitted,
    TellCommittedAgain,
    TellRefused,
    ValidationArrived,
)
from fedn_py.reducer.lease import LEASE_KEY
from fedn_py.reducer.ledger import RecordExists

if TYPE_CHECKING:
    from simulator.masked.world import MaskedWorld


@dataclass(frozen=True)
class Moved:
    """A client that was sent away from a combiner, and where it is to go."""

    away_from: CombinerName
    targets: frozenset[CombinerName]


class MaskedReducerNode(ReducerNode):
    """One of the reducers.

    Attributes:
        attempts: at the round at hand.
    """

    world: "MaskedWorld"

    def begin(self) -> None:
        """Start with nothing, and wait for the lease."""
        self.moved: dict[ClientId, Moved] = {}
        self.speaker = Speaker(self.world.operator.newest)
        self.attempts, self.words, self.unmasking = Attempts(self), ReducerWords(self), Unmasking(self)
        super().begin()

    def act(self) -> None:
        """Go on with what the store remembers."""
        self.world.invariants.servers.read_back(self)
        self.speaker.take(self.world.operator.newest)
        self.attempts.restore()
        super().act()

    def start_session(self, terms: SessionTerms) -> None:
        """Begin another session."""
        self.spawn(self._start(terms), self.take_all)

    def _start(self, terms: SessionTerms) -> Work:
        kept = self.shelf.keep(SessionRow(terms))
        with suppress(RecordExists):  # written before, by a write whose answer was lost and that came late
            yield from self.patiently(lambda: awaited(self.ledger.add("sessions", terms.session, kept)))
        yield from self.patiently(lambda: awaited(self.ledger.stamp("network", LEASE_KEY)))
        return [SessionStarted(first_progress(terms))]

    # ---- combiners

    def heard(self, stream: Stream, message: Any) -> None:
        """Take a message from a combiner."""
        self.world.invariants.servers.reached(self, message, by_reducer=True)
        name = CombinerName(stream.dialler.name)
        if not self.fence:
            stream.break_off()  # it stands by
            return
        self.world.heard_word(self, message)
        if isinstance(message, CombinerHello):
            stream.send(self, ReducerWelcome(self.fence))
            self._join(stream, message)
            seat = self.seats.get(name)
            if seat is not None and seat.stream is stream:
                self._send(name, seat.instance, PolicyNews(self.speaker.signed_policy))
            return
        seat = self.seats.get(name)
        if seat is None or seat.stream is not stream:
            return
        match message:
            case AttachedClients(clients):
                self._attached(name, frozenset(clients))
            case CellFailed(generation, reason):
                self.take(CellGaveUp(name, seat.instance, generation, reason))
            case ValidationReport():
                self.take(ValidationArrived(name, seat.instance, message))
            case CommitteeFormed():
                self.words.committee_formed(name, message)
            case MaskedPartial():
                self.words.partial_arrived(name, seat.instance, message)
            case WordPassedOn(client, word):
                self.words.heard(name, client, word)

    def _attached(self, name: CombinerName, now: frozenset[ClientId]) -> None:
        seat = self.seats[name]
        for client in sorted(now):
            self._dismiss_unwelcome(name, client)
        registered = self._registered(now)
        if now == seat.clients:
            return
        came, seat.clients = now - seat.clients, now
        self.take(ClientsChanged(name, seat.instance, now, registered))
        self.words.came(came)

    def _registered(self, clients: Iterable[ClientId]) -> frozenset[ClientId]:
        return frozenset(client for client in clients if self.speaker.vouches_for(client))

    def _dismiss_unwelcome(self, name: CombinerName, client: ClientId) -> None:
        moved, sent = self.moved.get(client), self.assigned.get(client)
        elsewhere = sent is not None and sent[0] != name and sent[0] in self.seats
        if not self.speaker.vouches_for(client) or elsewhere or (moved is not None and moved.away_from == name):
            self._send(name, self.seats[name].instance, DismissClient(client, "it attaches elsewhere"))

    def say(self, clients: Collection[ClientId], word: WordToClient) -> None:
        """Have a word passed on to clients, each through the combiner that it is attached to now."""
        for name, seat in sorted(self.seats.items()):
            here = tuple(sorted(client for client in clients if client in seat.clients))
            if here and seat.stream is not None:
                self.world.invariants.servers.said_by_reducer(self, word)
                self._send(name, seat.instance, WordForClients(here, word))

    def send_all(self, message: Any) -> None:
        """Send to every connected combiner."""
        for name, seat in sorted(self.seats.items()):
            self._send(name, seat.instance, message)

    # ---- clients

    def assign(self, client: ClientId, reply: Callable[[CombinerName | None], None]) -> None:
        """Send a client to a combiner; None where there is none, or where this reducer stands by."""
        if not self.fence or not self.speaker.vouches_for(client):
            reply(None)
            return
        rooms = {
            name: Room(self._load(name, client), seat.max_clients)
            for name, seat in self.seats.items()
            if seat.stream is not None
        }
        chosen = choose_combiner(self._allowed(client, rooms), "")
        if chosen is not None:
            before = self.assigned.get(client)
            self.assigned[client] = (chosen, self.world.clock.now)
            for name, seat in sorted(self.seats.items()):
                if name != chosen and (client in seat.clients or (before is not None and before[0] == name)):
                    self.world.chaos.noticed("client moved to another combiner")
                    self._send(name, seat.instance, DismissClient(client, "it attaches elsewhere"))
        reply(chosen)

    def _allowed(self, client: ClientId, rooms: dict[CombinerName, Room]) -> dict[CombinerName, Room]:
        moved = self.moved.get(client)
        if moved is None:
            return rooms
        others = {name: room for name, room in rooms.items() if name != moved.away_from}
        if not others:
            del self.moved[client]
            return rooms
        free = {n: room for n, room in others.items() if n in moved.targets and room.clients < room.max_clients}
        return free or others

    def tell(self, combiner: CombinerName, message: Any) -> None:
        """Send to a combiner, whichever life of it has joined."""
        if combiner in self.seats:
            self._send(combiner, self.seats[combiner].instance, message)

    def name_of(self, client: ClientId) -> ClientName:
        """Return what people call a client."""
        return ClientName(repr(self.world.clients[client]))

    def registered(self, client: ClientId) -> Registered:
        """Return what the operator vouches for a client by."""
        return self.world.clients[client].who.registered

    # ---- effects

    def _perform(self, effect: Any) -> Work:
        world = self.world
        match effect:
            case OpenAttempt():
                cells = ordered(effect.cells)
                yield from self.attempts.write(MaskedRow(effect.plan, "running", effect.generation, cells))
            case SendOrder(combiner, instance, order):
                if isinstance(order, CellOrder):
                    order = self._with_terms(combiner, order)
                    world.invariants.servers.order_sent(combiner, order)
                self._send(combiner, instance, order)
            case PlanMasked():
                planned = yield from self.attempts.plan(effect)
                return [planned]
            case MaskedEffect():
                following = yield from self.attempts.perform(effect)
                return following
            case MoveClients(combiner, clients, targets):
                world.chaos.noticed("clients of a small cell are sent elsewhere")
                for client in sorted(clients):
                    self.moved[client] = Moved(combiner, targets)
                    if combiner in self.seats:
                        self._send(combiner, self.seats[combiner].instance, DismissClient(client, "its cell is small"))
            case SendCancel(combiner, instance, cancelled):
                self._send(combiner, instance, cancelled)
            case CloseFailedAttempt(plan):
                yield from self.round_changed(
                    plan.session, plan.round_number, lambda row: replace(row, status="failed")
                )
                world.invariants.times.attempt_failed(plan, effect.reason)
                world.chaos.noticed("attempt failed")
            case TellCommitted(committed):
                world.invariants.servers.commit_told(committed)
                self.send_all(committed)
            case RecordValidation(session, number):
                yield from self.round_changed(session, number, lambda row: replace(row, validated=True))
                world.chaos.noticed("round validated")
            case RecordSession(session, status, reason):
                yield from self.changed(
                    "sessions", session, lambda row: replace(row, status=status, reason=reason, intent="run")
                )
                if status in {"finished", "stopped"}:
                    self.moved.clear()
                world.session_recorded(effect)
            case TellCommittedAgain(combiner, instance, committed):
                if committed.session == world.store.terms.session:
                    world.invariants.servers.commit_told(committed)
                self._send(combiner, instance, committed)
            case ExpectCombiner() | RecordIntent() | RecordChange() | RecordLimits():
                yield from super()._perform(effect)
            case RecordNewWork(session, parameters):
                yield from self.changed(
                    "sessions", session, lambda row: replace(row, terms=replace(row.terms, parameters=parameters))
                )
                world.chaos.noticed("new work on the same base")
            case TellRefused(reason=reason):
                world.chaos.noticed(f"refused by the reducer: {reason.split(':')[0]}")
        return []

    def _with_terms(self, combiner: CombinerName, order: CellOrder) -> CellOrder:
        at = self.attempts.at(order.plan)
        assert at is not None, "an attempt is written down before it is ordered"
        return replace(order, masked=MaskedTerms(self.speaker.certificate, at.plan, at.orders[combiner]))

    def random_bytes(self) -> bytes:
        """Draw random bytes."""
        return self.world.rng.randbytes(32)

    def take_policy(self) -> None:
        """Go by the operator's newest policy."""
        self.speaker.take(self.world.operator.newest)
        self.send_all(PolicyNews(self.speaker.signed_policy))
        for name, seat in sorted(self.seats.items()):
            for client in sorted(seat.clients):
                self._dismiss_unwelcome(name, client)
            self.take(ClientsChanged(name, seat.instance, seat.clients, self._registered(seat.clients)))
