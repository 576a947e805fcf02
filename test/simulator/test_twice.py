"""A message that comes twice changes nothing that its first coming has not; the swarm repeats some much later."""

from collections.abc import Callable
from typing import Any

from simulator.masked.machines import MaskedMachines
from simulator.masked.world import MaskedWorld
from simulator.world import Machines, World

from fedn_py.client import member_work, participant_work
from fedn_py.errors import PeerFault
from fedn_py.protocol import client, combiner, combiner_work, reducer, reducer_work
from fedn_py.protocol.masked import cell_work
from fedn_py.protocol.masked import member_work as seats
from fedn_py.protocol.masked import participant_work as sent
from fedn_py.protocol.masked_rounds_work import MaskedEvent, MaskedPartialArrived

Step = Callable[[Any, Any], tuple[Any, Any]]
TELL_OF_NOW = (reducer_work.CombinerJoined, reducer_work.ClientsChanged, combiner_work.ClientAttached)
"""True when they are sent and perhaps not later: a stream delivers them in order."""
FOR_GOOD = (
    reducer_work.PartialArrived,
    reducer_work.CellGaveUp,
    reducer_work.ValidationArrived,
    MaskedPartialArrived,
    MaskedEvent,
    combiner_work.Ordered,
    combiner_work.OrderCancelled,
    combiner_work.UpdateArrived,
    combiner_work.TaskNotDone,
    combiner_work.ValidationReturned,
    cell_work.KeysOffered,
    cell_work.BoxesAcknowledged,
    client.Tasked,
    client.Cancelled,
    client.Committed,
    seats.IncludedArrived,
    seats.EchoArrived,
    sent.AbortArrived,
    sent.NotOpenedArrived,
)


class Twice:
    """A machine that is told everything twice.

    Attributes:
        repeated: how often. changed: what a repetition has changed.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self.repeated = 0
        self.changed: list[tuple[Any, Any, Any]] = []

    def __call__(self, state: Any, event: Any) -> tuple[Any, Any]:
        """Answer an event, and look what a second one does."""
        after, effects = self._step(state, event)
        if isinstance(event, (*TELL_OF_NOW, *FOR_GOOD)):
            self._again(after, event)
        return after, effects

    def _again(self, state: Any, event: Any) -> None:
        self.repeated += 1
        try:
            again, _ = self._step(state, event)
        except PeerFault:
            return  # refused by name
        if again != state:
            self.changed.append((event, state, again))


def test_a_plain_message_that_comes_twice_changes_nothing_more() -> None:
    steps = {"reducer": Twice(reducer.step), "combiner": Twice(combiner.step), "client": Twice(client.step)}
    for seed in range(6):
        World.of_seed(seed, Machines(**steps)).run()

    assert all(step.repeated > 20 for step in steps.values())
    assert [step.changed[0] for step in steps.values() if step.changed] == []


def test_a_masked_message_that_comes_twice_changes_nothing_more() -> None:
    steps = {
        "reducer": Twice(reducer.step),
        "combiner": Twice(combiner.step),
        "client": Twice(client.step),
        "participant": Twice(participant_work.step),
        "member": Twice(member_work.step),
    }
    for seed in range(2):
        MaskedWorld.of_seed(seed, MaskedMachines(**steps)).run()

    assert all(step.repeated > 10 for step in steps.values())
    assert [step.changed[0] for step in steps.values() if step.changed] == []
