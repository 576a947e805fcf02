"""One process with many clients: each with a connection, an identity and a state folder of its own.

    python -m fedn_py.bench.crowd crowd.json

Everything is what a client daemon runs, but for Python itself and its imports, of which there is one copy.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fedn_py.bench.constants import AddsConstant
from fedn_py.bench.lean import LeanLearner
from fedn_py.client.assemble import run_client
from fedn_py.client.participant import ParticipantLearner
from fedn_py.client.ports import Learner
from fedn_py.runtime.allocator import keep_little
from fedn_py.runtime.logging import configure_logging
from fedn_py.runtime.processes import collect_garbage_seldom, keep_memory_private, run_until_stopped
from fedn_py.settings import ClientSettings, load_settings
from fedn_py.transport.plaintext import plaintext_on_loopback

_GRACE_S = 30.0


@dataclass(frozen=True, slots=True)
class CrowdPlan:
    """Which clients a process runs.

    Attributes:
        settings: number (from 0) of each client, and its settings file.
        clients: of the whole benchmark.
        tls: whether they connect as in production.
        shared_models: folder of the models that lean clients share; None for clients that are not lean.
    """

    settings: dict[int, str]
    clients: int
    tls: bool = True
    shared_models: str | None = None


def write_plan(file: Path, plan: CrowdPlan) -> None:
    """Write what ``main`` reads."""
    file.write_text(json.dumps(asdict(plan)), encoding="utf-8")


def read_plan(file: Path) -> CrowdPlan:
    """Read what ``write_plan`` wrote."""
    kept = json.loads(file.read_text(encoding="utf-8"))
    return CrowdPlan(**{**kept, "settings": {int(number): path for number, path in kept["settings"].items()}})


async def _run(plan: CrowdPlan, stop: asyncio.Event) -> None:
    turn = asyncio.Semaphore(1)

    def learner(number: int) -> Learner:
        if plan.shared_models is not None:
            return LeanLearner(number, plan.clients, turn, Path(plan.shared_models))
        return ParticipantLearner(AddsConstant(number, plan.clients))

    async with asyncio.TaskGroup() as group:
        for number, file in plan.settings.items():
            settings = load_settings(ClientSettings, Path(file), os.environ)
            group.create_task(run_client(settings, stop, learner(number)))


def main(arguments: Sequence[str]) -> None:
    """Run the clients of a plan until SIGTERM."""
    keep_memory_private()
    keep_little()
    collect_garbage_seldom()  # hundreds of clients' objects are looked at here, where a daemon has its own
    configure_logging("console", "warning", fields={})
    plan = read_plan(Path(arguments[0]))
    with contextlib.nullcontext() if plan.tls else plaintext_on_loopback():
        run_until_stopped(lambda stop: _run(plan, stop), grace_s=_GRACE_S)


if __name__ == "__main__":
    main(sys.argv[1:])
