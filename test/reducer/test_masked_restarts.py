"""A reducer that ends in the middle of a masked attempt, and what the next one makes of its document."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import masked_world as world
import pytest
from awaiting import until
from builders import NORTH_1, NORTH_2
from masked_network import MaskedCombiner, a_masked_combiner, attempts_of, released, the_round
from masked_world import CLIENTS
from reducer_network import Network, OperatorFiles, Stored, a_network

from fedn_py.identity import InstanceId
from fedn_py.protocol.masked.opening_work import GivenUp
from fedn_py.protocol.masked.round_messages import Included, NotOpened, OpenSum2
from fedn_py.protocol.masked.signing import read_signed
from fedn_py.protocol.masked_rounds_work import Masked, MaskedEvent
from fedn_py.protocol.messages import MetricsSummary, ValidationOrder, ValidationReport
from fedn_py.protocol.reducer_work import Validating
from fedn_py.reducer.records import round_key
from fedn_py.reducer.round_records import CommittedElsewhere
from fedn_py.reducer.sessions import INTERRUPTED

FIVE = CLIENTS[:5]
Wait = Callable[[Network, MaskedCombiner], Awaitable[None]]


async def for_ever(*_: Any) -> Any:
    await asyncio.Event().wait()


def sets_of(*combiners: MaskedCombiner) -> dict[bytes, set[bytes]]:
    """Every H(U) that members were asked for, under each ctx."""
    asked: dict[bytes, set[bytes]] = {}
    for combiner in combiners:
        for word in combiner.words(Included):
            one = read_signed(word.opening, OpenSum2)
            asked.setdefault(one.ctx, set()).add(one.included_hash)
    return asked


async def story(
    scratch: Path, first_life: Wait, *, back_as: InstanceId = NORTH_1, **combiner: Any
) -> tuple[Stored, MaskedCombiner, MaskedCombiner]:
    """Let one reducer work until ``first_life`` is over, and another one finish the session.

    Args:
        back_as: the life of the combiner that the other one meets.
    """
    files, stored = OperatorFiles(scratch / "operator"), Stored()
    async with a_network(scratch, stored, operator=files) as network:
        first = await a_masked_combiner(network, **combiner)
        await network.start_session(masking="pet", clients_wanted=5)
        await first_life(network, first)
    async with a_network(scratch, stored, operator=files) as network:
        second = await a_masked_combiner(network, cells=dict(first.cells), instance=back_as)
        await network.at_rest()
        await network.calls.close()
    record = await the_round(stored)
    assert record.status == "committed"
    assert record.document is not None
    assert record.document.round_key == ""
    assert all(len(sets) == 1 for sets in sets_of(first, second).values())
    opened = {ctx for attempt in attempts_of(record) for ctx in attempt.opening}
    assert not opened & released(first, second)
    return stored, first, second


async def until_ordered(network: Network, combiner: MaskedCombiner) -> None:
    await until(lambda: combiner.orders)


async def until_formed(network: Network, combiner: MaskedCombiner) -> None:
    await until(lambda: combiner.cells)
    await network.settled()


@pytest.mark.parametrize(
    ("first_life", "how"),
    [(until_ordered, {"silent": True}), (until_formed, {"closes": False, "mute": {client.name for client in FIVE}})],
    ids=["sum", "update"],
)
def test_a_cell_that_is_not_closed_goes_on_in_its_phase(tmp_path: Path, first_life: Wait, how: dict[str, Any]) -> None:
    stored, first, second = asyncio.run(story(tmp_path, first_life, **how))
    record = asyncio.run(the_round(stored))
    (attempt,) = attempts_of(record)
    assert (attempt.stage, record.failures) == ("committed", ())
    assert second.orders == first.orders  # the same bytes, by the same generation
    assert len(second.cells) == 1  # the same committee, the same context
    assert released(first, second) == set()


def test_a_cell_whose_combiner_comes_back_as_another_one_is_out_and_its_clients_are_released(tmp_path: Path) -> None:
    mute = {client.name for client in FIVE}
    told = story(tmp_path, until_formed, back_as=NORTH_2, closes=False, mute=mute)
    stored, first, second = asyncio.run(told)
    assert [attempt.stage for attempt in attempts_of(asyncio.run(the_round(stored)))] == ["given up", "committed"]
    assert released(second) == set(first.cells)
    assert len(second.cells) == 2  # another committee, another context


def test_an_attempt_that_was_being_given_up_is_closed_by_name(tmp_path: Path) -> None:
    async def until_given_up(network: Network, combiner: MaskedCombiner) -> None:
        await until_formed(network, combiner)
        reached = asyncio.Event()

        async def stopped(*_: Any) -> None:
            reached.set()
            await for_ever()

        network.masked._attempts.unset_key = stopped  # type: ignore
        plan = network.mailbox.state.work.plan  # type: ignore
        network.mailbox.post(MaskedEvent(plan.session, 1, 1, GivenUp("the test says so")))
        await reached.wait()

    stored, *_ = asyncio.run(story(tmp_path, until_given_up, closes=False))
    assert [failure.reason for failure in asyncio.run(the_round(stored)).failures] == [INTERRUPTED]


@pytest.mark.parametrize("answers", [0, 1])
def test_a_closed_cell_goes_on_with_its_set_however_many_have_answered(tmp_path: Path, answers: int) -> None:
    async def until_there(network: Network, combiner: MaskedCombiner) -> None:
        await until(lambda: combiner.words(Included))
        combiner.mute.clear()
        for member in combiner.members()[:answers]:
            await combiner.pass_on(member, combiner.answer(member, next(iter(combiner.cells))))
        await until(lambda: len(network.mailbox.state.work.attempt.cells[0].answers) == answers)  # type: ignore[union-attr]
        await network.settled()

    stored, first, second = asyncio.run(story(tmp_path, until_there, mute={client.name for client in FIVE}))
    (attempt,) = attempts_of(asyncio.run(the_round(stored)))
    assert attempt.stage == "committed"
    assert second.orders == []  # nobody trained again
    assert released(first, second) == set()


def test_an_opening_that_was_stored_is_finished_with_exactly_its_set(tmp_path: Path) -> None:
    async def until_opening(network: Network, combiner: MaskedCombiner) -> None:
        network.masked._commits.open = for_ever  # type: ignore
        record = None
        while record is None or attempts_of(record)[0].stage != "opening":
            await asyncio.sleep(0)
            rounds = await network.stored.rounds()
            record = rounds[0] if rounds else None

    stored, first, second = asyncio.run(story(tmp_path, until_opening))
    record = asyncio.run(the_round(stored))
    assert record.failures == ()
    (attempt,) = attempts_of(record)
    assert attempt.stage == "committed"
    assert [row.client_id for row in attempt.cells[0].rows] == sorted(client.id for client in FIVE)
    assert second.orders == []  # nobody trained again
    assert released(first, second) == set()


def test_a_commit_is_not_made_twice(tmp_path: Path) -> None:
    async def until_committed(network: Network, combiner: MaskedCombiner) -> None:
        commit = network.masked._commits.commit  # type: ignore

        async def and_no_further(*arguments: Any) -> Any:
            await commit(*arguments)
            await for_ever()

        network.masked._commits.commit = and_no_further  # type: ignore
        await until(lambda: any(event.kind == "round.committed" for event in network.events._waiting))

    stored, _, second = asyncio.run(story(tmp_path, until_committed))
    assert second.orders == []
    events = asyncio.run(stored.events())
    assert [attempt.key for attempt in attempts_of(asyncio.run(the_round(stored)))] == ["unset"]
    assert len([event for event in events if event.kind == "round.committed"]) <= 1


def test_a_validation_that_is_lacking_is_ordered_again_signed_and_by_a_new_generation(tmp_path: Path) -> None:
    async def told() -> None:
        files, stored = OperatorFiles(tmp_path / "operator", world.a_policy(metrics="client")), Stored()
        async with a_network(tmp_path, stored, operator=files) as network:
            first = await a_masked_combiner(network)
            await network.start_session(masking="pet", clients_wanted=5)
            await until(lambda: validations(first))
        async with a_network(tmp_path, stored, operator=files) as network:
            await network.reaches(Validating)
            second = await a_masked_combiner(network)
            await until(lambda: validations(second))
            (before,), (again,) = validations(first), validations(second)
            assert again.signed is not None
            assert again.generation > before.generation
            assert replace(again, generation=before.generation, signed=before.signed) == before
            await second.say(ValidationReport(again.generation, 5, 5, MetricsSummary(), ()))
            await network.at_rest()
        record = await the_round(stored)
        assert record.validation is not None
        assert record.validation.clients == 5

    asyncio.run(told())


def validations(combiner: MaskedCombiner) -> list[ValidationOrder]:
    return [one for one in combiner.heard if isinstance(one, ValidationOrder)]


def test_an_attempt_without_a_plan_that_another_reducer_has_committed_is_not_closed_as_failed(tmp_path: Path) -> None:
    async def told() -> None:
        async with a_network(tmp_path, operator=OperatorFiles(tmp_path / "operator")) as network:
            await a_masked_combiner(network)
            await network.start_session(masking="pet", clients_wanted=5)
            await network.at_rest()
            committed = await the_round(network.stored)
            seen = replace(committed, status="running", model=None, document=None)
            with pytest.raises(CommittedElsewhere):
                await network.sessions._close_interrupted(round_key(seen.plan.session, 1), seen)
            assert await the_round(network.stored) == committed

    asyncio.run(told())


@pytest.mark.parametrize("gone", [False, True])
def test_a_key_that_was_going_is_gone_before_anybody_is_released(tmp_path: Path, gone: bool) -> None:
    """The reducer ends before the key is out of the store, or after."""

    async def until_unsetting(network: Network, combiner: MaskedCombiner) -> None:
        await until(lambda: combiner.words(Included))
        masked = network.masked
        assert masked is not None
        unset, reached = masked._attempts.unset_key, asyncio.Event()

        async def stopped(at: Any) -> None:
            if gone:
                await unset(at)
            reached.set()
            await for_ever()

        masked._attempts.unset_key = stopped  # type: ignore

        plan = network.mailbox.state.work.plan  # type: ignore
        network.mailbox.post(MaskedEvent(plan.session, 1, 1, GivenUp("the test says so")))
        await reached.wait()
        record = await the_round(network.stored)
        assert record.document is not None
        assert bool(record.document.round_key) is not gone
        assert not combiner.words(NotOpened.kind)

    stored, first, second = asyncio.run(story(tmp_path, until_unsetting, mute={client.name for client in FIVE}))
    assert released(second) == {next(iter(first.cells))}
    assert [attempt.key for attempt in attempts_of(asyncio.run(the_round(stored)))] == ["unset", "unset"]


def test_a_superseded_reducer_releases_nobody(tmp_path: Path) -> None:
    """Two reducers on one store: the older one's writes are refused, so it signs nothing."""

    async def told() -> None:
        files, stored = OperatorFiles(tmp_path / "operator"), Stored()
        async with a_network(tmp_path, stored, operator=files) as old:
            first = await a_masked_combiner(old, closes=False, mute={client.name for client in FIVE})
            await old.start_session(masking="pet", clients_wanted=5, retry_delay_s=100.0)
            await until(lambda: first.cells)
            await old.settled()
            async with a_network(tmp_path, stored, operator=files) as new:
                await new.reaches(Masked)

                plan = old.mailbox.state.work.plan  # type: ignore
                old.mailbox.post(MaskedEvent(plan.session, 1, 1, GivenUp("the test says so")))
                await until(old.running.done)
                assert type(old.running.exception()).__name__ == "Superseded"
                assert not first.words(NotOpened.kind)

    asyncio.run(told())
