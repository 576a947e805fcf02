"""What becomes of the uploads of a masked cell, and how the cell ends; the other half of ``cell.py``.

An upload is offered (header and boxes), its bytes come while members look at the boxes, and when both are done it is
added. What a member refuses may be tried again by its client; what is not the vector that its header names may not.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeAlias

from fedn_py.errors import PeerFault
from fedn_py.identity import ClientId, Generation
from fedn_py.protocol.combiner_work import (
    AnswerUpload,
    CancelTask,
    ClientStayedAway,
    Combiner,
    Effect,
    Forget,
    NoWork,
    ReportFailure,
    ReportProgress,
    UpdateAdded,
    UpdateNotAdded,
)
from fedn_py.protocol.machine import StartTimer, UnexpectedEvent
from fedn_py.protocol.masked.acknowledgements import Acknowledgements
from fedn_py.protocol.masked.cell_work import (
    AcksOverdue,
    AddVector,
    BoxesAcknowledged,
    CollectingKeys,
    CollectingUpdates,
    DropBoxes,
    MaskedWork,
    MemberStayedAway,
    ReportingSum,
    ReportUnclosed,
    SendBoxes,
    StoreSum,
    Upload,
    UploadOffered,
    VectorArrived,
)
from fedn_py.protocol.masked.offers import Offer
from fedn_py.protocol.masked.participant import MOST_UPLOADS
from fedn_py.protocol.masked.registry import EntryConflict, Registered
from fedn_py.protocol.masked.round_messages import BoxAck, IncludedRow
from fedn_py.protocol.messages import CellFailed, Exclusion, RoundProgress, TaskCancelled, UpdateReceipt

Result: TypeAlias = tuple[Combiner, list[Effect]]

LOST = "ClientLost: its connection broke and it did not come back"
LATE = "Late: no whole update before the deadline"
NOT_ACKNOWLEDGED = "Late: members of the committee had not looked at its box before the cell closed"
ACCEPTED = UpdateReceipt(accepted=True)


class Late(PeerFault):
    """An upload for a cell that takes no more of them."""

    def __init__(self) -> None:
        super().__init__("this round takes no more updates", remedy="Nothing is to be done; another round comes.")


class NotAssigned(PeerFault):
    """An upload of a client that the order does not name."""

    def __init__(self) -> None:
        super().__init__("this round did not ask this client", remedy="Nothing is to be done; another round comes.")


class AlreadyIn(PeerFault):
    """Another upload of the client is in the sum, or as good as in it."""

    def __init__(self) -> None:
        super().__init__("another update of this client is in the sum", remedy="Nothing is to be done; it counts once.")


class AlreadyRefused(PeerFault):
    """The client is out of this cell, or this upload of it is."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this was refused before: {reason}", remedy="Nothing is to be done; another round comes.")


# ---- an upload begins


def offered(state: Combiner, event: UploadOffered) -> Result:
    """Relay an upload's boxes; the same one again, after a cut, changes nothing."""
    work, client = state.work, event.client
    if not isinstance(work, CollectingUpdates) or work.order.generation != event.generation:
        raise Late
    known = work.uploads.get(client)
    if work.included.get(client) == event.row or (known is not None and known.row == event.row):
        return state, []
    _check_wanted(work, event)
    work, effects = dropped(work, client)
    work = replace(
        work,
        uploads={**work.uploads, client: Upload(event.row)},
        tries={**work.tries, client: work.tries.get(client, 0) + 1},
        entries={**work.entries, _entry(event.registered): event.registered},
        relayed=work.relayed | {event.row.client_id},
        acknowledged=work.acknowledged.anew(event.row.client_id),
    )
    for member in work.visits:
        effects += _send_boxes(state, work, member, (event.row,))
    return replace(state, work=work), effects


def _check_wanted(work: CollectingUpdates, event: UploadOffered) -> None:
    client = event.client
    if work.closing:
        raise Late
    if client not in work.order.clients:
        raise NotAssigned
    if client in work.included or (client in work.uploads and work.uploads[client].arrival):
        raise AlreadyIn
    header_hash, reason = work.refused.get(client, (b"", ""))
    if header_hash == event.row.header_hash:
        raise AlreadyRefused(reason)
    if client not in work.training | work.gone or work.tries.get(client, 0) >= MOST_UPLOADS:
        raise AlreadyRefused(next((one.reason for one in work.excluded if one.client == client), "too many uploads"))
    other = work.entries.get(_entry(event.registered))
    if other is not None and other.client_id != event.registered.client_id:
        raise EntryConflict(other, event.registered)


def _entry(client: Registered) -> tuple[bytes, int]:
    return client.token_id, client.index


def dropped(work: CollectingUpdates, client: ClientId) -> tuple[CollectingUpdates, list[Effect]]:
    """Return the work without what a client has begun to upload."""
    upload = work.uploads.get(client)
    if upload is None:
        return work, []
    rest = {one: other for one, other in work.uploads.items() if one != client}
    return replace(work, uploads=rest), [DropBoxes(work.order.generation, upload.row)]


# ---- boxes and those who look at them


def _send_boxes(
    state: Combiner, work: CollectingUpdates, member: ClientId, rows: tuple[IncludedRow, ...]
) -> list[Effect]:
    """Relay boxes to a member that is there; one that is away gets them all when it comes back."""
    if member not in state.attached or not rows:
        return []
    generation = work.order.generation
    overdue = AcksOverdue(generation, member, work.visits[member], rows)
    return [SendBoxes(generation, member, rows), StartTimer(state.acks_s, overdue)]


def all_boxes(state: Combiner, work: CollectingUpdates, member: ClientId) -> list[Effect]:
    """Relay all boxes so far to a member that has come back."""
    rows = (*work.included.values(), *(upload.row for upload in work.uploads.values()))
    return _send_boxes(state, work, member, rows)


def wait_for_member(state: Combiner, generation: Generation, member: ClientId) -> Effect:
    """Wait for a member that is away, not longer than for one that says nothing."""
    return StartTimer(min(state.reconnect_grace_s, state.acks_s), MemberStayedAway(generation, member))


def acknowledged(state: Combiner, event: BoxesAcknowledged) -> Result:
    """Hear a member, and add what nobody else is to look at."""
    work = state.work
    if not isinstance(work, CollectingUpdates) or work.order.generation != event.generation:
        raise UnexpectedEvent(work, event)
    before, after = work.acknowledged, work.acknowledged.heard(event.signed)
    after_work = _struck(replace(work, acknowledged=after))
    believed = before.left_out(work.relayed) == after.left_out(work.relayed)
    if not believed or before.silent != after_work.acknowledged.silent:
        return settle(replace(state, work=after_work))
    ack = BoxAck.decode(event.signed.body)
    named = {row.client_id for row in ack.accepted} | {refusal.client_id for refusal in ack.rejected}
    return settle(replace(state, work=after_work), (ClientId(one.hex()) for one in named))


def _struck(work: CollectingUpdates) -> CollectingUpdates:
    """Return the work with those members left out that can no longer answer, whatever they say."""
    heard, refused = work.acknowledged, work.acknowledged.refused
    rows = [*work.included.values(), *(upload.row for upload in work.uploads.values() if upload.adding)]
    struck = work.struck | {one for one in refused if any(_is_at_odds(heard, one, row) for row in rows)}
    for member in struck - heard.silent:
        heard = heard.without(member)
    return replace(work, struck=struck, acknowledged=heard)


def _is_at_odds(heard: Acknowledgements, member: bytes, row: IncludedRow) -> bool:
    """Say whether a member has refused what is in the sum, or cannot be kept out of it any more."""
    return (
        row.client_id in heard.refused[member]
        and heard.spoke_of(member, row)
        and row not in heard.accepted.get(member, frozenset())
    )


def overdue(state: Combiner, event: AcksOverdue) -> Result:
    """Wait no longer for a member that has been there all the time and has said nothing of a box."""
    work, member = state.work, event.member
    if not isinstance(work, CollectingUpdates) or work.order.generation != event.generation:
        return state, []
    if member not in state.attached or work.visits[member] != event.visit:
        return state, []
    current = {*work.included.values(), *(upload.row for upload in work.uploads.values())}
    who = bytes.fromhex(member)
    if all(work.acknowledged.spoke_of(who, row) for row in event.rows if row in current):
        return state, []
    return _go_on_without(state, work, who)


def stayed_away(state: Combiner, event: MemberStayedAway) -> Result:
    """Wait no longer for a member that is not there."""
    work = state.work
    if not isinstance(work, CollectingUpdates) or work.order.generation != event.generation:
        return state, []
    if event.member in state.attached:
        return state, []
    return _go_on_without(state, work, bytes.fromhex(event.member))


def offered_again(state: Combiner, client: ClientId, offer: Offer) -> Result:
    """Hear which keys a client has after the committee was formed: a member without its own cannot answer."""
    work = state.work
    assert isinstance(work, CollectingUpdates)
    member = work.acknowledged.committee.member(bytes.fromhex(client))
    if member is None or member.epk in {key.epk for key in offer.keys}:
        return state, []
    return settle(replace(state, work=_struck(replace(work, struck=work.struck | {member.client.client_id}))))


def _go_on_without(state: Combiner, work: CollectingUpdates, member: bytes) -> Result:
    return settle(replace(state, work=replace(work, acknowledged=work.acknowledged.without(member))))


def bar(state: Combiner, client: ClientId, reason: str) -> Result:
    """Go on without a client that the operator has revoked; what is in the sum stays in it."""
    work = state.work
    assert isinstance(work, CollectingUpdates)
    effects: list[Effect] = []
    upload = work.uploads.get(client)
    if client in work.training | work.gone or (upload is not None and not upload.adding):
        if upload is not None and upload.arrival:
            effects.append(AnswerUpload(upload.arrival, UpdateReceipt(accepted=False, reason=reason)))
        work, more = dropped(work, client)
        effects += more
        excluded = (*work.excluded, Exclusion(client, reason))
        work = replace(work, training=work.training - {client}, gone=work.gone - {client}, excluded=excluded)
    if client in work.visits:
        work = _struck(replace(work, struck=work.struck | {bytes.fromhex(client)}))
    if work is state.work:
        return state, []
    state, more = settle(replace(state, work=work))
    return state, [*effects, *more]


# ---- vectors


def receive(state: Combiner, event: VectorArrived) -> Result:
    """Take a whole vector, to be added as soon as its boxes are accepted, or say why not."""
    work, client = state.work, event.client
    if isinstance(work, ReportingSum) and work.order.generation == event.generation and event.row in work.rows:
        return state, [AnswerUpload(event.upload_id, ACCEPTED)]
    if not isinstance(work, CollectingUpdates) or work.order.generation != event.generation:
        return state, [_refused_as(event.upload_id, Late())]
    upload = work.uploads.get(client)
    if work.included.get(client) == event.row:
        return state, [AnswerUpload(event.upload_id, ACCEPTED)]  # the same upload again: it is in, once
    if upload is None or upload.row != event.row:
        return state, [_refused_as(event.upload_id, _why_unknown(work, event))]
    if upload.arrival:
        return state, [_refused_as(event.upload_id, AlreadyIn())]
    work = replace(
        work,
        training=work.training - {client},
        gone=work.gone - {client},
        uploads={**work.uploads, client: replace(upload, arrival=event.upload_id)},
    )
    return settle(replace(state, work=work), (client,))


def _why_unknown(work: CollectingUpdates, event: VectorArrived) -> PeerFault:
    header_hash, reason = work.refused.get(event.client, (b"", ""))
    if header_hash == event.row.header_hash:
        return AlreadyRefused(reason)
    if event.client not in work.order.clients:
        return NotAssigned()
    if event.client in work.included or event.client in work.uploads:
        return AlreadyIn()
    exclusion = next((one for one in work.excluded if one.client == event.client), None)
    return AlreadyRefused(exclusion.reason) if exclusion is not None else Late()


def _refused_as(upload_id: str, fault: PeerFault) -> Effect:
    return AnswerUpload(upload_id, UpdateReceipt(accepted=False, reason=f"{fault.code}: {fault.message}"))


def added(state: Combiner, event: UpdateAdded) -> Result:
    """List what is in the sum."""
    client, work = _being_added(state, event)
    included = {**work.included, client: work.uploads[client].row}
    uploads = {one: upload for one, upload in work.uploads.items() if one != client}
    state, effects = settle(replace(state, work=replace(work, included=included, uploads=uploads)), ())
    return state, [AnswerUpload(event.upload_id, ACCEPTED), *effects]


def not_added(state: Combiner, event: UpdateNotAdded) -> Result:
    """Leave out a client whose vector is not the one that it signed for."""
    client, work = _being_added(state, event)
    work, effects = dropped(work, client)
    work = replace(work, excluded=(*work.excluded, Exclusion(client, event.reason)))
    state, more = settle(replace(state, work=work), ())
    refused = UpdateReceipt(accepted=False, reason=event.reason)
    return state, [AnswerUpload(event.upload_id, refused), *effects, *more]


def _being_added(state: Combiner, event: UpdateAdded | UpdateNotAdded) -> tuple[ClientId, CollectingUpdates]:
    work = state.work
    if isinstance(work, CollectingUpdates) and work.order.generation == event.generation:
        for client, upload in work.uploads.items():
            if upload.adding and upload.arrival == event.upload_id:
                return client, work
    raise UnexpectedEvent(work, event)


# ---- what follows


def settle(state: Combiner, clients: Iterable[ClientId] | None = None) -> Result:
    """Do what has become possible: add, refuse, close, or give the cell up.

    Args:
        clients: those whose uploads are to be looked at; all where it is None.
    """
    work = state.work
    assert isinstance(work, CollectingUpdates)
    slot = _lost_slot(work)
    if slot is not None:
        return fail(state, f"NoSumParticipant: slot {slot} lost its members")
    work, effects = _judge(state, work, clients)
    full = len(work.included) >= work.order.updates_wanted  # what is being added may yet prove unfit
    work = replace(work, closing=work.closing or full or not (work.training or _whole(work)))
    if work.closing:
        work, late = _too_late(work)
        effects += late
    if work.closing and not work.uploads:
        state, closed = _close(state, work)
        return state, [*effects, *closed]
    return replace(state, work=work), [*effects, _progress(work)]


def _lost_slot(work: CollectingUpdates) -> int | None:
    committee, silent = work.acknowledged.committee, work.acknowledged.silent
    left = {member.slot for member in committee.members if member.client.client_id not in silent}
    return next((slot for slot in range(committee.slots) if slot not in left), None)


def _whole(work: CollectingUpdates) -> list[ClientId]:
    return [client for client, upload in work.uploads.items() if upload.arrival]


def _judge(
    state: Combiner, work: CollectingUpdates, clients: Iterable[ClientId] | None
) -> tuple[CollectingUpdates, list[Effect]]:
    effects: list[Effect] = []
    silent = work.acknowledged.silent
    for client in _whole(work) if clients is None else clients:
        upload = work.uploads.get(client)
        if upload is None or upload.adding or not upload.arrival:
            continue
        verdict, reason = work.acknowledged.verdict(upload.row, work.relayed)
        if verdict == "add":
            work = replace(work, uploads={**work.uploads, client: replace(upload, adding=True)})
            effects.append(AddVector(work.order.generation, upload.arrival, upload.row))
        elif verdict == "refuse":
            work, more = _refuse(state, work, client, reason)
            effects += more
    work = _struck(work)
    if work.acknowledged.silent == silent:
        return work, effects
    work, more = _judge(state, work, None)  # one member less to wait for
    return work, [*effects, *more]


def _refuse(
    state: Combiner, work: CollectingUpdates, client: ClientId, reason: str
) -> tuple[CollectingUpdates, list[Effect]]:
    """Tell a client that a member refuses its box; it may try again, a few times."""
    generation, upload = work.order.generation, work.uploads[client]
    work, effects = dropped(work, client)
    effects.append(AnswerUpload(upload.arrival, UpdateReceipt(accepted=False, reason=reason)))
    work = replace(work, refused={**work.refused, client: (upload.row.header_hash, reason)})
    if work.tries[client] >= MOST_UPLOADS:
        return replace(work, excluded=(*work.excluded, Exclusion(client, reason))), effects
    if client not in state.attached:
        effects.append(StartTimer(state.reconnect_grace_s, ClientStayedAway(generation, client)))
    return replace(work, training=work.training | {client}), effects


def _too_late(work: CollectingUpdates) -> tuple[CollectingUpdates, list[Effect]]:
    """Let go of everything that is not being added."""
    effects: list[Effect] = []
    for client, upload in work.uploads.items():
        if upload.adding:
            continue
        work, more = dropped(work, client)
        effects += more
        if upload.arrival:
            work = replace(work, excluded=(*work.excluded, Exclusion(client, NOT_ACKNOWLEDGED)))
            receipt = UpdateReceipt(accepted=False, reason=NOT_ACKNOWLEDGED)
            effects.append(AnswerUpload(upload.arrival, receipt))
    return work, effects


def _progress(work: CollectingUpdates) -> Effect:
    excluded = len(work.excluded) + len(work.gone)
    counts = RoundProgress(work.order.generation, "collecting", len(work.included), len(work.training), excluded)
    return ReportProgress(counts)


# ---- the end


def over(state: Combiner, generation: Generation) -> Result:
    """Take no more updates; what is being added is awaited."""
    work = state.work
    if not isinstance(work, CollectingUpdates) or work.order.generation != generation:
        return state, []
    return settle(replace(state, work=replace(work, closing=True)))


def _close(state: Combiner, work: CollectingUpdates) -> Result:
    generation, rows = work.order.generation, tuple(sorted(work.included.values(), key=lambda row: row.client_id))
    excluded = (
        *work.excluded,
        *(Exclusion(client, LOST) for client in sorted(work.gone)),
        *(Exclusion(client, LATE) for client in sorted(work.training)),
    )
    cancelled = TaskCancelled(generation, "the round is closed")
    effects: list[Effect] = [CancelTask(client, cancelled) for client in sorted(work.training)]
    effects.append(ReportProgress(RoundProgress(generation, "reporting", len(rows), 0, len(excluded))))
    if len(rows) < work.terms.order.g_min:
        effects += [ReportUnclosed(generation, len(rows), excluded), Forget(generation)]
        return replace(state, work=NoWork(last=generation)), effects
    effects.append(StoreSum(generation, work.acknowledged.committee.ctx, rows, excluded))
    return replace(state, work=ReportingSum(work.order, frozenset(rows))), effects


def fail(state: Combiner, reason: str) -> Result:
    """End a masked cell that cannot be answered."""
    work = state.work
    assert isinstance(work, CollectingKeys | CollectingUpdates)
    generation = work.order.generation
    effects: list[Effect] = [ReportFailure(CellFailed(generation, reason)), *abandon(work, reason)]
    return replace(state, work=NoWork(last=generation)), effects


def abandon(work: MaskedWork, reason: str) -> list[Effect]:
    """Return what ends a masked cell without an answer."""
    generation = work.order.generation
    if isinstance(work, ReportingSum):
        return [Forget(generation)]
    refused = UpdateReceipt(accepted=False, reason=f"Late: {reason}")
    answers: list[Effect] = []
    if isinstance(work, CollectingUpdates):
        answers = [AnswerUpload(one.arrival, refused) for one in work.uploads.values() if one.arrival]
    cancelled = TaskCancelled(generation, reason)
    return [*answers, *(CancelTask(client, cancelled) for client in sorted(work.training)), Forget(generation)]
