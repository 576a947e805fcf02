"""The three machines together, under faults: whatever a seed draws, no rule breaks and the session ends."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from simulator import masked_sometimes, world
from simulator.masked.planted import PLANTED as PLANTED_IN_MASKED
from simulator.matrix_page import PAGE, page
from simulator.planted import CANARY, PLANTED
from simulator.swarm import (
    KINDS,
    MASKED,
    NO_ERROR,
    PLAIN,
    SUITE,
    Kind,
    Swarm,
    first_broken,
    replay_command,
    run_swarm,
    run_swarms,
    seeds_from,
    traced,
)

SEEDS = SUITE["plain"]
TEST = Path(__file__).parents[1]
on_a_busy_machine = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def swarms() -> Mapping[str, Swarm]:
    """The runs of the test suite, on all cores."""
    return run_swarms(SUITE)


@on_a_busy_machine
def test_no_rule_breaks_in_200_seeds_and_every_fault_strikes_in_every_phase(swarms: Mapping[str, Swarm]) -> None:
    swarm = swarms["plain"]

    assert not swarm.broken, commands_of(swarm, PLAIN)
    assert swarm.passed == len(SEEDS)
    assert swarm.never == []
    assert set(swarm.ends) == {"finished", "stopped"}


@on_a_busy_machine
def test_no_rule_of_masked_rounds_breaks_in_40_seeds(swarms: Mapping[str, Swarm]) -> None:
    swarm = swarms["masked"]

    assert not swarm.broken, commands_of(swarm, MASKED)
    assert swarm.ends["finished"] > len(SUITE["masked"]) / 2
    missed = [what for what in masked_sometimes.OFTEN if not swarm.sometimes[what]]
    assert len(missed) <= 4, missed  # in 200 seeds none may be missed


@on_a_busy_machine
def test_the_fault_matrix_says_what_became_of_these_runs(swarms: Mapping[str, Swarm]) -> None:
    assert PAGE.read_text(encoding="utf-8") == page(swarms), "run: python docs/generate.py"


def commands_of(swarm: Swarm, kind: Kind) -> list[tuple[str, str]]:
    """Return what shows each run that broke a rule, and the rule."""
    return [(replay_command(seed, kind), str(broken)[:300]) for seed, broken in swarm.broken.items()]


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_caught_by_the_rule_that_it_breaks(bug: str) -> None:
    found = first_broken(seeds_from(PLANTED[bug].begin, PLANTED[bug].seeds), PLANTED[bug].world)

    assert found is not None, f"{PLANTED[bug].seeds} seeds did not find that {bug}"
    seed, broken = found
    sys.stdout.write(f"{bug}: found by {broken.rule!r} in seed {seed}\n")
    assert broken.rule in PLANTED[bug].caught_by


def test_the_canary_dies_at_once() -> None:
    found = first_broken(range(10), PLANTED[CANARY].world)

    assert found is not None, "the rules are not looked at"


@pytest.mark.parametrize("bug", PLANTED_IN_MASKED)
def test_a_bug_planted_in_masked_rounds_is_caught_by_the_rule_that_it_breaks(bug: str) -> None:
    found = first_broken(seeds_from(PLANTED_IN_MASKED[bug].begin, len(SEEDS)), PLANTED_IN_MASKED[bug].world)

    assert found is not None, f"{len(SEEDS)} seeds did not find that {bug}"
    seed, broken = found
    sys.stdout.write(f"{bug}: found by {broken.rule!r} in seed {seed}\n")
    assert broken.rule in PLANTED_IN_MASKED[bug].caught_by


def _raises(world: Any) -> None:
    def act() -> None:
        raise KeyError("nobody awaited it")

    world.clock.after(1.0, act)


def _goes_in_circles(world: Any) -> None:
    def act() -> None:
        world.clock.after(0.0, act)

    world.clock.after(1.0, act)


def _all_but(bad: int, spoil: Callable[[Any], None], kind: Kind) -> Kind:
    """Return a kind of network of which one seed goes wrong outside every rule."""

    def world(seed: int, **named: Any) -> Any:
        made = kind.world(seed, **named)
        if seed == bad:
            spoil(made)
        return made

    return replace(kind, world=world)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(
    ("spoil", "rule", "detail"),
    [(_raises, NO_ERROR, "KeyError('nobody awaited it')"), (_goes_in_circles, world.ENDS, "(1.0, ")],
)
def test_a_seed_that_breaks_no_rule_but_raises_or_never_ends_fails_alone_and_replays(
    spoil: Callable[[Any], None], rule: str, detail: str, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "MOST_HAPPENINGS", 100_000)
    spoiled = _all_but(1, spoil, kind)

    swarm = run_swarm(range(3), spoiled)

    assert (swarm.passed, list(swarm.broken)) == (2, [1])
    assert swarm.broken[1].rule == rule
    assert swarm.broken[1].detail.startswith(detail)
    assert first_broken(range(3), spoiled.world) is not None
    assert "BROKEN" in traced(1, spoiled).lines[-1]


def test_a_network_that_cannot_even_be_made_fails_by_its_seed() -> None:
    def world(seed: int, **named: Any) -> Any:
        raise ValueError(seed)

    unmade = replace(PLAIN, world=world)

    swarm = run_swarm(range(2), unmade)

    assert (swarm.passed, {seed: broken.rule for seed, broken in swarm.broken.items()}) == (
        0,
        {0: NO_ERROR, 1: NO_ERROR},
    )
    assert "BROKEN" in traced(1, unmade).lines[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_trace_again(kind: str) -> None:
    assert traced(3, KINDS[kind]).lines == traced(3, KINDS[kind]).lines


@pytest.mark.parametrize("kind", KINDS)
def test_a_trace_does_not_depend_on_the_process(kind: str) -> None:
    digests = {_digests(kind, hash_seed) for hash_seed in ("0", "1")}

    assert len(digests) == 1
    assert digests.pop().splitlines()[3] == f"3 {traced(3, KINDS[kind]).digest}"  # in this process's order, a third one


def _digests(kind: str, hash_seed: str) -> str:
    command = [sys.executable, "-m", "simulator.swarm", "--only", kind, "--digest", "--seeds", "4"]
    environment = {**os.environ, "PYTHONPATH": str(TEST), "PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, env=environment, cwd=TEST.parent, check=True, capture_output=True, text=True).stdout
