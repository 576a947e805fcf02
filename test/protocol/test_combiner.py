"""A combiner's cell and validation, rule by rule."""

from collections.abc import Iterator
from dataclasses import replace

import cell_world
import pytest
from builders import (
    ANNA,
    BERT,
    CARL,
    DORA,
    GENERATION,
    GRACE_S,
    a_combiner,
    a_contribution,
    a_plan,
    a_validation,
    an_arrival,
    an_order,
    progress_told,
)
from cell_world import FIVE
from hypothesis import given
from hypothesis import strategies as st
from tables import by_name, outcome, pairs_of, read_table

from fedn_py.identity import ClientId, Generation
from fedn_py.protocol.combiner import LATE, LATE_VALIDATION, LOST, step
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
from fedn_py.protocol.machine import StartTimer, UnexpectedEvent
from fedn_py.protocol.masked.cell_work import (
    AcksOverdue,
    ClientBarred,
    KeysOverdue,
    MemberStayedAway,
    ReportingSum,
    TermsChecked,
    UpdatesOverdue,
)
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.masked.words import WorkTerms
from fedn_py.protocol.messages import (
    CellCancelled,
    CellFailed,
    ClientProgress,
    Exclusion,
    RoundProgress,
    TaskCancelled,
    TrainTask,
    UpdateReceipt,
    ValidateTask,
)

OLDER, NEWER = Generation(GENERATION - 1), Generation(GENERATION + 1)
ACCEPTED = UpdateReceipt(accepted=True)
OF_ANNA, OF_BERT, OF_CARL = a_contribution(ANNA), a_contribution(BERT), a_contribution(CARL)


def collecting(*clients: ClientId, wanted: int | None = None, **changed: object) -> Collecting:
    """Return a cell whose clients all train."""
    order = an_order(clients or (ANNA, BERT), wanted=wanted)
    return replace(Collecting(order, training=frozenset(order.clients)), **changed)  # type: ignore[arg-type]


def validating(*clients: ClientId, **changed: object) -> Validating:
    """Return a validation that every client owes."""
    order = a_validation(clients or (ANNA, BERT))
    return replace(Validating(order, waiting=frozenset(order.clients)), **changed)  # type: ignore[arg-type]


def without_progress(effects: list) -> list:  # type: ignore[type-arg]
    """Leave out what is only for those who watch."""
    return [effect for effect in effects if not isinstance(effect, ReportProgress)]


def refusal(effects: list) -> str:  # type: ignore[type-arg]
    """Return the name of the fault with which the only upload was refused."""
    (answer,) = effects
    assert isinstance(answer, AnswerUpload)
    assert not answer.receipt.accepted
    return answer.receipt.reason.split(":")[0]


# ---- an order begins


def test_an_order_starts_its_deadline_and_fetches_its_objects() -> None:
    order = an_order()
    state, effects = step(a_combiner(NoWork()), Ordered(order))
    assert state.work == Preparing(order)
    assert without_progress(effects) == [
        StartTimer(order.plan.update_timeout_s, DeadlinePassed(GENERATION)),
        FetchObjects(GENERATION, (order.plan.base_model, order.plan.package)),
    ]


def test_a_validation_order_starts_its_own_deadline_and_fetches_its_model() -> None:
    order = a_validation()
    state, effects = step(a_combiner(NoWork()), Ordered(order))
    assert state.work == Preparing(order)
    assert StartTimer(order.timeout_s, DeadlinePassed(GENERATION)) in effects
    assert FetchObjects(GENERATION, (order.model, order.package)) in effects


@pytest.mark.parametrize("generation", [OLDER, GENERATION])
def test_an_order_that_is_not_newer_is_refused(generation: Generation) -> None:
    for work in (NoWork(last=GENERATION), collecting()):
        with pytest.raises(UnexpectedEvent):
            step(a_combiner(work), Ordered(an_order(generation=generation)))


def test_a_newer_order_takes_the_place_of_the_one_at_hand() -> None:
    work = collecting(adding=(("anna/a", OF_ANNA),), training=frozenset({BERT}))
    state, effects = step(a_combiner(work), Ordered(an_order(generation=NEWER)))
    cancelled = TaskCancelled(GENERATION, "a newer order came")
    assert state.work == Preparing(an_order(generation=NEWER))
    assert effects[:3] == [
        AnswerUpload("anna/a", UpdateReceipt(accepted=False, reason="Late: a newer order came")),
        CancelTask(BERT, cancelled),
        Forget(GENERATION),
    ]


def test_a_newer_order_lets_go_of_whatever_the_one_at_hand_holds() -> None:
    for work in (Preparing(an_order()), collecting(), Reporting(an_order(), ()), validating()):
        _, effects = step(a_combiner(work), Ordered(an_order(generation=NEWER)))
        assert Forget(GENERATION) in effects


def test_attached_clients_get_their_task_when_the_objects_are_here() -> None:
    order = an_order((ANNA, BERT))
    state, effects = step(a_combiner(Preparing(order), ANNA, BERT, DORA), ObjectsFetched(GENERATION))
    assert state.work == Collecting(order, training=frozenset({ANNA, BERT}))
    task = TrainTask(order.plan, GENERATION)
    assert without_progress(effects) == [SendTask(ANNA, task), SendTask(BERT, task)]
    # One object for all, so that it is put into bytes once.
    assert len({id(effect.task) for effect in effects if isinstance(effect, SendTask)}) == 1


def test_what_the_reducer_signed_of_plain_work_goes_on_to_the_clients() -> None:
    signed = WorkTerms(Signed("server", b"c", bytes(32), bytes(64)), Signed("work order", b"o", bytes(32), bytes(64)))
    for order in (replace(an_order((ANNA,)), signed=signed), replace(a_validation((ANNA,)), signed=signed)):
        _, effects = step(a_combiner(Preparing(order), ANNA), ObjectsFetched(GENERATION))
        (sent,) = [effect for effect in effects if isinstance(effect, SendTask)]
        assert isinstance(sent.task, TrainTask | ValidateTask)
        assert (sent.task.order if isinstance(sent.task, ValidateTask) else sent.task).signed == signed


def test_a_client_that_is_not_attached_when_its_order_begins_is_waited_for() -> None:
    _, effects = step(a_combiner(Preparing(an_order((ANNA, BERT))), ANNA), ObjectsFetched(GENERATION))
    assert StartTimer(GRACE_S, ClientStayedAway(GENERATION, BERT)) in effects


def test_objects_that_cannot_be_had_fail_the_order_by_name() -> None:
    failed = ObjectsNotFetched(GENERATION, "the store is away")
    state, effects = step(a_combiner(Preparing(an_order())), failed)
    assert state.work == NoWork(last=GENERATION)
    assert effects == [ReportFailure(CellFailed(GENERATION, "the store is away")), Forget(GENERATION)]


def test_an_order_for_nobody_is_answered_at_once() -> None:
    state, effects = step(a_combiner(Preparing(an_order(()))), ObjectsFetched(GENERATION))
    assert state.work == Reporting(an_order(()), ())
    assert without_progress(effects) == [StorePartialAggregate(GENERATION, (), ())]


# ---- an update comes in: whole or not at all, once or not at all, and only from a client of the order


def test_an_update_is_added_and_its_client_told_only_when_it_is_in_the_sum() -> None:
    state, effects = step(a_combiner(collecting()), an_arrival(ANNA))
    assert effects == [AddUpdate(GENERATION, "anna/a", OF_ANNA)]

    state, effects = step(state, UpdateAdded(GENERATION, "anna/a"))
    assert state.work == collecting(training=frozenset({BERT}), included=(OF_ANNA,))
    assert without_progress(effects) == [AnswerUpload("anna/a", ACCEPTED)]


def test_an_update_that_proves_unfit_is_refused_with_the_reason_and_excluded() -> None:
    work = collecting(training=frozenset({BERT}), adding=(("anna/a", OF_ANNA),))
    unfit = UpdateNotAdded(GENERATION, "anna/a", "NotFinite: it holds a NaN")
    state, effects = step(a_combiner(work), unfit)
    excluded = (Exclusion(ANNA, "NotFinite: it holds a NaN"),)
    assert state.work == collecting(training=frozenset({BERT}), excluded=excluded)
    assert without_progress(effects) == [AnswerUpload("anna/a", UpdateReceipt(accepted=False, reason=unfit.reason))]


def test_a_client_whose_update_was_unfit_is_out_of_the_round() -> None:
    work = collecting(training=frozenset({BERT}), excluded=(Exclusion(ANNA, "NotFinite"),))
    state, effects = step(a_combiner(work), an_arrival(ANNA, update="b"))
    assert (state.work, refusal(effects)) == (work, "AlreadyRefused")


def test_the_same_update_again_is_answered_as_in_and_not_added() -> None:
    for work in (collecting(training=frozenset({BERT}), included=(OF_ANNA,)), Reporting(an_order(), (OF_ANNA,))):
        state, effects = step(a_combiner(work), an_arrival(ANNA))
        assert state.work == work
        assert effects == [AnswerUpload("anna/a", ACCEPTED)]


def test_another_update_of_a_client_that_is_in_is_refused() -> None:
    for work in (collecting(training=frozenset({BERT}), included=(OF_ANNA,)), Reporting(an_order(), (OF_ANNA,))):
        state, effects = step(a_combiner(work), an_arrival(ANNA, update="b"))
        assert (state.work, refusal(effects)) == (work, "AlreadyIn")


def test_the_same_bytes_with_other_samples_are_another_update() -> None:
    work = collecting(training=frozenset({BERT}), included=(OF_ANNA,))
    _, effects = step(a_combiner(work), an_arrival(ANNA, samples=11))
    assert refusal(effects) == "AlreadyIn"


def test_an_update_of_a_client_whose_first_is_being_added_is_refused() -> None:
    work = collecting(training=frozenset({BERT}), adding=(("anna/a", OF_ANNA),))
    for again in (an_arrival(ANNA), an_arrival(ANNA, update="b")):
        state, effects = step(a_combiner(work), again)
        assert (state.work, refusal(effects)) == (work, "AlreadyIn")


def test_an_update_of_a_client_that_was_not_asked_is_refused() -> None:
    state, effects = step(a_combiner(collecting(ANNA, BERT), DORA), an_arrival(DORA))
    assert (state.work, refusal(effects)) == (collecting(ANNA, BERT), "NotAssigned")


@pytest.mark.parametrize("generation", [OLDER, NEWER])
def test_an_update_of_another_generation_is_late(generation: Generation) -> None:
    included = collecting(training=frozenset({BERT}), included=(OF_ANNA,))
    for work, client in ((collecting(), ANNA), (included, ANNA), (Preparing(an_order()), ANNA)):
        state, effects = step(a_combiner(work), an_arrival(client, generation=generation))
        assert (state.work, refusal(effects)) == (work, "Late")


def test_an_update_for_a_cell_that_is_closing_or_closed_is_late() -> None:
    closing = collecting(adding=(("anna/a", OF_ANNA),), training=frozenset({BERT}), closing=True)
    for work in (closing, Reporting(an_order(), ()), NoWork(last=GENERATION)):
        state, effects = step(a_combiner(work), an_arrival(BERT))
        assert (state.work, refusal(effects)) == (work, "Late")


def test_a_client_that_was_given_up_may_still_bring_its_update() -> None:
    work = collecting(training=frozenset({BERT}), gone=frozenset({ANNA}))
    state, effects = step(a_combiner(work), an_arrival(ANNA))
    assert state.work == collecting(training=frozenset({BERT}), adding=(("anna/a", OF_ANNA),))
    assert effects == [AddUpdate(GENERATION, "anna/a", OF_ANNA)]


# ---- a cell ends


def test_a_cell_closes_when_the_wanted_updates_are_in() -> None:
    work = collecting(ANNA, BERT, CARL, wanted=1, training=frozenset({BERT, CARL}), adding=(("anna/a", OF_ANNA),))
    state, effects = step(a_combiner(work), UpdateAdded(GENERATION, "anna/a"))
    closed = TaskCancelled(GENERATION, "the round is closed")
    assert state.work == Reporting(work.order, (OF_ANNA,))
    assert without_progress(effects) == [
        AnswerUpload("anna/a", ACCEPTED),
        CancelTask(BERT, closed),
        CancelTask(CARL, closed),
        StorePartialAggregate(GENERATION, (OF_ANNA,), (Exclusion(BERT, LATE), Exclusion(CARL, LATE))),
    ]


def test_an_update_that_is_only_being_added_does_not_count_as_wanted_yet() -> None:
    both = (("anna/a", OF_ANNA), ("bert/a", OF_BERT))
    work = collecting(ANNA, BERT, CARL, wanted=2, training=frozenset({CARL}), adding=both)
    state, _ = step(a_combiner(work), UpdateAdded(GENERATION, "anna/a"))
    state, _ = step(state, UpdateNotAdded(GENERATION, "bert/a", "NotFinite"))
    assert isinstance(state.work, Collecting)
    assert not state.work.closing

    state, effects = step(state, an_arrival(CARL))
    assert effects == [AddUpdate(GENERATION, "carl/a", OF_CARL)]
    state, _ = step(state, UpdateAdded(GENERATION, "carl/a"))
    assert state.work == Reporting(work.order, (OF_ANNA, OF_CARL))


def test_a_cell_that_has_what_it_wants_waits_for_the_updates_that_are_being_added() -> None:
    both = (("anna/a", OF_ANNA), ("bert/a", OF_BERT))
    work = collecting(ANNA, BERT, CARL, wanted=1, training=frozenset({CARL}), adding=both)
    state, effects = step(a_combiner(work), UpdateAdded(GENERATION, "anna/a"))
    assert isinstance(state.work, Collecting)
    assert state.work.closing
    assert not any(isinstance(effect, StorePartialAggregate) for effect in effects)

    state, effects = step(state, UpdateAdded(GENERATION, "bert/a"))
    assert StorePartialAggregate(GENERATION, (OF_ANNA, OF_BERT), (Exclusion(CARL, LATE),)) in effects


def test_a_cell_closes_when_nobody_is_left_to_wait_for() -> None:
    work = collecting(training=frozenset({BERT}), included=(OF_ANNA,))
    state, effects = step(a_combiner(work), TaskNotDone(GENERATION, BERT, "exit status 1", "Traceback"))
    assert state.work == Reporting(work.order, (OF_ANNA,))
    assert StorePartialAggregate(GENERATION, (OF_ANNA,), (Exclusion(BERT, "exit status 1", "Traceback"),)) in effects


def test_a_cell_closes_when_its_last_update_proves_unfit() -> None:
    work = collecting(ANNA, training=frozenset(), adding=(("anna/a", OF_ANNA),))
    state, effects = step(a_combiner(work), UpdateNotAdded(GENERATION, "anna/a", "NotFinite"))
    assert state.work == Reporting(work.order, ())
    assert StorePartialAggregate(GENERATION, (), (Exclusion(ANNA, "NotFinite"),)) in effects


def test_a_client_that_was_given_up_is_taken_while_other_updates_are_being_added() -> None:
    work = collecting(
        ANNA, BERT, CARL, training=frozenset({CARL}), gone=frozenset({BERT}), adding=(("anna/a", OF_ANNA),)
    )
    state, _ = step(a_combiner(work), TaskNotDone(GENERATION, CARL, "exit status 1"))
    _, effects = step(state, an_arrival(BERT))
    assert effects == [AddUpdate(GENERATION, "bert/a", OF_BERT)]


def test_the_deadline_closes_a_cell_with_what_is_in() -> None:
    work = collecting(ANNA, BERT, training=frozenset({BERT}), included=(OF_ANNA,))
    state, effects = step(a_combiner(work), DeadlinePassed(GENERATION))
    assert state.work == Reporting(work.order, (OF_ANNA,))
    assert CancelTask(BERT, TaskCancelled(GENERATION, "the round is closed")) in effects
    assert StorePartialAggregate(GENERATION, (OF_ANNA,), (Exclusion(BERT, LATE),)) in effects


def test_the_deadline_closes_a_cell_without_any_update() -> None:
    state, effects = step(a_combiner(collecting(ANNA)), DeadlinePassed(GENERATION))
    assert state.work == Reporting(an_order((ANNA,)), ())
    assert StorePartialAggregate(GENERATION, (), (Exclusion(ANNA, LATE),)) in effects


def test_an_update_that_is_being_added_at_the_deadline_is_in_the_sum_and_in_the_list() -> None:
    work = collecting(ANNA, BERT, training=frozenset({BERT}), adding=(("anna/a", OF_ANNA),))
    state, effects = step(a_combiner(work), DeadlinePassed(GENERATION))
    assert not any(isinstance(effect, StorePartialAggregate) for effect in effects)

    state, effects = step(state, UpdateAdded(GENERATION, "anna/a"))
    assert StorePartialAggregate(GENERATION, (OF_ANNA,), (Exclusion(BERT, LATE),)) in effects


def test_the_deadline_of_an_order_whose_objects_never_came_fails_it() -> None:
    state, effects = step(a_combiner(Preparing(an_order())), DeadlinePassed(GENERATION))
    assert state.work == NoWork(last=GENERATION)
    assert isinstance(effects[0], ReportFailure)
    assert effects[0].failure.reason.startswith("Late: ")
    assert effects[1:] == [Forget(GENERATION)]


def test_the_deadline_of_another_order_changes_nothing() -> None:
    for work in (collecting(), Preparing(an_order()), validating(), NoWork(last=GENERATION)):
        state = a_combiner(work, ANNA)
        assert step(state, DeadlinePassed(OLDER)) == (state, [])


def test_a_reported_cell_is_forgotten() -> None:
    state, effects = step(a_combiner(Reporting(an_order(), ())), Reported(GENERATION))
    assert (state.work, effects) == (NoWork(last=GENERATION), [Forget(GENERATION)])


def test_a_sum_that_cannot_be_stored_fails_the_cell() -> None:
    state, effects = step(a_combiner(Reporting(an_order(), ())), NotReported(GENERATION, "the store is full"))
    assert state.work == NoWork(last=GENERATION)
    assert effects == [ReportFailure(CellFailed(GENERATION, "the store is full")), Forget(GENERATION)]


def test_a_cancelled_order_is_dropped_and_its_clients_told() -> None:
    work = collecting(training=frozenset({BERT}), adding=(("anna/a", OF_ANNA),))
    state, effects = step(a_combiner(work), OrderCancelled(CellCancelled(GENERATION, "the session was stopped")))
    assert state.work == NoWork(last=GENERATION, taken_back="the session was stopped")
    assert effects == [
        AnswerUpload("anna/a", UpdateReceipt(accepted=False, reason="Late: the session was stopped")),
        CancelTask(BERT, TaskCancelled(GENERATION, "the session was stopped")),
        Forget(GENERATION),
    ]


def test_a_cancelled_order_that_comes_again_is_answered_with_the_reason_and_not_taken_up() -> None:
    cancelled, _ = step(a_combiner(collecting()), OrderCancelled(CellCancelled(GENERATION, "the deadline has passed")))
    state, effects = step(cancelled, Ordered(an_order()))
    assert state == cancelled
    assert effects == [ReportFailure(CellFailed(GENERATION, "the deadline has passed"))]
    with pytest.raises(UnexpectedEvent):
        step(cancelled, Ordered(an_order(generation=OLDER)))


def test_the_cancellation_of_another_order_is_refused() -> None:
    with pytest.raises(UnexpectedEvent):
        step(a_combiner(collecting()), OrderCancelled(CellCancelled(OLDER, "")))


@pytest.mark.parametrize(
    "stale",
    [UpdateAdded(OLDER, "anna/a"), UpdateNotAdded(OLDER, "anna/a", ""), UpdateAdded(GENERATION, "unknown")],
)
def test_the_outcome_of_an_addition_that_is_not_awaited_is_refused(stale: Event) -> None:
    with pytest.raises(UnexpectedEvent):
        step(a_combiner(collecting(training=frozenset({BERT}), adding=(("anna/a", OF_ANNA),))), stale)


def test_those_who_watch_are_told_how_far_a_cell_is() -> None:
    def told(effects: list) -> list[tuple[str, int, int, int]]:  # type: ignore[type-arg]
        progress = [effect.progress.told() for effect in effects if isinstance(effect, ReportProgress)]
        return [(p.phase, p.included, p.training, p.excluded) for p in progress]

    state, effects = step(a_combiner(NoWork(), ANNA, BERT, CARL), Ordered(an_order((ANNA, BERT, CARL))))
    assert told(effects) == [("preparing", 0, 0, 0)]
    state, effects = step(state, ObjectsFetched(GENERATION))
    assert told(effects) == [("collecting", 0, 3, 0)]
    state, effects = step(state, TaskNotDone(GENERATION, CARL, "exit status 1"))
    assert told(effects) == [("collecting", 0, 2, 1)]
    state, _ = step(state, an_arrival(ANNA))
    state, effects = step(state, UpdateAdded(GENERATION, "anna/a"))
    assert told(effects) == [("collecting", 1, 1, 1)]
    state, effects = step(state, DeadlinePassed(GENERATION))
    assert told(effects) == [("reporting", 1, 0, 2)]


def test_those_who_watch_are_told_how_far_a_validation_is() -> None:
    _, effects = step(a_combiner(validating()), ValidationReturned(GENERATION, ANNA))
    clients = (ClientProgress(ANNA, "in"), ClientProgress(BERT, "validating"))
    assert progress_told(effects) == [RoundProgress(GENERATION, "validating", 1, 1, 0, clients)]


def test_an_awaited_update_is_not_looked_for_among_all_that_are_in() -> None:
    class NotLookedThrough(tuple):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[object]:
            raise AssertionError("a cell of many clients would look through all of them for each")

        def __contains__(self, _: object) -> bool:
            return bool(next(iter(self)))

    work = collecting(ANNA, BERT, CARL, included=NotLookedThrough((OF_CARL,)), training=frozenset({ANNA, BERT}))
    _, effects = step(a_combiner(work), an_arrival(ANNA))
    assert effects == [AddUpdate(GENERATION, "anna/a", OF_ANNA)]


# ---- clients come and go


def test_a_client_whose_stream_breaks_is_waited_for_a_while() -> None:
    state, effects = step(a_combiner(collecting(), ANNA, BERT), ClientDetached(ANNA))
    assert state == a_combiner(collecting(), BERT)
    assert effects == [StartTimer(GRACE_S, ClientStayedAway(GENERATION, ANNA))]


def test_a_client_that_owes_nothing_is_not_waited_for_when_it_leaves() -> None:
    included = collecting(training=frozenset({BERT}), included=(OF_ANNA,))
    for work in (included, validating(waiting=frozenset({BERT}), validated=frozenset({ANNA}))):
        assert step(a_combiner(work, ANNA), ClientDetached(ANNA)) == (a_combiner(work), [])


def test_a_client_whose_answer_is_in_is_not_given_up() -> None:
    included = collecting(training=frozenset({BERT}), included=(OF_ANNA,))
    for work in (included, validating(waiting=frozenset({BERT}), validated=frozenset({ANNA}))):
        assert step(a_combiner(work), ClientStayedAway(GENERATION, ANNA)) == (a_combiner(work), [])


def test_a_client_that_comes_back_gets_its_task_again() -> None:
    state, effects = step(a_combiner(collecting()), ClientAttached(ANNA))
    assert state == a_combiner(collecting(), ANNA)
    assert effects == [SendTask(ANNA, TrainTask(a_plan(), GENERATION))]


def test_a_client_that_was_given_up_gets_its_task_again_when_it_comes_back() -> None:
    work = collecting(training=frozenset({BERT}), gone=frozenset({ANNA}))
    state, effects = step(a_combiner(work, BERT), ClientAttached(ANNA))
    assert state.work == collecting()
    assert effects == [SendTask(ANNA, TrainTask(a_plan(), GENERATION))]


def test_a_client_whose_update_is_in_gets_no_task_when_it_comes_back() -> None:
    work = collecting(training=frozenset({BERT}), included=(OF_ANNA,))
    _, effects = step(a_combiner(work), ClientAttached(ANNA))
    assert effects == []


def test_a_client_that_comes_back_to_a_closing_cell_gets_no_task() -> None:
    work = collecting(training=frozenset({BERT}), adding=(("anna/a", OF_ANNA),), closing=True)
    _, effects = step(a_combiner(work), ClientAttached(BERT))
    assert effects == []


def test_a_client_that_stays_away_is_given_up() -> None:
    state, effects = step(a_combiner(collecting(), BERT), ClientStayedAway(GENERATION, ANNA))
    assert state.work == collecting(training=frozenset({BERT}), gone=frozenset({ANNA}))
    assert without_progress(effects) == []


def test_a_client_that_stayed_away_is_excluded_as_lost_and_not_as_late() -> None:
    work = collecting(training=frozenset({BERT}), gone=frozenset({ANNA}))
    _, effects = step(a_combiner(work), DeadlinePassed(GENERATION))
    assert StorePartialAggregate(GENERATION, (), (Exclusion(ANNA, LOST), Exclusion(BERT, LATE))) in effects


def test_the_last_client_that_stays_away_closes_the_cell() -> None:
    work = collecting(training=frozenset({BERT}), included=(OF_ANNA,))
    state, _ = step(a_combiner(work), ClientStayedAway(GENERATION, BERT))
    assert state.work == Reporting(work.order, (OF_ANNA,))


def test_a_client_that_is_back_in_time_is_not_given_up() -> None:
    for stayed_away in (ClientStayedAway(GENERATION, ANNA), ClientStayedAway(OLDER, BERT)):
        state = a_combiner(collecting(), ANNA)
        assert step(state, stayed_away) == (state, [])


def test_a_client_that_could_not_train_is_out_of_the_round() -> None:
    work = collecting(ANNA, BERT)
    state, _ = step(a_combiner(work, ANNA, BERT), TaskNotDone(GENERATION, ANNA, "exit status 1"))
    assert state.work == collecting(training=frozenset({BERT}), excluded=(Exclusion(ANNA, "exit status 1"),))
    _, effects = step(state, ClientAttached(ANNA))
    assert effects == []


@pytest.mark.parametrize(
    "failure", [TaskNotDone(GENERATION, DORA, ""), TaskNotDone(OLDER, BERT, ""), TaskNotDone(GENERATION, ANNA, "")]
)
def test_a_failure_of_a_client_that_owes_nothing_is_refused(failure: TaskNotDone) -> None:
    with pytest.raises(UnexpectedEvent):
        step(a_combiner(collecting(training=frozenset({BERT}), included=(OF_ANNA,))), failure)


# ---- validation


def test_a_validation_is_handed_to_its_clients() -> None:
    order = a_validation((ANNA, BERT))
    state, effects = step(a_combiner(Preparing(order), ANNA), ObjectsFetched(GENERATION))
    assert state.work == validating()
    assert without_progress(effects) == [
        SendTask(ANNA, ValidateTask(order)),
        StartTimer(GRACE_S, ClientStayedAway(GENERATION, BERT)),
    ]


def test_a_validation_is_reported_when_all_its_clients_have_answered() -> None:
    state, effects = step(a_combiner(validating(), ANNA, BERT), ValidationReturned(GENERATION, ANNA))
    assert without_progress(effects) == []
    state, effects = step(state, TaskNotDone(GENERATION, BERT, "exit status 1"))
    assert state.work == NoWork(last=GENERATION)
    assert effects == [
        ReportValidation(GENERATION, frozenset({ANNA}), (Exclusion(BERT, "exit status 1"),)),
        Forget(GENERATION),
    ]


def test_the_deadline_reports_a_validation_with_what_is_in() -> None:
    work = validating(ANNA, BERT, CARL, waiting=frozenset({BERT}), gone=frozenset({CARL}), validated=frozenset({ANNA}))
    _, effects = step(a_combiner(work), DeadlinePassed(GENERATION))
    excluded = (Exclusion(CARL, LOST), Exclusion(BERT, LATE_VALIDATION))
    assert effects == [
        CancelTask(BERT, TaskCancelled(GENERATION, "the validation is closed")),
        ReportValidation(GENERATION, frozenset({ANNA}), excluded),
        Forget(GENERATION),
    ]


def test_metrics_count_once() -> None:
    state, _ = step(a_combiner(validating()), ValidationReturned(GENERATION, ANNA))
    for again in (ValidationReturned(GENERATION, ANNA), ValidationReturned(GENERATION, DORA)):
        with pytest.raises(UnexpectedEvent):
            step(state, again)


def test_a_failure_to_validate_of_a_client_that_owes_nothing_is_refused() -> None:
    state, _ = step(a_combiner(validating()), ValidationReturned(GENERATION, ANNA))
    for client in (ANNA, DORA):
        with pytest.raises(UnexpectedEvent):
            step(state, TaskNotDone(GENERATION, client, "exit status 1"))


def test_metrics_of_another_generation_are_refused() -> None:
    with pytest.raises(UnexpectedEvent):
        step(a_combiner(validating()), ValidationReturned(OLDER, ANNA))


def test_a_client_that_comes_back_validates_unless_it_has() -> None:
    work = validating(waiting=frozenset({BERT}), validated=frozenset({ANNA}))
    assert step(a_combiner(work), ClientAttached(ANNA))[1] == []
    assert step(a_combiner(work), ClientAttached(BERT))[1] == [SendTask(BERT, ValidateTask(work.order))]


# ---- every phase with every event

MASKED_KEYS = cell_world.collecting_keys(*FIVE)
MASKED_UPDATES = cell_world.collecting_updates(*FIVE)
MEMBER, OTHER = cell_world.members_of(MASKED_UPDATES)
OUTSIDE, TRAINING = [client for client in FIVE if client not in {MEMBER, OTHER}][:2]
MASKED_ADDING = cell_world.run(
    MASKED_UPDATES,
    cell_world.begins(OUTSIDE),
    *cell_world.acks(MASKED_UPDATES, cell_world.a_row(OUTSIDE)),
    cell_world.arrives(OUTSIDE),
    cell_world.begins(TRAINING),
)[0]
PHASES = by_name(
    [
        NoWork(last=GENERATION),
        Preparing(an_order()),
        collecting(training=frozenset({ANNA}), adding=(("bert/a", OF_BERT),)),
        Reporting(an_order(), ()),
        validating(),
        MASKED_KEYS.work,
        MASKED_ADDING.work,
        ReportingSum(cell_world.an_order(*FIVE), frozenset()),
    ]
)
FITTING = by_name(
    [
        Ordered(an_order(generation=NEWER)),
        OrderCancelled(CellCancelled(GENERATION, "")),
        ObjectsFetched(GENERATION),
        ObjectsNotFetched(GENERATION, ""),
        ClientAttached(ANNA),
        ClientDetached(ANNA),
        ClientStayedAway(GENERATION, ANNA),
        an_arrival(ANNA),
        UpdateAdded(GENERATION, "bert/a"),
        UpdateNotAdded(GENERATION, "bert/a", ""),
        TaskNotDone(GENERATION, ANNA, ""),
        ValidationReturned(GENERATION, ANNA),
        DeadlinePassed(GENERATION),
        Reported(GENERATION),
        NotReported(GENERATION, ""),
        TermsChecked(GENERATION, cell_world.the_terms()),
        cell_world.offered(cell_world.the_terms(), TRAINING),
        KeysOverdue(GENERATION),
        cell_world.kept(MASKED_UPDATES),
        UpdatesOverdue(GENERATION),
        cell_world.begins(MEMBER),
        cell_world.arrives(TRAINING),
        cell_world.ack(MASKED_UPDATES, MEMBER, cell_world.a_row(TRAINING)),
        AcksOverdue(GENERATION, cell_world.id_of(MEMBER), 0, (cell_world.a_row(TRAINING),)),
        MemberStayedAway(GENERATION, cell_world.id_of(MEMBER)),
        ClientBarred(ANNA, ""),
    ]
)
ABOUT = cell_world.id_of(TRAINING)
FITTING_MASKED = FITTING | by_name(
    [
        ClientAttached(cell_world.id_of(MEMBER)),
        ClientDetached(cell_world.id_of(MEMBER)),
        ClientStayedAway(GENERATION, ABOUT),
        UpdateAdded(GENERATION, cell_world.arrival_of(OUTSIDE)),
        UpdateNotAdded(GENERATION, cell_world.arrival_of(OUTSIDE), ""),
        TaskNotDone(GENERATION, ABOUT, ""),
        ClientBarred(ABOUT, ""),
    ]
)
MASKED = {"CollectingKeys", "CollectingUpdates", "ReportingSum"}
TABLE = read_table("""
                   NoWork   Preparing Collecting Reporting Validating CollectingKeys CollectingUpdates ReportingSum
Ordered            moves    moves     moves      moves     moves      moves          moves             moves
OrderCancelled     refused  moves     moves      moves     moves      moves          moves             moves
ObjectsFetched     refused  moves     refused    refused   refused    refused        refused           refused
ObjectsNotFetched  refused  moves     refused    refused   refused    refused        refused           refused
ClientAttached     moves    moves     moves      moves     moves      moves          moves             moves
ClientDetached     ignored  ignored   moves      ignored   moves      moves          moves             moves
ClientStayedAway   ignored  ignored   moves      ignored   moves      moves          moves             ignored
UpdateArrived      moves    moves     moves      moves     moves      moves          moves             moves
UpdateAdded        refused  refused   moves      refused   refused    refused        moves             refused
UpdateNotAdded     refused  refused   moves      refused   refused    refused        moves             refused
TaskNotDone        refused  refused   moves      refused   moves      moves          moves             refused
ValidationReturned refused  refused   refused    refused   moves      refused        refused           refused
DeadlinePassed     ignored  moves     moves      ignored   moves      ignored        ignored           ignored
Reported           refused  refused   refused    moves     refused    refused        refused           moves
NotReported        refused  refused   refused    moves     refused    refused        refused           moves
TermsChecked       refused  refused   refused    refused   refused    refused        refused           refused
KeysOffered        refused  refused   refused    refused   refused    moves          ignored           refused
KeysOverdue        ignored  ignored   ignored    ignored   ignored    moves          ignored           ignored
CommitteeKept      refused  refused   refused    refused   refused    refused        ignored           refused
UpdatesOverdue     ignored  ignored   ignored    ignored   ignored    ignored        moves             ignored
UploadOffered      late     late      late       late      late       late           moves             late
VectorArrived      moves    moves     moves      moves     moves      moves          moves             moves
BoxesAcknowledged  refused  refused   refused    refused   refused    refused        moves             refused
AcksOverdue        ignored  ignored   ignored    ignored   ignored    ignored        moves             ignored
MemberStayedAway   ignored  ignored   ignored    ignored   ignored    ignored        moves             ignored
ClientBarred       ignored  ignored   moves      ignored   moves      moves          moves             ignored
""")


def test_the_table_has_every_phase_and_every_event() -> None:
    assert set(TABLE) == pairs_of(Event, Work)


@pytest.mark.parametrize(("event", "phase"), TABLE)
def test_each_phase_answers_an_event_as_the_table_says(event: str, phase: str) -> None:
    state = a_combiner(PHASES[phase])
    if phase not in MASKED:
        assert outcome(step, state, FITTING[event]) == TABLE[event, phase]
        return
    there = {cell_world.id_of(client) for client in FIVE}
    there -= {
        one for one in there if event in {"ClientAttached", "MemberStayedAway"} and one == cell_world.id_of(MEMBER)
    }
    there -= {ABOUT} if event == "ClientStayedAway" else set()
    assert outcome(step, a_combiner(PHASES[phase], *there), FITTING_MASKED[event]) == TABLE[event, phase]


def test_checked_terms_begin_a_masked_cell_and_fetched_objects_a_plain_one() -> None:
    plain, masked = Preparing(an_order()), Preparing(cell_world.an_order(*FIVE))
    assert outcome(step, a_combiner(masked), TermsChecked(GENERATION, cell_world.the_terms())) == "moves"
    assert outcome(step, a_combiner(plain), TermsChecked(GENERATION, cell_world.the_terms())) == "refused"
    assert outcome(step, a_combiner(masked), ObjectsFetched(GENERATION)) == "refused"


def test_a_client_that_the_operator_has_revoked_is_out_of_a_plain_cell_and_of_a_validation_by_name() -> None:
    state, _ = step(a_combiner(collecting(), ANNA, BERT), ClientBarred(ANNA, "Revoked: no"))
    assert state.work == collecting(training=frozenset({BERT}), excluded=(Exclusion(ANNA, "Revoked: no"),))
    state, effects = step(a_combiner(validating(waiting=frozenset({ANNA}))), ClientBarred(ANNA, "Revoked: no"))
    assert ReportValidation(GENERATION, frozenset(), (Exclusion(ANNA, "Revoked: no"),)) in effects
    included = a_combiner(collecting(training=frozenset({BERT}), included=(OF_ANNA,)))
    assert step(included, ClientBarred(ANNA, "Revoked: no")) == (included, [])


GENERATIONS = st.sampled_from([Generation(0), OLDER, GENERATION, NEWER])
CLIENTS = st.sampled_from([ANNA, BERT, CARL, DORA])
CONTRIBUTIONS = st.builds(a_contribution, CLIENTS, st.integers(0, 3), st.sampled_from("ab"))
UPLOADS = st.sampled_from(["anna/a", "anna/b", "bert/a", "carl/a"])
ORDERS = st.one_of(
    st.builds(
        lambda clients, generation, wanted: an_order(clients, generation=generation, wanted=wanted),
        st.lists(CLIENTS, unique=True),
        GENERATIONS,
        st.integers(0, 4),
    ),
    st.builds(lambda c, g: a_validation(c, generation=g), st.lists(CLIENTS, unique=True), GENERATIONS),
)
EVENTS = st.one_of(
    st.builds(Ordered, ORDERS),
    st.builds(OrderCancelled, st.builds(CellCancelled, GENERATIONS, st.text())),
    st.builds(ObjectsFetched, GENERATIONS),
    st.builds(ObjectsNotFetched, GENERATIONS, st.text()),
    st.builds(ClientAttached, CLIENTS),
    st.builds(ClientDetached, CLIENTS),
    st.builds(ClientStayedAway, GENERATIONS, CLIENTS),
    st.builds(UpdateArrived, GENERATIONS, UPLOADS, CONTRIBUTIONS),
    st.builds(UpdateAdded, GENERATIONS, UPLOADS),
    st.builds(UpdateNotAdded, GENERATIONS, UPLOADS, st.text()),
    st.builds(TaskNotDone, GENERATIONS, CLIENTS, st.text()),
    st.builds(ValidationReturned, GENERATIONS, CLIENTS),
    st.builds(DeadlinePassed, GENERATIONS),
    st.builds(Reported, GENERATIONS),
    st.builds(NotReported, GENERATIONS, st.text()),
)


@given(st.lists(EVENTS, max_size=30), st.sampled_from(sorted(PHASES)))
def test_whatever_comes_is_answered_or_refused_and_the_list_holds_each_client_once(
    events: list[Event], phase: str
) -> None:
    state = a_combiner(PHASES[phase], ANNA)
    for event in events:
        try:
            after, effects = step(state, event)
        except UnexpectedEvent:
            continue
        assert isinstance(after, Combiner)
        for effect in effects:
            if isinstance(effect, StorePartialAggregate):
                listed = [contribution.client for contribution in effect.included]
                assert len(listed) == len(set(listed))
                assert not set(listed) & {exclusion.client for exclusion in effect.excluded}
        state = after
