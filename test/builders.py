"""Values for tests: ordinary ones, with what a test is about given by keyword."""

from collections.abc import Iterable, Mapping
from typing import Any

from fedn_py.identity import ClientId, CombinerName, Digest, Generation, InstanceId, SessionId
from fedn_py.protocol.combiner_work import Combiner, ReportProgress, UpdateArrived
from fedn_py.protocol.messages import (
    CellOrder,
    Contribution,
    MetricsSummary,
    PartialAggregate,
    RoundCommitted,
    RoundPlan,
    RoundProgress,
    TrainTask,
    ValidateTask,
    ValidationOrder,
    ValidationReport,
)
from fedn_py.protocol.reducer_terms import Cell, Joined, Progress, SessionTerms
from fedn_py.protocol.reducer_work import (
    Reducer,
)

ANNA, BERT, CARL, DORA = (ClientId(name) for name in ("anna", "bert", "carl", "dora"))
NORTH, SOUTH = CombinerName("north"), CombinerName("south")
NORTH_1, NORTH_2, SOUTH_1 = InstanceId("north-1"), InstanceId("north-2"), InstanceId("south-1")
SESSION, OTHER_SESSION = SessionId("5e55"), SessionId("0ff5")
SEED, MODEL_1, MODEL_2, PACKAGE = (Digest(name * 64) for name in ("0", "1", "2", "f"))
GENERATION = Generation(7)
GRACE_S = 5.0


def a_plan(**changed: Any) -> RoundPlan:
    """Return the first attempt at the first round."""
    plain: dict[str, Any] = {
        "session": SESSION,
        "session_number": 1,
        "round_number": 1,
        "attempt": 1,
        "base_model": SEED,
        "package": PACKAGE,
        "parameters": "{}",
        "masking": "none",
        "update_timeout_s": 60.0,
    }
    return RoundPlan(**{**plain, **changed})


def an_order(
    clients: Iterable[ClientId] = (ANNA, BERT),
    *,
    generation: int = GENERATION,
    wanted: int | None = None,
    plan: RoundPlan | None = None,
) -> CellOrder:
    """Return an order for the updates of these clients, all of them wanted unless said otherwise."""
    asked = tuple(clients)
    return CellOrder(plan or a_plan(), Generation(generation), asked, len(asked) if wanted is None else wanted)


def a_validation(clients: Iterable[ClientId] = (ANNA, BERT), *, generation: int = GENERATION) -> ValidationOrder:
    """Return an order to validate the first round's model."""
    return ValidationOrder(Generation(generation), SESSION, 1, MODEL_1, PACKAGE, "{}", 30.0, tuple(clients))


def a_contribution(client: ClientId = ANNA, samples: int = 10, update: str = "a") -> Contribution:
    """Return what a sum says of one update; another letter is another update."""
    return Contribution(client, samples, Digest(update * 64))


def an_arrival(
    client: ClientId = ANNA, *, generation: int = GENERATION, samples: int = 10, update: str = "a"
) -> UpdateArrived:
    """Return a whole update's arrival; the upload is named after its client and letter."""
    contribution = a_contribution(client, samples, update)
    return UpdateArrived(Generation(generation), f"{client}/{update}", contribution)


def a_partial(*included: Contribution, generation: int = GENERATION, **changed: Any) -> PartialAggregate:
    """Return a combiner's answer whose weight and sum belong to its list."""
    plain: dict[str, Any] = {
        "generation": Generation(generation),
        "sum_object": Digest("5" * 64) if included else None,
        "weight": sum(contribution.samples for contribution in included),
        "included": included,
        "excluded": (),
        "training_metrics": MetricsSummary(),
    }
    return PartialAggregate(**{**plain, **changed})


def a_report(generation: int) -> ValidationReport:
    """Return a combiner's report of a validation."""
    return ValidationReport(Generation(generation), 1, 10, MetricsSummary(), ())


def a_train_task(*, generation: int = GENERATION, plan: RoundPlan | None = None) -> TrainTask:
    """Return the task to train for a plan."""
    return TrainTask(plan or a_plan(), Generation(generation))


def a_validate_task(*, generation: int = GENERATION) -> ValidateTask:
    """Return the task to validate."""
    return ValidateTask(a_validation(generation=generation))


def a_commit(*, round_number: int = 1) -> RoundCommitted:
    """Return the news that a round is committed."""
    return RoundCommitted(SESSION, round_number, MODEL_1)


def some_terms(**changed: Any) -> SessionTerms:
    """Return the terms of a session of two rounds."""
    plain: dict[str, Any] = {
        "session": SESSION,
        "number": 1,
        "rounds": 2,
        "package": PACKAGE,
        "seed_model": SEED,
        "update_timeout_s": 60.0,
        "validation_timeout_s": 30.0,
    }
    return SessionTerms(**{**plain, **changed})


def some_progress(terms: SessionTerms | None = None, **changed: Any) -> Progress:
    """Return how far a session is: nothing is done yet, and some generations were used by others before."""
    plain: dict[str, Any] = {"committed": 0, "head": SEED, "attempt": 1, "generation": Generation(GENERATION)}
    return Progress(terms or some_terms(), **{**plain, **changed})


def a_cell(*clients: ClientId, generation: int = GENERATION, instance: InstanceId = NORTH_1, **changed: Any) -> Cell:
    """Return a cell that has not answered."""
    return Cell(instance, Generation(generation), frozenset(clients), **changed)


def a_roster(**clients: Iterable[ClientId]) -> Mapping[CombinerName, Joined]:
    """Return who is attached where; a combiner's instance is named after it, in its first life."""
    return {CombinerName(name): Joined(InstanceId(f"{name}-1"), frozenset(there)) for name, there in clients.items()}


def a_reducer(work: Any, **clients: Iterable[ClientId]) -> Reducer:
    """Return a reducer with this work and these clients at its combiners."""
    return Reducer(a_roster(**clients), work)


def a_combiner(work: Any, *attached: ClientId) -> Combiner:
    """Return a combiner with this work and these clients."""
    return Combiner(GRACE_S, frozenset(attached), work)


def progress_told(effects: Iterable[object]) -> list[RoundProgress]:
    """Return what those who watch are told by effects that do nothing else."""
    assert all(isinstance(effect, ReportProgress) for effect in effects)
    return [effect.progress.told() for effect in effects if isinstance(effect, ReportProgress)]
