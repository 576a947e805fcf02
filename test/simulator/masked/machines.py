"""The rules that the nodes of a masked network run by; a planted bug replaces one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simulator.masked import sending
from simulator.masked.disk import Disk
from simulator.nodes import Step
from simulator.store_rules import StoreRules

from fedn_py.client import member_work, participant_work
from fedn_py.protocol import client, combiner, reducer
from fedn_py.protocol.masked.boxes import SealedSeeds, seal_seeds
from fedn_py.protocol.masked.registry import accept_policy
from fedn_py.protocol.reducer_work import SessionStarted


@dataclass(frozen=True)
class MaskedMachines(StoreRules):
    """All three roles' machines, and what their shells do that privacy rests on.

    Attributes:
        participant, member: of a client's updates and of its seats, as its shell runs them.
        draw: draws the random bytes of one upload. seal: seals seeds to a committee.
        accept_policy: what a client holds a policy to.
        remember: what a client's process finds of what it saved.
        found: where a session goes on after a start of the reducer, as its documents tell.
        unsets_key: the reducer removes an attempt's key from the document before it says that it is gone.
    """

    reducer: Step = reducer.step
    combiner: Step = combiner.step
    client: Step = client.step
    participant: Step = participant_work.step
    member: Step = member_work.step
    draw: Callable[[Any, bytes, Any], sending.DrawnBytes] = sending.draw
    seal: Callable[..., SealedSeeds] = seal_seeds
    accept_policy: Callable[..., Any] = accept_policy
    remember: Callable[[Disk], Disk] = lambda disk: disk
    found: Callable[[SessionStarted | None], SessionStarted | None] = lambda started: started
    unsets_key: bool = True
