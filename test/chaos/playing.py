"""Plays one trial on a network: a session runs, something is done to it at a point, and what came of it is judged."""

import signal
import time
from pathlib import Path

from chaos.checker import faults_of
from chaos.history import Entry, History, observed
from chaos.network import ChaosNetwork, is_active
from chaos.stage import HURT, Stage
from chaos.trial import Outcome, Trial
from chaos.verdict import faults_of_session

from fedn_py.api.faults import ReducerUnreachable
from fedn_py.api.network import Network
from fedn_py.errors import FednError
from fedn_py.reducer.shown_rounds import RoundView
from fedn_py.reducer.shown_sessions import SessionOptions

ROUNDS = 3


def run(network: ChaosNetwork, trial: Trial, folder: Path) -> Outcome:
    """Run a trial; what goes wrong is in its outcome."""
    path = folder / f"{trial.name.replace(' ', '-').replace(',', '')}.jsonl"
    history, began, faults = History(path), time.monotonic(), []
    network.watch.history = history
    stage = Stage(network, history)
    hurt: RoundView | None = None
    try:
        hurt = _played(stage, trial, faults)
        faults += [] if hurt is None else trial.holds(stage, hurt)
    except (AssertionError, FednError, OSError) as fault:
        faults.append(f"{type(fault).__name__}: {fault}"[:1_000])
    network.watch.history = None
    history.close()
    entries = history.entries()
    faults += faults_of(entries)
    seconds = time.monotonic() - began
    if not faults:
        path.unlink()
    return Outcome(trial.name, seconds, recovered_s(entries), _came(stage, hurt), tuple(faults), path)


def _played(stage: Stage, trial: Trial, faults: list[str]) -> RoundView | None:
    network = stage.network
    network.forget_earlier_sessions()
    package = network.uploaded_package()
    seed, seed_file = network.uploaded_seed(trial.size)
    if trial.gated:
        stage.close_gates()
    events = network.network.events(limit=1)
    stage.after = events[-1].seq if events else 0
    options = SessionOptions(
        package=package,  # type: ignore[arg-type]
        seed_model=seed,  # type: ignore[arg-type]
        rounds=ROUNDS,
        clients_required=3,
        masking=trial.masking,
        update_timeout_s=trial.update_timeout_s,
        validation_timeout_s=10.0,
        retry_delay_s=0.5,
        max_attempts=6,
    )
    stage.session = network.network.start_session(options).id
    with observed(stage.history, network.reducers, network.mongodb_uri, stage.session):
        try:
            trial.play(stage)
        finally:
            stage.open_gates()
        stage.await_end()
        network.links.heal()
    faults += faults_of_session(network, stage.session, seed_file)
    hurt = network.network.round(stage.session, HURT)
    ready_again(network)
    return hurt


def ready_again(network: ChaosNetwork) -> None:
    """Bring back whoever is away, and wait until all are attached."""
    network.links.heal()
    network.crew.disarm()
    for store in network.stores.values():
        if store.runs:
            store.signal(signal.SIGCONT)
        else:
            store.start()
    for role in ("reducer", "combiner", "client"):
        for name in network.crew.names(role):
            network.crew.send(name, signal.SIGCONT)
            if not network.crew.lives(name):
                network.crew.restart(name)
    network.awaited("a reducer", lambda: any(map(is_active, network.reducers.values())) or None)
    active = network.active()
    network.look_through(active)
    for name, reducer in network.reducers.items():
        if name != active:
            network.awaited(f"{name} as a standby", lambda reducer=reducer: stands_by(reducer) or None)  # type: ignore[misc]
    network.await_combiners(len(network.combiners))
    network.await_clients(len(network.clients))
    rebalance(network)


def rebalance(network: ChaosNetwork) -> None:
    """Start those clients again that have moved to another combiner than they prefer."""
    strayed = [name for name, combiner in network.attached().items() if combiner != network.preferred(name)]
    for name in strayed:
        network.crew.send(name, signal.SIGTERM)
    for name in strayed:
        network.crew.ended(name)
        network.crew.restart(name)
    network.await_clients(len(network.clients))


def stands_by(reducer: Network) -> bool:
    """Tell whether a reducer has seen that another one is active."""
    try:
        reducer.status()
    except ReducerUnreachable as fault:
        return fault.message.endswith("is active")
    return False


def recovered_s(entries: list[Entry]) -> float | None:
    """Return the time from the first thing that was done to the next commit that somebody saw, if any did."""
    first = next((one["start"] for one in entries if one["op"] == "fault"), None)
    if first is None:
        return None
    looks = [one for one in entries if one["op"] == "look"]
    before = max((len(one["committed"]) for one in looks if one["end"] <= first), default=0)
    after = [one["end"] for one in looks if one["end"] > first and len(one["committed"]) > before]
    return min(after) - first if after else None


def _came(stage: Stage, hurt: RoundView | None) -> str:
    if hurt is None:
        return "; ".join(["no round", *stage.notes])
    excluded = f", without {', '.join(sorted(one.name for one in hurt.excluded))}" if hurt.excluded else ""
    attempts = "in its first attempt" if hurt.attempt == 1 else f"in attempt {hurt.attempt}"
    said = f"round {hurt.number} {hurt.status} {attempts} with {len(hurt.clients)} clients{excluded}"
    return "; ".join([said, *stage.notes])
