"""One process with many clients that are attached and do nothing: a connection, a ticket and a stream each, no model.

    python -m fedn_py.bench.idle_crowd idle.json

They speak what clients speak and answer heartbeats. What is left out is what an idle client has beside its stream: a
folder, a memory, a learner, and a registration, which a plain round does not ask for. A task is acknowledged at once:
with the word that it is not done, which the combiner notes, counts and reports like an update's end.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import fedn_py
from fedn_py.errors import FednError
from fedn_py.identity import ClientId, ClientName
from fedn_py.protocol.messages import (
    AssignRequest,
    ClientHello,
    ClientWelcome,
    TaskFailed,
    TrainTask,
)
from fedn_py.runtime.logging import configure_logging, logger
from fedn_py.runtime.processes import run_until_stopped
from fedn_py.runtime.start_checks import raised_file_limit, tell
from fedn_py.transport.channels import Channel, secure_channel
from fedn_py.transport.combiner_link import CombinerLink
from fedn_py.transport.reducer_link import assign

ACKNOWLEDGED = "Idle: it has the task and does nothing"

_OTHER_FILES = 200
_ATTACHING_AT_ONCE = 8
_AGAIN_AFTER_S = 0.5

_log = logger("fedn_py.bench")


@dataclass(frozen=True, slots=True)
class IdlePlan:
    """Which idle clients a process runs.

    Attributes:
        first: number of the first of them; they are counted over all processes.
        token: of a site that lets all of them in.
        report: file that is written once all of them have had a task.
    """

    first: int
    clients: int
    reducer: str
    authority_file: str
    token: str
    report: str


@dataclass(frozen=True, slots=True)
class IdleReport:
    """When the tasks came, in seconds since 1970.

    Attributes:
        lost: streams that ended and were opened again.
    """

    clients: int
    first_task: float
    last_task: float
    lost: int


def write_plan(file: Path, plan: IdlePlan) -> None:
    """Write what ``main`` reads, for its owner alone."""
    file.touch(0o600)
    file.write_text(json.dumps(asdict(plan)), encoding="utf-8")


def read_report(file: Path) -> IdleReport:
    """Read what a process has reported."""
    return IdleReport(**json.loads(file.read_text(encoding="utf-8")))


class _Crowd:
    """The clients of one process, and when they were given their task."""

    def __init__(self, plan: IdlePlan) -> None:
        self._plan = plan
        self._authority_pem = Path(plan.authority_file).read_bytes()
        self._turn = asyncio.Semaphore(_ATTACHING_AT_ONCE)
        self._tasked: dict[ClientId, float] = {}
        self._lost = 0

    async def run(self) -> None:
        """Keep all clients attached, for ever."""
        plan = self._plan
        async with (
            secure_channel(plan.reducer, self._authority_pem, plan.token) as reducer,
            asyncio.TaskGroup() as clients,
        ):
            for number in range(plan.first, plan.first + plan.clients):
                clients.create_task(self._stay(number, reducer))

    async def _stay(self, number: int, reducer: Channel) -> None:
        client, name = ClientId(f"{number:032x}"), ClientName(f"idle-{number}")
        while True:
            try:
                await self._attach(client, name, reducer)
                self._lost += 1
            except FednError as fault:
                _log.warning("not attached; trying again", client=name, fault=fault.code, reason=fault.message)
            await asyncio.sleep(_AGAIN_AFTER_S)

    async def _attach(self, client: ClientId, name: ClientName, reducer: Channel) -> None:
        """Have a stream until it ends."""
        await self._turn.acquire()
        waiting = True
        try:
            found = await assign(reducer, AssignRequest(client, name, "", fedn_py.__version__))
            channel = secure_channel(found.address, found.authority_pem, found.ticket)
            hello = ClientHello(client, name, fedn_py.__version__)
            async with channel, CombinerLink(channel, hello) as link:
                async for message in link.messages():
                    if isinstance(message, ClientWelcome):
                        waiting = False
                        self._turn.release()
                    elif isinstance(message, TrainTask):
                        self._tasked[client] = time.time()
                        link.send(TaskFailed(message.generation, ACKNOWLEDGED))
                        self._report()
        finally:
            if waiting:
                self._turn.release()

    def _report(self) -> None:
        if len(self._tasked) < self._plan.clients:
            return
        instants = self._tasked.values()
        report = IdleReport(len(instants), min(instants), max(instants), self._lost)
        file = Path(self._plan.report)
        young = file.with_suffix(".new")
        young.write_text(json.dumps(asdict(report)), encoding="utf-8")
        young.replace(file)


async def _run(plan: IdlePlan, stop: asyncio.Event) -> None:
    working = asyncio.create_task(_Crowd(plan).run())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in (working, stopping):
        task.cancel()
    await asyncio.gather(working, stopping, return_exceptions=True)


def main(arguments: Sequence[str]) -> None:
    """Run the clients of a plan until SIGTERM."""
    configure_logging("console", "warning", fields={})
    # So many clients in one heap would be looked through for garbage again and again, which no client's own heap is.
    gc.disable()
    plan = IdlePlan(**json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
    tell(tuple(raised_file_limit(plan.clients + _OTHER_FILES)))
    run_until_stopped(lambda stop: _run(plan, stop))


if __name__ == "__main__":
    main(sys.argv[1:])
