"""Damage at random, for as long as is wanted: each seed has a network of its own and every place of the table.

PYTHONPATH=test python -m fuzz.long_form --seconds 600
PYTHONPATH=test python -m fuzz.long_form --replay 17
"""

import argparse
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from fuzz.anywhere import anywhere
from fuzz.insiders import SPOILED
from fuzz.instead import instead
from fuzz.kept_networks import KeptNetworks
from fuzz.places import PLACES
from fuzz.storm import Report, storm
from fuzz.whole_network import WholeNetwork

Piece = tuple[str, bool, Callable[[WholeNetwork], Awaitable[Report]]]
"""What is tried, whether with replicas, and how."""


def pieces_of(seed: int) -> Iterator[Piece]:
    """Yield everything that one seed tries, in an order of its own."""
    pieces: list[Piece] = []
    for place in PLACES:
        chance, replicated = random.Random(f"{seed} {place.name}"), place.story == "echoes"
        if place.how == "before":
            pieces.append((place.name, replicated, partial(storm, place=place, chance=chance, count=40)))
        else:
            pieces.append((place.name, False, partial(instead, place=place, chance=chance, rounds=25, count=10)))
        if place.name in SPOILED:
            spoils = partial(instead, place=place, chance=chance, rounds=8, count=0, spoils=True)
            pieces.append((f"{place.name}, by its sender", False, spoils))
    for replicated in (False, True):
        chance = random.Random(f"{seed} anywhere {replicated}")
        pieces.append(("any message, anywhere", replicated, partial(anywhere, chance=chance, rounds=30)))
    random.Random(seed).shuffle(pieces)
    yield from pieces


class LongForm:
    """Runs seeds and keeps what came of them."""

    def __init__(self) -> None:
        self.found: dict[str, Report] = {}
        self.seeds: list[int] = []
        self.broken: list[str] = []

    def run(self, seed: int, until_s: float) -> None:
        """Run one seed, as far as there is time."""
        self.seeds.append(seed)
        with KeptNetworks() as networks:
            for name, replicated, piece in pieces_of(seed):
                if time.monotonic() >= until_s:
                    return
                try:
                    self._add(seed, name, networks.play(piece, replicated=replicated))
                except Exception as fault:
                    self.broken.append(f"seed {seed}, {name}: {type(fault).__name__}: {fault}"[:500])

    def _add(self, seed: int, name: str, report: Report) -> None:
        whole = self.found.setdefault(name, Report(name))
        whole.cases += report.cases
        whole.codes += report.codes
        whole.ends += report.ends
        whole.escapes += [f"seed {seed}: {escape}" for escape in report.escapes]

    def told(self) -> str:
        """Say for people what was run."""
        reports = sorted(self.found.values(), key=lambda one: one.place)
        codes = sorted({code for one in reports for code in one.codes})
        escapes = [f"  {one.place}: {escape}" for one in reports for escape in one.escapes]
        lines = [str(one) for one in reports]
        lines.append(f"seeds {', '.join(map(str, self.seeds))}")
        lines.append(f"{len(reports)} kinds, {sum(one.cases for one in reports)} cases; refused as {', '.join(codes)}")
        lines += [f"{len(escapes)} escapes, {len(self.broken)} broken", *escapes, *self.broken]
        return "\n".join(lines)

    @property
    def failed(self) -> bool:
        """Whether something was not as it should be."""
        return bool(self.broken) or any(one.escapes for one in self.found.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long; the last piece is finished")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many at most")
    parser.add_argument("--first", type=int, default=None, help="the first seed; by the clock unless given")
    parser.add_argument("--replay", type=int, default=None, help="one seed, to its end")
    said = parser.parse_args()
    form = LongForm()
    if said.replay is not None:
        form.run(said.replay, float("inf"))
    else:
        first, until_s = said.first if said.first is not None else int(time.time()), time.monotonic() + said.seconds
        for seed in range(first, first + said.seeds):
            if time.monotonic() >= until_s:
                break
            form.run(seed, until_s)
    sys.stdout.write(form.told() + "\n")
    return 1 if form.failed else 0


if __name__ == "__main__":
    sys.exit(main())
