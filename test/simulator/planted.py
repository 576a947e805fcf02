"""Planted bugs: one rule of a machine taken out at a time, to show that the swarm would find its loss."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

from simulator import fences
from simulator.chaos import Chaos, Sizes, draw_sizes
from simulator.documents import StoreLink
from simulator.lease import LeasedNode, lease_of
from simulator.store import RoundRow, Store
from simulator.working import Work
from simulator.world import Machines, World

from fedn_py.identity import Digest, Generation, InstanceId
from fedn_py.protocol import client, combiner, reducer
from fedn_py.protocol.combiner_work import Collecting, DeadlinePassed, UpdateArrived
from fedn_py.protocol.grown import Grown
from fedn_py.protocol.machine import StartTimer
from fedn_py.protocol.messages import TrainTask
from fedn_py.protocol.plain_cells import order_of
from fedn_py.protocol.reducer_terms import each
from fedn_py.protocol.reducer_work import (
    CommitRound,
    ExtendAttempt,
    Idle,
    PartialArrived,
    Reducer,
    SendOrder,
    SessionStarted,
    UpdateDeadlinePassed,
    Updating,
    Validating,
)
from fedn_py.reducer.lease import Lease, Seen
from fedn_py.store.memory import MemoryDocuments, MemoryObjects
from fedn_py.store.ports import Collection, Document, JSONValue, Outcome, StoreDamaged

if TYPE_CHECKING:
    from simulator.documents import Shelf

Result = tuple[Any, Any]
Harder = Callable[[Sizes, Chaos], tuple[Sizes, Chaos]]


@dataclass(frozen=True)
class PlantedBug:
    """Machines without one rule.

    Attributes:
        caught_by: the names of the invariants that may find it.
        harder: makes the network one in which the rule is needed.
        seeds: within so many it is found.
        begin: the seed that is tried first, where few seeds find it; those before it come last.
    """

    machines: Machines
    caught_by: frozenset[str]
    harder: Harder = lambda sizes, faults: (sizes, faults)
    seeds: int = 200
    begin: int = 0

    def world(self, seed: int) -> World:
        """Return the run that a seed stands for, with the bug."""
        rng = Random(seed)
        sizes, faults = self.harder(draw_sizes(rng), Chaos.draw(rng))
        return World(sizes, rng, faults, self.machines)


# ---- networks in which a rule is needed


def _swept_at_once(sizes: Sizes, faults: Chaos) -> tuple[Sizes, Chaos]:
    chances = {**faults.chances, "documents slow": 0.9}
    return replace(sizes, sweep_grace_s=0.5), replace(faults, chances=chances)


def _two_reducers(sizes: Sizes, faults: Chaos) -> tuple[Sizes, Chaos]:
    """A standby, and a reducer that is stopped for longer than its lease."""
    intervals = {**faults.intervals_s, "reducer stopped and continued": 60.0}
    return replace(sizes, reducers=2), replace(faults, intervals_s=intervals)


def _cut_off_again_and_again(sizes: Sizes, faults: Chaos) -> tuple[Sizes, Chaos]:
    """Combiners that are cut off from the reducer live on, and their clients leave them now and then."""
    often = {"combiner cut off": 12.0, "client stream broken": 3.0, "reducer crashed": 15.0}
    sizes = replace(sizes, combiners=3, max_clients=sizes.clients, combiner_grace_s=1.0, reconnect_grace_s=8.0)
    return sizes, replace(faults, intervals_s={**faults.intervals_s, **often})


def _limits_changed_again_and_again(sizes: Sizes, faults: Chaos) -> tuple[Sizes, Chaos]:
    return sizes, replace(faults, intervals_s={**faults.intervals_s, "limits changed": 20.0, "reducer crashed": 30.0})


# ---- rules taken out


def _count_a_duplicate(state: Any, event: Any) -> Result:
    work = state.work
    if isinstance(event, UpdateArrived) and isinstance(work, Collecting) and event.contribution in work.included:
        others = Grown(c for c in work.included if c != event.contribution)
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


def _forget_what_was_lost(store: Store) -> SessionStarted | None:
    started = store.where_it_was(store.terms.session)
    if started is None or not isinstance(started.found, Updating):
        return started
    cells = {name: replace(cell, lost="") for name, cell in started.found.cells.items()}
    return replace(started, found=replace(started.found, cells=cells))


def _order_what_was_found_anew(store: Store) -> SessionStarted | None:
    started = store.where_it_was(store.terms.session)
    if started is None or not isinstance(started.found, Updating):
        return started
    cells = {
        name: cell if cell.ended else replace(cell, generation=Generation(cell.generation + 1_000))
        for name, cell in started.found.cells.items()
    }
    return replace(started, found=replace(started.found, cells=cells))


def _forget_the_validation(store: Store) -> SessionStarted | None:
    started = store.where_it_was(store.terms.session)
    if started is None or not isinstance(started.found, Validating):
        return started
    return replace(started, found=None)


def _forget_what_was_wished(store: Store) -> SessionStarted | None:
    started = store.where_it_was(store.terms.session)
    if started is None:
        return None
    found = started.found
    if isinstance(found, Updating | Validating):
        found = replace(found, progress=replace(found.progress, intent="run"))
    return replace(started, progress=replace(started.progress, intent="run"), found=found)


def _forget_what_was_changed(store: Store) -> SessionStarted | None:
    started = store.where_it_was(store.terms.session)
    if started is None:
        return None
    found = started.found
    if isinstance(found, Updating | Validating):
        found = replace(found, progress=replace(found.progress, changed=None))
    return replace(started, progress=replace(started.progress, changed=None), found=found)


def _ask_the_counted_again(state: Any, event: Any) -> Result:
    """Put everybody who is attached there into a further cell, whether counted elsewhere or not."""
    state, effects = reducer.step(state, event)
    if not any(isinstance(effect, ExtendAttempt) for effect in effects) or not isinstance(state.work, Updating):
        return state, effects
    work = state.work
    drawn = frozenset(client for _, cell in each(work.cells) for client in cell.clients)
    further = {effect.combiner for effect in effects if isinstance(effect, SendOrder)}
    cells = dict(work.cells)
    for name in further:
        cells[name] = replace(cells[name], clients=cells[name].clients | (state.roster[name].clients & drawn))
    orders = [order_of(work.plan, name, cells[name]) for name in sorted(further)]
    others = [effect for effect in effects if not isinstance(effect, ExtendAttempt | SendOrder)]
    extended = ExtendAttempt(work.plan, cells, work.progress.generation)
    return replace(state, work=replace(work, cells=cells)), [*others, extended, *orders]


def _keep_one_update_for_everything(state: Any, event: Any) -> Result:
    if isinstance(event, client.Tasked) and isinstance(event.task, TrainTask) and state.kept is not None:
        state = replace(state, kept=client.Piece.of(event.task.plan))
    return client.step(state, event)


def _count_one_more(state: Any, event: Any) -> Result:
    state, effects = reducer.step(state, event)
    return state, [_one_more(effect) if isinstance(effect, CommitRound) else effect for effect in effects]


def _one_more(commit: CommitRound) -> CommitRound:
    cells = {
        name: replace(cell, partial=replace(cell.partial, weight=cell.partial.weight + 1)) if cell.partial else cell
        for name, cell in commit.cells.items()
    }
    return replace(commit, cells=cells)


# ---- rules of several reducers and of stores taken out


class _Fenceless(MemoryDocuments):
    """Documents whose filter has no fence."""

    def __init__(self, shelf: "Shelf") -> None:
        self._collections = shelf.documents._collections

    def _matches(self, collection: str, key: str, version: int, fence: int) -> bool:
        stored = self._collections.get(collection, {}).get(key)
        return stored is not None and stored.version == version


class _FencelessLink(StoreLink):
    """A reducer that neither has its fence in a write's filter nor looks at that of a document."""

    def __init__(self, node: Any, shelf: "Shelf") -> None:
        super().__init__(node, shelf)
        self.documents = _Fenceless(shelf)

    async def get(self, collection: Collection, key: str) -> Document | None:
        found = await super().get(collection, key)
        return found if found is None or collection == "network" else replace(found, fence=0)


class _TakenForDone(StoreLink):
    """Answers that were lost count as good ones."""

    async def update(self, collection: Collection, key: str, content: Mapping[str, JSONValue], **named: Any) -> Outcome:
        outcome = await super().update(collection, key, content, **named)
        return "ok" if outcome == "unknown" and collection == "rounds" else outcome


class _TakenForFailed(StoreLink):
    """An answer that was lost is not read back: the write has failed, and so has what it was for."""

    async def update(self, collection: Collection, key: str, content: Mapping[str, JSONValue], **named: Any) -> Outcome:
        before, after = self._shelf.now(collection, key), self._shelf.value_in(content)
        outcome = await super().update(collection, key, content, **named)
        was = None if before is None else self._shelf.value_in(before.content)
        commits = isinstance(after, RoundRow) and after.status == "committed" != was.status
        if outcome == "unknown" and commits:
            raise StoreDamaged("no answer came")
        return outcome


class _Impatient(Lease):
    """A standby that does not wait until the lease has stood still for its time."""

    async def look(self) -> Seen:
        return replace(await super().look(), free=True)


def _impatient(node: LeasedNode) -> Lease:
    patient = lease_of(node)
    return _Impatient(patient._documents, patient._me, clock=patient._clock, sleep=patient._sleep)


def _stamp_nothing(node: LeasedNode) -> Work:
    yield 0.0


def _served_as_it_is(objects: MemoryObjects, digest: Digest) -> bytes:
    return objects.contents[digest]


def _of_stores(*caught_by: str, harder: Harder = _two_reducers, **rules: Any) -> PlantedBug:
    return PlantedBug(Machines(**rules), frozenset(caught_by), harder)


def _of_reducer(step: Callable[[Any, Any], Result], *caught_by: str) -> PlantedBug:
    return PlantedBug(Machines(reducer=step), frozenset(caught_by))


def _of_combiner(step: Callable[[Any, Any], Result], *caught_by: str) -> PlantedBug:
    return PlantedBug(Machines(combiner=step), frozenset(caught_by))


CANARY = "the canary: each weight is one too much"

PLANTED = {
    CANARY: _of_reducer(_count_one_more, "the mean is that of the oracle"),
    "writes have no fence": _of_stores(fences.FENCE_GROWS, fences.FENCED_OFF, link=_FencelessLink),
    "only the lease is stamped at a takeover": _of_stores(fences.FENCED_OFF, stamp=_stamp_nothing),
    "a standby takes a lease that is alive": _of_stores(fences.KEEPS_LEASE, lease=_impatient),
    "a combiner listens to an older reducer again": _of_stores(
        fences.NEWEST_ALONE, is_older=lambda fence, highest: False
    ),
    "a write whose answer was lost is taken for done": _of_stores(
        "saved before it is sent", "what is told is committed", link=_TakenForDone
    ),
    "a commit whose answer was lost is taken for failed": _of_stores(
        fences.ONE_MODEL, fences.NEVER_UNSEEN, link=_TakenForFailed
    ),
    "an object is served unlooked at": _of_stores(fences.SERVED_IS_RIGHT, served=_served_as_it_is),
    "nobody looks whether a model was swept while it was named": _of_stores(
        fences.NAMED_IS_THERE, is_kept=lambda node, digest: True, harder=_swept_at_once
    ),
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
        Machines(recover=_forget_the_last_round), frozenset({fences.NEVER_UNSEEN, fences.ONE_MODEL})
    ),
    "a restarted reducer forgets which cells were lost": PlantedBug(
        Machines(recover=_forget_what_was_lost),
        frozenset({"what was fenced never counts", "no client twice in a round", "no client is in two cells"}),
        _cut_off_again_and_again,
    ),
    "a found attempt is ordered under generations that are not written down": PlantedBug(
        Machines(recover=_order_what_was_found_anew), frozenset({"saved before it is sent"})
    ),
    "a restarted reducer forgets that a model is to be validated": PlantedBug(
        Machines(recover=_forget_the_validation), frozenset({fences.VALIDATED})
    ),
    "a restarted reducer forgets what its operator wished": PlantedBug(
        Machines(recover=_forget_what_was_wished), frozenset({fences.WISH_KEPT})
    ),
    "a restarted reducer forgets which limits were changed": PlantedBug(
        Machines(recover=_forget_what_was_changed), frozenset({fences.CHANGE_HOLDS}), _limits_changed_again_and_again
    ),
    "a further cell has clients that are counted already": _of_reducer(
        _ask_the_counted_again, "no client is in two cells"
    ),
    "a kept update serves every round": PlantedBug(
        Machines(client=_keep_one_update_for_everything),
        frozenset({"updates are of the plan's base model"}),
        seeds=800,
        begin=490,
    ),
}
