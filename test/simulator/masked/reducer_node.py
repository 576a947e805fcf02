"""The reducer's process in a masked network; follows fedn_py/reducer/rounds.py, masked_rounds.py and roster.py.

Its events wait in a mailbox: while one effect takes its time, what comes in waits, and words are still heard.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from simulator.masked.certified import TRUST, Speaker, combiner_key
from simulator.masked.reducer_words import ReducerWords
from simulator.masked.store import MaskedRow, frozen
from simulator.masked.unmasking import Unmasking
from simulator.masked.working import Work, WorkingNode
from simulator.network import Stream
from simulator.reducer_node import ReducerNode
from simulator.store import first_progress

from fedn_py.errors import FednError, PeerFault
from fedn_py.identity import ClientId, ClientName, CombinerName
from fedn_py.protocol.assignment import Room, choose_combiner
from fedn_py.protocol.machine import StartTimer, UnexpectedEvent
from fedn_py.protocol.masked.opening_work import (
    AskStream,
    CommitMean,
    KeyUnset,
    OpenCells,
    ReportFailed,
    SaveDocument,
    SendOpenSum2,
    SignNotOpened,
    UnsetKey,
)
from fedn_py.protocol.masked.words import MaskedTerms, WordToClient
from fedn_py.protocol.masked_rounds_work import (
    AttemptNotPlanned,
    AttemptPlanned,
    MaskedEffect,
    MaskedEvent,
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
    RoundPlan,
    ValidationReport,
    WordForClients,
    WordPassedOn,
)
from fedn_py.protocol.reducer_terms import SessionTerms
from fedn_py.protocol.reducer_work import (
    CellGaveUp,
    ClientsChanged,
    CloseFailedAttempt,
    MoveClients,
    OpenAttempt,
    RecordNewWork,
    RecordSession,
    RecordValidation,
    Reducer,
    SendCancel,
    SendOrder,
    SessionStarted,
    TellCommitted,
    TellRefused,
    ValidationArrived,
)
from fedn_py.reducer.attempts import AttemptAtHand
from fedn_py.reducer.planning import Before, PlannedAttempt, plan_attempt
from fedn_py.reducer.records import OrderedCell

if TYPE_CHECKING:
    from simulator.masked.world import MaskedWorld


@dataclass(frozen=True)
class Moved:
    """A client that was sent away from a combiner, and where it is to go."""

    away_from: CombinerName
    targets: frozenset[CombinerName]


class MaskedReducerNode(WorkingNode, ReducerNode):
    """The one reducer.

    Attributes:
        attempts: at the round at hand, by number.
    """

    world: "MaskedWorld"

    def begin(self) -> None:
        """Start with what the store remembers."""
        self.state = Reducer()
        self.seats = {}
        self.assigned = {}
        self.moved: dict[ClientId, Moved] = {}
        self.waiting: deque[Any] = deque()
        self.works = False
        self.speaker = Speaker(self.world.operator.newest)
        self.at_hand_of: tuple[str, int] = ("", 0)
        self.attempts: dict[int, AttemptAtHand] = {}
        self.words, self.unmasking = ReducerWords(self), Unmasking(self)
        store = self.world.store
        if self.life == 1:
            self.take(SessionStarted(first_progress(store.terms)))
            return
        self.world.invariants.servers.read_back(self)
        started = self.world.recover(store)
        if started is not None:
            if store.rounds:
                self.at_hand_of = (store.terms.session, max(store.rounds))
                self.attempts = store.attempts(TRUST.deployment)
            self.take(started)

    def start_session(self, terms: SessionTerms) -> None:
        """Begin another session."""
        self.world.store.begin(terms)
        self.take(SessionStarted(first_progress(terms)))

    # ---- the mailbox

    def take(self, event: Any) -> bool:
        """Put an event at the end of the queue."""
        self.waiting.append(event)
        if not self.works:
            self.works = True
            self.spawn(self._work())
        return True

    def _work(self) -> Work:
        while self.waiting:
            event = self.waiting.popleft()
            before = self.state
            try:
                self.state, effects = self._step(before, event)
            except UnexpectedEvent as unexpected:
                self.world.unexpected(self, event, unexpected)
                continue
            except PeerFault as fault:
                self.world.refused(self, event, fault)
                continue
            self.world.stepped(self, before, event, effects)
            following: list[Any] = []
            for effect in effects:
                self.perhaps_crash()
                if isinstance(effect, StartTimer):
                    self.later(effect.after_s, lambda event=effect.event: self.take(event))
                else:
                    following += (yield from self._perform(effect)) or ()
            self.waiting.extendleft(reversed(following))
        self.works = False

    def stored(self) -> Work:
        """Wait until a write to the store is acknowledged, which may take long."""
        yield self.world.chaos.uniform(1, 20) if self.world.chaos.happens("store slow") else 0.001

    # ---- combiners

    def heard(self, stream: Stream, message: Any) -> None:
        """Take a message from a combiner."""
        self.world.invariants.servers.reached(self, message, by_reducer=True)
        self.world.heard_word(self, message)
        name = CombinerName(stream.dialler.name)
        if isinstance(message, CombinerHello):
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
        """Send a client to a combiner."""
        if not self.speaker.vouches_for(client):
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

    def name_of(self, client: ClientId) -> ClientName:
        """Return what people call a client."""
        return ClientName(repr(self.world.clients[client]))

    # ---- effects

    def _perform(self, effect: Any) -> Work:
        world = self.world
        match effect:
            case OpenAttempt():
                yield from self.stored()
                cells = _ordered(effect.cells)
                self._write_attempt(MaskedRow(effect.plan, "running", effect.generation, cells))
            case SendOrder(combiner, instance, order):
                if isinstance(order, CellOrder):
                    order = self._with_terms(combiner, order)
                    world.invariants.servers.order_sent(combiner, order)
                self._send(combiner, instance, order)
            case PlanMasked():
                planned = yield from self._plan(effect)
                return [planned]
            case MaskedEffect():
                following = yield from self._masked(effect)
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
                yield from self.stored()
                row = world.store.rounds[plan.round_number]
                world.store.rounds[plan.round_number] = replace(row, status="failed")
                world.invariants.times.attempt_failed(plan, effect.reason)
                world.chaos.noticed("attempt failed")
            case TellCommitted(committed):
                world.invariants.servers.commit_told(committed)
                self.send_all(committed)
            case RecordValidation():
                yield from self.stored()
                world.chaos.noticed("round validated")
            case RecordSession():
                yield from self.stored()
                world.store.record_session(effect)
                if effect.status in {"finished", "stopped"}:
                    self.moved.clear()
                world.session_recorded(effect)
            case RecordNewWork(_, parameters):
                yield from self.stored()
                world.store.terms = replace(world.store.terms, parameters=parameters)
                world.chaos.noticed("new work on the same base")
            case TellRefused(reason=reason):
                world.chaos.noticed(f"refused by the reducer: {reason.split(':')[0]}")
        return []

    def _with_terms(self, combiner: CombinerName, order: CellOrder) -> CellOrder:
        at = self.attempt_at(order.plan)
        assert at is not None, "an attempt is written down before it is ordered"
        return replace(order, masked=MaskedTerms(self.speaker.certificate, at.plan, at.orders[combiner]))

    def attempt_at(self, plan: RoundPlan) -> AttemptAtHand | None:
        """Return an attempt at the round at hand."""
        if self.at_hand_of != (plan.session, plan.round_number):
            return None
        return self.attempts.get(plan.attempt)

    # ---- planning

    def _plan(self, effect: PlanMasked) -> Work:
        plan = effect.plan
        where = (plan.session, plan.round_number, plan.attempt)
        yield from self.stored()
        if self.speaker.signed_policy != self.world.operator.newest:
            self._take_policy()
        secret = self.random_bytes()
        try:
            planned = self._planned(effect, secret)
        except FednError as fault:
            self.world.chaos.noticed(f"attempt not planned: {fault.code}")
            return AttemptNotPlanned(*where, f"{fault.code}: {fault.message}")
        at = AttemptAtHand(plan.session, planned.plan, planned.orders, planned.terms, planned.attempt)
        yield from self.stored()
        ordered = _ordered({name: cell for name, cell in effect.cells.items() if name in at.orders})
        row = MaskedRow(plan, "running", effect.progress.generation, ordered, {plan.attempt: frozen(at)}, secret)
        self.perhaps_crash("reducer crashed around a plan")
        self._write_attempt(row)
        self.world.invariants.servers.attempt_planned(self, effect, planned)
        if self.at_hand_of != (plan.session, plan.round_number):
            self.at_hand_of, self.attempts = (plan.session, plan.round_number), {}
        at.round_secret = secret
        self.attempts[plan.attempt] = at
        self.perhaps_crash("reducer crashed around a plan")
        names = {client: self.name_of(client) for cell in effect.cells.values() for client in cell.clients}
        return AttemptPlanned(*where, planned.attempt, planned.left_out, names)

    def _take_policy(self) -> None:
        self.speaker.take(self.world.operator.newest)
        self.send_all(PolicyNews(self.speaker.signed_policy))
        for name, seat in sorted(self.seats.items()):
            for client in sorted(seat.clients):
                self._dismiss_unwelcome(name, client)
            self.take(ClientsChanged(name, seat.instance, seat.clients, self._registered(seat.clients)))

    def _planned(self, effect: PlanMasked, secret: bytes) -> PlannedAttempt:
        keys = {name: combiner_key(name) for name in self.seats}
        before = self._before(effect.plan)
        size = self.world.n_parameters
        return plan_attempt(effect, self.speaker, keys, n_parameters=size, before=before, round_secret=secret)

    def _before(self, plan: RoundPlan) -> Before | None:
        if plan.round_number == 1:
            return None
        row = self.world.store.rounds[plan.round_number - 1]
        assert row.link is not None
        assert row.commit is not None
        return Before(row.attempts[row.link.attempt].plan_body.beacon, row.link, row.commit)

    def _write_attempt(self, fresh: MaskedRow) -> None:
        plan, rounds = fresh.plan, self.world.store.rounds
        old = rounds.get(plan.round_number)
        if old is not None:
            self.world.invariants.servers.attempt_reopened(old, fresh)
            earlier = {number: at for number, at in old.attempts.items() if number != plan.attempt}
            fresh = replace(fresh, attempts={**earlier, **fresh.attempts})
            if not fresh.attempts.get(plan.attempt):
                fresh = replace(fresh, round_secret=old.round_secret)
        rounds[plan.round_number] = fresh
        self.world.chaos.noticed(f"attempt {min(plan.attempt, 4)}")

    def random_bytes(self) -> bytes:
        """Draw random bytes."""
        return self.world.rng.randbytes(32)

    # ---- what an attempt's machine asks for

    def _masked(self, wanted: MaskedEffect) -> Work:
        at = self._needed(wanted)
        match wanted.effect:
            case SaveDocument(attempt):
                yield from self._save(at, attempt)
            case SendOpenSum2(opening):
                self.words.ask_to_open(at, opening)
            case AskStream(ctx, member):
                self.words.ask_stream(at, ctx, member)
            case OpenCells(ctxs):
                self.spawn(self.unmasking.open(at, ctxs), self._take_all)
            case CommitMean(ctxs):
                self.spawn(self.unmasking.commit(at, ctxs), self._take_all)
            case UnsetKey():
                yield from self._unset_key(at)
                return [MaskedEvent(*at.where, KeyUnset())]
            case SignNotOpened(void):
                self.world.invariants.servers.said_by_reducer(self, self.speaker.sign(void))
                self.send_all(WordForClients((), self.speaker.sign(void)))
            case ReportFailed(reason):
                self.words.ask_to_abort(at, reason)
        return []

    def _needed(self, wanted: MaskedEffect) -> AttemptAtHand:
        if self.at_hand_of != (wanted.session, wanted.round_number) or wanted.attempt not in self.attempts:
            self.at_hand_of = (wanted.session, wanted.round_number)
            self.attempts = self.world.store.attempts(TRUST.deployment)
        return self.attempts[wanted.attempt]

    def _take_all(self, events: Iterable[Any] | None) -> None:
        for event in events or ():
            self.take(event)

    def _save(self, at: AttemptAtHand, attempt: Any) -> Work:
        opens = attempt.opening and not at.attempt.opening
        kept = frozen(replace(at, attempt=attempt))
        if opens:
            self.perhaps_crash("reducer crashed before opening is stored")
        yield from self.stored()
        number, rounds = attempt.round, self.world.store.rounds
        row = rounds[number]
        self.world.invariants.servers.document_changed(row.attempts[attempt.attempt].attempt, attempt)
        rounds[number] = replace(row, attempts={**row.attempts, attempt.attempt: kept})
        at.attempt = attempt
        if opens:
            self.perhaps_crash("reducer crashed after opening is stored")

    def _unset_key(self, at: AttemptAtHand) -> Work:
        at.round_secret = None
        at.opened = None
        self.perhaps_crash("reducer crashed before its key is unset")
        yield from self.stored()
        if self.world.machines.unsets_key:
            row = self.world.store.rounds[at.attempt.round]
            self.world.store.rounds[at.attempt.round] = replace(row, round_secret=None)
        self.perhaps_crash("reducer crashed after its key is unset")

    def secret_of(self, at: AttemptAtHand) -> bytes:
        """Return what opens an attempt's answers."""
        if at.round_secret is None:
            at.round_secret = self.world.store.rounds[at.attempt.round].round_secret
        assert at.round_secret is not None
        return at.round_secret


def _ordered(cells: Any) -> tuple[OrderedCell, ...]:
    return tuple(
        OrderedCell(name, cell.instance, cell.generation, tuple(sorted(cell.clients))) for name, cell in cells.items()
    )
