"""One trial on a network: a session runs, something is done to it at a point, and what came of it is judged."""

import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.checker import faults_of
from chaos.history import Entry, History, observed
from chaos.links import BLACK_HOLE, Weather
from chaos.network import SMALL, ChaosNetwork, is_active
from chaos.verdict import faults_of_session

from fedn_py.api.faults import ReducerUnreachable, RemoteRefusal
from fedn_py.api.network import ENDED, Network
from fedn_py.errors import FednError
from fedn_py.protocol.messages import Masking
from fedn_py.reducer.control import RoundView, SessionOptions

HURT = 2
"""The round that things happen in, of ROUNDS."""

ROUNDS = 3
SESSION_S = 110.0
_LOOK_EVERY_S = 0.02


@dataclass(frozen=True, slots=True)
class Trial:
    """One row of the table.

    Attributes:
        does: what is done, and when.
        play: does it, while the session runs.
        must: what must hold beyond what always must, in words, and in code that returns what does not.
        gated: whether the trainings of the round that is hurt wait until ``play`` lets them go on, or it returns.
        size: parameters of the model.
        update_timeout_s: of the session.
        standby: whether a second reducer waits.
    """

    name: str
    masking: Masking
    does: str
    play: "Callable[[Stage], None]"
    must: str
    holds: "Callable[[Stage, RoundView], Iterable[str]]"
    gated: bool = False
    size: int = SMALL
    update_timeout_s: float = 40.0
    standby: bool = False

    @classmethod
    def of(  # noqa: PLR0917 - the columns of a table
        cls,
        masking: Masking,
        name: str,
        does: str,
        play: "Callable[[Stage], None]",
        must: str,
        holds: "Callable[[Stage, RoundView], Iterable[str]]",
        **more: Any,
    ) -> "Trial":
        """Return a row as the tables have it."""
        kind = "plain" if masking == "none" else "masked"
        return cls(f"{kind}, {name}", masking, does, play, must, holds, **more)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a trial.

    Attributes:
        seconds: of the whole trial. recovered_s: from the first thing that was done to the next commit.
        came: what the round that was hurt came to.
        faults: everything that must not be.
        history: its file, kept where there are faults.
    """

    name: str
    seconds: float
    recovered_s: float
    came: str
    faults: tuple[str, ...]
    history: Path


@dataclass
class Stage:
    """What a trial can do to the network.

    Attributes:
        session: its id.
        after: the number of the last event before the session.
    """

    network: ChaosNetwork
    history: History
    session: str = ""
    after: int = 0
    notes: list[str] = field(default_factory=list)

    # ---- processes

    def kill(self, name: str) -> None:
        """Kill a process."""
        self.history.fault(f"{name} killed")
        self.network.crew.kill(name)

    def start(self, name: str) -> None:
        """Start it again."""
        self.history.fault(f"{name} started")
        self.network.crew.restart(name)

    def stop_still(self, name: str) -> None:
        """Have a process stand still."""
        self.history.fault(f"{name} stopped")
        self.network.crew.send(name, signal.SIGSTOP)

    def wake(self, name: str) -> None:
        """Have it go on."""
        self.history.fault(f"{name} woken")
        self.network.crew.send(name, signal.SIGCONT)

    def terminate(self, name: str) -> None:
        """Ask a process to end, in good order."""
        self.history.fault(f"{name} asked to end")
        began = time.monotonic()
        self.network.crew.send(name, signal.SIGTERM)
        code = self.network.crew.ended(name)
        self.notes.append(f"{name} ended with {code} in {time.monotonic() - began:.1f} s")
        assert code == 0, f"{name} ended with exit code {code}"

    def arm(self, name: str, point: str, *, match: str = "", nth: int = 1, stop: bool = False) -> None:
        """Have a process be killed, or stand still, where it passes a point."""
        number = signal.SIGSTOP if stop else signal.SIGKILL
        self.network.crew.arm(name, point, match=match, nth=nth, number=number)

    def await_hit(self, *names: str) -> str:
        """Wait until one of these is at its point."""
        name = self.network.crew.await_hit(*names)
        self.network.crew.disarm()
        self.history.fault(f"{name} at its point")
        return name

    def killed_at(self, *names: str, down_s: float = 0.0) -> str:
        """Wait until one of these is killed at its point, and start it again."""
        name = self.await_hit(*names)
        self.network.crew.ended(name)
        time.sleep(down_s)
        self.start(name)
        return name

    # ---- links and stores

    def weather(self, link: str, weather: Weather) -> None:
        """Change a link's weather."""
        self.history.fault(f"{link}: {weather}")
        self.network.links.become(link, weather)

    def black_hole(self, link: str) -> None:
        """Have a link swallow everything."""
        self.weather(link, BLACK_HOLE)

    def kill_store(self, name: str) -> None:
        """Kill a store's server."""
        self.history.fault(f"{name} killed")
        self.network.stores[name].kill()

    def start_store(self, name: str) -> None:
        """Start it again, on the same data and port."""
        self.history.fault(f"{name} started")
        self.network.stores[name].start()

    def send_store(self, name: str, number: signal.Signals) -> None:
        """Send a store's server a signal."""
        self.history.fault(f"{name} gets {number.name}")
        self.network.stores[name].signal(number)

    def await_store_away(self, name: str) -> None:
        """Wait until the reducer says that a store does not answer: in its status, or in its refusal to say more."""
        kind = {"mongodb": "MongoDB", "minio": "MinIO"}[name]

        def said() -> bool:
            try:
                stores = self.network.network.status().stores
            except ReducerUnreachable:
                return False
            except RemoteRefusal as refusal:
                return refusal.code == "StoreUnavailable" and kind in refusal.message
            return any(store.kind == kind and not store.healthy for store in stores)

        self.until(f"the reducer says that {name} is away", said)

    # ---- waiting

    def close_gates(self) -> None:
        """Have the trainings of the round that is hurt wait."""
        for client in self.network.clients:
            (self.network.data_of(client) / f"gate-{HURT}").touch()

    def open_gates(self, *clients: str) -> None:
        """Let the trainings of these clients go on, or of all."""
        for client in clients or self.network.clients:
            (self.network.data_of(client) / f"gate-{HURT}").unlink(missing_ok=True)

    def await_training(self, *clients: str) -> dict[str, int]:
        """Wait until these clients, or all, train for the round that is hurt; return the trainings' process ids."""
        found: dict[str, int] = {}

        def all_train() -> bool:
            for client in clients or tuple(self.network.clients):
                for file in self.network.data_of(client).glob(f"training-{self.session}-{HURT}-?"):
                    found[client] = int(file.read_text())
            return len(found) == len(clients or self.network.clients)

        self.until("trainings have begun", all_train)
        return found

    def await_event(self, kind: str, containing: str = "") -> None:
        """Wait for an event since the session's start."""

        def came() -> bool:
            try:
                events = self.network.network.events(after=self.after, kind=kind, limit=500)
            except (ReducerUnreachable, RemoteRefusal):
                return False
            return any(containing in event.text for event in events)

        self.until(f"event {kind} {containing!r} has come", came)

    def await_commit(self, number: int) -> None:
        """Wait until a round is committed in the documents."""
        self.until(f"round {number} is committed", lambda: self.is_committed(number))

    def has_ended(self) -> bool:
        """Tell whether the session does nothing more by itself, as far as a reducer says so."""
        try:
            return self.network.network.session(self.session).status in ENDED
        except (ReducerUnreachable, RemoteRefusal):
            return False

    def is_committed(self, number: int) -> bool:
        """Tell whether a round is committed in the documents, whatever the reducer says."""
        record = self.network.records("rounds").get(f"{self.session}/{number:06d}")
        return record is not None and record["status"] == "committed"

    def until(self, what: str, holds: Callable[[], bool], within_s: float = 60.0) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {within_s:g} s")
            time.sleep(_LOOK_EVERY_S)


# ---- running one


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
    finally:
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
    try:
        with observed(stage.history, network.reducers, network.mongodb_uri, stage.session):
            try:
                trial.play(stage)
            finally:
                stage.open_gates()
            stage.until("the session has ended", stage.has_ended, SESSION_S)
            network.links.heal()
        faults += faults_of_session(network, stage.session, seed_file)
        return network.network.round(stage.session, HURT)
    finally:
        ready_again(network)


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


def recovered_s(entries: list[Entry]) -> float:
    """Return the time from the first thing that was done to the next commit that somebody saw."""
    first = next((one["start"] for one in entries if one["op"] == "fault"), None)
    if first is None:
        return 0.0
    looks = [one for one in entries if one["op"] == "look"]
    before = max((len(one["committed"]) for one in looks if one["end"] <= first), default=0)
    after = [one["end"] for one in looks if one["end"] > first and len(one["committed"]) > before]
    return min(after) - first if after else float("nan")


def _came(stage: Stage, hurt: RoundView | None) -> str:
    if hurt is None:
        return "; ".join(["no round", *stage.notes])
    excluded = f", without {', '.join(sorted(one.name for one in hurt.excluded))}" if hurt.excluded else ""
    attempts = "in its first attempt" if hurt.attempt == 1 else f"in attempt {hurt.attempt}"
    said = f"round {hurt.number} {hurt.status} {attempts} with {len(hurt.clients)} clients{excluded}"
    return "; ".join([said, *stage.notes])
