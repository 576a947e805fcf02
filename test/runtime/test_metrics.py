"""What every process measures of itself, and the rules that all metrics keep."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

import fedn_py
from fedn_py.runtime.metrics import (
    LoopLag,
    PhaseMetrics,
    StoreMetrics,
    TransferMetrics,
    measure_certificate,
    measure_disk,
    metrics_page,
    new_registry,
)


def test_a_new_registry_knows_the_build_and_the_process_and_nothing_is_in_the_library_s_own() -> None:
    before = {metric.name for metric in REGISTRY.collect()}
    registry = new_registry("combiner")
    assert registry.get_sample_value("fedn_build_info", {"version": fedn_py.__version__, "role": "combiner"}) == 1
    memory = registry.get_sample_value("process_resident_memory_bytes")
    assert memory is not None
    assert memory > 1 << 20
    assert {metric.name for metric in REGISTRY.collect()} == before


def test_the_page_is_in_the_form_that_prometheus_asks_for() -> None:
    registry = new_registry("reducer")
    page = metrics_page(registry, "application/openmetrics-text; version=1.0.0")
    assert page.content_type.startswith("application/openmetrics-text")
    assert "fedn_build_info" in {family.name for family in open_metrics(page.body.decode())}
    page = metrics_page(registry, "*/*")
    assert page.content_type.startswith("text/plain")
    assert "fedn_build_info" in {family.name for family in plain_text(page.body.decode())}


def test_the_certificate_s_end_and_the_disk_are_shown(tmp_path: Path) -> None:
    registry = new_registry("reducer")
    measure_certificate(registry, datetime(2030, 1, 1, tzinfo=UTC))
    measure_disk(registry, tmp_path)
    ends = registry.get_sample_value("fedn_certificate_expiry_timestamp_seconds")
    assert ends == datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    free = registry.get_sample_value("fedn_state_disk_free_bytes")
    size = registry.get_sample_value("fedn_state_disk_size_bytes")
    assert free is not None
    assert size is not None
    assert 0 <= free <= size
    assert size > 0


def test_a_store_s_operations_are_counted_by_outcome_and_its_faults_by_name() -> None:
    registry = new_registry("reducer")
    observe = StoreMetrics(registry).observer("documents", ["StoreUnavailable", "StoreFull"])
    observe("update", "refused", "", 0.25)
    observe("get", "failed", "StoreUnavailable", 5.0)
    name, labels = "fedn_store_operation_duration_seconds", {"store": "documents", "operation": "update"}
    assert registry.get_sample_value(f"{name}_sum", {**labels, "outcome": "refused"}) == 0.25
    errors = {"store": "documents", "error": "StoreUnavailable"}
    assert registry.get_sample_value("fedn_store_errors_total", errors) == 1


def test_bytes_are_read_where_they_are_counted() -> None:
    registry, moved = new_registry("reducer"), {"in": 3, "out": 4}
    transfer = TransferMetrics(registry)
    assert registry.get_sample_value("fedn_transfer_bytes_total", {"direction": "sent"}) == 0
    transfer.read(received=lambda: moved["in"], sent=lambda: moved["out"])
    moved["out"] += 10
    assert registry.get_sample_value("fedn_transfer_bytes_total", {"direction": "received"}) == 3
    assert registry.get_sample_value("fedn_transfer_bytes_total", {"direction": "sent"}) == 14


def test_phases_are_measured_and_rest_is_not() -> None:
    registry, now = new_registry("reducer"), [0.0]
    phases = PhaseMetrics(
        registry, "fedn_x_phase", "x", ("idle", "busy"), at_rest=frozenset({"idle"}), clock=lambda: now[0]
    )
    now[0] = 100.0
    phases.enter("busy")
    now[0] = 105.0
    phases.enter("busy")
    now[0] = 107.0
    phases.enter("idle")
    assert registry.get_sample_value("fedn_x_phase_duration_seconds_sum", {"phase": "busy"}) == 7.0
    assert registry.get_sample_value("fedn_x_phase_duration_seconds_sum", {"phase": "idle"}) is None
    assert registry.get_sample_value("fedn_x_phase", {"fedn_x_phase": "idle"}) == 1


def test_a_loop_that_is_held_up_is_seen_to_lag() -> None:
    registry = new_registry("reducer")

    async def story() -> None:
        loop, later = asyncio.get_running_loop(), [0.0]
        real = loop.time
        loop.time = lambda: real() + later[0]  # type: ignore[method-assign]
        watching = asyncio.create_task(LoopLag(registry).watch())
        await asyncio.sleep(0)
        later[0] = 61.0  # the loop comes back to its timers a minute late
        while not registry.get_sample_value("fedn_event_loop_lag_seconds_count"):  # noqa: ASYNC110
            await asyncio.sleep(0)
        watching.cancel()

    asyncio.run(story())
    assert registry.get_sample_value("fedn_event_loop_lag_seconds_sum") == pytest.approx(60.0, abs=5.0)
