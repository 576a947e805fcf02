"""Damage anywhere in a message, outside of what is signed too: whatever it says then, rounds go on.

What is not signed may be read as another true message, so there need not be a refusal. What must hold holds: every
process lives, the next model is the mean of those who are in it, and nobody has promised what was not asked for.
"""

import random

from fuzz.damage import flips, truncations
from fuzz.lines import ASSIGNING, UPLOADING, Ambush, Door, Passing
from fuzz.storm import Report
from fuzz.whole_network import WholeNetwork

_ELSEWHERE = {"chain", "server certificate"}
"""What is said at the beginning of a line, where a name is said as well: another name is another party."""


class Anywhere:
    """Damages one message of a round, whichever comes after a number of others."""

    def __init__(self, chance: random.Random, network: WholeNetwork) -> None:
        self._chance, self._network, self._wait = chance, network, chance.randrange(60)
        self.what = ""
        self.round = 0

    def wanted(self, passing: Passing) -> bool:
        if passing.way in {ASSIGNING, UPLOADING} or passing.kind in _ELSEWHERE:
            return False
        self._wait -= 1
        return self._wait < 0

    async def springs(self, passing: Passing, door: Door) -> None:
        damages = [*flips(passing.wire, self._chance, 3), *truncations(passing.wire, self._chance, 2)]
        damaged = self._chance.choice(damages)
        self.what = f"{passing.way.name}, {passing.kind}: {damaged.how}"
        self.round = self._network.lines.committed + 1
        await door(damaged.content)


async def anywhere(network: WholeNetwork, chance: random.Random, rounds: int) -> Report:
    """Damage one message a round, and see that the rounds go on."""
    report = Report("any message, anywhere")
    for _ in range(rounds):
        await _one_round(network, Anywhere(chance, network), report)
    return report


async def _one_round(network: WholeNetwork, one: Anywhere, report: Report) -> None:
    position, ambush = len(network.log), network.lines.lay(Ambush(one.wanted, one.springs))
    try:
        await network.until(lambda: one.what)
        while (record := await network.next_round()).plan.round_number < one.round:
            pass
    except Exception as fault:
        raise AssertionError(one.what) from fault
    network.lines.lift(ambush)
    report.cases += 1
    report.codes += network.codes_since(position)
    missing = len(network.clients) - len(record.included)
    report.ends[f"without {missing}" if missing else "with everybody"] += 1
