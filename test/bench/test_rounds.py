"""The benchmark of rounds, at a tiny size: it runs, its numbers are whole, and a wrong model does not pass."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from fedn_py.bench import rounds
from fedn_py.bench.constants import STEP, write_seed
from fedn_py.bench.faults import BenchFailed
from fedn_py.bench.limits import better_of, measure_limits, transport_limit_s
from fedn_py.bench.plan import RoundBench
from fedn_py.bench.rounds import check_result, measure_rounds, options_of
from fedn_py.cli.main import build
from fedn_py.identity import Digest

ROLES = {"reducer", "combiner", "clients"}
BEFORE = {"grpc_plain_up_mb_per_s": 500.0, "grpc_plain_down_mb_per_s": 900.0}
TLS = {"grpc_up_mb_per_s": 500.0, "grpc_down_mb_per_s": 600.0}
AFTER = {"grpc_plain_up_mb_per_s": 400.0, "grpc_plain_down_mb_per_s": 1_000.0}


def assert_whole(found: dict[str, Any]) -> None:
    """All that is promised is there, and what follows from other figures does."""
    assert all(isinstance(found[name], float) for name in ("median_s", "min_s", "max_s", "limit_s", "ratio_to_limit"))
    assert 0 < found["min_s"] <= found["median_s"] <= found["max_s"]
    assert all(isinstance(seconds, float) and seconds >= 0 for seconds in found["phases_s"].values())
    assert 0 < sum(found["phases_s"].values()) < 10 * found["max_s"]
    for name in ("cpu_s", "peak_rss_bytes", "idle_rss_bytes", "growth_models", "anonymous_growth_models"):
        assert set(found[name]) == ROLES, name
    assert all(isinstance(seconds, float) and 0 <= seconds < 60 for seconds in found["cpu_s"].values())
    assert_memory_whole(found)
    # Each client gets the model and sends an update as large.
    assert isinstance(found["wire_bytes"], int)
    assert found["wire_bytes"] > 2 * found["clients"] * found["model_bytes"]
    assert_limits_whole(found)


def assert_memory_whole(found: dict[str, Any]) -> None:
    for role in ROLES:
        assert 10_000_000 < found["idle_rss_bytes"][role] <= found["peak_rss_bytes"][role]
        assert 0 < found["peak_anonymous_bytes"][role] <= found["peak_rss_bytes"][role]
        grown = found["peak_rss_bytes"][role] - found["idle_rss_bytes"][role]
        assert found["growth_models"][role] == pytest.approx(grown / found["model_bytes"], abs=0.01)
        assert found["within_bound"][role] is (grown <= found["memory_bound_bytes"][role])
    assert set(found["empty_rss_bytes"]) == {"reducer", "combiner"}
    assert all(10_000_000 < held < 1e9 for held in found["empty_rss_bytes"].values())
    server = 3 * found["model_bytes"] + 64 * 1024**2
    two_clients = 2 * 3 * found["model_bytes"]  # of three in two processes
    assert found["memory_bound_bytes"] == {"reducer": server, "combiner": server, "clients": two_clients}


def assert_limits_whole(found: dict[str, Any]) -> None:
    assert all(isinstance(value, float) and value > 0 for value in found["limits"].values())
    assert found["limits"] == better_of(found["limits_before"], found["limits_after"])
    limit_s = transport_limit_s(found["limits"], found["model_bytes"], found["clients"], tls=found["tls"])
    assert found["limit_s"] == pytest.approx(limit_s, abs=0.0001)
    assert found["limit_s"] > 0
    assert found["ratio_to_limit"] == pytest.approx(limit_s / found["median_s"], abs=0.001)


@pytest.mark.system
def test_the_command_tells_all_of_masked_rounds_which_come_out_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    small = partial(measure_limits, megabytes=8, repeats=1)
    monkeypatch.setattr(rounds, "measure_rounds", partial(measure_rounds, limits=small))
    size = ("--clients", "3", "--params", "100000", "--rounds", "2")
    ended = CliRunner().invoke(build(), ["bench", "round", *size, "--masking", "pet", "--json"])
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)["data"]
    assert_whole(found)
    assert len(found["limits"]) == len(found["limits_before"]) == len(found["limits_after"]) == 9
    assert (found["clients"], found["model_bytes"], found["masking"], found["tls"]) == (3, 400_000, "pet", True)
    assert (found["slots"], found["replicas"], found["rounds"]) == (2, 1, 2)
    assert found["ratio_to_limit"] > 0
    assert "unmasking" in found["phases_s"]
    assert ended.stderr.splitlines()[-2:] == [
        "3 of 3 rounds are done",
        "measuring the limits of this machine once more",
    ]


@pytest.mark.system
def test_plain_rounds_are_measured_without_tls_and_with_lean_clients(tmp_path: Path) -> None:
    limits = iter([BEFORE, AFTER])
    bench = RoundBench(clients=3, params=10_000, rounds=1, tls=False, lean=True)
    found = measure_rounds(bench, tmp_path, print, lambda: next(limits))
    assert_whole(found)
    assert found["limits"] == {"grpc_plain_up_mb_per_s": 500.0, "grpc_plain_down_mb_per_s": 1_000.0}
    assert found["limit_s"] == pytest.approx(0.12 / 500 + 0.12 / 1_000, abs=0.0001)
    assert (found["masking"], found["tls"], found["lean"]) == ("none", False, True)
    models = [file.stat().st_nlink for file in (tmp_path / "shared-models").iterdir()]
    assert models == [4]  # of the newest: the shared copy and each client's own link


@pytest.mark.system
def test_clients_may_have_lines_that_carry_so_much_a_second(tmp_path: Path) -> None:
    """Each model goes down a line and each update up: no round can be quicker than what follows its first piece."""
    bench = RoundBench(clients=3, params=25_000, rounds=1, line_bytes_per_s=400_000)
    found = measure_rounds(bench, tmp_path, lambda _: None, lambda: BEFORE | TLS)
    assert_whole(found)
    assert found["line_bytes_per_s"] == 400_000
    assert found["min_s"] >= 2 * (found["model_bytes"] - 16 * 1024) / found["line_bytes_per_s"]


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
