"""The combiner's machine of one masked cell: CollectingKeys -> CollectingUpdates -> ReportingSum.

Rules it keeps, beside those of ``protocol/combiner.py``, which hold here too:

- The committee is formed when every client has said which keys it offers, or at the end of the phase. No client is
  told of it before the reducer has stored it: what is sealed to it can then be released, whoever is lost.
- A vector is added when it is whole and every live member has accepted its box: nothing is ever subtracted.
- A slot that has lost its members, and a client that the operator has revoked, end their part in it by name.
- Each phase has its time: the keys ``sum_ms`` from the task, the updates ``update_ms`` from the committee.
- The set is what was added when the cell closed; with fewer than g_min nothing is signed that could be opened.

This module has the phase of the keys, and who comes and goes; ``cell_updates.py`` has what becomes of uploads,
``cell_members.py`` what members say of them, ``cell_closing.py`` what follows from both.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

from fedn_py.identity import ClientId, Generation
from fedn_py.protocol.cell_progress import CellProgress
from fedn_py.protocol.combiner_work import (
    AnswerUpload,
    ClientAttached,
    ClientDetached,
    ClientStayedAway,
    Combiner,
    DeadlinePassed,
    Effect,
    Event,
    Forget,
    NotReported,
    NoWork,
    Preparing,
    Reported,
    ReportFailure,
    ReportProgress,
    SendTask,
    TaskNotDone,
    UpdateAdded,
    UpdateArrived,
    UpdateNotAdded,
)
from fedn_py.protocol.crowd import Crowd
from fedn_py.protocol.machine import StartTimer, UnexpectedEvent
from fedn_py.protocol.masked import cell_closing as closing
from fedn_py.protocol.masked import cell_members as members
from fedn_py.protocol.masked import cell_updates as updates
from fedn_py.protocol.masked.acknowledgements import Acknowledgements
from fedn_py.protocol.masked.cell_work import (
    AcksOverdue,
    BoxesAcknowledged,
    ClientBarred,
    CollectingKeys,
    CollectingUpdates,
    CommitteeKept,
    KeysOffered,
    KeysOverdue,
    MemberStayedAway,
    ReportingSum,
    SendCommittee,
    TellCommittee,
    UpdatesOverdue,
    UploadOffered,
    VectorArrived,
)
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.lottery import NoSumParticipant
from fedn_py.protocol.masked.offers import DuplicateMember, Offer, form_committee
from fedn_py.protocol.masked.registry import EntryConflict
from fedn_py.protocol.messages import (
    CellFailed,
    CellOrder,
    CommitteeFormed,
    Exclusion,
    TrainTask,
    UpdateReceipt,
)

Result: TypeAlias = tuple[Combiner, list[Effect]]

UNMASKED = UpdateReceipt(accepted=False, reason="NotMasked: this round takes masked updates alone")


def begin(state: Combiner, work: Preparing, terms: CellTerms) -> Result:
    """Hand out the task of an order that was found right, and ask for keys."""
    order = work.order
    assert isinstance(order, CellOrder)
    clients = Crowd(order.clients)
    state = replace(state, work=CollectingKeys(order, terms, training=clients, asked=clients))
    effects: list[Effect] = [StartTimer(terms.plan.sum_ms / 1000, KeysOverdue(order.generation))]
    task = task_of(order)  # one and the same for all: it is put into words once
    effects += [SendTask(client, task) for client in order.clients if client in state.attached]
    away = [client for client in order.clients if client not in state.attached]
    effects += [StartTimer(state.reconnect_grace_s, ClientStayedAway(order.generation, client)) for client in away]
    state, more = _settle_keys(state)
    return state, [*effects, *more]


def task_of(order: CellOrder) -> TrainTask:
    """Return what a client of the cell is asked to do."""
    return TrainTask(order.plan, order.generation, order.masked, order.signed)


def step(state: Combiner, event: Event) -> Result:
    """Advance a combiner with a masked cell by one event.

    Raises:
        UnexpectedEvent: the event does not belong to the work at hand; nothing has changed.
        PeerFault: what a client said is refused by name; nothing has changed.
    """
    match event:
        case ClientAttached(client):
            return _attach(replace(state, attached=state.attached | {client}), client)
        case ClientDetached(client):
            return _detach(replace(state, attached=state.attached - {client}), client)
        case ClientStayedAway(generation, client):
            return _give_up_on(state, generation, client)
        case KeysOffered():
            return _take_offer(state, event)
        case CommitteeKept(ctx):
            return _hand_out(state, event, ctx)
        case KeysOverdue(generation):
            current = isinstance(state.work, CollectingKeys) and _generation(state) == generation
            return _form(state) if current else (state, [])
        case TaskNotDone():
            return _task_not_done(state, event)
        case ClientBarred(client, reason):
            return _bar(state, client, reason)
        case UpdateArrived(upload_id=upload_id):
            return state, [AnswerUpload(upload_id, UNMASKED)]
        case VectorArrived():
            return updates.receive(state, event)
        case UpdatesOverdue(generation):
            return closing.over(state, generation)
        case DeadlinePassed():
            return state, []  # of the objects, which are here; each phase has a timer of its own
        case UploadOffered():
            return updates.offered(state, event)
        case BoxesAcknowledged():
            return members.acknowledged(state, event)
        case AcksOverdue():
            return members.overdue(state, event)
        case MemberStayedAway():
            return members.stayed_away(state, event)
        case UpdateAdded():
            return updates.added(state, event)
        case UpdateNotAdded():
            return updates.not_added(state, event)
        case Reported() | NotReported():
            return _reported(state, event)
        case _:
            raise UnexpectedEvent(state.work, event)


def _generation(state: Combiner) -> Generation:
    assert isinstance(state.work, CollectingKeys | CollectingUpdates | ReportingSum)
    return state.work.order.generation


# ---- the phase of the keys


def _take_offer(state: Combiner, event: KeysOffered) -> Result:
    work, client = state.work, event.client
    if isinstance(work, CollectingUpdates) and work.order.generation == event.generation:
        return members.offered_again(state, client, event.offer)
    if not isinstance(work, CollectingKeys) or work.order.generation != event.generation:
        raise UnexpectedEvent(work, event)
    if client not in work.training and client not in work.gone:
        raise UnexpectedEvent(work, event)
    _check_alone(client, event.offer, work.offers)
    work = replace(work, asked=work.asked - {client}, offers={**work.offers, client: event.offer})
    return _settle_keys(replace(state, work=work))


def _check_alone(client: ClientId, offer: Offer, offers: Mapping[ClientId, Offer]) -> None:
    """Refuse what would spoil a committee for everybody else in it."""
    keys, mine = {key.epk for key in offer.keys}, offer.client
    for who, other in offers.items():  # gone through once for each client: most are told apart by a number
        if other.client.index == mine.index and other.client.token_id == mine.token_id and who != client:
            raise EntryConflict(other.client, mine)
        if keys and other.keys and who != client and any(key.epk in keys for key in other.keys):
            raise DuplicateMember("another client has offered this key")


def _settle_keys(state: Combiner) -> Result:
    """Form the committee when everybody who is there has said what it offers."""
    work = state.work
    assert isinstance(work, CollectingKeys)
    if not work.asked - work.gone:
        return _form(state)
    told = CellProgress(
        generation=work.order.generation,
        phase="committee",
        excluded=work.excluded,
        gone=work.gone,
        at_work=work.training,
    )
    return state, [ReportProgress(told)]


def _form(state: Combiner) -> Result:
    work = state.work
    assert isinstance(work, CollectingKeys)
    generation = work.order.generation
    offers = [offer for client, offer in work.offers.items() if client not in work.gone]
    try:
        body, committee = form_committee(work.terms, offers)
    except NoSumParticipant as nobody:
        return closing.fail(state, f"{nobody.code}: {nobody.message}{_who_takes_no_part(work)}")
    seated = [ClientId(member.client.client_id.hex()) for member in committee.members]
    collecting = CollectingUpdates(
        work.order,
        work.terms,
        body,
        Acknowledgements(committee, work.terms.order.echo_c),
        training=work.training,
        gone=work.gone,
        excluded=work.excluded,
        visits=dict.fromkeys(seated, 0),
    )
    effects: list[Effect] = [
        StartTimer(work.terms.plan.update_ms / 1000, UpdatesOverdue(generation)),
        TellCommittee(CommitteeFormed(generation, body)),
    ]
    effects += [members.wait_for_member(state, generation, one) for one in seated if one not in state.attached]
    state, more = closing.settle(replace(state, work=collecting))
    return state, [*effects, *more]


def _who_takes_no_part(work: CollectingKeys) -> str:
    """Return what the first client said that takes no part: of a cell that fails nobody else tells that."""
    if not work.excluded:
        return ""
    of, first = len(work.order.clients), work.excluded[0]
    return f"; {len(work.excluded)} of {of} clients take no part, the first of them for {first.reason}"


def _hand_out(state: Combiner, event: CommitteeKept, ctx: bytes) -> Result:
    work = state.work
    if not isinstance(work, CollectingUpdates) or work.acknowledged.committee.ctx != ctx:
        raise UnexpectedEvent(work, event)
    if work.handed_out:
        return state, []
    told = sorted(client for client in {*work.training, *work.visits} if client in state.attached)
    handed_out = replace(state, work=replace(work, handed_out=True))
    return handed_out, [SendCommittee(client, work.body) for client in told]


# ---- who comes and goes


def _attach(state: Combiner, client: ClientId) -> Result:
    match state.work:
        case CollectingKeys(order=order, training=training, gone=gone) as work if client in training or client in gone:
            work = replace(work, training=training | {client}, gone=gone - {client})
            return replace(state, work=work), [SendTask(client, task_of(order))]
        case CollectingUpdates() as collecting:
            return _attach_while_collecting(state, collecting, client)
        case _:
            return state, []


def _attach_while_collecting(state: Combiner, work: CollectingUpdates, client: ClientId) -> Result:
    owes = (client in work.training or client in work.gone) and not work.closing
    effects: list[Effect] = []
    if owes:
        work = replace(work, training=work.training | {client}, gone=work.gone - {client})
        effects.append(SendTask(client, task_of(work.order)))
    if work.handed_out and (owes or client in work.visits):
        effects.append(SendCommittee(client, work.body))
    if client in work.visits:
        work = replace(work, visits={**work.visits, client: work.visits[client] + 1})
        effects += members.all_boxes(state, work, client)
    return replace(state, work=work), effects


def _detach(state: Combiner, client: ClientId) -> Result:
    match state.work:
        case CollectingKeys(order=order, training=owing) if client in owing:
            return state, [StartTimer(state.reconnect_grace_s, ClientStayedAway(order.generation, client))]
        case CollectingUpdates(order=order, training=owing, visits=visits):
            effects: list[Effect] = []
            if client in owing:
                effects.append(StartTimer(state.reconnect_grace_s, ClientStayedAway(order.generation, client)))
            if client in visits:
                effects.append(members.wait_for_member(state, order.generation, client))
            return state, effects
        case _:
            return state, []


def _give_up_on(state: Combiner, generation: Generation, client: ClientId) -> Result:
    work = state.work
    if _generation(state) != generation or client in state.attached:
        return state, []
    match work:
        case CollectingKeys(training=training) if client in training:
            away = replace(work, training=training - {client}, gone=work.gone | {client})
            return _settle_keys(replace(state, work=away))
        case CollectingUpdates(training=training) if client in training:
            lost = replace(work, training=training - {client}, gone=work.gone | {client})
            return closing.settle(replace(state, work=lost), ())
        case _:
            return state, []


def _task_not_done(state: Combiner, event: TaskNotDone) -> Result:
    work = state.work
    if _generation(state) != event.generation or isinstance(work, ReportingSum):
        raise UnexpectedEvent(work, event)
    assert isinstance(work, CollectingKeys | CollectingUpdates)
    if event.client not in work.training and event.client not in work.gone:
        raise UnexpectedEvent(work, event)
    return _without(state, work, Exclusion(event.client, event.reason, event.log))


def _without(state: Combiner, work: CollectingKeys | CollectingUpdates, exclusion: Exclusion) -> Result:
    """Go on without a client's update; a key that it has offered serves all the same."""
    client = exclusion.client
    training, gone = work.training - {client}, work.gone - {client}
    excluded = (*work.excluded, exclusion)
    if isinstance(work, CollectingKeys):
        keys = replace(work, asked=work.asked - {client}, training=training, gone=gone, excluded=excluded)
        return _settle_keys(replace(state, work=keys))
    work, dropped = closing.dropped(replace(work, training=training, gone=gone, excluded=excluded), client)
    state, effects = closing.settle(replace(state, work=work), ())
    return state, [*dropped, *effects]


def _bar(state: Combiner, client: ClientId, reason: str) -> Result:
    match state.work:
        case CollectingKeys() as work:
            offers = {one: offer for one, offer in work.offers.items() if one != client}
            work = replace(work, offers=offers)
            if client in work.training or client in work.gone:
                return _without(state, work, Exclusion(client, reason))
            return (replace(state, work=work), []) if work != state.work else (state, [])
        case CollectingUpdates():
            return members.bar(state, client, reason)
        case _:
            return state, []


# ---- the end


def _reported(state: Combiner, event: Reported | NotReported) -> Result:
    work = state.work
    if not isinstance(work, ReportingSum) or work.order.generation != event.generation:
        raise UnexpectedEvent(work, event)
    effects: list[Effect] = [Forget(event.generation)]
    if isinstance(event, NotReported):
        effects.insert(0, ReportFailure(CellFailed(event.generation, event.reason)))
    return replace(state, work=NoWork(last=event.generation)), effects
