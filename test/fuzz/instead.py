"""A damaged message in the place of the true one: it is refused by name, and the round goes on for the others."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from fedn_py.identity import ClientId
from fedn_py.protocol.masked.encoding import MalformedMessage
from fedn_py.protocol.messages import CellOrder, RoundCommitted
from fedn_py.reducer.records import RoundRecord
from fuzz.damage import Damaged
from fuzz.lines import TO_COMBINER, Ambush, Door, Passing
from fuzz.places import Place
from fuzz.storm import Report, damages_of, fields_hit
from fuzz.stories import STORIES
from fuzz.whole_network import WholeNetwork

_MOST = 30
"""How often one message is said again in an attempt, and damaged each time."""


@dataclass
class Instead:
    """Damages what one receiver is told until its attempt is over.

    Attributes:
        place: where.
        pick: which of the damages; they are in the same order each time.
        party: whose message it was; None where it was nobody's in particular.
    """

    place: Place
    pick: int
    seed: int
    count: int
    network: WholeNetwork
    damaged: Damaged | None = None
    hit: set[str] = field(default_factory=set)
    party: ClientId | None = None
    readable: bool = False
    left: int = _MOST
    orders: int = 0

    def wanted(self, passing: Passing) -> bool:
        if self.damaged is None:
            return self.place.takes(passing)
        return self.readable and self.place.takes(passing) and passing.client == self.party

    async def springs(self, passing: Passing, door: Door) -> None:
        if self.damaged is None:
            self._choose(passing)
        assert self.damaged is not None
        # Later words of the same attempt are damaged in the same way, as far as they are as long.
        await door(self.place.with_content(passing, self.damaged.content))

    def _choose(self, passing: Passing) -> None:
        chance = random.Random(self.seed)
        found = in_turn(damages_of(self.place, passing, chance, self.count, self.network.lines.passed[:-1]))
        self.damaged, self.party = found[self.pick % len(found)], passing.client
        body = self.place.body.decode(self.place.content_of(passing))
        self.hit = fields_hit(body, self.damaged.content)
        try:
            self.place.body.decode(self.damaged.content)
            self.readable = True
        except MalformedMessage:
            self.readable = False

    def over(self, passing: Passing) -> bool:
        """Say whether a message shows that the attempt is over."""
        if passing.way is not TO_COMBINER or self.damaged is None:
            return False
        return isinstance(passing.message, RoundCommitted | CellOrder)


def in_turn(damages: Sequence[Damaged]) -> list[Damaged]:
    """Return damages so that one of each kind comes before a second one of any."""
    by_kind: dict[str, list[Damaged]] = {}
    for one in damages:
        kind = one.how.split()[0] if not one.field else one.field if one.field != "insider" else one.how
        by_kind.setdefault(kind, []).append(one)
    found: list[Damaged] = []
    while any(by_kind.values()):
        found += [waiting.pop(0) for waiting in by_kind.values() if waiting]
    return found


async def instead(network: WholeNetwork, place: Place, picks: Sequence[int], *, seed: int, count: int) -> Report:
    """Damage one message a round, and see that each round is committed all the same."""
    report = Report(place.name)
    for pick in picks:
        await _one_round(network, place, Instead(place, pick, seed, count, network), report)
    return report


async def _one_round(network: WholeNetwork, place: Place, one: Instead, report: Report) -> None:
    await network.newest_round()
    position, told = len(network.log), Counter(network.refusals.by)
    ambush = network.lines.lay(Ambush(one.wanted, one.springs, _MOST, until=one.over))
    await STORIES[place.story](network)
    while one.damaged is None:
        network.check_alive()
        await network.next_message()
    record = await network.next_round()
    network.lines.lift(ambush)
    report.cases += 1
    codes = network.codes_since(position) + Counter(code for _, code in (network.refusals.by - told).elements())
    report.codes += Counter(dict.fromkeys(codes, 1))
    what = f"{one.damaged.how} ({', '.join(sorted(one.hit))})"
    if not codes:
        report.escapes.append(f"{what}: not refused by name")
    missing = _missing(network, record)
    if len(missing - {one.party}) > place.others:
        report.escapes.append(f"{what}: the round went on without {len(missing)} clients")
    report.ends[_end_of(record, missing)] += 1


def _missing(network: WholeNetwork, record: RoundRecord) -> set[ClientId | None]:
    return set(network.clients) - {ClientId(one.client) for one in record.included}


def _end_of(record: RoundRecord, missing: set[ClientId | None]) -> str:
    who = "without its client" if missing else "with everybody"
    return who if record.plan.attempt == 1 else f"{who}, in attempt {record.plan.attempt}"
