"""The machine's limits: each is measured, and they add up to what a round cannot beat."""

import asyncio

import pytest

from fedn_py.bench.echo import EchoPlan, open_echo_channel
from fedn_py.bench.limits import better_of, measure_limits, transport_limit_s


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


def test_each_channel_has_a_connection_of_its_own_as_each_client_has() -> None:
    async def connect() -> None:
        all_are_here, connected = asyncio.Event(), []

        def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connected.append(writer)
            if len(connected) == 3:
                all_are_here.set()

        async with await asyncio.start_server(accept, "127.0.0.1", 0) as listening:
            plan = EchoPlan(listening.sockets[0].getsockname()[1], False, b"", b"", b"")
            channels = [open_echo_channel(plan) for _ in range(3)]
            for channel in channels:
                channel.get_state(try_to_connect=True)
            async with asyncio.timeout(10):
                await all_are_here.wait()
            for channel in channels:
                await channel.close()

    asyncio.run(connect())


def test_the_better_of_two_measurements_counts() -> None:
    before, after = {"tcp_mb_per_s": 900.0, "fsync_ms": 0.2}, {"tcp_mb_per_s": 800.0, "fsync_ms": 0.1}
    assert better_of(before, after) == {"tcp_mb_per_s": 900.0, "fsync_ms": 0.1}


def test_the_transport_s_limit_is_all_models_down_and_all_updates_up() -> None:
    limits = {"grpc_up_mb_per_s": 500.0, "grpc_down_mb_per_s": 1_000.0, "grpc_plain_up_mb_per_s": 2_000.0}
    limits["grpc_plain_down_mb_per_s"] = 4_000.0
    assert transport_limit_s(limits, 100_000_000, 10, tls=True) == pytest.approx(1.0 + 2.0)
    assert transport_limit_s(limits, 100_000_000, 10, tls=False) == pytest.approx(0.25 + 0.5)
