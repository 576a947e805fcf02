"""Which combiner a client goes to."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedn_py.identity import CombinerName


@dataclass(frozen=True, slots=True)
class Room:
    """A combiner's room: how many clients it has, counting those on their way, and how many it takes."""

    clients: int
    max_clients: int


def choose_combiner(rooms: Mapping[CombinerName, Room], preferred: str) -> CombinerName | None:
    """Return the preferred combiner if it is there and has room, else the least loaded one with room, else None.

    Load is the share of a combiner's places that are taken; equal loads go by fewer clients, then by name.
    """
    free = {name: room for name, room in rooms.items() if room.clients < room.max_clients}
    if preferred in free:
        return CombinerName(preferred)
    return min(free, key=lambda n: (free[n].clients / free[n].max_clients, free[n].clients, n), default=None)
