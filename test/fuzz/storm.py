"""Damaged messages by the dozen, each before the true one: refused by name, and nothing anywhere has changed."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import masked_world as world
from fuzz.damage import Damaged, by_another, bytes_damaged, edits
from fuzz.insiders import insiders
from fuzz.lines import TO_COMBINER, Ambush, Door, Passing
from fuzz.places import Place
from fuzz.quiet_loop import quiet
from fuzz.stories import STORIES
from fuzz.whole_network import WholeNetwork

from fedn_py.errors import PeerFault
from fedn_py.protocol.masked.encoding import Body, MalformedMessage
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.masked.words import MaskedTerms

STRANGER = world.key_of("a stranger")


@dataclass
class Report:
    """What was tried at one place, and what came of it.

    Attributes:
        ends: of rounds in which a damaged message took the place of the true one.
        escapes: damaged messages that were not refused by name, or changed something.
    """

    place: str
    cases: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    escapes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        codes = ", ".join(f"{code} {times}" for code, times in sorted(self.codes.items()))
        ends = "".join(f"; {times} rounds {end}" for end, times in sorted(self.ends.items()))
        return f"{self.place}: {self.cases} cases, {len(self.escapes)} escapes; {codes}{ends}"


def damages_of(
    place: Place, passing: Passing, chance: random.Random, count: int, earlier: Sequence[Passing]
) -> list[Damaged]:
    """Return what is done to one message: to its bytes, to its fields, to who signed it, and earlier ones again."""
    content = place.content_of(passing)
    body = place.body.decode(content)
    found = [*bytes_damaged(content, chance, count), *edits(body), *insiders(place, body)]
    if isinstance(body, Signed) and place.said is not None:
        found += by_another(body, place.said, STRANGER)
    again = dict.fromkeys(place.content_of(one) for one in _before_this_attempt(earlier) if place.takes(one))
    # The last policy is the one that is gone by until the true one comes.
    again = {other: None for other in list(again)[: -1 if place.story == "policies" else None] if other != content}
    found += [Damaged("one of an earlier round", other, "replay") for other in list(again)[-3:]]
    return [one for one in found if one.content != content and not _as_good(place, body, one)]


def _before_this_attempt(passed: Sequence[Passing]) -> Sequence[Passing]:
    orders = [place for place, one in enumerate(passed) if one.way is TO_COMBINER and one.kind == MaskedTerms.kind]
    return passed[: orders[-1] + 1] if orders else passed


def fields_hit(body: Body, content: bytes) -> set[str]:
    """Return the fields of a body that other bytes change; none where those cannot be read."""
    try:
        other = type(body).decode(content)
    except MalformedMessage:
        return set()
    return {one.name for one in fields(body) if getattr(body, one.name) != getattr(other, one.name)}  # type: ignore[arg-type]


def _as_good(place: Place, body: Body, damaged: Damaged) -> bool:
    hit = fields_hit(body, damaged.content)
    return damaged.field in place.as_good or (bool(hit) and hit <= set(place.as_good))


class Storm:
    """Damages one message after the other of what it is laid for, and lets the true one through at the end."""

    def __init__(self, network: WholeNetwork, place: Place, chance: random.Random, count: int, messages: int) -> None:
        self._network, self._place, self._chance, self._count = network, place, chance, count
        self.left = messages
        self.report = Report(place.name)

    async def springs(self, passing: Passing, door: Door) -> None:
        """Take one true message."""
        place, earlier = self._place, self._network.lines.passed[:-1]
        for damaged in damages_of(place, passing, self._chance, self._count, earlier):
            await self._try(passing, damaged, door)
        await door(passing.wire)
        self.left -= 1

    async def _try(self, passing: Passing, damaged: Damaged, door: Door) -> None:
        network, report, body = self._network, self.report, self._place.body.decode(self._place.content_of(passing))
        await quiet()
        before, position, told = network.kept(), len(network.log), Counter(network.refusals.by)
        codes: Counter[str] = Counter()
        try:
            await door(self._place.with_content(passing, damaged.content))
        except PeerFault as refused:
            codes[refused.code] += 1
        await quiet()
        codes += network.codes_since(position)
        codes += Counter(code for _, code in (network.refusals.by - told).elements())
        report.cases += 1
        report.codes += Counter(dict.fromkeys(codes, 1))
        hit = fields_hit(body, damaged.content)
        if not codes and damaged.field not in self._place.unnamed:
            report.escapes.append(f"{damaged.how} ({', '.join(sorted(hit))}): not refused by name")
        changed = differences(before, network.kept())
        if changed:
            report.escapes.append(f"{damaged.how} ({', '.join(sorted(hit))}): changed {', '.join(changed)}")


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return what has changed between two looks at a network."""
    return [f"{who}'s {what}" for who, kept in after.items() for what, now in kept.items() if before[who][what] != now]


async def storm(network: WholeNetwork, place: Place, chance: random.Random, count: int, *, messages: int = 1) -> Report:
    """Lay a storm for the next messages of a kind and wait until they have come."""
    one = Storm(network, place, chance, count, messages)
    network.lines.lay(Ambush(place.takes, one.springs, messages))
    await STORIES[place.story](network)
    await network.until(lambda: not one.left)
    await quiet()
    return one.report
