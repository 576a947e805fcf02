"""What must come to an end, and when."""

from typing import TYPE_CHECKING, Any

from simulator.fences import CHANGE_HOLDS, check
from simulator.invariants import SLOWEST_CLOCK
from simulator.masked.ghosts import (
    DEADLINES,
    ENDS,
    SUCCEEDS,
    Ghosts,
)

from fedn_py.identity import ClientId
from fedn_py.protocol.combiner_work import NoWork, Preparing
from fedn_py.protocol.masked.cell_work import CollectingKeys, CollectingUpdates, ReportingSum
from fedn_py.protocol.masked_rounds import ANSWER_MARGIN_S, PRIVACY_HOLD, SUM_S, answers_within_s
from fedn_py.protocol.masked_rounds_work import Masked, Planning
from fedn_py.protocol.messages import CellOrder, RoundPlan
from fedn_py.protocol.reducer import LONGEST_RETRY_S
from fedn_py.protocol.reducer_work import Failed, Gathering, Reducer, Validating
from fedn_py.reducer.cell_commits import STREAM_S

if TYPE_CHECKING:
    from simulator.masked.world import MaskedWorld
    from simulator.nodes import Node

SLACK_S = 1.0
LONGEST_ADDING_S = 2.0
SETTLED_AFTER_S = 450.0


class TimeRules:
    """Watches phases, attempts and sessions."""

    def __init__(self, world: "MaskedWorld", known: Ghosts) -> None:
        self._world, self._known = world, known
        self._due: dict[Node, tuple[object, float]] = {}

    # ---- liveness

    def attempt_failed(self, plan: RoundPlan, reason: str) -> None:
        """An attempt has failed: something must have gone wrong."""
        at = self._known.planned_at.get((plan.session_number, plan.round_number, plan.attempt))
        settled = self._world.sizes.quiet_after_s + SETTLED_AFTER_S
        if at is None or at < settled or self._world.store.status == "stopped":
            return
        row = self._world.store.rounds[plan.round_number]
        attempt = row.attempts[plan.attempt].attempt
        forgetful = {
            client for client, ctx in self._known.forgotten if self._known.committees[ctx][1].work == attempt.work
        }
        for cell in attempt.cells:
            if forgetful & cell.assigned:
                return  # it sent this work before and does not know, and members rightly refuse its set
            for client in sorted(cell.assigned):
                node: Any = self._world.clients[ClientId(client.hex())]
                for sent in node.disk.sent:
                    held = sent.work == attempt.work and not node.sending.proofs.release(sent)
                    if held and not self._world.store.knows(sent.ctx):
                        return  # it did this work where the reducer does not know of it, and rightly sits out
        check(False, SUCCEEDS, (plan.round_number, plan.attempt, reason))

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
            check(now <= due or gone, DEADLINES, (late, what))

    def woken(self, node: "Node") -> None:
        """A process that was stopped goes on: its timers have all the time that it slept."""
        self._due.pop(node, None)

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
        store_s = 0.1
        match state.work:
            case Planning(progress):
                return ("planning", progress.attempt), 3 * store_s
            case Masked(progress, plan, attempt=attempt):
                where = (plan.round_number, plan.attempt)
                if attempt.stage == "running":
                    most = SUM_S + terms.update_timeout_s + ANSWER_MARGIN_S + answers_within_s(64, attempt.n_words)
                    return ("masked", *where), most + 20 * store_s
                return ("ending", *where), 3 * STREAM_S + 20 * store_s
            case Validating(progress):
                return ("validating", progress.committed), terms.validation_timeout_s + ANSWER_MARGIN_S + store_s
            case Failed(progress):
                return ("failed", progress.attempt), LONGEST_RETRY_S + store_s
            case Gathering(progress):
                return None, None
        return None, None

    def ended(self) -> None:
        """The run is over, long after the last fault: so are the sessions, or the last one rests in a privacy hold."""
        store = self._world.store
        committed = sum(session == store.terms.number for session, _ in self._known.committed)
        done = store.status == "finished" and committed == store.terms.rounds
        # A round rests too whose clients have done as many works as they may.
        used_up = self._world.chaos.sometimes["task refused: BaseUsedUp"]
        held = store.status == "paused" and (store.reason.startswith(PRIVACY_HOLD) or used_up)
        work = self._world.reducer.state.work
        check(done or held or store.status == "stopped", ENDS, (store.status, store.reason, work))
        check(store.status != "finished" or store.changed is None, CHANGE_HOLDS, store.changed)
