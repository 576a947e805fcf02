"""Planted bugs: one rule of a machine taken out at a time, to show that the swarm would find its loss."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from simulator.store import Store
from simulator.world import Machines

from fedn_py.identity import InstanceId
from fedn_py.protocol import client, combiner, reducer
from fedn_py.protocol.combiner_work import Collecting, DeadlinePassed, UpdateArrived
from fedn_py.protocol.machine import StartTimer
from fedn_py.protocol.messages import TrainTask
from fedn_py.protocol.reducer_work import (
    Idle,
    PartialArrived,
    Reducer,
    SendOrder,
    SessionStarted,
    UpdateDeadlinePassed,
    Updating,
)

Result = tuple[Any, Any]


@dataclass(frozen=True)
class PlantedBug:
    """Machines without one rule.

    Attributes:
        caught_by: the names of the invariants that may find it.
    """

    machines: Machines
    caught_by: frozenset[str]


def _count_a_duplicate(state: Any, event: Any) -> Result:
    work = state.work
    if isinstance(event, UpdateArrived) and isinstance(work, Collecting) and event.contribution in work.included:
        others = tuple(c for c in work.included if c != event.contribution)
        work = replace(work, included=others, training=work.training | {event.contribution.client})
    return combiner.step(replace(state, work=work), event)


def _take_an_older_generation(state: Any, event: Any) -> Result:
    if isinstance(event, UpdateArrived) and isinstance(state.work, Collecting):
        event = replace(event, generation=state.work.order.generation)
    return combiner.step(state, event)


def _let_anybody_in(state: Any, event: Any) -> Result:
    work = state.work
    if not (isinstance(event, UpdateArrived) and isinstance(work, Collecting)):
        return combiner.step(state, event)
    who = event.contribution.client
    if who in work.order.clients:
        return combiner.step(state, event)
    order = replace(work.order, clients=(*work.order.clients, who), updates_wanted=work.order.updates_wanted + 1)
    state, effects = combiner.step(replace(state, work=replace(work, order=order, gone=work.gone | {who})), event)
    return replace(state, work=replace(state.work, order=work.order)), effects


def _combiner_without_deadline(state: Any, event: Any) -> Result:
    state, effects = combiner.step(state, event)
    return state, [e for e in effects if not (isinstance(e, StartTimer) and isinstance(e.event, DeadlinePassed))]


def _reducer_without_deadline(state: Any, event: Any) -> Result:
    return (state, []) if isinstance(event, UpdateDeadlinePassed) else reducer.step(state, event)


def _with_required(state: Reducer, required: int) -> Reducer:
    if isinstance(state.work, Idle):
        return state
    progress = state.work.progress
    progress = replace(progress, terms=replace(progress.terms, clients_required=required))
    return replace(state, work=replace(state.work, progress=progress))


def _commit_too_few(state: Any, event: Any) -> Result:
    if not isinstance(state.work, Updating):
        return reducer.step(state, event)
    required = state.work.progress.terms.clients_required
    after, effects = reducer.step(_with_required(state, 1), event)
    return _with_required(after, required), effects


def _take_an_old_partial(state: Any, event: Any) -> Result:
    if isinstance(event, PartialArrived) and isinstance(state.work, Updating):
        cell = state.work.cells.get(event.combiner)
        if cell is not None and not cell.ended:
            partial = replace(event.partial, generation=cell.generation)
            event = PartialArrived(event.combiner, InstanceId(cell.instance), partial)
    return reducer.step(state, event)


def _send_before_saving(state: Any, event: Any) -> Result:
    state, effects = reducer.step(state, event)
    return state, sorted(effects, key=lambda effect: not isinstance(effect, SendOrder))


def _forget_the_last_round(store: Store) -> SessionStarted | None:
    started = store.where_it_was(store.terms.session)
    if started is None or not started.progress.committed:
        return started
    number = started.progress.committed
    before = store.rounds[number].plan
    return replace(started, progress=replace(started.progress, committed=number - 1, head=before.base_model))


def _keep_one_update_for_everything(state: Any, event: Any) -> Result:
    if isinstance(event, client.Tasked) and isinstance(event.task, TrainTask) and state.kept is not None:
        state = replace(state, kept=client.Piece.of(event.task.plan))
    return client.step(state, event)


def _of_reducer(step: Callable[[Any, Any], Result], *caught_by: str) -> PlantedBug:
    return PlantedBug(Machines(reducer=step), frozenset(caught_by))


def _of_combiner(step: Callable[[Any, Any], Result], *caught_by: str) -> PlantedBug:
    return PlantedBug(Machines(combiner=step), frozenset(caught_by))


PLANTED = {
    "a duplicate is counted": _of_combiner(_count_a_duplicate, "the sum is that of the list"),
    "an update of an older generation is taken": _of_combiner(
        _take_an_older_generation, "stale generations never count"
    ),
    "a client that was not drawn is let in": _of_combiner(_let_anybody_in, "only drawn clients"),
    "a combiner has no deadline": _of_combiner(_combiner_without_deadline, "every phase ends by its deadline"),
    "the reducer has no deadline": _of_reducer(_reducer_without_deadline, "every phase ends by its deadline"),
    "a round is committed with too few updates": _of_reducer(_commit_too_few, "enough updates in each round"),
    "the partial of an older generation is taken": _of_reducer(_take_an_old_partial, "stale generations never count"),
    "orders are sent before they are written down": _of_reducer(_send_before_saving, "saved before it is sent"),
    "a restarted reducer forgets the last round": PlantedBug(
        Machines(recover=_forget_the_last_round), frozenset({"an attempt is opened once", "one model for each round"})
    ),
    "a kept update serves every round": PlantedBug(
        Machines(client=_keep_one_update_for_everything), frozenset({"updates are of the plan's base model"})
    ),
}
