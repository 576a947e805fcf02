"""Several reducers and faulty stores: the stories behind the rules that every run is held to."""

from dataclasses import replace
from random import Random

import pytest
from simulator.chaos import Chaos, Sizes, terms
from simulator.store import WeightedSum
from simulator.world import World

from fedn_py.protocol.reducer_work import Committing, Updating
from fedn_py.store.ports import ObjectCorrupt

TAKEN_OVER_WITHIN_S = 10.0


def a_world(*, reducers: int = 2, rounds: int = 2, chances: dict[str, float] | None = None) -> World:
    """Return a small network in which nothing goes wrong by itself, or only what has a chance here."""
    sizes = Sizes(terms(rounds=rounds, clients_required=4), reducers=reducers, quiet_after_s=10_000.0)
    rng = Random(1)
    never = {"document store away": 1e9}
    return World(sizes, rng, Chaos(rng, chances or {}, never, latest_s=0.05))


def until(world: World, phase: type) -> None:
    """Run until the acting reducer is in a phase."""
    world.run_until(lambda: isinstance(world.reducer.state.work, phase))


@pytest.mark.parametrize("phase", [Updating, Committing])
def test_a_standby_takes_over_within_ten_seconds_and_goes_on(phase: type) -> None:
    world = a_world()
    until(world, phase)
    lost, before = world.reducer, world.clock.now
    lost.crash()
    world.run_until(lambda: world.reducer.fence == 2)
    assert world.reducer is not lost
    assert world.clock.now - before < TAKEN_OVER_WITHIN_S
    world.run()
    assert world.store.status == "finished"


def test_a_reducer_that_was_stopped_between_merging_and_its_commit_changes_nothing_when_it_wakes() -> None:
    world = a_world()
    until(world, Committing)
    old = world.reducer
    old.sleep()
    for stream in [stream for stream in world.streams if old in (stream.dialler, stream.listener)]:
        stream.break_off()
    world.run_until(lambda: world.store.rounds[1].status == "committed")
    committed = world.store.rounds[1]
    old.wake()
    world.run_until(lambda: not old.fence)
    assert world.chaos.sometimes["reducer stopped by name: Superseded"] == 1
    assert world.store.rounds[1] == committed
    world.run()
    assert world.store.status == "finished"


@pytest.mark.parametrize("fate", ["applied", "never applied", "applied later"])
def test_a_commit_whose_answer_is_lost_is_read_back_and_made_once(fate: str) -> None:
    world = a_world(chances={"answer of a write lost": 1.0}, reducers=1)
    choice = world.rng.choice
    world.rng.choice = lambda options: fate if fate in options else choice(options)  # type: ignore[method-assign]
    world.chaos.chances = {}
    until(world, Committing)
    world.chaos.chances = {"answer of a write lost": 1.0}
    world.run_until(lambda: world.chaos.sometimes[f"unknown outcome: {fate}"] > 0)
    world.chaos.chances = {}
    world.run()
    assert world.store.status == "finished"
    assert {row.plan.attempt for row in world.store.rounds.values()} == {1}


def test_a_reducer_waits_while_the_documents_are_away_and_goes_on() -> None:
    world = a_world()
    until(world, Committing)
    world.store.shelf.away = True
    world.run_until(lambda: world.chaos.sometimes["reducer waits for a store"] > 0)
    world.clock.after(30.0, lambda: setattr(world.store.shelf, "away", False))
    world.run()
    assert world.store.status == "finished"
    assert {row.plan.attempt for row in world.store.rounds.values()} == {1}


def test_wrong_bytes_are_served_to_nobody() -> None:
    world = a_world(chances={"object store lies": 1.0})
    digest = world.store.objects.put(WeightedSum({}, 1).content("one"))
    with pytest.raises(ObjectCorrupt):
        world.store.objects.get(digest)
    world.chaos.chances = {}
    assert WeightedSum.read(world.store.objects.get(digest)) == WeightedSum({}, 1)


def test_a_model_that_is_swept_while_it_is_named_is_put_again() -> None:
    world = a_world(reducers=1, chances={"documents slow": 1.0})
    world.sizes = replace(world.sizes, sweep_grace_s=0.0)
    until(world, Committing)
    # Written, and the answer is on its way: who has listed it before that removes it now.
    world.run_until(lambda: world.store.rounds[1].status == "committed")
    world.store.objects.delete(world.store.rounds[1].model)
    world.run_until(lambda: world.chaos.sometimes["a model was swept while it was being named"] > 0)
    world.run()
    assert world.store.status == "finished"
