"""What becomes of the uploads of a masked cell.

An upload is offered (header and boxes), its bytes come while members look at the boxes, and when both are done it is
added. What is not the vector that its header names excludes its client.
"""

from dataclasses import replace
from typing import TypeAlias

from fedn_py.errors import PeerFault
from fedn_py.identity import ClientId
from fedn_py.protocol.combiner_work import (
    AnswerUpload,
    Combiner,
    Effect,
    UpdateAdded,
    UpdateNotAdded,
)
from fedn_py.protocol.machine import UnexpectedEvent
from fedn_py.protocol.masked.cell_closing import dropped, settle
from fedn_py.protocol.masked.cell_members import send_boxes
from fedn_py.protocol.masked.cell_work import (
    CollectingUpdates,
    ReportingSum,
    Upload,
    UploadOffered,
    VectorArrived,
)
from fedn_py.protocol.masked.participant import MOST_UPLOADS
from fedn_py.protocol.masked.registry import EntryConflict, Registered
from fedn_py.protocol.messages import Exclusion, UpdateReceipt

Result: TypeAlias = tuple[Combiner, list[Effect]]

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
        effects += send_boxes(state, work, member, (event.row,))
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
    owes = client in work.training or client in work.gone
    if not owes or work.tries.get(client, 0) >= MOST_UPLOADS:
        raise AlreadyRefused(next((one.reason for one in work.excluded if one.client == client), "too many uploads"))
    other = work.entries.get(_entry(event.registered))
    if other is not None and other.client_id != event.registered.client_id:
        raise EntryConflict(other, event.registered)


def _entry(client: Registered) -> tuple[bytes, int]:
    return client.token_id, client.index


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
