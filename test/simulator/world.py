"""One run: the nodes, what lies between them, what goes wrong, and what is watched."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from simulator.chaos import LONGEST_AWAY_S, SEED_MODEL, Chaos, Sizes, draw_sizes
from simulator.client_node import ClientNode
from simulator.clock import Clock
from simulator.combiner_node import CombinerNode
from simulator.fences import check
from simulator.invariants import Invariants
from simulator.lease import LeasedNode
from simulator.matrix import Matrix
from simulator.network import Stream
from simulator.nodes import Node, Step
from simulator.objects import ObjectShelf
from simulator.reducer_node import ReducerNode
from simulator.store import RoundRow, Store
from simulator.store_rules import StoreRules
from simulator.trace import Trace, spelled
from simulator.updates import Update
from simulator.working import Crashed

from fedn_py.errors import FednError, PeerFault
from fedn_py.identity import ClientId, CombinerName, Digest, Generation
from fedn_py.protocol import client, combiner, reducer
from fedn_py.protocol.combiner_work import Collecting
from fedn_py.protocol.machine import UnexpectedEvent
from fedn_py.protocol.reducer_terms import each, limits_of
from fedn_py.protocol.reducer_work import (
    ChangeRequested,
    ExtendAttempt,
    Idle,
    OpenAttempt,
    Paused,
    PauseRequested,
    RecordSession,
    ResumeRequested,
    SessionStarted,
    StopRequested,
)
from fedn_py.store.ports import Document

LONGEST_RUN_S = 20_000.0
LOOKED_AFTER_S = 60.0

MOST_HAPPENINGS = 1_000_000
"""No run has a tenth of so many; one that has goes in circles, maybe at one instant."""

ENDS = "every run ends"


@dataclass(frozen=True)
class Machines(StoreRules):
    """The rules that the nodes of a plain network run by; a planted bug replaces one."""

    reducer: Step = reducer.step
    combiner: Step = combiner.step
    client: Step = client.step
    recover: Callable[[Store], SessionStarted | None] = lambda store: store.where_it_was(store.terms.session)


class World:
    """One run.

    Args:
        chaos: what goes wrong; nothing unless given.
        trace: written to if given.
    """

    def __init__(
        self,
        sizes: Sizes,
        rng: Random,
        chaos: Chaos | None = None,
        machines: Machines | None = None,
        trace: Trace | None = None,
    ) -> None:
        machines = machines or Machines()
        self.sizes, self.rng, self.trace, self.machines = sizes, rng, trace, machines
        self.chaos = chaos or Chaos(rng, latest_s=0.05)
        self.clock = Clock()
        self.matrix = Matrix(self)
        self.store = Store(sizes.terms, ObjectShelf(self, machines.served))
        self.recover = machines.recover
        self.store.objects.put(SEED_MODEL)
        self.streams: list[Stream] = []
        self.updates: dict[Digest, Update] = {}
        self._uploaded: list[tuple[CombinerNode, Generation, Update]] = []
        self.steps = self.happenings = 0
        self.invariants = Invariants(self)
        self.reducers = [ReducerNode(self, name, machines.reducer) for name in names_of_reducers(sizes.reducers)]
        self.combiners = {
            CombinerName(name): CombinerNode(self, name, machines.combiner)
            for name in (f"combiner-{number}" for number in range(1, sizes.combiners + 1))
        }
        self.clients = {
            ClientId(name): ClientNode(self, name, machines.client)
            for name in (f"client-{number}" for number in range(1, sizes.clients + 1))
        }
        for node in self.nodes:
            node.start()
        for fault, mean_s in sorted(self.chaos.intervals_s.items()):
            self._expect(fault, mean_s)
        self.clock.after(sizes.quiet_after_s, self._calm_down)

    @classmethod
    def of_seed(cls, seed: int, machines: Machines | None = None, trace: Trace | None = None) -> "World":
        """Return the run that a seed stands for."""
        rng = Random(seed)
        return cls(draw_sizes(rng), rng, Chaos.draw(rng), machines, trace)

    @property
    def nodes(self) -> list[Node]:
        """All nodes."""
        return [*self.reducers, *self.combiners.values(), *self.clients.values()]

    @property
    def reducer(self) -> ReducerNode:
        """The reducer that acts; the newest where an older one does not know yet that it is not the one."""
        return max(self.reducers, key=lambda node: node.fence)

    # ---- running

    def run(self) -> None:
        """Run until the session has ended.

        Raises:
            InvariantBroken: a rule did not hold.
        """
        while self.clock.now < LONGEST_RUN_S and self.advance():
            work, rests = self.reducer.state.work, not self.reducer.works
            if isinstance(work, Idle) and rests and self.store.status in {"finished", "stopped"}:
                break
        self.invariants.ended()

    def advance(self) -> bool:
        """Go to the next thing that is due; who crashes on the way does no more."""
        self.happened()
        try:
            return self.clock.advance()
        except Crashed:
            return True

    def happened(self) -> None:
        """Count what happens, whether virtual time goes on or not."""
        self.happenings += 1
        check(self.happenings <= MOST_HAPPENINGS, ENDS, (self.clock.now, self.steps))

    def run_until(self, reached: Callable[[], bool], within_s: float = 1_000.0) -> None:
        """Run until something is so."""
        end = self.clock.now + within_s
        while not reached():
            assert self.clock.now < end, "it never came to be"
            assert self.advance(), "nothing is left to happen"

    def stepped(self, node: Node, before: Any, event: Any, effects: Any) -> None:
        """Write a step down and check the rules."""
        self.steps += 1
        self.happened()
        if self.trace is not None:
            self.trace.say(self.clock.now, node, f"{spelled(event)} -> {spelled(effects)}")
        self.invariants.stepped(node)

    def unexpected(self, node: Node, event: Any, fault: UnexpectedEvent) -> None:
        """Write down that a machine had no answer."""
        if self.trace is not None:
            self.trace.say(self.clock.now, node, f"unexpected: {spelled(event)}")
        self.chaos.noticed(f"{type(event).__name__} not expected in {type(node.state.work).__name__}")

    def refused(self, where: Any, event: Any, fault: PeerFault) -> None:
        """Write down that something was refused by name."""
        raise AssertionError((where, event, fault))  # a plain machine refuses only what is unexpected

    # ---- what nodes ask of the world

    def open_stream(self, dialler: Node, listener: Node) -> Stream:
        """Open a stream; one to a process that sleeps is found dead after a while."""
        stream = Stream(self, dialler, listener)
        self.streams.append(stream)
        if listener.asleep is not None:
            self._find_dead(stream, listener)
        return stream

    def _find_dead(self, stream: Stream, asleep: Node) -> None:
        def look() -> None:
            if asleep.asleep is not None:
                stream.break_off()

        self.clock.after(self.rng.uniform(5, 25), look)

    def document_written(
        self, writer: LeasedNode, collection: str, key: str, before: Document | None, outcome: str
    ) -> None:
        """Note what came of a write that has reached the documents."""
        if outcome == "ok":
            after = self.store.shelf.now(collection, key)  # type: ignore[arg-type]
            assert after is not None
            self.invariants.document_written(writer, (collection, key), before, after)
            value = self.store.shelf.value_in(after.content)
            was = None if before is None else self.store.shelf.value_in(before.content)
            self.store.applied(value)
            if collection != "network":
                self.matrix.written(was, value)
            if isinstance(value, RoundRow) and value.status == "running":
                self._attempt_written(was, value, after.fence)
            if collection == "rounds" and value.status == "committed" and (was is None or was.status != "committed"):
                self.invariants.round_committed(value, after.fence)

    def _attempt_written(self, was: RoundRow | None, now: RoundRow, fence: int) -> None:
        if was is None or was.plan != now.plan:
            self.invariants.attempt_opened(OpenAttempt(now.plan, now.cells, now.generation), fence)
        elif _ordered(was) - _ordered(now):
            self.invariants.attempt_replaced(OpenAttempt(now.plan, now.cells, now.generation), fence, was.cells)
        elif was.cells != now.cells:
            self.invariants.attempt_extended(ExtendAttempt(now.plan, now.cells, now.generation))

    def everybody_is_in(self, row: Any) -> bool:
        """Say whether all whose updates were asked for are in a committed round."""
        asked = {client for cell in row.cells.values() for client in cell.clients}
        return asked == {contribution.client for _, contribution in row.included}

    def shelf_is_away(self) -> bool:
        """Say whether nobody reaches the documents now."""
        return self.store.shelf.away

    def stopped_by_name(self, node: LeasedNode, fault: FednError) -> None:
        """End a process that is not to go on; whoever looks after it starts it again."""
        self.chaos.noticed(f"reducer stopped by name: {fault.code}")
        if self.trace is not None:
            self.trace.say(self.clock.now, node, f"stops: {fault.code}: {fault.message}")
        node.crash()
        life = node.life
        self.clock.after(self.chaos.uniform(0.5, 5), lambda: self._start_again(node, life))

    def forget_stream(self, stream: Stream) -> None:
        """Note that a stream is broken."""
        self.streams.remove(stream)

    def new_update(self, owner: ClientId, piece: Any) -> Update:
        """Make an update, unlike any other."""
        update = Update(owner, piece, len(self.updates))
        self.updates[update.sha256] = update
        return update

    def training_s(self, owner: ClientId) -> float:
        """Return how long a training takes."""
        usual_s = self.sizes.training_s[list(self.clients).index(owner)]
        return usual_s * 20 if self.chaos.happens("straggler") else usual_s

    # ---- what goes wrong by itself

    def _expect(self, fault: str, mean_s: float) -> None:
        def strike() -> None:
            if not self.chaos.quiet:
                self._strike(fault)
                self._expect(fault, mean_s)

        self.clock.after(self.rng.expovariate(1 / mean_s), strike)

    def _strike(self, fault: str) -> None:
        happened = False
        match fault:
            case "client stream broken":
                happened = self._break_one([s for s in self.streams if s.listener not in self.reducers])
            case "combiner stream broken":
                happened = self._break_one([s for s in self.streams if s.listener in self.reducers])
            case "client crashed":
                happened = self._crash_one(list(self.clients.values()))
            case "combiner crashed":
                happened = self._crash_one(list(self.combiners.values()))
            case "combiner cut off":
                running = [node for node in self.combiners.values() if node.up]
                happened = bool(running)
                if running:
                    self.rng.choice(running).cut_off(self.rng.uniform(2, 40))
            case "reducer crashed":
                happened = self._crash_one([self.reducer])
            case "standby crashed":
                happened = self._crash_one([node for node in self.reducers if node is not self.reducer])
            case "reducer stopped and continued":
                happened = self.reducer.up and self.reducer.asleep is None
                if happened:
                    self.sleep_for_a_while(self.reducer)
            case "document store away":
                happened = self._take_away(self.store.shelf)
            case "object store away":
                happened = self._take_away(self.store.objects)
            case "stray upload":
                happened = self._stray_upload()
            case "pause asked":
                happened = self.reducer.up and self.reducer.take(PauseRequested(self.sizes.terms.session))
            case "stop asked":
                happened = self.reducer.up and self.reducer.take(StopRequested(self.sizes.terms.session))
            case "stop after the round asked":
                wish = StopRequested(self.store.terms.session, after_round=True)
                happened = self.reducer.up and self.reducer.take(wish)
            case "limits changed":
                happened = self._change_limits()
        if happened:
            self.chaos.noticed(fault)

    def _change_limits(self) -> bool:
        """Let an operator ask for a few rounds more or fewer, of more or fewer clients."""
        work = self.reducer.state.work
        if not self.reducer.up or isinstance(work, Idle):
            return False
        limits = replace(
            work.progress.changed or limits_of(work.progress.terms),
            rounds=work.progress.committed + self.rng.randint(1, 6),
            clients_required=self.rng.randint(*self.may_be_required),
            clients_wanted=0,
            max_attempts=self.rng.choice([0, 2, 3]),
            update_timeout_s=self.rng.uniform(20, 60),
        )
        return self.reducer.take(ChangeRequested(self.store.terms.session, limits))

    @property
    def may_be_required(self) -> tuple[int, int]:
        """The fewest and the most clients that an operator may require, so that the session can go on."""
        return 1, self.sizes.clients

    def session_recorded(self, effect: RecordSession) -> None:
        """Note what a session is now; while things go wrong, an operator looks after one that rests."""
        if effect.status == "paused" and not self.chaos.quiet and self.chaos.intervals_s and self.rng.random() < 0.8:
            self.clock.after(self.rng.uniform(1, 60), self._resume)

    def _resume(self) -> None:
        if self.reducer.up and not self.chaos.quiet and isinstance(self.reducer.state.work, Paused):
            self.reducer.take(ResumeRequested(self.sizes.terms.session))

    def look_after(self) -> None:
        """Resume the session whenever it rests, now that nothing goes wrong any more."""
        self.clock.after(LOOKED_AFTER_S, self.look_after)
        if self.reducer.up and isinstance(self.reducer.state.work, Paused):
            self.reducer.take(ResumeRequested(self.sizes.terms.session))
            self.chaos.noticed("resumed after the last fault")

    def _break_one(self, streams: list[Stream]) -> bool:
        if streams:
            self.rng.choice(streams).break_off()
        return bool(streams)

    def _crash_one(self, nodes: list[Any]) -> bool:
        running = [node for node in nodes if node.up]
        if running:
            self.crash_for_a_while(self.rng.choice(running))
        return bool(running)

    def sleep_for_a_while(self, node: Node) -> None:
        """Stop a node, and let it go on some time later; others find their streams to it dead if that is long."""
        node.sleep()
        life = node.life
        for stream in [stream for stream in self.streams if node in (stream.dialler, stream.listener)]:
            self._find_dead(stream, node)

        def wake() -> None:
            if node.life == life and node.asleep is not None:
                self._wake(node)

        self.clock.after(self.rng.uniform(2, 60), wake)

    def _wake(self, node: Node) -> None:
        self.invariants.woken(node)
        if node is not self.reducer and node in self.reducers and getattr(node, "fence", 0):
            self.chaos.noticed("an older reducer wakes")
        node.wake()

    def _take_away(self, store: Any) -> bool:
        if store.away:
            return False
        store.away = True

        def back() -> None:
            store.away = False

        self.clock.after(self.rng.uniform(2, LONGEST_AWAY_S), back)
        return True

    def crash_for_a_while(self, node: Node) -> None:
        """Kill a node, and start it again some time later."""
        if node is self.reducer or isinstance(node, CombinerNode):
            work = self.reducer.state.work
            during = type(work).__name__
            self.chaos.noticed(f"{'reducer' if node is self.reducer else 'combiner'} lost in {during}")
        node.crash()
        life = node.life
        self.clock.after(self.chaos.uniform(0.5, 30), lambda: self._start_again(node, life))

    def _start_again(self, node: Node, life: int) -> None:
        if not node.up and node.life == life:
            node.start()

    def _stray_upload(self) -> bool:
        """Let an upload come that nobody asked for: old, of a client that was not drawn, or a client's second."""
        collecting = [c for c in self.combiners.values() if c.up and isinstance(c.state.work, Collecting)]
        if not collecting:
            return False
        at = self.rng.choice(collecting)
        order = at.state.work.order
        old = [update for update in self.updates.values() if update.client in order.clients]
        if old and self.rng.random() < 0.5:
            at.upload(Generation(order.generation - self.rng.randint(1, 3)), self.rng.choice(old), lambda receipt: None)
        else:
            update = self.new_update(self.rng.choice(list(self.clients)), client.Piece.of(order.plan))
            at.upload(order.generation, update, lambda receipt: None)
        return True

    def _calm_down(self) -> None:
        self.chaos.quiet = True
        self.store.shelf.away = self.store.objects.away = False
        for node in self.nodes:
            self._start_again(node, node.life)
            if node.asleep is not None:
                self._wake(node)
        self.look_after()


def names_of_reducers(count: int) -> list[str]:
    """Return what the reducers are called."""
    return [f"reducer-{number}" for number in range(1, count + 1)]


def _ordered(row: RoundRow) -> set[tuple[Any, ...]]:
    """Return the cells of an attempt as they were ordered, whatever became of them."""
    return {(name, cell.instance, cell.generation, cell.clients) for name, cell in each(row.cells)}
