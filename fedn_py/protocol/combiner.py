"""The combiner's machine: one cell of one round, or one validation, at a time.

Rules it keeps:

- An update is in the sum whole or not at all, once or not at all, and only from a client of the order.
- Each order ends: when the wanted updates are in, when nobody is left to wait for, or at its deadline.
- An answer belongs to its order's generation; whatever names another one is late and is refused by name.
- An order that was taken back is not taken up again: a reducer that was started anew in between is told so.
- A client whose stream breaks is waited for a while; it gets its task again when it comes back.

A masked cell has states of its own, whose rules are in ``masked/cell.py``.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import TypeVar, assert_never

from fedn_py.identity import ClientId, Generation
from fedn_py.protocol.cell_progress import CellProgress
from fedn_py.protocol.combiner_work import (
    AddUpdate,
    AnswerUpload,
    CancelTask,
    ClientAttached,
    ClientDetached,
    ClientStayedAway,
    Collecting,
    Combiner,
    DeadlinePassed,
    Effect,
    Event,
    FetchObjects,
    Forget,
    NotReported,
    NoWork,
    ObjectsFetched,
    ObjectsNotFetched,
    OrderCancelled,
    Ordered,
    Preparing,
    Reported,
    ReportFailure,
    Reporting,
    ReportProgress,
    ReportValidation,
    SendTask,
    StorePartialAggregate,
    TaskNotDone,
    UpdateAdded,
    UpdateArrived,
    UpdateNotAdded,
    Validating,
    ValidationReturned,
    Work,
)
from fedn_py.protocol.crowd import Crowd
from fedn_py.protocol.machine import StartTimer, UnexpectedEvent
from fedn_py.protocol.masked import cell
from fedn_py.protocol.masked.cell_closing import abandon
from fedn_py.protocol.masked.cell_updates import Late
from fedn_py.protocol.masked.cell_work import (
    AcksOverdue,
    BoxesAcknowledged,
    CheckTerms,
    ClientBarred,
    CollectingKeys,
    CollectingUpdates,
    CommitteeKept,
    KeysOffered,
    KeysOverdue,
    MemberStayedAway,
    ReportingSum,
    TermsChecked,
    UpdatesOverdue,
    UploadOffered,
    VectorArrived,
)
from fedn_py.protocol.messages import (
    CellCancelled,
    CellFailed,
    CellOrder,
    Contribution,
    Exclusion,
    TaskCancelled,
    TrainTask,
    UpdateReceipt,
    ValidateTask,
    ValidationOrder,
)

Result = tuple[Combiner, list[Effect]]

LOST = "ClientLost: its connection broke and it did not come back"
LATE = "Late: no whole update before the deadline"
LATE_VALIDATION = "Late: no metrics before the deadline"
NO_LONGER = "Late: this round takes no more updates"


Present = TypeVar("Present", Preparing, Collecting, Reporting, Validating)


def step(state: Combiner, event: Event) -> Result:
    """Advance a combiner by one event.

    Raises:
        UnexpectedEvent: the event does not belong to the work at hand; nothing has changed.
        PeerFault: what a client of a masked cell said is refused by name; nothing has changed.
    """
    match event:
        case Ordered(order):
            return _take(state, order)
        case OrderCancelled(cancelled):
            return _cancel(state, cancelled)
        case TermsChecked(generation, terms):
            work = _the_work(state, event, generation, Preparing)
            if not _is_masked(work.order):
                raise UnexpectedEvent(work, event)
            return cell.begin(state, work, terms)
        case _ if isinstance(state.work, CollectingKeys | CollectingUpdates | ReportingSum):
            return cell.step(state, event)
        case _:
            return _step(state, event)


def _step(state: Combiner, event: Event) -> Result:
    """Advance a combiner without a masked cell."""
    match event:
        case ObjectsFetched(generation):
            work = _the_work(state, event, generation, Preparing)
            if _is_masked(work.order):
                raise UnexpectedEvent(work, event)
            return _begin(state, work)
        case ObjectsNotFetched(generation, reason):
            _the_work(state, event, generation, Preparing)
            return _end(state, generation, [ReportFailure(CellFailed(generation, reason)), Forget(generation)])
        case ClientAttached(client):
            return _attach(replace(state, attached=state.attached | {client}), client)
        case ClientDetached(client):
            return _detach(replace(state, attached=state.attached - {client}), client)
        case ClientStayedAway(generation, client):
            return _give_up_on(state, generation, client)
        case UpdateArrived():
            return _receive(state, event)
        case UpdateAdded(generation):
            return _included(state, _the_work(state, event, generation, Collecting), event)
        case UpdateNotAdded(generation):
            return _not_added(state, _the_work(state, event, generation, Collecting), event)
        case TaskNotDone():
            return _task_not_done(state, event)
        case ValidationReturned(generation, client):
            validating = _the_work(state, event, generation, Validating)
            if client not in validating.waiting and client not in validating.gone:
                raise UnexpectedEvent(validating, event)
            return _validated(state, replace(validating, validated=validating.validated | {client}), client)
        case DeadlinePassed(generation):
            return _deadline(state, generation)
        case Reported(generation):
            _the_work(state, event, generation, Reporting)
            return _end(state, generation, [Forget(generation)])
        case NotReported(generation, reason):
            _the_work(state, event, generation, Reporting)
            return _end(state, generation, [ReportFailure(CellFailed(generation, reason)), Forget(generation)])
        case ClientBarred(client, reason):
            return _bar(state, client, reason)
        case VectorArrived(upload_id=upload_id):
            return state, [AnswerUpload(upload_id, UpdateReceipt(accepted=False, reason=NO_LONGER))]
        case UploadOffered():
            raise Late
        case KeysOverdue() | UpdatesOverdue() | AcksOverdue() | MemberStayedAway():
            return state, []
        case Ordered() | OrderCancelled() | TermsChecked() | KeysOffered() | CommitteeKept() | BoxesAcknowledged():
            raise UnexpectedEvent(state.work, event)
        case _:
            assert_never(event)


def generation_of(work: Work) -> Generation:
    """Return the generation that the work at hand belongs to, or the last one."""
    return work.last if isinstance(work, NoWork) else work.order.generation


def _the_work(state: Combiner, event: Event, generation: Generation, kind: type[Present]) -> Present:
    work = state.work
    if not isinstance(work, kind) or generation_of(work) != generation:
        raise UnexpectedEvent(work, event)
    return work


def _is_masked(order: CellOrder | ValidationOrder) -> bool:
    return isinstance(order, CellOrder) and order.plan.masking != "none"


def _end(state: Combiner, generation: Generation, effects: list[Effect]) -> Result:
    return replace(state, work=NoWork(last=generation)), effects


def _take(state: Combiner, order: CellOrder | ValidationOrder) -> Result:
    if isinstance(state.work, NoWork) and state.work.taken_back and order.generation == state.work.last:
        return state, [ReportFailure(CellFailed(order.generation, state.work.taken_back))]
    if order.generation <= generation_of(state.work):
        raise UnexpectedEvent(state.work, Ordered(order))
    effects: list[Effect] = _abandon(state.work, "a newer order came")
    match order:
        case CellOrder(plan=plan):
            timeout_s = plan.update_timeout_s
            fetch: Effect = FetchObjects(order.generation, (plan.base_model, plan.package))
            if plan.masking != "none":
                fetch = CheckTerms(order)
        case ValidationOrder():
            timeout_s = order.timeout_s
            fetch = FetchObjects(order.generation, (order.model, order.package))
    effects += [
        StartTimer(timeout_s, DeadlinePassed(order.generation)),
        fetch,
        ReportProgress(CellProgress(generation=order.generation, phase="preparing")),
    ]
    return replace(state, work=Preparing(order)), effects


def _abandon(work: Work, reason: str) -> list[Effect]:
    """Return what ends the work without an answer."""
    generation = generation_of(work)
    match work:
        case NoWork():
            return []
        case Preparing():
            return [Forget(generation)]
        case Collecting(adding=adding):
            refused = UpdateReceipt(accepted=False, reason=f"Late: {reason}")
            waiting = work.training
            answers: list[Effect] = [AnswerUpload(upload_id, refused) for upload_id, _ in adding]
        case Reporting():
            return [Forget(generation)]
        case Validating(waiting=waiting):
            answers = []
        case CollectingKeys() | CollectingUpdates() | ReportingSum():
            return abandon(work, reason)
    cancelled = TaskCancelled(generation, reason)
    return [*answers, *(CancelTask(client, cancelled) for client in sorted(waiting)), Forget(generation)]


def _cancel(state: Combiner, cancelled: CellCancelled) -> Result:
    if isinstance(state.work, NoWork) or generation_of(state.work) != cancelled.generation:
        raise UnexpectedEvent(state.work, OrderCancelled(cancelled))
    state, effects = _end(state, cancelled.generation, _abandon(state.work, cancelled.reason))
    return replace(state, work=NoWork(cancelled.generation, taken_back=cancelled.reason)), effects


def _begin(state: Combiner, work: Preparing) -> Result:
    order = work.order
    match order:
        case CellOrder():
            collecting = Collecting(order, training=Crowd(order.clients))
            sent = _send_to_all(order, state.attached)
            begun: Work = collecting
        case ValidationOrder():
            begun = Validating(order, waiting=Crowd(order.clients))
            sent = _send_to_all(order, state.attached)
    away = [_wait_for(state, order.generation, c) for c in order.clients if c not in state.attached]
    state, effects = _settle(replace(state, work=begun))
    return state, [*sent, *away, *effects]


def _send_to_all(order: CellOrder | ValidationOrder, attached: Collection[ClientId]) -> list[Effect]:
    """Hand all clients of an order that are here one and the same task: it is put into words once for all."""
    task = _task_of(order)
    return [SendTask(client, task) for client in order.clients if client in attached]


def _task_of(order: CellOrder | ValidationOrder) -> TrainTask | ValidateTask:
    match order:
        case CellOrder():
            return cell.task_of(order)
        case ValidationOrder():
            return ValidateTask(order)


def _wait_for(state: Combiner, generation: Generation, client: ClientId) -> Effect:
    return StartTimer(state.reconnect_grace_s, ClientStayedAway(generation, client))


def _attach(state: Combiner, client: ClientId) -> Result:
    match state.work:
        case Collecting(training=training, gone=gone, closing=False) as work if client in training or client in gone:
            work = replace(work, training=training | {client}, gone=gone - {client})
            return replace(state, work=work), [SendTask(client, _task_of(work.order))]
        case Validating(waiting=waiting, gone=gone) as validating if client in waiting or client in gone:
            validating = replace(validating, waiting=waiting | {client}, gone=gone - {client})
            return replace(state, work=validating), [SendTask(client, _task_of(validating.order))]
        case _:
            return state, []


def _detach(state: Combiner, client: ClientId) -> Result:
    match state.work:
        case Collecting(order=order, training=owing) if client in owing:
            return state, [_wait_for(state, order.generation, client)]
        case Validating(order=validation, waiting=owing) if client in owing:
            return state, [_wait_for(state, validation.generation, client)]
        case _:
            return state, []


def _give_up_on(state: Combiner, generation: Generation, client: ClientId) -> Result:
    work = state.work
    if generation_of(work) != generation or client in state.attached:
        return state, []
    match work:
        case Collecting(training=training) if client in training:
            return _settle(replace(state, work=replace(work, training=training - {client}, gone=work.gone | {client})))
        case Validating(waiting=waiting) if client in waiting:
            return _settle(replace(state, work=replace(work, waiting=waiting - {client}, gone=work.gone | {client})))
        case _:
            return state, []


def _receive(state: Combiner, event: UpdateArrived) -> Result:
    contribution = event.contribution
    refusal = _refusal(state.work, event)
    if refusal is not None:
        return state, [AnswerUpload(event.upload_id, refusal)]
    work = state.work
    assert isinstance(work, Collecting)
    work = replace(
        work,
        training=work.training - {contribution.client},
        gone=work.gone - {contribution.client},
        adding=(*work.adding, (event.upload_id, contribution)),
    )
    return replace(state, work=work), [AddUpdate(event.generation, event.upload_id, contribution)]


def _refusal(work: Work, event: UpdateArrived) -> UpdateReceipt | None:
    """Return the answer to an update that is not to be added, or None for one that is."""
    client = event.contribution.client
    if isinstance(work, Collecting) and _is_awaited(work, event):
        return None  # and so it is not in: there is no need to look through all that are
    if isinstance(work, Collecting | Reporting) and generation_of(work) == event.generation:
        if event.contribution in work.included:
            return UpdateReceipt(accepted=True)  # the same update again: it is in, once
        if any(c.client == client for c in work.included):
            return UpdateReceipt(accepted=False, reason="AlreadyIn: another update of this client is in the sum")
    if not isinstance(work, Collecting) or generation_of(work) != event.generation or work.closing:
        return UpdateReceipt(accepted=False, reason=NO_LONGER)
    if client not in work.order.clients:
        return UpdateReceipt(accepted=False, reason="NotAssigned: this round did not ask this client")
    if any(c.client == client for _, c in work.adding):
        return UpdateReceipt(accepted=False, reason="AlreadyIn: an update of this client is being added")
    return UpdateReceipt(accepted=False, reason="AlreadyRefused: this client is out of this round")


def _is_awaited(work: Collecting, event: UpdateArrived) -> bool:
    client = event.contribution.client
    owes = client in work.training or client in work.gone
    return owes and not work.closing and work.order.generation == event.generation


def _being_added(work: Collecting, event: UpdateAdded | UpdateNotAdded) -> tuple[Contribution, Collecting]:
    for upload_id, contribution in work.adding:
        if upload_id == event.upload_id:
            rest = tuple(pair for pair in work.adding if pair[0] != upload_id)
            return contribution, replace(work, adding=rest)
    raise UnexpectedEvent(work, event)


def _included(state: Combiner, work: Collecting, event: UpdateAdded) -> Result:
    contribution, work = _being_added(work, event)
    work = replace(work, included=work.included.and_(contribution))
    state, effects = _settle(replace(state, work=work))
    return state, [AnswerUpload(event.upload_id, UpdateReceipt(accepted=True)), *effects]


def _not_added(state: Combiner, work: Collecting, event: UpdateNotAdded) -> Result:
    contribution, work = _being_added(work, event)
    work = replace(work, excluded=work.excluded.and_(Exclusion(contribution.client, event.reason)))
    state, effects = _settle(replace(state, work=work))
    return state, [AnswerUpload(event.upload_id, UpdateReceipt(accepted=False, reason=event.reason)), *effects]


def _task_not_done(state: Combiner, event: TaskNotDone) -> Result:
    work, client = state.work, event.client
    if generation_of(work) != event.generation:
        raise UnexpectedEvent(work, event)
    exclusion = Exclusion(client, event.reason, event.log)
    match work:
        case Collecting(training=training, gone=gone) if client in training or client in gone:
            work = replace(
                work,
                training=training - {client},
                gone=gone - {client},
                excluded=work.excluded.and_(exclusion),
            )
            return _settle(replace(state, work=work))
        case Validating(waiting=waiting, gone=gone) if client in waiting or client in gone:
            return _validated(state, replace(work, excluded=work.excluded.and_(exclusion)), client)
        case _:
            raise UnexpectedEvent(work, event)


def _validated(state: Combiner, work: Validating, client: ClientId) -> Result:
    work = replace(work, waiting=work.waiting - {client}, gone=work.gone - {client})
    return _settle(replace(state, work=work))


def _bar(state: Combiner, client: ClientId, reason: str) -> Result:
    """Go on without a client that the operator has revoked; what is in the sum, or being added, stays in it."""
    match state.work:
        case Collecting(training=training, gone=gone) as work if client in training or client in gone:
            work = replace(work, training=training - {client}, gone=gone - {client})
            return _settle(replace(state, work=replace(work, excluded=work.excluded.and_(Exclusion(client, reason)))))
        case Validating(waiting=waiting, gone=gone) as validating if client in waiting or client in gone:
            excluded = validating.excluded.and_(Exclusion(client, reason))
            return _validated(state, replace(validating, excluded=excluded), client)
        case _:
            return state, []


def _deadline(state: Combiner, generation: Generation) -> Result:
    work = state.work
    if generation_of(work) != generation:
        return state, []
    match work:
        case NoWork() | Reporting() | CollectingKeys() | CollectingUpdates() | ReportingSum():
            return state, []
        case Preparing():
            failure = CellFailed(generation, "Late: the model and the package did not arrive before the deadline")
            return _end(state, generation, [ReportFailure(failure), Forget(generation)])
        case Collecting():
            return _settle(replace(state, work=replace(work, closing=True)))
        case Validating():
            return _report_validation(state, work)


def _settle(state: Combiner) -> Result:
    """Close the work if nothing is left to wait for; otherwise tell how far it is."""
    match state.work:
        case Collecting() as work:
            full = len(work.included) >= work.order.updates_wanted  # what is being added may yet prove unfit
            if (full or not (work.training or work.adding)) and not work.closing:
                work = replace(work, closing=True)
                state = replace(state, work=work)
            if work.closing and not work.adding:
                return _report(state, work)
            return state, [_progress(work)]
        case Validating() as work:
            return _report_validation(state, work) if not work.waiting else (state, [_progress(work)])
        case _:
            return state, []


def _progress(work: Collecting | Validating) -> Effect:
    generation = generation_of(work)
    match work:
        case Collecting():
            told = CellProgress(
                generation=generation,
                phase="collecting",
                contributions=work.included,
                excluded=work.excluded,
                gone=work.gone,
                at_work=work.training,
                adding=work.adding,
            )
        case Validating():
            told = CellProgress(
                generation=generation,
                phase="validating",
                included=work.validated,
                excluded=work.excluded,
                gone=work.gone,
                at_work=work.waiting,
                work="validating",
            )
    return ReportProgress(told)


def _report(state: Combiner, work: Collecting) -> Result:
    generation = generation_of(work)
    excluded = (
        *work.excluded,
        *(Exclusion(client, LOST) for client in sorted(work.gone)),
        *(Exclusion(client, LATE) for client in sorted(work.training)),
    )
    cancelled = TaskCancelled(generation, "the round is closed")
    effects: list[Effect] = [CancelTask(client, cancelled) for client in sorted(work.training)]
    included = tuple(work.included)
    told = CellProgress(generation=generation, phase="reporting", contributions=included, excluded=excluded)
    effects += [ReportProgress(told), StorePartialAggregate(generation, included, excluded)]
    return replace(state, work=Reporting(work.order, included)), effects


def _report_validation(state: Combiner, work: Validating) -> Result:
    generation = generation_of(work)
    excluded = (
        *work.excluded,
        *(Exclusion(client, LOST) for client in sorted(work.gone)),
        *(Exclusion(client, LATE_VALIDATION) for client in sorted(work.waiting)),
    )
    cancelled = TaskCancelled(generation, "the validation is closed")
    effects: list[Effect] = [CancelTask(client, cancelled) for client in sorted(work.waiting)]
    effects += [ReportValidation(generation, work.validated, excluded), Forget(generation)]
    return _end(state, generation, effects)
