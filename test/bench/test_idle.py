"""Idle clients: all get the task and acknowledge it, and the figures are whole."""

from pathlib import Path

import pytest

from fedn_py.bench.faults import ImpossibleBench
from fedn_py.bench.idle import IdleBench, measure_idle


@pytest.mark.system
def test_every_attached_client_gets_the_task_and_acknowledges_it(tmp_path: Path) -> None:
    found = measure_idle(IdleBench(clients=5, client_processes=2, heartbeat_s=1.0), tmp_path, print)
    assert (found["clients"], found["client_processes"]) == (5, 2)
    assert 0 < found["tasked_s"] <= found["acknowledged_s"] < 60
    assert found["attached_s"] > 0
    assert found["combiner_bytes_a_client"] > 0
    assert 0 <= found["combiner_cpu_idle"] < 1
    assert found["reconnected"] == 0


def test_more_connections_than_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedn_py.bench.idle.available_memory_bytes", lambda: 10**8)
    with pytest.raises(ImpossibleBench, match="GB of memory"):
        measure_idle(IdleBench(clients=10_000), tmp_path, print)
