"""One run of a masked network: the nodes, what lies between them, what goes wrong, and what is watched."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from random import Random
from typing import Any

import numpy as np
from simulator.chaos import Chaos
from simulator.clock import Clock
from simulator.masked.certified import Operator, Speaker, client_named
from simulator.masked.chaos import MaskedSizes, draw_chaos, draw_sizes
from simulator.masked.client_node import MaskedClientNode
from simulator.masked.combiner_node import MaskedCombinerNode
from simulator.masked.disk import Disk
from simulator.masked.invariants import MaskedInvariants
from simulator.masked.machines import MaskedMachines
from simulator.masked.overseer import Overseer
from simulator.masked.reducer_node import MaskedReducerNode
from simulator.masked.store import MaskedStore
from simulator.matrix import Matrix
from simulator.network import SAID_ONCE, Stream
from simulator.nodes import Node
from simulator.objects import ObjectShelf
from simulator.trace import Trace, spelled
from simulator.updates import Update
from simulator.working import Crashed, Part
from simulator.world import World, names_of_reducers

from fedn_py.errors import PeerFault
from fedn_py.identity import ClientId, CombinerName, Digest, SessionId
from fedn_py.protocol.machine import UnexpectedEvent
from fedn_py.protocol.masked.committee import seats_needed
from fedn_py.protocol.masked.contexts import header_hash
from fedn_py.protocol.masked.round_messages import UpdateHeader
from fedn_py.protocol.messages import PolicyNews, SaidToClient, WordForClients, WordPassedOn
from fedn_py.protocol.reducer_terms import SessionTerms
from fedn_py.protocol.reducer_work import Idle, PauseRequested, RecordSession, StopRequested
from fedn_py.reducer.masked_sessions import masked_terms

LONGEST_RUN_S = 20_000.0
MOST_HEARD = 400


class MaskedWorld(World):
    """One run."""

    invariants: MaskedInvariants  # type: ignore[assignment]
    store: MaskedStore  # type: ignore[assignment]
    sizes: MaskedSizes  # type: ignore[assignment]

    def __init__(  # its nodes are of other kinds
        self,
        sizes: MaskedSizes,
        rng: Random,
        chaos: Chaos | None = None,
        machines: MaskedMachines | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.sizes, self.rng, self.trace = sizes, rng, trace
        self.machines = machines or MaskedMachines()
        self.chaos = chaos or Chaos(rng, latest_s=0.05)
        self.clock = Clock()
        self.operator = Operator(sizes.policy)
        self.n_parameters = sizes.clients
        self.matrix = Matrix(self)
        self.store = MaskedStore(self.terms_of(1), ObjectShelf(self, self.machines.served))
        self.streams: list[Stream] = []
        self.updates: dict[Digest, Update] = {}
        self.headers: dict[bytes, UpdateHeader] = {}
        self.trained: dict[bytes, Update] = {}
        self.copies: dict[ClientId, Disk] = {}
        self.past_words: list[tuple[Any, Any]] = []
        self.steps = self.happenings = 0
        self.over = False
        self.overseer = Overseer(self)
        self.invariants = MaskedInvariants(self)
        self.reducers = [  # type: ignore[assignment]
            MaskedReducerNode(self, name, self.machines.reducer) for name in names_of_reducers(sizes.reducers)
        ]
        self.combiners = {  # type: ignore[assignment]
            CombinerName(name): MaskedCombinerNode(self, name, self.machines.combiner)
            for name in (f"combiner-{number}" for number in range(1, sizes.combiners + 1))
        }
        people = [client_named(f"client-{number}") for number in range(1, sizes.clients + 1)]
        self.clients = {  # type: ignore[assignment]
            ClientId(who.id.hex()): MaskedClientNode(self, who, self.machines.client) for who in people
        }
        self.places = {client: place for place, client in enumerate(self.clients)}
        for node in self.nodes:
            self._begin(node)
        for fault, mean_s in sorted(self.chaos.intervals_s.items()):
            self._expect(fault, mean_s)
        self.clock.after(sizes.quiet_after_s, self._calm_down)

    def _begin(self, node: Node) -> None:
        with suppress(Crashed):
            node.start()

    @classmethod
    def of_seed(  # type: ignore[override]
        cls, seed: int, machines: MaskedMachines | None = None, trace: Trace | None = None
    ) -> "MaskedWorld":
        """Return the run that a seed stands for."""
        rng = Random(f"masked {seed}")
        return cls(draw_sizes(rng), rng, draw_chaos(rng), machines, trace)

    def terms_of(self, number: int) -> SessionTerms:
        """Return the terms of a session, by its number."""
        terms = replace(self.sizes.terms, number=number, session=SessionId(f"{number:02x}" * 16))
        return masked_terms(terms, Speaker(self.operator.newest), self.n_parameters)

    def recover(self, store: Any) -> Any:
        """Return where the session goes on after a start of the reducer."""
        names = {client: self.reducer.name_of(client) for client in self.clients}  # type: ignore[attr-defined]
        return self.machines.found(store.where_it_was(names))

    # ---- running

    def run(self) -> None:
        """Run until all sessions have ended, or the last one rests for good.

        Raises:
            InvariantBroken: a rule did not hold.
        """
        while not self.over and self.clock.now < LONGEST_RUN_S and self.advance():
            pass
        self.invariants.times.ended()

    def stepped(self, node: Node, before: Any, event: Any, effects: Any) -> None:
        """Write a step down and check the rules."""
        self.part_stepped(node, node, event, effects)

    def part_stepped(self, part: Part | Node, node: Node, event: Any, effects: Sequence[Any]) -> None:
        """Write a step of a part down."""
        self.steps += 1
        self.happened()
        if self.trace is not None:
            self.trace.say(self.clock.now, part, f"{spelled(event)} -> {spelled(effects)}")
        self.invariants.times.stepped(node)

    def refused(self, where: Any, event: Any, fault: PeerFault) -> None:
        """Write down that something was refused by name."""
        if isinstance(fault, UnexpectedEvent):
            return
        if self.trace is not None:
            self.trace.say(self.clock.now, where, f"refused: {fault.code}: {spelled(event)}")
        self.chaos.noticed(f"refused: {fault.code}")

    def sha256(self, content: bytes) -> bytes:
        """Return a digest."""
        return sha256(content).digest()

    def everybody_is_in(self, row: Any) -> bool:
        """Say whether all whose updates were asked for are in a committed round."""
        cells = row.attempts[row.plan.attempt].attempt.cells
        return all(not cell.out and cell.assigned == {one.client_id for one in cell.rows} for cell in cells)

    # ---- what trainings made

    def values_of(self, update: Update) -> "np.ndarray[Any, Any]":
        """Return an update: its client's own coordinate alone is moved, so far that its encoding is a whole number."""
        values = np.zeros(self.n_parameters, np.float64)
        values[self.places[update.client]] = 1_024.0 * update.value
        return values

    def weight_of(self, update: Update) -> int:
        """Return an update's weight; very unequal ones."""
        return 1 + update.samples

    def sealed(self, node: MaskedClientNode, plain: Update, header: UpdateHeader, body: bytes) -> None:
        """Note which training an upload is of."""
        self.headers[body] = header
        self.trained[header_hash(body)] = plain

    def header_hash(self, body: bytes) -> bytes:
        """Return the hash of a header's bytes."""
        return header_hash(body)

    # ---- what goes wrong by itself

    def _strike(self, fault: str) -> None:
        happened = False
        match fault:
            case "client crashed for long":
                running = [node for node in self.clients.values() if node.up]
                happened = bool(running)
                if running:
                    self._crash_for(self.rng.choice(running), self.rng.uniform(60, 400))
            case "client deaf for a while":
                node: Any = self.rng.choice(list(self.clients.values()))
                node.deaf_until = self.clock.now + self.rng.uniform(5, 150)
                happened = True
            case "client set back to a copy":
                happened = self._set_back()
            case "client forgets what it sent":
                happened = self._forget_sent()
            case "word of the past":
                happened = self._repeat_word()
            case "policy of the past":
                node = self.rng.choice(list(self.clients.values()))
                if node.stream is not None and node.up and len(self.operator.signed) > 1:
                    node.heard(node.stream, PolicyNews(self.rng.choice(self.operator.signed)))
                    happened = True
            case "client revoked":
                happened = self._revoke()
            case "pause asked" | "stop asked":
                wish = PauseRequested if fault == "pause asked" else StopRequested
                happened = self.reducer.up and not isinstance(self.reducer.state.work, Idle)
                if happened:
                    self.reducer.take(wish(self.store.terms.session))
            case _:
                super()._strike(fault)
                return
        if happened:
            self.chaos.noticed(fault)

    @property
    def may_be_required(self) -> tuple[int, int]:
        """No fewer than the policy allows in a cell and the seats need, and no more than are never revoked."""
        terms = self.sizes.terms
        assert terms.masked is not None
        seats = seats_needed(terms.masked.k, terms.masked.r)
        return max(self.store.terms.least_in_cell, seats), terms.clients_required

    def _crash_for(self, node: Node, lasts_s: float) -> None:
        node.crash()
        life = node.life
        self.clock.after(lasts_s, lambda: self._start_again(node, life))

    def crash_for_a_while(self, node: Node) -> None:
        """Kill a node, and start it again some time later."""
        if node is self.reducer or node in self.combiners.values():
            work = self.reducer.state.work
            phase = getattr(work, "phase", type(work).__name__)
            self.chaos.noticed(f"{'reducer' if node is self.reducer else 'combiner'} lost in {phase}")
        self._crash_for(node, self.chaos.uniform(0.5, 30))

    def _start_again(self, node: Node, life: int) -> None:
        if not node.up and node.life == life:
            self._begin(node)

    def _revoke(self) -> bool:
        """Have the operator revoke one more client, or sign the same policy anew; enough are left."""
        gone = set(self.operator.policies[-1].revoked_clients)
        if self.rng.random() < 0.5 and len(self.clients) - len(gone) > self.sizes.terms.clients_required:
            gone.add(bytes.fromhex(self.rng.choice(list(self.clients))))
        self.operator.revoke(frozenset(gone))
        return True

    def _set_back(self) -> bool:
        """Kill a client, and start it again with a copy of its state folder; at first make the copy."""
        node: Any = self.rng.choice(list(self.clients.values()))
        if not node.up:
            return False
        if node.id not in self.copies or self.rng.random() < 0.3:
            self.copies[node.id] = node.disk
            return False
        node.crash()
        node.disk = self.copies[node.id]
        self.invariants.clients.set_back(node)
        life = node.life
        self.clock.after(self.rng.uniform(0.5, 5), lambda: self._start_again(node, life))
        return True

    def heard_word(self, node: Any, word: Any) -> None:
        """Keep a word that somebody got, to be said again much later."""
        repeated = self.chaos.intervals_s.get("word of the past") and not self.chaos.quiet
        if repeated and not isinstance(word, SAID_ONCE):
            if len(self.past_words) >= MOST_HEARD:
                self.past_words.pop(self.rng.randrange(MOST_HEARD))
            self.past_words.append((node, word))

    def _forget_sent(self) -> bool:
        """Let a client do what nothing but a lost or forged memory lets it do: send a work again."""
        node: Any = self.rng.choice(list(self.clients.values()))
        if not node.up or not node.disk.sent:
            return False
        node.crash()
        node.disk = node.disk.without_sent()
        self.invariants.clients.set_back(node)
        life = node.life
        self.clock.after(self.rng.uniform(0.5, 5), lambda: self._start_again(node, life))
        return True

    def _repeat_word(self) -> bool:
        if not self.past_words:
            return False
        node, word = self.rng.choice(self.past_words)
        streams = [s for s in self.streams if node in (s.listener, s.dialler)]
        if not node.up or not streams:
            return False
        if isinstance(word, SaidToClient) and node.stream is None:
            return False
        stream = node.stream if isinstance(word, SaidToClient) else streams[0]
        if stream is not None and not isinstance(word, WordForClients | WordPassedOn):
            node.heard(stream, word)
        elif isinstance(word, WordPassedOn):
            node.words.heard(CombinerName("combiner-1"), word.client, word.word)
        return True

    # ---- the operator

    def session_recorded(self, effect: RecordSession) -> None:
        """Tell who looks after sessions."""
        self.overseer.session_recorded(effect)

    def look_after(self) -> None:
        """Have the overseer look after the session, now that nothing goes wrong any more."""
        self.overseer.look_after()

    def _calm_down(self) -> None:
        for node in self.clients.values():
            node.deaf_until = 0.0  # type: ignore[attr-defined]
        super()._calm_down()
