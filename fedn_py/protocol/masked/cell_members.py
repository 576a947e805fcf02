"""The members of a masked cell's committee: what they are sent, what they say, and what they do not say in time."""

from dataclasses import replace
from typing import TypeAlias

from fedn_py.identity import ClientId, Generation
from fedn_py.protocol.combiner_work import (
    AnswerUpload,
    Combiner,
    Effect,
)
from fedn_py.protocol.machine import StartTimer, UnexpectedEvent
from fedn_py.protocol.masked.cell_closing import dropped, settle, strike
from fedn_py.protocol.masked.cell_work import (
    AcksOverdue,
    BoxesAcknowledged,
    CollectingUpdates,
    MemberStayedAway,
    SendBoxes,
)
from fedn_py.protocol.masked.offers import Offer
from fedn_py.protocol.masked.round_messages import BoxAck, IncludedRow
from fedn_py.protocol.messages import Exclusion, UpdateReceipt

Result: TypeAlias = tuple[Combiner, list[Effect]]


def send_boxes(
    state: Combiner, work: CollectingUpdates, member: ClientId, rows: tuple[IncludedRow, ...]
) -> list[Effect]:
    """Relay boxes to a member that is there; one that is away gets them all when it comes back."""
    if member not in state.attached or not rows:
        return []
    return [SendBoxes(work.order.generation, member, rows), _time_for(state, work, member, rows)]


def _time_for(state: Combiner, work: CollectingUpdates, member: ClientId, rows: tuple[IncludedRow, ...]) -> Effect:
    said = work.acknowledged.said_by(bytes.fromhex(member))
    overdue = AcksOverdue(work.order.generation, member, work.visits[member], rows, said)
    return StartTimer(state.acks_s, overdue)


def all_boxes(state: Combiner, work: CollectingUpdates, member: ClientId) -> list[Effect]:
    """Relay all boxes so far to a member that has come back, first those of which it has said nothing."""
    unspoken = dict.fromkeys(_unspoken(work, bytes.fromhex(member)))
    return send_boxes(state, work, member, (*unspoken, *(row for row in _rows(work) if row not in unspoken)))


def _rows(work: CollectingUpdates) -> tuple[IncludedRow, ...]:
    return (*work.included.values(), *(upload.row for upload in work.uploads.values()))


def _unspoken(work: CollectingUpdates, who: bytes) -> tuple[IncludedRow, ...]:
    return tuple(row for row in _rows(work) if not work.acknowledged.spoke_of(who, row))


def wait_for_member(state: Combiner, generation: Generation, member: ClientId) -> Effect:
    """Wait for a member that is away, not longer than for one that says nothing."""
    return StartTimer(min(state.reconnect_grace_s, state.acks_s), MemberStayedAway(generation, member))


def acknowledged(state: Combiner, event: BoxesAcknowledged) -> Result:
    """Hear a member, and add what nobody else is to look at."""
    work = state.work
    if not isinstance(work, CollectingUpdates) or work.order.generation != event.generation:
        raise UnexpectedEvent(work, event)
    before, after = work.acknowledged, work.acknowledged.heard(event.signed)
    after_work = strike(replace(work, acknowledged=after))
    again = [_time_again(state, after_work, who) for who in before.silent - after.silent]
    believed = before.left_out(work.relayed) == after.left_out(work.relayed)
    if not believed or before.silent != after_work.acknowledged.silent:
        state, effects = settle(replace(state, work=after_work))
        return state, [*again, *effects]
    ack = BoxAck.decode(event.signed.body)
    named = {row.client_id for row in ack.accepted} | {refusal.client_id for refusal in ack.rejected}
    return settle(replace(state, work=after_work), (ClientId(one.hex()) for one in named))


def _time_again(state: Combiner, work: CollectingUpdates, who: bytes) -> Effect:
    """Begin the time anew of a member that was silent: of all boxes of which it has said nothing."""
    return _time_for(state, work, ClientId(who.hex()), _unspoken(work, who))


def overdue(state: Combiner, event: AcksOverdue) -> Result:
    """Wait no longer for a member that has been there all the time and has said nothing of a box.

    One that says something of others meanwhile is busy. Where its slot has nobody else, it has its time anew: the cell
    would be lost without it, and ends by its own deadline at the latest.
    """
    work, member = state.work, event.member
    if not isinstance(work, CollectingUpdates) or work.order.generation != event.generation:
        return state, []
    if member not in state.attached or work.visits[member] != event.visit:
        return state, []
    who = bytes.fromhex(member)
    left = tuple(row for row in event.rows if _is_there(work, row) and not work.acknowledged.spoke_of(who, row))
    if not left:
        return state, []
    is_busy = work.acknowledged.said_by(who) > event.said
    if is_busy and work.acknowledged.needs(who, work.relayed):
        return state, [_time_for(state, work, member, left)]
    return _go_on_without(state, work, who)


def _is_there(work: CollectingUpdates, row: IncludedRow) -> bool:
    client = ClientId(row.client_id.hex())
    upload = work.uploads.get(client)
    return work.included.get(client) == row or (upload is not None and upload.row == row)


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
    return settle(replace(state, work=strike(replace(work, struck=work.struck | {member.client.client_id}))))


def _go_on_without(state: Combiner, work: CollectingUpdates, member: bytes) -> Result:
    return settle(replace(state, work=replace(work, acknowledged=work.acknowledged.without(member))))


def bar(state: Combiner, client: ClientId, reason: str) -> Result:
    """Go on without a client that the operator has revoked; what is in the sum stays in it."""
    work = state.work
    assert isinstance(work, CollectingUpdates)
    effects: list[Effect] = []
    upload = work.uploads.get(client)
    if client in work.training or client in work.gone or (upload is not None and not upload.adding):
        if upload is not None and upload.arrival:
            effects.append(AnswerUpload(upload.arrival, UpdateReceipt(accepted=False, reason=reason)))
        work, more = dropped(work, client)
        effects += more
        excluded = (*work.excluded, Exclusion(client, reason))
        work = replace(work, training=work.training - {client}, gone=work.gone - {client}, excluded=excluded)
    if client in work.visits:
        work = strike(replace(work, struck=work.struck | {bytes.fromhex(client)}))
    if work is state.work:
        return state, []
    state, more = settle(replace(state, work=work))
    return state, [*effects, *more]
