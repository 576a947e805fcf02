"""A whole combiner's metrics and probes, over HTTPS: who may read them, and what they say."""

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from combiner_rig import ANNA, WITHIN_S, a_header, an_update
from joined_combiner import ReducerServer, a_free_port, a_reducer, attached, combiner_settings
from prometheus_client.parser import text_string_to_metric_families

from fedn_py.combiner.assemble import MetricsTokenEmpty, run_combiner
from fedn_py.protocol.messages import PartialAggregate, TrainTask
from fedn_py.runtime.https_server import CannotListen
from fedn_py.settings.roles import CombinerSettings
from fedn_py.transport.status import RemoteFault
from fedn_py.transport.transfer import Patience, upload_update

ONES = an_update(1, 1, 1, 1, 1, 1)
TOKEN = "0123456789abcdef"
ONCE = Patience(attempts=1, base_s=0.0, cap_s=0.0)


@dataclass(frozen=True)
class Asked:
    """A combiner's metrics port."""

    settings: CombinerSettings
    authority_file: Path

    @property
    def port(self) -> int:
        assert self.settings.listen_metrics is not None
        return int(self.settings.listen_metrics.rpartition(":")[2])

    async def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        return await asyncio.to_thread(self._get, path, method, headers)

    def _get(self, path: str, method: str, headers: dict[str, str]) -> tuple[int, str]:
        context = ssl.create_default_context(cafile=str(self.authority_file))
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=WITHIN_S)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    async def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        status, text = await self.get("/metrics")
        assert status == 200
        families = text_string_to_metric_families(text)
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}

    async def says(self, path: str, status: int) -> str:
        async with asyncio.timeout(WITHIN_S):
            while (answer := await self.get(path))[0] != status:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            return answer[1]


def story(folder: Path, told: Callable[[ReducerServer, Asked], Coroutine[Any, Any, None]], **changes: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(90), a_reducer(folder) as reducer:
            plain = {"listen_metrics": f"127.0.0.1:{a_free_port()}"}
            settings = combiner_settings(folder / "east", reducer.port, **{**plain, **changes})
            async with running(settings):
                await reducer.heard("joined")
                asked = Asked(settings, folder / "east" / "authority.pem")
                await asked.says("/readyz", 200)
                await told(reducer, asked)

    asyncio.run(main())


@contextlib.asynccontextmanager
async def running(settings: CombinerSettings) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(run_combiner(settings, stop))
    try:
        yield
    finally:
        stop.set()
        await task


def test_a_combiner_shows_what_became_of_updates_and_how_many_bytes_moved(tmp_path: Path) -> None:
    async def told(reducer: ReducerServer, asked: Asked) -> None:
        ticket = reducer.let_in(ANNA)
        order = reducer.order(ANNA)
        async with attached(asked.settings.advertise, ANNA, ticket) as (channel, _, messages):
            assert isinstance(await anext(messages), TrainTask)
            assert (await upload_update(channel, a_header(ONES), ONES)).accepted
            await reducer.told(PartialAggregate)
            late = a_header(an_update(2, 2, 2, 2, 2, 2), generation=order.generation + 1)
            assert not (await upload_update(channel, late, an_update(2, 2, 2, 2, 2, 2))).accepted
            found = await asked.samples()
        assert found["fedn_updates_admitted_total", ()] == 1
        assert found["fedn_updates_refused_total", (("reason", "Late"),)] == 1
        assert found["fedn_transfer_bytes_total", (("direction", "received"),)] == len(ONES)  # of the late one none
        assert found["fedn_combiner_clients_connected", ()] == 1
        assert found["fedn_combiner_joined", ()] == 1
        assert found["fedn_cell_phase", (("fedn_cell_phase", "idle"),)] == 1
        assert found["fedn_spool_limit_bytes", (("place", "memory"),)] == asked.settings.spool.memory_bytes
        assert "anna" not in json.dumps([list(labels) for _, labels in found])

    story(tmp_path, told)


def test_updates_that_are_refused_before_they_are_judged_count_too(tmp_path: Path) -> None:
    large = bytes(8 << 20)

    async def told(reducer: ReducerServer, asked: Asked) -> None:
        ticket = reducer.let_in(ANNA)
        reducer.order(ANNA)
        async with attached(asked.settings.advertise, ANNA, ticket) as (channel, _, messages):
            assert isinstance(await anext(messages), TrainTask)
            with pytest.raises(RemoteFault, match="WrongLength"):
                await upload_update(channel, a_header(large), large)
            with pytest.raises(RemoteFault, match="DigestMismatch"):
                await upload_update(channel, a_header(ONES, sha256="ab" * 32, upload_id="ab" * 8), ONES, patience=ONCE)
        found = await asked.samples()
        assert found["fedn_updates_refused_total", (("reason", "WrongLength"),)] == 1
        assert found["fedn_updates_refused_total", (("reason", "DigestMismatch"),)] == 1

    story(tmp_path, told)


def test_the_probes_tell_that_it_lives_and_whether_it_is_joined(tmp_path: Path) -> None:
    async def told(reducer: ReducerServer, asked: Asked) -> None:
        assert json.loads((await asked.get("/healthz"))[1]) == {"alive": True}
        assert json.loads(await asked.says("/readyz", 200)) == {"ready": True, "reasons": []}
        await reducer.close()
        away = json.loads(await asked.says("/readyz", 503))
        assert away == {"ready": False, "reasons": ["the combiner is not joined to the reducer"]}
        assert (await asked.get("/healthz"))[0] == 200
        assert (await asked.samples())["fedn_combiner_joined", ()] == 0

    story(tmp_path, told)


def test_metrics_take_the_token_of_the_settings_and_probes_take_none(tmp_path: Path) -> None:
    (tmp_path / "metrics.token").write_text(f"{TOKEN}\nwhat follows is not shown\n")

    async def told(_: ReducerServer, asked: Asked) -> None:
        assert (await asked.get("/metrics"))[0] == 401
        for wrong in (f"Bearer {TOKEN}x", "Bearer ", f"Basic {TOKEN}", TOKEN, "Bearer what follows is not shown"):
            assert (await asked.get("/metrics", authorization=wrong))[0] == 401, wrong
        status, text = await asked.get("/metrics", authorization=f"Bearer {TOKEN}")
        assert (status, "fedn_build_info" in text) == (200, True)
        assert (await asked.get("/healthz"))[0] == (await asked.get("/readyz"))[0] == 200

    story(tmp_path, told, metrics_token_file=tmp_path / "metrics.token")


def test_nothing_else_is_there_and_nothing_is_taken(tmp_path: Path) -> None:
    async def told(_: ReducerServer, asked: Asked) -> None:
        for path in ("/", "/metrics/", "/api/v1/status", "/../metrics"):
            assert (await asked.get(path))[0] == 404, path
        assert (await asked.get("/metrics", method="POST"))[0] == 405
        assert await asked.get("/metrics", method="HEAD") == (200, "")

    story(tmp_path, told)


def test_connections_that_say_nothing_keep_nobody_waiting(tmp_path: Path) -> None:
    async def told(_: ReducerServer, asked: Asked) -> None:
        with contextlib.ExitStack() as silent:
            for _number in range(20):
                silent.enter_context(socket.create_connection(("127.0.0.1", asked.port)))
            assert (await asked.get("/healthz"))[0] == 200

    story(tmp_path, told)


def test_without_the_setting_there_are_no_metrics(tmp_path: Path) -> None:
    assert combiner_settings(tmp_path, 12070).listen_metrics is None


@pytest.mark.parametrize(
    ("text", "fault"), [("", MetricsTokenEmpty), ("\n  \n", MetricsTokenEmpty), (TOKEN, CannotListen)]
)
def test_a_combiner_does_not_start_with_an_empty_token_or_on_a_port_that_is_taken(
    tmp_path: Path, text: str, fault: type[Exception]
) -> None:
    (tmp_path / "metrics.token").write_text(text)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        changes = {
            "listen_metrics": f"127.0.0.1:{taken.getsockname()[1]}",
            "metrics_token_file": tmp_path / "metrics.token",
        }
        settings = combiner_settings(tmp_path / "east", a_free_port(), **changes)
        with pytest.raises(fault):
            asyncio.run(run_combiner(settings, asyncio.Event()))
