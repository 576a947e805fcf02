"""The processes of a benchmark: a reducer, combiners, and crowds of clients, on free ports of this machine."""

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from fedn_py.api.network import Network
from fedn_py.bench.faults import BenchFailed
from fedn_py.bench.limits import free_ports
from fedn_py.bench.lines import LinesPlan, write_plan
from fedn_py.bench.usage import Usage, forget_peak, usage_of
from fedn_py.sandbox.fleet import environment
from fedn_py.sandbox.folder import SandboxFolder, Where
from fedn_py.sandbox.processes import Children, NotUp, ProcessEnded
from fedn_py.sandbox.reaching import reached

Tell = Callable[[str], None]
Found = TypeVar("Found")

_OF_A_SANDBOX = frozenset({"heartbeat_s", "reconnect_grace_s"})
"""Settings by which a sandbox notices soon what somebody has killed; here they are those of a deployment."""

_LINES = "lines"
"""The process between clients and combiners, where there is one: what it uses is not the network's."""

_UP_WITHIN_S = 600.0
_LOOK_EVERY_S = 0.1
_TELL_EVERY_S = 5.0


@contextmanager
def running_network(folder: Path, combiners: int, *, tls: bool = True) -> Iterator["BenchNetwork"]:
    """Give a network of which nothing runs yet; what is started in the block ends with it."""
    network = BenchNetwork(folder, combiners, tls=tls)
    try:
        yield network
    finally:
        network.stop()


class BenchNetwork:
    """The processes of one benchmark, and what they have used.

    Args:
        folder: of all their state.
        tls: as in production; without it only to compare.
    """

    def __init__(self, folder: Path, combiners: int, *, tls: bool) -> None:
        self._folder, self._combiners, self._tls = SandboxFolder(folder), combiners, tls
        self._ports = self._folder.choose_ports(combiners, 0)
        self._children = Children()
        self._environ = environment(stores=False)
        self._network: Network | None = None

    @property
    def api(self) -> Network:
        """The reducer's REST API."""
        assert self._network is not None
        return self._network

    @property
    def folder(self) -> Path:
        """Where everything lies."""
        return self._folder.path

    @property
    def authority_file(self) -> Path:
        """The certificate that clients trust."""
        return self._folder.authority_file

    @property
    def reducer_address(self) -> str:
        """Where clients ask for a combiner."""
        return f"localhost:{self._ports.grpc}"

    @property
    def where_to_look(self) -> str:
        """The remedy for what goes wrong here."""
        return f"Look into {self._folder.path / 'logs'}; --keep keeps all that it had."

    def start_servers(self, clients: int, *, line_bytes_per_s: int = 0, **combiner_settings: Any) -> None:
        """Start the reducer and the combiners, with room for so many clients, and wait until they are there.

        Args:
            line_bytes_per_s: what the line of each client to its combiner carries, each way; 0 for no line between.
        """
        folder = self._folder
        names = [f"combiner-{number + 1}" for number in range(self._combiners)]
        folder.write_certificates(["reducer", *names])
        folder.write_operator(["reducer", *names])
        folder.write_reducer(self._ports, Where())
        self._start("reducer", "reducer")
        folder.write_profile(self._ports)
        self._network = self.awaited("the reducer", lambda: reached(self._folder))
        settings = {"max_clients": clients, **combiner_settings}
        lines = tuple(zip(free_ports(self._combiners), self._ports.combiners, strict=True)) if line_bytes_per_s else ()
        if lines:
            self._start_lines(LinesPlan(lines, line_bytes_per_s, clients))
        for number in range(1, self._combiners + 1):
            name = folder.write_combiner(number, self._ports, Where())
            folder.write_token(name, self.api.create_token("combiner", name)[0])
            reached_at = {"advertise": f"localhost:{lines[number - 1][0]}"} if lines else {}
            self._start("combiner", name, **settings, **reached_at)
        self.awaited("the combiners", lambda: self.api.status().combiners == self._combiners or None)

    def _start_lines(self, plan: LinesPlan) -> None:
        file = self.folder / "lines.json"
        write_plan(file, plan)
        command = [sys.executable, "-m", "fedn_py.bench.lines", str(file)]
        self._children.start_command(_LINES, _LINES, command, self._folder.log(_LINES), self._environ)

    def written_client(self, number: int) -> Path:
        """Write what client ``number`` (from 1) needs and return its settings file."""
        name = self._folder.write_client(number, self._ports, self._folder.path, None)
        self._folder.write_token(name, self.api.create_token("client", name)[0])
        return self._folder.settings(name)

    def start_clients(self, name: str, module: str, plan: Path) -> None:
        """Start a process of many clients: a module of this package that is run with a plan."""
        command = [sys.executable, "-m", module, str(plan)]
        self._children.start_command("clients", name, command, self._folder.log(name), self._environ)

    def await_clients(self, clients: int, tell: Tell) -> None:
        """Wait until so many are attached."""
        told = time.monotonic()

        def look() -> bool | None:
            nonlocal told
            attached = self.api.status().clients
            if time.monotonic() - told >= _TELL_EVERY_S:
                told = time.monotonic()
                tell(f"{attached} of {clients} clients are attached")
            return attached == clients or None

        self.awaited("the clients", look)

    def stop(self) -> None:
        """End all processes."""
        self._children.stop()

    def check(self) -> None:
        """Raise BenchFailed if a process has ended by itself."""
        with self._failures():
            self._children.check()

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except ProcessEnded as fault:
            raise BenchFailed(fault.message, remedy=f"Correct what it says. {self.where_to_look}") from fault
        except NotUp as fault:
            raise BenchFailed(fault.message, remedy=self.where_to_look) from fault

    def processes(self) -> Iterable[tuple[str, int]]:
        """Return role and process id of each living process of the network."""
        return [(child.role, child.process.pid) for child in self._children.living() if child.role != _LINES]

    def forget_peaks(self) -> None:
        """Count peaks of memory from now on."""
        for _, pid in self.processes():
            forget_peak(pid)

    def usage(self) -> dict[str, dict[int, Usage]]:
        """Return what each process has used, by role and process id."""
        used: dict[str, dict[int, Usage]] = defaultdict(dict)
        for role, pid in self.processes():
            used[role][pid] = usage_of(pid)
        return used

    def awaited(self, what: str, look: Callable[[], Found | None], every_s: float = _LOOK_EVERY_S) -> Found:
        """Look until there is something to see; raises BenchFailed when a process ends, or that takes too long."""
        with self._failures():
            return self._children.awaited(what, look, within_s=_UP_WITHIN_S, every_s=every_s)

    def _start(self, role: str, name: str, /, **changes: Any) -> None:
        file = self._folder.settings(name)
        written = yaml.safe_load(file.read_text(encoding="utf-8"))
        deployed = {name: value for name, value in written.items() if name not in _OF_A_SANDBOX}
        settings = {**deployed, **changes, "logging": {"level": "warning"}}
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        module = "fedn_py" if self._tls else "fedn_py.bench.plaintext"
        command = [sys.executable, "-m", module, "run", role, "-c", str(file)]
        self._children.start_command(role, name, command, self._folder.log(name), self._environ)
