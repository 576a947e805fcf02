"""How long a task takes to very many attached clients and until all have acknowledged it; what they cost a combiner.

The combiner and the reducer are the real processes, each client has a connection, a ticket and a stream of its own;
many clients share a process (``idle_crowd``). The task is that of a plain round. Each client acknowledges it with the
word that it is not done: of all answers the one that costs a client nothing. It takes the way of all that is said of
a task: to the combiner, which counts it, closes the cell when the last is in, and reports to the reducer.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedn_py.bench.faults import BenchFailed, ImpossibleBench
from fedn_py.bench.idle_crowd import ACKNOWLEDGED, IdlePlan, IdleReport, read_report, write_plan
from fedn_py.bench.network import BenchNetwork, Tell, running_network
from fedn_py.bench.rounds import made_work
from fedn_py.bench.usage import Usage, available_memory_bytes
from fedn_py.identity import SessionId
from fedn_py.reducer.shown_rounds import RoundView
from fedn_py.reducer.shown_sessions import SessionOptions

_ANSWER_WITHIN_S = 300.0
_LOOK_EVERY_S = 0.5
_CLIENT_BYTES = 200_000
"""That a connection takes, at both of its ends together, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleBench:
    """What is to be measured.

    Attributes:
        client_processes: that the clients are spread over.
        heartbeat_s: how often each client and its combiner say that they are there.
    """

    clients: int = 1_000
    client_processes: int = 4
    heartbeat_s: float = 10.0

    @property
    def crowds(self) -> int:
        """Processes that clients run in: never more than there are clients."""
        return min(self.client_processes, self.clients)


def measure_idle(bench: IdleBench, folder: Path, tell: Tell) -> dict[str, Any]:
    """Attach the clients, give all of them a task, and return the figures.

    Args:
        folder: empty; holds all state while the network runs.

    Returns:
        What was asked for, and: ``attached_s``, from the start of the first client process until all are attached;
        ``tasked_s``, from the reducer's order until the last client has the task; ``acknowledged_s``, until the
        reducer has the combiner's word of all acknowledgements; ``combiner_bytes_a_client``, by how much the
        combiner's memory (files left out) grew for each attached client; ``combiner_cpu_idle``, the part of a core
        that it takes to keep them attached; ``reconnected``, streams that were lost on the way.

    Raises:
        ImpossibleBench: this machine has not the memory.
        BenchFailed: they were not all attached, or did not all acknowledge.
    """
    if bench.clients * _CLIENT_BYTES > available_memory_bytes():
        raise ImpossibleBench(
            f"{bench.clients} connections take {bench.clients * _CLIENT_BYTES / 1e9:.1f} GB of memory",
            remedy="Take fewer --clients.",
        )
    with running_network(folder, 1) as running:
        tell("starting the reducer and the combiner")
        running.start_servers(bench.clients, heartbeat_s=bench.heartbeat_s)
        empty, began = _combiner(running), time.monotonic()
        reports = _start_clients(running, bench)
        running.await_clients(bench.clients, tell)
        attached_s = time.monotonic() - began
        full = _combiner(running)
        tell("all are attached; looking at the combiner for one heartbeat")
        time.sleep(bench.heartbeat_s)
        resting = _combiner(running).cpu_s - full.cpu_s
        tell("giving all of them a task")
        session = _given_a_task(running, bench, folder)
        told = [_reported(running, file) for file in reports]
        round_ = _ended(running, session, bench)
    last = max(report.last_task for report in told)
    return {
        "clients": bench.clients,
        "client_processes": bench.crowds,
        "heartbeat_s": bench.heartbeat_s,
        "attached_s": round(attached_s, 1),
        "tasked_s": round(last - round_.started_at, 3),
        "acknowledged_s": round(round_.seconds, 3),
        "combiner_bytes_a_client": (full.anonymous_bytes - empty.anonymous_bytes) // bench.clients,
        "combiner_anonymous_bytes": full.anonymous_bytes,
        "combiner_cpu_idle": round(resting / bench.heartbeat_s, 3),
        "reconnected": sum(report.lost for report in told),
    }


def _combiner(running: BenchNetwork) -> Usage:
    (usage,) = running.usage()["combiner"].values()
    return usage


def _reported(running: BenchNetwork, file: Path) -> IdleReport:
    return running.awaited("a report of the clients", lambda: read_report(file) if file.exists() else None)


def _start_clients(running: BenchNetwork, bench: IdleBench) -> list[Path]:
    token, _ = running.api.create_token("client", "idle-site")
    first, reports = 1, []
    for place in range(bench.crowds):
        count = bench.clients // bench.crowds + (place < bench.clients % bench.crowds)
        report, plan = running.folder / f"report-{place}.json", running.folder / f"idle-{place}.json"
        write_plan(
            plan, IdlePlan(first, count, running.reducer_address, str(running.authority_file), token, str(report))
        )
        running.start_clients(f"idle-{place}", "fedn_py.bench.idle_crowd", plan)
        reports.append(report)
        first += count
    return reports


def _given_a_task(running: BenchNetwork, bench: IdleBench, folder: Path) -> SessionId:
    """Start a session whose only attempt at its only round ends when all have said that they do not do it."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        package, seed = made_work(Path(scratch), params=1)
        options = SessionOptions(
            package=running.api.upload_package(package).digest,
            seed_model=running.api.upload_seed_model(seed).digest,
            rounds=1,
            clients_required=bench.clients,
            update_timeout_s=_ANSWER_WITHIN_S,
            validate=False,
            max_attempts=1,
        )
    return running.api.start_session(options).id


def _ended(running: BenchNetwork, session: SessionId, bench: IdleBench) -> RoundView:
    """Wait for the end of the round: by looking at the session, as all of a round's clients are costly to look at."""
    running.awaited(
        "the end of the round", lambda: running.api.session(session).status != "running" or None, _LOOK_EVERY_S
    )
    (found,) = running.api.rounds(session)
    acknowledged = sum(ACKNOWLEDGED in one.reason for one in found.excluded)
    if acknowledged != bench.clients:
        raise BenchFailed(
            f"{acknowledged} of {bench.clients} clients have acknowledged the task: {found.reason}",
            remedy=running.where_to_look,
        )
    return found
