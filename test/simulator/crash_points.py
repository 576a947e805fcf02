"""Every point at which a process can die: a short run is repeated with a crash at each, one after the other.

A point is before an effect, after the last effect of an event, and after a write has reached the documents but not
its answer the writer. What a session makes must not depend on where its processes die.

PYTHONPATH=test python -m simulator.crash_points --only masked
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from random import Random
from typing import Any

from masked_world import a_policy
from simulator.chaos import Chaos, Sizes, terms
from simulator.fences import InvariantBroken
from simulator.masked import chaos as masked_chaos
from simulator.masked.chaos import MaskedSizes
from simulator.masked.world import MaskedWorld
from simulator.swarm import HANDFUL, be_quiet
from simulator.world import World

from fedn_py.protocol.masked.options import MaskedOptions


@dataclass
class CrashAt(Chaos):
    """Nothing goes wrong but one crash.

    Attributes:
        point: at which occasion to crash; there is none at 0.
        seen: how many occasions there were so far.
    """

    point: int = 0
    seen: int = 0

    def happens(self, fault: str) -> bool:
        """See Chaos.happens."""
        if "crash" not in fault:
            return False
        self.seen += 1
        return self.seen == self.point


def a_plain_run(point: int) -> World:
    """Return a short plain run, with a crash at this point."""
    sizes = Sizes(terms(rounds=2, clients_required=3), combiners=2, clients=3, training_s=(2.0, 3.0, 4.0), reducers=2)
    rng = Random(5)
    return World(sizes, rng, CrashAt(rng, latest_s=0.05, point=point))


def a_masked_run(point: int) -> MaskedWorld:
    """Return a short masked run of two cells, with a crash at this point."""
    options = MaskedOptions(masked_chaos.LARGEST, masked_chaos.N_MAX, masked_chaos.WEIGHT_CAP, 1, 2, 1)
    sizes = MaskedSizes(
        terms=masked_chaos.terms(rounds=1, masked=options, clients_required=4),
        policy=a_policy(version=1, clip_max=2 * masked_chaos.LARGEST, metrics="sum", rework_max=3),
        combiners=2,
        clients=6,
        training_s=(2.0,) * 6,
        max_clients=3,
        combiner_grace_s=5.0,
        reconnect_grace_s=3.0,
        quiet_after_s=0.0,
        reducers=2,
    )
    rng = Random(5)
    return MaskedWorld(sizes, rng, CrashAt(rng, latest_s=0.05, point=point))


RUNS: dict[str, Callable[[int], Any]] = {"plain": a_plain_run, "masked": a_masked_run}


@dataclass
class CrashedRuns:
    """What came of the runs.

    Attributes:
        broken: by point, what did not hold.
        ends: how the sessions ended. lost: which role was lost, and in which phase of the reducer.
    """

    tried: int = 0
    broken: dict[int, str] = field(default_factory=dict)
    ends: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)


def points_of(run: Callable[[int], Any]) -> int:
    """Return how many points a run without a crash has."""
    world = run(0)
    world.run()
    assert world.store.status == "finished"
    seen: int = world.chaos.seen
    return seen


def crash_at_each(run: Callable[[int], Any], points: Iterable[int]) -> CrashedRuns:
    """Run with a crash at each of these points: the session ends with all its rounds."""
    crashed = CrashedRuns()
    for point in points:
        world, crashed.tried = run(point), crashed.tried + 1
        try:
            world.run()
            if world.store.status != "finished":
                crashed.broken[point] = f"the session is {world.store.status}: {world.store.reason}"
        except InvariantBroken as broken:
            crashed.broken[point] = str(broken)
        crashed.ends[world.store.status] += 1
        crashed.lost += Counter(what for what in world.chaos.sometimes if what.endswith("lost") or " lost in " in what)
    return crashed


def crash_everywhere(kind: str) -> CrashedRuns:
    """Crash at every point of a run, on all cores."""
    points = range(1, points_of(RUNS[kind]) + 1)
    handfuls = [(kind, points[start : start + HANDFUL]) for start in range(0, len(points), HANDFUL)]
    crashed = CrashedRuns()
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as workers:
        for part in workers.map(_crash_at_some, handfuls):
            crashed.tried += part.tried
            crashed.broken.update(part.broken)
            crashed.ends += part.ends
            crashed.lost += part.lost
    return crashed


def _crash_at_some(handful: tuple[str, range]) -> CrashedRuns:
    be_quiet()
    return crash_at_each(RUNS[handful[0]], handful[1])


def main() -> int:
    """Crash at every point of both runs."""
    parser = argparse.ArgumentParser(prog="simulator.crash_points", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=RUNS)
    be_quiet()
    asked = parser.parse_args()
    well = True
    for name in RUNS:
        if asked.only in {None, name}:
            crashed = crash_everywhere(name)
            sys.stdout.writelines(f"crash at point {point}: {what[:300]}\n" for point, what in crashed.broken.items())
            passed = crashed.tried - len(crashed.broken)
            sys.stdout.write(f"{name}, a crash at every point: {passed} passed, {len(crashed.broken)} failed\n")
            well = well and not crashed.broken
    return int(not well)


if __name__ == "__main__":
    sys.exit(main())
