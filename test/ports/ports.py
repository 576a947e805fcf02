"""Every port of every role, each with a trouble of its own, in a network whose rounds go on."""

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fuzz.lines import ASSIGNING, FROM_CLIENT, FROM_COMBINER, TO_CLIENT, TO_COMBINER, UPLOADING, LineCut
from fuzz.whole_client import DOWNLOAD, STREAM, WholeClient
from fuzz.whole_network import WholeNetwork
from unruly_store import Trouble

from fedn_py.client.masked_memory import MemoryUnwritable
from fedn_py.transport import spool
from fedn_py.transport.spooled import MemoryBytes

LINES = (TO_CLIENT.name, FROM_CLIENT.name, TO_COMBINER.name, FROM_COMBINER.name, ASSIGNING.name)
TRANSFERS = (UPLOADING.name, DOWNLOAD, STREAM)
STORES, UPSTREAM, SPOOL, MEMORY = "stores of the reducer", "objects of the combiner", "spool", "memory of a client"


def _no_room() -> Exception:
    return OSError(errno.ENOSPC, "No space left on device")


def _unwritable() -> Exception:
    return MemoryUnwritable("the memory cannot be written")


@dataclass
class Ports:
    """Puts a trouble before each port of a network; to be made before the network is."""

    spool: Trouble = field(default_factory=lambda: Trouble(_no_room))
    memory: Trouble = field(default_factory=lambda: Trouble(_unwritable))
    lines: dict[str, Trouble] = field(default_factory=dict)

    def stand_before(self, network: WholeNetwork) -> None:
        """Take the network's ports over."""
        self.stores, self.upstream = network.reducer.trouble, network.combiner.trouble
        network.lines.trouble = self.lines = {name: Trouble(_cut) for name in (*LINES, *TRANSFERS)}
        network.on_new_client = self._before_memory
        for client in network.clients.values():
            self._before_memory(client)

    async def stir(self, port: str, network: WholeNetwork) -> None:
        """Have a round make calls of a port that it would not make by itself."""
        if port == ASSIGNING.name:
            network.somebody.drop()
        if port in {TO_COMBINER.name, FROM_COMBINER.name}:
            network.combiner.drop()

    def __getitem__(self, port: str) -> Trouble:
        stores = {STORES: self.stores, UPSTREAM: self.upstream, SPOOL: self.spool, MEMORY: self.memory}
        return stores[port] if port in stores else self.lines[port]

    def _before_memory(self, client: WholeClient) -> None:
        memory: Any = client.folder.memory
        for name in [name for name in dir(memory) if name.startswith(("save_", "drop_"))]:
            setattr(memory, name, _unruly(getattr(memory, name), self.memory))


def _cut() -> Exception:
    return LineCut("the connection was cut")


def _unruly(write: Callable[..., None], trouble: Trouble) -> Callable[..., None]:
    def written(*values: Any) -> None:
        mischief = trouble.next_call(writes=True)
        if mischief != "lost, not applied":
            write(*values)
        if mischief:
            raise trouble.fault()

    return written


def unruly_bytes(trouble: Trouble) -> type[MemoryBytes]:
    """Return what holds the bytes of an upload on a disk that may be full."""

    class UnrulyBytes(MemoryBytes):
        def append(self, chunk: bytes) -> None:
            trouble.next_call()
            super().append(chunk)

        def flush(self) -> None:
            trouble.next_call()

        def read(self, most: int) -> Iterator[bytes]:
            trouble.next_call()
            return super().read(most)

    return UnrulyBytes


SPOOLS_BYTES = spool.__name__ + ".MemoryBytes"
"""What ``unruly_bytes`` takes the place of."""
