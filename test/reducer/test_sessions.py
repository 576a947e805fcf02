"""Sessions: begun once, found again in every phase after a restart, and never left without an owner."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from awaiting import until
from builders import CARL, SOUTH, SOUTH_1
from reducer_network import ANNA, BERT, NORTH, Network, OperatorFiles, Stored, a_network, models_of

from fedn_py.identity import Digest, InstanceId
from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.protocol.messages import CellOrder, RoundCommitted, ValidationOrder
from fedn_py.protocol.reducer import BY_OPERATOR, FewerRoundsThanDone
from fedn_py.protocol.reducer_terms import Cells
from fedn_py.protocol.reducer_work import Failed, Gathering, Idle, Paused, Updating, Validating
from fedn_py.reducer.control_faults import SessionUnderWay, UnknownModel, UnknownPackage, WrongSessionStatus
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.masked_sessions import BeyondPolicy, MaskingNotSetUp
from fedn_py.reducer.records import RoundRecord
from fedn_py.reducer.session_limits import SessionChanges
from fedn_py.reducer.sessions import InvalidSession


def in_a_network(scratch: Path, story: Callable[[Network], Awaitable[None]]) -> None:
    async def told() -> None:
        async with a_network(scratch) as network:
            await story(network)

    asyncio.run(told())


# ---- what a session can be


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"rounds": 1_000_000}, "rounds is 1000000"),
        ({"clients_required": 0}, "clients_required is 0"),
        ({"clients_required": 3, "clients_wanted": 2}, "is below clients_required"),
        ({"clients_wanted": -1}, "must not be negative"),
        ({"update_timeout_s": 0.0}, "update_timeout_s is 0.0"),
        ({"update_timeout_s": math.nan}, "update_timeout_s is nan"),
        ({"validation_timeout_s": math.inf}, "validation_timeout_s is inf"),
        ({"retry_delay_s": -1.0}, "retry_delay_s is -1.0"),
        ({"gather_timeout_s": 1e9}, "gather_timeout_s is"),
        ({"parameters": {"x": math.nan}}, "no JSON object"),
        ({"parameters": {"x": object()}}, "no JSON object"),
        ({"parameters": {"x": "y" * 70_000}}, "larger than"),
        ({"name": "Bad Name!"}, "session name"),
        ({"masked": MaskedOptions(clip=2.0)}, "masking is none"),
        ({"masking": "pet", "clients_wanted": 2}, "needs at least 3 clients"),
        ({"masking": "pet", "masked": MaskedOptions(g_min=8), "clients_wanted": 5}, "needs at least 8 clients"),
        ({"masking": "pet", "masked": MaskedOptions(clip=0.0)}, "clip is 0.0"),
    ],
)
def test_a_session_that_cannot_be_is_refused_and_not_written(
    tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    async def story(network: Network) -> None:
        with pytest.raises(InvalidSession, match=says):
            await network.start_session(**options)
        assert await network.ledger.count("sessions") == 0

    in_a_network(tmp_path, story)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        with pytest.raises(InvalidSession) as caught:
            await network.start_session(rounds=0, clients_required=0, update_timeout_s=-1.0)
        assert caught.value.message.count(";") == 2

    in_a_network(tmp_path, story)


def test_all_that_is_wrong_with_the_masking_is_said_at_once_and_with_the_rest(tmp_path: Path) -> None:
    masked = MaskedOptions(clip=-1.0, weight_cap=2**30, k=1, g_min=2, metrics={"loss": -1.0})

    async def story(network: Network) -> None:
        with pytest.raises(InvalidSession) as caught:
            await network.start_session(rounds=0, masking="pet", masked=masked)
        for said in ("rounds is 0", "clip is -1.0", "weight_cap 1073741824 times n_max 64", "k is 1", "g_min is 2"):
            assert said in caught.value.message
        assert "bound of metric loss is -1.0" in caught.value.message

    in_a_network(tmp_path, story)


def test_the_terms_of_masking_are_kept(tmp_path: Path) -> None:
    masked = MaskedOptions(
        clip=0.5, n_max=20, weight_unit=10, k=3, r=2, g_min=8, reopen="strict", metrics={"loss": 8.0}
    )

    async def story() -> None:
        async with a_network(tmp_path, operator=OperatorFiles(tmp_path / "operator")) as network:
            options = await network.options(masking="pet", masked=masked, clients_required=12)
            record = await network.sessions.begin(options)
            assert (record.terms.masking, record.terms.masked) == ("pet", masked)
            assert (await network.sessions.get(record.terms.session)).terms.masked == masked

    asyncio.run(story())


def test_a_masked_session_needs_an_operator(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        with pytest.raises(MaskingNotSetUp):
            await network.start_session(masking="pet")
        assert await network.ledger.count("sessions") == 0

    in_a_network(tmp_path, story)


def test_terms_beyond_the_policy_are_refused_when_the_session_begins(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_network(tmp_path, operator=OperatorFiles(tmp_path / "operator")) as network:
            with pytest.raises(BeyondPolicy, match="clip 5000000"):
                await network.start_session(masking="pet", masked=MaskedOptions(clip=5e6))
            assert await network.ledger.count("sessions") == 0

    asyncio.run(story())


def test_a_session_needs_a_package_and_a_model_that_are_here(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        nobody = Digest("0" * 64)
        with pytest.raises(UnknownPackage):
            await network.start_session(package=nobody)
        with pytest.raises(UnknownModel):
            await network.start_session(seed_model=nobody)

    in_a_network(tmp_path, story)


def test_a_session_goes_on_from_the_model_of_another(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        await network.combiner()
        await network.start_session()
        await network.at_rest()
        (first,) = await network.stored.rounds()
        await network.start_session(seed_model=first.model)
        await network.at_rest()
        bases = {record.plan.session_number: record.plan.base_model for record in await network.stored.rounds()}
        assert bases[2] == first.model

    in_a_network(tmp_path, story)


# ---- one at a time


def test_of_two_that_start_at_once_one_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        options = await network.options()
        answers = await asyncio.gather(
            *(network.control.start_session(options) for _ in range(5)), return_exceptions=True
        )
        assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [SessionUnderWay] * 4
        assert await network.ledger.count("sessions") == 1

    in_a_network(tmp_path, story)


def test_sessions_are_numbered_and_their_generations_never_meet(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        await network.combiner()
        for number in (1, 2, 3):
            session = await network.start_session()
            assert (session.number, session.name) == (number, f"session-{number}")
            await network.at_rest()
        generations = [record.generation for record in await network.stored.rounds()]
        assert len(set(generations)) == 3

    in_a_network(tmp_path, story)


def test_a_session_that_nobody_works_on_can_be_stopped(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        # Its start was stored after its answer was lost: the machine never heard of it.
        lost = await network.sessions.begin(await network.options())
        with pytest.raises(SessionUnderWay):
            await network.start_session()
        stopped = await network.control.stop_session(lost.terms.session)
        assert (stopped.status, stopped.reason) == ("stopped", BY_OPERATOR)
        with pytest.raises(WrongSessionStatus):
            await network.control.stop_session(lost.terms.session)
        await network.start_session()

    in_a_network(tmp_path, story)


def test_a_session_is_paused_resumed_and_stopped_as_its_status_allows(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        session = (await network.start_session()).id
        control = network.control
        with pytest.raises(WrongSessionStatus, match="cannot be resumed"):
            await control.resume_session(session)
        assert (await control.pause_session(session)).status == "paused"
        with pytest.raises(WrongSessionStatus, match="is paused and cannot be paused"):
            await control.pause_session(session)
        assert (await control.resume_session(session)).status == "waiting"
        assert (await control.stop_session(session)).status == "stopped"
        for wish in (control.pause_session, control.resume_session, control.stop_session):
            with pytest.raises(WrongSessionStatus, match="is stopped"):
                await wish(session)

    in_a_network(tmp_path, story)


# ---- other limits


def test_what_is_changed_during_a_round_is_told_and_holds_from_the_next_one_on(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await network.combiner(silent=True)
        session = await network.start_session(rounds=1, validate=False, update_timeout_s=60.0)
        await until(lambda: combiner.orders)
        changed = await network.control.change_session(session.id, SessionChanges(rounds=2, update_timeout_s=7.5))
        assert (changed.rounds_wanted, changed.options.update_timeout_s) == (2, 7.5)
        (told,) = [event for event in await network.told() if event.kind == "session.changed"]
        assert told.text.endswith(": rounds 1 -> 2, update_timeout_s 60 -> 7.5")
        combiner.silent = False
        await combiner.answer(combiner.orders[0])
        await network.at_rest()
        plans = [order.plan for order in combiner.orders if isinstance(order, CellOrder)]
        assert [(plan.round_number, plan.update_timeout_s) for plan in plans] == [(1, 60.0), (2, 7.5)]
        view = await network.control.session(session.id)
        assert (view.status, view.rounds_done) == ("finished", 2)
        record = await network.sessions.get(session.id)
        assert (record.terms.rounds, record.changed) == (2, None)

    in_a_network(tmp_path, story)


def test_a_change_is_made_to_what_the_one_before_left(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await network.combiner(silent=True)
        session = await network.start_session()
        await until(lambda: combiner.orders)
        changes = (SessionChanges(rounds=7), SessionChanges(max_attempts=5), SessionChanges(max_attempts=5))
        for change in changes:
            await network.control.change_session(session.id, change)
        options = (await network.control.session(session.id)).options
        assert (options.rounds, options.max_attempts) == (7, 5)
        assert (await network.kinds()).count("session.changed") == 2  # the last one changed nothing

    in_a_network(tmp_path, story)


def test_fewer_required_clients_begin_a_round_that_waits(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await network.combiner(silent=True)
        session = await network.start_session(clients_required=9)
        await network.reaches(Gathering)
        await network.control.change_session(session.id, SessionChanges(clients_required=2))
        await until(lambda: combiner.orders)

    in_a_network(tmp_path, story)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (SessionChanges(rounds=0), "rounds is 0"),
        (SessionChanges(clients_wanted=2, clients_required=3), "is below clients_required"),
        (SessionChanges(clients_wanted=1), "is below clients_required"),  # 2 are required
        (SessionChanges(update_timeout_s=math.nan), "update_timeout_s is nan"),
        (SessionChanges(gather_timeout_s=-1.0), "gather_timeout_s is -1.0"),
    ],
)
def test_limits_that_cannot_be_are_refused_and_change_nothing(
    tmp_path: Path, changes: SessionChanges, says: str
) -> None:
    async def story(network: Network) -> None:
        session = await network.start_session(clients_required=2)
        before = await network.sessions.get(session.id)
        with pytest.raises(InvalidSession, match=says):
            await network.control.change_session(session.id, changes)
        assert await network.sessions.get(session.id) == before

    in_a_network(tmp_path, story)


def test_the_rounds_that_are_done_and_the_sessions_that_have_ended_stay_as_they_are(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await network.combiner(silent=True)
        session = await network.start_session(rounds=3, validate=False)
        for done in range(2):
            await until(lambda asked=done + 1: len(combiner.orders) == asked)  # type: ignore[misc]
            await combiner.answer(combiner.orders[done])
        await until(lambda: len(combiner.orders) == 3)
        with pytest.raises(FewerRoundsThanDone, match="rounds is to be 1, but 2 are done"):
            await network.control.change_session(session.id, SessionChanges(rounds=1))
        await network.control.stop_session(session.id)
        with pytest.raises(WrongSessionStatus, match="is stopped and cannot be changed"):
            await network.control.change_session(session.id, SessionChanges(rounds=9))

    in_a_network(tmp_path, story)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            SessionChanges(clients_required=7),
            "clients_required is 7, but a masked sum of this session needs at least 8",
        ),
        (SessionChanges(clients_wanted=7, clients_required=8), "clients_wanted is 7, but"),
    ],
)
def test_a_masked_session_keeps_enough_clients_to_hide_one(tmp_path: Path, changes: SessionChanges, says: str) -> None:
    async def story() -> None:
        async with a_network(tmp_path, operator=OperatorFiles(tmp_path / "operator")) as network:
            session = await network.start_session(masking="pet", masked=MaskedOptions(g_min=8))
            assert (await network.control.session(session.id)).options.clients_required == 8
            with pytest.raises(InvalidSession, match=says):
                await network.control.change_session(session.id, changes)
            view = await network.control.change_session(session.id, SessionChanges(clients_required=9))
            assert view.options.clients_required == 9

    asyncio.run(story())


@pytest.mark.parametrize("at", ["updating", "gathering", "paused"])
def test_a_change_is_kept_over_a_new_start(tmp_path: Path, at: str) -> None:
    """The attempt under way keeps its limits over the new start too: two of two clients are enough for it."""

    async def story() -> None:
        stored = Stored()
        async with a_network(tmp_path, stored) as first:
            combiner = await first.combiner(silent=True)
            required = 9 if at == "gathering" else 2
            session = await first.start_session(rounds=1, validate=False, clients_required=required)
            if at == "updating":
                await until(lambda: combiner.orders)
            else:
                await first.reaches(Gathering, Updating)
            if at == "paused":
                await combiner.give_up(combiner.orders[0], "Broken: no room")  # type: ignore[arg-type]
                await first.control.pause_session(session.id)
            await first.control.change_session(session.id, SessionChanges(rounds=4, clients_required=3))
        async with a_network(tmp_path, stored) as second:
            view = await second.control.session(session.id)
            assert (view.rounds_wanted, view.options.clients_required) == (4, 3)
            if at == "updating":
                await second.combiner()
                await until(lambda: isinstance(second.mailbox.state.work, Gathering))
                assert "need 3 clients, have 2" in (await second.control.session(session.id)).reason
                assert (await second.control.session(session.id)).rounds_done == 1

    asyncio.run(story())


def test_a_stop_after_the_round_is_kept_over_a_new_start_and_lets_the_round_end(tmp_path: Path) -> None:
    async def story() -> None:
        stored = Stored()
        async with a_network(tmp_path, stored) as first:
            combiner = await first.combiner(silent=True)
            session = await first.start_session(rounds=3, validate=False)
            await until(lambda: combiner.orders)
            view = await first.control.stop_session(session.id, after_round=True)
            assert (view.status, view.intent) == ("running", "end")
        async with a_network(tmp_path, stored) as second:
            await second.reaches(Updating)
            await second.combiner()
            await second.at_rest()
            view = await second.control.session(session.id)
            assert (view.status, view.rounds_done, view.intent) == ("stopped", 1, "run")

    asyncio.run(story())


# ---- after a restart


@pytest.mark.parametrize("phase", ["gathering", "updating", "validating", "failed", "paused", "given up", "stopped"])
def test_a_restart_in_any_phase_goes_on_where_it_was(tmp_path: Path, phase: str) -> None:
    async def story() -> None:
        stored = Stored()
        highest = 0
        async with a_network(tmp_path, stored) as first:
            combiner = await first.combiner(silent=True)
            session = await first.start_session(
                rounds=2,
                clients_required=3 if phase == "gathering" else 1,
                max_attempts=1 if phase == "given up" else 3,
                retry_delay_s=3_600.0 if phase == "failed" else 0.0,
            )
            if phase == "gathering":
                await first.reaches(Gathering)
            else:
                await until(lambda: combiner.orders)
            if phase in {"failed", "given up"}:
                order = combiner.orders[0]
                assert isinstance(order, CellOrder)
                await combiner.give_up(order, "Broken: no room")
                await first.reaches(Failed, Paused)
            if phase == "validating":
                await combiner.answer(combiner.orders[0])
                await until(lambda: len(combiner.orders) == 2)
            if phase == "paused":
                await first.control.pause_session(session.id)
                combiner.silent = False
                await combiner.answer(combiner.orders[0])
                await first.reaches(Paused)
            if phase == "stopped":
                await first.control.stop_session(session.id)
            await first.settled()
            await first.events.flush()
            highest = max([order.generation for order in combiner.orders], default=0)
        before = {record.plan.round_number: record for record in await stored.rounds()}
        async with a_network(tmp_path, stored) as second:
            await second.settled()
            if phase == "stopped":
                await second.at_rest()
                assert (await second.control.session(session.id)).status == "stopped"
                return
            if phase in {"paused", "given up"}:
                assert isinstance(second.mailbox.state.work, Paused)
                view = await second.control.session(session.id)
                assert view.status == ("paused" if phase == "paused" else "failed")
                await second.control.resume_session(session.id)
            work = second.mailbox.state.work
            assert isinstance(work, {"updating": Updating, "validating": Validating}.get(phase, Gathering))
            progress = work.progress
            assert progress.generation > highest
            committed = models_of(before.values())
            assert progress.committed == len(committed)
            assert progress.head == (committed[-1] if committed else session.options.seed_model)
            assert progress.attempt == (2 if phase in {"failed", "given up"} else 1)
            asked = [len(cell.clients) for cell in before[max(before)].cells] if before else []
            assert progress.drawn == sum(asked)  # so many are waited for a while
            if phase == "gathering":
                return
            again = await second.combiner(instance=InstanceId("north-2"))
            await second.at_rest()
            assert all(order.generation > highest for order in again.orders)
            rounds = await stored.rounds()
            assert [record.status for record in rounds] == ["committed", "committed"]
            assert [record.validation.clients for record in rounds if record.validation is not None] == [2, 2]
            assert models_of(rounds)[: len(committed)] == committed
            assert (await second.control.session(session.id)).status == "finished"

    asyncio.run(story())


def test_an_attempt_that_ran_when_the_reducer_ended_goes_on_with_the_same_orders(tmp_path: Path) -> None:
    async def story() -> None:
        stored = Stored()
        async with a_network(tmp_path, stored) as first:
            north = await first.combiner(silent=True)
            south = await first.combiner(name=SOUTH, instance=SOUTH_1, samples={CARL: 5}, silent=True)
            session = await first.start_session(clients_required=3, validate=False)
            await until(lambda: north.orders and south.orders)
            (order,) = north.orders
        async with a_network(tmp_path, stored) as second:
            view = await second.control.round(session.id, 1)
            assert (view.status, view.phase, view.attempt) == ("running", "updating", 1)
            again = await second.combiner()  # it works on, and has the order: the same one by the same generation
            await until(lambda: again.orders)
            assert again.orders[0] == order
            # Its answer may have been said to the reducer that died; it says it on each new stream.
            other = await second.combiner(name=SOUTH, instance=SOUTH_1, samples={CARL: 5}, silent=True)
            assert isinstance(south.orders[0], CellOrder)
            await other.say(await south.partial(south.orders[0]))
            await second.at_rest()
        (record,) = await stored.rounds()
        assert (record.status, record.plan.attempt, record.failures) == ("committed", 1, ())
        assert {(one.client, one.combiner) for one in record.included} == {(ANNA, NORTH), (BERT, NORTH), (CARL, SOUTH)}

    asyncio.run(story())


def test_after_a_new_start_a_combiner_that_does_not_come_back_has_lost_its_cell(tmp_path: Path) -> None:
    async def story() -> None:
        stored = Stored()
        async with a_network(tmp_path, stored) as first:
            north = await first.combiner(silent=True)
            south = await first.combiner(name=SOUTH, instance=SOUTH_1, samples={CARL: 5}, silent=True)
            await first.start_session()
            await until(lambda: north.orders and south.orders)
        async with a_network(tmp_path, stored, combiner_grace_s=0.0) as second:
            await second.reaches(Updating)
            await until(lambda: all(cell.lost for cell in cells_of(second).values()))
            later = await second.combiner(instance=InstanceId("north-2"), samples={ANNA: 10, BERT: 30, CARL: 5})
            await second.at_rest()
            (order, _) = later.orders
            assert isinstance(order, CellOrder)
            assert (order.plan.attempt, set(order.clients)) == (1, {ANNA, BERT, CARL})
        (record,) = await stored.rounds()
        assert {(one.client, one.combiner) for one in record.included} == {(ANNA, NORTH), (BERT, NORTH), (CARL, NORTH)}

    asyncio.run(story())


def cells_of(network: Network) -> Cells:
    """Return the cells of the plain attempt at hand."""
    work = network.mailbox.state.work
    assert isinstance(work, Updating)
    return work.cells


def test_what_was_fenced_and_answered_before_stays_so_over_a_new_start(tmp_path: Path) -> None:
    """The northern combiner is lost and asked again in the south, when the reducer ends."""

    async def story() -> None:
        stored = Stored()
        async with a_network(tmp_path, stored, combiner_grace_s=0.0) as first:
            north = await first.combiner(silent=True)
            south = await first.combiner(name=SOUTH, instance=SOUTH_1, samples={CARL: 5}, silent=True)
            await first.start_session(clients_required=3)
            await until(lambda: north.orders and south.orders)
            await south.answer(south.orders[0])
            await north.leave()
            await south.attach(ANNA, BERT, CARL)
            await until(lambda: len(south.orders) == 2)
            south.samples.update({ANNA: 10, BERT: 30})
        async with a_network(tmp_path, stored) as second:
            back = await second.combiner(silent=True)
            assert isinstance(north.orders[0], CellOrder)
            await back.say(await north.partial(north.orders[0]))
            assert back.orders == []
            again = await second.combiner(
                name=SOUTH, instance=SOUTH_1, samples={ANNA: 10, BERT: 30, CARL: 5}, silent=True
            )
            await until(lambda: again.orders)
            assert again.orders == south.orders[1:]
            await again.say(await south.partial(again.orders[0]))  # type: ignore[arg-type]
            await second.reaches(Validating)
        (record,) = await stored.rounds()
        assert sorted(one.client for one in record.included) == [ANNA, BERT, CARL]
        assert {one.combiner for one in record.included} == {SOUTH}

    asyncio.run(story())


@pytest.mark.parametrize(("wish", "ends"), [("pause", "paused"), ("stop", "stopped")])
def test_a_wish_that_waits_for_the_round_is_kept_over_a_new_start(tmp_path: Path, wish: str, ends: str) -> None:
    async def story() -> None:
        stored = Stored()
        async with a_network(tmp_path, stored) as first:
            combiner = await first.combiner(silent=True)
            session = await first.start_session(rounds=3)
            await until(lambda: combiner.orders)
            await combiner.answer(combiner.orders[0])
            await first.reaches(Validating)
            await (first.control.pause_session if wish == "pause" else first.control.stop_session)(session.id)
        async with a_network(tmp_path, stored) as second:
            await second.reaches(Validating)
            await second.combiner(instance=InstanceId("north-2"))
            await second.reaches(Idle, Paused)
            await second.settled()
            assert (await second.control.session(session.id)).status == ends
        (record,) = await stored.rounds()
        assert record.validation is not None
        assert record.validation.clients == 2

    asyncio.run(story())


def test_a_commit_that_was_not_told_is_told_to_whoever_joins(tmp_path: Path) -> None:
    async def story() -> None:
        stored = Stored()
        async with a_network(tmp_path, stored) as first:
            combiner = await first.combiner()
            session = await first.start_session()
            await first.at_rest()
            told = [one for one in combiner.heard if isinstance(one, RoundCommitted)]
        async with a_network(tmp_path, stored) as second:  # the session has ended
            again = await second.combiner()
            await until(lambda: len(again.heard) == 2)
            assert again.heard[1:] == told == [RoundCommitted(session.id, 1, told[0].model)]

    asyncio.run(story())


def test_a_new_reducer_stamps_the_session_and_its_round_before_anything_else(tmp_path: Path) -> None:
    async def story() -> None:
        stored = Stored()
        async with a_network(tmp_path, stored) as first:
            combiner = await first.combiner(silent=True)
            await first.start_session()
            await until(lambda: combiner.orders)
            async with a_network(tmp_path, stored) as second:
                for collection in ("sessions", "rounds"):
                    (document,) = await stored.documents.find(collection)  # type: ignore[arg-type]
                    assert document.fence == second.fence

    asyncio.run(story())


def test_orders_that_were_not_written_down_leave_room_for_their_generations(tmp_path: Path) -> None:
    async def story() -> None:
        stored = Stored()
        async with a_network(tmp_path, stored) as first:
            combiner = await first.combiner(silent=True)
            await first.start_session(rounds=2)
            await until(lambda: combiner.orders)
            await combiner.answer(combiner.orders[0])
            await until(lambda: len(combiner.orders) == 2)
            validation = combiner.orders[1]
            assert isinstance(validation, ValidationOrder)
        (record,) = await Ledger(stored.documents, 0).find("rounds", RoundRecord)
        assert validation.generation > record.generation  # it is in no document
        async with a_network(tmp_path, stored) as second:
            again = await second.combiner(instance=InstanceId("north-2"), silent=True)
            await until(lambda: again.orders)
            assert again.orders[0].generation > validation.generation

    asyncio.run(story())
