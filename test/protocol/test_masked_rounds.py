"""A masked attempt in the reducer's machine, rule by rule."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import masked_attempts as masked
import pytest
from builders import MODEL_1, NORTH, NORTH_1, NORTH_2, SESSION, SOUTH, SOUTH_1
from masked_attempts import (
    IN_NORTH,
    IN_SOUTH,
    NORTH_ANSWERS,
    NORTH_CLOSED,
    NORTH_FORMED,
    NORTHERN,
    NORTHS,
    SOUTH_ANSWERS,
    SOUTH_CLOSED,
    SOUTH_FORMED,
    SOUTHERN,
    SOUTHS,
    ids,
    run,
    work_of,
)
from masked_world import CELL, CLIENTS, COMBINER, members_of

from fedn_py.identity import ClientId, InstanceId
from fedn_py.protocol import masked_rounds
from fedn_py.protocol.machine import StartTimer, UnexpectedEvent
from fedn_py.protocol.masked.differencing import BaseUsedUp
from fedn_py.protocol.masked.opening_work import (
    AbortArrived,
    CellLost,
    CellNotOpened,
    CellOpened,
    CommitMean,
    CommitteeFormed,
    ConfirmCommittee,
    KeyUnset,
    OpenCells,
    ReportFailed,
    SaveDocument,
    SendOpenSum2,
    SignNotOpened,
    UnsetKey,
)
from fedn_py.protocol.masked.round_messages import Abort
from fedn_py.protocol.masked.signing import sign
from fedn_py.protocol.masked_rounds import (
    ANSWER_MARGIN_S,
    LATE,
    LOST,
    MOVING_S,
    PRIVACY_HOLD,
    SUM_S,
    answers_within_s,
    order,
    with_next_seed,
)
from fedn_py.protocol.masked_rounds_work import (
    AnswerDeadlinePassed,
    AttemptNotPlanned,
    Masked,
    MaskedEffect,
    MaskedEvent,
    PlanMasked,
    Planning,
)
from fedn_py.protocol.messages import CellOrder, Exclusion, RoundCommitted
from fedn_py.protocol.reducer import step
from fedn_py.protocol.reducer_terms import Joined, limits_of
from fedn_py.protocol.reducer_work import (
    CellGaveUp,
    ChangeRequested,
    ClientsChanged,
    CloseFailedAttempt,
    CombinerJoined,
    CombinerLost,
    Effect,
    ExpectCombiner,
    Failed,
    Gathering,
    GatherTimePassed,
    Idle,
    MoveClients,
    MovingTimePassed,
    Paused,
    PauseRequested,
    RecordChange,
    RecordIntent,
    RecordLimits,
    RecordNewWork,
    RecordSession,
    Reducer,
    ResumeRequested,
    RetryDue,
    RoundNotSaved,
    RoundSaved,
    SendCancel,
    SendOrder,
    SessionStarted,
    StopRequested,
    TellCommitted,
    TellCommittedAgain,
    TellRefused,
    TellWaiting,
    UpdateDeadlinePassed,
    Validating,
)

DEADLINE, ANSWERS_DUE = UpdateDeadlinePassed(SESSION, 1, 1), AnswerDeadlinePassed(SESSION, 1, 1)
SAVED = RoundSaved(SESSION, 1, 1, MODEL_1)
OPENED = (CellOpened(NORTHERN.ctx), CellOpened(SOUTHERN.ctx))
FAILED_CELLS = (CellNotOpened(NORTHERN.ctx, "garbage"), CellNotOpened(SOUTHERN.ctx, "garbage"))


def inner(effects: Sequence[Effect]) -> list[Any]:
    """Return what the attempt's machine asked for."""
    return [effect.effect for effect in effects if isinstance(effect, MaskedEffect)]


def kinds(effects: Sequence[Effect]) -> list[type]:
    return [type(effect.effect) if isinstance(effect, MaskedEffect) else type(effect) for effect in effects]


def timers(effects: Sequence[Effect]) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, StartTimer)]


def an_abort(of: Any, client: Any) -> AbortArrived:
    return AbortArrived(sign(Abort(of.ctx, "asked to"), client.key))


def all_aborts() -> list[AbortArrived]:
    return [an_abort(of, one) for of in (NORTHERN, SOUTHERN) for one in members_of(of)]


def idle(**clients: Any) -> Reducer:
    return Reducer({**masked.roster(), **clients}, Idle())


# ---- an attempt begins


def test_an_attempt_is_planned_and_written_down_before_anybody_hears_of_it() -> None:
    start = masked.progress(clients_required=6)
    state, effects = step(idle(), SessionStarted(replace(start, generation=NORTHS - 1)))
    assert state.work == Planning(masked.progress(), masked.plan(), masked.cells())
    assert effects == [PlanMasked(masked.plan(), masked.progress(), masked.cells())]


def test_a_planned_attempt_is_ordered_with_a_deadline_for_keys_and_updates() -> None:
    state, effects = step(masked.planning(), masked.PLANNED)
    assert effects == [
        SendOrder(NORTH, NORTH_1, CellOrder(masked.plan(), NORTHS, tuple(sorted(ids(IN_NORTH))), 4)),
        SendOrder(SOUTH, SOUTH_1, CellOrder(masked.plan(), SOUTHS, tuple(sorted(ids(IN_SOUTH))), 4)),
        StartTimer(SUM_S + 60.0 + ANSWER_MARGIN_S, DEADLINE),
    ]
    assert work_of(state).attempt == masked.attempt()
    assert work_of(state).phase == "sum"


def test_nobody_is_drawn_who_is_not_registered_or_whose_combiner_is_not() -> None:
    some = {NORTH: Joined(NORTH_1, ids(IN_NORTH), ids(IN_NORTH[:3]), 9), SOUTH: Joined(SOUTH_1, ids(IN_SOUTH))}
    state, _ = step(Reducer(some, Idle()), SessionStarted(masked.progress(clients_required=4)))
    assert isinstance(state.work, Gathering)
    assert "need 4 clients, have 3; 5 more cannot take part in masked rounds" in state.work.reason
    state, _ = step(Reducer(some, Idle()), SessionStarted(masked.progress(clients_required=3, clients_wanted=3)))
    assert isinstance(state.work, Planning)
    assert state.work.cells[NORTH].clients == ids(IN_NORTH[:3])


def test_a_cell_takes_no_more_clients_than_the_plan_holds() -> None:
    options = replace(masked.terms().masked, n_max=3)
    state, _ = step(idle(), SessionStarted(masked.progress(masked=options)))
    assert isinstance(state.work, Planning)
    assert [len(cell.clients) for cell in state.work.cells.values()] == [3, 3]


def test_a_combiner_that_no_order_can_be_made_for_is_left_out() -> None:
    planned = replace(masked.PLANNED, left_out={SOUTH: "NotCertified: it is not"}, masked=only_north())
    state, effects = step(masked.planning(clients_required=4), planned)
    assert [effect.combiner for effect in effects if isinstance(effect, SendOrder)] == [NORTH]
    assert work_of(state).cells[SOUTH].lost == "NotCertified: it is not"


def only_north() -> Any:
    whole = masked.attempt()
    return replace(whole, cells=whole.cells[:1], clients_required=4)


def test_a_plan_that_cannot_be_made_fails_the_attempt() -> None:
    state, effects = step(masked.planning(), AttemptNotPlanned(SESSION, 1, 1, "CannotHold: too many"))
    assert isinstance(state.work, Failed)
    closed = next(effect for effect in effects if isinstance(effect, CloseFailedAttempt))
    assert closed.reason == "CannotHold: too many"
    assert {exclusion.client for exclusion in closed.excluded} == ids(CLIENTS)


def test_a_combiner_that_was_lost_while_the_plan_was_made_is_not_ordered() -> None:
    state, _ = step(masked.planning(), CombinerLost(SOUTH, SOUTH_1))
    state, effects = step(state, masked.PLANNED)
    assert [effect.combiner for effect in effects if isinstance(effect, SendOrder)] == [NORTH]
    assert work_of(state).attempt.cells[1].out.startswith("CombinerLost")


def test_a_stop_while_the_plan_is_made_unsets_its_key_first() -> None:
    state, effects = run(masked.planning(), StopRequested(SESSION), masked.PLANNED)
    assert inner(effects)[1] == UnsetKey()
    assert not [effect for effect in effects if isinstance(effect, SendOrder)]
    state, effects = run(state, KeyUnset())
    assert state.work == Idle()
    assert effects[-1] == RecordSession(SESSION, "stopped", "by its operator")


# ---- cells that are too small


def small_south(room: int = 100) -> Reducer:
    """Two clients in the south; the north has room for some more."""
    return Reducer(
        {
            NORTH: Joined(NORTH_1, ids(IN_NORTH), ids(IN_NORTH), room),
            SOUTH: Joined(SOUTH_1, ids(IN_SOUTH[:2]), ids(IN_SOUTH[:2]), 100),
        },
        Idle(),
    )


def test_clients_of_a_cell_that_is_too_small_are_sent_to_another_combiner_once() -> None:
    state, effects = step(small_south(), SessionStarted(masked.progress(clients_required=4, clients_wanted=6)))
    reason = "CellTooSmall: a cell of 2 clients hides nobody, 3 are needed"
    assert effects == [
        MoveClients(SOUTH, ids(IN_SOUTH[:2]), frozenset({NORTH}), reason),
        StartTimer(MOVING_S, MovingTimePassed(SESSION, 1, 1)),
        TellWaiting(SESSION, 1, "2 clients move to larger cells"),
    ]
    # Nothing begins while they are away, and it begins when they are there.
    state, effects = step(state, ClientsChanged(SOUTH, SOUTH_1, frozenset()))
    assert effects == []
    everyone = ids((*IN_NORTH, *IN_SOUTH[:2]))
    state, _ = step(state, ClientsChanged(NORTH, NORTH_1, everyone, everyone))
    assert isinstance(state.work, Planning)
    assert state.work.cells[NORTH].clients == everyone


def test_who_does_not_come_in_time_sits_out_and_is_named() -> None:
    state, _ = step(small_south(), SessionStarted(masked.progress(clients_required=4, clients_wanted=6)))
    state, effects = step(state, MovingTimePassed(SESSION, 1, 1))
    assert isinstance(state.work, Planning)
    assert state.work.cells[SOUTH].lost.startswith("CellTooSmall")
    state, _ = step(state, replace(masked.PLANNED, masked=only_north()))
    state, effects = run(state, CellLost(CELL, NORTHS, "gone"), KeyUnset())
    closed = next(effect for effect in effects if isinstance(effect, CloseFailedAttempt))
    assert {e.client: e.reason[:12] for e in closed.excluded if e.client in ids(IN_SOUTH)} == dict.fromkeys(
        ids(IN_SOUTH[:2]), "CellTooSmall"
    )


def test_without_room_elsewhere_they_sit_out() -> None:
    state, _ = step(small_south(room=5), SessionStarted(masked.progress(clients_required=4, clients_wanted=6)))
    assert isinstance(state.work, Planning)
    assert state.work.cells[SOUTH].lost


def test_two_small_cells_become_one() -> None:
    two = {
        NORTH: Joined(NORTH_1, ids(IN_NORTH[:2]), ids(IN_NORTH[:2]), 9),
        SOUTH: Joined(SOUTH_1, ids(IN_SOUTH[:2]), ids(IN_SOUTH[:2]), 9),
    }
    _, effects = step(Reducer(two, Idle()), SessionStarted(masked.progress(clients_required=4, clients_wanted=4)))
    moved = next(effect for effect in effects if isinstance(effect, MoveClients))
    assert (moved.combiner, moved.targets) == (NORTH, frozenset({SOUTH}))


def test_an_attempt_without_any_cell_fails_by_that_name() -> None:
    two = {NORTH: Joined(NORTH_1, ids(IN_NORTH[:2]), ids(IN_NORTH[:2]), 9)}
    state, effects = step(Reducer(two, Idle()), SessionStarted(masked.progress(clients_required=2, clients_wanted=2)))
    assert isinstance(state.work, Failed)
    assert state.work.reason.startswith("CellTooSmall")
    assert not [effect for effect in effects if isinstance(effect, PlanMasked)]


# ---- an attempt goes its way


def test_a_round_goes_from_keys_to_its_commit() -> None:
    state, effects = run(masked.running(), NORTH_FORMED)
    assert kinds(effects) == [SaveDocument, ConfirmCommittee]
    state, _ = run(state, SOUTH_FORMED)
    assert work_of(state).phase == "updating"
    state, effects = run(state, NORTH_CLOSED)
    assert kinds(effects) == [SaveDocument, SendOpenSum2]
    state, effects = run(state, SOUTH_CLOSED)
    n_words = masked.NORTHERN_TERMS.encoding.n_words
    assert timers(effects) == [StartTimer(answers_within_s(4, n_words), ANSWERS_DUE)]
    assert work_of(state).phase == "sum2"
    state, effects = run(state, *NORTH_ANSWERS, *SOUTH_ANSWERS)
    assert kinds(effects) == [SaveDocument, OpenCells]
    assert work_of(state).phase == "unmasking"
    state, effects = run(state, *OPENED)
    assert kinds(effects) == [SaveDocument, CommitMean]
    state, effects = run(state, SAVED)
    assert kinds(effects) == [TellCommitted, SaveDocument, UnsetKey]
    assert effects[0] == TellCommitted(RoundCommitted(SESSION, 1, MODEL_1))
    state, _ = run(state, KeyUnset())
    assert isinstance(state.work, Planning)  # the next round's
    progress = state.work.progress
    assert (progress.committed, progress.head, progress.history, progress.names) == (1, MODEL_1, (), {})


def test_the_time_for_answers_grows_with_the_cell_and_the_model() -> None:
    assert answers_within_s(0, 0) == 60
    assert answers_within_s(1_000, 25_000_000) == pytest.approx(60 + 50 + 100)


def test_a_pause_and_a_stop_wait_for_a_cell_that_is_being_opened() -> None:
    state, effects = run(masked.opening(), StopRequested(SESSION))
    assert effects == [RecordIntent(SESSION, "stop")]
    state, _ = run(state, *OPENED, SAVED)
    state, effects = run(state, KeyUnset())
    assert state.work == Idle()
    state, _ = run(masked.opening(), PauseRequested(SESSION), *OPENED, SAVED, KeyUnset())
    assert isinstance(state.work, Paused)


def test_a_stop_after_the_round_gives_nothing_up() -> None:
    after_round = StopRequested(SESSION, after_round=True)
    state, effects = run(masked.planning(), after_round, masked.PLANNED)
    assert len([effect for effect in effects if isinstance(effect, SendOrder)]) == 2
    state, effects = run(masked.opening(), after_round)
    assert effects == [RecordIntent(SESSION, "end")]
    state, effects = run(state, *OPENED, SAVED, KeyUnset())
    assert (state.work, effects[-1]) == (Idle(), RecordSession(SESSION, "stopped", "by its operator"))
    again, effects = step(idle(), found(run(masked.closed(), after_round)[0]))
    assert work_of(again).attempt.stage == "running"


def test_fewer_required_clients_lift_a_privacy_hold() -> None:
    state, _ = failed(reopen="strict")
    state, _ = run(state, *(masked.heard(an_abort(NORTHERN, one)) for one in members_of(NORTHERN)))
    assert isinstance(state.work, Paused)  # four are free, and six are required
    fewer = replace(limits_of(state.work.progress.terms), clients_required=4)
    state, effects = step(state, ChangeRequested(SESSION, fewer))
    assert kinds(effects)[:3] == [RecordChange, RecordLimits, RecordSession]
    assert isinstance(state.work, Gathering)
    state, _ = run(state, GatherTimePassed(SESSION, 1, 2))
    assert isinstance(state.work, Planning)
    assert {client for cell in state.work.cells.values() for client in cell.clients} == ids(IN_NORTH)


def test_a_stop_before_that_unsets_the_key_and_then_says_that_nothing_was_opened() -> None:
    state, effects = run(masked.closed(), StopRequested(SESSION))
    assert kinds(effects) == [RecordIntent, SaveDocument, UnsetKey, ReportFailed]
    assert not [one for one in inner(effects) if isinstance(one, SignNotOpened)]
    state, effects = run(state, KeyUnset())
    assert kinds(effects) == [SaveDocument, SignNotOpened, SignNotOpened, CloseFailedAttempt, RecordSession]
    assert state.work == Idle()


def test_what_is_refused_is_told_by_name_and_changes_nothing() -> None:
    state = masked.formed()
    forged = replace(NORTH_CLOSED, partial=masked.closing(NORTHERN, masked.NORTH_UPLOADS, masked.world.REDUCER))
    after, effects = step(state, forged)
    assert after == state
    assert [(one.combiner, one.reason.split(":")[0]) for one in effects if isinstance(one, TellRefused)] == [
        (NORTH, "WrongSigner")
    ]
    word = MaskedEvent(SESSION, 1, 1, NORTH_ANSWERS[0], NORTH, ClientId("e" * 64))
    after, effects = step(state, word)
    assert after == state
    (refused,) = effects
    assert isinstance(refused, TellRefused)
    assert refused.client == "e" * 64


def test_an_answer_to_another_order_is_refused() -> None:
    state = masked.formed()
    for wrong in (
        replace(NORTH_CLOSED, instance=NORTH_2),
        replace(NORTH_CLOSED, combiner=SOUTH),
        replace(NORTH_CLOSED, partial=replace(NORTH_CLOSED.partial, generation=SOUTHS)),
    ):
        with pytest.raises(UnexpectedEvent):
            step(state, wrong)
    with pytest.raises(UnexpectedEvent):
        step(state, MaskedEvent(SESSION, 1, 2, NORTH_FORMED))


def test_a_cell_is_closed_once_with_one_set() -> None:
    state = masked.closed()
    other = replace(NORTH_CLOSED, partial=masked.closing(NORTHERN, masked.NORTH_UPLOADS[:3], COMBINER))
    with pytest.raises(UnexpectedEvent):
        step(state, other)
    after, effects = step(state, NORTH_CLOSED)
    assert after == state
    assert kinds(effects) == [SendOpenSum2]


def test_a_client_in_two_cells_is_in_the_sum_of_none_but_the_first() -> None:
    planned = masked.attempt()
    north, south = planned.cells
    planned = replace(planned, cells=(north, replace(south, assigned=south.assigned | {IN_NORTH[0].id})))
    state, _ = run(masked.planning(), replace(masked.PLANNED, masked=planned), NORTH_FORMED, SOUTH_FORMED, NORTH_CLOSED)
    twice = [*masked.SOUTH_UPLOADS, masked.an_upload(masked.SOUTHERN_TERMS, SOUTHERN, IN_NORTH[0])]
    partial = masked.closing(SOUTHERN, twice, masked.OTHER_COMBINER)
    state, _ = run(state, replace(SOUTH_CLOSED, partial=partial))
    assert work_of(state).attempt.cells[1].out.startswith("ClientInTwoCells")


# ---- combiners that are lost, and deadlines


@pytest.mark.parametrize(
    "loss",
    [
        CombinerLost(SOUTH, SOUTH_1),
        CellGaveUp(SOUTH, SOUTH_1, SOUTHS, "NoSumParticipant: slot 1 lost its members"),
        CombinerJoined(SOUTH, NORTH_2),
        replace(SOUTH_CLOSED, partial=replace(SOUTH_CLOSED.partial, closed=None, included=2)),
    ],
)
def test_a_cell_that_is_lost_before_it_is_closed_is_left_out(loss: Any) -> None:
    state, _ = run(masked.formed(), loss)
    assert work_of(state).attempt.cells[1].out
    assert not work_of(state).attempt.cells[0].out


@pytest.mark.parametrize("loss", [CombinerLost(SOUTH, SOUTH_1), CellGaveUp(SOUTH, SOUTH_1, SOUTHS, "gone")])
def test_a_combiner_that_is_lost_after_that_costs_nothing(loss: Any) -> None:
    state, effects = run(masked.closed(), loss)
    assert work_of(state).attempt == work_of(masked.closed()).attempt
    assert inner(effects) == []
    state, effects = run(state, *NORTH_ANSWERS, *SOUTH_ANSWERS)
    assert kinds(effects)[-1] == OpenCells


def test_a_combiner_that_comes_back_gets_an_order_that_it_owes_once_more() -> None:
    _, effects = run(masked.formed(), CombinerJoined(NORTH, NORTH_1))
    assert [type(effect) for effect in effects] == [SendOrder]
    _, effects = run(masked.closed(), CombinerJoined(NORTH, NORTH_1))
    assert effects == []


def test_what_is_not_closed_by_the_deadline_is_late() -> None:
    state, effects = run(masked.formed(), NORTH_CLOSED, DEADLINE)
    assert [effect.combiner for effect in effects if isinstance(effect, SendCancel)] == [SOUTH]
    assert work_of(state).attempt.cells[1].out == LATE
    assert timers(effects)  # the last one is closed, so answers are due


def test_answers_that_do_not_come_in_time_fail_the_attempt() -> None:
    state, effects = run(masked.closed(), *NORTH_ANSWERS, ANSWERS_DUE)
    assert kinds(effects) == [SaveDocument, UnsetKey, ReportFailed]
    state, effects = run(state, KeyUnset())
    assert isinstance(state.work, Failed)
    assert run(masked.opening(), ANSWERS_DUE)[1] == []


def test_who_was_left_out_of_a_failed_attempt_is_said_with_the_reason() -> None:
    state, _ = run(masked.formed(), NORTH_CLOSED, CellGaveUp(SOUTH, SOUTH_1, SOUTHS, "NoSumParticipant: slot 1"))
    _, effects = run(state, ANSWERS_DUE, KeyUnset())
    closed = next(effect for effect in effects if isinstance(effect, CloseFailedAttempt))
    assert Exclusion(ClientId("0" * 64), "Late: it was") in closed.excluded
    assert {e.reason for e in closed.excluded if e.client in ids(IN_SOUTH)} == {"NoSumParticipant: slot 1"}


def test_open_cells_are_cancelled_when_the_attempt_is_given_up() -> None:
    _, effects = run(masked.formed(), NORTH_CLOSED, StopRequested(SESSION))
    assert [effect.combiner for effect in effects if isinstance(effect, SendCancel)] == [SOUTH]


# ---- what becomes of a round


def failed(*events: Any, **changed: Any) -> tuple[Reducer, list[Effect]]:
    return run(masked.closed(**changed), *events, ANSWERS_DUE, KeyUnset())


def test_a_failed_attempt_is_tried_again_when_the_reducer_has_released_its_clients() -> None:
    state, effects = failed()
    assert isinstance(state.work, Failed)
    assert timers(effects) == [StartTimer(2.0, RetryDue(SESSION, 1, 2))]
    state, effects = run(state, RetryDue(SESSION, 1, 2))
    assert isinstance(state.work, Planning)
    (planned,) = effects
    assert isinstance(planned, PlanMasked)
    assert [one.attempt for one in planned.progress.history] == [1]  # whose voids go into the plan


def test_nothing_is_said_to_be_unopened_while_the_key_is_there() -> None:
    state, effects = run(masked.closed(), ANSWERS_DUE)
    assert not [one for one in inner(effects) if isinstance(one, SignNotOpened)]
    assert isinstance(state.work, Masked)  # no retry either
    for event in (RetryDue(SESSION, 1, 2), DEADLINE, ANSWERS_DUE):
        assert step(state, event) == (state, [])


def test_in_strict_rounds_the_session_holds_and_names_who_is_missing() -> None:
    state, effects = failed(reopen="strict")
    assert isinstance(state.work, Paused)
    assert state.work.reason.startswith(f"{PRIVACY_HOLD}: the updates of 8 clients may yet be opened")
    for member in (*members_of(NORTHERN), *members_of(SOUTHERN)):
        assert member.name in state.work.reason
    assert "another seed" in state.work.reason
    assert effects[-1] == RecordSession(SESSION, "paused", state.work.reason)


def test_every_member_s_abort_lifts_the_hold() -> None:
    state, _ = failed(reopen="strict")
    *most, last = all_aborts()
    state, effects = run(state, *(masked.heard(one) for one in most))
    assert isinstance(state.work, Paused)
    assert kinds(effects) == [SaveDocument]
    state, effects = run(state, masked.heard(last))
    assert isinstance(state.work, Planning)
    assert RecordSession(SESSION, "running", "") in effects


def test_enough_other_clients_lift_the_hold() -> None:
    state, _ = failed(reopen="strict", clients_required=4)
    assert isinstance(state.work, Paused)
    new = frozenset(ClientId(f"{number:064x}") for number in range(4))
    state, effects = run(state, ClientsChanged(SOUTH, SOUTH_1, ids(IN_SOUTH) | set(list(new)[:3]), new))
    assert isinstance(state.work, Paused)
    state, effects = run(state, ClientsChanged(SOUTH, SOUTH_1, ids(IN_SOUTH) | new, new))
    assert RecordSession(SESSION, "running", "") in effects
    assert isinstance(state.work, Gathering | Planning)


def test_a_hold_that_shows_only_when_clients_come_back_is_one_after_a_while() -> None:
    """After a restart nobody is there; then those whose uploads may be opened come, and nobody else."""
    ended = work_of(run(masked.closed(reopen="strict"), ANSWERS_DUE)[0]).attempt
    again = masked.progress(history=(replace(ended, key="unset"),), attempt=2)
    state, _ = step(Reducer({NORTH: Joined(NORTH_1)}, Idle()), SessionStarted(again))
    assert isinstance(state.work, Gathering)
    everyone = ids(CLIENTS)
    state, effects = run(state, ClientsChanged(NORTH, NORTH_1, everyone, everyone))
    assert isinstance(state.work, Gathering)
    assert StartTimer(10.0, GatherTimePassed(SESSION, 1, 2)) in effects
    state, _ = run(state, GatherTimePassed(SESSION, 1, 2))
    assert isinstance(state.work, Paused)
    assert state.work.reason.startswith(PRIVACY_HOLD)


def test_a_hold_that_is_lifted_after_the_last_attempt_leads_to_no_further_one() -> None:
    state, _ = failed(reopen="strict")
    (ended,) = state.work.progress.history
    others = tuple(replace(ended, attempt=number, cells=()) for number in (2, 3))
    progress = replace(state.work.progress, history=(ended, *others), attempt=4)
    state = replace(state, work=replace(state.work, progress=progress))
    state, effects = run(state, *(masked.heard(one) for one in all_aborts()))
    assert isinstance(state.work, Paused)
    assert state.work.reason.startswith("round 1 failed 3 times")
    assert kinds(effects) == [SaveDocument, RecordSession]


@pytest.mark.parametrize("reopen", ["reducer", "strict"])
def test_a_committee_that_the_reducer_never_stored_holds_nobody(reopen: Any) -> None:
    """A combiner that was lost, or cut off, has handed it out to nobody."""
    lost = CombinerLost(NORTH, NORTH_1), CombinerLost(SOUTH, SOUTH_1)
    state, _ = run(masked.running(reopen=reopen), *lost, KeyUnset())
    assert masked_rounds.held(state.work.progress) == frozenset()
    with pytest.raises(UnexpectedEvent):
        run(state, masked.heard(NORTH_FORMED))


def test_an_abort_of_a_stranger_lifts_nothing() -> None:
    state, _ = failed(reopen="strict")
    stranger = next(one for one in CLIENTS if one not in members_of(NORTHERN))
    after, effects = run(state, masked.heard(an_abort(NORTHERN, stranger)))
    assert after == state
    assert kinds(effects) == [TellRefused]


def test_a_hold_that_is_resumed_as_it_is_holds_on() -> None:
    state, _ = failed(reopen="strict")
    after, effects = run(state, ResumeRequested(SESSION))
    assert after.work == state.work
    assert kinds(effects) == [RecordSession]


def test_a_new_work_ends_the_hold() -> None:
    state, _ = failed(reopen="strict")
    state, effects = run(state, ResumeRequested(SESSION, new_work=True))
    assert effects[:2] == [RecordNewWork(SESSION, '{"seed": 2}'), RecordSession(SESSION, "running", "")]
    assert isinstance(state.work, Planning)
    assert state.work.plan.parameters == '{"seed": 2}'
    assert state.work.plan.attempt == 2  # clients take no attempt twice, whatever the work
    assert (state.work.progress.history, state.work.progress.works) == ((), 1)


def test_a_new_work_beyond_the_policy_is_refused_by_name_with_the_way_out() -> None:
    state, _ = failed(reopen="strict")
    assert isinstance(state.work, Paused)
    state = replace(state, work=replace(state.work, progress=replace(state.work.progress, works=20)))
    with pytest.raises(BaseUsedUp, match="the policy allows 21") as refused:
        run(state, ResumeRequested(SESSION, new_work=True))
    assert "rework_max" in refused.value.remedy


def test_a_session_of_plain_rounds_needs_no_new_work() -> None:
    plain = Paused(masked.some_progress(), "by its operator")
    with pytest.raises(UnexpectedEvent):
        step(Reducer({}, plain), ResumeRequested(SESSION, new_work=True))


def test_the_next_seed_keeps_the_other_parameters() -> None:
    assert json.loads(with_next_seed('{"rate": 0.1, "seed": 7}')) == {"rate": 0.1, "seed": 8}


def test_opened_cells_that_make_no_round_strand_their_clients_for_ever() -> None:
    """Also where the reducer may release clients: these sets were opened."""
    state, effects = run(masked.opening(), *FAILED_CELLS, KeyUnset())
    assert isinstance(state.work, Paused)
    assert state.work.reason.startswith(PRIVACY_HOLD)
    assert not [one for one in inner(effects) if isinstance(one, SignNotOpened)]


def test_sums_that_make_no_model_count_as_opened() -> None:
    state, effects = run(masked.opening(), *OPENED, RoundNotSaved(SESSION, 1, 1, "NotFinite: the model is not"))
    assert kinds(effects) == [SaveDocument, UnsetKey, ReportFailed]
    state, effects = run(state, KeyUnset())
    assert isinstance(state.work, Paused)
    assert state.work.reason.startswith(PRIVACY_HOLD)
    closed = next(effect for effect in effects if isinstance(effect, CloseFailedAttempt))
    assert closed.reason == "NotFinite: the model is not"


def test_only_clients_whose_uploads_cannot_be_opened_are_drawn_again() -> None:
    """North aborted; south did not: strict."""
    state, _ = run(masked.formed(reopen="strict", clients_required=4), NORTH_CLOSED)
    state, _ = run(state, *(an_abort(NORTHERN, one) for one in members_of(NORTHERN)))
    state, effects = run(state, StopRequested(SESSION), KeyUnset())
    assert state.work == Idle()
    ended = next(one.effect.attempt for one in effects if isinstance(one, MaskedEffect))
    again = masked.progress(history=(ended,), attempt=2, clients_required=4)
    state, _ = step(idle(), SessionStarted(again))
    assert isinstance(state.work, Gathering)  # eight there, four of them free, and a while for the others
    assert "waiting up to 10 s for 8 clients, have 4; 4 more sit out" in state.work.reason
    state, _ = step(state, GatherTimePassed(SESSION, 1, 2))
    assert isinstance(state.work, Planning)
    assert {client for cell in state.work.cells.values() for client in cell.clients} == ids(IN_NORTH)


def test_after_three_attempts_the_session_rests_and_says_who_is_needed() -> None:
    ended = tuple(
        replace(work_of(masked.closed()).attempt, stage="given up", key="unset", attempt=number) for number in (1, 2)
    )
    state, _ = run(masked.closed(max_attempts=0), ANSWERS_DUE)
    work = work_of(state)
    state = replace(state, work=replace(work, progress=replace(work.progress, history=ended)))
    state, _ = run(state, KeyUnset())
    assert isinstance(state.work, Paused)
    assert "round 1 failed 3 times" in state.work.reason
    assert f"needed to finish it: {members_of(NORTHERN)[0].name}"[:20] in state.work.reason


def test_attempts_are_limited_as_in_plain_rounds() -> None:
    state, _ = failed(max_attempts=1)
    assert isinstance(state.work, Paused)
    assert "round 1 failed 1 times" in state.work.reason


# ---- after a restart


def found(state: Reducer, **changed: Any) -> SessionStarted:
    work = work_of(state)
    return SessionStarted(work.progress, found=replace(work, **changed))


@pytest.mark.parametrize("make", [masked.running, masked.formed], ids=lambda make: make.__name__)
def test_an_attempt_whose_cells_are_not_closed_goes_on_in_its_phase(make: Callable[[], Reducer]) -> None:
    before = work_of(make())
    state, effects = step(Reducer(), found(make()))
    assert effects[:2] == [ExpectCombiner(NORTH, NORTH_1), ExpectCombiner(SOUTH, SOUTH_1)]
    deadline_s = before.plan.update_timeout_s + SUM_S + ANSWER_MARGIN_S
    assert effects[2] == StartTimer(deadline_s, DEADLINE)
    assert kinds(effects)[3:] == [SaveDocument]
    assert (work_of(state), work_of(state).phase) == (before, before.phase)
    state, effects = step(state, CombinerJoined(NORTH, NORTH_1))
    assert effects == [order(work_of(state), NORTH)]  # the same one, by the same generation
    assert work_of(state).attempt == before.attempt


def test_after_a_new_start_a_cell_whose_combiner_does_not_come_back_is_out_and_the_others_go_on() -> None:
    state, _ = step(Reducer(), found(masked.formed()))
    state, _ = step(state, CombinerJoined(NORTH, NORTH_1))
    state, _ = step(state, CombinerJoined(SOUTH, InstanceId("south-2")))
    state, _ = run(state, NORTH_FORMED, NORTH_CLOSED)
    assert [(cell.out, cell.included_hash is None) for cell in work_of(state).attempt.cells] == [
        ("", False),
        (LOST, True),
    ]
    assert work_of(state).phase == "sum2"


def test_an_answer_that_is_said_again_after_a_new_start_changes_no_set_and_is_remembered() -> None:
    before = run(masked.formed(), NORTH_CLOSED)[0]
    state, _ = step(Reducer(), found(before, partials={}))
    state, _ = step(state, CombinerJoined(NORTH, NORTH_1))
    state, effects = run(state, NORTH_CLOSED)
    assert kinds(effects) == [SendOpenSum2]
    assert work_of(state).attempt == work_of(before).attempt
    assert work_of(state).partials == {NORTH: NORTH_CLOSED.partial}


@pytest.mark.parametrize("make", [masked.running, masked.formed, masked.closed], ids=lambda make: make.__name__)
def test_an_attempt_from_before_a_backup_is_given_up_and_releases_nobody(make: Callable[[], Reducer]) -> None:
    restored = replace(work_of(make()).attempt, before_restore=True)
    state, effects = step(idle(), found(make(), attempt=restored))
    assert kinds(effects)[:3] == [SaveDocument, UnsetKey, ReportFailed]
    _, effects = run(state, KeyUnset())
    assert SignNotOpened not in kinds(effects)
    closed = next(effect for effect in effects if isinstance(effect, CloseFailedAttempt))
    assert closed.reason.startswith("StoresRestored")


def test_an_attempt_that_was_to_be_stopped_is_given_up_after_a_new_start() -> None:
    progress = replace(work_of(masked.formed()).progress, intent="stop")
    state, effects = step(idle(), found(masked.formed(), progress=progress))
    assert kinds(effects)[:3] == [SaveDocument, UnsetKey, ReportFailed]
    state, _ = run(state, KeyUnset())
    assert state.work == Idle()


def test_an_attempt_whose_cells_are_closed_goes_on_with_the_same_sets() -> None:
    before = masked.closed()
    state, effects = step(idle(), found(before, answers_due=False))
    assert kinds(effects)[:2] == [SendOpenSum2, SendOpenSum2]
    assert [effect for effect in effects if isinstance(effect, StartTimer)] != []  # for answers that do not come
    assert [cell.included_hash for cell in work_of(state).attempt.cells] == [
        cell.included_hash for cell in work_of(before).attempt.cells
    ]


def test_a_model_whose_key_was_still_to_go_is_validated_when_its_clients_are_back() -> None:
    state, _ = step(Reducer(), found(run(masked.opening(validate=True), *OPENED)[0], model=MODEL_1))
    state, _ = run(state, KeyUnset())
    assert isinstance(state.work, Validating)
    assert (state.work.waiting, state.work.away) == ({}, ids(IN_NORTH) | ids(IN_SOUTH))
    state, _ = run(state, CombinerJoined(NORTH, NORTH_1), ClientsChanged(NORTH, NORTH_1, ids(IN_NORTH)))
    state, effects = run(state, CombinerJoined(SOUTH, SOUTH_1), ClientsChanged(SOUTH, SOUTH_1, ids(IN_SOUTH)))
    assert [effect.combiner for effect in effects if isinstance(effect, SendOrder)] == [NORTH, SOUTH]


def test_an_attempt_that_may_have_opened_is_finished_with_exactly_its_sets() -> None:
    state, effects = step(idle(), found(masked.opening()))
    assert inner(effects) == [OpenCells(tuple(sorted((NORTHERN.ctx, SOUTHERN.ctx))))]
    state, effects = run(state, *OPENED)
    assert kinds(effects)[-1] == CommitMean
    state, effects = step(idle(), found(run(masked.opening(), *OPENED)[0]))
    assert kinds(effects) == [CommitMean]


def test_a_commit_that_was_written_is_not_written_again_and_is_told_to_whoever_joins() -> None:
    state, effects = step(idle(), found(run(masked.opening(), *OPENED)[0], model=MODEL_1))
    assert kinds(effects) == [SaveDocument, UnsetKey]
    _, effects = step(state, CombinerJoined(NORTH, NORTH_1))
    assert effects == [TellCommittedAgain(NORTH, NORTH_1, RoundCommitted(SESSION, 1, MODEL_1))]
    state, _ = run(state, KeyUnset())
    assert isinstance(state.work, Planning)
    assert state.work.progress.head == MODEL_1


def test_a_key_that_was_going_goes() -> None:
    _, effects = step(idle(), found(run(masked.closed(), ANSWERS_DUE)[0]))
    assert kinds(effects) == [UnsetKey]


def test_an_attempt_whose_key_is_gone_is_closed_and_what_was_released_is_said_again() -> None:
    gone = replace(work_of(run(masked.closed(), ANSWERS_DUE)[0]).attempt, key="unset")
    _, effects = step(idle(), found(masked.closed(), attempt=gone))
    assert kinds(effects)[:3] == [SignNotOpened, SignNotOpened, CloseFailedAttempt]


# ---- whatever comes


@pytest.mark.parametrize(
    "make", [masked.running, masked.formed, masked.closed, masked.opening], ids=lambda make: make.__name__
)
def test_no_set_changes_and_nothing_opened_is_released_whatever_comes(make: Callable[[], Reducer]) -> None:
    events: list[Any] = [
        NORTH_CLOSED,
        SOUTH_CLOSED,
        *(masked.heard(one) for one in (NORTH_FORMED, *NORTH_ANSWERS, *SOUTH_ANSWERS, *OPENED, *FAILED_CELLS)),
        CombinerLost(NORTH, NORTH_1),
        CellGaveUp(NORTH, NORTH_1, NORTHS, "gone"),
        DEADLINE,
        ANSWERS_DUE,
        StopRequested(SESSION),
        SAVED,
        RoundNotSaved(SESSION, 1, 1, "why"),
        masked.heard(KeyUnset()),
    ]
    for first in events:
        for second in events:
            state, opened = make(), frozenset[bytes]()
            for event in (first, second, masked.heard(KeyUnset())):
                try:
                    state, effects = step(state, event)
                except UnexpectedEvent:
                    continue
                if isinstance(state.work, Masked):
                    opened |= state.work.attempt.opening
                voids = {one.void.ctx for one in inner(effects) if isinstance(one, SignNotOpened)}
                assert not voids & opened


def test_a_committee_of_another_generation_is_refused_by_name() -> None:
    _, effects = run(masked.running(), CommitteeFormed(CELL, SOUTHS, NORTHERN))
    assert [one.reason.split(":")[0] for one in effects if isinstance(one, TellRefused)] == ["FencedGeneration"]
