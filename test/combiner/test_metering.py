"""What a combiner measures: its phase, the updates that it took and refused, and who is attached."""

import inspect
import re

import pytest
from builders import ANNA, BERT, GENERATION, a_combiner, a_contribution, an_arrival, an_order

from fedn_py.combiner.metering import PHASES, CombinerMetrics, phase_of
from fedn_py.identity import TokenId
from fedn_py.protocol.combiner import step
from fedn_py.protocol.combiner_work import (
    ClientAttached,
    Collecting,
    NoWork,
    ObjectsFetched,
    ObjectsNotFetched,
    Ordered,
    Preparing,
    UpdateAdded,
    UpdateNotAdded,
)
from fedn_py.protocol.machine import UnexpectedEvent
from fedn_py.transport.authentication import Caller

CALLER = Caller("client", str(ANNA), TokenId("00" * 8))


@pytest.fixture
def metrics() -> CombinerMetrics:
    return CombinerMetrics(lambda: 0.0)


def value(metrics: CombinerMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def collecting(*being_added: tuple[str, object]) -> Collecting:
    return Collecting(an_order(), training=frozenset({ANNA, BERT}), adding=being_added)  # type: ignore[arg-type]


def test_an_update_counts_as_admitted_once_it_is_in_the_sum(metrics: CombinerMetrics) -> None:
    stepped = metrics.measured(step)
    state, _ = stepped(a_combiner(collecting(), ANNA, BERT), an_arrival(ANNA))
    assert value(metrics, "fedn_updates_admitted_total") == 0
    state, _ = stepped(state, UpdateAdded(GENERATION, "anna/a"))
    assert value(metrics, "fedn_updates_admitted_total") == 1
    stepped(state, an_arrival(ANNA))  # the same one again: it is in, once
    assert value(metrics, "fedn_updates_admitted_total") == 1


def test_a_refused_update_counts_by_the_code_of_its_reason_alone(metrics: CombinerMetrics) -> None:
    stepped = metrics.measured(step)
    adding = collecting(("one", a_contribution(ANNA)), ("two", a_contribution(BERT)))
    state, _ = stepped(a_combiner(adding, ANNA, BERT), UpdateNotAdded(GENERATION, "one", "NotFinite: it is nan"))
    stepped(state, UpdateNotAdded(GENERATION, "two", "my own words: of client bert"))
    stepped(a_combiner(NoWork()), an_arrival(ANNA))
    for reason in ("NotFinite", "other", "Late"):
        assert value(metrics, "fedn_updates_refused_total", reason=reason) == 1


def test_the_phase_and_the_clients_follow_the_machine(metrics: CombinerMetrics) -> None:
    stepped = metrics.measured(step)
    state, _ = stepped(a_combiner(NoWork()), ClientAttached(ANNA))
    assert value(metrics, "fedn_combiner_clients_connected") == 1
    state, _ = stepped(state, Ordered(an_order()))
    assert value(metrics, "fedn_cell_phase", fedn_cell_phase="preparing") == 1
    state, _ = stepped(state, ObjectsFetched(GENERATION))
    assert value(metrics, "fedn_cell_phase", fedn_cell_phase="collecting") == 1
    assert value(metrics, "fedn_cell_phase_duration_seconds_count", phase="preparing") == 1


def test_an_order_that_cannot_be_answered_counts_as_a_failed_cell(metrics: CombinerMetrics) -> None:
    failed = ObjectsNotFetched(GENERATION, "PeerUnreachable: the reducer does not answer")
    metrics.measured(step)(a_combiner(Preparing(an_order())), failed)
    assert value(metrics, "fedn_cells_failed_total", reason="PeerUnreachable") == 1


def test_what_the_machine_refuses_changes_no_metric(metrics: CombinerMetrics) -> None:
    with pytest.raises(UnexpectedEvent):
        metrics.measured(step)(a_combiner(NoWork()), UpdateAdded(GENERATION, "anna/a"))
    assert value(metrics, "fedn_updates_admitted_total") == 0


def test_the_phases_are_those_that_are_named() -> None:
    assert phase_of(NoWork()) == PHASES[0]
    assert set(re.findall(r'return "(\w+)"', inspect.getsource(phase_of))) == set(PHASES)
