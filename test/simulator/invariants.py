"""What must hold whatever fails, checked after every step against ghosts that no process can see.

Each rule has a name, which a failing run gives: a planted bug counts as caught only by the rule it breaks.
"""

from typing import TYPE_CHECKING, Any

from simulator.fences import CHANGE_HOLDS, VALIDATED, FenceRules, check
from simulator.store import RoundRow, WeightedSum

from fedn_py.identity import ClientId, CombinerName, Digest, Generation
from fedn_py.protocol.combiner_work import AddUpdate, Collecting, Preparing
from fedn_py.protocol.combiner_work import Validating as CombinerValidating
from fedn_py.protocol.messages import CellOrder, PartialAggregate, RoundCommitted, RoundPlan, ValidationOrder
from fedn_py.protocol.reducer import ANSWER_MARGIN_S, LONGEST_RETRY_S
from fedn_py.protocol.reducer_terms import Cells, each
from fedn_py.protocol.reducer_work import (
    CommitRound,
    Committing,
    ExtendAttempt,
    Failed,
    Gathering,
    OpenAttempt,
    Reducer,
    Updating,
    Validating,
)

if TYPE_CHECKING:
    from simulator.nodes import Node
    from simulator.updates import Update
    from simulator.world import World

SLACK_S = 0.01
SLOWEST_CLOCK = 1.12
LONGEST_ADDING_S = 1.0
LONGEST_COMMIT_S = 5.0
SETTLED_AFTER_S = 300.0


class Invariants(FenceRules):
    """Watches one run."""

    def __init__(self, world: "World") -> None:
        super().__init__(world)
        self._opened: dict[tuple[int, int], OpenAttempt] = {}
        self._opened_at: dict[tuple[int, int], float] = {}
        self._orders: dict[Generation, tuple[CombinerName, object]] = {}
        self._uploads: set[tuple[Generation, Digest]] = set()
        self._committed: dict[int, RoundRow] = {}
        self._newest_cell: dict[tuple[int, int, ClientId], Generation] = {}
        self._committing: dict[tuple[int, int, int], Cells] = {}
        self._due: dict[Node, tuple[object, float]] = {}

    # ---- safety

    def attempt_opened(self, effect: OpenAttempt, fence: int) -> None:
        """An attempt is written down: once, from the model that the round before made."""
        plan, store = effect.plan, self._world.store
        check((plan.round_number, plan.attempt) not in self._opened, "an attempt is opened once", plan)
        self.goes_by_the_operator(plan, fence)
        self._opened[plan.round_number, plan.attempt] = effect
        self._opened_at[plan.round_number, plan.attempt] = self._world.clock.now
        check(plan.base_model == self._head(plan.round_number - 1), "the trail is a chain", plan)
        before = store.rounds.get(plan.round_number - 1)
        lacks = before is not None and before.validated is None
        check(not (lacks and store.terms.validate), VALIDATED, plan)
        drawn = [client for cell in effect.cells.values() for client in cell.clients]
        check(len(drawn) == len(set(drawn)), "no client is in two cells", drawn)
        check(len(drawn) >= self._world.store.terms.clients_required, "enough clients are drawn", drawn)

    def attempt_replaced(self, effect: OpenAttempt, fence: int, inserted: Cells) -> None:
        """An attempt takes the place of one that a superseded reducer inserted, and that nobody has heard of."""
        sent = [cell.generation for _, cell in each(inserted) if cell.generation in self._orders]
        check(not sent, "an attempt is opened once", (effect, sent))
        del self._opened[effect.plan.round_number, effect.plan.attempt]
        self.attempt_opened(effect, fence)

    def attempt_extended(self, effect: ExtendAttempt) -> None:
        """Further cells of an attempt are written down: of clients that it has, and whose cells before are fenced."""
        plan = effect.plan
        opened = self._opened[plan.round_number, plan.attempt]
        at_work = [client for _, cell in each(effect.cells) if not cell.lost for client in cell.clients]
        check(len(at_work) == len(set(at_work)), "no client is in two cells", effect)
        for _, cell in each(effect.cells):
            drawn = {client for _, before in each(opened.cells) for client in before.clients}
            check(cell.clients <= drawn, "only drawn clients", cell)
            for client in cell.clients:
                where = (plan.round_number, plan.attempt, client)
                self._newest_cell[where] = max(cell.generation, self._newest_cell.get(where, cell.generation))
        self._opened[plan.round_number, plan.attempt] = OpenAttempt(plan, effect.cells, effect.generation)

    def order_sent(self, combiner: CombinerName, order: CellOrder | ValidationOrder) -> None:
        """An order leaves the reducer: what it belongs to is written down, and its generation is new."""
        known = self._orders.setdefault(order.generation, (combiner, order))
        check(known == (combiner, order), "a generation is used once", (known, order))
        if isinstance(order, CellOrder):
            opened = self._opened.get((order.plan.round_number, order.plan.attempt))
            saved = [(name, cell.generation) for name, cell in each(opened.cells)] if opened else []
            check((combiner, order.generation) in saved, "saved before it is sent", order)
        else:
            row = self._committed.get(order.round_number)
            check(row is not None and row.model == order.model, "saved before it is sent", order)

    def uploaded(self, combiner: "Node", generation: Generation, update: "Update") -> None:
        """An update comes to a combiner under a generation."""
        self._uploads.add((generation, update.sha256))

    def update_taken(self, combiner: "Node", effect: AddUpdate) -> None:
        """A combiner is about to add an update to its sum."""
        work = combiner.state.work
        contribution = effect.contribution
        check((effect.generation, contribution.update_sha256) in self._uploads, "stale generations never count", effect)
        check(isinstance(work, Collecting) and contribution.client in work.order.clients, "only drawn clients", effect)
        update = self._world.updates[contribution.update_sha256]
        check(update.piece.base_model == work.order.plan.base_model, "updates are of the plan's base model", effect)

    def partial_made(self, partial: PartialAggregate, total: Any) -> None:
        """A combiner has stored its sum: it is that of its list."""
        expected = self._sum_of([contribution.update_sha256 for contribution in partial.included])
        check((total.coordinates, total.weight) == expected, "the sum is that of the list", (partial, total))

    def committing(self, fence: int, effect: CommitRound) -> None:
        """A reducer is about to commit what these cells gave."""
        self._committing[effect.plan.round_number, effect.plan.attempt, fence] = effect.cells

    def round_committed(self, row: RoundRow, fence: int) -> None:
        """A round is committed, in its document."""
        number = row.plan.round_number
        cells = self._committing[number, row.plan.attempt, fence]
        before = self._committed.setdefault(number, row)
        check(before.model == row.model, "one model for each round", (before, row))
        check(row.plan.base_model == self._head(number - 1), "the trail is a chain", row)
        clients = [contribution.client for _, contribution in row.included]
        check(len(clients) == len(set(clients)), "no client twice in a round", clients)
        required = self._world.store.terms.clients_required
        check(len(clients) >= required, "enough updates in each round", clients)
        opened = self._opened[number, row.plan.attempt]
        ordered = {cell.generation: (name, cell.clients) for name, cell in each(opened.cells)}
        counted = []
        for combiner, cell in each(cells):
            for contribution in cell.partial.included if cell.partial is not None else ():
                counted.append((combiner, contribution))
                name, clients = ordered[cell.generation]
                check(name == combiner and contribution.client in clients, "only drawn clients", contribution)
                in_time = (cell.generation, contribution.update_sha256) in self._uploads
                fresh = cell.partial is not None and cell.partial.generation == cell.generation
                check(fresh and in_time, "stale generations never count", (combiner, contribution))
                newest = self._newest_cell.get((number, row.plan.attempt, contribution.client), cell.generation)
                check(newest == cell.generation, "what was fenced never counts", (combiner, contribution))
        check(sorted(map(str, counted)) == sorted(map(str, row.included)), "the list names who is in, and where", row)
        assert row.model is not None
        merged = WeightedSum.read(self._world.store.objects.seen(row.model))
        expected = self._sum_of([contribution.update_sha256 for _, contribution in row.included])
        check((merged.coordinates, merged.weight) == expected, "the mean is that of the oracle", (row, merged))

    def commit_told(self, committed: RoundCommitted) -> None:
        """Everybody hears of a commit: it has happened and stays."""
        row = self._world.store.rounds.get(committed.round_number)
        known = row is not None and row.status == "committed" and row.model == committed.model
        check(known, "what is told is committed", committed)
        self.told(committed.session, committed.round_number, committed.model)

    def _head(self, number: int) -> Digest | None:
        return self._committed[number].model if number in self._committed else self._world.store.terms.seed_model

    def _sum_of(self, digests: list[Digest]) -> tuple[dict[ClientId, int], int]:
        updates = [self._world.updates[digest] for digest in digests]
        return {u.client: u.samples * u.value for u in updates}, sum(u.samples for u in updates)

    # ---- liveness

    def stepped(self, node: "Node") -> None:
        """A machine has taken an event: no phase of any lasts longer than it may."""
        now = self._world.clock.now
        phase, lasts_s = self._phase_of(node.state)
        if lasts_s is None:
            self._due.pop(node, None)
        elif self._due.get(node, (None, 0.0))[0] != (phase, node.life):
            slow_s = self._world.chaos.longest_store_s if isinstance(node.state, Reducer) else 0.0
            self._due[node] = ((phase, node.life), now + lasts_s * SLOWEST_CLOCK + SLACK_S + slow_s)
        for late, ((what, life), due) in self._due.items():  # type: ignore[misc]
            gone = not late.up or late.life != life or late.asleep is not None
            check(now <= due or gone, "every phase ends by its deadline", (late, what))

    def woken(self, node: "Node") -> None:
        """A process that was stopped goes on: its timers have all the time that it slept."""
        self._due.pop(node, None)

    def _phase_of(self, state: Any) -> tuple[object, float | None]:
        """Return what a node is in, and how long that may last; None for as long as it likes."""
        terms, work = self._world.store.terms, getattr(state, "work", None)
        if isinstance(state, Reducer):
            return self._reducer_phase(state)
        match work:  # a combiner that reports waits for the store; the reducer does not wait for it any longer
            case Preparing(order) | Collecting(order):
                timeout_s = order.plan.update_timeout_s if isinstance(order, CellOrder) else order.timeout_s
                return ("order", order.generation), timeout_s + LONGEST_ADDING_S
            case CombinerValidating(order):
                return ("validating", order.generation), terms.validation_timeout_s
        return None, None

    def _reducer_phase(self, state: Reducer) -> tuple[object, float | None]:
        terms = self._world.store.terms
        match state.work:
            case Updating(_, plan):
                return ("updating", plan.round_number, plan.attempt), terms.update_timeout_s + ANSWER_MARGIN_S
            case Committing(_, plan):
                return ("committing", plan.round_number, plan.attempt), LONGEST_COMMIT_S
            case Validating(progress):
                return ("validating", progress.committed), terms.validation_timeout_s + ANSWER_MARGIN_S
            case Failed(progress):
                return ("failed", progress.attempt), LONGEST_RETRY_S
            case Gathering(progress):
                there = {client for joined in state.roster.values() for client in joined.clients}
                enough = len(there) >= terms.clients_required
                return ("gathering", progress.attempt), terms.gather_timeout_s if enough else None
        return None, None

    def attempt_failed(self, plan: RoundPlan) -> None:
        """An attempt has failed: something must have gone wrong."""
        settled = self._world.sizes.quiet_after_s + SETTLED_AFTER_S
        opened_at = self._opened_at[plan.round_number, plan.attempt]
        check(opened_at < settled, "without faults every attempt succeeds", plan)

    def ended(self) -> None:
        """The run is over, long after the last fault: so is the session, as somebody resumed it if it rested."""
        store = self._world.store
        done = store.status == "finished" and len(self._committed) == store.terms.rounds
        check(done or store.status == "stopped", "the session ends", self._world.reducer.state.work)
        check(store.status != "finished" or store.changed is None, CHANGE_HOLDS, store.changed)
        for number, row in store.rounds.items():
            kept = number not in self._committed or row.model == self._committed[number].model
            check(kept, "a commit is never unseen", row)
