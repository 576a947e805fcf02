"""The reducer's machine: a session's rounds, one after the other, each in one or more attempts.

Rules it keeps:

- A client belongs to one cell of an attempt; a partial aggregate that lists anybody else is refused.
- Every phase ends by its deadline: in success, or in ``Failed`` with a reason, and then the round is tried again.
- What answers an older generation, or comes from an older life of a combiner, is refused.
- An attempt is written down before anybody hears of it, and a model before its round is committed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import assert_never

from fedn_py.errors import PeerFault
from fedn_py.identity import ClientId, CombinerName, Generation, SessionId
from fedn_py.protocol import masked_rounds, waves
from fedn_py.protocol.drawing import attached, cells_of, plan_of
from fedn_py.protocol.machine import StartTimer, UnexpectedEvent
from fedn_py.protocol.masked.differencing import BaseUsedUp
from fedn_py.protocol.masked.outlook import Failed as RoundFailed
from fedn_py.protocol.masked.outlook import PrivacyHold
from fedn_py.protocol.masked_rounds import ANSWER_MARGIN_S, LOST, MOVING_S, STOPPED
from fedn_py.protocol.masked_rounds_work import (
    AnswerDeadlinePassed,
    AttemptNotPlanned,
    AttemptPlanned,
    Masked,
    MaskedEvent,
    MaskedPartialArrived,
    PlanMasked,
    Planning,
)
from fedn_py.protocol.messages import (
    RoundCommitted,
    RoundPlan,
    ValidationOrder,
)
from fedn_py.protocol.plain_cells import cancels_of, excluded_of
from fedn_py.protocol.reducer_terms import (
    Cells,
    Intent,
    Joined,
    Progress,
    Roster,
    SessionTerms,
    arrivals,
    each,
    limits_of,
    places,
    with_limits,
)
from fedn_py.protocol.reducer_work import (
    CellGaveUp,
    ChangeRequested,
    ClientsChanged,
    CloseFailedAttempt,
    CombinerJoined,
    CombinerLost,
    CommitRound,
    Committing,
    Effect,
    Event,
    ExpectCombiner,
    Failed,
    Gathering,
    GatherTimePassed,
    Idle,
    MoveClients,
    MovingTimePassed,
    OpenAttempt,
    PartialArrived,
    Paused,
    PauseRequested,
    RecordChange,
    RecordIntent,
    RecordLimits,
    RecordNewWork,
    RecordSession,
    RecordValidation,
    Reducer,
    ResumeRequested,
    RetryDue,
    RoundNotSaved,
    RoundSaved,
    SendOrder,
    SessionStarted,
    StopRequested,
    TellCommitted,
    TellCommittedAgain,
    TellWaiting,
    UpdateDeadlinePassed,
    Updating,
    Validating,
    ValidationArrived,
    ValidationDeadlinePassed,
)

Result = tuple[Reducer, list[Effect]]
_OfAttempt = (
    AttemptPlanned
    | AttemptNotPlanned
    | MaskedEvent
    | GatherTimePassed
    | MovingTimePassed
    | UpdateDeadlinePassed
    | AnswerDeadlinePassed
    | RetryDue
    | RoundSaved
    | RoundNotSaved
)

_AtWork = Gathering | Planning | Updating | Masked | Committing | Validating | Failed | Paused

LONGEST_RETRY_S = 60.0

BY_OPERATOR = "by its operator"
"""The reason of a session that a person paused or stopped."""

_GENERATIONS_PER_SESSION = 2**32


class FewerRoundsThanDone(PeerFault):
    """A session's rounds cannot be set below those that are done."""

    def __init__(self, rounds: int, done: int) -> None:
        super().__init__(
            f"rounds is to be {rounds}, but {done} are done",
            remedy="Ask for as many as are done, or more; or stop the session after the round under way.",
        )


def first_generation(session_number: int) -> Generation:
    """Return a generation above all of the sessions before: combiners outlive sessions."""
    return Generation(session_number * _GENERATIONS_PER_SESSION)


def step(state: Reducer, event: Event) -> Result:
    """Advance the reducer by one event.

    Raises:
        UnexpectedEvent: the event does not belong to the work at hand; nothing has changed.
        BaseUsedUp: the operator's policy allows no further work on the base model; nothing has changed.
        FewerRoundsThanDone: the operator wants fewer rounds than there are; nothing has changed.
    """
    match event:
        case SessionStarted():
            return _started(state, event)
        case PauseRequested() | ResumeRequested() | StopRequested():
            return _obey(state, event)
        case ChangeRequested():
            return _change(state, event)
        case CombinerJoined(combiner, instance, max_clients):
            return _joined(state, combiner, Joined(instance, max_clients=max_clients))
        case ClientsChanged(combiner, instance, clients, registered):
            if combiner not in state.roster or state.roster[combiner].instance != instance:
                raise UnexpectedEvent(state.work, event)
            since = arrivals(state.roster, combiner, clients)
            entry = replace(state.roster[combiner], clients=clients, registered=registered, since=since)
            return _released(_with_roster(state, combiner, entry))
        case CombinerLost(combiner, instance):
            return _lost(state, combiner, event)
        case PartialArrived():
            if not isinstance(state.work, Updating):
                raise UnexpectedEvent(state.work, event)
            return _in_waves(state, waves.answered(state.work, event))
        case CellGaveUp():
            return _gave_up(state, event)
        case ValidationArrived():
            return _validated(state, event)
        case AttemptPlanned() | AttemptNotPlanned():
            return _planned(state, event)
        case MaskedPartialArrived():
            if not isinstance(state.work, Masked):
                raise UnexpectedEvent(state.work, event)
            return _advanced(state, masked_rounds.answered(state.work, event))
        case MaskedEvent():
            return _masked_event(state, event)
        case (
            GatherTimePassed()
            | MovingTimePassed()
            | UpdateDeadlinePassed()
            | AnswerDeadlinePassed()
            | ValidationDeadlinePassed()
            | RetryDue()
        ):
            return _time_passed(state, event)
        case RoundSaved():
            return _saved(state, event)
        case RoundNotSaved():
            return _not_saved(state, event)
        case _:
            assert_never(event)


def _names(event: _OfAttempt, at: Progress) -> bool:
    """Tell whether an event names the attempt at hand."""
    return (event.session, event.round_number, event.attempt) == (at.terms.session, at.committed + 1, at.attempt)


def _started(state: Reducer, event: SessionStarted) -> Result:
    if not isinstance(state.work, Idle):
        raise UnexpectedEvent(state.work, event)
    progress = event.progress
    committed, head = progress.committed, progress.head
    if isinstance(event.found, Masked) and event.found.model is not None:  # its key is still to go
        committed, head = committed + 1, event.found.model
    if committed:  # an earlier life of this reducer may not have come to telling
        state = replace(state, told=RoundCommitted(progress.terms.session, committed, head))
    match event.found:
        case Masked() as masked:
            advanced = masked_rounds.resume(masked)
            return _advanced(_expecting(state, advanced[1]), advanced)
        case Updating() as updating if progress.intent == "stop":
            return _stop_updating(state, updating)
        case Updating() as updating:
            resumed = waves.resume(updating)
            return _in_waves(_expecting(state, resumed[1]), resumed)
        case Validating(away=away):
            return _await_validation(state, progress, away)
        case None if event.paused:
            progress, renewed = _renewed(progress)
            return replace(state, work=Paused(progress, event.paused)), renewed
        case None:
            return _next_attempt(state, progress)


def _expecting(state: Reducer, effects: Sequence[Effect]) -> Reducer:
    """Return the state with the combiners that a found attempt waits for, as away: lost unless they come in time."""
    away = {one.combiner: Joined(one.instance) for one in effects if isinstance(one, ExpectCombiner)}
    return replace(state, roster={**away, **state.roster})


# ---- the operator's wishes


def _obey(state: Reducer, event: PauseRequested | ResumeRequested | StopRequested) -> Result:
    work = state.work
    if isinstance(work, Idle) or work.progress.terms.session != event.session:
        raise UnexpectedEvent(work, event)
    match event, work:
        case StopRequested(after_round=True), Planning() | Updating() | Masked() | Committing() | Validating():
            return (state, []) if work.progress.intent == "stop" else _intending(state, work, "end")
        case StopRequested(), Updating():
            return _stop_updating(state, work)
        case StopRequested(), Masked():
            state, effects = _advanced(state, masked_rounds.stop(work))
            return state, [RecordIntent(event.session, "stop"), *effects]
        case StopRequested(), Planning() | Committing() | Validating():
            return _intending(state, work, "stop")
        case StopRequested(), _:
            return _end_session(state, work.progress, "stopped", BY_OPERATOR)
        case PauseRequested(), _ if isinstance(work, Paused) or work.progress.intent in {"stop", "end"}:
            raise UnexpectedEvent(work, event)  # it rests already, or is ending: a stop is not taken back
        case PauseRequested(), Gathering() | Failed():
            return _pause(state, work.progress, BY_OPERATOR)
        case PauseRequested(), _:
            return _intending(state, work, "pause")
        case ResumeRequested(new_work=True), _ if work.progress.terms.masking == "none":
            raise UnexpectedEvent(work, event)  # plain updates can be sent again
        case ResumeRequested(), Paused(progress):
            return _resume(state, progress, new_work=event.new_work)
        case ResumeRequested(new_work=False), _ if work.progress.intent == "pause":
            return _intending(state, work, "run")
        case _:
            raise UnexpectedEvent(work, event)


def _intending(state: Reducer, work: _AtWork, intent: Intent) -> Result:
    """Keep a wish until the running round ends, over a new start of the reducer too."""
    wish = RecordIntent(work.progress.terms.session, intent)
    return replace(state, work=replace(work, progress=replace(work.progress, intent=intent))), [wish]


def _change(state: Reducer, event: ChangeRequested) -> Result:
    """Take other limits over: at once where no attempt is under way, and otherwise when it has ended."""
    work, limits = state.work, event.limits
    if isinstance(work, Idle) or work.progress.terms.session != event.session:
        raise UnexpectedEvent(work, event)
    progress = work.progress
    if limits.rounds < progress.committed:
        raise FewerRoundsThanDone(limits.rounds, progress.committed)
    before = progress.changed or limits_of(progress.terms)
    if limits == before:
        return state, []
    recorded: list[Effect] = [RecordChange(event.session, before, limits)]
    progress = replace(progress, changed=limits)
    if not isinstance(work, Gathering | Failed | Paused):
        return replace(state, work=replace(work, progress=progress)), recorded
    progress, renewed = _renewed(progress)
    if progress.committed >= limits.rounds and not isinstance(work, Paused):
        state, more = _next_attempt(state, progress)
    else:
        state, more = _released(replace(state, work=replace(work, progress=progress)))
    return state, recorded + renewed + more


def _renewed(progress: Progress) -> tuple[Progress, list[Effect]]:
    """Let limits that were changed hold, now that no attempt runs that began with others."""
    if progress.changed is None:
        return progress, []
    terms = with_limits(progress.terms, progress.changed)
    return replace(progress, terms=terms, changed=None), [RecordLimits(terms.session, progress.changed)]


def _stop_updating(state: Reducer, work: Updating) -> Result:
    cancels = cancels_of(work.cells, "the session was stopped")
    closed = CloseFailedAttempt(work.plan, STOPPED, excluded_of(work.cells))
    state, effects = _end_session(state, work.progress, "stopped", BY_OPERATOR)
    return state, [*cancels, closed, *effects]


def _resume(state: Reducer, progress: Progress, *, new_work: bool) -> Result:
    progress = replace(progress, intent="run")
    effects: list[Effect] = []
    if new_work:
        if progress.works >= progress.terms.rework_max:
            raise BaseUsedUp(1 + progress.works, progress.terms.rework_max)
        parameters = masked_rounds.with_next_seed(progress.terms.parameters)
        terms = replace(progress.terms, parameters=parameters)
        progress = replace(progress, terms=terms, history=(), works=progress.works + 1)
        effects.append(RecordNewWork(terms.session, parameters))
    elif progress.history:
        hold = masked_rounds.what_next(progress, state.roster)
        if isinstance(hold, PrivacyHold):
            return _pause(state, progress, masked_rounds.hold_reason(progress, hold))
    effects.append(RecordSession(progress.terms.session, "running", ""))
    state, more = _next_attempt(state, progress)
    return state, effects + more


def _pause(state: Reducer, progress: Progress, reason: str) -> Result:
    paused = replace(progress, intent="run")
    recorded = RecordSession(progress.terms.session, "paused", reason)
    return replace(state, work=Paused(paused, reason)), [recorded]


def _end_session(state: Reducer, progress: Progress, status: str, reason: str) -> Result:
    ended = RecordSession(progress.terms.session, "finished" if status == "finished" else "stopped", reason)
    return replace(state, work=Idle()), [ended]


# ---- who is there


def _with_roster(state: Reducer, combiner: CombinerName, joined: Joined | None) -> Reducer:
    roster = {name: entry for name, entry in state.roster.items() if name != combiner}
    if joined is not None:
        roster[combiner] = joined
    return replace(state, roster=roster)


def _joined(state: Reducer, combiner: CombinerName, entry: Joined) -> Result:
    before = state.roster.get(combiner)
    effects: list[Effect] = []
    if state.told is not None:
        effects.append(TellCommittedAgain(combiner, entry.instance, state.told))
    if before is not None and before.instance == entry.instance:
        # The same life of it, on a new stream: its work goes on.
        state = _with_roster(state, combiner, replace(before, max_clients=entry.max_clients))
        return state, effects + _open_order(state, combiner)
    if before is not None:
        state, lost = _lost(state, combiner, CombinerLost(combiner, before.instance))
        effects += lost
    state, more = _try_to_begin(_with_roster(state, combiner, entry))
    return state, effects + more


def _open_order(state: Reducer, combiner: CombinerName) -> list[Effect]:
    """Return the order that a combiner owes an answer to, once more.

    It may have been lost with the stream that broke; a combiner that has it refuses the second one.
    """
    match state.work:
        case Updating() as work:
            return [*waves.order_again(work, combiner)]
        case Masked() as masked if masked_rounds.is_open(masked, combiner):
            return [masked_rounds.order(masked, combiner)]
        case Validating(waiting=waiting) if combiner in waiting:
            return [SendOrder(combiner, state.roster[combiner].instance, waiting[combiner])]
        case _:
            return []


def _lost(state: Reducer, combiner: CombinerName, event: CombinerLost) -> Result:
    entry = state.roster.get(combiner)
    if entry is None or entry.instance != event.instance:
        raise UnexpectedEvent(state.work, event)
    state = _with_roster(state, combiner, None)
    match state.work:
        case Updating() as work:
            return _in_waves(state, waves.lose(work, combiner))
        case Masked() as masked:
            return _advanced(state, masked_rounds.lose(masked, combiner, LOST))
        case Validating(waiting=waiting) as validating if combiner in waiting:
            return _without(state, validating, combiner)
        case _:
            return _try_to_begin(state)  # it has fewer clients to wait for, and says so


# ---- beginning an attempt


def _next_attempt(state: Reducer, progress: Progress) -> Result:
    """Go on to the next attempt, or end the session, as its intent and its rounds say."""
    progress, renewed = _renewed(progress)
    if progress.intent == "stop":
        state, effects = _end_session(state, progress, "stopped", BY_OPERATOR)
    elif progress.committed >= progress.terms.rounds:
        state, effects = _end_session(state, progress, "finished", "")
    elif progress.intent == "end":
        state, effects = _end_session(state, progress, "stopped", BY_OPERATOR)
    elif progress.intent == "pause":
        state, effects = _pause(state, progress, BY_OPERATOR)
    else:
        state, effects = _try_to_begin(replace(state, work=Gathering(progress, "")))
    return state, renewed + effects


def _try_to_begin(state: Reducer) -> Result:
    """Begin what waits for clients, if there are enough: an attempt, or a validation."""
    work = state.work
    if isinstance(work, Validating) and not work.waiting:
        return _order_validation(state, work)
    if not isinstance(work, Gathering) or _still_moving(work, state.roster):
        return state, []
    terms, there = work.progress.terms, len(attached(state.roster, work.progress))
    wanted = max(terms.clients_wanted or work.progress.drawn, terms.clients_required)
    if there >= wanted:
        return _begin(state, work.progress)
    if there >= terms.clients_required and not work.patient:
        return _begin(state, work.progress)
    if not work.patient and isinstance(hold := masked_rounds.what_next(work.progress, state.roster), PrivacyHold):
        return _pause(state, work.progress, masked_rounds.hold_reason(work.progress, hold))
    if there < terms.clients_required:
        reason = f"need {terms.clients_required} clients, have {there}"
    else:
        reason = f"waiting up to {terms.gather_timeout_s:g} s for {wanted} clients, have {there}"
    if terms.masking != "none":
        reason += masked_rounds.lacking(state.roster, work.progress)
    if reason == work.reason:
        return state, []
    effects: list[Effect] = [TellWaiting(terms.session, work.progress.committed + 1, reason)]
    if there >= terms.clients_required or work.progress.history:
        effects.append(StartTimer(terms.gather_timeout_s, GatherTimePassed(*_attempt(work.progress))))
    return replace(state, work=replace(work, reason=reason)), effects


def _still_moving(work: Gathering, roster: Roster) -> bool:
    """Tell whether a client that was sent away is still where it was, or on its way."""
    where = places(roster)
    return any(where.get(client, combiner) == combiner for client, combiner in work.moving.items())


def _attempt(progress: Progress) -> tuple[SessionId, int, int]:
    return progress.terms.session, progress.committed + 1, progress.attempt


def _begin(state: Reducer, progress: Progress) -> Result:
    terms, plan = progress.terms, plan_of(progress)
    cells, generation = cells_of(state.roster, progress)
    drawn = sum(len(cell.clients) for cell in cells.values())
    progress = replace(progress, generation=generation, drawn=drawn)
    if terms.masking != "none":
        return _begin_masked(state, progress, plan, cells)
    work, effects = waves.begin(progress, plan, cells)
    return replace(state, work=work), effects


def _begin_masked(state: Reducer, progress: Progress, plan: RoundPlan, cells: Cells) -> Result:
    terms = progress.terms
    sent = {} if progress.moved else masked_rounds.moves(cells, state.roster, terms)
    cells = masked_rounds.without_small(cells, terms)
    if sent:
        return _move(state, replace(progress, moved=True), cells, sent)
    if sum(len(cell.clients) for cell in cells.values() if not cell.lost) < terms.clients_required:
        small = [cell.lost for cell in cells.values() if cell.lost]
        reason = small[0] if small else f"TooFewClients: {terms.clients_required} are required in cells"
        return _fail_unplanned(state, progress, plan, cells, reason)
    return replace(state, work=Planning(progress, plan, cells)), [PlanMasked(plan, progress, cells)]


def _move(state: Reducer, progress: Progress, cells: Cells, sent: Mapping[CombinerName, frozenset[ClientId]]) -> Result:
    """Send clients of cells that are too small to others, and wait for them for a while."""
    targets = masked_rounds.targets_of(cells, progress.terms)
    effects: list[Effect] = [
        MoveClients(combiner, clients, targets, cells[combiner].lost) for combiner, clients in sent.items()
    ]
    effects.append(StartTimer(MOVING_S, MovingTimePassed(*_attempt(progress))))
    moving = {client: combiner for combiner, clients in sent.items() for client in clients}
    reason = f"{len(moving)} clients move to larger cells"
    effects.append(TellWaiting(progress.terms.session, progress.committed + 1, reason))
    return replace(state, work=Gathering(progress, reason, moving=moving)), effects


def _fail_unplanned(state: Reducer, progress: Progress, plan: RoundPlan, cells: Cells, reason: str) -> Result:
    opened = OpenAttempt(plan, {}, progress.generation)
    lost = {name: cell if cell.lost else replace(cell, lost=reason) for name, cell in cells.items()}
    state, effects = _fail(state, progress, plan, lost, reason)
    return state, [opened, *effects]


# ---- answers


def _in_waves(state: Reducer, advanced: waves.Advanced) -> Result:
    """Take over what a plain attempt has become; order further cells where it can have some, and end it otherwise."""
    work, effects = advanced
    work, further = waves.order_further(work, state.roster)
    state, effects = replace(state, work=work), effects + further
    if not waves.is_over(work):
        return state, effects
    state, more = _all_answered(state, work)
    return state, effects + more


def _all_answered(state: Reducer, work: Updating) -> Result:
    required = work.progress.terms.clients_required
    included = sum(len(cell.partial.included) for _, cell in each(work.cells) if cell.partial)
    if included < max(required, 1):
        reason = f"TooFewUpdates: {included} of {required} required updates came"
        excluded = excluded_of(work.cells)
        if excluded:
            reason += f"; {len(excluded)} left out, the first for: {excluded[0].reason}"
        return _fail(state, work.progress, work.plan, work.cells, reason)
    committing = Committing(work.progress, work.plan, work.cells)
    return replace(state, work=committing), [CommitRound(work.plan, work.cells)]


def _gave_up(state: Reducer, event: CellGaveUp) -> Result:
    match state.work:
        case Masked(cells=cells) as work if event.combiner in cells:
            cell = cells[event.combiner]
            if (cell.instance, cell.generation) == (event.instance, event.generation):
                lost = event.reason or "CellFailed: the combiner gave no reason"
                return _advanced(state, masked_rounds.lose(work, event.combiner, lost))
        case Updating() as updating:
            return _in_waves(state, waves.gave_up(updating, event))
        case Validating() as validating if _owes(validating, event.combiner, event.generation):
            return _without(state, validating, event.combiner)
    raise UnexpectedEvent(state.work, event)


def _fail(state: Reducer, progress: Progress, plan: RoundPlan, cells: Cells, reason: str) -> Result:
    closed: list[Effect] = [CloseFailedAttempt(plan, reason, excluded_of(cells))]
    state, effects = _again(state, progress, plan, reason)
    return state, closed + effects


def _again(state: Reducer, progress: Progress, plan: RoundPlan, reason: str) -> Result:
    """Go on after a failed attempt: with another one, after a while, or not."""
    progress, renewed = _renewed(replace(progress, attempt=plan.attempt + 1, moved=False))
    terms = progress.terms
    if progress.intent != "run":
        state, effects = _next_attempt(state, progress)
    elif terms.max_attempts and plan.attempt % terms.max_attempts == 0:
        why = f"round {plan.round_number} failed {terms.max_attempts} times, at last with: {reason}"
        state, effects = _pause(state, progress, why)
    else:
        retry = RetryDue(terms.session, plan.round_number, progress.attempt)
        timer = StartTimer(retry_delay_s(terms, plan.attempt), retry)
        state, effects = replace(state, work=Failed(progress, reason)), [timer]
    return state, renewed + effects


def retry_delay_s(terms: SessionTerms, failed: int) -> float:
    """Return how long the next attempt waits after the attempt ``failed``."""
    return min(terms.retry_delay_s * 2.0 ** min(failed - 1, 16), LONGEST_RETRY_S)


# ---- masked attempts


def _planned(state: Reducer, event: AttemptPlanned | AttemptNotPlanned) -> Result:
    work = state.work
    if not isinstance(work, Planning) or not _names(event, work.progress):
        raise UnexpectedEvent(work, event)
    if isinstance(event, AttemptNotPlanned):
        return _fail_unplanned(state, work.progress, work.plan, work.cells, event.reason)
    return _advanced(state, masked_rounds.begin(work, event, state.roster))


def _masked_event(state: Reducer, event: MaskedEvent) -> Result:
    work = state.work
    if isinstance(work, Masked) and _names(event, work.progress):
        return _advanced(state, masked_rounds.hear(work, event.event, event.combiner, event.client))
    noted = None if isinstance(work, Idle) else masked_rounds.late_word(work.progress, event)
    if noted is None or isinstance(work, Idle):
        raise UnexpectedEvent(work, event)
    progress, effects = noted
    state, more = _released(replace(state, work=replace(work, progress=progress)))
    return state, effects + more


def _released(state: Reducer) -> Result:
    """Go on where clients have come, or may take part again; a privacy hold is lifted when there are enough."""
    work = state.work
    if isinstance(work, Paused) and work.reason.startswith(masked_rounds.PRIVACY_HOLD):
        if len(attached(state.roster, work.progress)) < work.progress.terms.clients_required:
            return state, []
        outcome = masked_rounds.what_next(work.progress, state.roster)
        if isinstance(outcome, RoundFailed):  # else each Abort of its last attempt would begin another one
            reason = masked_rounds.failed_reason(work.progress, outcome, "a privacy hold that was lifted too late")
            return _pause(state, work.progress, reason)
        return _resume(state, work.progress, new_work=False)
    return _in_waves(state, (work, [])) if isinstance(work, Updating) else _try_to_begin(state)


def _advanced(state: Reducer, advanced: masked_rounds.Advanced) -> Result:
    """Take over what a masked attempt has become, and go on where it has ended."""
    work, effects = advanced
    if not masked_rounds.is_over(work):
        return replace(state, work=work), effects
    if work.model is not None:
        progress = replace(
            work.progress,
            committed=work.plan.round_number,
            head=work.model,
            attempt=1,
            moved=False,
            history=(),
            works=0,
            names={},
        )
        state, more = _begin_validation(state, progress, work.cells)
        return state, effects + more
    closed = CloseFailedAttempt(work.plan, work.reason, masked_rounds.excluded(work))
    progress = replace(work.progress, history=(*work.progress.history, work.attempt))
    state, more = _after_masked(state, progress, work)
    return state, [*effects, closed, *more]


def _after_masked(state: Reducer, progress: Progress, work: Masked) -> Result:
    """Go on after a masked attempt that failed, as far as nobody's update can come to light by it."""
    progress, renewed = _renewed(progress)
    rested = replace(progress, attempt=work.plan.attempt + 1, moved=False)
    match masked_rounds.what_next(progress, state.roster):
        case PrivacyHold() as hold if progress.intent == "run":
            state, effects = _pause(state, rested, masked_rounds.hold_reason(progress, hold))
        case RoundFailed() as failed if progress.intent == "run":
            state, effects = _pause(state, rested, masked_rounds.failed_reason(progress, failed, work.reason))
        case _:
            state, effects = _again(state, progress, work.plan, work.reason)
    return state, renewed + effects


# ---- time


def _time_passed(
    state: Reducer,
    event: GatherTimePassed
    | MovingTimePassed
    | UpdateDeadlinePassed
    | AnswerDeadlinePassed
    | ValidationDeadlinePassed
    | RetryDue,
) -> Result:
    work = state.work
    match event, work:
        case GatherTimePassed(), Gathering(progress) if _names(event, progress):
            return _try_to_begin(replace(state, work=replace(work, patient=False)))
        case GatherTimePassed(session, number), Validating(progress, waiting) if not waiting:
            if (session, number) == (progress.terms.session, progress.committed):
                return _try_to_begin(replace(state, work=replace(work, away=frozenset())))
        case MovingTimePassed(), Gathering(progress) if _names(event, progress):
            return _try_to_begin(replace(state, work=replace(work, moving={})))
        case UpdateDeadlinePassed(), Masked(progress) if _names(event, progress):
            return _advanced(state, masked_rounds.late(work))
        case AnswerDeadlinePassed(), Masked(progress) if _names(event, progress):
            return _advanced(state, masked_rounds.answers_over(work))
        case MovingTimePassed(), Updating(progress) if _names(event, progress):
            return _in_waves(state, waves.moved(work))
        case UpdateDeadlinePassed(), Updating(progress) if _names(event, progress):
            work, cancels = waves.late(work)
            state, effects = _all_answered(state, work)
            return state, cancels + effects
        case ValidationDeadlinePassed(session, number), Validating(progress):
            if (session, number) == (progress.terms.session, progress.committed):
                return _end_validation(state, work)
        case RetryDue(), Failed(progress) if _names(event, progress):
            return _next_attempt(state, progress)
    return state, []  # a timer of something that has ended


# ---- after the commit


def _saved(state: Reducer, event: RoundSaved) -> Result:
    work, committed = state.work, RoundCommitted(event.session, event.round_number, event.model)
    told: list[Effect] = [TellCommitted(committed)]
    if isinstance(work, Masked) and _names(event, work.progress):
        state, effects = _advanced(replace(state, told=committed), masked_rounds.saved(work, event))
        return state, told + effects
    if not isinstance(work, Committing) or not _names(event, work.progress):
        raise UnexpectedEvent(work, event)
    progress = replace(work.progress, committed=event.round_number, head=event.model, attempt=1)
    state, effects = _begin_validation(replace(state, told=committed), progress, work.cells)
    return state, told + effects


def _not_saved(state: Reducer, event: RoundNotSaved) -> Result:
    work = state.work
    if isinstance(work, Masked) and _names(event, work.progress):
        return _advanced(state, masked_rounds.not_saved(work, event))
    if not isinstance(work, Committing) or not _names(event, work.progress):
        raise UnexpectedEvent(work, event)
    return _fail(state, work.progress, work.plan, work.cells, event.reason)


def _begin_validation(state: Reducer, progress: Progress, cells: Cells) -> Result:
    """Have a new model validated; where nobody is there, as after a new start, its round's clients are waited for."""
    if not progress.terms.validate:
        return _next_attempt(state, progress)
    if not places(state.roster):
        return _await_validation(state, progress, frozenset(one for _, cell in each(cells) for one in cell.clients))
    state, effects = _order_validation(state, Validating(progress, {}))
    return state, [*effects, _validation_deadline(progress)]


def _await_validation(state: Reducer, progress: Progress, away: frozenset[ClientId]) -> Result:
    """Have a model validated when those who were asked for its updates are back, or after a while by whoever is."""
    session, number = progress.terms.session, progress.committed
    waits: list[Effect] = [
        TellWaiting(session, number, f"its model is validated when its {len(away)} clients are back"),
        StartTimer(MOVING_S, GatherTimePassed(session, number, progress.attempt)),
        _validation_deadline(progress),
    ]
    state, effects = _order_validation(state, Validating(progress, {}, away=away))
    return state, [*waits, *effects]


def _validation_deadline(progress: Progress) -> Effect:
    deadline = ValidationDeadlinePassed(progress.terms.session, progress.committed)
    return StartTimer(progress.terms.validation_timeout_s + ANSWER_MARGIN_S, deadline)


def _order_validation(state: Reducer, work: Validating) -> Result:
    """Have everybody validate, once those who are waited for are there."""
    if not work.away <= places(state.roster).keys():
        return replace(state, work=work), []
    waiting: dict[CombinerName, ValidationOrder] = {}
    effects: list[Effect] = []
    generation = work.progress.generation
    for combiner, entry in sorted(state.roster.items()):
        if not entry.clients:
            continue
        generation = Generation(generation + 1)
        waiting[combiner] = _validation_order(work.progress, generation, entry.clients)
        effects.append(SendOrder(combiner, entry.instance, waiting[combiner]))
    progress = replace(work.progress, generation=generation)
    return replace(state, work=Validating(progress, waiting)), effects


def _validation_order(progress: Progress, generation: Generation, clients: frozenset[ClientId]) -> ValidationOrder:
    terms = progress.terms
    return ValidationOrder(
        generation=generation,
        session=terms.session,
        round_number=progress.committed,
        model=progress.head,
        package=terms.package,
        parameters=terms.parameters,
        timeout_s=terms.validation_timeout_s,
        clients=tuple(sorted(clients)),
    )


def _owes(work: Validating, combiner: CombinerName, generation: Generation) -> bool:
    """Tell whether a combiner owes the report of this generation."""
    return combiner in work.waiting and work.waiting[combiner].generation == generation


def _validated(state: Reducer, event: ValidationArrived) -> Result:
    work = state.work
    if not isinstance(work, Validating) or not _owes(work, event.combiner, event.report.generation):
        raise UnexpectedEvent(work, event)
    return _without(state, replace(work, reports=(*work.reports, event.report)), event.combiner)


def _without(state: Reducer, work: Validating, combiner: CombinerName) -> Result:
    """Wait no longer for one combiner's report."""
    waiting = {name: order for name, order in work.waiting.items() if name != combiner}
    work = replace(work, waiting=waiting)
    return _end_validation(state, work) if not waiting else (replace(state, work=work), [])


def _end_validation(state: Reducer, work: Validating) -> Result:
    progress = work.progress
    record = RecordValidation(progress.terms.session, progress.committed, work.reports, tuple(sorted(work.waiting)))
    state, effects = _next_attempt(state, progress)
    return state, [record, *effects]
