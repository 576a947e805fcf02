"""A reducer's process: a roster of combiners and clients, and stores that outlive it.

The roster follows fedn_py/reducer/roster.py, the effects fedn_py/reducer/rounds.py. Its events wait in a mailbox: while
one effect takes its time, what comes in waits.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from simulator.clock import Alarm
from simulator.lease import NOT_THE_ONE, ReducerWelcome
from simulator.network import Stream
from simulator.store import RoundRow, WeightedSum, with_room
from simulator.storing import StoringNode
from simulator.working import Work

from fedn_py.errors import FednError, PeerFault
from fedn_py.identity import ClientId, CombinerName, Digest, InstanceId
from fedn_py.protocol.assignment import Room, choose_combiner
from fedn_py.protocol.machine import StartTimer, UnexpectedEvent
from fedn_py.protocol.messages import (
    AttachedClients,
    CellFailed,
    CombinerHello,
    DismissClient,
    PartialAggregate,
    RoundCommitted,
    RoundProgress,
    ValidationReport,
)
from fedn_py.protocol.plain_cells import excluded_of
from fedn_py.protocol.reducer_terms import each, with_limits
from fedn_py.protocol.reducer_work import (
    CellGaveUp,
    ClientsChanged,
    CloseFailedAttempt,
    CombinerJoined,
    CombinerLost,
    CommitRound,
    ExpectCombiner,
    ExtendAttempt,
    OpenAttempt,
    PartialArrived,
    RecordChange,
    RecordIntent,
    RecordLimits,
    RecordSession,
    RecordValidation,
    Reducer,
    RoundNotSaved,
    RoundSaved,
    SendCancel,
    SendOrder,
    TellCommitted,
    TellCommittedAgain,
    TellRefused,
    TellWaiting,
    ValidationArrived,
)
from fedn_py.reducer.round_records import CommittedElsewhere

ON_THEIR_WAY_S = 30.0


@dataclass
class Seat:
    """A combiner that has joined; ``stream`` is None while it is away."""

    instance: InstanceId
    stream: Stream | None
    max_clients: int
    clients: frozenset[ClientId] = frozenset()
    lost_alarm: Alarm | None = None


class ReducerNode(StoringNode):
    """One of the reducers."""

    state: Reducer

    def begin(self) -> None:
        """Start with nothing, and wait for the lease."""
        self.state = Reducer()
        self.seats: dict[CombinerName, Seat] = {}
        self.assigned: dict[ClientId, tuple[CombinerName, float]] = {}
        self.waiting: deque[Any] = deque()
        self.works = False
        self.stand_by()

    def leave_room(self) -> Work:
        """See LeasedNode.leave_room; follows Sessions._take_over in fedn_py/reducer/sessions.py."""
        store = self.world.store
        if store.rounds and store.status in {"running", "paused"}:
            yield from self.round_changed(store.terms.session, max(store.rounds), with_room)

    def act(self) -> None:
        """Go on with what the store remembers."""
        self.state = Reducer(told=last_commit(self.world.store))
        started = self.world.recover(self.world.store)
        self.world.invariants.recovered(self, started)
        if started is not None:
            self.take(started)
        self.spawn(self.sweeping())

    # ---- the mailbox

    def take(self, event: Any) -> bool:
        """Put an event at the end of the queue."""
        self.waiting.append(event)
        if not self.works:
            self.works = True
            self.spawn(self._work())
        return True

    def take_all(self, events: Iterable[Any] | None) -> None:
        """Take what work has returned."""
        for event in events or ():
            self.take(event)

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
            if effects:
                self.perhaps_crash()
            self.waiting.extendleft(reversed(following))
        self.works = False

    # ---- combiners

    def heard(self, stream: Stream, message: Any) -> None:
        """Take a message from a combiner."""
        name = CombinerName(stream.dialler.name)
        if not self.fence:
            stream.break_off()  # it stands by
            return
        if isinstance(message, CombinerHello):
            stream.send(self, ReducerWelcome(self.fence))
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
        seat = self.seats.get(name)
        if seat is None or seat.instance != instance or seat.stream is not None:
            return  # it rang while this reducer stood still, and a new life was heard first
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
        """Send a client to a combiner; None where there is none, or where this reducer stands by."""
        if not self.fence:
            reply(None)
            return
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

    def _perform(self, effect: Any) -> Work:
        """Do one effect; returns what follows from it."""
        world = self.world
        match effect:
            case OpenAttempt():
                yield from self._open(effect)
            case ExtendAttempt():
                yield from self._extend(effect)
            case ExpectCombiner(combiner, instance):
                self._expect(combiner, instance)
            case TellCommittedAgain(combiner, instance, committed):
                if committed.session == world.store.terms.session:
                    world.invariants.commit_told(committed)
                self._send(combiner, instance, committed)
            case RecordIntent(session, intent):
                yield from self.changed("sessions", session, lambda row: replace(row, intent=intent))
            case RecordChange(session, _, limits):
                yield from self.changed("sessions", session, lambda row: replace(row, changed=limits))
            case RecordLimits(session, limits):
                yield from self.changed(
                    "sessions",
                    session,
                    lambda row: replace(row, terms=with_limits(row.terms, limits), changed=None),
                )
            case SendOrder(combiner, instance, order):
                world.invariants.order_sent(combiner, order)
                self._send(combiner, instance, order)
            case SendCancel(combiner, instance, cancelled):
                self._send(combiner, instance, cancelled)
            case CommitRound():
                self.spawn(self._commit(effect), self.take_all)
            case CloseFailedAttempt(plan):
                yield from self.round_changed(
                    plan.session, plan.round_number, lambda row: replace(row, status="failed")
                )
                world.store.failures.append((plan, effect.reason))
                world.invariants.attempt_failed(plan)
                world.chaos.noticed("attempt failed")
            case TellCommitted(committed):
                world.invariants.commit_told(committed)
                for seat in self.seats.values():
                    if seat.stream is not None:
                        seat.stream.send(self, committed)
            case RecordValidation(session, number, reports):
                validated = sum(report.validated for report in reports)
                yield from self.round_changed(session, number, lambda row: replace(row, validated=validated))
            case RecordSession(session, status, reason):
                yield from self.changed(
                    "sessions", session, lambda row: replace(row, status=status, reason=reason, intent="run")
                )
                world.session_recorded(effect)
                if status == "paused" and "times, at last with" in reason:
                    world.chaos.noticed("session paused after its last attempt")
            case TellRefused():
                world.chaos.noticed("unfit partial refused")
            case TellWaiting():
                pass
        return []

    def _open(self, effect: OpenAttempt) -> Work:
        plan = effect.plan
        fresh = RoundRow(plan, "running", effect.generation, effect.cells)

        def reopened(row: RoundRow) -> RoundRow:
            if row.status == "committed":
                raise CommittedElsewhere(plan)
            return fresh

        yield from self.round_written(fresh, reopened)

    def _extend(self, effect: ExtendAttempt) -> Work:
        plan, world = effect.plan, self.world

        def extended(row: RoundRow) -> RoundRow:
            if row.plan != plan or row.status != "running":
                raise CommittedElsewhere(plan)
            return replace(row, cells=effect.cells, generation=effect.generation)

        yield from self.round_changed(plan.session, plan.round_number, extended)
        world.chaos.noticed("clients of a lost combiner asked again in the same attempt")

    def _expect(self, name: CombinerName, instance: InstanceId) -> None:
        self.world.chaos.noticed("a found attempt goes on")
        if name not in self.seats:
            alarm = self.later(self.world.sizes.combiner_grace_s, lambda: self._lose(name, instance))
            self.seats[name] = Seat(instance, None, 0, lost_alarm=alarm)

    # ---- the commit

    def _commit(self, effect: CommitRound) -> Work:
        world, plan = self.world, effect.plan
        yield world.chaos.uniform(0.1, 3)
        yield from self.perhaps_sleep("reducer stopped before a commit")
        self.perhaps_crash("reducer crashed before a commit")
        attempt = (plan.session, plan.round_number, plan.attempt)
        try:
            if world.chaos.happens("models not merged"):
                return [RoundNotSaved(*attempt, reason="the sums do not make a model")]
            answers = answers_of(effect)
            merged: WeightedSum = yield from self._merged(answers)
            content = merged.content(plan.base_model)
            model: Digest = yield from self.put(content)
            self.perhaps_crash("reducer crashed between a model and its commit")
            world.invariants.committing(self.fence, effect)
            yield from self.round_changed(plan.session, plan.round_number, lambda row: _committed(row, effect, model))
            yield from self.look_after(model, content)
        except NOT_THE_ONE:
            raise
        except FednError as fault:
            world.chaos.noticed(f"round not saved: {fault.code}")
            return [RoundNotSaved(*attempt, reason=f"{fault.code}: {fault.message}")]
        self.perhaps_crash("reducer crashed after a commit")
        yield world.chaos.uniform(0.1, 2)
        return [RoundSaved(*attempt, model=model)]

    def _merged(self, answers: list[Any]) -> Work:
        coordinates: dict[ClientId, int] = {}
        for _, partial in answers:
            if partial.sum_object is not None:
                part = WeightedSum.read((yield from self.get(partial.sum_object)))
                for client, value in part.coordinates.items():
                    coordinates[client] = coordinates.get(client, 0) + value
        return WeightedSum(coordinates, sum(partial.weight for _, partial in answers))


def _committed(row: RoundRow, effect: CommitRound, model: Digest) -> RoundRow:
    """Return a round with its model; follows Rounds._write_commit."""
    plan = effect.plan
    if row.plan != plan or (row.status == "committed" and row.model != model):
        raise CommittedElsewhere(plan)
    if row.status == "committed":
        return row  # written before, and the answer was lost
    included = tuple((name, c) for name, partial in answers_of(effect) for c in partial.included)
    return replace(row, status="committed", model=model, included=included, excluded=excluded_of(effect.cells))


def last_commit(store: Any) -> RoundCommitted | None:
    """Return the newest commit of the newest session."""
    models = {number: row.model for number, row in store.rounds.items() if row.status == "committed"}
    return RoundCommitted(store.terms.session, max(models), models[max(models)]) if models else None


def answers_of(effect: CommitRound) -> list[tuple[CombinerName, PartialAggregate]]:
    """Return what is merged."""
    return [(name, cell.partial) for name, cell in each(effect.cells) if cell.partial is not None]
