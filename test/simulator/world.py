"""One run: the nodes, what lies between them, what goes wrong, and what is watched."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from simulator.chaos import Chaos, Sizes, draw_sizes
from simulator.client_node import ClientNode
from simulator.clock import Clock
from simulator.combiner_node import CombinerNode
from simulator.invariants import Invariants
from simulator.network import Stream
from simulator.nodes import Node, Step
from simulator.reducer_node import ReducerNode
from simulator.store import Store
from simulator.trace import Trace, spelled
from simulator.updates import Update

from fedn_py.identity import ClientId, CombinerName, Digest, Generation
from fedn_py.protocol import client, combiner, reducer
from fedn_py.protocol.combiner_work import Collecting
from fedn_py.protocol.machine import UnexpectedEvent
from fedn_py.protocol.reducer_work import (
    Idle,
    Paused,
    PauseRequested,
    RecordSession,
    ResumeRequested,
    SessionStarted,
    StopRequested,
)

LONGEST_RUN_S = 20_000.0


@dataclass(frozen=True)
class Machines:
    """The rules that the nodes run by; a planted bug replaces one."""

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
        self.sizes, self.rng, self.trace = sizes, rng, trace
        self.chaos = chaos or Chaos(rng, latest_s=0.05)
        self.clock = Clock()
        self.store = Store(sizes.terms)
        self.recover = machines.recover
        self.streams: list[Stream] = []
        self.updates: dict[Digest, Update] = {}
        self._uploaded: list[tuple[CombinerNode, Generation, Update]] = []
        self.steps = 0
        self.invariants = Invariants(self)
        self.reducer = ReducerNode(self, "reducer", machines.reducer)
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
        return [self.reducer, *self.combiners.values(), *self.clients.values()]

    # ---- running

    def run(self) -> None:
        """Run until the session has ended, or rests after the last fault.

        Raises:
            InvariantBroken: a rule did not hold.
        """
        while self.clock.now < LONGEST_RUN_S and self.clock.advance():
            if isinstance(self.reducer.state.work, Idle) and self.reducer.up and self.store.status != "running":
                break
            if self.chaos.quiet and isinstance(self.reducer.state.work, Paused) and self.reducer.up:
                break
        self.invariants.ended()

    def run_until(self, reached: Callable[[], bool], within_s: float = 1_000.0) -> None:
        """Run until something is so."""
        end = self.clock.now + within_s
        while not reached():
            assert self.clock.now < end, "it never came to be"
            assert self.clock.advance(), "nothing is left to happen"

    def stepped(self, node: Node, before: Any, event: Any, effects: Any) -> None:
        """Write a step down and check the rules."""
        self.steps += 1
        if self.trace is not None:
            self.trace.say(self.clock.now, node, f"{spelled(event)} -> {spelled(effects)}")
        self.invariants.stepped(node)

    def unexpected(self, node: Node, event: Any, fault: UnexpectedEvent) -> None:
        """Write down that a machine had no answer."""
        if self.trace is not None:
            self.trace.say(self.clock.now, node, f"unexpected: {spelled(event)}")
        self.chaos.noticed(f"{type(event).__name__} not expected in {type(node.state.work).__name__}")

    # ---- what nodes ask of the world

    def open_stream(self, dialler: Node, listener: Node) -> Stream:
        """Open a stream."""
        stream = Stream(self, dialler, listener)
        self.streams.append(stream)
        return stream

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
                happened = self._break_one([s for s in self.streams if s.listener is not self.reducer])
            case "combiner stream broken":
                happened = self._break_one([s for s in self.streams if s.listener is self.reducer])
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
            case "stray upload":
                happened = self._stray_upload()
            case "pause asked":
                happened = self.reducer.up and self.reducer.take(PauseRequested(self.sizes.terms.session))
            case "stop asked":
                happened = self.reducer.up and self.reducer.take(StopRequested(self.sizes.terms.session))
        if happened:
            self.chaos.noticed(fault)

    def session_recorded(self, effect: RecordSession) -> None:
        """Note what a session is now; while things go wrong, an operator looks after one that rests."""
        if effect.status == "paused" and not self.chaos.quiet and self.chaos.intervals_s and self.rng.random() < 0.8:
            self.clock.after(self.rng.uniform(1, 60), self._resume)

    def _resume(self) -> None:
        if self.reducer.up and not self.chaos.quiet and isinstance(self.reducer.state.work, Paused):
            self.reducer.take(ResumeRequested(self.sizes.terms.session))

    def _break_one(self, streams: list[Stream]) -> bool:
        if streams:
            self.rng.choice(streams).break_off()
        return bool(streams)

    def _crash_one(self, nodes: list[Any]) -> bool:
        running = [node for node in nodes if node.up]
        if running:
            self.crash_for_a_while(self.rng.choice(running))
        return bool(running)

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
        for node in self.nodes:
            self._start_again(node, node.life)
