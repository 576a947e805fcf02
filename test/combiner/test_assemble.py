"""A whole combiner beside a real reducer's door: it joins, is lost, comes back, and its round goes on."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc
import masked_world as world
import numpy as np
import pytest
import yaml
from combiner_rig import ANNA, BERT, WITHIN_S, a_header, a_model, an_update, until
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_network import AUTHORITY
from joined_combiner import ReducerServer, a_reducer, attached, combiner_settings, written_settings
from masked_rig import MaskedRound

from fedn_py.combiner.assemble import run_combiner
from fedn_py.identity import ClientId
from fedn_py.protocol.masked.certificates import ServerCredential
from fedn_py.protocol.masked.signing import sign
from fedn_py.protocol.messages import (
    AttachedClients,
    CellFailed,
    CombinerHello,
    PartialAggregate,
    PolicyNews,
    RoundProgress,
    TrainTask,
)
from fedn_py.runtime.credential_files import CredentialUnreadable, write_server
from fedn_py.settings.roles import CombinerSettings
from fedn_py.transport.transfer import upload_update

MIB = 1 << 20
ONES = an_update(1, 1, 1, 1, 1, 1)


@contextlib.asynccontextmanager
async def running(settings: CombinerSettings) -> AsyncIterator[asyncio.Event]:
    """Run a combiner beside the test."""
    stop = asyncio.Event()
    task = asyncio.create_task(run_combiner(settings, stop))
    try:
        yield stop
        assert not task.done(), task.exception()
    finally:
        stop.set()
        await asyncio.gather(task)


def story(
    folder: Path, told: Callable[[ReducerServer, CombinerSettings], Coroutine[Any, Any, None]], **changes: Any
) -> None:
    async def main() -> None:
        async with asyncio.timeout(90), a_reducer(folder) as reducer:
            settings = combiner_settings(folder / "east", reducer.port, **changes)
            async with running(settings):
                await told(reducer, settings)

    asyncio.run(main())


def test_a_combiner_joins_fetches_through_the_reducer_and_reports_into_its_store(tmp_path: Path) -> None:
    async def told(reducer: ReducerServer, settings: CombinerSettings) -> None:
        hello = await reducer.heard("joined")
        assert isinstance(hello, CombinerHello)
        assert (hello.name, hello.address) == ("east", settings.advertise)
        ticket = reducer.let_in(ANNA)
        reducer.order(ANNA)
        async with attached(settings.advertise, ANNA, ticket) as (channel, _, messages):
            assert isinstance(await anext(messages), TrainTask)
            assert (await upload_update(channel, a_header(ONES), ONES)).accepted
        partial = await reducer.told(PartialAggregate)
        assert list(np.frombuffer(reducer.sum_of(partial.sum_object), "<f8")) == [10.0] * 6
        await until(lambda: not list((settings.state_dir / "spool").iterdir()))

    story(tmp_path, told)


def test_probes_hear_that_a_combiner_serves_while_it_is_joined(tmp_path: Path) -> None:
    async def told(reducer: ReducerServer, settings: CombinerSettings) -> None:
        credentials = grpc.ssl_channel_credentials(root_certificates=AUTHORITY.certificate_pem)
        async with grpc.aio.secure_channel(settings.advertise, credentials) as channel:  # no token
            probe = health_pb2_grpc.HealthStub(channel)

            async def says(status: int) -> None:
                async with asyncio.timeout(WITHIN_S):
                    while (await probe.Check(health_pb2.HealthCheckRequest())).status != status:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)

            await reducer.heard("joined")
            await says(health_pb2.HealthCheckResponse.SERVING)
            await reducer.close()
            await says(health_pb2.HealthCheckResponse.NOT_SERVING)
            await reducer.open()
            await says(health_pb2.HealthCheckResponse.SERVING)

    story(tmp_path, told)


def test_a_round_goes_on_while_the_reducer_is_away_and_its_report_arrives(tmp_path: Path) -> None:
    async def told(reducer: ReducerServer, settings: CombinerSettings) -> None:
        hello = await reducer.heard("joined")
        tickets = {client: reducer.let_in(client) for client in (ANNA, BERT)}
        reducer.order(ANNA, BERT)
        async with (
            attached(settings.advertise, ANNA, tickets[ANNA]) as (annas, _, to_anna),
            attached(settings.advertise, BERT, tickets[BERT]) as (berts, _, to_bert),
        ):
            assert isinstance(await anext(to_anna), TrainTask)
            assert isinstance(await anext(to_bert), TrainTask)
            assert (await upload_update(annas, a_header(ONES), ONES)).accepted
            await reducer.close()
            # The last one comes while nobody is there to report to, and nowhere to store the sum.
            assert (await upload_update(berts, a_header(ONES), ONES)).accepted
            await reducer.open()
            again = await reducer.heard("joined")
            assert again.instance == hello.instance  # the same life: its work goes on
            assert set((await reducer.told(AttachedClients)).clients) == {ANNA, BERT}
            partial = await reducer.told(PartialAggregate)
        assert partial.weight == 20
        assert list(np.frombuffer(reducer.sum_of(partial.sum_object), "<f8")) == [20.0] * 6

    story(tmp_path, told)


def test_a_report_that_the_old_stream_may_have_lost_is_said_again_on_the_new_one(tmp_path: Path) -> None:
    async def told(reducer: ReducerServer, settings: CombinerSettings) -> None:
        await reducer.heard("joined")
        ticket = reducer.let_in(ANNA)
        reducer.order(ANNA)
        async with attached(settings.advertise, ANNA, ticket) as (channel, _, messages):
            assert isinstance(await anext(messages), TrainTask)
            assert (await upload_update(channel, a_header(ONES), ONES)).accepted
        first = await reducer.told(PartialAggregate)
        await reducer.close()
        await reducer.open()
        assert await reducer.told(PartialAggregate) == first

    story(tmp_path, told)


def test_a_combiner_says_how_far_its_round_is_and_that_it_lives(tmp_path: Path) -> None:
    async def told(reducer: ReducerServer, settings: CombinerSettings) -> None:
        await reducer.heard("joined")
        reducer.order(ANNA)
        assert (await reducer.told(RoundProgress)).generation == 1
        for _ in range(2):
            assert (await reducer.told(AttachedClients)).clients == ()

    story(tmp_path, told)


def test_a_reducer_that_is_not_there_is_told_once_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attempts: asyncio.Queue[None] = asyncio.Queue()

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.put_nowait(None)
        writer.transport.abort()

    async def main() -> None:
        nobody = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        async with nobody, asyncio.timeout(60), running(combiner_settings(tmp_path, port_of(nobody))):
            for _ in range(4):
                await attempts.get()

    asyncio.run(main())
    told = [line for line in capsys.readouterr().out.splitlines() if "not joined to the reducer" in line]
    assert len(told) == 1
    assert "PeerUnreachable" in told[0]
    assert "Check that it runs" in told[0]


def port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


# ---- masked rounds


def certified(folder: Path, reducer: ReducerServer) -> CombinerSettings:
    certificate = world.a_certificate(world.COMBINER, role="combiner")
    operator_key, secret = bytes(world.OPERATOR.verify_key), bytes(world.COMBINER)
    write_server(folder / "combiner.cred", ServerCredential(operator_key, world.DEPLOYMENT, certificate, secret))
    credential = str(folder / "combiner.cred")
    return combiner_settings(folder / "east", reducer.port, masking_credential_file=credential)


def test_a_certified_combiner_shows_its_certificate_and_keeps_the_policy_for_its_clients(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(90), a_reducer(tmp_path) as reducer:
            settings = certified(tmp_path, reducer)
            async with running(settings):
                hello = await reducer.heard("joined")
                assert hello.certificate == world.a_certificate(world.COMBINER, role="combiner")
                news = PolicyNews(sign(world.POLICY, world.OPERATOR))
                reducer.send(news)
                ticket = reducer.let_in(ANNA)
                async with attached(settings.advertise, ANNA, ticket) as (_, _, messages):
                    assert await anext(messages) == news

    asyncio.run(main())


def test_a_combiner_without_a_credential_says_what_a_masked_order_needs(tmp_path: Path) -> None:
    async def told(reducer: ReducerServer, settings: CombinerSettings) -> None:
        assert (await reducer.heard("joined")).certificate is None
        reducer.send(MaskedRound(world.CLIENTS[:3]).order)
        failed = await reducer.told(CellFailed)
        assert failed.reason.startswith("NoMaskingCredential: ")
        assert "masking_credential_file" in failed.reason
        assert settings.masking_credential_file is None

    story(tmp_path, told)


def test_a_credential_that_is_none_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "combiner.cred").write_text("nothing")
    settings = combiner_settings(tmp_path / "east", 1, masking_credential_file=str(tmp_path / "combiner.cred"))
    with pytest.raises(CredentialUnreadable):
        asyncio.run(run_combiner(settings, asyncio.Event()))


# ---- memory


class CombinerProcess:
    """A combiner in a process of its own, so that its memory and time can be seen, and its files be limited."""

    def __init__(self, folder: Path, reducer_port: int, *, most_files: int = 4_096, **changes: Any) -> None:
        self.settings = written_settings(folder, reducer_port, **changes)
        file = folder / "combiner.yaml"
        file.write_text(yaml.safe_dump(self.settings))
        environ = {name: value for name, value in os.environ.items() if not name.startswith("FEDN_")}
        self._process = subprocess.Popen(
            ["sh", "-c", f"ulimit -n {most_files}; exec {sys.executable} -m fedn_py run combiner -c {file}"],
            stderr=subprocess.DEVNULL,
            env=environ,
        )

    def cpu_s(self) -> float:
        """Return how long it has worked so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(10) == 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux: /proc tells a process's peak memory")
def test_a_combiner_holds_a_connections_buffers_for_each_client_that_uploads_at_once_never_its_update(
    tmp_path: Path,
) -> None:
    n_parameters, budget = 4 * MIB, 32 * MIB
    update = np.ones(n_parameters, "<f4").tobytes()
    model = a_model(n_parameters)

    async def peak(count: int) -> int:
        clients = [ClientId(f"{number:064x}") for number in range(1, count + 1)]
        async with a_reducer(tmp_path / str(count)) as reducer:
            process = CombinerProcess(
                tmp_path / str(count) / "east",
                reducer.port,
                spool={"memory_bytes": budget, "disk_bytes": 1 << 30, "receiving": 2},
            )
            try:
                await reducer.heard("joined")
                tickets = [reducer.let_in(client) for client in clients]
                reducer.order(*clients, model=model)
                address = process.settings["advertise"]

                async def one(client: ClientId, ticket: str) -> None:
                    async with attached(address, client, ticket) as (channel, _, messages):
                        assert isinstance(await anext(messages), TrainTask)
                        assert (await upload_update(channel, a_header(update), update)).accepted

                await asyncio.gather(*(one(*pair) for pair in zip(clients, tickets, strict=True)))
                async with asyncio.timeout(WITHIN_S):
                    partial = await reducer.told(PartialAggregate)
                assert partial.weight == 10 * count
                return process.peak_bytes()
            finally:
                process.stop()

    async def both() -> tuple[int, int]:
        return await peak(2), await peak(20)

    few, many = asyncio.run(both())
    print(f"\npeak memory of a combiner, updates of 16 MiB: {few >> 20} MiB at 2 clients, {many >> 20} MiB at 20")  # noqa: T201
    # A connection with TLS and a stream costs about 1 MiB at its busiest, whatever the size of the update.
    assert many <= few + budget + 18 * 2 * MIB


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux: /proc tells a process's time")
def test_a_combiner_that_may_open_no_more_files_rests_keeps_its_streams_and_goes_on(tmp_path: Path) -> None:
    async def told() -> None:
        async with asyncio.timeout(90), a_reducer(tmp_path) as reducer:
            process = CombinerProcess(tmp_path / "east", reducer.port, most_files=64)
            try:
                await reducer.heard("joined")
                address = process.settings["advertise"]
                ticket = reducer.let_in(ANNA)
                reducer.order(ANNA)
                async with attached(address, ANNA, ticket) as (channel, _, messages):
                    assert isinstance(await anext(messages), TrainTask)
                    host, _, port = address.rpartition(":")
                    crowd = [socket.create_connection((host, int(port))) for _ in range(100)]
                    began = process.cpu_s()
                    for _ in range(4):  # signs of life, each a second after the last, to whoever was there before
                        await reducer.told(AttachedClients)
                    assert process.cpu_s() - began < 1.0  # where a loop that spins takes all there is
                    assert (await upload_update(channel, a_header(ONES), ONES)).accepted
                    for one in crowd:
                        one.close()
                partial = await reducer.told(PartialAggregate)
                assert partial.weight == 10
                async with attached(address, BERT, reducer.let_in(BERT)):
                    pass  # there is room again
            finally:
                process.stop()

    asyncio.run(told())
