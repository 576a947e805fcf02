"""The three machines together, under faults: whatever a seed draws, no rule breaks and the session ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from simulator import masked_sometimes
from simulator.masked.planted import PLANTED as PLANTED_IN_MASKED
from simulator.planted import PLANTED
from simulator.swarm import KINDS, MASKED, first_broken, replay_command, run_swarm, traced
from simulator.world import World

SEEDS = range(200)
MASKED_SEEDS = range(40)
"""Fewer, as theirs are real signatures and masks; ``make swarm`` runs more."""

TEST = Path(__file__).parents[1]


def test_no_rule_breaks_in_200_seeds_and_every_fault_strikes() -> None:
    swarm = run_swarm(SEEDS)

    assert not swarm.broken, [(replay_command(seed), str(broken)[:300]) for seed, broken in swarm.broken.items()]
    assert swarm.passed == len(SEEDS)
    assert swarm.never == []
    assert set(swarm.ends) == {"finished", "paused", "stopped"}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_caught_by_the_rule_that_it_breaks(bug: str) -> None:
    found = first_broken(SEEDS, lambda seed: World.of_seed(seed, PLANTED[bug].machines))

    assert found is not None, f"200 seeds did not find that {bug}"
    seed, broken = found
    sys.stdout.write(f"{bug}: found by {broken.rule!r} after {seed + 1} seeds\n")
    assert broken.rule in PLANTED[bug].caught_by


def test_no_rule_of_masked_rounds_breaks_in_40_seeds() -> None:
    swarm = run_swarm(MASKED_SEEDS, MASKED)

    commands = [(replay_command(seed, MASKED), str(broken)[:300]) for seed, broken in swarm.broken.items()]
    assert not swarm.broken, commands
    assert swarm.ends["finished"] > len(MASKED_SEEDS) / 2
    missed = [what for what in masked_sometimes.OFTEN if not swarm.sometimes[what]]
    assert len(missed) <= 4, missed  # in 200 seeds none may be missed


@pytest.mark.parametrize("bug", PLANTED_IN_MASKED)
def test_a_bug_planted_in_masked_rounds_is_caught_by_the_rule_that_it_breaks(bug: str) -> None:
    found = first_broken(SEEDS, PLANTED_IN_MASKED[bug].world)

    assert found is not None, f"200 seeds did not find that {bug}"
    seed, broken = found
    sys.stdout.write(f"{bug}: found by {broken.rule!r} after {seed + 1} seeds\n")
    assert broken.rule in PLANTED_IN_MASKED[bug].caught_by


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_trace_again(kind: str) -> None:
    assert traced(3, KINDS[kind]).lines == traced(3, KINDS[kind]).lines


@pytest.mark.parametrize("kind", KINDS)
def test_a_trace_does_not_depend_on_the_process(kind: str) -> None:
    digests = {_digests(kind, hash_seed) for hash_seed in ("0", "1", "2")}

    assert len(digests) == 1
    assert digests.pop().splitlines()[3] == f"3 {traced(3, KINDS[kind]).digest}"


def _digests(kind: str, hash_seed: str) -> str:
    command = [sys.executable, "-m", "simulator.swarm", "--only", kind, "--digest", "--seeds", "5"]
    environment = {**os.environ, "PYTHONPATH": str(TEST), "PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, env=environment, cwd=TEST.parent, check=True, capture_output=True, text=True).stdout
