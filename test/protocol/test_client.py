"""A client's work, rule by rule."""

from dataclasses import replace

import pytest
from builders import (
    GENERATION,
    MODEL_1,
    OTHER_SESSION,
    a_commit,
    a_plan,
    a_train_task,
    a_validate_task,
    a_validation,
)
from hypothesis import given
from hypothesis import strategies as st
from tables import by_name, outcome, pairs_of, read_table

from fedn_py.identity import Digest, Generation
from fedn_py.protocol.client import (
    Attached,
    Cancelled,
    Client,
    Committed,
    Detached,
    DropUpdate,
    Event,
    MetricsReady,
    Piece,
    Resting,
    SendMetrics,
    StopWork,
    Tasked,
    TellFailed,
    TellOutcome,
    Train,
    Training,
    UpdateAnswered,
    UpdateGone,
    UpdateKept,
    UpdateReady,
    UpdateWithheld,
    Upload,
    UploadBroken,
    Uploading,
    Validate,
    Validating,
    Work,
    WorkFailed,
    step,
)
from fedn_py.protocol.machine import UnexpectedEvent
from fedn_py.protocol.messages import RoundCommitted, TaskCancelled, TaskFailed, UpdateReceipt

OLDER, NEWER = Generation(GENERATION - 1), Generation(GENERATION + 1)
PIECE = Piece.of(a_plan())
TASK, RETRY = a_train_task(), a_train_task(generation=NEWER, plan=a_plan(attempt=2))
NEXT_ROUND = a_train_task(generation=NEWER, plan=a_plan(round_number=2, base_model=MODEL_1))
ACCEPTED, REFUSED = UpdateReceipt(accepted=True), UpdateReceipt(accepted=False, reason="Late: closed")


def a_client(work: Work | None = None, **changed: object) -> Client:
    """Return an attached client that was asked something under GENERATION."""
    plain = Client(attached=True, newest=Generation(GENERATION), work=work or Resting())
    return replace(plain, **changed)  # type: ignore[arg-type]


def training() -> Client:
    """Return a client that trains."""
    return a_client(Training(TASK, GENERATION))


def uploading() -> Client:
    """Return a client that uploads."""
    return a_client(Uploading(TASK), kept=PIECE)


def validating() -> Client:
    """Return a client that validates."""
    return a_client(Validating(a_validation()))


# ---- training


def test_a_task_is_trained_and_its_update_uploaded() -> None:
    state, effects = step(Client(attached=True), Tasked(TASK))
    assert (state, effects) == (training(), [Train(TASK)])
    state, effects = step(state, UpdateReady(GENERATION))
    assert (state, effects) == (uploading(), [Upload(TASK)])


def test_an_accepted_update_is_kept_until_its_round_is_committed() -> None:
    state, effects = step(uploading(), UpdateAnswered(GENERATION, ACCEPTED))
    assert state == a_client(kept=PIECE, accepted=GENERATION)
    assert effects == [TellOutcome(GENERATION, ACCEPTED)]
    state, effects = step(state, Committed(a_commit()))
    assert (state, effects) == (a_client(), [DropUpdate(PIECE)])


def test_a_refused_update_is_kept_too() -> None:
    state, effects = step(uploading(), UpdateAnswered(GENERATION, REFUSED))
    assert state == a_client(kept=PIECE)
    assert effects == [TellOutcome(GENERATION, REFUSED)]


def test_a_retry_of_the_round_uploads_the_kept_update_and_does_not_train() -> None:
    for before in (a_client(kept=PIECE), a_client(kept=PIECE, accepted=GENERATION)):
        state, effects = step(before, Tasked(RETRY))
        assert (state.work, state.newest) == (Uploading(RETRY), NEWER)
        assert effects == [Upload(RETRY)]


def test_a_retry_that_comes_during_the_upload_stops_that_upload_and_begins_its_own() -> None:
    state, effects = step(uploading(), Tasked(RETRY))
    assert state.work == Uploading(RETRY)
    assert effects == [StopWork(GENERATION), Upload(RETRY)]


def test_the_training_at_hand_serves_a_retry_of_the_round() -> None:
    state, effects = step(training(), Tasked(RETRY))
    assert state.work == Training(RETRY, started=GENERATION)
    assert effects == []
    _, effects = step(state, UpdateReady(GENERATION))
    assert effects == [Upload(RETRY)]


def test_a_failure_of_a_training_that_serves_a_retry_is_told_to_the_retry() -> None:
    state, _ = step(training(), Tasked(RETRY))
    state, effects = step(state, WorkFailed(GENERATION, "exit status 1", "Traceback"))
    assert effects == [TellFailed(TaskFailed(NEWER, "exit status 1", "Traceback"))]
    assert state.work == Resting()


@pytest.mark.parametrize(
    "changed",
    [
        {"session": OTHER_SESSION},
        {"round_number": 2},
        {"base_model": MODEL_1},
        {"package": Digest("e" * 64)},
        {"parameters": '{"rate": 2}'},
        {"masking": "pet"},
    ],
)
def test_a_kept_update_never_serves_other_work(changed: dict[str, object]) -> None:
    other = a_train_task(generation=NEWER, plan=a_plan(**changed))
    state, effects = step(a_client(kept=PIECE, accepted=GENERATION), Tasked(other))
    assert state == a_client(Training(other, NEWER), newest=NEWER)
    assert effects == [DropUpdate(PIECE), Train(other)]


def test_what_was_trained_to_be_masked_is_not_uploaded_in_the_clear() -> None:
    masked, plain = a_plan(masking="pet"), a_plan(masking="none", attempt=2)
    for before in (a_client(kept=Piece.of(masked)), a_client(Training(a_train_task(plan=masked), GENERATION))):
        task = a_train_task(generation=NEWER, plan=plain)
        state, effects = step(before, Tasked(task))
        assert state.work == Training(task, NEWER)
        assert Train(task) in effects
        assert Upload(task) not in effects


def test_a_newer_task_takes_the_place_of_an_older_one() -> None:
    state, effects = step(training(), Tasked(NEXT_ROUND))
    assert state.work == Training(NEXT_ROUND, NEWER)
    assert effects == [StopWork(GENERATION), Train(NEXT_ROUND)]


def test_stopping_a_training_names_what_it_was_started_for() -> None:
    state, _ = step(training(), Tasked(RETRY))
    _, effects = step(state, Cancelled(TaskCancelled(NEWER, "the round is closed")))
    assert effects == [StopWork(GENERATION)]


@pytest.mark.parametrize("task", [a_train_task(generation=OLDER), a_validate_task(generation=OLDER)])
def test_an_older_task_is_refused(task: object) -> None:
    for state in (training(), uploading(), validating(), a_client()):
        with pytest.raises(UnexpectedEvent):
            step(state, Tasked(task))  # type: ignore[arg-type]


def test_the_same_task_again_changes_nothing_while_it_is_done() -> None:
    assert step(training(), Tasked(TASK)) == (training(), [])
    assert step(uploading(), Tasked(TASK)) == (uploading(), [])
    assert step(validating(), Tasked(a_validate_task())) == (validating(), [])


def test_a_task_whose_update_is_in_is_not_done_again() -> None:
    state = a_client(kept=PIECE, accepted=GENERATION)
    assert step(state, Tasked(TASK)) == (state, [])


def test_a_task_whose_upload_broke_is_uploaded_again_when_it_is_asked_again() -> None:
    assert step(a_client(kept=PIECE), Tasked(TASK)) == (uploading(), [Upload(TASK)])


def test_a_failed_training_is_told() -> None:
    state, effects = step(training(), WorkFailed(GENERATION, "exit status 1", "Traceback"))
    assert state == a_client()
    assert effects == [TellFailed(TaskFailed(GENERATION, "exit status 1", "Traceback"))]


def test_an_upload_that_is_given_up_is_told_and_its_update_kept() -> None:
    state, effects = step(uploading(), UploadBroken(GENERATION, "no answer"))
    assert state == a_client(kept=PIECE)
    assert effects == [TellFailed(TaskFailed(GENERATION, "UploadBroken: no answer"))]


@pytest.mark.parametrize(
    "stale",
    [
        UpdateReady(OLDER),
        WorkFailed(OLDER, ""),
        UpdateAnswered(OLDER, ACCEPTED),
        UploadBroken(OLDER, ""),
        MetricsReady(OLDER),
        Cancelled(TaskCancelled(OLDER, "")),
    ],
)
def test_the_outcome_of_older_work_is_refused(stale: Event) -> None:
    for state in (training(), uploading(), validating()):
        with pytest.raises(UnexpectedEvent):
            step(state, stale)


# ---- cancellation and commits


def test_a_cancelled_task_is_stopped() -> None:
    cancelled = Cancelled(TaskCancelled(GENERATION, "the round is closed"))
    for state in (training(), validating()):
        assert step(state, cancelled) == (a_client(), [StopWork(GENERATION)])
    assert step(uploading(), cancelled) == (a_client(kept=PIECE), [StopWork(GENERATION)])


def test_a_commit_ends_the_upload_of_its_round() -> None:
    state, effects = step(uploading(), Committed(a_commit()))
    assert state == a_client()
    assert effects == [StopWork(GENERATION), DropUpdate(PIECE)]


def test_a_commit_ends_the_training_of_its_round() -> None:
    assert step(training(), Committed(a_commit())) == (a_client(), [StopWork(GENERATION)])


def test_a_commit_lets_a_validation_go_on() -> None:
    state = replace(validating(), kept=PIECE)
    assert step(state, Committed(a_commit())) == (validating(), [DropUpdate(PIECE)])


def test_a_commit_of_a_later_round_says_that_those_before_are_past() -> None:
    state, effects = step(a_client(kept=PIECE), Committed(a_commit(round_number=3)))
    assert (state.kept, effects) == (None, [DropUpdate(PIECE)])


@pytest.mark.parametrize("other", [a_commit(round_number=0), RoundCommitted(OTHER_SESSION, 1, MODEL_1)])
def test_a_commit_of_another_round_changes_nothing(other: RoundCommitted) -> None:
    for state in (training(), uploading(), a_client(kept=PIECE)):
        assert step(state, Committed(other)) == (state, [])


# ---- the connection


def test_training_goes_on_while_the_connection_is_away() -> None:
    state, effects = step(training(), Detached())
    assert (state, effects) == (replace(training(), attached=False), [])
    state, effects = step(state, UpdateReady(GENERATION))
    assert (state, effects) == (a_client(attached=False, kept=PIECE), [])
    state, _ = step(state, Attached())
    assert step(state, Tasked(TASK))[1] == [Upload(TASK)]


def test_an_upload_ends_with_the_connection_and_its_update_is_kept() -> None:
    state, effects = step(uploading(), Detached())
    assert state == a_client(attached=False, kept=PIECE)
    assert effects == [StopWork(GENERATION)]


def test_nothing_is_told_while_the_connection_is_away() -> None:
    away = {"attached": False}
    for state, event in (
        (replace(training(), **away), WorkFailed(GENERATION, "exit status 1")),  # type: ignore[arg-type]
        (replace(validating(), **away), MetricsReady(GENERATION)),  # type: ignore[arg-type]
        (replace(uploading(), **away), UploadBroken(GENERATION, "no answer")),  # type: ignore[arg-type]
    ):
        after, effects = step(state, event)
        assert (after.work, effects) == (Resting(), [])


# ---- masked updates


def test_a_masked_update_that_an_earlier_life_kept_is_uploaded_and_not_trained_again() -> None:
    state, effects = step(Client(attached=True), UpdateKept(PIECE))
    assert (state, effects) == (Client(attached=True, kept=PIECE), [])
    assert step(state, Tasked(TASK)) == (uploading(), [Upload(TASK)])
    assert step(state, UpdateKept(PIECE)) == (state, [])
    other = Piece.of(NEXT_ROUND.plan)
    assert step(state, UpdateKept(other)) == (Client(attached=True, kept=other), [DropUpdate(PIECE)])


def test_a_kept_update_that_cannot_serve_after_all_is_trained_again() -> None:
    state, effects = step(uploading(), UpdateGone(GENERATION))
    assert (state, effects) == (training(), [Train(TASK)])


def test_a_withheld_update_is_told_by_name_and_kept() -> None:
    state, effects = step(uploading(), UpdateWithheld(GENERATION, "MayBeOpened: it may"))
    assert state == a_client(kept=PIECE)
    assert effects == [TellFailed(TaskFailed(GENERATION, "MayBeOpened: it may"))]
    away = replace(uploading(), attached=False)
    assert step(away, UpdateWithheld(GENERATION, ""))[1] == []


# ---- validation


def test_a_model_is_validated_and_its_metrics_sent() -> None:
    state, effects = step(a_client(), Tasked(a_validate_task()))
    assert (state, effects) == (validating(), [Validate(a_validation())])
    assert step(state, MetricsReady(GENERATION)) == (a_client(), [SendMetrics(GENERATION)])


def test_a_failed_validation_is_told() -> None:
    _, effects = step(validating(), WorkFailed(GENERATION, "exit status 1"))
    assert effects == [TellFailed(TaskFailed(GENERATION, "exit status 1"))]


def test_a_newer_validation_takes_the_place_of_training_and_keeps_the_update() -> None:
    newer = a_validate_task(generation=NEWER)
    assert step(training(), Tasked(newer))[1] == [StopWork(GENERATION), Validate(newer.order)]
    state, effects = step(uploading(), Tasked(newer))
    assert effects == [StopWork(GENERATION), Validate(newer.order)]
    assert state.kept == PIECE


# ---- every phase with every event

PHASES = {"Resting": a_client(), "Training": training(), "Uploading": uploading(), "Validating": validating()}
FITTING = by_name(
    [
        Attached(),
        Detached(),
        Tasked(NEXT_ROUND),
        Cancelled(TaskCancelled(GENERATION, "")),
        Committed(a_commit()),
        UpdateReady(GENERATION),
        WorkFailed(GENERATION, ""),
        UpdateAnswered(GENERATION, ACCEPTED),
        UploadBroken(GENERATION, ""),
        UpdateKept(PIECE),
        UpdateGone(GENERATION),
        UpdateWithheld(GENERATION, ""),
        MetricsReady(GENERATION),
    ]
)
TABLE = read_table("""
                Resting  Training  Uploading  Validating
Attached        ignored  ignored   ignored    ignored
Detached        moves    moves     moves      moves
Tasked          moves    moves     moves      moves
Cancelled       refused  moves     moves      moves
Committed       ignored  moves     moves      ignored
UpdateReady     refused  moves     refused    refused
WorkFailed      refused  moves     refused    moves
UpdateAnswered  refused  refused   moves      refused
UploadBroken    refused  refused   moves      refused
UpdateKept      moves    ignored   ignored    moves
UpdateGone      refused  refused   moves      refused
UpdateWithheld  refused  refused   moves      refused
MetricsReady    refused  refused   refused    moves
""")


def test_the_table_has_every_phase_and_every_event() -> None:
    assert set(TABLE) == pairs_of(Event, Work)


@pytest.mark.parametrize(("event", "phase"), TABLE)
def test_each_phase_answers_an_event_as_the_table_says(event: str, phase: str) -> None:
    assert outcome(step, PHASES[phase], FITTING[event]) == TABLE[event, phase]


GENERATIONS = st.integers(0, NEWER + 1).map(Generation)
PLANS = st.builds(lambda n, a: a_plan(round_number=n, attempt=a), st.integers(1, 3), st.integers(1, 3))
TASKS = st.one_of(
    st.builds(lambda g, p: a_train_task(generation=g, plan=p), GENERATIONS, PLANS),
    st.builds(lambda g: a_validate_task(generation=g), GENERATIONS),
)
EVENTS = st.one_of(
    st.builds(Attached),
    st.builds(Detached),
    st.builds(Tasked, TASKS),
    st.builds(Cancelled, st.builds(TaskCancelled, GENERATIONS, st.text())),
    st.builds(Committed, st.builds(lambda n: a_commit(round_number=n), st.integers(1, 3))),
    st.builds(UpdateReady, GENERATIONS),
    st.builds(WorkFailed, GENERATIONS, st.text()),
    st.builds(UpdateAnswered, GENERATIONS, st.sampled_from([ACCEPTED, REFUSED])),
    st.builds(UploadBroken, GENERATIONS, st.text()),
    st.builds(UpdateKept, PLANS.map(Piece.of)),
    st.builds(UpdateGone, GENERATIONS),
    st.builds(UpdateWithheld, GENERATIONS, st.text()),
    st.builds(MetricsReady, GENERATIONS),
)


@given(st.lists(EVENTS, max_size=30))
def test_whatever_comes_is_answered_or_refused_and_only_what_is_kept_is_uploaded(events: list[Event]) -> None:
    state = Client()
    for event in events:
        try:
            after, effects = step(state, event)
        except UnexpectedEvent:
            continue
        assert after.newest >= state.newest
        for effect in effects:
            if isinstance(effect, Upload):
                assert Piece.of(effect.task.plan) == after.kept
            if isinstance(effect, DropUpdate):
                assert effect.piece == state.kept
        state = after
