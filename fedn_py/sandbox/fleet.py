"""The sandbox's combiners and clients: each with its settings, its token and its process."""

import os
from collections.abc import Mapping
from pathlib import Path

from fedn_py.api.network import Network
from fedn_py.errors import PeerFault
from fedn_py.sandbox.dealing import deal
from fedn_py.sandbox.folder import Ports, SandboxFolder, Where
from fedn_py.sandbox.options import SandboxOptions
from fedn_py.sandbox.processes import Children

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class NotOfTheFleet(PeerFault):
    """No combiner and no client of this sandbox has that name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"this sandbox started no combiner and no client {name}",
            remedy="Only what it started can be killed and started again here.",
        )


class AlreadySo(PeerFault):
    """A process runs that is to be started, or has ended that is to be killed."""


class Fleet:
    """Starts, kills and starts again. Its calls come from one thread at a time.

    Args:
        network: asked for tokens.
    """

    def __init__(
        self, folder: SandboxFolder, children: Children, options: SandboxOptions, ports: Ports, network: Network
    ) -> None:
        self._folder, self._children, self._options = folder, children, options
        self._ports, self._network = ports, network

    def start_combiner(self, number: int) -> None:
        """Start combiner-<number>."""
        where = Where(self._options.mongodb, self._options.minio)
        self._start_new("combiner", self._folder.write_combiner(number, self._ports, where))

    def start_client(self, number: int, data: Path) -> str:
        """Start client-<number> on a folder of data and return its name."""
        name = self._folder.write_client(number, self._ports, data, self._options.keep_updates)
        self._start_new("client", name)
        return name

    def one_more(self) -> tuple[int, Path]:
        """Deal out the data for one client more and return the number and the data that it is for; takes seconds."""
        numbers = [int(view.name.rpartition("-")[2]) for view in self._children.views() if view.role == "client"]
        number = max(numbers, default=0) + 1
        return number, deal(self._folder, self._options.project_folder(), number, self._options.split)[-1]

    def kill(self, name: str) -> None:
        """End a process and all that it started, as a power cut would; raises NotOfTheFleet, AlreadySo."""
        self._role_of(name)
        if not self._children.kill(name):
            raise AlreadySo(f"{name} has ended already", remedy="Start it again.")

    def start_again(self, name: str) -> None:
        """Start a process that has ended, with the settings and the state that it had; as ``kill`` raises."""
        role = self._role_of(name)
        if any(view.name == name and view.runs for view in self._children.views()):
            raise AlreadySo(f"{name} runs", remedy="Wait until it is attached; its log says what it does.")
        self._start(role, name)

    def _role_of(self, name: str) -> str:
        for view in self._children.views():
            if view.name == name and view.role != "reducer":
                return view.role
        raise NotOfTheFleet(name)

    def _start_new(self, role: str, name: str) -> None:
        self._folder.write_token(
            name, self._network.create_token("client" if role == "client" else "combiner", name)[0]
        )
        self._start(role, name)

    def _start(self, role: str, name: str) -> None:
        environ = environment(stores=role == "combiner")
        self._children.start(role, name, self._folder.settings(name), self._folder.log(name), environ)


def environment(*, stores: bool) -> Mapping[str, str]:
    """Return the environment of a process: settings come from its file alone, store keys go only where stores are."""
    passed = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FEDN_") or (stores and name.startswith("FEDN_MINIO_"))
    }
    # Many processes share this machine's few cores: each keeps to one.
    return {**dict.fromkeys(_THREADS, "1"), **passed}
