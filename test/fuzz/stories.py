"""What has to happen so that a message is said, each as something that is set off in a network whose rounds go on."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from fuzz.lines import TO_CLIENT, Ambush, Door, Passing
from fuzz.places import Story
from fuzz.whole_network import WholeNetwork

_ROUNDS_MISSED = 2


async def rounds(network: WholeNetwork) -> None:
    """Nothing: each round says it."""


async def given_up(network: WholeNetwork) -> None:
    """One member never hears what it is to open: the attempt is given up, and that member can still abort."""
    network.lines.lay(Ambush(lambda one: one.way is TO_CLIENT and one.kind == "included", _swallow))


async def missed_rounds(network: WholeNetwork) -> None:
    """A client is away for some rounds and comes back."""
    client = network.somebody
    client.stays_away = True
    client.drop()
    for _ in range(_ROUNDS_MISSED + 1):
        await network.newest_round()
    client.stays_away = False


async def attaching(network: WholeNetwork) -> None:
    """A client loses its connection."""
    network.somebody.drop()


async def joining(network: WholeNetwork) -> None:
    """The combiner loses its connection to the reducer."""
    network.combiner.drop()


async def policies(network: WholeNetwork) -> None:
    """The operator signs two more policies, one after the other."""
    for _ in range(2):
        network.publish(replace(network.policy, version=network.policy.version + 1))
        for _ in range(2):  # the first of them may have been planned before
            await network.newest_round()


STORIES: dict[Story, Callable[[WholeNetwork], Awaitable[None]]] = {
    "rounds": rounds,
    "echoes": rounds,
    "given up": given_up,
    "missed rounds": missed_rounds,
    "attaching": attaching,
    "joining": joining,
    "policies": policies,
}


async def _swallow(passing: Passing, door: Door) -> None:
    """Lose a message."""
