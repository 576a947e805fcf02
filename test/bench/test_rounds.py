"""The benchmark of rounds, at a tiny size: it runs, its numbers are whole, and a wrong model does not pass."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fedn_py.bench.constants import STEP, write_seed
from fedn_py.bench.faults import BenchFailed
from fedn_py.bench.plan import RoundBench
from fedn_py.bench.rounds import check_result, measure_rounds, options_of
from fedn_py.identity import Digest

LIMITS = {"grpc_up_mb_per_s": 500.0, "grpc_down_mb_per_s": 1_000.0}
PLAIN_LIMITS = {"grpc_plain_up_mb_per_s": 500.0, "grpc_plain_down_mb_per_s": 1_000.0}
ROLES = {"reducer", "combiner", "clients"}


def measured(folder: Path, bench: RoundBench) -> tuple[dict[str, Any], list[str]]:
    told: list[str] = []
    return measure_rounds(bench, folder, told.append, LIMITS if bench.tls else PLAIN_LIMITS), told


def assert_whole(found: dict[str, Any]) -> None:
    assert 0 < found["min_s"] <= found["median_s"] <= found["max_s"]
    assert all(isinstance(seconds, float) and seconds >= 0 for seconds in found["phases_s"].values())
    assert 0 < sum(found["phases_s"].values()) < 10 * found["max_s"]
    for name in ("cpu_s", "peak_rss_bytes", "idle_rss_bytes", "growth_models", "anonymous_growth_models"):
        assert set(found[name]) == ROLES, name
    assert all(0 <= seconds < 60 for seconds in found["cpu_s"].values())
    for role in ROLES:
        assert 10_000_000 < found["idle_rss_bytes"][role] <= found["peak_rss_bytes"][role]
        assert 0 < found["peak_anonymous_bytes"][role] <= found["peak_rss_bytes"][role]
        grown = found["peak_rss_bytes"][role] - found["idle_rss_bytes"][role]
        assert found["growth_models"][role] == pytest.approx(grown / found["model_bytes"], abs=0.01)
    # Each client gets the model and sends an update as large.
    assert found["wire_bytes"] > 2 * found["clients"] * found["model_bytes"]
    megabytes = found["clients"] * found["model_bytes"] / 1e6
    assert found["limit_s"] == pytest.approx(megabytes / 500 + megabytes / 1_000, abs=0.0001)
    assert found["ratio_to_limit"] == pytest.approx(found["limit_s"] / found["median_s"], abs=0.01)


@pytest.mark.system
def test_masked_rounds_are_measured_and_come_out_to_the_last_bit(tmp_path: Path) -> None:
    found, told = measured(tmp_path, RoundBench(clients=3, params=10_000, rounds=1, masking="pet"))
    assert_whole(found)
    assert (found["clients"], found["model_bytes"], found["masking"], found["tls"]) == (3, 40_000, "pet", True)
    assert (found["slots"], found["replicas"]) == (2, 1)
    assert "unmasking" in found["phases_s"]
    assert told[-1] == "2 of 2 rounds are done"


@pytest.mark.system
def test_plain_rounds_are_measured_without_tls_and_with_lean_clients(tmp_path: Path) -> None:
    found, _ = measured(tmp_path, RoundBench(clients=3, params=10_000, rounds=2, tls=False, lean=True))
    assert_whole(found)
    assert (found["masking"], found["tls"], found["lean"]) == ("none", False, True)
    models = [file.stat().st_nlink for file in (tmp_path / "shared-models").iterdir()]
    assert models == [4]  # of the newest: the shared copy and each client's own link


@pytest.mark.parametrize(("slots", "replicas"), [(2, 1), (0, 0), (3, 2)])
def test_committees_have_the_slots_and_members_that_were_asked_for(slots: int, replicas: int) -> None:
    bench = RoundBench(clients=100, masking="pet", slots=slots, replicas=replicas)
    asked = options_of(bench, Digest("a" * 64), Digest("b" * 64))
    assert (asked.masking, asked.masked.k, asked.masked.r) == ("pet", slots, replicas)


def test_a_wrong_model_fails_the_benchmark(tmp_path: Path) -> None:
    bench, seed = RoundBench(params=100, rounds=2), tmp_path / "seed"
    write_seed(seed, bench.params)
    final = {name: values + np.float32(3 * STEP) for name, values in load_file(seed).items()}
    save_file(final, tmp_path / "right")
    check_result(seed, tmp_path / "right", bench)
    final["layer-0000"][99] += STEP / 1024
    save_file(final, tmp_path / "wrong")
    with pytest.raises(BenchFailed, match="away from what it must be"):
        check_result(seed, tmp_path / "wrong", bench)
