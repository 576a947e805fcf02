"""Planted bugs of masked rounds: one rule taken out at a time, to show that the swarm would find its loss.

Some rules are second lines that honest neighbours never let anything reach; their bugs run in networks where
neighbours forget or lie more often.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from simulator import fences
from simulator.chaos import Chaos
from simulator.masked import chaos, ghosts, sending
from simulator.masked.chaos import MaskedSizes
from simulator.masked.disk import Disk
from simulator.masked.machines import MaskedMachines
from simulator.masked.world import MaskedWorld
from simulator.trace import Trace

from fedn_py.client import member_work, participant_work
from fedn_py.protocol import combiner, reducer
from fedn_py.protocol.machine import StartTimer
from fedn_py.protocol.masked.acknowledgements import Acknowledgements
from fedn_py.protocol.masked.boxes import SealedSeeds, seal_seeds
from fedn_py.protocol.masked.cell_work import (
    CollectingUpdates,
    CommitteeKept,
    TellCommittee,
    UpdatesOverdue,
    VectorArrived,
)
from fedn_py.protocol.masked.differencing import MemberMemory, PromiseRecord
from fedn_py.protocol.masked.member_work import (
    Answering,
    Echoed,
    IncludedArrived,
    SavePromise,
    SealAnswer,
    SendEcho,
)
from fedn_py.protocol.masked.opening_work import ConfirmCommittee, OpenCells, SaveDocument
from fedn_py.protocol.masked.participant_work import CommitteeChecked, PlanChecked
from fedn_py.protocol.masked.registry import accept_policy
from fedn_py.protocol.masked.round_messages import Echo, OpenSum2
from fedn_py.protocol.masked_rounds_work import Masked, MaskedEffect
from fedn_py.protocol.reducer_work import Idle, SessionStarted

Result = tuple[Any, Any]
Harder = Callable[[MaskedSizes, Chaos], tuple[MaskedSizes, Chaos]]


@dataclass(frozen=True)
class PlantedBug:
    """Machines without one rule.

    Attributes:
        caught_by: the names of the invariants that may find it.
        harder: makes the network one in which the rule is needed.
        begin: the seed that is tried first, where few seeds find it; those before it come last.
    """

    machines: MaskedMachines
    caught_by: frozenset[str]
    harder: Harder = lambda sizes, faults: (sizes, faults)
    begin: int = 0

    def world(self, seed: int, trace: Trace | None = None) -> MaskedWorld:
        """Return the run that a seed stands for, with the bug."""
        rng = Random(f"masked {seed}")
        sizes, faults = self.harder(chaos.draw_sizes(rng), chaos.draw_chaos(rng))
        return MaskedWorld(sizes, rng, faults, self.machines, trace)


# ---- networks in which second lines are needed


def _one_work_again_and_again(sizes: MaskedSizes, faults: Chaos) -> tuple[MaskedSizes, Chaos]:
    """Sessions of one work, and clients that forget what they sent."""
    terms = replace(sizes.terms, parameters='{"seed": 7}', rounds=1)
    intervals = {**faults.intervals_s, "client forgets what it sent": 5.0, "client crashed": 20.0}
    policy = replace(sizes.policy, rework_max=20)
    sizes = replace(sizes, terms=terms, policy=policy, sessions=3, same_work=True)
    return sizes, replace(faults, intervals_s=intervals)


def _replicated(sizes: MaskedSizes, faults: Chaos) -> tuple[MaskedSizes, Chaos]:
    return replace(sizes, terms=replace(sizes.terms, masked=replace(sizes.terms.masked, k=2, r=2))), faults


def _limits_changed_again_and_again(sizes: MaskedSizes, faults: Chaos) -> tuple[MaskedSizes, Chaos]:
    return sizes, replace(faults, intervals_s={**faults.intervals_s, "limits changed": 20.0, "reducer crashed": 30.0})


def _slow_stores(sizes: MaskedSizes, faults: Chaos) -> tuple[MaskedSizes, Chaos]:
    return sizes, replace(faults, chances={**faults.chances, "documents slow": 0.5})


def _often_cut_off(sizes: MaskedSizes, faults: Chaos) -> tuple[MaskedSizes, Chaos]:
    """Attempts that fail when updates have been sent."""
    chances = {**faults.chances, "stream lost": 0.7, "partial not stored": 0.5}
    return replace(sizes, terms=replace(sizes.terms, clients_required=3)), replace(faults, chances=chances)


def _lying_reducer(sizes: MaskedSizes, faults: Chaos) -> tuple[MaskedSizes, Chaos]:
    sizes, faults = _replicated(sizes, faults)
    return sizes, replace(faults, chances={**faults.chances, "members shown two sets": 0.5, "message repeated": 0.1})


def _few_updates(sizes: MaskedSizes, faults: Chaos) -> tuple[MaskedSizes, Chaos]:
    return sizes, replace(faults, chances={**faults.chances, "training failed": 0.6})


def _many_policies(sizes: MaskedSizes, faults: Chaos) -> tuple[MaskedSizes, Chaos]:
    intervals = {**faults.intervals_s, "client revoked": 20.0, "policy of the past": 10.0}
    return sizes, replace(faults, intervals_s=intervals)


# ---- rules taken out


def _send_without_a_proof(state: Any, event: Any) -> Result:
    if not isinstance(event, PlanChecked | CommitteeChecked):
        return participant_work.step(state, event)
    after, effects = participant_work.step(replace(state, sent=()), event)
    return replace(after, sent=state.sent), effects


def _answer_without_echoes(state: Any, event: Any) -> Result:
    state, effects = member_work.step(state, event)
    if not isinstance(state, Echoed):
        return state, effects
    answering = Answering(state.duty, state.committee, state.included_hash, state.rows)
    return answering, [*effects, SealAnswer(state.rows)]


def _say_before_promising(state: Any, event: Any) -> Result:
    state, effects = member_work.step(state, event)
    said = [effect for effect in effects if isinstance(effect, SendEcho)]
    return state, [*said, *(effect for effect in effects if not isinstance(effect, SendEcho))]


def _sign_what_is_asked(state: Any, event: Any) -> Result:
    if not (isinstance(state, Echoed) and isinstance(event, IncludedArrived)):
        return member_work.step(state, event)
    asked, terms = OpenSum2.decode(event.included.opening.body), state.duty.terms
    clients = tuple(row.client_id for row in event.included.rows)
    record = PromiseRecord(terms.work, asked.ctx, asked.included_hash, terms.plan.reopen, clients)
    return state, [SavePromise(record), SendEcho(Echo(asked.ctx, asked.included_hash))]


def _member_of_few(state: Any, event: Any) -> Result:
    return member_work.step(replace(state, duty=_for_few(state.duty)) if hasattr(state, "duty") else state, event)


def _combiner_of_few(state: Any, event: Any) -> Result:
    work = state.work
    return combiner.step(replace(state, work=_for_few(work)) if isinstance(work, CollectingUpdates) else state, event)


def _for_few(holder: Any) -> Any:
    return replace(holder, terms=replace(holder.terms, order=replace(holder.terms.order, g_min=1)))


def _reducer_of_few(state: Any, event: Any) -> Result:
    work = state.work
    if isinstance(work, Masked):
        attempt = replace(work.attempt, cells=tuple(replace(cell, g_min=1) for cell in work.attempt.cells))
        terms = replace(work.progress.terms, clients_required=1)
        work = replace(work, attempt=replace(attempt, clients_required=1), progress=replace(work.progress, terms=terms))
    return reducer.step(replace(state, work=work), event)


def _seal_nothing(committee: Any, client_id: bytes, seeds: Any, ephemeral: Any) -> SealedSeeds:
    sealed = seal_seeds(committee, client_id, seeds, ephemeral)
    open_boxes = tuple(tuple(box[:64] + seed for box in slot) for slot, seed in zip(sealed.boxes, seeds, strict=True))
    return replace(sealed, boxes=open_boxes)


def _accept_any_policy(signed: Any, trust: Any, highest: Any, now_s: int) -> Any:
    return accept_policy(signed, trust, None, now_s)


def _add_before_all_have_looked(state: Any, event: Any) -> Result:
    work = state.work
    if isinstance(event, VectorArrived) and isinstance(work, CollectingUpdates):
        state = replace(state, work=replace(work, acknowledged=_all_accept(work.acknowledged, event)))
    return combiner.step(state, event)


def _hand_out_at_once(state: Any, event: Any) -> Result:
    state, effects = combiner.step(state, event)
    if not any(isinstance(effect, TellCommittee) for effect in effects) or not isinstance(
        state.work, CollectingUpdates
    ):
        return state, effects
    state, more = combiner.step(state, CommitteeKept(state.work.acknowledged.committee.ctx))
    return state, [*effects, *more]


def _all_accept(heard: Acknowledgements, event: VectorArrived) -> Acknowledgements:
    members = [member.client.client_id for member in heard.committee.members]
    accepted = {member: heard.accepted.get(member, frozenset()) | {event.row} for member in members}
    return replace(heard, accepted=accepted)


def _without_deadlines(state: Any, event: Any) -> Result:
    state, effects = combiner.step(state, event)
    return state, [e for e in effects if not (isinstance(e, StartTimer) and isinstance(e.event, UpdatesOverdue))]


def _draw_stranded_clients(state: Any, event: Any) -> Result:
    state, effects = reducer.step(state, event)
    if isinstance(state.work, Idle):
        return state, effects
    progress = replace(state.work.progress, history=())
    return replace(state, work=replace(state.work, progress=progress)), effects


def _confirm_before_saving(state: Any, event: Any) -> Result:
    state, effects = reducer.step(state, event)
    confirms = [one for one in effects if isinstance(one, MaskedEffect) and isinstance(one.effect, ConfirmCommittee)]
    return state, [*confirms, *(one for one in effects if one not in confirms)]


def _open_before_saving(state: Any, event: Any) -> Result:
    state, effects = reducer.step(state, event)
    opens = any(isinstance(effect, MaskedEffect) and isinstance(effect.effect, OpenCells) for effect in effects)
    if opens:
        saved = [one for one in effects if isinstance(one, MaskedEffect) and isinstance(one.effect, SaveDocument)]
        effects = [*(one for one in effects if one not in saved), *saved]
    return state, effects


def _same_seeds_for_one_work() -> Callable[[Any, bytes, Any], sending.DrawnBytes]:
    kept: dict[tuple[Any, bytes], sending.DrawnBytes] = {}

    def draw(node: Any, work: bytes, committee: Any) -> sending.DrawnBytes:
        before, drawn = kept.get((node, work)), sending.draw(node, work, committee)
        if before is not None and len(before.seeds) == len(drawn.seeds):
            return replace(drawn, seeds=before.seeds)
        kept[node, work] = drawn
        return drawn

    return draw


def _without_promises(disk: Disk) -> Disk:
    return replace(disk, member=MemberMemory())


def _forget_what_was_changed(started: SessionStarted | None) -> SessionStarted | None:
    if started is None:
        return None
    found = started.found
    if found is not None:
        found = replace(found, progress=replace(found.progress, changed=None))
    return replace(started, progress=replace(started.progress, changed=None), found=found)


def _bug(
    *caught_by: str, harder: Harder = lambda sizes, faults: (sizes, faults), begin: int = 0, **machines: Any
) -> PlantedBug:
    return PlantedBug(MaskedMachines(**machines), frozenset(caught_by), harder, begin)


PLANTED = {
    "a member forgets its promises at a restart": _bug(
        ghosts.P3_MEMBER, ghosts.P3, remember=_without_promises, harder=_one_work_again_and_again, begin=13
    ),
    "a client forgets at a restart what it sent": _bug(
        ghosts.P3_CLIENT, ghosts.P3, remember=Disk.without_sent, harder=_often_cut_off
    ),
    "NotOpened is signed and the key is still there": _bug(ghosts.NOT_OPENED, unsets_key=False),
    "a client sends a work again without a proof": _bug(
        ghosts.P3_CLIENT, participant=_send_without_a_proof, harder=_one_work_again_and_again
    ),
    "an answer does not wait for echoes": _bug(
        ghosts.ECHO, ghosts.FORK, member=_answer_without_echoes, harder=_replicated
    ),
    "an echo is said before its promise is written down": _bug(
        ghosts.SAVED, member=_say_before_promising, harder=_replicated
    ),
    "a member signs whatever set it is asked for": _bug(ghosts.P1, member=_sign_what_is_asked, harder=_lying_reducer),
    "nobody asks for g_min clients": _bug(
        ghosts.P2,
        ghosts.P4,
        "enough updates in each round",
        member=_member_of_few,
        combiner=_combiner_of_few,
        reducer=_reducer_of_few,
        harder=_few_updates,
    ),
    "seeds go to the combiner without a box around them": _bug(ghosts.P4, seal=_seal_nothing),
    "a client takes an older policy": _bug(ghosts.P6, accept_policy=_accept_any_policy, harder=_many_policies),
    "an update is added before all members have looked at its box": _bug(
        ghosts.ACKED, combiner=_add_before_all_have_looked
    ),
    "a committee is handed out before the reducer has stored it": _bug(
        ghosts.HANDED_OUT, ghosts.P3_RETRY, combiner=_hand_out_at_once
    ),
    "a committee is said to be stored before it is": _bug(
        ghosts.HANDED_OUT, reducer=_confirm_before_saving, harder=_slow_stores
    ),
    "a restarted reducer forgets which limits were changed": _bug(
        fences.CHANGE_HOLDS, found=_forget_what_was_changed, harder=_limits_changed_again_and_again
    ),
    "a masked cell has no deadline": _bug(ghosts.DEADLINES, combiner=_without_deadlines),
    "a retry has the seeds of the upload before": _bug(ghosts.P7, draw=_same_seeds_for_one_work()),
    "a retry draws clients whose uploads may be opened": _bug(
        ghosts.P3_RETRY, reducer=_draw_stranded_clients, harder=_often_cut_off
    ),
    "cells are opened before that is written down": _bug(
        ghosts.SAVED, reducer=_open_before_saving, harder=_slow_stores, begin=108
    ),
}
