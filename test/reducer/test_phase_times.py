from dataclasses import replace

import pytest
from builders import a_cell, a_plan, some_progress

from fedn_py.identity import CombinerName, Generation
from fedn_py.protocol.machine import StartTimer
from fedn_py.protocol.reducer_work import (
    Committing,
    Effect,
    Event,
    Failed,
    Gathering,
    Idle,
    Reducer,
    RetryDue,
    Updating,
    Validating,
    Work,
)
from fedn_py.reducer.phase_times import PhaseTimes
from fedn_py.reducer.records import PhaseRecord, RoundRecord

NORTH = CombinerName("north")
PLAN = a_plan()
PROGRESS = some_progress()
CELLS = {NORTH: a_cell()}
RECORD = RoundRecord(PLAN, "running", Generation(1), (), started=10.0, attempt_started=10.0)
EVENT = RetryDue(PLAN.session, 1, 1)


class Watched:
    """Phase times that a test leads from state to state."""

    def __init__(self) -> None:
        self.now = 0.0
        self.times = PhaseTimes(lambda: self.now)
        self.state = Reducer()

    def enter(self, at: float, work: Work) -> None:
        self.now = at
        step = self.times.timed(lambda state, _: (replace(state, work=work), []))
        self.state, _ = step(self.state, EVENT)


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_round_s_phases_follow_each_other_without_a_gap(watched: Watched) -> None:
    watched.enter(10.0, Updating(PROGRESS, PLAN, CELLS))
    watched.enter(12.0, replace(watched.state.work, losses=1))  # type: ignore[type-var]
    watched.enter(15.0, Committing(PROGRESS, PLAN, CELLS))
    assert watched.times.of(RECORD) == (PhaseRecord("updating", 10.0, 15.0), PhaseRecord("committing", 15.0))
    assert watched.times.of(RECORD, 16.0)[-1] == PhaseRecord("committing", 15.0, 16.0)
    assert (watched.times.since, watched.times.began("updating"), watched.times.began("sum")) == (15.0, 10.0, 15.0)


def test_a_validation_belongs_to_its_round_and_is_there_when_the_next_one_has_begun(watched: Watched) -> None:
    watched.enter(10.0, Updating(PROGRESS, PLAN, CELLS))
    watched.enter(20.0, Validating(some_progress(committed=1), {}))
    watched.enter(25.0, Updating(some_progress(committed=1), replace(PLAN, round_number=2), CELLS))
    validated = (PhaseRecord("updating", 10.0, 20.0), PhaseRecord("validating", 20.0, 25.0))
    assert watched.times.of(RECORD) == validated
    assert watched.times.of(replace(RECORD, phases=validated[:1])) == validated
    second = replace(RECORD, plan=replace(PLAN, round_number=2), attempt_started=25.5)
    assert watched.times.of(second) == (PhaseRecord("updating", 25.0),)


def test_waiting_belongs_to_no_attempt_and_a_new_attempt_begins_anew(watched: Watched) -> None:
    watched.enter(10.0, Updating(PROGRESS, PLAN, CELLS))
    watched.enter(20.0, Failed(PROGRESS, "TooFewUpdates"))
    watched.enter(30.0, Gathering(PROGRESS, ""))
    assert watched.times.of(RECORD) == (PhaseRecord("updating", 10.0, 20.0),)
    assert watched.times.since == 30.0
    again = replace(PLAN, attempt=2)
    watched.enter(40.0, Updating(PROGRESS, again, CELLS))
    assert watched.times.of(replace(RECORD, plan=again, attempt_started=40.0)) == (PhaseRecord("updating", 40.0),)
    watched.enter(50.0, Idle())
    assert watched.times.since == 50.0


def test_of_a_round_that_nobody_saw_its_record_says_what_is_known(watched: Watched) -> None:
    kept = (PhaseRecord("updating", 1.0, 2.0),)
    assert watched.times.of(replace(RECORD, phases=kept)) == kept


def test_an_attempt_that_was_found_after_a_restart_is_counted_from_when_it_began(watched: Watched) -> None:
    watched.enter(100.0, Updating(PROGRESS, PLAN, CELLS))
    assert watched.times.of(RECORD) == (PhaseRecord("updating", 10.0),)


def test_a_validation_that_was_found_after_a_restart_comes_behind_what_is_written_down(watched: Watched) -> None:
    kept = (PhaseRecord("updating", 10.0, 20.0),)
    watched.enter(100.0, Validating(some_progress(committed=1), {}))
    watched.enter(105.0, Idle())
    assert watched.times.of(replace(RECORD, phases=kept)) == (*kept, PhaseRecord("validating", 100.0, 105.0))


def test_the_machine_s_effects_are_passed_on(watched: Watched) -> None:
    effects: list[Effect] = [StartTimer(1.0, EVENT)]

    def step(state: Reducer, event: Event) -> tuple[Reducer, list[Effect]]:
        return state, effects

    assert watched.times.timed(step)(Reducer(), EVENT) == (Reducer(), effects)
