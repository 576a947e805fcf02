"""The machine's limits: each is measured, and they add up to what a round cannot beat."""

import pytest

from fedn_py.bench.limits import measure_limits, transport_limit_s


def test_every_limit_is_a_number_above_nothing() -> None:
    found = measure_limits(megabytes=8, repeats=1)
    assert set(found) == {
        "memory_mb_per_s",
        "sha256_mb_per_s",
        "blake2b_mb_per_s",
        "tcp_mb_per_s",
        "fsync_ms",
        "grpc_up_mb_per_s",
        "grpc_down_mb_per_s",
        "grpc_plain_up_mb_per_s",
        "grpc_plain_down_mb_per_s",
    }
    assert all(value > 0 for value in found.values())


def test_the_transport_s_limit_is_all_models_down_and_all_updates_up() -> None:
    limits = {"grpc_up_mb_per_s": 500.0, "grpc_down_mb_per_s": 1_000.0, "grpc_plain_up_mb_per_s": 2_000.0}
    limits["grpc_plain_down_mb_per_s"] = 4_000.0
    assert transport_limit_s(limits, 100_000_000, 10, tls=True) == pytest.approx(1.0 + 2.0)
    assert transport_limit_s(limits, 100_000_000, 10, tls=False) == pytest.approx(0.25 + 0.5)
