"""What is kept and what goes on, as people see it, in every phase of the machine."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from builders import (
    ANNA,
    BERT,
    GENERATION,
    MODEL_1,
    NORTH,
    NORTH_1,
    SEED,
    SESSION,
    SOUTH,
    a_cell,
    a_plan,
    a_validation,
    some_progress,
    some_terms,
)
from masked_attempts import (
    NORTH_ANSWERS,
    NORTH_CLOSED,
    NORTH_FORMED,
    SOUTH_ANSWERS,
    SOUTH_CLOSED,
    SOUTH_FORMED,
    planning,
    run,
    running,
    work_of,
)

from fedn_py.identity import ClientName, Digest, Generation, TokenId
from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.protocol.masked_rounds import ANSWER_MARGIN_S, SUM_S
from fedn_py.protocol.masked_rounds_work import Masked
from fedn_py.protocol.messages import ClientProgress, RoundProgress
from fedn_py.protocol.reducer import BY_OPERATOR
from fedn_py.protocol.reducer_work import Committing, Failed, Gathering, Idle, Paused, Updating, Validating, Work
from fedn_py.reducer import views
from fedn_py.reducer.records import (
    ExcludedClient,
    FailedAttempt,
    IncludedClient,
    MaskedCellRecord,
    MaskedRoundRecord,
    Measured,
    OrderedCell,
    PhaseRecord,
    RoundRecord,
    SessionRecord,
    SumParticipant,
    TokenKept,
)
from fedn_py.reducer.shown_rounds import AskedView
from fedn_py.transport.authentication import TokenRecord

PROGRESS = some_progress()
DONE = some_progress(committed=1, head=MODEL_1)
CELLS = {NORTH: a_cell(ANNA)}
WORKS: dict[str, Work] = {
    "idle": Idle(),
    "waiting": Gathering(PROGRESS, "need 2 clients, have 1"),
    "updating": Updating(PROGRESS, a_plan(), CELLS),
    "committing": Committing(PROGRESS, a_plan(), CELLS),
    "validating": Validating(DONE, {NORTH: a_validation(generation=9)}),
    "failed": Failed(PROGRESS, "TooFewUpdates: 0 of 1"),
    "paused": Paused(PROGRESS, BY_OPERATOR),
}
RUNNING = RoundRecord(
    a_plan(),
    "running",
    GENERATION,
    (OrderedCell(NORTH, NORTH_1, GENERATION, (ANNA,)),),
    started=100.0,
    attempt_started=110.0,
)
COMMITTED = replace(
    RUNNING,
    status="committed",
    ended=130.0,
    seconds=20.0,
    model=MODEL_1,
    model_size=99,
    samples=10,
    included=(IncludedClient(ANNA, ClientName("anna"), NORTH, 10, Digest("a" * 64)),),
    excluded=(ExcludedClient(ANNA, ClientName("bert"), "Late: no", "log"),),
    training=Measured(means={"loss": 0.25}),
    validation=Measured(2, 40, {"accuracy": 0.5}, {ClientName("anna"): {"accuracy": 0.75}}),
)
SESSION_RECORD = SessionRecord("s", some_terms(parameters='{"lr": 0.1}'), "running", "", 50.0)


@pytest.mark.parametrize("phase", WORKS)
def test_every_phase_has_its_name(phase: str) -> None:
    assert views.phase_of(WORKS[phase]) == phase


@pytest.mark.parametrize(
    ("heard", "phase"),
    [
        ((), "sum"),
        ((NORTH_FORMED,), "sum"),
        ((NORTH_FORMED, SOUTH_FORMED), "updating"),
        ((NORTH_FORMED, SOUTH_FORMED, NORTH_CLOSED), "updating"),
        ((NORTH_FORMED, SOUTH_FORMED, NORTH_CLOSED, SOUTH_CLOSED), "sum2"),
        ((NORTH_FORMED, SOUTH_FORMED, NORTH_CLOSED, SOUTH_CLOSED, *NORTH_ANSWERS, *SOUTH_ANSWERS), "unmasking"),
    ],
)
def test_a_masked_round_says_how_far_it_is(heard: tuple[Any, ...], phase: str) -> None:
    work = work_of(run(running(), *heard)[0])
    assert views.phase_of(work) == phase
    assert views.round_number_of(work) == 1
    assert views.round_view(RUNNING, work, {}, now=115.0).phase == phase


def test_a_masked_round_that_is_being_planned_says_so() -> None:
    work = planning().work
    assert (views.phase_of(work), views.round_number_of(work)) == ("planning", 1)


@pytest.mark.parametrize(
    ("phase", "number"),
    [
        ("idle", None),
        ("waiting", 1),
        ("updating", 1),
        ("committing", 1),
        ("validating", 1),
        ("failed", 1),
        ("paused", 1),
    ],
)
def test_the_round_under_way_is_the_next_one_but_for_one_that_is_validated(phase: str, number: int | None) -> None:
    assert views.round_number_of(WORKS[phase]) == number


@pytest.mark.parametrize(
    ("phase", "status", "reason"),
    [
        ("waiting", "waiting", "need 2 clients, have 1"),
        ("updating", "running", ""),
        ("committing", "running", ""),
        ("validating", "running", ""),
        ("failed", "running", "the next attempt begins soon; the last one failed: TooFewUpdates: 0 of 1"),
    ],
)
def test_a_session_that_runs_says_what_it_is_about(phase: str, status: str, reason: str) -> None:
    view = views.session_view(SESSION_RECORD, 0, None, WORKS[phase])
    assert (view.status, view.reason) == (status, reason)


def test_a_session_that_rests_says_who_or_what_stopped_it() -> None:
    by_operator = replace(SESSION_RECORD, status="paused", reason=BY_OPERATOR)
    view = views.session_view(by_operator, 0, None, WORKS["paused"])
    assert (view.status, view.reason) == ("paused", BY_OPERATOR)
    why = "round 1 failed 3 times, at last with: X"
    by_itself = replace(SESSION_RECORD, status="paused", reason=why)
    view = views.session_view(by_itself, 0, None, Paused(PROGRESS, why))
    assert (view.status, view.reason) == ("failed", why)


@pytest.mark.parametrize("status", ["finished", "stopped"])
def test_a_session_that_has_ended_is_not_touched_by_what_goes_on_now(status: str) -> None:
    other = some_progress(some_terms(session="another"))
    record = replace(SESSION_RECORD, status=status, reason="r")
    view = views.session_view(record, 2, MODEL_1, Gathering(other, "need 1 clients, have 0"))
    assert (view.status, view.reason, view.rounds_done, view.final_model) == (status, "r", 2, MODEL_1)


def test_a_session_shows_the_options_it_was_started_with() -> None:
    view = views.session_view(SESSION_RECORD, 0, None, Idle())
    assert view.options.parameters == {"lr": 0.1}
    assert (view.options.rounds, view.options.seed_model, view.id, view.number) == (2, SEED, SESSION, 1)


def test_a_running_round_shows_its_phase_its_time_and_its_combiners() -> None:
    told = {
        NORTH: RoundProgress(GENERATION, "collecting", 1, 2, 3),
        SOUTH: RoundProgress(Generation(GENERATION - 1), "collecting", 9, 9, 9),  # of the round before
    }
    view = views.round_view(RUNNING, WORKS["updating"], told, now=115.0)
    assert (view.status, view.phase, view.seconds, view.model) == ("running", "updating", 5.0, None)
    assert [(one.combiner, one.included, one.training, one.excluded) for one in view.progress] == [(NORTH, 1, 2, 3)]


@pytest.mark.parametrize("phase", ["idle", "waiting", "failed", "paused"])
def test_a_round_that_nobody_works_on_shows_no_progress(phase: str) -> None:
    told = {NORTH: RoundProgress(GENERATION, "collecting", 1, 2, 3)}
    assert views.round_view(RUNNING, WORKS[phase], told, now=115.0).progress == ()


def test_a_committed_round_shows_its_clients_and_metrics() -> None:
    view = views.round_view(COMMITTED, WORKS["idle"], {}, now=999.0)
    assert (view.status, view.phase, view.seconds, view.samples, view.model) == ("done", "done", 20.0, 10, MODEL_1)
    assert [(one.name, one.samples) for one in view.clients] == [("anna", 10)]
    assert [(one.name, one.reason, one.log) for one in view.excluded] == [("bert", "Late: no", "log")]
    assert (view.metrics, view.metrics_by_client) == ({"accuracy": 0.5}, {"anna": {"accuracy": 0.75}})
    assert view.training_metrics == {"loss": 0.25}


def test_a_committed_round_that_is_validated_shows_so_and_who_was_asked() -> None:
    told = {NORTH: RoundProgress(Generation(9), "validating", 1, 1, 0, (ClientProgress(BERT, "in"),))}
    view = views.round_view(COMMITTED, WORKS["validating"], told, now=999.0)
    assert (view.status, view.phase) == ("done", "validating")
    assert [(one.name, one.state) for one in view.asked] == [(ANNA[:12], "asked"), (BERT[:12], "in")]


def test_a_running_round_shows_where_each_client_is_as_its_combiner_tells() -> None:
    told = {NORTH: RoundProgress(GENERATION, "collecting", 0, 0, 1, (ClientProgress(ANNA, "out", "Failed: no data"),))}
    names = {ANNA: ClientName("anna")}
    view = views.round_view(RUNNING, WORKS["updating"], told, now=115.0, name_of=names.__getitem__)
    assert view.asked == (AskedView(ClientName("anna"), NORTH, "out", "Failed: no data"),)
    before = replace(told[NORTH], generation=Generation(GENERATION - 1))
    view = views.round_view(RUNNING, WORKS["updating"], {NORTH: before}, now=115.0, name_of=names.__getitem__)
    assert [one.state for one in view.asked] == ["asked"]
    assert views.round_view(RUNNING, WORKS["failed"], told, now=115.0).asked == ()


def test_a_round_shows_how_long_each_phase_took_and_has_taken() -> None:
    phases = (PhaseRecord("updating", 100.0, 110.0), PhaseRecord("committing", 110.0))
    view = views.round_view(RUNNING, WORKS["committing"], {}, now=115.0, phases=phases)
    assert [(one.phase, one.started_at, one.seconds) for one in view.phases] == [
        ("updating", 100.0, 10.0),
        ("committing", 110.0, 5.0),
    ]


@dataclass(frozen=True)
class Clock:
    since: float

    def began(self, phase: str) -> float:
        return {"sum": 50.0}[phase]


@pytest.mark.parametrize(
    ("phase", "within_s"),
    [
        ("idle", None),
        ("waiting", None),
        ("updating", a_plan().update_timeout_s + ANSWER_MARGIN_S),
        ("committing", None),
        ("validating", PROGRESS.terms.validation_timeout_s + ANSWER_MARGIN_S),
        ("paused", None),
    ],
)
def test_a_phase_ends_at_the_latest_when_the_machine_s_timer_rings(phase: str, within_s: float | None) -> None:
    deadline = views.deadline_of(WORKS[phase], Clock(100.0))
    assert deadline == (None if within_s is None else 100.0 + within_s)


def test_the_next_attempt_comes_when_the_delay_after_the_failed_one_is_over() -> None:
    terms = some_terms(retry_delay_s=3.0)
    failed = Failed(replace(PROGRESS, terms=terms, attempt=3), "TooFewUpdates")
    assert views.deadline_of(failed, Clock(100.0)) == 106.0


def test_a_masked_attempt_has_one_deadline_from_its_order_to_the_last_update() -> None:
    work = work_of(run(running(), NORTH_FORMED, SOUTH_FORMED)[0])
    assert isinstance(work, Masked)
    assert views.deadline_of(work, Clock(100.0)) == 50.0 + SUM_S + work.plan.update_timeout_s + ANSWER_MARGIN_S


def test_a_failed_round_shows_its_last_reason_and_a_later_success_hides_it() -> None:
    failures = (FailedAttempt(1, "first", 111.0), FailedAttempt(2, "second", 125.0))
    failed = replace(RUNNING, status="failed", failures=failures, ended=125.0)
    view = views.round_view(failed, WORKS["failed"], {}, now=999.0)
    assert (view.status, view.reason, view.seconds) == ("failed", "second", 15.0)
    assert views.round_view(replace(COMMITTED, failures=failures), WORKS["idle"], {}, now=999.0).reason == ""


def test_a_masked_round_shows_how_it_was_hidden_and_who_held_the_masks_but_no_count_of_a_single_client() -> None:
    members = (
        SumParticipant(ANNA, ClientName("anna"), 1, 0, answered=False),
        SumParticipant(ANNA, ClientName("bert"), 0, 1, answered=True),
        SumParticipant(ANNA, ClientName("carl"), 0, 0, answered=True),
    )
    cells = (
        MaskedCellRecord(SOUTH, 0, (), out="TooFewUpdates: 2 of 3"),
        MaskedCellRecord(NORTH, 5, members, opened=True),
    )
    masked = MaskedRoundRecord("pet", 2, 2, 3, "strict", cells)
    included = (IncludedClient(ANNA, ClientName("anna"), NORTH, 0, Digest("a" * 64)),)
    training = Measured(samples=500, means={"loss": 0.25}, counts={"loss": 5})
    record = replace(COMMITTED, masked=masked, included=included, samples=500, training=training)
    view = views.round_view(record, WORKS["idle"], {}, now=999.0)
    assert ([one.samples for one in view.clients], view.samples) == ([None], 500)
    assert view.training_metrics == {"loss": 0.25}
    assert view.masking is not None
    assert (view.masking.scheme, view.masking.k, view.masking.r, view.masking.g_min) == ("pet", 2, 2, 3)
    assert view.masking.reopen == "strict"
    north, south = view.masking.cells
    assert (north.combiner, north.included, north.opened, south.reason) == (NORTH, 5, True, "TooFewUpdates: 2 of 3")
    assert [(one.name, one.slot, one.replica, one.answered) for one in north.members] == [
        ("carl", 0, 0, True),
        ("bert", 0, 1, True),
        ("anna", 1, 0, False),
    ]


def test_a_plain_round_is_shown_as_not_masked() -> None:
    view = views.round_view(COMMITTED, WORKS["idle"], {}, now=999.0)
    assert view.masking is None
    assert [one.samples for one in view.clients] == [10]


def test_a_session_shows_how_it_masks() -> None:
    terms = some_terms(masking="pet", masked=MaskedOptions(clip=0.5, k=3, metrics={"loss": 8.0}))
    view = views.session_view(replace(SESSION_RECORD, terms=terms), 0, None, Idle())
    assert (view.options.masking, view.options.masked) == ("pet", terms.masked)


def test_a_token_is_shown_without_its_hash() -> None:
    record = TokenRecord(TokenId("ab" * 8), "client", "site", "5ec2e7", 200.0, revoked=True)
    view = views.token_view(TokenKept(record, 100.0, 150.0))
    assert "5ec2e7" not in repr(view)
    assert (view.role, view.label, view.created, view.not_after, view.revoked, view.last_used) == (
        "client",
        "site",
        100.0,
        200.0,
        True,
        150.0,
    )
