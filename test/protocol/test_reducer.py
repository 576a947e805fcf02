"""A session at the reducer, rule by rule."""

from collections import Counter
from dataclasses import replace

import masked_attempts as masked
import pytest
from builders import (
    ANNA,
    BERT,
    CARL,
    DORA,
    GENERATION,
    MODEL_1,
    NORTH,
    NORTH_1,
    NORTH_2,
    OTHER_SESSION,
    SEED,
    SESSION,
    SOUTH,
    SOUTH_1,
    a_cell,
    a_contribution,
    a_partial,
    a_plan,
    a_reducer,
    a_report,
    a_roster,
    some_progress,
    some_terms,
)
from hypothesis import given
from hypothesis import strategies as st
from tables import by_name, outcome, pairs_of, read_table

from fedn_py.identity import ClientId, CombinerName, Generation, InstanceId
from fedn_py.protocol.drawing import draw
from fedn_py.protocol.machine import StartTimer, UnexpectedEvent
from fedn_py.protocol.masked.opening_work import KeyUnset
from fedn_py.protocol.masked_rounds import ANSWER_MARGIN_S, MOVING_S
from fedn_py.protocol.masked_rounds_work import AnswerDeadlinePassed, AttemptNotPlanned, MaskedEvent
from fedn_py.protocol.messages import (
    CellCancelled,
    CellOrder,
    Exclusion,
    PartialAggregate,
    RoundCommitted,
    ValidationOrder,
)
from fedn_py.protocol.plain_cells import excluded_of
from fedn_py.protocol.reducer import (
    BY_OPERATOR,
    LONGEST_RETRY_S,
    FewerRoundsThanDone,
    Result,
    first_generation,
    step,
)
from fedn_py.protocol.reducer_terms import (
    Cell,
    Cells,
    Joined,
    Progress,
    SessionLimits,
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
    ExtendAttempt,
    Failed,
    Gathering,
    GatherTimePassed,
    Idle,
    MovingTimePassed,
    OpenAttempt,
    PartialArrived,
    Paused,
    PauseRequested,
    RecordChange,
    RecordIntent,
    RecordLimits,
    RecordSession,
    RecordValidation,
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
    Updating,
    Validating,
    ValidationArrived,
    ValidationDeadlinePassed,
    Work,
)

NORTHS, SOUTHS = Generation(GENERATION + 1), Generation(GENERATION + 2)
OF_ANNA, OF_BERT, OF_CARL = (a_contribution(client) for client in (ANNA, BERT, CARL))
LATE = "Late: the combiner did not answer before the deadline"
LOST = "CombinerLost: the connection of its combiner ended"
NO_ANSWER = "Late: the combiner did not answer before the deadline"


def two_cells(**north: object) -> Cells:
    """Return cells of Anna and Bert in the north, of Carl in the south."""
    return {
        NORTH: a_cell(ANNA, BERT, generation=NORTHS, **north),  # type: ignore[arg-type]
        SOUTH: a_cell(CARL, generation=SOUTHS, instance=SOUTH_1),
    }


def updating(cells: Cells | None = None, **changed: object) -> Reducer:
    """Return a reducer whose two cells collect updates; the terms take what is given."""
    progress = some_progress(some_terms(**changed), generation=SOUTHS)
    return a_reducer(Updating(progress, a_plan(), cells or two_cells()), north=(ANNA, BERT), south=(CARL,))


def with_progress(state: Reducer, **changed: object) -> Reducer:
    """Return the state with its progress changed."""
    assert not isinstance(state.work, Idle)
    progress = replace(state.work.progress, **changed)  # type: ignore[arg-type]
    return replace(state, work=replace(state.work, progress=progress))


def committing(**changed: object) -> Reducer:
    """Return a reducer that commits the first round."""
    state = updating(**changed)
    assert isinstance(state.work, Updating)
    return replace(state, work=Committing(state.work.progress, state.work.plan, answered()))


def answered() -> Cells:
    """Return cells that have both answered."""
    south = a_cell(CARL, generation=SOUTHS, instance=SOUTH_1, partial=a_partial(OF_CARL, generation=SOUTHS))
    return {**two_cells(partial=a_partial(OF_ANNA, OF_BERT, generation=NORTHS)), SOUTH: south}


def validating() -> Reducer:
    """Return a reducer that waits for the validation of the first round."""
    progress = some_progress(committed=1, head=MODEL_1, generation=SOUTHS)
    orders = {NORTH: to_validate(NORTHS, ANNA, BERT), SOUTH: to_validate(SOUTHS, CARL)}
    return a_reducer(Validating(progress, orders), north=(ANNA, BERT), south=(CARL,))


def to_validate(generation: int, *clients: ClientId) -> ValidationOrder:
    """Return the order to validate the first round's model."""
    terms = some_terms()
    return ValidationOrder(
        Generation(generation), SESSION, 1, MODEL_1, terms.package, "{}", terms.validation_timeout_s, clients
    )


def from_north(partial: PartialAggregate, instance: object = NORTH_1) -> PartialArrived:
    """Return an answer of the northern combiner."""
    return PartialArrived(NORTH, instance, partial)  # type: ignore[arg-type]


def of_type(effects: list[Effect], kind: type) -> list[Effect]:
    """Return the effects of one type."""
    return [effect for effect in effects if isinstance(effect, kind)]


NORTH_PARTIAL = a_partial(OF_ANNA, OF_BERT, generation=NORTHS)
SOUTH_PARTIAL = a_partial(OF_CARL, generation=SOUTHS)
DEADLINE = UpdateDeadlinePassed(SESSION, 1, 1)
MOVING_OVER = MovingTimePassed(SESSION, 1, 1)
RESENT = Generation(SOUTHS + 1)


def resent_cells() -> Cells:
    """Return cells of which the northern one is lost, and whose clients the southern combiner asks again."""
    south = answered()[SOUTH]
    again = a_cell(ANNA, BERT, generation=RESENT, instance=SOUTH_1, earlier=south)
    return {NORTH: two_cells(lost=LOST)[NORTH], SOUTH: again}


def asked_again() -> Reducer:
    """Return a reducer whose southern combiner asks the clients of the lost northern one again."""
    progress = some_progress(generation=RESENT)
    return a_reducer(Updating(progress, a_plan(), resent_cells()), south=(ANNA, BERT, CARL))


# ---- gathering


def test_a_session_begins_its_first_round_when_the_wanted_clients_are_there() -> None:
    terms = some_terms(clients_wanted=3, clients_required=2)
    started = SessionStarted(some_progress(terms))
    state, effects = step(a_reducer(Idle(), north=(ANNA, BERT), south=(CARL,)), started)
    assert state.work == Updating(some_progress(terms, generation=SOUTHS, drawn=3), a_plan(), two_cells())
    assert effects == [
        OpenAttempt(a_plan(), two_cells(), SOUTHS),
        SendOrder(NORTH, NORTH_1, CellOrder(a_plan(), NORTHS, (ANNA, BERT), 2)),
        SendOrder(SOUTH, SOUTH_1, CellOrder(a_plan(), SOUTHS, (CARL,), 1)),
        StartTimer(terms.update_timeout_s + ANSWER_MARGIN_S, DEADLINE),
    ]


def test_an_attempt_is_written_down_before_anybody_hears_of_it() -> None:
    _, effects = step(a_reducer(Idle(), north=(ANNA,)), SessionStarted(some_progress()))
    assert [type(effect) for effect in effects[:2]] == [OpenAttempt, SendOrder]


def test_too_few_clients_are_waited_for_without_a_limit() -> None:
    terms = some_terms(clients_required=2)
    state, effects = step(a_reducer(Idle(), north=(ANNA,)), SessionStarted(some_progress(terms)))
    assert state.work == Gathering(some_progress(terms), "need 2 clients, have 1")
    assert effects == [TellWaiting(SESSION, 1, "need 2 clients, have 1")]


def test_wanted_clients_are_waited_for_a_while_once_the_required_ones_are_there() -> None:
    terms = some_terms(clients_wanted=3, clients_required=1, gather_timeout_s=9.0)
    state, effects = step(a_reducer(Idle(), north=(ANNA,)), SessionStarted(some_progress(terms)))
    assert effects == [
        TellWaiting(SESSION, 1, "waiting up to 9 s for 3 clients, have 1"),
        StartTimer(9.0, GatherTimePassed(SESSION, 1, 1)),
    ]
    state, _ = step(state, GatherTimePassed(SESSION, 1, 1))
    assert isinstance(state.work, Updating)


def test_after_that_while_the_required_clients_will_do() -> None:
    terms = some_terms(clients_wanted=3, clients_required=2)
    waiting = Gathering(some_progress(terms), "need 2 clients, have 1")
    state, effects = step(a_reducer(waiting, north=(ANNA,)), GatherTimePassed(SESSION, 1, 1))
    assert (state.work, effects) == (replace(waiting, patient=False), [])
    state, _ = step(state, ClientsChanged(NORTH, NORTH_1, frozenset({ANNA, BERT})))
    assert isinstance(state.work, Updating)


def test_a_client_is_where_it_attached_last() -> None:
    """A combiner that has just died still lists it, until its time to come back is over."""
    state = a_reducer(Idle(), north=(), south=())
    state, _ = step(state, ClientsChanged(SOUTH, SOUTH_1, frozenset({ANNA, BERT})))
    state, _ = step(state, ClientsChanged(NORTH, NORTH_1, frozenset({ANNA})))
    assert places(state.roster) == {ANNA: NORTH, BERT: SOUTH}
    # What the other one says again of somebody who has left it makes nobody move; what it no longer says does.
    state, _ = step(state, ClientsChanged(SOUTH, SOUTH_1, frozenset({ANNA, BERT, CARL})))
    assert places(state.roster) == {ANNA: NORTH, BERT: SOUTH, CARL: SOUTH}
    state, _ = step(state, ClientsChanged(NORTH, NORTH_1, frozenset()))
    assert places(state.roster)[ANNA] == SOUTH
    state, _ = step(state, ClientsChanged(SOUTH, SOUTH_1, frozenset({BERT, CARL})))
    assert ANNA not in places(state.roster)


def test_what_is_waited_for_is_told_once() -> None:
    terms = some_terms(clients_required=2)
    state = a_reducer(Gathering(some_progress(terms), "need 2 clients, have 1"), north=(ANNA,))
    assert step(state, ClientsChanged(NORTH, NORTH_1, frozenset({BERT})))[1] == []


def test_a_combiner_that_is_lost_while_clients_gather_changes_what_is_waited_for() -> None:
    terms = some_terms(clients_required=3)
    state = a_reducer(Gathering(some_progress(terms), "need 3 clients, have 2"), north=(ANNA,), south=(CARL,))
    _, effects = step(state, CombinerLost(SOUTH, SOUTH_1))
    assert effects == [TellWaiting(SESSION, 1, "need 3 clients, have 1")]


def test_no_more_clients_are_drawn_than_wanted_and_each_is_in_one_cell() -> None:
    terms = some_terms(clients_wanted=2)
    both_list_anna = {"north": (ANNA, BERT, DORA), "south": (ANNA, CARL)}
    state, _ = step(a_reducer(Idle(), **both_list_anna), SessionStarted(some_progress(terms)))
    assert isinstance(state.work, Updating)
    drawn = [client for cell in state.work.cells.values() for client in cell.clients]
    assert len(drawn) == len(set(drawn)) == 2


def test_the_draw_is_the_same_for_everybody_and_fair_over_rounds() -> None:
    assert draw([CARL, ANNA, BERT], 2, "t") == draw([ANNA, BERT, CARL], 2, "t")
    assert draw([ANNA, BERT], 0, "t") == {ANNA, BERT}
    drawn = Counter(client for ticket in range(300) for client in draw([ANNA, BERT, CARL], 1, f"{ticket}"))
    assert min(drawn.values()) > 60


def test_every_order_has_a_generation_of_its_own() -> None:
    state, effects = step(a_reducer(Idle(), north=(ANNA,), south=(CARL,)), SessionStarted(some_progress()))
    state, more = step(state, DEADLINE)
    state, again = step(state, RetryDue(SESSION, 1, 2))
    orders = [effect.order for effect in effects + more + again if isinstance(effect, SendOrder)]
    assert [order.generation for order in orders] == list(range(GENERATION + 1, GENERATION + 5))


def test_a_session_s_generations_are_above_all_of_the_session_before() -> None:
    assert first_generation(2) - first_generation(1) > 1_000_000_000


def test_a_paused_session_that_is_found_again_rests() -> None:
    state, effects = step(a_reducer(Idle(), north=(ANNA,)), SessionStarted(some_progress(), paused=BY_OPERATOR))
    assert (state.work, effects) == (Paused(some_progress(), BY_OPERATOR), [])


def test_a_session_that_had_all_its_rounds_is_finished() -> None:
    state, effects = step(a_reducer(Idle(), north=(ANNA,)), SessionStarted(some_progress(committed=2)))
    assert (state.work, effects) == (Idle(), [RecordSession(SESSION, "finished", "")])


# ---- answers


def test_a_round_is_committed_when_every_cell_has_answered() -> None:
    state, effects = step(updating(), from_north(NORTH_PARTIAL))
    assert effects == []
    state, effects = step(state, PartialArrived(SOUTH, SOUTH_1, SOUTH_PARTIAL))
    assert state.work == Committing(some_progress(generation=SOUTHS), a_plan(), answered())
    assert effects == [CommitRound(a_plan(), answered())]


def test_a_second_answer_of_a_cell_is_refused() -> None:
    state, _ = step(updating(), from_north(NORTH_PARTIAL))
    with pytest.raises(UnexpectedEvent):
        step(state, from_north(NORTH_PARTIAL))


@pytest.mark.parametrize("generation", [GENERATION, SOUTHS, SOUTHS + 1])
def test_an_answer_to_another_generation_is_refused(generation: int) -> None:
    with pytest.raises(UnexpectedEvent):
        step(updating(), from_north(a_partial(OF_ANNA, generation=generation)))


def test_an_answer_of_another_life_of_a_combiner_is_refused() -> None:
    with pytest.raises(UnexpectedEvent):
        step(updating(), from_north(NORTH_PARTIAL, NORTH_2))


def test_the_answer_of_a_lost_cell_comes_too_late() -> None:
    state, _ = step(updating(), CombinerLost(NORTH, NORTH_1))
    with pytest.raises(UnexpectedEvent):
        step(state, from_north(NORTH_PARTIAL))


@pytest.mark.parametrize(
    ("unfit", "fault"),
    [
        (a_partial(OF_ANNA, OF_ANNA, generation=NORTHS), "ClientTwice"),
        (a_partial(OF_ANNA, OF_CARL, generation=NORTHS), "NotAssigned"),
        (a_partial(OF_ANNA, a_contribution(BERT, 0), generation=NORTHS), "NoSamples"),
        (a_partial(OF_ANNA, generation=NORTHS, weight=11), "WrongWeight"),
        (a_partial(OF_ANNA, generation=NORTHS, sum_object=None), "NoSum"),
        (a_partial(generation=NORTHS, sum_object=SEED), "NoSum"),
        (a_partial(OF_ANNA, generation=NORTHS, sum_object=a_plan().base_model), "NotASum"),
        (a_partial(OF_ANNA, generation=NORTHS, sum_object=a_plan().package), "NotASum"),
    ],
)
def test_an_unfit_partial_is_refused_by_name_and_loses_its_cell(unfit: PartialAggregate, fault: str) -> None:
    state, effects = step(updating(), from_north(unfit))
    assert isinstance(state.work, Updating)
    assert state.work.cells[NORTH].partial is None
    assert state.work.cells[NORTH].lost.startswith(f"{fault}: ")
    assert effects == [TellRefused(NORTH, state.work.cells[NORTH].lost)]


def test_a_partial_of_nobody_is_an_answer() -> None:
    state, _ = step(updating(), from_north(a_partial(generation=NORTHS)))
    state, effects = step(state, PartialArrived(SOUTH, SOUTH_1, SOUTH_PARTIAL))
    assert isinstance(effects[0], CommitRound)


def test_fewer_updates_than_required_fail_the_attempt_which_is_tried_again() -> None:
    nobody = a_partial(excluded=(Exclusion(CARL, "exit status 1"),), generation=SOUTHS)
    state, _ = step(updating(clients_required=3, retry_delay_s=2.0), from_north(NORTH_PARTIAL))
    state, effects = step(state, PartialArrived(SOUTH, SOUTH_1, nobody))
    reason = "TooFewUpdates: 2 of 3 required updates came; 1 left out, the first for: exit status 1"
    progress = some_progress(some_terms(clients_required=3, retry_delay_s=2.0), generation=SOUTHS, attempt=2)
    assert state.work == Failed(progress, reason)
    assert effects == [
        CloseFailedAttempt(a_plan(), reason, (Exclusion(CARL, "exit status 1"),)),
        StartTimer(2.0, RetryDue(SESSION, 1, 2)),
    ]


def test_a_round_without_any_update_fails_even_if_none_is_required() -> None:
    state = updating({NORTH: a_cell(ANNA, generation=NORTHS)}, clients_required=0)
    state, _ = step(state, from_north(a_partial(generation=NORTHS)))
    assert isinstance(state.work, Failed)


def test_a_cell_that_gives_up_is_lost_with_its_reason() -> None:
    state, _ = step(updating(), CellGaveUp(NORTH, NORTH_1, NORTHS, "the store is full"))
    state, effects = step(state, PartialArrived(SOUTH, SOUTH_1, SOUTH_PARTIAL))
    assert isinstance(effects[0], CommitRound)
    assert effects[0].cells[NORTH].lost == "the store is full"


def test_a_cell_that_gives_up_without_a_reason_is_lost_all_the_same() -> None:
    state, _ = step(updating(), CellGaveUp(NORTH, NORTH_1, NORTHS, ""))
    assert isinstance(state.work, Updating)
    assert state.work.cells[NORTH].ended


@pytest.mark.parametrize(
    "stale",
    [CellGaveUp(NORTH, NORTH_2, NORTHS, ""), CellGaveUp(NORTH, NORTH_1, GENERATION, "")],
)
def test_giving_up_another_order_is_refused(stale: CellGaveUp) -> None:
    with pytest.raises(UnexpectedEvent):
        step(updating(), stale)


# ---- combiners come and go


def test_the_round_goes_on_without_a_lost_combiner_whose_clients_do_not_turn_up_elsewhere() -> None:
    state, effects = step(updating(), CombinerLost(NORTH, NORTH_1))
    assert effects == [StartTimer(MOVING_S, MOVING_OVER)]
    assert state.roster == a_roster(south=(CARL,))
    state, effects = step(state, PartialArrived(SOUTH, SOUTH_1, SOUTH_PARTIAL))
    assert (effects, isinstance(state.work, Updating)) == ([], True)
    _, effects = step(state, MOVING_OVER)
    assert effects == [CommitRound(a_plan(), {**answered(), NORTH: two_cells(lost=LOST)[NORTH]})]


def test_the_clients_of_a_lost_combiner_are_asked_again_where_they_are_now_in_the_same_attempt() -> None:
    state, _ = step(updating(), CombinerLost(NORTH, NORTH_1))
    state, effects = step(state, ClientsChanged(SOUTH, SOUTH_1, frozenset({ANNA, BERT, CARL, DORA})))
    assert effects == []  # the combiner is busy with its own
    state, effects = step(state, PartialArrived(SOUTH, SOUTH_1, SOUTH_PARTIAL))
    cells = resent_cells()
    assert effects == [
        ExtendAttempt(a_plan(), cells, RESENT),
        SendOrder(SOUTH, SOUTH_1, CellOrder(a_plan(), RESENT, (ANNA, BERT), 2)),
    ]
    answer = a_partial(OF_ANNA, OF_BERT, generation=RESENT)
    state, effects = step(state, PartialArrived(SOUTH, SOUTH_1, answer))
    commit = CommitRound(a_plan(), {**cells, SOUTH: replace(cells[SOUTH], partial=answer)})
    assert effects == [commit]
    _check_commit(commit)
    assert excluded_of(commit.cells) == ()


def test_who_is_asked_again_at_once_where_its_combiner_has_answered_already() -> None:
    state, _ = step(updating(), PartialArrived(SOUTH, SOUTH_1, SOUTH_PARTIAL))
    state, _ = step(state, CombinerLost(NORTH, NORTH_1))
    state, effects = step(state, ClientsChanged(SOUTH, SOUTH_1, frozenset({BERT, CARL})))
    assert of_type(effects, SendOrder) == [SendOrder(SOUTH, SOUTH_1, CellOrder(a_plan(), RESENT, (BERT,), 1))]
    assert isinstance(state.work, Updating)
    assert state.work.progress.generation == RESENT


def test_another_life_of_a_lost_combiner_asks_its_own_clients_again() -> None:
    state, _ = step(updating(), CombinerJoined(NORTH, NORTH_2))
    _, effects = step(state, ClientsChanged(NORTH, NORTH_2, frozenset({ANNA, BERT})))
    assert of_type(effects, SendOrder) == [SendOrder(NORTH, NORTH_2, CellOrder(a_plan(), RESENT, (ANNA, BERT), 2))]


def test_nobody_is_asked_again_whose_combiner_is_not_lost_or_who_was_counted() -> None:
    state, _ = step(updating(), PartialArrived(SOUTH, SOUTH_1, SOUTH_PARTIAL))
    state, effects = step(state, ClientsChanged(SOUTH, SOUTH_1, frozenset({ANNA, CARL})))
    assert effects == []  # Anna has moved, but her first cell may yet answer with her in it
    state, _ = step(state, CombinerJoined(SOUTH, InstanceId("south-2")))
    _, effects = step(state, ClientsChanged(SOUTH, InstanceId("south-2"), frozenset({CARL})))
    assert effects == []  # Carl is in an answer


def test_who_was_asked_again_and_lost_again_is_asked_once_more_and_counted_once() -> None:
    state, _ = step(asked_again(), CombinerJoined(NORTH, NORTH_2))
    state, _ = step(state, ClientsChanged(NORTH, NORTH_2, frozenset({ANNA, BERT})))
    state, effects = step(state, CombinerLost(SOUTH, SOUTH_1))
    (sent,) = of_type(effects, SendOrder)
    assert isinstance(sent, SendOrder)
    assert (sent.combiner, sent.order.generation, sent.order.clients) == (NORTH, RESENT + 1, (ANNA, BERT))
    for late in (from_north(NORTH_PARTIAL), PartialArrived(SOUTH, SOUTH_1, a_partial(OF_ANNA, generation=RESENT))):
        with pytest.raises(UnexpectedEvent):
            step(state, late)
    answer = a_partial(OF_ANNA, OF_BERT, generation=RESENT + 1)
    _, effects = step(state, from_north(answer, NORTH_2))
    (commit,) = effects
    assert isinstance(commit, CommitRound)
    _check_commit(commit)


def test_the_deadline_of_the_attempt_ends_its_further_cells_too() -> None:
    _, effects = step(asked_again(), DEADLINE)
    assert effects[0] == SendCancel(SOUTH, SOUTH_1, CellCancelled(RESENT, "the deadline has passed"))
    commit = effects[1]
    assert isinstance(commit, CommitRound)
    assert excluded_of(commit.cells) == (Exclusion(ANNA, LATE), Exclusion(BERT, LATE))


def test_two_losses_are_waited_for_one_by_one() -> None:
    state, _ = step(updating(), CombinerLost(NORTH, NORTH_1))
    state, _ = step(state, CombinerLost(SOUTH, SOUTH_1))
    state, effects = step(state, MOVING_OVER)
    assert (isinstance(state.work, Updating), effects) == (True, [])
    state, _ = step(state, MOVING_OVER)
    assert isinstance(state.work, Failed)


def test_a_partial_that_is_in_outlives_its_combiner() -> None:
    state, _ = step(updating(), from_north(NORTH_PARTIAL))
    state, _ = step(state, CombinerLost(NORTH, NORTH_1))
    _, effects = step(state, PartialArrived(SOUTH, SOUTH_1, SOUTH_PARTIAL))
    assert effects == [CommitRound(a_plan(), answered())]


def test_the_loss_of_the_last_open_cell_ends_the_attempt() -> None:
    state, _ = step(updating(clients_required=2), from_north(a_partial(OF_ANNA, generation=NORTHS)))
    state, _ = step(state, CombinerLost(SOUTH, SOUTH_1))
    state, effects = step(state, MOVING_OVER)
    assert isinstance(state.work, Failed)
    assert CloseFailedAttempt(a_plan(), state.work.reason, (Exclusion(CARL, LOST),)) in effects


def test_another_life_of_a_combiner_loses_the_cell_of_the_one_before() -> None:
    state, _ = step(updating(), CombinerJoined(NORTH, NORTH_2))
    assert isinstance(state.work, Updating)
    assert state.work.cells[NORTH].lost == LOST
    assert state.roster[NORTH] == Joined(NORTH_2)


def test_a_combiner_that_comes_back_on_a_new_stream_gets_its_open_order_again() -> None:
    state, effects = step(updating(), CombinerJoined(NORTH, NORTH_1))
    assert state == updating()
    assert effects == [SendOrder(NORTH, NORTH_1, CellOrder(a_plan(), NORTHS, (ANNA, BERT), 2))]


def test_a_combiner_that_has_answered_gets_no_order_when_it_comes_back() -> None:
    state, _ = step(updating(), from_north(NORTH_PARTIAL))
    assert step(state, CombinerJoined(NORTH, NORTH_1)) == (state, [])


def test_a_combiner_without_a_cell_gets_no_order_when_it_comes_back() -> None:
    state = updating({NORTH: two_cells()[NORTH]})
    assert step(state, CombinerJoined(SOUTH, SOUTH_1)) == (state, [])


@pytest.mark.parametrize("lost", [CombinerLost(NORTH, NORTH_2), CombinerLost("west", NORTH_1)])  # type: ignore[arg-type]
def test_the_loss_of_another_life_is_refused(lost: CombinerLost) -> None:
    with pytest.raises(UnexpectedEvent):
        step(updating(), lost)


def test_clients_of_another_life_of_a_combiner_are_refused() -> None:
    with pytest.raises(UnexpectedEvent):
        step(updating(), ClientsChanged(NORTH, NORTH_2, frozenset()))


# ---- deadlines and retries


def test_the_deadline_ends_an_attempt_with_the_cells_that_answered() -> None:
    state, _ = step(updating(), from_north(NORTH_PARTIAL))
    state, effects = step(state, DEADLINE)
    assert isinstance(state.work, Committing)
    assert state.work.cells[SOUTH].lost == LATE
    assert effects == [
        SendCancel(SOUTH, SOUTH_1, CellCancelled(SOUTHS, "the deadline has passed")),
        CommitRound(a_plan(), state.work.cells),
    ]


def test_the_deadline_fails_an_attempt_without_enough_updates() -> None:
    state, effects = step(updating(clients_required=2), DEADLINE)
    assert isinstance(state.work, Failed)
    assert len(of_type(effects, SendCancel)) == 2
    excluded = (Exclusion(ANNA, LATE), Exclusion(BERT, LATE), Exclusion(CARL, LATE))
    reason = f"TooFewUpdates: 0 of 2 required updates came; 3 left out, the first for: {NO_ANSWER}"
    assert CloseFailedAttempt(a_plan(), reason, excluded) in effects


@pytest.mark.parametrize(
    "stale",
    [
        UpdateDeadlinePassed(SESSION, 1, 2),
        UpdateDeadlinePassed(SESSION, 2, 1),
        UpdateDeadlinePassed(OTHER_SESSION, 1, 1),
        GatherTimePassed(SESSION, 1, 1),
        RetryDue(SESSION, 1, 1),
        ValidationDeadlinePassed(SESSION, 0),
    ],
)
def test_a_timer_of_something_else_changes_nothing(stale: Event) -> None:
    assert step(updating(), stale) == (updating(), [])


@pytest.mark.parametrize(
    ("attempt", "delay_s"), [(1, 2.0), (2, 4.0), (3, 8.0), (7, LONGEST_RETRY_S), (500, LONGEST_RETRY_S)]
)
def test_each_further_attempt_waits_twice_as_long_up_to_a_minute(attempt: int, delay_s: float) -> None:
    state = with_progress(updating(max_attempts=0, retry_delay_s=2.0), attempt=attempt)
    assert isinstance(state.work, Updating)
    state = replace(state, work=replace(state.work, plan=a_plan(attempt=attempt)))
    _, effects = step(state, UpdateDeadlinePassed(SESSION, 1, attempt))
    assert effects[-1] == StartTimer(delay_s, RetryDue(SESSION, 1, attempt + 1))


def test_a_retry_is_the_next_attempt_at_the_same_round_from_the_same_model() -> None:
    state, _ = step(updating(), DEADLINE)
    state, effects = step(state, RetryDue(SESSION, 1, 2))
    assert isinstance(state.work, Updating)
    assert state.work.plan == a_plan(attempt=2)
    assert len(of_type(effects, SendOrder)) == 2


def test_after_its_last_attempt_the_session_is_paused_with_the_reason() -> None:
    state = with_progress(updating(max_attempts=3), attempt=3)
    assert isinstance(state.work, Updating)
    state = replace(state, work=replace(state.work, plan=a_plan(attempt=3)))
    state, effects = step(state, UpdateDeadlinePassed(SESSION, 1, 3))
    few = f"TooFewUpdates: 0 of 1 required updates came; 3 left out, the first for: {NO_ANSWER}"
    why = f"round 1 failed 3 times, at last with: {few}"
    assert isinstance(state.work, Paused)
    assert (state.work.reason, state.work.progress.attempt) == (why, 4)
    assert effects[-1] == RecordSession(SESSION, "paused", why)


def test_a_session_that_was_paused_after_its_last_attempt_has_as_many_again_when_resumed() -> None:
    paused = Paused(some_progress(some_terms(max_attempts=3), attempt=4), "round 1 failed 3 times")
    state, _ = step(a_reducer(paused, north=(ANNA,)), ResumeRequested(SESSION))
    for attempt in (4, 5):
        state, _ = step(state, UpdateDeadlinePassed(SESSION, 1, attempt))
        assert isinstance(state.work, Failed)
        state, _ = step(state, RetryDue(SESSION, 1, attempt + 1))
    state, _ = step(state, UpdateDeadlinePassed(SESSION, 1, 6))
    assert isinstance(state.work, Paused)


# ---- the commit and after it


def test_a_saved_round_is_told_to_everybody_and_validated() -> None:
    state, effects = step(committing(), RoundSaved(SESSION, 1, 1, MODEL_1))
    north, south = Generation(SOUTHS + 1), Generation(SOUTHS + 2)
    progress = some_progress(committed=1, head=MODEL_1, generation=south)
    waiting = {NORTH: to_validate(north, ANNA, BERT), SOUTH: to_validate(south, CARL)}
    assert state.work == Validating(progress, waiting)
    assert effects[0] == TellCommitted(RoundCommitted(SESSION, 1, MODEL_1))
    orders = [effect.order for effect in effects if isinstance(effect, SendOrder)]
    assert [(order.generation, order.clients) for order in orders] == [(north, (ANNA, BERT)), (south, (CARL,))]
    assert all(isinstance(order, ValidationOrder) and order.model == MODEL_1 for order in orders)
    timeout_s = progress.terms.validation_timeout_s + ANSWER_MARGIN_S
    assert effects[-1] == StartTimer(timeout_s, ValidationDeadlinePassed(SESSION, 1))


def test_the_next_round_trains_from_the_model_of_the_one_before() -> None:
    state, effects = step(committing(validate=False), RoundSaved(SESSION, 1, 1, MODEL_1))
    assert isinstance(state.work, Updating)
    assert state.work.plan == a_plan(round_number=2, base_model=MODEL_1)
    assert isinstance(effects[1], OpenAttempt)


def test_a_session_ends_after_its_last_round() -> None:
    state, effects = step(committing(validate=False, rounds=1), RoundSaved(SESSION, 1, 1, MODEL_1))
    assert state.work == Idle()
    assert effects[-1] == RecordSession(SESSION, "finished", "")


def test_partials_that_make_no_model_fail_the_attempt() -> None:
    state, effects = step(committing(), RoundNotSaved(SESSION, 1, 1, "NotFinite: the mean overflows"))
    assert isinstance(state.work, Failed)
    assert effects[0] == CloseFailedAttempt(a_plan(), "NotFinite: the mean overflows", ())


@pytest.mark.parametrize(
    "stale",
    [
        RoundSaved(SESSION, 1, 2, MODEL_1),
        RoundSaved(SESSION, 2, 1, MODEL_1),
        RoundSaved(OTHER_SESSION, 1, 1, MODEL_1),
        RoundNotSaved(SESSION, 1, 2, ""),
    ],
)
def test_the_outcome_of_another_commit_is_refused(stale: Event) -> None:
    with pytest.raises(UnexpectedEvent):
        step(committing(), stale)


def test_a_validation_ends_when_every_combiner_has_reported() -> None:
    state, effects = step(validating(), ValidationArrived(NORTH, NORTH_1, a_report(NORTHS)))
    assert effects == []
    state, effects = step(state, ValidationArrived(SOUTH, SOUTH_1, a_report(SOUTHS)))
    assert effects[0] == RecordValidation(SESSION, 1, (a_report(NORTHS), a_report(SOUTHS)), ())
    assert isinstance(state.work, Updating)


def test_a_validation_ends_at_its_deadline_and_names_who_is_missing() -> None:
    state, _ = step(validating(), ValidationArrived(SOUTH, SOUTH_1, a_report(SOUTHS)))
    _, effects = step(state, ValidationDeadlinePassed(SESSION, 1))
    assert effects[0] == RecordValidation(SESSION, 1, (a_report(SOUTHS),), (NORTH,))


def test_a_combiner_that_is_lost_or_gives_up_is_not_waited_for_in_validation() -> None:
    state, _ = step(validating(), CombinerLost(NORTH, NORTH_1))
    _, effects = step(state, CellGaveUp(SOUTH, SOUTH_1, SOUTHS, "the store is away"))
    assert effects[0] == RecordValidation(SESSION, 1, (), ())


def test_a_second_report_or_one_of_another_generation_is_refused() -> None:
    state, _ = step(validating(), ValidationArrived(NORTH, NORTH_1, a_report(NORTHS)))
    for report in (a_report(NORTHS), a_report(GENERATION)):
        with pytest.raises(UnexpectedEvent):
            step(state, ValidationArrived(NORTH, NORTH_1, report))


# ---- the operator


def test_a_pause_waits_for_the_running_round_and_is_written_down() -> None:
    state, effects = step(validating(), PauseRequested(SESSION))
    assert effects == [RecordIntent(SESSION, "pause")]
    state, effects = step(state, ValidationDeadlinePassed(SESSION, 1))
    assert isinstance(state.work, Paused)
    assert effects[-1] == RecordSession(SESSION, "paused", BY_OPERATOR)


def test_a_pause_comes_at_once_where_no_round_runs() -> None:
    for work in (Gathering(some_progress(), ""), Failed(some_progress(), "")):
        state, effects = step(a_reducer(work), PauseRequested(SESSION))
        assert state.work == Paused(some_progress(), BY_OPERATOR)
        assert effects == [RecordSession(SESSION, "paused", BY_OPERATOR)]


def test_an_attempt_that_fails_under_a_pause_is_not_tried_again_before_it_is_resumed() -> None:
    state, _ = step(updating(), PauseRequested(SESSION))
    state, _ = step(state, DEADLINE)
    assert isinstance(state.work, Paused)
    state, effects = step(state, ResumeRequested(SESSION))
    assert effects[0] == RecordSession(SESSION, "running", "")
    assert isinstance(state.work, Updating)
    assert state.work.plan.attempt == 2


def test_a_pause_that_has_not_come_yet_is_taken_back() -> None:
    state, _ = step(updating(), PauseRequested(SESSION))
    state, effects = step(state, ResumeRequested(SESSION))
    assert (state, effects) == (updating(), [RecordIntent(SESSION, "run")])


def test_a_stop_drops_the_attempt_that_collects() -> None:
    state, effects = step(updating(), StopRequested(SESSION))
    assert state.work == Idle()
    why = "the session was stopped"
    assert effects[:2] == [
        SendCancel(NORTH, NORTH_1, CellCancelled(NORTHS, why)),
        SendCancel(SOUTH, SOUTH_1, CellCancelled(SOUTHS, why)),
    ]
    assert isinstance(effects[2], CloseFailedAttempt)
    assert effects[3] == RecordSession(SESSION, "stopped", BY_OPERATOR)


def test_a_stop_lets_a_round_that_is_being_committed_become_a_model() -> None:
    state, effects = step(committing(validate=False), StopRequested(SESSION))
    assert effects == [RecordIntent(SESSION, "stop")]
    state, effects = step(state, RoundSaved(SESSION, 1, 1, MODEL_1))
    assert state.work == Idle()
    assert effects == [
        TellCommitted(RoundCommitted(SESSION, 1, MODEL_1)),
        RecordSession(SESSION, "stopped", BY_OPERATOR),
    ]


def test_a_stop_is_not_taken_back() -> None:
    state, _ = step(committing(), StopRequested(SESSION))
    for wish in (PauseRequested(SESSION), ResumeRequested(SESSION)):
        with pytest.raises(UnexpectedEvent):
            step(state, wish)


@pytest.mark.parametrize("wish", [PauseRequested, ResumeRequested, StopRequested])
def test_a_wish_for_another_session_is_refused(wish: type) -> None:
    with pytest.raises(UnexpectedEvent):
        step(updating(), wish(OTHER_SESSION))


AFTER_ROUND = StopRequested(SESSION, after_round=True)


def test_a_stop_after_the_round_lets_the_round_under_way_make_its_model_and_be_validated() -> None:
    state, effects = step(updating(), AFTER_ROUND)
    assert effects == [RecordIntent(SESSION, "end")]
    for answer in (from_north(NORTH_PARTIAL), PartialArrived(SOUTH, SOUTH_1, SOUTH_PARTIAL)):
        state, _ = step(state, answer)
    state, _ = step(state, RoundSaved(SESSION, 1, 1, MODEL_1))
    assert isinstance(state.work, Validating)
    state, effects = step(state, ValidationDeadlinePassed(SESSION, 1))
    assert (state.work, effects[-1]) == (Idle(), RecordSession(SESSION, "stopped", BY_OPERATOR))


def test_an_attempt_that_fails_under_a_stop_after_the_round_is_not_tried_again() -> None:
    state, _ = step(updating(), AFTER_ROUND)
    state, effects = step(state, DEADLINE)
    assert (state.work, effects[-1]) == (Idle(), RecordSession(SESSION, "stopped", BY_OPERATOR))


def test_a_stop_after_the_round_comes_at_once_where_no_round_runs() -> None:
    for work in (Gathering(some_progress(), ""), Failed(some_progress(), ""), Paused(some_progress(), "")):
        state, effects = step(a_reducer(work), AFTER_ROUND)
        assert (state.work, effects) == (Idle(), [RecordSession(SESSION, "stopped", BY_OPERATOR)])


def test_a_session_that_was_to_stop_after_its_last_round_has_finished() -> None:
    state, _ = step(committing(rounds=1, validate=False), AFTER_ROUND)
    _, effects = step(state, RoundSaved(SESSION, 1, 1, MODEL_1))
    assert effects[-1] == RecordSession(SESSION, "finished", "")


def test_a_stop_after_the_round_is_not_taken_back_but_by_a_stop_at_once() -> None:
    state, _ = step(updating(), AFTER_ROUND)
    for wish in (PauseRequested(SESSION), ResumeRequested(SESSION)):
        with pytest.raises(UnexpectedEvent):
            step(state, wish)
    state, effects = step(state, StopRequested(SESSION))
    assert (state.work, effects[-1]) == (Idle(), RecordSession(SESSION, "stopped", BY_OPERATOR))


def test_a_stop_at_once_is_not_put_off_by_one_after_the_round() -> None:
    ending, _ = step(committing(), StopRequested(SESSION))
    assert step(ending, AFTER_ROUND) == (ending, [])


def test_a_stop_after_the_round_takes_the_place_of_a_pause() -> None:
    state, _ = step(updating(), PauseRequested(SESSION))
    _, effects = step(state, AFTER_ROUND)
    assert effects == [RecordIntent(SESSION, "end")]


def test_a_found_attempt_goes_on_where_the_session_is_to_stop_after_it() -> None:
    found = Updating(some_progress(generation=SOUTHS, intent="end"), a_plan(), two_cells())
    state, _ = step(Reducer(), SessionStarted(found.progress, found=found))
    assert isinstance(state.work, Updating)
    state, effects = step(state, DEADLINE)
    assert (state.work, effects[-1]) == (Idle(), RecordSession(SESSION, "stopped", BY_OPERATOR))


# ---- other limits


def other_limits(**changed: object) -> SessionLimits:
    """Return the limits of a small session, with what is given changed."""
    return replace(limits_of(some_terms()), **changed)  # type: ignore[arg-type]


def change(**changed: object) -> ChangeRequested:
    """Return the wish for these limits."""
    return ChangeRequested(SESSION, other_limits(**changed))


def test_an_attempt_under_way_keeps_the_limits_it_began_with() -> None:
    state, effects = step(updating(), change(clients_required=3))
    assert effects == [RecordChange(SESSION, other_limits(), other_limits(clients_required=3))]
    state, _ = step(state, from_north(NORTH_PARTIAL))
    state, effects = step(state, DEADLINE)
    assert isinstance(state.work, Committing)  # two are enough for it
    state, _ = step(state, RoundSaved(SESSION, 1, 1, MODEL_1))
    state, effects = step(state, ValidationDeadlinePassed(SESSION, 1))
    assert effects[1] == RecordLimits(SESSION, other_limits(clients_required=3))
    assert isinstance(state.work, Updating)
    assert state.work.progress.terms == some_terms(clients_required=3)
    assert state.work.progress.changed is None


def test_what_is_changed_during_a_validation_holds_from_the_next_round_on() -> None:
    state, effects = step(validating(), change(update_timeout_s=7.0))
    assert [type(effect) for effect in effects] == [RecordChange]
    state, _ = step(state, ValidationDeadlinePassed(SESSION, 1))
    assert isinstance(state.work, Updating)
    assert state.work.plan.update_timeout_s == 7.0


def test_whether_and_when_a_failed_attempt_is_tried_again_is_as_was_changed_meanwhile() -> None:
    state, _ = step(updating(max_attempts=1), change(max_attempts=2, retry_delay_s=9.0))
    state, effects = step(state, DEADLINE)
    assert isinstance(state.work, Failed)
    assert [type(one) for one in effects[-3:]] == [CloseFailedAttempt, RecordLimits, StartTimer]
    assert effects[-1] == StartTimer(9.0, RetryDue(SESSION, 1, 2))


def test_where_no_attempt_runs_other_limits_hold_at_once() -> None:
    waiting = a_reducer(Gathering(some_progress(some_terms(clients_required=9)), ""), north=(ANNA, BERT))
    state, effects = step(waiting, change(clients_required=2))
    assert effects[:2] == [
        RecordChange(SESSION, other_limits(clients_required=9), other_limits(clients_required=2)),
        RecordLimits(SESSION, other_limits(clients_required=2)),
    ]
    assert isinstance(state.work, Updating)
    for work in (Failed(some_progress(), "why"), Paused(some_progress(), BY_OPERATOR)):
        state, effects = step(a_reducer(work), change(rounds=5))
        assert [type(effect) for effect in effects] == [RecordChange, RecordLimits]
        assert state.work == replace(work, progress=some_progress(some_terms(rounds=5)))


def test_of_two_changes_during_an_attempt_the_second_one_holds() -> None:
    state, _ = step(updating(), change(rounds=5))
    state, effects = step(state, change(rounds=6))
    assert effects == [RecordChange(SESSION, other_limits(rounds=5), other_limits(rounds=6))]
    state, effects = step(state, change(rounds=6))
    assert effects == []  # nothing is told of what stays as it is


def test_a_session_goes_on_beyond_what_was_its_last_round() -> None:
    state, _ = step(committing(rounds=1, validate=False), change(rounds=2))
    state, _ = step(state, RoundSaved(SESSION, 1, 1, MODEL_1))
    assert isinstance(state.work, Updating)
    assert state.work.plan.round_number == 2


def test_a_session_whose_rounds_are_all_done_by_a_change_is_finished() -> None:
    done = some_progress(committed=1, head=MODEL_1)
    state, effects = step(a_reducer(Gathering(done, "")), change(rounds=1))
    assert (state.work, effects[-1]) == (Idle(), RecordSession(SESSION, "finished", ""))
    state, _ = step(a_reducer(Paused(done, BY_OPERATOR)), change(rounds=1))
    assert isinstance(state.work, Paused)
    _, effects = step(state, ResumeRequested(SESSION))
    assert effects[-1] == RecordSession(SESSION, "finished", "")


def test_rounds_that_are_done_cannot_be_taken_back() -> None:
    with pytest.raises(FewerRoundsThanDone, match="rounds is to be 1, but 2 are done"):
        step(a_reducer(Paused(some_progress(committed=2), "")), change(rounds=1))


@pytest.mark.parametrize("state", [a_reducer(Idle()), updating()])
def test_the_limits_of_a_session_that_is_not_under_way_are_not_changed(state: Reducer) -> None:
    with pytest.raises(UnexpectedEvent):
        step(state, ChangeRequested(OTHER_SESSION, other_limits(rounds=3)))


def test_a_change_that_waits_for_the_attempt_is_kept_over_a_new_start() -> None:
    limits = other_limits(clients_required=3)
    found = Updating(some_progress(generation=SOUTHS, changed=limits), a_plan(), two_cells())
    state, _ = step(Reducer(), SessionStarted(found.progress, found=found))
    state, effects = step(state, DEADLINE)
    assert RecordLimits(SESSION, limits) in effects
    between = SessionStarted(some_progress(changed=limits))
    for started, rests in ((between, Gathering), (replace(between, paused=BY_OPERATOR), Paused)):
        state, effects = step(Reducer(), started)
        assert effects[0] == RecordLimits(SESSION, limits)
        assert isinstance(state.work, rests)
        assert state.work.progress == some_progress(with_limits(some_terms(), limits))


# ---- a new start of the reducer


def test_a_found_attempt_goes_on_and_its_combiners_have_their_time_to_come_back() -> None:
    found = Updating(some_progress(generation=SOUTHS), a_plan(), two_cells())
    state, effects = step(Reducer(), SessionStarted(found.progress, found=found))
    assert state.work == found
    assert effects == [
        ExpectCombiner(NORTH, NORTH_1),
        ExpectCombiner(SOUTH, SOUTH_1),
        StartTimer(found.plan.update_timeout_s + ANSWER_MARGIN_S, DEADLINE),
    ]
    state, effects = step(state, CombinerJoined(NORTH, NORTH_1))
    assert effects == [SendOrder(NORTH, NORTH_1, CellOrder(a_plan(), NORTHS, (ANNA, BERT), 2))]
    state, _ = step(state, from_north(NORTH_PARTIAL))
    state, _ = step(state, CombinerLost(SOUTH, SOUTH_1))  # it did not come back
    _, effects = step(state, MOVING_OVER)
    assert isinstance(effects[0], CommitRound)


def test_another_life_of_a_combiner_of_a_found_attempt_has_lost_its_cell() -> None:
    found = Updating(some_progress(generation=SOUTHS), a_plan(), two_cells())
    state, _ = step(Reducer(), SessionStarted(found.progress, found=found))
    state, effects = step(state, CombinerJoined(NORTH, NORTH_2))
    assert of_type(effects, SendOrder) == []
    _, effects = step(state, ClientsChanged(NORTH, NORTH_2, frozenset({ANNA})))
    assert of_type(effects, SendOrder) == [SendOrder(NORTH, NORTH_2, CellOrder(a_plan(), RESENT, (ANNA,), 1))]


def test_a_found_attempt_refuses_what_was_fenced_before_and_keeps_what_was_answered() -> None:
    found = Updating(some_progress(generation=RESENT), a_plan(), resent_cells())
    state, _ = step(Reducer(), SessionStarted(found.progress, found=found))
    for joined in (CombinerJoined(NORTH, NORTH_1), CombinerJoined(SOUTH, SOUTH_1)):
        state, _ = step(state, joined)
    for late in (from_north(NORTH_PARTIAL), PartialArrived(SOUTH, SOUTH_1, SOUTH_PARTIAL)):
        with pytest.raises(UnexpectedEvent):
            step(state, late)
    answer = a_partial(OF_ANNA, OF_BERT, generation=RESENT)
    _, effects = step(state, PartialArrived(SOUTH, SOUTH_1, answer))
    assert isinstance(effects[0], CommitRound)
    _check_commit(effects[0])


def test_a_wish_is_kept_over_a_new_start() -> None:
    for intent, ends in (("pause", Paused), ("stop", Idle)):
        state, _ = step(Reducer(), SessionStarted(some_progress(committed=1, head=MODEL_1, intent=intent)))
        assert isinstance(state.work, ends)
    found = Updating(some_progress(generation=SOUTHS, intent="stop"), a_plan(), two_cells())
    state, effects = step(Reducer(), SessionStarted(found.progress, found=found))
    assert (state.work, effects[-1]) == (Idle(), RecordSession(SESSION, "stopped", BY_OPERATOR))


def unvalidated(**changed: object) -> SessionStarted:
    """Return the session of a committed round whose model was being validated."""
    progress = some_progress(committed=1, head=MODEL_1, generation=SOUTHS, **changed)
    return SessionStarted(progress, found=Validating(progress, {}, away=frozenset({ANNA, BERT, CARL})))


def back(state: Reducer, combiner: CombinerName, instance: InstanceId, *clients: ClientId) -> Result:
    """Let a combiner come with its clients."""
    state, _ = step(state, CombinerJoined(combiner, instance))
    return step(state, ClientsChanged(combiner, instance, frozenset(clients)))


def test_a_validation_that_is_lacking_is_ordered_when_the_clients_of_its_round_are_back() -> None:
    state, effects = step(Reducer(), unvalidated())
    assert isinstance(effects[0], TellWaiting)
    timeout_s = some_terms().validation_timeout_s + ANSWER_MARGIN_S
    assert effects[1:] == [
        StartTimer(MOVING_S, GatherTimePassed(SESSION, 1, 1)),
        StartTimer(timeout_s, ValidationDeadlinePassed(SESSION, 1)),
    ]
    state, effects = back(state, NORTH, NORTH_2, ANNA, BERT)
    assert effects == []
    state, effects = back(state, SOUTH, SOUTH_1, CARL, DORA)  # whoever is there validates, in the round or not
    north, south = to_validate(SOUTHS + 1, ANNA, BERT), to_validate(SOUTHS + 2, CARL, DORA)
    assert effects == [SendOrder(NORTH, NORTH_2, north), SendOrder(SOUTH, SOUTH_1, south)]
    with pytest.raises(UnexpectedEvent):
        step(state, ValidationArrived(SOUTH, SOUTH_1, a_report(SOUTHS)))  # from before the new start
    state, _ = step(state, ValidationArrived(NORTH, NORTH_2, a_report(north.generation)))
    state, effects = step(state, ValidationArrived(SOUTH, SOUTH_1, a_report(south.generation)))
    reports = (a_report(north.generation), a_report(south.generation))
    assert effects[0] == RecordValidation(SESSION, 1, reports, ())
    assert isinstance(state.work, Updating)
    assert state.work.plan.round_number == 2


def test_clients_that_do_not_come_back_are_waited_for_a_while_before_a_model_is_validated() -> None:
    state, _ = step(Reducer(), unvalidated())
    state, _ = back(state, NORTH, NORTH_1, ANNA)
    state, effects = step(state, GatherTimePassed(SESSION, 1, 1))
    assert effects == [SendOrder(NORTH, NORTH_1, to_validate(SOUTHS + 1, ANNA))]
    again, effects = step(state, GatherTimePassed(SESSION, 1, 1))
    assert (again, effects) == (state, [])


def test_a_model_that_nobody_validates_by_the_deadline_is_written_down_as_such() -> None:
    state, _ = step(Reducer(), unvalidated())
    state, effects = step(state, GatherTimePassed(SESSION, 1, 1))
    assert effects == []  # whoever comes first will do
    late, effects = back(state, NORTH, NORTH_1, ANNA)
    assert of_type(effects, SendOrder) != []
    assert step(late, ValidationDeadlinePassed(SESSION, 1))[1][0] == RecordValidation(SESSION, 1, (), (NORTH,))
    state, effects = step(state, ValidationDeadlinePassed(SESSION, 1))
    assert effects[0] == RecordValidation(SESSION, 1, (), ())
    assert isinstance(state.work, Gathering)


def test_a_model_that_is_committed_while_nobody_is_there_is_validated_when_the_clients_are_back() -> None:
    state, effects = step(replace(committing(), roster={}), RoundSaved(SESSION, 1, 1, MODEL_1))
    assert state.work == unvalidated().found
    assert StartTimer(MOVING_S, GatherTimePassed(SESSION, 1, 1)) in effects


@pytest.mark.parametrize(("intent", "ends"), [("pause", Paused), ("stop", Idle)])
def test_a_wish_is_kept_until_a_validation_that_was_lacking_is_done(intent: str, ends: type) -> None:
    state, _ = step(Reducer(), unvalidated(intent=intent))
    state, _ = back(state, NORTH, NORTH_1, ANNA, BERT, CARL)
    assert isinstance(state.work, Validating)
    state, effects = step(state, ValidationArrived(NORTH, NORTH_1, a_report(Generation(SOUTHS + 1))))
    assert isinstance(effects[0], RecordValidation)
    assert isinstance(state.work, ends)


def test_whoever_joins_hears_of_the_newest_commit() -> None:
    committed = RoundCommitted(SESSION, 1, MODEL_1)
    saved, _ = step(committing(), RoundSaved(SESSION, 1, 1, MODEL_1))
    found, _ = step(Reducer(), SessionStarted(some_progress(committed=1, head=MODEL_1)))
    for state in (saved, found):
        _, effects = step(state, CombinerJoined(NORTH, NORTH_2))
        assert effects[0] == TellCommittedAgain(NORTH, NORTH_2, committed)


# ---- every phase with every event


def waiting_for_moved() -> Reducer:
    """Return a reducer whose cells collect, one of which was lost just now."""
    west = Cell(InstanceId("west-1"), GENERATION, frozenset({DORA}), lost=LOST)
    state = updating({CombinerName("west"): west, **two_cells()})
    assert isinstance(state.work, Updating)
    return replace(state, work=replace(state.work, losses=1))


PHASES: dict[str, Reducer] = {
    "Idle": a_reducer(Idle(), north=(ANNA, BERT), south=(CARL,)),
    "Gathering": a_reducer(Gathering(some_progress(some_terms(clients_required=9)), ""), north=(ANNA, BERT)),
    "Planning": masked.planning(),
    "Updating": waiting_for_moved(),
    "Masked": masked.running(),
    "Committing": committing(),
    "Validating": validating(),
    "Failed": a_reducer(Failed(some_progress(), "TooFewUpdates"), north=(ANNA, BERT)),
    "Paused": a_reducer(Paused(some_progress(), BY_OPERATOR), north=(ANNA, BERT)),
}
FITTING = by_name(
    [
        SessionStarted(some_progress()),
        PauseRequested(SESSION),
        ResumeRequested(SESSION),
        StopRequested(SESSION),
        change(rounds=9),
        CombinerJoined(NORTH, NORTH_2),
        ClientsChanged(NORTH, NORTH_1, frozenset({DORA})),
        CombinerLost(NORTH, NORTH_1),
        from_north(NORTH_PARTIAL),
        CellGaveUp(NORTH, NORTH_1, NORTHS, ""),
        ValidationArrived(NORTH, NORTH_1, a_report(NORTHS)),
        masked.PLANNED,
        AttemptNotPlanned(SESSION, 1, 1, "why"),
        masked.NORTH_CLOSED,
        MaskedEvent(SESSION, 1, 1, masked.NORTH_FORMED),
        GatherTimePassed(SESSION, 1, 1),
        MovingTimePassed(SESSION, 1, 1),
        DEADLINE,
        AnswerDeadlinePassed(SESSION, 1, 1),
        ValidationDeadlinePassed(SESSION, 1),
        RetryDue(SESSION, 1, 1),
        RoundSaved(SESSION, 1, 1, MODEL_1),
        RoundNotSaved(SESSION, 1, 1, ""),
    ]
)
TABLE = read_table("""
                          Idle     Gathering  Planning  Updating  Masked   Committing  Validating  Failed   Paused
SessionStarted            moves    refused    refused   refused   refused  refused     refused     refused  refused
PauseRequested            refused  moves      moves     moves     moves    moves       moves       moves    refused
ResumeRequested           refused  refused    refused   refused   refused  refused     refused     refused  moves
StopRequested             refused  moves      moves     moves     moves    moves       moves       moves    moves
ChangeRequested           refused  moves      moves     moves     moves    moves       moves       moves    moves
CombinerJoined            moves    moves      moves     moves     moves    moves       moves       moves    moves
ClientsChanged            moves    moves      moves     moves     moves    moves       moves       moves    moves
CombinerLost              moves    moves      moves     moves     moves    moves       moves       moves    moves
PartialArrived            refused  refused    refused   moves     refused  refused     refused     refused  refused
CellGaveUp                refused  refused    refused   moves     moves    refused     moves       refused  refused
ValidationArrived         refused  refused    refused   refused   refused  refused     moves       refused  refused
AttemptPlanned            refused  refused    moves     refused   refused  refused     refused     refused  refused
AttemptNotPlanned         refused  refused    moves     refused   refused  refused     refused     refused  refused
MaskedPartialArrived      refused  refused    refused   refused   moves    refused     refused     refused  refused
MaskedEvent               refused  refused    refused   refused   moves    refused     refused     refused  refused
GatherTimePassed          ignored  moves      ignored   ignored   ignored  ignored     ignored     ignored  ignored
MovingTimePassed          ignored  moves      ignored   moves     ignored  ignored     ignored     ignored  ignored
UpdateDeadlinePassed      ignored  ignored    ignored   moves     moves    ignored     ignored     ignored  ignored
AnswerDeadlinePassed      ignored  ignored    ignored   ignored   moves    ignored     ignored     ignored  ignored
ValidationDeadlinePassed  ignored  ignored    ignored   ignored   ignored  ignored     moves       ignored  ignored
RetryDue                  ignored  ignored    ignored   ignored   ignored  ignored     ignored     moves    ignored
RoundSaved                refused  refused    refused   refused   refused  moves       refused     refused  refused
RoundNotSaved             refused  refused    refused   refused   refused  moves       refused     refused  refused
""")


def test_the_table_has_every_phase_and_every_event() -> None:
    assert set(TABLE) == pairs_of(Event, Work)


@pytest.mark.parametrize(("event", "phase"), TABLE)
def test_each_phase_answers_an_event_as_the_table_says(event: str, phase: str) -> None:
    assert outcome(step, PHASES[phase], FITTING[event]) == TABLE[event, phase]


SESSIONS = st.sampled_from([SESSION, SESSION, OTHER_SESSION])
NUMBERS = st.integers(0, 3)
ATTEMPTS = st.tuples(SESSIONS, NUMBERS, NUMBERS)
GENERATIONS = st.integers(GENERATION, GENERATION + 9).map(Generation)
LIVES = st.sampled_from([(NORTH, NORTH_1), (NORTH, NORTH_2), (SOUTH, SOUTH_1)])
SETS_OF_CLIENTS = st.frozensets(st.sampled_from([ANNA, BERT, CARL, DORA]))
CONTRIBUTIONS = st.builds(a_contribution, st.sampled_from([ANNA, BERT, CARL]), st.integers(0, 3))
PARTIALS = st.builds(lambda g, c: a_partial(*c, generation=g), GENERATIONS, st.lists(CONTRIBUTIONS, max_size=3))
EVENTS = st.one_of(
    st.builds(SessionStarted, st.builds(lambda c: some_progress(committed=c), NUMBERS), st.sampled_from(["", "why"])),
    st.builds(PauseRequested, SESSIONS),
    st.builds(ResumeRequested, SESSIONS),
    st.builds(StopRequested, SESSIONS, st.booleans()),
    st.builds(ChangeRequested, SESSIONS, st.builds(lambda n: other_limits(rounds=9, clients_required=n), NUMBERS)),
    st.builds(lambda life: CombinerJoined(*life), LIVES),
    st.builds(lambda life, clients: ClientsChanged(*life, clients), LIVES, SETS_OF_CLIENTS),
    st.builds(lambda life: CombinerLost(*life), LIVES),
    st.builds(lambda life, partial: PartialArrived(*life, partial), LIVES, PARTIALS),
    st.builds(lambda life, generation: CellGaveUp(*life, generation, "why"), LIVES, GENERATIONS),
    st.builds(lambda life, generation: ValidationArrived(*life, a_report(generation)), LIVES, GENERATIONS),
    st.builds(lambda attempt: GatherTimePassed(*attempt), ATTEMPTS),
    st.builds(lambda attempt: UpdateDeadlinePassed(*attempt), ATTEMPTS),
    st.builds(ValidationDeadlinePassed, SESSIONS, NUMBERS),
    st.builds(lambda attempt: RetryDue(*attempt), ATTEMPTS),
    st.builds(lambda attempt: MovingTimePassed(*attempt), ATTEMPTS),
    st.builds(lambda attempt: AnswerDeadlinePassed(*attempt), ATTEMPTS),
    st.builds(lambda attempt: AttemptNotPlanned(*attempt, "why"), ATTEMPTS),
    st.sampled_from([masked.PLANNED, masked.NORTH_CLOSED, masked.SOUTH_CLOSED]),
    st.sampled_from([masked.NORTH_FORMED, masked.SOUTH_FORMED, *masked.NORTH_ANSWERS, KeyUnset()]).map(masked.heard),
    st.builds(lambda attempt: RoundSaved(*attempt, MODEL_1), ATTEMPTS),
    st.builds(lambda attempt: RoundNotSaved(*attempt, "why"), ATTEMPTS),
)


@given(st.lists(EVENTS, max_size=30), st.sampled_from(sorted(PHASES)))
def test_whatever_comes_is_answered_or_refused_and_every_commit_has_its_clients_once(
    events: list[Event], phase: str
) -> None:
    state = PHASES[phase]
    for event in events:
        try:
            after, effects = step(state, event)
        except UnexpectedEvent:
            continue
        assert isinstance(after, Reducer)
        for effect in effects:
            if isinstance(effect, CommitRound):
                _check_commit(effect)
        assert isinstance(after.work, Idle) or _generation(after) >= _generation(state)
        state = after


def _check_commit(commit: CommitRound) -> None:
    listed: list[ClientId] = []
    for _, cell in each(commit.cells):
        if cell.partial is not None:
            listed += [contribution.client for contribution in cell.partial.included]
            assert {contribution.client for contribution in cell.partial.included} <= cell.clients
    assert listed
    assert len(listed) == len(set(listed))


def _generation(state: Reducer) -> int:
    progress: Progress | None = getattr(state.work, "progress", None)
    return progress.generation if progress is not None else 0


def test_a_combiner_that_comes_back_gets_the_validation_that_it_owes_once_more() -> None:
    state = validating()
    assert isinstance(state.work, Validating)
    again, effects = step(state, CombinerJoined(NORTH, NORTH_1))
    assert again == state
    assert effects == [SendOrder(NORTH, NORTH_1, state.work.waiting[NORTH])]


def test_where_all_are_wanted_the_clients_of_the_last_attempt_are_waited_for_a_while() -> None:
    terms = some_terms(gather_timeout_s=9.0)
    progress = some_progress(terms, attempt=2, drawn=3)
    state, effects = step(a_reducer(Idle(), north=(ANNA,)), SessionStarted(progress))
    assert isinstance(state.work, Gathering)
    assert StartTimer(9.0, GatherTimePassed(SESSION, 1, 2)) in effects
    begun, _ = step(state, ClientsChanged(NORTH, NORTH_1, frozenset({ANNA, BERT, CARL})))
    assert isinstance(begun.work, Updating)
    begun, _ = step(state, GatherTimePassed(SESSION, 1, 2))
    assert isinstance(begun.work, Updating)
    assert begun.work.progress.drawn == 1
