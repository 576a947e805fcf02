"""What a trial can do to its network, and wait for, while a session runs."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from chaos.history import History
from chaos.links import BLACK_HOLE, Weather
from chaos.network import ChaosNetwork

from fedn_py.api.faults import ReducerUnreachable, RemoteRefusal
from fedn_py.api.network import ENDED
from fedn_py.reducer.shown_network import StatusView

HURT = 2
"""The round that things happen in."""

WITHIN_S, SESSION_S = 240.0, 480.0
"""Waited for something, and for a session's end; so long only where the machine has much else to do."""

_LOOK_EVERY_S = 0.02
_ASK_EVERY_S = 0.1
"""How often a file or one document is looked at, and how often a reducer is asked, which has to read for it."""


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

    def arm(self, *names: str, point: str, match: str = "", nth: int = 1, stop: bool = False) -> None:
        """Have the first of some processes that passes a point be killed there, or stand still."""
        number = signal.SIGSTOP if stop else signal.SIGKILL
        self.network.crew.arm(*names, point=point, match=match, nth=nth, number=number)

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

        self.until(f"the reducer says that {name} is away", said, every_s=_ASK_EVERY_S)

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
        seen = self.after

        def came() -> bool:
            nonlocal seen
            try:
                events = self.network.network.events(after=seen, kind=kind, limit=500)
            except (ReducerUnreachable, RemoteRefusal):
                return False
            seen = events[-1].seq if events else seen
            return any(containing in event.text for event in events)

        self.until(f"event {kind} {containing!r} has come", came, every_s=_ASK_EVERY_S)

    def await_commit(self, number: int) -> None:
        """Wait until a round is committed in the documents."""
        self.until(f"round {number} is committed", lambda: self.is_committed(number))

    def await_status(self, what: str, holds: Callable[[StatusView], bool]) -> None:
        """Wait until something holds of a reducer's status."""

        def said() -> bool:
            try:
                return holds(self.network.network.status())
            except (ReducerUnreachable, RemoteRefusal):
                return False

        self.until(what, said, every_s=_ASK_EVERY_S)

    def await_end(self) -> None:
        """Wait until the session does nothing more by itself, as far as a reducer says so."""

        def has_ended() -> bool:
            try:
                return self.network.network.session(self.session).status in ENDED
            except (ReducerUnreachable, RemoteRefusal):
                return False

        self.until("the session has ended", has_ended, SESSION_S, every_s=_ASK_EVERY_S)

    def is_committed(self, number: int) -> bool:
        """Tell whether a round is committed in the documents, whatever the reducer says."""
        record = self.network.record("rounds", f"{self.session}/{number:06d}")
        return record is not None and record["status"] == "committed"

    def until(
        self, what: str, holds: Callable[[], bool], within_s: float = WITHIN_S, *, every_s: float = _LOOK_EVERY_S
    ) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {within_s:g} s")
            time.sleep(every_s)
