"""What must hold of combiners and of the reducer, whatever fails."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from simulator.fences import CHAIN, ONE_MODEL, VALIDATED, check
from simulator.masked.ghosts import (
    ACKED,
    ENOUGH,
    EXACT,
    HANDED_OUT,
    MEAN,
    NOT_OPENED,
    ONCE,
    ONE_SET,
    P2,
    P3,
    P3_RETRY,
    P4,
    SAVED,
    Ghosts,
    OpenedSet,
)
from simulator.masked.labels import Labels

from fedn_py.identity import CombinerName, Digest
from fedn_py.protocol.masked.cell_work import AddVector, CollectingUpdates
from fedn_py.protocol.masked.opening_work import Attempt, Cell
from fedn_py.protocol.masked.round_messages import (
    BoxAck,
    Included,
    NotOpened,
    OpenSum2,
)
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.masked.words import WordToClient
from fedn_py.protocol.masked_rounds_work import PlanMasked
from fedn_py.protocol.messages import CellOrder, RoundCommitted
from fedn_py.reducer.attempts import AttemptAtHand
from fedn_py.reducer.planning import PlannedAttempt

if TYPE_CHECKING:
    from simulator.masked.combiner_node import MaskedCombinerNode
    from simulator.masked.reducer_node import MaskedReducerNode
    from simulator.masked.store import MaskedRow
    from simulator.masked.world import MaskedWorld
    from simulator.nodes import Node


class ServerRules:
    """Watches what servers get, sign, store and open."""

    def __init__(self, world: "MaskedWorld", known: Ghosts, labels: Labels) -> None:
        self._world, self._known, self._labels = world, known, labels
        self._committing: dict[Digest, tuple[tuple[Cell, ...], tuple[bytes, ...], tuple[int, ...], int]] = {}

    # ---- combiners

    def acknowledged(self, node: "MaskedCombinerNode", signed: Signed) -> None:
        """A combiner gets a member's word on boxes."""
        ack = BoxAck.decode(signed.body)
        heard = self._known.acks.setdefault((node, node.life, ack.ctx), defaultdict(set))[signed.signer]
        heard |= set(ack.accepted)

    def committee_handed_out(self, node: "MaskedCombinerNode") -> None:
        """A combiner is about to tell a client who the committee is."""
        work = node.state.work
        assert isinstance(work, CollectingUpdates)
        ctx = work.acknowledged.committee.ctx
        check(self._world.store.knows(ctx), HANDED_OUT, (node, ctx.hex()))

    def vector_taken(self, node: "MaskedCombinerNode", effect: AddVector) -> None:
        """A combiner is about to add a vector."""
        work = node.state.work
        assert isinstance(work, CollectingUpdates)
        acknowledged = work.acknowledged
        left_out = acknowledged.silent | acknowledged.left_out(work.relayed)
        heard = self._known.acks.get((node, node.life, acknowledged.committee.ctx), {})
        for member in acknowledged.committee.members:
            accepted = effect.row in heard.get(member.client.client_key, set())
            check(accepted or member.client.client_id in left_out, ACKED, (node, member.slot, member.replica))

    def reached(self, node: "Node", message: Any, *, by_reducer: bool) -> None:
        """Something comes to a server."""
        found = self._labels.found_in(message, by_reducer=by_reducer)
        check(found is None, P4, (node, type(message).__name__, found and (found.what, found.client)))

    # ---- the reducer

    def attempt_planned(self, node: "MaskedReducerNode", effect: PlanMasked, planned: PlannedAttempt) -> None:
        """An attempt is written down."""
        attempt, plan = planned.attempt, effect.plan
        where = (plan.session_number, plan.round_number, plan.attempt)
        check(where not in self._known.planned_at, ONE_MODEL, (where, "planned twice"))
        self._known.planned_at[where] = self._world.clock.now
        self._world.invariants.goes_by_the_operator(plan, node.fence)
        head = self._head(plan.session_number, plan.round_number - 1)
        check(plan.base_model == head, CHAIN, plan)
        before = self._world.store.rounds.get(plan.round_number - 1)
        lacks = before is not None and before.plan.session == plan.session and not before.validated
        check(not (lacks and self._world.store.terms.validate), VALIDATED, plan)
        assigned = [client for cell in attempt.cells for client in cell.assigned]
        check(len(assigned) == len(set(assigned)), ONCE, assigned)
        for void in next(iter(planned.terms.values())).plan.voids:
            self._said_void(void)
        for client in sorted(assigned):
            for sent in self._known.sent[client]:
                if (sent.session, sent.work) != (attempt.session, attempt.work) or self._known.released(sent.ctx):
                    continue
                check(False, P3_RETRY, (client.hex()[:8], sent.ctx.hex(), where))

    def attempt_reopened(self, old: "MaskedRow", fresh: "MaskedRow") -> None:
        """An attempt takes the place of the one before it at its round."""
        check(old.status != "committed", ONE_MODEL, fresh.plan)
        held = old.round_secret is not None and old.plan.attempt != fresh.plan.attempt
        check(not (held and fresh.attempts), NOT_OPENED, (fresh.plan.attempt, "the key before it is still held"))

    def order_sent(self, combiner: CombinerName, order: CellOrder) -> None:
        """A masked order leaves the reducer."""
        row = self._world.store.rounds.get(order.plan.round_number)
        check(row is not None and order.plan.attempt in row.attempts, SAVED, (combiner, order.generation))

    def document_changed(self, before: Attempt, after: Attempt) -> None:
        """An attempt's document changes: a set stays what it is, and an opening stays."""
        now = {cell.cell: (cell.ctx, cell.included_hash) for cell in after.cells}
        for cell in before.cells:
            if cell.included_hash is not None:
                check(now[cell.cell] == (cell.ctx, cell.included_hash), ONE_SET, cell.cell.hex())
        check(before.opening <= after.opening, ONE_SET, "an opening is forgotten")

    def read_back(self, node: "MaskedReducerNode") -> None:
        """The reducer is started again: it finds what was committed."""
        for (session, number), row in self._known.committed.items():
            if session == self._world.store.terms.number:
                found = self._world.store.rounds.get(number)
                check(found is not None and found.model == row.model, ONE_MODEL, (session, number))

    def said_by_reducer(self, node: "MaskedReducerNode", word: WordToClient) -> None:
        """The reducer says a word."""
        match word:
            case Included(opening):
                asked = OpenSum2.decode(opening.body)
                if (asked.ctx, asked.included_hash) in self._known.lies:
                    return
                known = self._known.asked.setdefault(asked.ctx, asked.included_hash)
                check(known == asked.included_hash, ONE_SET, asked.ctx.hex())
                stored = (
                    cell.included_hash
                    for row in self._world.store.rounds.values()
                    for at in row.attempts.values()
                    for cell in at.attempt.cells
                    if cell.ctx == asked.ctx
                )
                check(asked.included_hash in stored, SAVED, (asked.ctx.hex(), "a set that is not in the document"))
            case Signed(said=NotOpened.kind):
                self._said_void(word)

    def lied(self, opening: OpenSum2) -> None:
        """The reducer is about to show some members another set, which an honest one never does."""
        self._known.lies.add((opening.ctx, opening.included_hash))

    def _said_void(self, signed: Signed) -> None:
        ctx = NotOpened.decode(signed.body).ctx
        check(ctx not in self._known.opened, NOT_OPENED, (ctx.hex(), "it was opened"))
        for row in self._world.store.rounds.values():
            for number, at in row.attempts.items():
                if any(cell.ctx == ctx for cell in at.attempt.cells):
                    check(ctx not in at.attempt.opening, NOT_OPENED, (ctx.hex(), "it may have been opened"))
                    held = row.plan.attempt == number and row.round_secret is not None
                    check(not held, NOT_OPENED, (ctx.hex(), "its key is still in the document"))
        reducer: Any = self._world.reducer
        for at in reducer.attempts.at_hand.values():
            if any(cell.ctx == ctx for cell in at.attempt.cells):
                check(at.round_secret is None, NOT_OPENED, (ctx.hex(), "its key is still in memory"))
        self._known.void.add(ctx)

    def set_opened(self, node: "MaskedReducerNode", at: AttemptAtHand, ctx: bytes) -> None:
        """The reducer is about to decrypt the answers for a set."""
        cell = at.cell_of(ctx)
        assert cell is not None
        check(ctx not in self._known.void, NOT_OPENED, (ctx.hex(), "it is opened after all"))
        row = self._world.store.rounds[at.attempt.round]
        stored = ctx in row.attempts[at.attempt.attempt].attempt.opening
        check(stored, SAVED, (ctx.hex(), "an opening that is not in the document"))
        clients = frozenset(one.client_id for one in cell.rows)
        known = {bytes.fromhex(client) for client in self._world.clients}
        enough = len(clients & known) >= self._world.sizes.policy.g_min
        check(enough and len(clients) == len(cell.rows), P2, len(clients))
        fresh = OpenedSet(at.attempt.session, at.attempt.round, at.attempt.attempt, at.attempt.work, ctx, clients)
        for other in self._known.opened.values():
            if other.work == fresh.work and other.ctx != ctx:
                shared = {
                    client for client in clients & other.clients if (client, other.ctx) not in self._known.forgotten
                }
                check(clients == other.clients or not shared, P3, (other, fresh))
        known_set = self._known.opened.setdefault(ctx, fresh)
        check(known_set.clients == clients, ONE_SET, ctx.hex())

    def cell_opened(self, at: AttemptAtHand, ctx: bytes, sums: "np.ndarray[Any, Any]", weight: int) -> None:
        """A cell's sum has passed its checks."""
        cell = at.cell_of(ctx)
        assert cell is not None
        expected, total = self._sum_of([row.header_hash for row in cell.rows])
        check((tuple(int(v) for v in sums), weight) == (expected, total), EXACT, (ctx.hex(), tuple(sums), expected))

    def committing(
        self, model: Digest, cells: Sequence[Cell], included: Sequence[bytes], sums: tuple[int, ...], weight: int
    ) -> None:
        """A reducer is about to commit what these cells gave."""
        self._committing[model] = (tuple(cells), tuple(included), sums, weight)

    def round_committed(self, row: "MaskedRow") -> None:
        """A round is committed, in its document."""
        plan, world = row.plan, self._world
        assert row.model is not None
        cells, included, sums, weight = self._committing[row.model]
        where = (plan.session_number, plan.round_number)
        before = self._known.committed.setdefault(where, row)
        check(before.model == row.model, ONE_MODEL, where)
        check(plan.base_model == self._head(where[0], where[1] - 1), CHAIN, where)
        clients = [one.client_id for cell in cells for one in cell.rows]
        check(len(clients) == len(set(clients)), ONCE, where)
        check(len(clients) >= world.store.terms.clients_required, ENOUGH, (where, len(clients)))
        for cell in cells:
            check({one.client_id for one in cell.rows} <= cell.assigned, ONCE, (where, "a client that was not drawn"))
        check((sums, weight) == self._sum_of(list(included)), MEAN, where)
        attempts = {
            one.attempt
            for one in self._known.opened.values()
            if (one.session.hex(), one.round) == (plan.session, plan.round_number)
            and one.work == row.attempts[plan.attempt].attempt.work
        }
        if len(attempts) > 1:
            world.chaos.noticed("sets of two attempts were opened")

    def commit_told(self, committed: RoundCommitted) -> None:
        """Everybody hears of a commit: it has happened and stays."""
        row = self._world.store.rounds.get(committed.round_number)
        told = row is not None and row.status == "committed" and row.model == committed.model
        check(told, SAVED, committed)
        self._world.invariants.told(committed.session, committed.round_number, committed.model)

    def _head(self, session: int, number: int) -> Digest | None:
        if (session, number) in self._known.committed:
            return self._known.committed[session, number].model
        return self._world.sizes.terms.seed_model if number == 0 else None

    def _sum_of(self, header_hashes: Sequence[bytes]) -> tuple[tuple[int, ...], int]:
        world, sums, weight = self._world, [0] * self._world.n_parameters, 0
        for one in header_hashes:
            update = world.trained[one]
            sums[world.places[update.client]] += world.weight_of(update) * update.value
            weight += world.weight_of(update)
        return tuple(sums), weight
