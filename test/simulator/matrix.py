"""What became of the attempt, or of the session, that a fault has struck, by fault and phase."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.world import World


class Matrix:
    """Watches one run."""

    def __init__(self, world: "World") -> None:
        self._world = world
