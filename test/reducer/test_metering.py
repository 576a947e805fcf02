"""What the reducer measures: its phases, what became of rounds and updates, and who is there."""

import inspect
import re
from dataclasses import replace

import masked_attempts as masked
import pytest
from builders import (
    ANNA,
    BERT,
    CARL,
    MODEL_1,
    NORTH,
    SESSION,
    SOUTH,
    SOUTH_1,
    a_cell,
    a_contribution,
    a_partial,
    a_plan,
    a_reducer,
    some_progress,
    some_terms,
)

from fedn_py.errors import OwnFault
from fedn_py.protocol.machine import UnexpectedEvent
from fedn_py.protocol.masked.opening_work import CellOpened
from fedn_py.protocol.masked_rounds_work import Masked
from fedn_py.protocol.messages import Exclusion
from fedn_py.protocol.reducer import step
from fedn_py.protocol.reducer_work import (
    Committing,
    Idle,
    Paused,
    Reducer,
    RoundNotSaved,
    RoundSaved,
    SessionStarted,
    UpdateDeadlinePassed,
    Updating,
)
from fedn_py.reducer.metering import PHASES, ReducerMetrics
from fedn_py.reducer.views import phase_of

COMMITTED_AT = 1_790_000_000.0
EXCLUDED = Exclusion(BERT, "NotFinite: parameter 3 is nan", "")


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(clock: Clock) -> ReducerMetrics:
    return ReducerMetrics(clock, lambda: COMMITTED_AT)


def value(metrics: ReducerMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def committing() -> Reducer:
    """Return a reducer whose two cells have answered: Anna and Carl are in, Bert is not."""
    cells = {
        NORTH: a_cell(ANNA, BERT, partial=a_partial(a_contribution(ANNA), excluded=(EXCLUDED,))),
        SOUTH: a_cell(CARL, instance=SOUTH_1, partial=a_partial(a_contribution(CARL))),
    }
    return a_reducer(Committing(some_progress(), a_plan(), cells), north=(ANNA, BERT), south=(CARL,))


def test_the_phases_are_those_that_views_name(metrics: ReducerMetrics) -> None:
    assert phase_of(Idle()) == PHASES[0]
    source = inspect.getsource(phase_of) + inspect.getsource(Masked)
    named = re.findall(r'return "(\w+)"(?: if \w+ else "(\w+)")?', source)
    assert {word for words in named for word in words if word} == set(PHASES)
    assert [phase for phase in PHASES if value(metrics, "fedn_round_phase", fedn_round_phase=phase)] == ["idle"]


def test_a_committed_round_counts_with_its_updates_and_those_left_out(metrics: ReducerMetrics, clock: Clock) -> None:
    stepped = metrics.rounds.measured(step)
    metrics.rounds.look_at(committing())
    clock.now += 12.0

    stepped(committing(), RoundSaved(SESSION, 1, 1, MODEL_1))

    assert value(metrics, "fedn_rounds_committed_total") == 1
    assert value(metrics, "fedn_round_duration_seconds_sum") == 12.0
    assert value(metrics, "fedn_round_last_commit_timestamp_seconds") == COMMITTED_AT
    assert value(metrics, "fedn_round_updates_included_total") == 2
    assert value(metrics, "fedn_round_updates_excluded_total", reason="NotFinite") == 1
    assert value(metrics, "fedn_round_phase", fedn_round_phase="validating") == 1
    assert value(metrics, "fedn_round_phase_duration_seconds_sum", phase="committing") == 12.0


def test_a_committed_masked_round_counts_the_updates_in_its_opened_sums(metrics: ReducerMetrics) -> None:
    ready, _ = masked.run(masked.opening(), *(CellOpened(one.ctx) for one in (masked.NORTHERN, masked.SOUTHERN)))
    saved = RoundSaved(SESSION, 1, 1, MODEL_1)

    metrics.rounds.measured(step)(ready, saved)

    rows = sum(len(cell.rows) for cell in masked.work_of(ready).attempt.cells)
    assert rows > 0
    assert value(metrics, "fedn_rounds_committed_total") == 1
    assert value(metrics, "fedn_round_updates_included_total") == rows


def test_a_failed_attempt_counts_by_the_code_of_its_reason(metrics: ReducerMetrics) -> None:
    stepped = metrics.rounds.measured(step)

    stepped(committing(), RoundNotSaved(SESSION, 1, 1, "StoreFull: there is no room left"))
    stepped(committing(), RoundNotSaved(SESSION, 1, 1, "Anna's words: are no label"))

    assert value(metrics, "fedn_round_attempts_failed_total", reason="StoreFull") == 1
    assert value(metrics, "fedn_round_attempts_failed_total", reason="other") == 1
    assert value(metrics, "fedn_rounds_committed_total") == 0


def test_clients_that_answered_nothing_before_the_deadline_count_as_late(metrics: ReducerMetrics) -> None:
    cells = {NORTH: a_cell(ANNA, BERT)}
    state = a_reducer(Updating(some_progress(), a_plan(), cells), north=(ANNA, BERT))

    metrics.rounds.measured(step)(state, UpdateDeadlinePassed(SESSION, 1, 1))

    assert value(metrics, "fedn_round_updates_excluded_total", reason="Late") == 2
    assert value(metrics, "fedn_round_attempts_failed_total", reason="TooFewUpdates") == 1


def test_a_round_s_time_begins_anew_with_each_round_and_leaves_rest_and_validation_out(
    metrics: ReducerMetrics, clock: Clock
) -> None:
    metrics.rounds.look_at(replace(committing(), work=Paused(some_progress(), "by its operator")))
    clock.now += 1_000.0
    metrics.rounds.look_at(committing())
    clock.now += 3.0

    metrics.rounds.measured(step)(committing(), RoundSaved(SESSION, 1, 1, MODEL_1))

    assert value(metrics, "fedn_round_duration_seconds_sum") == 3.0
    assert value(metrics, "fedn_round_phase_duration_seconds_count", phase="paused") is None


def test_who_is_there_and_how_far_the_session_is_shows(metrics: ReducerMetrics) -> None:
    terms = some_terms(clients_required=2, rounds=5)
    state = a_reducer(Idle(), north=(ANNA, BERT), south=(CARL,))

    metrics.rounds.measured(step)(state, SessionStarted(some_progress(terms, committed=3)))

    assert value(metrics, "fedn_clients_connected") == 3
    assert value(metrics, "fedn_combiners_connected") == 2
    assert value(metrics, "fedn_clients_required") == 2
    assert value(metrics, "fedn_session_running") == 1
    assert (value(metrics, "fedn_session_rounds_wanted"), value(metrics, "fedn_session_rounds_committed")) == (5, 3)


def test_a_reducer_that_is_active_no_longer_shows_nobody_and_nothing_under_way(metrics: ReducerMetrics) -> None:
    metrics.now_active()
    metrics.rounds.look_at(committing())
    assert value(metrics, "fedn_reducer_active") == 1

    metrics.no_longer_active()

    for name in ("fedn_reducer_active", "fedn_clients_connected", "fedn_combiners_connected", "fedn_session_running"):
        assert value(metrics, name) == 0
    assert value(metrics, "fedn_round_phase", fedn_round_phase="idle") == 1


def test_what_the_machine_refuses_changes_no_metric(metrics: ReducerMetrics) -> None:
    with pytest.raises(UnexpectedEvent):
        metrics.rounds.measured(step)(a_reducer(Idle()), RoundSaved(SESSION, 1, 1, MODEL_1))
    assert value(metrics, "fedn_rounds_committed_total") == 0


def test_a_sweep_shows_when_it_last_succeeded_and_how_often_it_did_not(metrics: ReducerMetrics) -> None:
    metrics.sweep.ended(OwnFault("the store is away"))
    assert value(metrics, "fedn_object_sweep_last_success_timestamp_seconds") == 0
    metrics.sweep.ended(None)
    assert value(metrics, "fedn_object_sweep_last_success_timestamp_seconds") == COMMITTED_AT
    assert value(metrics, "fedn_object_sweep_failures_total") == 1
