"""What must hold in a masked network whatever fails, checked against ghosts that no process can see.

The names are those of the rules in docs: P1 to P7 are promises to clients.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from simulator.invariants import InvariantBroken
from simulator.masked.labels import Labels

from fedn_py.client.memory_rows import KeptUpload
from fedn_py.client.secret_bytes import SeatKeys
from fedn_py.identity import ClientId, CombinerName, Digest
from fedn_py.masking.keystream import Keystream
from fedn_py.protocol.combiner_work import NoWork, Preparing
from fedn_py.protocol.masked.cell_work import AddVector, CollectingKeys, CollectingUpdates, ReportingSum
from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.encoding import Body
from fedn_py.protocol.masked.opening_work import Attempt, Cell
from fedn_py.protocol.masked.round_messages import (
    Abort,
    Answer,
    BoxAck,
    Echo,
    Included,
    IncludedRow,
    NotOpened,
    OpenSum2,
)
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.masked.words import WordFromClient, WordToClient
from fedn_py.protocol.masked_rounds import ANSWER_MARGIN_S, PRIVACY_HOLD, SUM_S, answers_within_s
from fedn_py.protocol.masked_rounds_work import Masked, PlanMasked, Planning
from fedn_py.protocol.messages import CellOrder, RoundCommitted, RoundPlan
from fedn_py.protocol.reducer import LONGEST_RETRY_S
from fedn_py.protocol.reducer_work import Failed, Gathering, Reducer, Validating
from fedn_py.reducer.attempts import AttemptAtHand
from fedn_py.reducer.cell_commits import STREAM_S
from fedn_py.reducer.planning import PlannedAttempt

if TYPE_CHECKING:
    from simulator.masked.client_node import MaskedClientNode
    from simulator.masked.combiner_node import MaskedCombinerNode
    from simulator.masked.reducer_node import MaskedReducerNode
    from simulator.masked.sending import DrawnBytes
    from simulator.masked.store import MaskedRow
    from simulator.masked.world import MaskedWorld
    from simulator.nodes import Node

SLACK_S = 1.0
STORE_S = 21.0
"""How long a write to the store may take."""

LONGEST_ADDING_S = 2.0
SETTLED_AFTER_S = 450.0

P1 = "P1: a member signs one set under a context"
P2 = "P2: an opened set has at least g_min clients"
P3 = "P3: sets opened for one work are the same or disjoint"
P3_CLIENT = "P3: a client sends a work again only when its upload before can never be opened"
P3_MEMBER = "P3: a member promises sets of one work that are the same or disjoint"
P3_RETRY = "P3: a retry draws nobody whose upload may yet be opened"
P4 = "P4: no server holds what is one client's alone"
P6 = "P6: policy, session and rounds never go back"
P7 = "P7: no seed, key or nonce is used twice"
ECHO = "an answer waits until a quorum has echoed its set"
SAVED = "saved before it is sent"
NOT_OPENED = "NotOpened is said only of what nothing can open"
FORK = "of two sets that a committee is shown all slots answer one"
ONE_SET = "the reducer asks for one set under a context"
ACKED = "an update is added when all live members have accepted its box"
EXACT = "an opened sum is that of its list"
MEAN = "a committed mean is that of the oracle"
ONE_MODEL = "one model for each round"
CHAIN = "the trail is a chain"
ONCE = "no client twice in a round"
ENOUGH = "enough updates in each round"
DEADLINES = "every phase ends by its deadline"
ENDS = "the session ends"
SUCCEEDS = "without faults every attempt succeeds"


@dataclass(frozen=True)
class Promise:
    """A set that a member has signed."""

    work: bytes
    ctx: bytes
    clients: frozenset[bytes]
    reopen: str


@dataclass(frozen=True)
class SentUpload:
    """An upload that has left a client."""

    session: bytes
    work: bytes
    ctx: bytes


@dataclass(frozen=True)
class OpenedSet:
    """A set whose sum the reducer has opened, or tried to."""

    session: bytes
    round: int
    attempt: int
    work: bytes
    ctx: bytes
    clients: frozenset[bytes]


class MaskedInvariants:
    """Watches one run."""

    def __init__(self, world: "MaskedWorld") -> None:
        self._world = world
        self.labels = Labels()
        self._signed_sets: dict[tuple[bytes, bytes], bytes] = {}
        self._echoed: dict[tuple[bytes, bytes], set[bytes]] = defaultdict(set)
        self._promised: dict[bytes, list[Promise]] = defaultdict(list)
        self._committees: dict[bytes, tuple[Committee, CellTerms]] = {}
        self._used: set[bytes] = set()
        self._sent: dict[bytes, list[SentUpload]] = defaultdict(list)
        self._forgotten: set[tuple[bytes, bytes]] = set()
        self._opened: dict[bytes, OpenedSet] = {}
        self._void: set[bytes] = set()
        self._aborted: dict[bytes, set[bytes]] = defaultdict(set)
        self._asked: dict[bytes, bytes] = {}
        self._lies: set[tuple[bytes, bytes]] = set()
        self._answered: dict[tuple[bytes, bytes], set[int]] = defaultdict(set)
        self._acks: dict[tuple[Node, int, bytes], dict[bytes, set[IncludedRow]]] = {}
        self._floors: dict[bytes, tuple[int, int, dict[bytes, tuple[int, int]]]] = {}
        self._committed: dict[tuple[int, int], MaskedRow] = {}
        self._opened_at: dict[tuple[int, int, int], float] = {}
        self._due: dict[Node, tuple[object, float]] = {}

    # ---- clients

    def keys_drawn(self, node: "MaskedClientNode", keys: SeatKeys) -> None:
        """A client draws the keys of a seat."""
        self._use(bytes(keys.esk), node)
        self._use(bytes(keys.nonce), node)
        self.labels.keep("key of a seat", repr(node), bytes(keys.esk))

    def _use(self, secret: bytes, node: "MaskedClientNode") -> None:
        _check(secret not in self._used, P7, node)
        self._used.add(secret)

    def sealed(
        self,
        node: "MaskedClientNode",
        terms: CellTerms,
        keys: Sequence[bytes],
        drawn: "DrawnBytes",
        values: "np.ndarray[Any, Any]",
        masked: bytes,
    ) -> None:
        """A client has masked an update."""
        for secret in (*drawn.seeds, drawn.rounding, *drawn.ephemeral):
            self._use(secret, node)
        for seed, key in zip(drawn.seeds, keys, strict=True):
            self.labels.keep("seed", repr(node), seed)
            self.labels.keep("key of a mask", repr(node), key)
            mask = np.empty(terms.encoding.n_words, np.uint32)
            Keystream(key).chunk(0, mask)
            self.labels.keep("mask", repr(node), mask.astype("<u4").tobytes())
        self.labels.keep("rounding seed", repr(node), drawn.rounding)
        self.labels.keep("plain vector", repr(node), values.astype("<f8").tobytes())
        self.labels.keep_masked(repr(node), masked)

    def signed_by_client(self, node: "MaskedClientNode", body: Body) -> None:
        """A client signs something."""
        match body:
            case Echo(ctx, included_hash) | Answer(ctx, included_hash):
                self._promises(node, ctx, included_hash)
                if isinstance(body, Echo):
                    self._echoed[ctx, included_hash].add(node.who.id)
                else:
                    self._answers(node, ctx, included_hash, body.slot)
            case Abort(ctx):
                _check((node.who.id, ctx) not in self._signed_sets, P1, (node, "aborts what it promised"))
                self._aborted[ctx].add(node.who.id)

    def _promises(self, node: "MaskedClientNode", ctx: bytes, included_hash: bytes) -> None:
        known = self._signed_sets.setdefault((node.who.id, ctx), included_hash)
        _check(known == included_hash, P1, (node, ctx.hex()))
        record = node.disk.member.promise(ctx)
        kept = record is not None and record.included_hash == included_hash
        _check(kept, SAVED, (node, "signs a set that it has not promised on disk"))
        assert record is not None
        terms = self._committees[ctx][1]
        _check(len(record.clients) >= terms.order.g_min, P2, (node, len(record.clients)))
        promise = Promise(record.work, ctx, frozenset(record.clients), record.reopen)
        if promise in self._promised[node.who.id]:
            return  # said again
        for other in self._promised[node.who.id]:
            shared = other.work == promise.work and other.ctx != ctx and other.clients & promise.clients
            void = other.reopen == "reducer" and other.ctx in self._void
            _check(not shared or void, P3_MEMBER, (node, other.ctx.hex(), ctx.hex()))
        self._promised[node.who.id].append(promise)

    def _answers(self, node: "MaskedClientNode", ctx: bytes, included_hash: bytes, slot: int) -> None:
        committee, terms = self._committees[ctx]
        self._answered[ctx, included_hash].add(slot)
        whole = [one for one, slots in self._answered.items() if one[0] == ctx and len(slots) == committee.slots]
        _check(len(whole) <= 1, FORK, (node, ctx.hex()))
        if committee.needs_echo:
            echoed = len(self._echoed[ctx, included_hash])
            _check(echoed >= committee.quorum(terms.order.echo_c), ECHO, (node, echoed, committee.replicas))

    def committee_believed(self, committee: Committee, terms: CellTerms) -> None:
        """A client has found a committee right."""
        self._committees[committee.ctx] = (committee, terms)

    def said_by_client(self, node: "MaskedClientNode", word: WordFromClient) -> None:
        """A client says a word."""
        if isinstance(word, Signed) and word.said == Answer.kind:
            answer = Answer.decode(word.body)
            _check(answer.ctx in node.disk.answers, SAVED, (node, "an answer that is not on disk"))

    def upload_sent(self, node: "MaskedClientNode", row: KeptUpload) -> None:
        """A client begins to send an upload, perhaps again."""
        record = next((one for one in node.disk.sent if one.ctx == row.ctx), None)
        _check(record is not None, SAVED, (node, "an upload that is not on disk as sent"))
        assert record is not None
        for before in self._sent[node.who.id]:
            again = before.work == record.work and before.ctx != row.ctx
            if again and (node.who.id, before.ctx) not in self._forgotten:
                _check(self._released(before.ctx), P3_CLIENT, (node, before.ctx.hex(), row.ctx.hex()))
                self._world.chaos.noticed("a work sent again, its upload before released")
        sent = SentUpload(row.session, record.work, row.ctx)
        if sent not in self._sent[node.who.id]:
            self._sent[node.who.id].append(sent)

    def _released(self, ctx: bytes) -> bool:
        committee = self._committees[ctx][0]
        members = {member.client.client_id for member in committee.members}
        return ctx in self._void or members <= self._aborted[ctx]

    def saved(self, node: "MaskedClientNode") -> None:
        """A client has saved something."""
        disk = node.disk
        rounds = {session: (seen.round, seen.attempt) for session, seen in disk.seen.items()}
        now = (disk.policy_version, disk.highest_session or 0, rounds)
        before = self._floors.get(node.who.id)
        if before is not None:
            grows = all(rounds.get(session, (0, 0)) >= seen for session, seen in before[2].items())
            _check(now[0] >= before[0] and now[1] >= before[1] and grows, P6, (node, before, now))
        self._floors[node.who.id] = now

    def set_back(self, node: "MaskedClientNode") -> None:
        """A client's state folder has become an older copy of itself; what it forgot, it does not know."""
        client, disk = node.who.id, node.disk
        self._floors.pop(client, None)
        kept = {record.ctx for record in disk.sent}
        self._forgotten |= {(client, sent.ctx) for sent in self._sent[client] if sent.ctx not in kept}
        promised = {record.ctx for record in disk.member.promised}
        self._promised[client] = [one for one in self._promised[client] if one.ctx in promised]

    # ---- combiners

    def acknowledged(self, node: "MaskedCombinerNode", signed: Signed) -> None:
        """A combiner gets a member's word on boxes."""
        ack = BoxAck.decode(signed.body)
        heard = self._acks.setdefault((node, node.life, ack.ctx), defaultdict(set))[signed.signer]
        heard |= set(ack.accepted)

    def vector_taken(self, node: "MaskedCombinerNode", effect: AddVector) -> None:
        """A combiner is about to add a vector."""
        work = node.state.work
        assert isinstance(work, CollectingUpdates)
        acknowledged = work.acknowledged
        left_out = acknowledged.silent | acknowledged.left_out(work.relayed)
        heard = self._acks.get((node, node.life, acknowledged.committee.ctx), {})
        for member in acknowledged.committee.members:
            accepted = effect.row in heard.get(member.client.client_key, set())
            _check(accepted or member.client.client_id in left_out, ACKED, (node, member.slot, member.replica))

    def reached(self, node: "Node", message: Any, *, by_reducer: bool) -> None:
        """Something comes to a server."""
        found = self.labels.found_in(message, by_reducer=by_reducer)
        _check(found is None, P4, (node, type(message).__name__, found and (found.what, found.client)))

    # ---- the reducer

    def attempt_planned(self, node: "MaskedReducerNode", effect: PlanMasked, planned: PlannedAttempt) -> None:
        """An attempt is written down."""
        attempt, plan = planned.attempt, effect.plan
        where = (plan.session_number, plan.round_number, plan.attempt)
        _check(where not in self._opened_at, ONE_MODEL, (where, "planned twice"))
        self._opened_at[where] = self._world.clock.now
        head = self._head(plan.session_number, plan.round_number - 1)
        _check(plan.base_model == head, CHAIN, plan)
        assigned = [client for cell in attempt.cells for client in cell.assigned]
        _check(len(assigned) == len(set(assigned)), ONCE, assigned)
        for void in next(iter(planned.terms.values())).plan.voids:
            self._said_void(void)
        for client in sorted(assigned):
            for sent in self._sent[client]:
                if (sent.session, sent.work) != (attempt.session, attempt.work) or self._released(sent.ctx):
                    continue
                # A combiner may be gone for good before the reducer has heard of its committee: then nobody knows that
                # the client has sent something, and the client sits out.
                _check(not self._is_known(sent.ctx), P3_RETRY, (client.hex()[:8], sent.ctx.hex(), where))
                self._world.chaos.noticed("a committee that the reducer never heard of")

    def _is_known(self, ctx: bytes) -> bool:
        rows = self._world.store.rounds.values()
        return any(cell.ctx == ctx for row in rows for at in row.attempts.values() for cell in at.attempt.cells)

    def attempt_reopened(self, old: "MaskedRow", fresh: "MaskedRow") -> None:
        """An attempt takes the place of the one before it at its round."""
        _check(old.status != "committed", ONE_MODEL, fresh.plan)
        held = old.round_secret is not None and old.plan.attempt != fresh.plan.attempt
        _check(not (held and fresh.attempts), NOT_OPENED, (fresh.plan.attempt, "the key before it is still held"))

    def order_sent(self, combiner: CombinerName, order: CellOrder) -> None:
        """A masked order leaves the reducer."""
        row = self._world.store.rounds.get(order.plan.round_number)
        _check(row is not None and order.plan.attempt in row.attempts, SAVED, (combiner, order.generation))

    def document_changed(self, before: Attempt, after: Attempt) -> None:
        """An attempt's document changes: a set stays what it is, and an opening stays."""
        now = {cell.cell: (cell.ctx, cell.included_hash) for cell in after.cells}
        for cell in before.cells:
            if cell.included_hash is not None:
                _check(now[cell.cell] == (cell.ctx, cell.included_hash), ONE_SET, cell.cell.hex())
        _check(before.opening <= after.opening, ONE_SET, "an opening is forgotten")

    def read_back(self, node: "MaskedReducerNode") -> None:
        """The reducer is started again: it finds what was committed."""
        for (session, number), row in self._committed.items():
            if session == self._world.store.terms.number:
                found = self._world.store.rounds.get(number)
                _check(found is not None and found.model == row.model, ONE_MODEL, (session, number))

    def said_by_reducer(self, node: "MaskedReducerNode", word: WordToClient) -> None:
        """The reducer says a word."""
        match word:
            case Included(opening):
                asked = OpenSum2.decode(opening.body)
                if (asked.ctx, asked.included_hash) in self._lies:
                    return
                known = self._asked.setdefault(asked.ctx, asked.included_hash)
                _check(known == asked.included_hash, ONE_SET, asked.ctx.hex())
                stored = (
                    cell.included_hash
                    for row in self._world.store.rounds.values()
                    for at in row.attempts.values()
                    for cell in at.attempt.cells
                    if cell.ctx == asked.ctx
                )
                _check(asked.included_hash in stored, SAVED, (asked.ctx.hex(), "a set that is not in the document"))
            case Signed(said=NotOpened.kind):
                self._said_void(word)

    def lied(self, opening: OpenSum2) -> None:
        """The reducer is about to show some members another set, which an honest one never does."""
        self._lies.add((opening.ctx, opening.included_hash))

    def _said_void(self, signed: Signed) -> None:
        ctx = NotOpened.decode(signed.body).ctx
        _check(ctx not in self._opened, NOT_OPENED, (ctx.hex(), "it was opened"))
        for row in self._world.store.rounds.values():
            for number, at in row.attempts.items():
                if any(cell.ctx == ctx for cell in at.attempt.cells):
                    _check(ctx not in at.attempt.opening, NOT_OPENED, (ctx.hex(), "it may have been opened"))
                    held = row.plan.attempt == number and row.round_secret is not None
                    _check(not held, NOT_OPENED, (ctx.hex(), "its key is still in the document"))
        reducer: Any = self._world.reducer
        for at in reducer.attempts.values():
            if any(cell.ctx == ctx for cell in at.attempt.cells):
                _check(at.round_secret is None, NOT_OPENED, (ctx.hex(), "its key is still in memory"))
        self._void.add(ctx)

    def set_opened(self, node: "MaskedReducerNode", at: AttemptAtHand, ctx: bytes) -> None:
        """The reducer is about to decrypt the answers for a set."""
        cell = at.cell_of(ctx)
        assert cell is not None
        _check(ctx not in self._void, NOT_OPENED, (ctx.hex(), "it is opened after all"))
        row = self._world.store.rounds[at.attempt.round]
        stored = ctx in row.attempts[at.attempt.attempt].attempt.opening
        _check(stored, SAVED, (ctx.hex(), "an opening that is not in the document"))
        clients = frozenset(one.client_id for one in cell.rows)
        known = {bytes.fromhex(client) for client in self._world.clients}
        enough = len(clients & known) >= self._world.sizes.policy.g_min
        _check(enough and len(clients) == len(cell.rows), P2, len(clients))
        fresh = OpenedSet(at.attempt.session, at.attempt.round, at.attempt.attempt, at.attempt.work, ctx, clients)
        for other in self._opened.values():
            if other.work == fresh.work and other.ctx != ctx:
                shared = {client for client in clients & other.clients if (client, other.ctx) not in self._forgotten}
                _check(clients == other.clients or not shared, P3, (other, fresh))
        known_set = self._opened.setdefault(ctx, fresh)
        _check(known_set.clients == clients, ONE_SET, ctx.hex())

    def cell_opened(self, at: AttemptAtHand, ctx: bytes, sums: "np.ndarray[Any, Any]", weight: int) -> None:
        """A cell's sum has passed its checks."""
        cell = at.cell_of(ctx)
        assert cell is not None
        expected, total = self._sum_of([row.header_hash for row in cell.rows])
        _check((tuple(int(v) for v in sums), weight) == (expected, total), EXACT, (ctx.hex(), tuple(sums), expected))

    def round_committed(
        self,
        row: "MaskedRow",
        cells: Sequence[Cell],
        included: Sequence[bytes],
        sums: tuple[int, ...],
        weight: int,
    ) -> None:
        """A round is committed."""
        plan, world = row.plan, self._world
        where = (plan.session_number, plan.round_number)
        before = self._committed.setdefault(where, row)
        _check(before.model == row.model, ONE_MODEL, where)
        _check(plan.base_model == self._head(where[0], where[1] - 1), CHAIN, where)
        clients = [one.client_id for cell in cells for one in cell.rows]
        _check(len(clients) == len(set(clients)), ONCE, where)
        _check(len(clients) >= world.store.terms.clients_required, ENOUGH, (where, len(clients)))
        for cell in cells:
            _check({one.client_id for one in cell.rows} <= cell.assigned, ONCE, (where, "a client that was not drawn"))
        _check((sums, weight) == self._sum_of(list(included)), MEAN, where)
        attempts = {one.attempt for one in self._opened.values() if (one.session.hex(), one.round) == (plan.session, plan.round_number) and one.work == row.attempts[plan.attempt].attempt.work}
        if len(attempts) > 1:
            world.chaos.noticed("sets of two attempts were opened")

    def commit_told(self, committed: RoundCommitted) -> None:
        """Everybody hears of a commit: it has happened and stays."""
        row = self._world.store.rounds.get(committed.round_number)
        told = row is not None and row.status == "committed" and row.model == committed.model
        _check(told, SAVED, committed)

    def _head(self, session: int, number: int) -> Digest | None:
        if (session, number) in self._committed:
            return self._committed[session, number].model
        return self._world.sizes.terms.seed_model if number == 0 else None

    def _sum_of(self, header_hashes: Sequence[bytes]) -> tuple[tuple[int, ...], int]:
        world, sums, weight = self._world, [0] * self._world.n_parameters, 0
        for one in header_hashes:
            update = world.trained[one]
            sums[world.places[update.client]] += world.weight_of(update) * update.value
            weight += world.weight_of(update)
        return tuple(sums), weight

    # ---- liveness

    def attempt_failed(self, plan: RoundPlan, reason: str) -> None:
        """An attempt has failed: something must have gone wrong."""
        at = self._opened_at.get((plan.session_number, plan.round_number, plan.attempt))
        settled = self._world.sizes.quiet_after_s + SETTLED_AFTER_S
        if at is None or at < settled or self._world.store.status == "stopped":
            return
        row = self._world.store.rounds[plan.round_number]
        attempt = row.attempts[plan.attempt].attempt
        for cell in attempt.cells:
            for client in sorted(cell.assigned):
                node: Any = self._world.clients[ClientId(client.hex())]
                for sent in node.disk.sent:
                    held = sent.work == attempt.work and not node.sending.proofs.release(sent)
                    if held and not self._is_known(sent.ctx):
                        return  # it did this work where the reducer does not know of it, and rightly sits out
        _check(False, SUCCEEDS, (plan.round_number, plan.attempt, reason))

    def stepped(self, node: "Node") -> None:
        """A machine has taken an event: no phase of any lasts longer than it may."""
        now = self._world.clock.now
        phase, lasts_s = self._phase_of(node.state)
        if lasts_s is None:
            self._due.pop(node, None)
        elif self._due.get(node, (None, 0.0))[0] != (phase, node.life):
            self._due[node] = ((phase, node.life), now + lasts_s + SLACK_S)
        for late, ((what, life), due) in self._due.items():  # type: ignore[misc]
            _check(now <= due or not late.up or late.life != life, DEADLINES, (late, what))

    def _phase_of(self, state: Any) -> tuple[object, float | None]:
        if isinstance(state, Reducer):
            return self._reducer_phase(state)
        work = getattr(state, "work", None)
        match work:
            case NoWork() | None:
                return None, None
            case Preparing(order):
                timeout_s = order.plan.update_timeout_s if isinstance(order, CellOrder) else order.timeout_s
                return ("order", order.generation), timeout_s + LONGEST_ADDING_S
            case CollectingKeys(order, terms):
                return ("keys", order.generation), terms.plan.sum_ms / 1000
            case CollectingUpdates(order, terms):
                return ("updates", order.generation), terms.plan.update_ms / 1000 + LONGEST_ADDING_S
            case ReportingSum():
                return None, None
        return None, None

    def _reducer_phase(self, state: Reducer) -> tuple[object, float | None]:
        terms = self._world.store.terms
        match state.work:
            case Planning(progress):
                return ("planning", progress.attempt), 3 * STORE_S
            case Masked(progress, plan, attempt=attempt):
                where = (plan.round_number, plan.attempt)
                if attempt.stage == "running":
                    most = SUM_S + terms.update_timeout_s + ANSWER_MARGIN_S + answers_within_s(64, attempt.n_words)
                    return ("masked", *where), most + 20 * STORE_S
                return ("ending", *where), 3 * STREAM_S + 20 * STORE_S
            case Validating(progress):
                return ("validating", progress.committed), terms.validation_timeout_s + ANSWER_MARGIN_S + STORE_S
            case Failed(progress):
                return ("failed", progress.attempt), LONGEST_RETRY_S + STORE_S
            case Gathering(progress):
                return None, None
        return None, None

    def ended(self) -> None:
        """The run is over, long after the last fault: so are the sessions, or the last one rests in a privacy hold."""
        store = self._world.store
        done = store.status == "finished" and len([1 for s, _ in self._committed if s == store.terms.number]) == store.terms.rounds
        # A round whose clients hold what nobody can release rests too, once no new work is allowed.
        unheard = self._world.chaos.sometimes["a committee that the reducer never heard of"]
        held = store.status == "paused" and (store.reason.startswith(PRIVACY_HOLD) or unheard)
        work = self._world.reducer.state.work
        _check(done or held or store.status == "stopped", ENDS, (store.status, store.reason, work))


def _check(holds: object, rule: str, detail: object) -> None:
    if not holds:
        raise InvariantBroken(rule, f"{detail}")
