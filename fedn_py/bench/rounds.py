"""How long a round takes on this machine: a network of real processes on loopback, and clients that add a constant.

What is timed is what a deployment runs: reducer, combiners and clients as processes, TLS, the embedded stores. Only
the training is made as short as it can be, and many clients share a process. A round is timed from one commit to the
next, so nothing between two rounds is left out; the first round, in which everything is warmed up, is not counted.
"""

import statistics
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from fedn_py.bench.constants import exact_terms, largest_error, write_seed
from fedn_py.bench.limits import Limits, measure_limits, transport_limit_s
from fedn_py.bench.network import BenchFailed, BenchNetwork, RoundBench, Tell, running_network
from fedn_py.bench.usage import loopback_bytes
from fedn_py.execution.packing import create_package
from fedn_py.identity import Digest
from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.reducer.control import RoundView, SessionOptions, SessionView

_ROUND_WITHIN_S = 3_600.0
_WARM_UP_ROUNDS = 1

_NEVER_RUN = {"command": "false"}
_PACKAGE = {
    "name": "adds-a-constant",
    "version": "1.0.0",
    "entry_points": {name: _NEVER_RUN for name in ("startup", "train", "validate")},
}
"""The clients are participants: they run none of it."""


def measure_rounds(bench: RoundBench, folder: Path, tell: Tell, limits: Limits | None = None) -> dict[str, Any]:
    """Run the rounds and return the figures.

    Args:
        folder: empty; holds all state while the network runs.
        limits: of this machine; measured first where None.

    Returns:
        ``median_s, min_s, max_s`` of the rounds; ``phases_s`` phase to median seconds; ``cpu_s`` role to CPU seconds
        a round (the clients' together); ``peak_rss_bytes`` role to the peak of its largest process,
        ``idle_rss_bytes`` role to its peak before the session; ``wire_bytes`` that crossed loopback in a round;
        ``limits``; ``limit_s``, what gRPC alone needs for the models and updates of a round; ``ratio_to_limit``,
        limit_s / median_s; and what was asked for.

    Raises:
        BenchFailed: a round failed, or the last model is not what it must be.
    """
    if limits is None:
        tell("measuring the limits of this machine")
        limits = measure_limits()
    with running_network(bench, folder, tell) as running:
        figures = _timed(running, bench, folder, tell)
    limit_s = transport_limit_s(limits, bench.model_bytes, bench.clients, tls=bench.tls)
    return {
        "clients": bench.clients,
        "params": bench.params,
        "model_bytes": bench.model_bytes,
        "combiners": bench.combiners,
        "client_processes": bench.client_processes,
        "masking": bench.masking,
        "tls": bench.tls,
        **figures,
        "limits": limits,
        "limit_s": round(limit_s, 4),
        "ratio_to_limit": round(limit_s / figures["median_s"], 3),
    }


def _timed(running: BenchNetwork, bench: RoundBench, folder: Path, tell: Tell) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        package, seed_file = _made(Path(scratch), bench)
        package_digest = running.api.upload_package(package).digest
        seed = running.api.upload_seed_model(seed_file).digest
        idle, bytes_before = running.usage(), loopback_bytes()
        tell(f"running {_WARM_UP_ROUNDS} + {bench.rounds} rounds")
        ended = _run_session(running, bench, package_digest, seed)
        used, wire_bytes = running.usage(), loopback_bytes() - bytes_before
        if ended.status != "finished" or ended.final_model is None:
            raise BenchFailed(f"the session {ended.status}: {ended.reason}", remedy=running.where_to_look)
        _check(seed_file, running.api.download_model(ended.final_model, Path(scratch) / "final"), bench)
        rounds = running.api.rounds(ended.id)
    done = bench.rounds + _WARM_UP_ROUNDS
    return {
        **_times(rounds),
        "cpu_s": {role: round((used[role].cpu_s - idle[role].cpu_s) / done, 4) for role in used},
        "peak_rss_bytes": {role: usage.peak_rss_bytes for role, usage in used.items()},
        "idle_rss_bytes": {role: usage.peak_rss_bytes for role, usage in idle.items()},
        "wire_bytes": wire_bytes // done,
    }


def _made(scratch: Path, bench: RoundBench) -> tuple[Path, Path]:
    project, package, seed = scratch / "project", scratch / "package.tar.gz", scratch / "seed.safetensors"
    project.mkdir()
    (project / "fedn.yaml").write_text(yaml.safe_dump(_PACKAGE), encoding="utf-8")
    create_package(project, package)
    write_seed(seed, bench.params)
    return package, seed


def _run_session(running: BenchNetwork, bench: RoundBench, package: Digest, seed: Digest) -> SessionView:
    session = running.api.start_session(
        SessionOptions(
            package=package,
            seed_model=seed,
            rounds=bench.rounds + _WARM_UP_ROUNDS,
            clients_required=bench.clients,
            update_timeout_s=_ROUND_WITHIN_S,
            validate=False,
            max_attempts=1,
            masking=bench.masking,
            masked=exact_terms(bench.clients) if bench.masking == "pet" else MaskedOptions(),
        )
    )
    # Looking costs the reducer a moment: seldom enough that it does not show.
    return running.api.wait(session.id, poll_s=0.5)


def _check(seed: Path, final: Path, bench: RoundBench) -> None:
    error = largest_error(seed, final, bench.rounds + _WARM_UP_ROUNDS)
    if error:
        raise BenchFailed(
            f"a weight of the last model is {error:g} away from what it must be",
            remedy="This is a fault of fedn_py: please report it with the command you ran.",
        )


def _times(rounds: Sequence[RoundView]) -> dict[str, Any]:
    """Return the times of all rounds behind the first, from commit to commit."""
    ordered = sorted(rounds, key=lambda one: one.number)
    committed = [one.started_at + one.seconds for one in ordered]
    seconds = [after - before for before, after in zip(committed, committed[1:], strict=False)]
    phases: dict[str, list[float]] = defaultdict(list)
    for one in ordered[_WARM_UP_ROUNDS:]:
        for phase in one.phases:
            phases[phase.phase].append(phase.seconds)
    return {
        "median_s": round(statistics.median(seconds), 4),
        "min_s": round(min(seconds), 4),
        "max_s": round(max(seconds), 4),
        "phases_s": {phase: round(statistics.median(taken), 4) for phase, taken in phases.items()},
    }
