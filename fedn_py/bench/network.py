"""The processes of a benchmark: a reducer, combiners, and crowds of clients, on free ports of this machine."""

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from fedn_py.api.faults import ReducerUnreachable
from fedn_py.api.network import Network
from fedn_py.api.profile import load_profile
from fedn_py.bench.crowd import CrowdPlan, write_plan
from fedn_py.bench.usage import Usage, usage_of
from fedn_py.errors import OwnFault
from fedn_py.sandbox.fleet import environment
from fedn_py.sandbox.folder import SandboxFolder, Where
from fedn_py.sandbox.processes import Children

Masking = Literal["none", "pet"]
Tell = Callable[[str], None]
Found = TypeVar("Found")

_UP_WITHIN_S = 600.0
_LOOK_EVERY_S = 0.1
_MOST_CLIENTS = 1_000
"""That a combiner takes by its own default."""


class BenchFailed(OwnFault):
    """The benchmark could not be run to its end, or its result is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundBench:
    """What is to be timed.

    Attributes:
        params: float32 weights of the model.
        rounds: that are counted; one more is done before them.
        client_processes: that the clients are spread over.
    """

    clients: int = 10
    params: int = 250_000
    combiners: int = 1
    rounds: int = 5
    masking: Masking = "none"
    client_processes: int = 2
    tls: bool = True

    @property
    def model_bytes(self) -> int:
        """Bytes of the weights."""
        return 4 * self.params


@contextmanager
def running_network(bench: RoundBench, folder: Path, tell: Tell) -> Iterator["BenchNetwork"]:
    """Give a network whose clients are all attached; it ends with the block."""
    network = BenchNetwork(bench, folder, tell)
    try:
        network.start()
        yield network
    finally:
        network.stop()


class BenchNetwork:
    """The processes of one benchmark, and what they have used."""

    def __init__(self, bench: RoundBench, folder: Path, tell: Tell) -> None:
        self._bench, self._tell = bench, tell
        self._folder = SandboxFolder(folder)
        self._ports = self._folder.choose_ports(bench.combiners, 0)
        self._children = Children()
        self._environ = environment(stores=False)
        self._network: Network | None = None

    @property
    def api(self) -> Network:
        """The reducer's REST API."""
        assert self._network is not None
        return self._network

    @property
    def where_to_look(self) -> str:
        """The remedy for what goes wrong here."""
        return f"Look into {self._folder.path / 'logs'}; --keep keeps it."

    def start(self) -> None:
        """Start everything and wait until all clients are attached."""
        bench, folder = self._bench, self._folder
        combiners = [f"combiner-{number + 1}" for number in range(bench.combiners)]
        folder.write_certificates(["reducer", *combiners])
        folder.write_operator(["reducer", *combiners])
        folder.write_reducer(self._ports, Where())
        self._start("reducer", "reducer")
        folder.write_profile(self._ports)
        self._network = self._awaited("the reducer", self._reached)
        for number in range(1, bench.combiners + 1):
            name = folder.write_combiner(number, self._ports, Where())
            folder.write_token(name, self.api.create_token("combiner", name)[0])
            self._start("combiner", name, max_clients=max(_MOST_CLIENTS, bench.clients))
        self._awaited("the combiners", lambda: self.api.status().combiners == bench.combiners or None)
        self._start_clients()
        self._awaited("the clients", lambda: self.api.status().clients == bench.clients or None)

    def stop(self) -> None:
        """End all processes."""
        self._children.stop()

    def usage(self) -> dict[str, Usage]:
        """Return, by role, the CPU time of all its processes and the peak memory of the largest."""
        used: dict[str, list[Usage]] = defaultdict(list)
        for child in self._children.living():
            used[child.role].append(usage_of(child.process.pid))
        return {
            role: Usage(sum(one.cpu_s for one in each), max(one.peak_rss_bytes for one in each))
            for role, each in used.items()
        }

    def _start_clients(self) -> None:
        bench = self._bench
        self._tell(f"starting {bench.clients} clients in {bench.client_processes} processes")
        files = [str(self._written_client(number)) for number in range(1, bench.clients + 1)]
        for place in range(min(bench.client_processes, bench.clients)):
            mine = {number: file for number, file in enumerate(files) if number % bench.client_processes == place}
            plan, name = self._folder.path / f"crowd-{place}.json", f"clients-{place}"
            write_plan(plan, CrowdPlan(mine, bench.clients))
            command = [sys.executable, "-m", "fedn_py.bench.crowd", str(plan)]
            self._children.start_command("clients", name, command, self._folder.log(name), self._environ)

    def _written_client(self, number: int) -> Path:
        name = self._folder.write_client(number, self._ports, self._folder.path, None)
        self._folder.write_token(name, self.api.create_token("client", name)[0])
        return self._folder.settings(name)

    def _start(self, role: str, name: str, /, **changes: Any) -> None:
        file = self._folder.settings(name)
        settings = {**yaml.safe_load(file.read_text(encoding="utf-8")), **changes, "logging": {"level": "warning"}}
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        self._children.start(role, name, file, self._folder.log(name), self._environ)

    def _reached(self) -> Network | None:
        if not self._folder.admin_token.exists():
            return None
        network = Network.of(load_profile(self._folder.profile))
        try:
            network.status()
        except ReducerUnreachable:
            return None
        return network

    def _awaited(self, what: str, look: Callable[[], Found | None]) -> Found:
        deadline = time.monotonic() + _UP_WITHIN_S
        while time.monotonic() < deadline:
            self._children.check()
            found = look()
            if found is not None:
                return found
            time.sleep(_LOOK_EVERY_S)
        raise BenchFailed(f"{what} did not come up within {_UP_WITHIN_S:g} s", remedy=self.where_to_look)
