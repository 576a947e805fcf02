"""Many runs, each by a seed of its own: what failed, what happened, and how to see one again.

PYTHONPATH=test python -m simulator.swarm --seeds 2000
PYTHONPATH=test python -m simulator.swarm --replay 17
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from simulator.chaos import CHANCES, INTERVALS_S
from simulator.invariants import InvariantBroken
from simulator.trace import Trace
from simulator.world import Machines, World

SOMETIMES = (
    *CHANCES,
    *INTERVALS_S,
    "attempt failed",
    "cell failed",
    "client cut off while it trained",
    "client moved to another combiner",
    "combiner came back in time",
    "combiner lost in Updating",
    "combiner lost in Committing",
    "combiner lost in Validating",
    "combiner refused while its last life seemed open",
    "duplicate upload answered",
    "order to a combiner that is away",
    "reducer lost in Updating",
    "reducer lost in Committing",
    "reducer lost in Validating",
    "reducer lost in Paused",
    "report sent again",
    "session paused after its last attempt",
    "update trained once and uploaded twice",
    "update trained once and used by a later attempt",
    "upload given up",
    "upload refused: Late",
    "upload refused: NotAssigned",
    "upload refused: NotFinite",
    "upload refused: AlreadyIn",
    "upload refused: AlreadyRefused",
    "PartialArrived not expected in Updating",
    "PartialArrived not expected in Committing",
    "Ordered not expected in Collecting",
    "Tasked not expected in Resting",
)
"""What must have happened somewhere in a swarm: a fault that never strikes proves nothing."""


@dataclass
class Swarm:
    """What a swarm of runs showed.

    Attributes:
        broken: by seed, the rule that did not hold.
        sometimes: what happened, and how often.
        ends: how sessions ended.
    """

    passed: int = 0
    steps: int = 0
    broken: dict[int, InvariantBroken] = field(default_factory=dict)
    sometimes: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)

    @property
    def never(self) -> list[str]:
        """What should have happened somewhere and did not."""
        return [what for what in SOMETIMES if not self.sometimes[what]]


def run_swarm(seeds: Iterable[int], machines: Machines | None = None) -> Swarm:
    """Run every seed."""
    swarm = Swarm()
    for seed in seeds:
        world = World.of_seed(seed, machines)
        try:
            world.run()
            swarm.passed += 1
        except InvariantBroken as broken:
            swarm.broken[seed] = broken
        swarm.sometimes += world.chaos.sometimes
        swarm.ends[world.store.status] += 1
        swarm.steps += world.steps
    return swarm


def first_broken(seeds: Iterable[int], machines: Machines) -> tuple[int, InvariantBroken] | None:
    """Return the first seed in which a rule breaks, and the rule."""
    for seed in seeds:
        try:
            World.of_seed(seed, machines).run()
        except InvariantBroken as broken:
            return seed, broken
    return None


def traced(seed: int) -> Trace:
    """Return the trace of one run; its last line says how it ended."""
    trace = Trace()
    world = World.of_seed(seed, trace=trace)
    try:
        world.run()
        trace.say(world.clock.now, "end", f"session {world.store.status} {world.store.reason}")
    except InvariantBroken as broken:
        trace.say(world.clock.now, "BROKEN", str(broken))
    return trace


def replay_command(seed: int) -> str:
    """Return what shows a run step by step."""
    return f"PYTHONPATH=test .venv/bin/python -m simulator.swarm --replay {seed}"


def main() -> int:
    """Run a swarm, or show one run."""
    parser = argparse.ArgumentParser(prog="simulator.swarm", description="Runs the machines on virtual time.")
    parser.add_argument("--seeds", type=int, default=200, help="how many runs")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--replay", type=int, help="show this run, every step of it")
    parser.add_argument("--digest", action="store_true", help="print the digest of each run's trace and no more")
    asked = parser.parse_args()
    if asked.replay is not None:
        trace = traced(asked.replay)
        _say(*trace.lines, f"trace {trace.digest}")
        return int("BROKEN" in trace.lines[-1])
    seeds = range(asked.first, asked.first + asked.seeds)
    if asked.digest:
        _say(*(f"{seed} {traced(seed).digest}" for seed in seeds))
        return 0
    swarm = run_swarm(seeds)
    for seed, broken in swarm.broken.items():
        _say(f"seed {seed}: {str(broken)[:500]}", f"  see it: {replay_command(seed)}")
    if asked.seeds >= 200:
        _say(*(f"never happened: {what}" for what in swarm.never))
    ends = ", ".join(f"{count} {end}" for end, count in sorted(swarm.ends.items()))
    _say(f"{swarm.steps} steps; sessions: {ends}", f"{swarm.passed} passed, {len(swarm.broken)} failed")
    return int(bool(swarm.broken or (asked.seeds >= 200 and swarm.never)))


def _say(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
