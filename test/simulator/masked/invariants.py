"""What must hold in a masked network whatever fails, checked after every step against ghosts that no process can see.

The names of the rules are in ``ghosts.py``; P1 to P7 are promises to clients.
"""

from typing import TYPE_CHECKING

from simulator.fences import FenceRules
from simulator.masked.client_rules import ClientRules
from simulator.masked.ghosts import Ghosts
from simulator.masked.labels import Labels
from simulator.masked.server_rules import ServerRules
from simulator.masked.time_rules import TimeRules

if TYPE_CHECKING:
    from simulator.masked.store import MaskedRow
    from simulator.masked.world import MaskedWorld
    from simulator.nodes import Node


class MaskedInvariants(FenceRules):
    """Watches one run.

    Attributes:
        clients, servers, times: the rules that each is held to.
    """

    def __init__(self, world: "MaskedWorld") -> None:
        super().__init__(world)
        known, labels = Ghosts(), Labels()
        self.clients = ClientRules(world, known, labels)
        self.servers = ServerRules(world, known, labels)
        self.times = TimeRules(world, known)

    def woken(self, node: "Node") -> None:
        """See FenceRules.woken."""
        self.times.woken(node)

    def round_committed(self, row: "MaskedRow", fence: int) -> None:
        """A round is committed, in its document."""
        self.servers.round_committed(row)
