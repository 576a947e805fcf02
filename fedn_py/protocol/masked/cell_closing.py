"""When a masked cell adds, refuses and closes, and how it ends; what ``cell.py`` and its other parts have in common.

What may be added is what every live member has accepted; what a member refuses may be tried again by its client. A
member that can no longer answer is struck: it is waited for no more, whatever it says.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeAlias

from fedn_py.identity import ClientId, Generation
from fedn_py.protocol.cell_progress import CellProgress
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
)
from fedn_py.protocol.machine import StartTimer
from fedn_py.protocol.masked.acknowledgements import Acknowledgements
from fedn_py.protocol.masked.cell_work import (
    AddVector,
    CollectingKeys,
    CollectingUpdates,
    DropBoxes,
    MaskedWork,
    ReportingSum,
    ReportUnclosed,
    StoreSum,
)
from fedn_py.protocol.masked.participant import MOST_UPLOADS
from fedn_py.protocol.masked.round_messages import IncludedRow
from fedn_py.protocol.messages import CellFailed, Exclusion, TaskCancelled, UpdateReceipt

Result: TypeAlias = tuple[Combiner, list[Effect]]

LOST = "ClientLost: its connection broke and it did not come back"
LATE = "Late: no whole update before the deadline"
NOT_STORED = "CommitteeNotStored: the reducer did not say in time that it has stored the committee"
NOT_ACKNOWLEDGED = "Late: members of the committee had not looked at its box before the cell closed"


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
    work = strike(work)
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
    told = CellProgress(
        generation=work.order.generation,
        phase="collecting",
        included=work.included,
        excluded=work.excluded,
        gone=work.gone,
        at_work=work.training,
        uploads=work.uploads,
    )
    return ReportProgress(told)


def dropped(work: CollectingUpdates, client: ClientId) -> tuple[CollectingUpdates, list[Effect]]:
    """Return the work without what a client has begun to upload."""
    upload = work.uploads.get(client)
    if upload is None:
        return work, []
    rest = {one: other for one, other in work.uploads.items() if one != client}
    return replace(work, uploads=rest), [DropBoxes(work.order.generation, upload.row)]


def strike(work: CollectingUpdates) -> CollectingUpdates:
    """Return the work with those members left out that can no longer answer, whatever they say."""
    heard = work.acknowledged
    refusing = [member for member, refused in heard.refused.items() if refused]
    if not refusing and not work.struck:
        return work
    rows = [*work.included.values(), *(upload.row for upload in work.uploads.values() if upload.adding)]
    struck = work.struck | {one for one in refusing if any(_is_at_odds(heard, one, row) for row in rows)}
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


def over(state: Combiner, generation: Generation) -> Result:
    """Take no more updates; what is being added is awaited.

    Where the committee was never handed out no client could send anything, so the cell fails and blames none of them.
    """
    work = state.work
    if not isinstance(work, CollectingUpdates) or work.order.generation != generation:
        return state, []
    if not work.handed_out:
        return fail(state, NOT_STORED)
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
    told = CellProgress(generation=generation, phase="reporting", included=work.included, excluded=excluded)
    effects.append(ReportProgress(told))
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
