"""A damaged message in the place of the true one: it is refused by name, and the round goes on for the others."""

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fuzz.damage import Damaged
from fuzz.insiders import spoiled
from fuzz.lines import TO_COMBINER, Ambush, Door, Passing
from fuzz.places import Place
from fuzz.quiet_loop import quiet
from fuzz.stories import STORIES
from fuzz.storm import Report, damages_of, fields_hit
from fuzz.whole_network import WholeNetwork

from fedn_py.identity import ClientId
from fedn_py.protocol.masked.encoding import Body, MalformedMessage
from fedn_py.protocol.masked.words import MaskedTerms
from fedn_py.protocol.messages import CellOrder, RoundCommitted
from fedn_py.reducer.records import RoundRecord

MOST_SAID = 30
"""How often one message is said again in an attempt, and damaged each time."""

_CODE = re.compile(r"[A-Z][A-Za-z]+: ")

Whose = Callable[[WholeNetwork, Passing], bool]
"""Says whether it is this client's message that is to be damaged."""


def anybody(_: WholeNetwork, __: Passing) -> bool:
    """Whoever comes first."""
    return True


def a_member(network: WholeNetwork, passing: Passing) -> bool:
    """A sum participant of the newest committee."""
    return passing.client in network.members


def no_member(network: WholeNetwork, passing: Passing) -> bool:
    """A client that is an update participant alone."""
    return passing.client not in network.members


@dataclass
class Instead:
    """Damages what one receiver is told until its attempt is over.

    Attributes:
        spoils: whether it is its sender who says what is wrong.
        share: which of all damages, from 0 to 1.
        party: whose message it was; None where it was nobody's in particular.
        round: in which it was said.
        failures, cells_failed: how many there were before it.
    """

    network: WholeNetwork
    place: Place
    share: float
    chance: random.Random
    count: int
    whose: Whose = anybody
    spoils: bool = False
    damaged: Damaged | None = None
    hit: set[str] = field(default_factory=set)
    party: ClientId | None = None
    readable: bool = False
    round: int = 0
    failures: int = 0
    cells_failed: int = 0

    def wanted(self, passing: Passing) -> bool:
        if not self.place.takes(passing):
            return False
        if self.damaged is None:
            return self.whose(self.network, passing)
        return self.readable and passing.client == self.party

    async def springs(self, passing: Passing, door: Door) -> None:
        if self.damaged is None:
            self._choose(passing)
        assert self.damaged is not None
        await door(self.place.with_content(passing, self.damaged.content))

    def _choose(self, passing: Passing) -> None:
        body = self.place.body.decode(self.place.content_of(passing))
        found = in_turn(self.damages(passing, body))
        self.cells_failed = len(self.network.lines.cells_failed)
        self.failures = 0 if passing.client is None else len(self.network.clients[passing.client].failures)
        self.damaged, self.party = found[int(self.share * len(found))], passing.client
        self.round = self.network.lines.committed + 1
        self.hit = fields_hit(body, self.damaged.content)
        try:
            self.place.body.decode(self.damaged.content)
            self.readable = True
        except MalformedMessage:
            self.readable = False  # it ends the line that it came on, and is said again on the next

    def damages(self, passing: Passing, body: Body) -> Sequence[Damaged]:
        """Return everything that may take the place of a message."""
        if self.spoils:
            return list(spoiled(self.place, body))
        return damages_of(self.place, passing, self.chance, self.count, self.network.lines.passed[:-1])

    def over(self, passing: Passing) -> bool:
        """Say whether a message shows that the attempt is over."""
        if passing.way is not TO_COMBINER or self.damaged is None:
            return False
        return isinstance(passing.message, RoundCommitted | CellOrder)


class Readable(Instead):
    """Damages fields alone, so that the line holds and every further word of the same party is damaged too."""

    def damages(self, passing: Passing, body: Body) -> Sequence[Damaged]:
        return [one for one in super().damages(passing, body) if one.field and one.field != "replay"]


def in_turn(damages: Sequence[Damaged]) -> list[Damaged]:
    """Return damages so that one of each kind comes before a second one of any."""
    by_kind: dict[str, list[Damaged]] = {}
    for one in damages:
        kind = one.how if one.field == "insider" else one.field or one.how.split()[0]
        by_kind.setdefault(kind, []).append(one)
    found: list[Damaged] = []
    while any(by_kind.values()):
        found += [waiting.pop(0) for waiting in by_kind.values() if waiting]
    return found


async def instead(
    network: WholeNetwork, place: Place, chance: random.Random, *, rounds: int, count: int, **how: Any
) -> Report:
    """Damage one message a round, and see that each round is committed all the same."""
    report = Report(place.name)
    for number in range(rounds):
        one = Instead(network, place, number / rounds, chance, count, **how)
        await one_round(network, one, report)
    return report


async def one_round(network: WholeNetwork, one: Instead, report: Report) -> None:
    """Damage what there is to damage in one round."""
    place = one.place
    position, told, rested = len(network.log), Counter(network.refusals.by), len(network.rests)
    ambush = network.lines.lay(Ambush(one.wanted, one.springs, MOST_SAID, until=one.over))
    await STORIES[place.story](network)
    await network.until(lambda: one.damaged is not None)
    if place.story == "joining":  # who is refused at the door comes again
        await quiet()
        network.lines.lift(ambush)
        network.combiner.drop()
    while (record := await network.next_round()).plan.round_number < one.round:
        pass
    network.lines.lift(ambush)
    report.cases += 1
    codes = network.codes_since(position) + Counter(code for _, code in (network.refusals.by - told).elements())
    report.codes += Counter(dict.fromkeys(codes, 1))
    what = f"{one.damaged.how} ({', '.join(sorted(one.hit))})"
    if not codes or not _refused_where_it_came(one):
        report.escapes.append(f"{what}: not refused by name")
    missing = set(network.clients) - {ClientId(included.client) for included in record.included}
    if len(missing - {one.party}) > place.others:
        report.escapes.append(f"{what}: the round went on without {len(missing)} clients")
    report.ends[_end_of(record, missing) + (" and a new work" if network.rests[rested:] else "")] += 1


def _refused_where_it_came(one: Instead) -> bool:
    """Say whether it was the receiver of terms that refused them, and not somebody behind it."""
    network, place = one.network, one.place
    if place.kind != MaskedTerms.kind or not one.readable:
        return True
    if one.party is None:
        return any(_CODE.match(reason) for reason in network.lines.cells_failed[one.cells_failed :])
    return any(_CODE.match(failed.reason) for failed in network.clients[one.party].failures[one.failures :])


def _end_of(record: RoundRecord, missing: set[ClientId]) -> str:
    who = "without its client" if missing else "with everybody"
    return who if record.plan.attempt == 1 else f"{who} in a later attempt"
