"""The reducer's process: a roster of combiners and clients, and a store that outlives it.

The roster follows fedn_py/reducer/roster.py, the effects fedn_py/reducer/rounds.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from simulator.clock import Alarm
from simulator.network import Stream
from simulator.nodes import Node
from simulator.store import WeightedSum, first_progress

from fedn_py.identity import ClientId, CombinerName, Digest, InstanceId
from fedn_py.protocol.assignment import Room, choose_combiner
from fedn_py.protocol.messages import (
    AttachedClients,
    CellFailed,
    CombinerHello,
    DismissClient,
    PartialAggregate,
    RoundProgress,
    ValidationReport,
)
from fedn_py.protocol.reducer_work import (
    CellGaveUp,
    ClientsChanged,
    CloseFailedAttempt,
    CombinerJoined,
    CombinerLost,
    CommitRound,
    OpenAttempt,
    PartialArrived,
    RecordSession,
    RecordValidation,
    Reducer,
    RoundNotSaved,
    RoundSaved,
    SendCancel,
    SendOrder,
    SessionStarted,
    TellCommitted,
    TellRefused,
    TellWaiting,
    ValidationArrived,
)

ON_THEIR_WAY_S = 30.0


@dataclass
class Seat:
    """A combiner that has joined; ``stream`` is None while it is away."""

    instance: InstanceId
    stream: Stream | None
    max_clients: int
    clients: frozenset[ClientId] = frozenset()
    lost_alarm: Alarm | None = None


class ReducerNode(Node):
    """The one reducer."""

    state: Reducer

    def begin(self) -> None:
        """Start with what the store remembers."""
        self.state = Reducer()
        self.seats: dict[CombinerName, Seat] = {}
        self.assigned: dict[ClientId, tuple[CombinerName, float]] = {}
        store = self.world.store
        if self.life == 1:
            self.take(SessionStarted(first_progress(store.terms)))
        elif (started := self.world.recover(store)) is not None:
            self.take(started)

    # ---- combiners

    def heard(self, stream: Stream, message: Any) -> None:
        """Take a message from a combiner."""
        name = CombinerName(stream.dialler.name)
        if isinstance(message, CombinerHello):
            self._join(stream, message)
            return
        seat = self.seats.get(name)
        if seat is None or seat.stream is not stream:
            return
        match message:
            case AttachedClients(clients):
                if frozenset(clients) != seat.clients:
                    seat.clients = frozenset(clients)
                    self.take(ClientsChanged(name, seat.instance, seat.clients))
            case PartialAggregate():
                self.take(PartialArrived(name, seat.instance, message))
            case CellFailed(generation, reason):
                self.take(CellGaveUp(name, seat.instance, generation, reason))
            case ValidationReport():
                self.take(ValidationArrived(name, seat.instance, message))
            case RoundProgress():
                pass

    def _join(self, stream: Stream, hello: CombinerHello) -> None:
        before = self.seats.get(hello.name)
        if before is not None and before.stream is not None and before.instance != hello.instance:
            self.world.chaos.noticed("combiner refused while its last life seemed open")
            stream.break_off()
            return
        if before is not None and before.lost_alarm is not None:
            before.lost_alarm.cancel()
        seat = Seat(hello.instance, stream, hello.max_clients)
        if before is not None and before.instance == hello.instance:
            seat.clients = before.clients
            self.world.chaos.noticed("combiner came back in time")
        self.seats[hello.name] = seat
        self.take(CombinerJoined(hello.name, hello.instance, hello.max_clients))

    def stream_ended(self, stream: Stream) -> None:
        """Give a combiner whose stream broke some time to come back."""
        name = CombinerName(stream.dialler.name)
        seat = self.seats.get(name)
        if seat is not None and seat.stream is stream:
            seat.stream = None
            seat.lost_alarm = self.later(self.world.sizes.combiner_grace_s, lambda: self._lose(name, seat.instance))

    def _lose(self, name: CombinerName, instance: InstanceId) -> None:
        del self.seats[name]
        self.take(CombinerLost(name, instance))

    def _send(self, name: CombinerName, instance: InstanceId, message: Any) -> None:
        seat = self.seats.get(name)
        if seat is not None and seat.instance == instance and seat.stream is not None:
            seat.stream.send(self, message)
        else:
            self.world.chaos.noticed("order to a combiner that is away")

    # ---- clients

    def assign(self, client: ClientId, reply: Callable[[CombinerName | None], None]) -> None:
        """Send a client to a combiner."""
        rooms = {
            name: Room(self._load(name, client), seat.max_clients)
            for name, seat in self.seats.items()
            if seat.stream is not None
        }
        chosen = choose_combiner(rooms, "")
        if chosen is not None:
            before = self.assigned.get(client)
            if before is not None and before[0] != chosen and before[0] in self.seats:
                self.world.chaos.noticed("client moved to another combiner")
                self._send(before[0], self.seats[before[0]].instance, DismissClient(client, "it attaches elsewhere"))
            self.assigned[client] = (chosen, self.world.clock.now)
        reply(chosen)

    def _load(self, name: CombinerName, newcomer: ClientId) -> int:
        since = self.world.clock.now - ON_THEIR_WAY_S
        coming = {client for client, (where, at) in self.assigned.items() if where == name and at > since}
        return len((self.seats[name].clients | coming) - {newcomer})

    # ---- effects

    def perform(self, effect: Any) -> None:
        """Do one effect."""
        world = self.world
        match effect:
            case OpenAttempt():
                world.store.open_attempt(effect)
                world.invariants.attempt_opened(effect)
            case SendOrder(combiner, instance, order):
                world.invariants.order_sent(combiner, order)
                self._send(combiner, instance, order)
            case SendCancel(combiner, instance, cancelled):
                self._send(combiner, instance, cancelled)
            case CommitRound():
                self.later(world.chaos.uniform(0.1, 3), lambda: self._commit(effect))
            case CloseFailedAttempt():
                world.store.close_failed(effect)
                world.invariants.attempt_failed(effect.plan)
                world.chaos.noticed("attempt failed")
            case TellCommitted(committed):
                world.invariants.commit_told(committed)
                for seat in self.seats.values():
                    if seat.stream is not None:
                        seat.stream.send(self, committed)
            case RecordValidation(_, number, reports):
                world.store.validated[number] = sum(report.validated for report in reports)
            case RecordSession():
                world.store.record_session(effect)
                world.session_recorded(effect)
                if effect.status == "paused" and "times, at last with" in effect.reason:
                    world.chaos.noticed("session paused after its last attempt")
            case TellRefused():
                world.chaos.noticed("unfit partial refused")
            case TellWaiting():
                pass

    def _commit(self, effect: CommitRound) -> None:
        world, plan = self.world, effect.plan
        if world.chaos.happens("reducer crashed before a commit"):
            world.crash_for_a_while(self)
            return
        attempt = (plan.session, plan.round_number, plan.attempt)
        if world.chaos.happens("models not merged"):
            self.take(RoundNotSaved(*attempt, reason="the sums do not make a model"))
            return
        answers = [(name, cell.partial) for name, cell in sorted(effect.cells.items()) if cell.partial is not None]
        coordinates: dict[ClientId, int] = {}
        for _, partial in answers:
            if partial.sum_object is not None:
                for client, value in world.store.objects[partial.sum_object].coordinates.items():
                    coordinates[client] = coordinates.get(client, 0) + value
        merged = WeightedSum(coordinates, sum(partial.weight for _, partial in answers))
        named = f"{plan.base_model}{sorted(coordinates.items())}{merged.weight}"
        model = Digest(sha256(named.encode()).hexdigest())
        world.store.objects[model] = merged
        row = world.store.rounds[plan.round_number]
        if row.status != "committed":
            included = tuple((name, c) for name, partial in answers for c in partial.included)
            excluded = tuple(exclusion for _, partial in answers for exclusion in partial.excluded)
            row = replace(row, status="committed", model=model, included=included, excluded=excluded, plan=plan)
            world.store.rounds[plan.round_number] = row
        world.invariants.round_committed(row, effect.cells)
        if world.chaos.happens("reducer crashed after a commit"):
            world.crash_for_a_while(self)
            return
        self.later(world.chaos.uniform(0.1, 2), lambda: self.take(RoundSaved(*attempt, model=row.model or model)))
