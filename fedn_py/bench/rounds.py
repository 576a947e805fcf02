"""How long a round takes on this machine: a network of real processes on loopback, and clients that add a constant.

What is timed is what a deployment runs: reducer, combiners and clients as processes, TLS, the embedded stores. Only
the training is made as short as it can be, and many clients share a process. A round is timed from one commit to the
next, so nothing between two rounds is left out; the first round, in which everything is warmed up, is not counted.
"""

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from fedn_py.api.faults import ReducerUnreachable
from fedn_py.bench.bounds import memory_bounds, within_bounds
from fedn_py.bench.constants import exact_terms, largest_error, write_seed
from fedn_py.bench.crowd import CrowdPlan, write_plan
from fedn_py.bench.faults import BenchFailed
from fedn_py.bench.limits import Limits, better_of, measure_limits, transport_limit_s
from fedn_py.bench.network import BenchNetwork, Tell, running_network
from fedn_py.bench.plan import LEAN_RECEIVING, WARM_UP_ROUNDS, RoundBench, check
from fedn_py.bench.usage import MemoryWatch, Usage, cpu_s, loopback_bytes, most_grown
from fedn_py.execution.packing import create_package
from fedn_py.identity import Digest
from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.reducer.shown_rounds import RoundView
from fedn_py.reducer.shown_sessions import SessionOptions, SessionView

_ROUND_WITHIN_S = 3_600.0
_LOOK_EVERY_S = 0.5
"""Looking costs the reducer a moment: seldom enough that it does not show."""

_NEVER_RUN = {"command": "false"}
_PACKAGE = {
    "name": "adds-a-constant",
    "version": "1.0.0",
    "entry_points": dict.fromkeys(("startup", "train", "validate"), _NEVER_RUN),
}
"""The clients are participants: they run none of it."""


def measure_rounds(
    bench: RoundBench, folder: Path, tell: Tell, limits: Callable[[], Limits] = measure_limits
) -> dict[str, Any]:
    """Run the rounds and return the figures.

    Args:
        folder: empty; holds all state while the network runs.
        limits: measures those of this machine, while no network runs.

    Returns:
        What was asked for, and:
        ``median_s, min_s, max_s`` of the rounds; ``phases_s``, phase to median seconds; ``cpu_s``, role to CPU
        seconds a round, of all its processes together; ``wire_bytes``, what crossed loopback in a round;
        ``peak_rss_bytes``, role to the kernel's peak of that of its processes which grew most, with mapped files, and
        ``idle_rss_bytes``, what that held before, with all clients attached; ``empty_rss_bytes``, what a reducer and
        a combiner held when no client had come yet; ``peak_anonymous_bytes`` and ``idle_anonymous_bytes``, peak and
        idle without files; ``growth_models``, how far the first peak rose above idle, in sizes of the model, and
        ``anonymous_growth_models`` (a process of several clients grows by what they all hold: one client's growth is
        that of a process with one client); ``memory_bound_bytes``, by how much the first peak may rise above idle, and
        ``within_bound``, whether it rose no further; ``limits_before`` and ``limits_after`` the rounds, and
        ``limits``, the better of both; ``limit_s``, what gRPC alone needs for the models and updates of a round;
        ``ratio_to_limit``, limit_s / median_s.

    Raises:
        ImpossibleBench: it cannot be run here.
        BenchFailed: a round failed, or the last model is not what it must be.
    """
    check(bench, folder)
    tell("measuring the limits of this machine")
    before = limits()
    with running_network(folder, bench.combiners, tls=bench.tls) as running:
        tell("starting the reducer and the combiners")
        lean = {"spool": {"receiving": LEAN_RECEIVING}} if bench.lean else {}
        running.start_servers(bench.clients, line_bytes_per_s=bench.line_bytes_per_s, **lean)
        empty = running.usage()
        _start_clients(running, bench, tell)
        figures = _timed(running, bench, folder, tell)
    tell("measuring the limits of this machine once more")
    after = limits()
    found = {
        "clients": bench.clients,
        "params": bench.params,
        "model_bytes": bench.model_bytes,
        "combiners": bench.combiners,
        "client_processes": bench.crowds,
        "masking": bench.masking,
        "slots": bench.slots,
        "replicas": bench.replicas,
        "tls": bench.tls,
        "lean": bench.lean,
        "line_bytes_per_s": bench.line_bytes_per_s,
        "rounds": bench.rounds,
        **figures,
        "empty_rss_bytes": {role: max(one.rss_bytes for one in each.values()) for role, each in empty.items()},
    }
    return {
        **found,
        "memory_bound_bytes": memory_bounds(found),
        "within_bound": within_bounds(found),
        **_limited(bench, figures["median_s"], before, after),
    }


def _limited(bench: RoundBench, median_s: float, before: Limits, after: Limits) -> dict[str, Any]:
    limits = better_of(before, after)
    limit_s = transport_limit_s(limits, bench.model_bytes, bench.clients, tls=bench.tls)
    return {
        "limits": limits,
        "limits_before": before,
        "limits_after": after,
        "limit_s": round(limit_s, 4),
        "ratio_to_limit": round(limit_s / median_s, 3),
    }


def _start_clients(running: BenchNetwork, bench: RoundBench, tell: Tell) -> None:
    tell(f"starting {bench.clients} clients in {bench.crowds} processes")
    files = [str(running.written_client(number)) for number in range(1, bench.clients + 1)]
    shared = running.folder / "shared-models" if bench.lean else None
    if shared is not None:
        shared.mkdir()
    for place in range(bench.crowds):
        mine = {number: file for number, file in enumerate(files) if number % bench.crowds == place}
        plan, name = running.folder / f"crowd-{place}.json", f"clients-{place}"
        write_plan(plan, CrowdPlan(mine, bench.clients, bench.tls, None if shared is None else str(shared)))
        running.start_clients(name, "fedn_py.bench.crowd", plan)
    running.await_clients(bench.clients, tell)


def _timed(running: BenchNetwork, bench: RoundBench, folder: Path, tell: Tell) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        package, seed_file = made_work(Path(scratch), bench.params)
        package_digest = running.api.upload_package(package).digest
        seed = running.api.upload_seed_model(seed_file).digest
        running.forget_peaks()
        idle, bytes_before = running.usage(), loopback_bytes()
        with MemoryWatch(running.processes) as watch:
            ended = _run_session(running, bench, options_of(bench, package_digest, seed), tell)
        used, wire_bytes = running.usage(), loopback_bytes() - bytes_before
        if ended.status != "finished" or ended.final_model is None:
            raise BenchFailed(f"the session {ended.status}: {ended.reason}", remedy=running.where_to_look)
        check_result(seed_file, running.api.download_model(ended.final_model, Path(scratch) / "final"), bench)
        rounds = running.api.rounds(ended.id)
    return {
        **_times(rounds),
        "cpu_s": {role: round((cpu_s(used[role]) - cpu_s(idle[role])) / bench.rounds_run, 4) for role in used},
        "wire_bytes": wire_bytes // bench.rounds_run,
        **_memory(idle, used, watch.peaks, bench.model_bytes),
    }


def _memory(
    idle: Mapping[str, Mapping[int, Usage]],
    used: Mapping[str, Mapping[int, Usage]],
    anonymous: Mapping[int, int],
    model_bytes: int,
) -> dict[str, Any]:
    def growth(before: int, peak: int) -> float:
        return round(max(0, peak - before) / model_bytes, 2)

    found: dict[str, dict[str, float]] = defaultdict(dict)
    for role, processes in used.items():
        pid = most_grown(idle[role], processes)
        before, peak = idle[role][pid], processes[pid].peak_rss_bytes
        found["peak_rss_bytes"][role] = peak
        found["idle_rss_bytes"][role] = before.rss_bytes
        found["peak_anonymous_bytes"][role] = anonymous[pid]
        found["idle_anonymous_bytes"][role] = before.anonymous_bytes
        found["growth_models"][role] = growth(before.rss_bytes, peak)
        found["anonymous_growth_models"][role] = growth(before.anonymous_bytes, anonymous[pid])
    return found


def made_work(scratch: Path, params: int) -> tuple[Path, Path]:
    """Make a package that nobody runs and a seed model of so many weights; return their files."""
    project, package, seed = scratch / "project", scratch / "package.tar.gz", scratch / "seed.safetensors"
    project.mkdir()
    (project / "fedn.yaml").write_text(yaml.safe_dump(_PACKAGE), encoding="utf-8")
    create_package(project, package)
    write_seed(seed, params)
    return package, seed


def options_of(bench: RoundBench, package: Digest, seed: Digest) -> SessionOptions:
    """Return what session a benchmark starts."""
    return SessionOptions(
        package=package,
        seed_model=seed,
        rounds=bench.rounds_run,
        clients_required=bench.clients,
        update_timeout_s=_ROUND_WITHIN_S,
        validate=False,
        max_attempts=1,
        masking=bench.masking,
        masked=exact_terms(bench.clients, bench.slots, bench.replicas) if bench.masking == "pet" else MaskedOptions(),
    )


def _run_session(running: BenchNetwork, bench: RoundBench, options: SessionOptions, tell: Tell) -> SessionView:
    tell(f"running {WARM_UP_ROUNDS} + {bench.rounds} rounds")
    view, told = running.api.start_session(options), 0
    while True:
        running.check()
        time.sleep(_LOOK_EVERY_S)
        with suppress(ReducerUnreachable):  # busy with a large model for a moment
            view = running.api.session(view.id)
        if view.rounds_done != told:
            told = view.rounds_done
            tell(f"{told} of {bench.rounds_run} rounds are done")
        if view.status in {"finished", "stopped", "failed"}:
            return view


def check_result(seed: Path, final: Path, bench: RoundBench) -> None:
    """Raise BenchFailed unless every weight of the last model is what it must be."""
    error = largest_error(seed, final, bench.rounds_run)
    if error:
        raise BenchFailed(
            f"a weight of the last model is {error:g} away from what it must be",
            remedy="This is a fault of fedn_py: please report it with the command you ran.",
        )


def _times(rounds: Sequence[RoundView]) -> dict[str, Any]:
    """Return the times of all rounds behind the first, from commit to commit."""
    ordered = sorted(rounds, key=lambda one: one.number)
    committed = [one.started_at + one.seconds for one in ordered]
    seconds = [after - before for before, after in pairwise(committed)]
    phases: dict[str, list[float]] = defaultdict(list)
    for one in ordered[WARM_UP_ROUNDS:]:
        for phase in one.phases:
            phases[phase.phase].append(phase.seconds)
    return {
        "median_s": round(statistics.median(seconds), 4),
        "min_s": round(min(seconds), 4),
        "max_s": round(max(seconds), 4),
        "phases_s": {phase: round(statistics.median(taken), 4) for phase, taken in phases.items()},
    }
