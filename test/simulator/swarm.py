"""Many runs, each by a seed of its own: what failed, what happened, and how to see one again.

PYTHONPATH=test python -m simulator.swarm --seeds 2000
PYTHONPATH=test python -m simulator.swarm --only masked --replay 17
"""

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from traceback import extract_tb
from typing import Any

import structlog
from simulator import masked_sometimes, matrix, sometimes
from simulator.fences import InvariantBroken
from simulator.masked.world import MaskedWorld
from simulator.trace import Trace
from simulator.world import World

ENOUGH_SEEDS = 200
"""In so many runs everything that should happen now and then has happened."""

MASKED_PART = 4
"""One masked run for so many plain ones, unless masked ones alone are asked for: theirs take six times as long."""

NO_ERROR = "nothing raises an error that no rule names"

HANDFUL = 5
"""So many runs are given to a process at a time."""


@dataclass(frozen=True)
class Kind:
    """One kind of network.

    Attributes:
        world: makes the run that a seed stands for, and writes its trace if one is given.
        sometimes: what must have happened somewhere in a swarm: a fault that never strikes proves nothing.
    """

    name: str
    world: Callable[..., Any]
    sometimes: tuple[str, ...]


PLAIN = Kind("plain", World.of_seed, sometimes.SOMETIMES)
MASKED = Kind("masked", MaskedWorld.of_seed, masked_sometimes.SOMETIMES)
KINDS = {kind.name: kind for kind in (PLAIN, MASKED)}

SUITE = {"plain": range(200), "masked": range(40)}
"""The seeds that are part of the test suite; few masked ones, as theirs are real signatures and masks."""


@dataclass
class Swarm:
    """What a swarm of runs showed.

    Attributes:
        broken: by seed, the rule that did not hold.
        sometimes: what happened, and how often.
        ends: how sessions ended.
        cells: what became of what was struck, by fault, phase and outcome.
    """

    kind: Kind = PLAIN
    passed: int = 0
    steps: int = 0
    broken: dict[int, InvariantBroken] = field(default_factory=dict)
    sometimes: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    cells: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def add(self, other: "Swarm") -> None:
        """Add what other runs of the same kind showed."""
        self.passed, self.steps = self.passed + other.passed, self.steps + other.steps
        self.broken.update(other.broken)
        self.sometimes += other.sometimes
        self.ends += other.ends
        self.cells += other.cells

    @property
    def never(self) -> list[str]:
        """What should have happened somewhere and did not."""
        cells = matrix.never(self.kind.name, self.cells)
        return [*(what for what in self.kind.sometimes if not self.sometimes[what]), *cells]


def run_swarm(seeds: Iterable[int], kind: Kind = PLAIN) -> Swarm:
    """Run every seed."""
    swarm = Swarm(kind)
    for seed in seeds:
        try:
            world = kind.world(seed)
        except Exception as fault:
            swarm.broken[seed] = _broken_by(fault)
            continue
        broken = _broken_in(world)
        if broken is None:
            swarm.passed += 1
        else:
            swarm.broken[seed] = broken
        swarm.sometimes += world.chaos.sometimes
        swarm.ends[world.store.status] += 1
        swarm.steps += world.steps
        swarm.cells += world.matrix.cells
    return swarm


def _broken_in(world: Any) -> InvariantBroken | None:
    """Run a world; return the rule that did not hold, if one did not."""
    try:
        world.run()
    except Exception as fault:
        return _broken_by(fault)
    return None


def _broken_by(fault: Exception) -> InvariantBroken:
    """Return which rule an exception breaks: no run raises what no rule does."""
    if isinstance(fault, InvariantBroken):
        return fault
    last = extract_tb(fault.__traceback__)[-1]
    return InvariantBroken(NO_ERROR, f"{fault!r} at {last.filename}:{last.lineno}")


def run_swarms(asked: Mapping[str, Iterable[int]]) -> dict[str, Swarm]:
    """Run the seeds of each kind on all cores; what a seed shows does not depend on who runs it."""
    swarms = {name: Swarm(KINDS[name]) for name in asked}
    handfuls = [(name, part) for name, seeds in asked.items() for part in _handfuls(list(seeds))]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as workers:
        for (name, _), part in zip(handfuls, workers.map(_run_handful, handfuls), strict=True):
            swarms[name].add(part)
    return swarms


def _handfuls(seeds: list[int]) -> list[list[int]]:
    return [seeds[start : start + HANDFUL] for start in range(0, len(seeds), HANDFUL)]


def _run_handful(handful: tuple[str, list[int]]) -> Swarm:
    be_quiet()
    return run_swarm(handful[1], KINDS[handful[0]])


def be_quiet() -> None:
    """Log no warnings: in a swarm a store is away all the time."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


def seeds_from(begin: int, seeds: int) -> list[int]:
    """Return so many seeds, from one of them on and round to it again."""
    return [*range(begin, seeds), *range(begin)]


def first_broken(seeds: Iterable[int], world: Callable[[int], Any]) -> tuple[int, InvariantBroken] | None:
    """Return the first seed in which a rule breaks, and the rule."""
    for seed in seeds:
        broken = _broken_in(world(seed))
        if broken is not None:
            return seed, broken
    return None


def traced(seed: int, kind: Kind = PLAIN) -> Trace:
    """Return the trace of one run; its last line says how it ended."""
    trace = Trace()
    try:
        world = kind.world(seed, trace=trace)
    except Exception as fault:
        trace.say(0.0, "BROKEN", str(_broken_by(fault)))
        return trace
    broken = _broken_in(world)
    if broken is None:
        trace.say(world.clock.now, "end", f"session {world.store.status} {world.store.reason}")
    else:
        trace.say(world.clock.now, "BROKEN", str(broken))
    return trace


def replay_command(seed: int, kind: Kind = PLAIN) -> str:
    """Return what shows a run step by step."""
    return f"PYTHONPATH=test .venv/bin/python -m simulator.swarm --only {kind.name} --replay {seed}"


def main() -> int:
    """Run a swarm, or show one run."""
    parser = argparse.ArgumentParser(prog="simulator.swarm", description="Runs the machines on virtual time.")
    parser.add_argument(
        "--seeds", type=int, default=200, help="how many plain runs, with a quarter as many masked ones"
    )
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", choices=KINDS, help="this kind of network alone; plain for --replay and --digest")
    parser.add_argument("--replay", type=int, help="show this run, every step of it")
    parser.add_argument("--digest", action="store_true", help="print the digest of each run's trace and no more")
    asked = parser.parse_args()
    be_quiet()
    kind = KINDS[asked.only or "plain"]
    if asked.replay is not None:
        trace = traced(asked.replay, kind)
        _say(*trace.lines, f"trace {trace.digest}")
        return int("BROKEN" in trace.lines[-1])
    seeds = range(asked.first, asked.first + asked.seeds)
    if asked.digest:
        _say(*(f"{seed} {traced(seed, kind).digest}" for seed in seeds))
        return 0
    chosen = {kind.name: seeds} if asked.only else {"plain": seeds, "masked": seeds[: -(-len(seeds) // MASKED_PART)]}
    swarms = run_swarms(chosen)
    well = [_tell(swarms[name], len(chosen[name])) for name in chosen]
    return int(not all(well))


def _tell(swarm: Swarm, seeds: int) -> bool:
    """Say what a swarm showed; returns whether it is well."""
    for seed, broken in swarm.broken.items():
        _say(f"seed {seed}: {str(broken)[:500]}", f"  see it: {replay_command(seed, swarm.kind)}")
    never = swarm.never if seeds >= ENOUGH_SEEDS else []
    _say(*(f"never happened: {what}" for what in never))
    ends = ", ".join(f"{count} {end}" for end, count in sorted(swarm.ends.items()))
    _say(f"{swarm.kind.name}: {swarm.steps} steps; sessions: {ends}")
    _say(f"{swarm.kind.name}: {swarm.passed} passed, {len(swarm.broken)} failed")
    return not (swarm.broken or never)


def _say(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
