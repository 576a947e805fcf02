"""Masked attempts of the simulated reducer; follows fedn_py/reducer/attempts.py and masked_rounds.py."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from simulator.masked.certified import TRUST, combiner_key
from simulator.masked.store import MaskedRow, frozen
from simulator.working import Work

from fedn_py.errors import FednError
from fedn_py.protocol.masked.opening_work import (
    AskStream,
    CommitMean,
    ConfirmCommittee,
    KeyUnset,
    OpenCells,
    ReportFailed,
    SaveDocument,
    SendOpenSum2,
    SignNotOpened,
    UnsetKey,
)
from fedn_py.protocol.masked_rounds_work import (
    AttemptNotPlanned,
    AttemptPlanned,
    MaskedEffect,
    MaskedEvent,
    PlanMasked,
)
from fedn_py.protocol.messages import (
    RoundPlan,
    WordForClients,
)
from fedn_py.reducer.attempts import AttemptAtHand
from fedn_py.reducer.clients_had import ClientsHad
from fedn_py.reducer.planning import Before, PlannedAttempt, plan_attempt
from fedn_py.reducer.records import OrderedCell
from fedn_py.reducer.round_records import CommittedElsewhere, KeyStillHeld

if TYPE_CHECKING:
    from simulator.masked.reducer_node import MaskedReducerNode


class Attempts:
    """The attempts at the round at hand, in memory and in the round's document.

    Attributes:
        at_hand: by number.
    """

    def __init__(self, node: "MaskedReducerNode") -> None:
        self._node = node
        self._of: tuple[str, int] = ("", 0)
        self.at_hand: dict[int, AttemptAtHand] = {}
        self._had = ClientsHad()

    def restore(self) -> None:
        """Take up the attempts at the newest round that is written down."""
        store = self._node.world.store
        if store.rounds:
            self._of, self.at_hand = (store.terms.session, max(store.rounds)), store.attempts(TRUST.deployment)

    def at(self, plan: RoundPlan) -> AttemptAtHand | None:
        """Return an attempt at the round at hand."""
        if self._of != (plan.session, plan.round_number):
            return None
        return self.at_hand.get(plan.attempt)

    # ---- planning

    def plan(self, effect: PlanMasked) -> Work:
        """Sign an attempt's plan and orders and write them down."""
        plan = effect.plan
        where = (plan.session, plan.round_number, plan.attempt)
        if self._node.speaker.signed_policy != self._node.world.operator.newest:
            self._node.take_policy()
        secret = self._node.random_bytes()
        try:
            planned = self._planned(effect, secret)
        except FednError as fault:
            self._node.world.chaos.noticed(f"attempt not planned: {fault.code}")
            return AttemptNotPlanned(*where, f"{fault.code}: {fault.message}")
        at = AttemptAtHand(plan.session, planned.plan, planned.orders, planned.terms, planned.attempt)
        named = ordered({name: cell for name, cell in effect.cells.items() if name in at.orders})
        row = MaskedRow(plan, "running", effect.progress.generation, named, {plan.attempt: frozen(at)}, secret)
        self._node.perhaps_crash("reducer crashed around a plan")
        yield from self.write(row)
        self._node.world.invariants.servers.attempt_planned(self._node, effect, planned)
        if self._of != (plan.session, plan.round_number):
            self._of, self.at_hand = (plan.session, plan.round_number), {}
        at.round_secret = secret
        self.at_hand[plan.attempt] = at
        self._node.perhaps_crash("reducer crashed around a plan")
        names = {client: self._node.name_of(client) for cell in effect.cells.values() for client in cell.clients}
        return AttemptPlanned(*where, planned.attempt, planned.left_out, names)

    def _planned(self, effect: PlanMasked, secret: bytes) -> PlannedAttempt:
        keys = {name: combiner_key(name) for name in self._node.seats}
        before = self._before(effect.plan)
        size = self._node.world.n_parameters
        had = self._had.note(effect.plan, {name: cell.clients for name, cell in effect.cells.items()})
        return plan_attempt(
            effect,
            self._node.speaker,
            keys,
            n_parameters=size,
            before=before,
            round_secret=secret,
            ever_had={
                name: [self._node.registered(client) for client in sorted(clients)] for name, clients in had.items()
            },
        )

    def _before(self, plan: RoundPlan) -> Before | None:
        if plan.round_number == 1:
            return None
        row = self._node.world.store.rounds[plan.round_number - 1]
        assert row.link is not None
        assert row.commit is not None
        return Before(row.attempts[row.link.attempt].plan_body.beacon, row.link, row.commit)

    def write(self, fresh: MaskedRow) -> Work:
        """Write the beginning of an attempt down; what came of earlier ones at the round stays."""
        plan, world = fresh.plan, self._node.world

        def reopened(old: MaskedRow) -> MaskedRow:
            if old.status == "committed":
                raise CommittedElsewhere(plan)
            if fresh.attempts and old.round_secret is not None and old.plan.attempt != plan.attempt:
                raise KeyStillHeld(plan)
            earlier = {number: at for number, at in old.attempts.items() if number != plan.attempt}
            kept = replace(fresh, attempts={**earlier, **fresh.attempts})
            return kept if kept.attempts.get(plan.attempt) else replace(kept, round_secret=old.round_secret)

        old = world.store.rounds.get(plan.round_number)
        if old is not None:
            world.invariants.servers.attempt_reopened(old, fresh)
        yield from self._node.round_written(fresh, reopened)
        world.chaos.noticed(f"attempt {min(plan.attempt, 4)}")

    # ---- what an attempt's machine asks for

    def perform(self, wanted: MaskedEffect) -> Work:
        """Do what an attempt's machine asks for."""
        at = self._needed(wanted)
        match wanted.effect:
            case SaveDocument(attempt):
                yield from self._save(at, attempt)
            case ConfirmCommittee(cell, ctx):
                self._node.words.confirm_committee(at, cell, ctx)
            case SendOpenSum2(opening):
                self._node.words.ask_to_open(at, opening)
            case AskStream(ctx, member):
                self._node.words.ask_stream(at, ctx, member)
            case OpenCells(ctxs):
                self._node.spawn(self._node.unmasking.open(at, ctxs), self._node.take_all)
            case CommitMean(ctxs):
                self._node.spawn(self._node.unmasking.commit(at, ctxs), self._node.take_all)
            case UnsetKey():
                yield from self._unset_key(at)
                return [MaskedEvent(*at.where, KeyUnset())]
            case SignNotOpened(void):
                self._node.world.invariants.servers.said_by_reducer(self._node, self._node.speaker.sign(void))
                self._node.send_all(WordForClients((), self._node.speaker.sign(void)))
            case ReportFailed(reason):
                self._node.words.ask_to_abort(at, reason)
        return []

    def _needed(self, wanted: MaskedEffect) -> AttemptAtHand:
        if self._of != (wanted.session, wanted.round_number) or wanted.attempt not in self.at_hand:
            self._of = (wanted.session, wanted.round_number)
            self.at_hand = self._node.world.store.attempts(TRUST.deployment)
        return self.at_hand[wanted.attempt]

    def _save(self, at: AttemptAtHand, attempt: Any) -> Work:
        opens = attempt.opening and not at.attempt.opening
        kept = frozen(replace(at, attempt=attempt))
        if opens:
            self._node.perhaps_crash("reducer crashed before opening is stored")

        def with_attempt(row: MaskedRow) -> MaskedRow:
            self._node.world.invariants.servers.document_changed(row.attempts[attempt.attempt].attempt, attempt)
            return replace(row, attempts={**row.attempts, attempt.attempt: kept})

        yield from self._node.round_changed(at.session, attempt.round, with_attempt)
        at.attempt = attempt
        if opens:
            self._node.perhaps_crash("reducer crashed after opening is stored")

    def _unset_key(self, at: AttemptAtHand) -> Work:
        at.round_secret = None
        at.opened = None
        self._node.perhaps_crash("reducer crashed before its key is unset")
        if self._node.world.machines.unsets_key:
            yield from self._node.round_changed(
                at.session, at.attempt.round, lambda row: replace(row, round_secret=None)
            )
        self._node.perhaps_crash("reducer crashed after its key is unset")

    def secret_of(self, at: AttemptAtHand) -> bytes:
        """Return what opens an attempt's answers."""
        if at.round_secret is None:
            at.round_secret = self._node.world.store.rounds[at.attempt.round].round_secret
        assert at.round_secret is not None
        return at.round_secret


def ordered(cells: Any) -> tuple[OrderedCell, ...]:
    """Return cells as a document has them."""
    return tuple(
        OrderedCell(name, cell.instance, cell.generation, tuple(sorted(cell.clients))) for name, cell in cells.items()
    )
