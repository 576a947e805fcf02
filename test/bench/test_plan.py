"""What cannot be measured is said before anything starts."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from fedn_py.bench import plan
from fedn_py.bench.faults import ImpossibleBench
from fedn_py.bench.plan import RoundBench, check


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    room(monkeypatch, disk=10**12, memory=10**12)


def room(monkeypatch: pytest.MonkeyPatch, *, disk: int, memory: int) -> None:
    usage: Any = type("Usage", (), {"free": disk})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(plan, "available_memory_bytes", lambda: memory)


@pytest.mark.usefixtures("roomy")
@pytest.mark.parametrize(("clients", "combiners"), [(2, 1), (8, 3)])
def test_masked_rounds_need_three_clients_in_each_cell(tmp_path: Path, clients: int, combiners: int) -> None:
    with pytest.raises(ImpossibleBench, match="masked rounds need 3 and more in each"):
        check(RoundBench(clients=clients, combiners=combiners, masking="pet"), tmp_path)
    check(RoundBench(clients=clients, combiners=combiners), tmp_path)


@pytest.mark.usefixtures("roomy")
def test_each_combiner_needs_a_client(tmp_path: Path) -> None:
    with pytest.raises(ImpossibleBench, match="3 combiners have only 2 clients"):
        check(RoundBench(clients=2, combiners=3), tmp_path)


def test_models_that_fit_neither_disk_nor_memory_are_refused_in_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room(monkeypatch, disk=20 * 10**9, memory=10 * 10**9)
    large = RoundBench(clients=40, params=250_000_000)
    with pytest.raises(ImpossibleBench, match=r"GB of disk.*; it takes .* GB of memory") as caught:
        check(large, tmp_path)
    assert "--lean" in caught.value.remedy


def test_committees_that_cannot_be_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ImpossibleBench, match="k is 1"):
        check(RoundBench(clients=10, masking="pet", slots=1), tmp_path)
    with pytest.raises(ImpossibleBench, match="need 5 and more"):
        check(RoundBench(clients=4, masking="pet", slots=3, replicas=2), tmp_path)
    check(RoundBench(clients=5, masking="pet", slots=3, replicas=2), tmp_path)
    check(RoundBench(clients=4, slots=1), tmp_path)  # plain rounds have none


def test_lean_clients_take_less_of_both() -> None:
    usual, lean = RoundBench(clients=40, params=250_000_000), RoundBench(clients=40, params=250_000_000, lean=True)
    assert lean.disk_bytes < 0.6 * usual.disk_bytes
    assert lean.memory_bytes < 10 * lean.model_bytes


def test_there_are_no_more_processes_than_clients() -> None:
    assert RoundBench(clients=2, client_processes=9).crowds == 2
