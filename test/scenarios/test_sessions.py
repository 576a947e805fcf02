"""Whole stories of sessions, on virtual time. The rules that hold in every run are checked in these too."""

from collections.abc import Callable
from dataclasses import replace

from simulator.combiner_node import CombinerNode
from simulator.world import World

from fedn_py.identity import CombinerName
from fedn_py.protocol.combiner_work import Collecting
from fedn_py.protocol.reducer import BY_OPERATOR
from fedn_py.protocol.reducer_work import (
    Committing,
    Failed,
    Gathering,
    Idle,
    Paused,
    PauseRequested,
    ResumeRequested,
    StopRequested,
    Updating,
    Validating,
)

Build = Callable[..., World]
EVERYBODY = {"client-1", "client-2", "client-3", "client-4"}


def clients_of(world: World, number: int) -> set[str]:
    """Return who is in a committed round."""
    row = world.store.rounds[number]
    assert row.status == "committed"
    return {contribution.client for _, contribution in row.included}


def excluded_from(world: World, number: int) -> dict[str, str]:
    """Return who was left out of a round by the combiners' answers, and the name of the fault."""
    left_out = world.store.rounds[number].excluded
    return {exclusion.client: exclusion.reason.split(":")[0] for exclusion in left_out}


def reach(world: World, *phases: type, round_number: int = 1) -> None:
    """Run until the reducer is in one of these phases, in this round or the one after."""

    def reached() -> bool:
        work = world.reducer.state.work
        return isinstance(work, phases) and (isinstance(work, Idle) or work.progress.committed + 1 >= round_number)

    world.run_until(reached)


def a_collecting_combiner(world: World) -> CombinerNode:
    """Run until a combiner collects updates, some of which are in, and return it."""
    busy: list[CombinerNode] = []

    def one_is_in() -> bool:
        for node in world.combiners.values():
            work = node.state.work
            if isinstance(work, Collecting) and work.included:
                busy.append(node)
        return bool(busy)

    world.run_until(one_is_in)
    return busy[0]


# ---- rounds


def test_two_combiners_and_four_clients_train_two_rounds(a_world: Build) -> None:
    world = a_world(clients_required=4)
    world.run()
    assert world.store.status == "finished"
    assert [clients_of(world, number) for number in (1, 2)] == [EVERYBODY, EVERYBODY]
    assert {combiner for combiner, _ in world.store.rounds[1].included} == set(world.combiners)
    assert world.store.validated == {1: 4, 2: 4}
    assert world.store.failures == []


def test_a_straggler_is_left_out_at_the_deadline_and_said_to_be_late(a_world: Build) -> None:
    world = a_world(training_s=(3.0, 3.0, 3.0, 500.0), rounds=1, clients_wanted=4, clients_required=3)
    world.run()
    assert clients_of(world, 1) == EVERYBODY - {"client-4"}
    assert world.clock.now > world.sizes.terms.update_timeout_s
    assert world.store.status == "finished"
    assert excluded_from(world, 1) == {"client-4": "Late"}


def test_a_lost_answer_makes_a_client_upload_twice_and_count_once(a_world: Build) -> None:
    world = a_world(rounds=1, clients_required=4)
    world.run_until(lambda: len(world.updates) == 1)
    owner = world.clients[next(iter(world.updates.values())).client]
    world.run_until(lambda: bool(owner.uploading))
    stream = owner.stream
    assert stream is not None
    combiner = stream.listener
    world.run_until(lambda: isinstance(combiner.state.work, Collecting) and bool(combiner.state.work.adding))
    for call in owner.uploading.values():
        call.forget()
    stream.break_off()
    world.run()
    assert clients_of(world, 1) == EVERYBODY
    assert len(world.updates) == 4


# ---- a combiner is lost


def test_a_combiner_is_lost_in_the_middle_and_its_clients_are_in_the_same_attempt_at_the_other(a_world: Build) -> None:
    world = a_world(training_s=(3.0, 3.0, 9.0, 9.0), rounds=1, clients_wanted=4, clients_required=1)
    lost = a_collecting_combiner(world)
    lost.crash()
    world.run()
    row = world.store.rounds[1]
    assert (clients_of(world, 1), row.plan.attempt) == (EVERYBODY, 1)
    assert {combiner for combiner, _ in row.included} == {name for name in world.combiners if name != lost.name}
    assert len(world.updates) == 4  # nobody trained twice


def test_a_lost_combiner_whose_clients_stay_away_does_not_hold_the_round_up_for_long(a_world: Build) -> None:
    world = a_world(training_s=(3.0, 3.0, 9.0, 9.0), rounds=1, clients_wanted=4, clients_required=1)
    lost = a_collecting_combiner(world)
    own = set(world.store.rounds[1].cells[CombinerName(lost.name)].clients)
    lost.crash()
    for client in own:
        world.clients[client].crash()
    world.run()
    assert (clients_of(world, 1), world.store.rounds[1].plan.attempt) == (EVERYBODY - own, 1)


def test_a_combiner_whose_stream_breaks_for_a_moment_keeps_its_cell(a_world: Build) -> None:
    world = a_world(rounds=1, clients_required=4)
    combiner = a_collecting_combiner(world)
    assert combiner.upstream is not None
    combiner.upstream.break_off()
    world.run()
    assert clients_of(world, 1) == EVERYBODY
    assert world.store.rounds[1].plan.attempt == 1


def test_an_order_that_is_lost_with_its_stream_is_sent_again(a_world: Build) -> None:
    world = a_world(rounds=1, clients_required=4)
    reach(world, Updating)
    for combiner in world.combiners.values():
        assert combiner.upstream is not None
        combiner.upstream.break_off()
    world.run()
    assert clients_of(world, 1) == EVERYBODY
    assert world.clock.now < world.sizes.terms.update_timeout_s


def test_a_lost_combiner_costs_nothing_once_its_partial_is_in(a_world: Build) -> None:
    world = a_world(training_s=(1.0, 1.0, 9.0, 9.0), rounds=1, clients_required=4, combiners=2)

    def one_answered() -> bool:
        work = world.reducer.state.work
        return isinstance(work, Updating | Committing) and any(cell.partial for cell in work.cells.values())

    world.run_until(one_answered)
    work = world.reducer.state.work
    assert isinstance(work, Updating | Committing)
    answered = next(name for name, cell in work.cells.items() if cell.partial)
    world.combiners[answered].crash()
    world.run()
    assert clients_of(world, 1) == EVERYBODY


# ---- attempts that fail


def test_a_second_attempt_uses_the_updates_that_were_trained_for_the_first(a_world: Build) -> None:
    world = a_world(training_s=(3.0, 3.0, 3.0, 20.0), rounds=1, clients_wanted=4, clients_required=4)
    world.run_until(lambda: len(world.updates) == 3)
    world.clients["client-4"].crash()  # type: ignore[index]
    reach(world, Failed, Gathering)
    world.clients["client-4"].start()  # type: ignore[index]
    world.run()
    assert [reason.split(":")[0] for _, reason in world.store.failures] == ["TooFewUpdates"]
    assert world.store.rounds[1].plan.attempt == 2
    assert clients_of(world, 1) == EVERYBODY
    assert len(world.updates) == 4


def test_a_round_that_fails_again_and_again_pauses_the_session_and_goes_on_when_resumed(a_world: Build) -> None:
    world = a_world(training_s=(3.0, 3.0, 3.0, 500.0), rounds=1, clients_required=4, max_attempts=2)
    world.run_until(lambda: world.store.status == "paused")
    assert world.store.reason.startswith("round 1 failed 2 times, at last with: TooFewUpdates: 3 of 4")

    world.sizes = replace(world.sizes, training_s=(3.0,) * 4)
    world.clients["client-4"].crash()  # type: ignore[index]
    world.clients["client-4"].start()  # type: ignore[index]
    world.reducer.take(ResumeRequested(world.sizes.terms.session))
    world.run()
    assert world.store.status == "finished"
    assert world.store.rounds[1].plan.attempt == 3


# ---- the operator


def test_a_paused_session_ends_its_round_and_rests_until_it_is_resumed(a_world: Build) -> None:
    world = a_world(clients_required=4)
    session = world.sizes.terms.session
    reach(world, Updating)
    world.reducer.take(PauseRequested(session))
    world.run_until(lambda: world.store.status == "paused")
    assert world.store.reason == BY_OPERATOR
    assert set(world.store.rounds) == {1}
    assert clients_of(world, 1) == EVERYBODY

    world.reducer.take(ResumeRequested(session))
    world.run()
    assert world.store.status == "finished"
    assert set(world.store.rounds) == {1, 2}


def test_a_stopped_session_ends_and_its_clients_rest(a_world: Build) -> None:
    world = a_world(clients_required=4)
    a_collecting_combiner(world)
    world.reducer.take(StopRequested(world.sizes.terms.session))
    world.run()
    assert (world.store.status, world.store.reason) == ("stopped", BY_OPERATOR)
    world.run_until(lambda: not any(client.running or client.uploading for client in world.clients.values()))


# ---- the reducer is lost


def test_a_reducer_that_is_lost_while_clients_train_goes_on_with_the_same_attempt(a_world: Build) -> None:
    world = a_world(rounds=1, clients_required=4)
    a_collecting_combiner(world)
    world.reducer.crash()
    world.reducer.start()
    world.run()
    assert (world.store.rounds[1].plan.attempt, world.store.failures) == (1, [])
    assert clients_of(world, 1) == EVERYBODY
    assert len(world.updates) == 4


def test_a_reducer_that_is_lost_after_the_commit_goes_on_with_the_next_round(a_world: Build) -> None:
    world = a_world(clients_required=4)
    world.run_until(lambda: 1 in world.store.rounds and world.store.rounds[1].status == "committed")
    first = world.store.rounds[1]
    assert isinstance(world.reducer.state.work, Committing)
    world.reducer.crash()
    world.reducer.start()
    world.run()
    assert replace(world.store.rounds[1], generation=first.generation, validated=None) == first
    assert world.store.rounds[2].plan.base_model == first.model
    assert world.store.status == "finished"


def test_a_reducer_that_is_lost_while_a_model_is_validated_has_it_validated_and_goes_on(a_world: Build) -> None:
    world = a_world(clients_required=4)
    reach(world, Validating)
    world.reducer.crash()
    world.reducer.start()
    world.run()
    assert world.store.status == "finished"
    assert world.store.validated == {1: 4, 2: 4}


def test_a_session_that_rests_still_rests_after_the_reducer_was_lost(a_world: Build) -> None:
    world = a_world(clients_required=4)
    reach(world, Updating)
    world.reducer.take(PauseRequested(world.sizes.terms.session))
    reach(world, Paused)
    world.reducer.crash()
    world.reducer.start()
    reach(world, Paused)
    assert world.reducer.state.work.reason == BY_OPERATOR
