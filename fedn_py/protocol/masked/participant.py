"""The machine of an update participant: one client, one update at a time; a newer plan takes the place of an older one.

Waiting -> Training -> Checking -> Sealing -> Sent -> Waiting, or SittingOut.

Rules it keeps:

- Plans come in order: neither an older attempt than the last one, nor two plans for one.
- Nothing is sealed to a committee that was not checked, and nothing is sent before the record of it is on disk.
- A work is uploaded under a second committee only when the first upload can never be opened; else the client sits out
  until the work changes. Masks are drawn anew for each upload; the same upload is repeated with the same bytes.
"""

from dataclasses import replace
from typing import TypeAlias, assert_never

from fedn_py.errors import PeerFault
from fedn_py.protocol.machine import UnexpectedEvent
from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import CellTerms, WrongContext
from fedn_py.protocol.masked.differencing import MayBeOpened, Proofs, SentRecord, check_base, check_may_send
from fedn_py.protocol.masked.participant_work import (
    AbortArrived,
    Checking,
    CommitteeChecked,
    DropUpdate,
    Effect,
    EraseSeeds,
    Event,
    NotOpenedArrived,
    PlanChecked,
    RoundEnded,
    SaveSeen,
    SaveSent,
    Sealing,
    SealUpdate,
    Seen,
    SendUpload,
    Sent,
    SitOut,
    SittingOut,
    State,
    StoredUpload,
    Train,
    Training,
    TrainingEnded,
    TrainingFailed,
    UpdateParticipant,
    UpdateSealed,
    UploadRefused,
    Waiting,
)

MOST_UPLOADS = 3
"""How often a client seals its update to one committee, where a member refuses its box."""

Result: TypeAlias = tuple[UpdateParticipant, list[Effect]]


class OldRound(PeerFault):
    """A plan of an attempt that is over, or a second plan for one attempt."""

    def __init__(self, offered: Seen, last: Seen) -> None:
        super().__init__(
            f"a plan for attempt {offered.attempt} of round {offered.round} came after "
            f"attempt {last.attempt} of round {last.round}",
            remedy="Late messages are refused like this now and then; if it lasts, the reducer's state was set back.",
        )


def step(state: UpdateParticipant, event: Event) -> Result:
    """Advance an update participant by one event.

    Raises:
        UnexpectedEvent: it is not expected now; nothing has changed.
        PeerFault: it is refused by name; nothing has changed.
    """
    match event:
        case PlanChecked(terms, plan_hash):
            return _plan(state, terms, plan_hash)
        case TrainingEnded(work):
            return _trained(state, event, work)
        case TrainingFailed(work):
            return _not_trained(state, event, work)
        case CommitteeChecked(committee, terms):
            return _seal(state, event, committee, terms)
        case UpdateSealed(ctx, upload_id):
            return _send(state, event, ctx, upload_id)
        case UploadRefused(upload_id, by_member):
            return _refused(state, event, upload_id, by_member=by_member)
        case AbortArrived(abort):
            return _learn(state, state.proofs.with_abort(abort))
        case NotOpenedArrived(void, reducers):
            return _learn(state, state.proofs.with_void(void, reducers))
        case RoundEnded(session, round_number):
            return _end(state, session, round_number)
        case _:
            assert_never(event)


def _plan(state: UpdateParticipant, terms: CellTerms, plan_hash: bytes) -> Result:
    plan = terms.plan
    seen, last = Seen(plan.round, plan.attempt, plan_hash), state.seen.get(plan.session)
    if last is not None:
        older = (seen.round, seen.attempt) < (last.round, last.attempt)
        another = (seen.round, seen.attempt) == (last.round, last.attempt) and seen.plan_hash != last.plan_hash
        if older or another:
            raise OldRound(seen, last)
    check_base(terms.work, plan.base_sha256, state.sent, state.rework_max)
    effects: list[Effect] = [] if seen == last else [SaveSeen(plan.session, seen)]
    if _same_cell(state.phase, terms):
        return state, effects  # told again of what is under way
    state = replace(state, seen={**state.seen, plan.session: seen})
    try:
        check_may_send(terms.work, _stored_ctx(state, terms), state.sent, state.proofs)
    except MayBeOpened as error:
        return _sit_out(state, terms, error, effects)
    return _begin(state, terms, effects)


def _begin(state: UpdateParticipant, terms: CellTerms, effects: list[Effect]) -> Result:
    """Train, unless there is an update for this work, or a stored upload for this very cell."""
    if state.trained == terms.work or terms.ctx0 in state.stored:
        return replace(state, phase=Checking(terms)), effects
    dropped: list[Effect] = [DropUpdate()] if state.trained is not None or state.stored else []
    training = replace(state, phase=Training(terms), trained=None, stored={})
    return training, [*effects, *dropped, Train(terms)]


def _same_cell(phase: State, terms: CellTerms) -> bool:
    match phase:
        case Training(under) | Checking(under) | Sealing(under) | Sent(under):
            return under.ctx0 == terms.ctx0
        case _:
            return False


def _stored_ctx(state: UpdateParticipant, terms: CellTerms) -> bytes | None:
    """Return the context of the upload that is stored for this very cell, or None."""
    stored = state.stored.get(terms.ctx0)
    return None if stored is None else stored.ctx


def _sit_out(state: UpdateParticipant, terms: CellTerms, error: MayBeOpened, effects: list[Effect]) -> Result:
    return replace(state, phase=SittingOut(terms, error.ctx)), [*effects, SitOut(error)]


def _trained(state: UpdateParticipant, event: Event, work: bytes) -> Result:
    match state.phase:
        case Training(terms) if terms.work == work:
            return replace(state, phase=Checking(terms), trained=work), []
        case _:
            raise UnexpectedEvent(state.phase, event)


def _not_trained(state: UpdateParticipant, event: Event, work: bytes) -> Result:
    match state.phase:
        case Training(terms) if terms.work == work:
            return replace(state, phase=Waiting()), []
        case _:
            raise UnexpectedEvent(state.phase, event)


def _seal(state: UpdateParticipant, event: Event, committee: Committee, terms: CellTerms) -> Result:
    match state.phase:
        case Checking(under):
            if under.ctx0 != terms.ctx0:
                raise WrongContext("committee")
            try:
                check_may_send(under.work, committee.ctx, state.sent, state.proofs)
            except MayBeOpened as error:
                return _sit_out(state, under, error, [])
            stored = state.stored.get(under.ctx0)
            if stored is not None and stored.ctx == committee.ctx:
                return replace(state, phase=Sent(under, committee, 1, stored.upload_id)), [SendUpload(stored.upload_id)]
            if state.trained != under.work:
                return replace(state, phase=Training(under)), [Train(under)]
            return replace(state, phase=Sealing(under, committee, 1)), [SealUpdate(under, committee)]
        case _:
            raise UnexpectedEvent(state.phase, event)


def _send(state: UpdateParticipant, event: Event, ctx: bytes, upload_id: bytes) -> Result:
    match state.phase:
        case Sealing(terms, committee, tries) if committee.ctx == ctx:
            members = tuple(member.client.client_key for member in committee.members)
            plan = terms.plan
            record = SentRecord(terms.work, plan.base_sha256, ctx, plan.reopen, members)
            sent = state.sent if record in state.sent else (*state.sent, record)
            stored = {**state.stored, terms.ctx0: StoredUpload(ctx, upload_id)}
            state = replace(state, sent=sent, stored=stored, phase=Sent(terms, committee, tries, upload_id))
            return state, [SaveSent(record, upload_id), EraseSeeds(), SendUpload(upload_id)]
        case _:
            raise UnexpectedEvent(state.phase, event)


def _refused(state: UpdateParticipant, event: Event, upload_id: bytes, *, by_member: bool) -> Result:
    match state.phase:
        case Sent(terms, committee, tries, sent) if sent == upload_id:
            if by_member and tries < MOST_UPLOADS and state.trained == terms.work:
                return replace(state, phase=Sealing(terms, committee, tries + 1)), [SealUpdate(terms, committee)]
            return replace(state, phase=Waiting()), []
        case _:
            raise UnexpectedEvent(state.phase, event)


def _learn(state: UpdateParticipant, proofs: Proofs) -> Result:
    """Take in what shows that an upload can never be opened; who sat out for it may go on."""
    state = replace(state, proofs=proofs)
    match state.phase:
        case SittingOut(terms):
            try:
                check_may_send(terms.work, _stored_ctx(state, terms), state.sent, proofs)
            except MayBeOpened:
                return state, []
            return _begin(state, terms, [])
        case _:
            return state, []


def _end(state: UpdateParticipant, session: bytes, round_number: int) -> Result:
    """Forget the update of a round that has its model; what was sent is remembered for ever."""
    match state.phase:
        case Training(terms) | Checking(terms) | Sealing(terms) | Sent(terms) | SittingOut(terms):
            if terms.plan.session != session or terms.plan.round > round_number:
                return state, []
        case Waiting():
            pass
    if state.trained is None and not state.stored:
        return replace(state, phase=Waiting()), []
    return replace(state, phase=Waiting(), trained=None, stored={}), [DropUpdate()]
