"""Rounds as they are written: whole, once, waiting while a store is away, and never by a superseded reducer."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from artifacts import chunked, names_in
from awaiting import until
from reducer_network import ANNA, BERT, NORTH, Network, PlayedCombiner, Stored, a_network, models_of
from unruly_store import Trouble

from fedn_py.errors import OwnFault
from fedn_py.identity import CombinerName, Digest, InstanceId
from fedn_py.protocol.messages import CellOrder, RoundCommitted, ValidationOrder
from fedn_py.protocol.reducer_work import (
    Committing,
    Idle,
    Paused,
    Updating,
    Validating,
    ValidationDeadlinePassed,
)
from fedn_py.reducer import rounds as rounds_module
from fedn_py.reducer.ledger import Ledger, Superseded
from fedn_py.reducer.records import RoundRecord, SessionRecord
from fedn_py.reducer.rounds import CommittedElsewhere
from fedn_py.runtime.scratch import DiskFull
from fedn_py.store.ports import StoreFull, StoreUnavailable


async def whole(stored: Stored, network: Network, wanted: int) -> None:
    """Check that so many rounds are committed, one after the other, and that nothing is half done."""
    rounds = await stored.rounds()
    assert [(record.plan.round_number, record.status) for record in rounds] == [
        (number, "committed") for number in range(1, wanted + 1)
    ]
    bases = [record.plan.base_model for record in rounds]
    models = models_of(rounds)
    assert bases[1:] == models[:-1]
    (session,) = await Ledger(stored.documents, 0).find("sessions", SessionRecord)
    assert session.status == "finished"
    assert set(models) <= stored.objects.contents.keys()
    assert names_in(network.scratch) == []
    committed = [event for event in await network.told() if event.kind == "round.committed"]
    assert [event.subject["model"] for event in committed] == models


def test_a_round_is_committed_with_its_model_its_clients_and_its_metrics(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_network(tmp_path, stored := Stored()) as network:
            combiner = await network.combiner()
            await network.start_session()
            await network.at_rest()
            await whole(stored, network, 1)
            (record,) = await stored.rounds()
            assert [(c.name, c.samples, c.combiner) for c in record.included] == [
                ("anna", 10, NORTH),
                ("bert", 30, NORTH),
            ]
            assert record.samples == 40
            model = safetensors.numpy.load(stored.objects.contents[record.model or Digest("")])["w"]
            # Each client moved every parameter by its own samples: (10 * 10 + 30 * 30) / 40 = 25.
            assert list(model) == [26.0, 27.0, 28.0]
            assert record.validation is not None
            assert (record.validation.clients, record.validation.samples) == (2, 40)
            assert record.validation.means == {"accuracy": 0.5}
            assert record.validation.by_client == {"anna": {"accuracy": 0.5}}
            assert isinstance(combiner.heard[-2], RoundCommitted)

    asyncio.run(story())


def test_partial_aggregates_are_removed_after_the_commit(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_network(tmp_path, stored := Stored()) as network:
            await network.combiner()
            session = await network.start_session(rounds=2)
            await network.at_rest()
            models = models_of(await stored.rounds())
            expected = {session.options.package, session.options.seed_model, *models}
            assert stored.objects.contents.keys() == expected

    asyncio.run(story())


@pytest.mark.parametrize(
    "fault", [lambda: StoreUnavailable("no store."), lambda: StoreFull("full."), lambda: DiskFull("full disk.")]
)
@pytest.mark.parametrize("phase", [Updating, Validating])
def test_a_round_waits_while_a_store_is_away_says_so_once_and_goes_on(
    tmp_path: Path, fault: Callable[[], OwnFault], phase: type
) -> None:
    async def story() -> None:
        async with a_network(tmp_path, stored := Stored(), trouble := Trouble()) as network:
            combiner = await network.combiner(silent=True)
            await network.start_session()
            await until(lambda: combiner.orders)
            if phase is Validating:
                await combiner.answer(combiner.orders.pop())
                await until(lambda: combiner.orders)
            partial = combiner.orders[-1]
            trouble.away = fault
            if isinstance(partial, CellOrder):
                await combiner.say(await combiner.partial(partial))
            else:
                await combiner.answer(partial)
            await until(lambda: network.shell.patience.waiting_for)
            await asyncio.sleep(0.02)  # many tries, and one event
            status = await network.control.status()
            assert status.waiting == fault().message
            trouble.away, combiner.silent = None, False
            if phase is Updating:
                await until(lambda: len(combiner.orders) == 2 or isinstance(network.mailbox.state.work, Idle))
            await network.at_rest()
            await whole(stored, network, 1)
            kinds = await network.kinds()
            assert (kinds.count("store.waiting"), kinds.count("store.back")) == (1, 1)

    asyncio.run(story())


def test_an_empty_sum_fails_the_attempt_by_name_and_not_the_reducer(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_network(tmp_path, stored := Stored()) as network:
            combiner = await network.combiner(silent=True)
            await network.start_session(max_attempts=1)
            await until(lambda: combiner.orders)
            order = combiner.orders[0]
            assert isinstance(order, CellOrder)
            empty = await stored.objects.put(chunked(b""))
            await combiner.say(await combiner.partial(order, sum_object=empty.digest))
            await network.reaches(Paused)
            await network.settled()
            (record,) = await stored.rounds()
            assert record.failures[0].reason.startswith("WrongLength: ")
            assert names_in(tmp_path) == []
            assert empty.digest not in stored.objects.contents  # nobody else will ask for it

    asyncio.run(story())


def test_a_failed_attempt_is_written_down_and_the_next_one_makes_the_model(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_network(tmp_path, stored := Stored()) as network:
            combiner = await network.combiner(silent=True)
            await network.start_session()
            await until(lambda: combiner.orders)
            first = combiner.orders.pop()
            assert isinstance(first, CellOrder)
            combiner.silent = False
            await combiner.give_up(first, "SpoolFull: no room")
            await network.at_rest()
            (record,) = await stored.rounds()
            assert (record.status, record.plan.attempt) == ("committed", 2)
            assert [failure.attempt for failure in record.failures] == [1]
            assert record.generation > first.generation
            assert record.excluded == ()
            kinds = await network.kinds()
            assert kinds.count("round.failed") == 1
            assert kinds.count("update.refused") == 2  # both clients of the first attempt, with the reason

    asyncio.run(story())


def test_a_client_that_is_left_out_is_named_with_its_reason_and_log(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_network(tmp_path, stored := Stored()) as network:
            combiner = await network.combiner(silent=True)
            await network.start_session(validate=False)
            await until(lambda: combiner.orders)
            del combiner.samples[BERT]
            await combiner.answer(combiner.orders[0])
            await network.at_rest()
            (record,) = await stored.rounds()
            assert [(one.name, one.reason, one.log) for one in record.excluded] == [
                ("bert", "Failed: no data", "its log")
            ]
            (event,) = [one for one in await network.told() if one.kind == "update.refused"]
            assert (event.text, event.subject["client"]) == ("bert is not in round 1: Failed: no data", "bert")

    asyncio.run(story())


def test_a_partial_aggregate_that_cannot_be_is_refused_and_told(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_network(tmp_path, stored := Stored()) as network:
            combiner = await network.combiner(silent=True)
            await network.start_session(max_attempts=1)
            await until(lambda: combiner.orders)
            order = combiner.orders[0]
            assert isinstance(order, CellOrder)
            await combiner.say(await combiner.partial(order, weight=7))
            await network.reaches(Paused)
            assert "partial.refused" in await network.kinds()
            assert models_of(await stored.rounds()) == []

    asyncio.run(story())


def test_an_object_that_somebody_else_named_is_not_removed_though_a_combiner_names_it_as_its_sum(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with a_network(tmp_path, stored := Stored()) as network:
            combiner = await network.combiner(silent=True)
            session = await network.start_session(rounds=2, max_attempts=1, validate=False)
            await until(lambda: combiner.orders)
            await combiner.answer(combiner.orders.pop())
            await until(lambda: combiner.orders)
            order, seed = combiner.orders[0], session.options.seed_model
            assert isinstance(order, CellOrder)
            assert seed != order.plan.base_model
            await combiner.say(await combiner.partial(order, sum_object=seed))
            await network.reaches(Paused)
            await network.settled()
            (_, record) = await stored.rounds()
            assert record.failures[0].reason.startswith("WrongLength: ")
            assert seed in stored.objects.contents

    asyncio.run(story())


def test_a_combiner_that_does_not_report_its_validation_is_named(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_network(tmp_path, stored := Stored()) as network:
            combiner = await network.combiner(silent=True)
            await network.start_session(validation_timeout_s=0.001)
            await until(lambda: combiner.orders)
            await combiner.answer(combiner.orders[0])
            await network.reaches(Validating)
            (record,) = await stored.rounds()
            await network.mailbox.deliver(ValidationDeadlinePassed(record.plan.session, 1))
            await network.at_rest()
            assert any("did not report" in event.text for event in await network.told())
            (record,) = await stored.rounds()
            assert record.validation is not None
            assert record.validation.means == {}

    asyncio.run(story())


# ---- another reducer on the same stores


@pytest.mark.parametrize("phase", ["collecting", "committing", "validating"])
def test_a_reducer_that_was_superseded_ends_by_name_and_writes_nothing_more(
    tmp_path: Path, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        old_scratch, new_scratch = tmp_path / "old", tmp_path / "new"
        stored = Stored()
        async with a_network(old_scratch, stored) as old:
            theirs = await old.combiner(silent=True)
            await old.start_session()
            await until(lambda: theirs.orders)
            gate = asyncio.Event()
            if phase == "committing":
                real = rounds_module.next_model

                async def slow(*args: object) -> object:
                    stat = await real(*args)  # type: ignore[arg-type]
                    await gate.wait()
                    return stat

                monkeypatch.setattr(rounds_module, "next_model", slow)
                await theirs.answer(theirs.orders.pop())
                await old.reaches(Committing)
                monkeypatch.setattr(rounds_module, "next_model", real)
            if phase == "validating":
                await theirs.answer(theirs.orders.pop())
                await until(lambda: theirs.orders)
            await old.events.flush()
            async with a_network(new_scratch, stored) as new:
                await new.settled()
                documents = {name: dict(kept) for name, kept in stored.documents._collections.items()}
                if phase == "committing":
                    gate.set()
                else:
                    await theirs.answer(theirs.orders.pop())
                with pytest.raises(Superseded, match="newer reducer"):
                    await old.running
                for name in ("sessions", "rounds", "network"):
                    assert stored.documents._collections[name] == documents[name]
                await new.combiner(instance=InstanceId("north-2"))
                await new.at_rest()
                await whole(stored, new, 1)

    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    asyncio.run(story())


def test_an_attempt_that_an_older_reducer_wrote_down_meanwhile_becomes_the_newer_ones(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_network(tmp_path, stored := Stored()) as network:
            options = await network.options()
            await network.control.start_session(options)  # it waits for clients
            older = Ledger(stored.documents, 0)
            combiner = PlayedCombiner(network)
            real_change = network.ledger.change

            async def beaten(collection, key, kind, change, **indexed):  # type: ignore[no-untyped-def]
                try:
                    return await real_change(collection, key, kind, change, **indexed)
                finally:
                    if collection == "rounds" and not await stored.rounds():
                        plan = network.mailbox.state.work.plan  # type: ignore[union-attr]
                        theirs = RoundRecord(replace(plan, attempt=9), "running", 1, (), 1.0, 1.0)  # type: ignore[arg-type]
                        await older.add("rounds", key, theirs, session=plan.session, number=1, status="running")

            network.ledger.change = beaten  # type: ignore[method-assign]
            await combiner.join()
            await network.at_rest()
            await whole(stored, network, 1)
            (record,) = await stored.rounds()
            assert record.plan.attempt == 1
            document = await stored.documents.get("rounds", (await stored.documents.find("rounds"))[0].key)
            assert document is not None
            assert document.fence == network.fence

    asyncio.run(story())


def test_a_round_that_another_reducer_committed_is_not_committed_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_network(tmp_path, stored := Stored()) as network:
            combiner = await network.combiner(silent=True)
            await network.start_session()
            await until(lambda: combiner.orders)
            (record,) = await stored.rounds()
            other = Ledger(stored.documents, network.fence)
            key = (await stored.documents.find("rounds"))[0].key
            theirs = replace(record, status="committed", model=Digest("d" * 64))
            await other.change("rounds", key, RoundRecord, lambda _: theirs, status="committed")
            await combiner.answer(combiner.orders[0])
            with pytest.raises(CommittedElsewhere, match="round 1"):
                await network.running
            assert models_of(await stored.rounds()) == [Digest("d" * 64)]

    asyncio.run(story())


def test_an_attempt_at_a_round_that_another_reducer_committed_is_not_closed_as_failed(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_network(tmp_path, stored := Stored()) as network:
            combiner = await network.combiner(silent=True)
            await network.start_session(max_attempts=1)
            await until(lambda: combiner.orders)
            order = combiner.orders[0]
            assert isinstance(order, CellOrder)
            (record,) = await stored.rounds()
            key = (await stored.documents.find("rounds"))[0].key
            theirs = replace(record, status="committed", model=Digest("d" * 64))
            other = Ledger(stored.documents, network.fence)
            await other.change("rounds", key, RoundRecord, lambda _: theirs, status="committed")
            await combiner.give_up(order, "SpoolFull: no room")
            with pytest.raises(CommittedElsewhere, match="round 1"):
                await network.reaches(Paused)
            assert await stored.rounds() == [theirs]

    asyncio.run(story())


def test_two_combiners_share_a_round(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_network(tmp_path, stored := Stored()) as network:
            south = CombinerName("south")
            await network.combiner(samples={ANNA: 10})
            await network.combiner(name=south, instance=InstanceId("south-1"), samples={BERT: 30})
            await network.start_session(clients_wanted=2)
            await network.at_rest()
            (record,) = await stored.rounds()
            assert [(c.name, c.combiner) for c in record.included] == [("anna", NORTH), ("bert", south)]
            model = safetensors.numpy.load(stored.objects.contents[record.model or Digest("")])["w"]
            assert np.array_equal(model, np.float32([26.0, 27.0, 28.0]))
            assert record.validation is not None
            # Each combiner said 20.0 over 40 samples: the mean over both is the same, over 80.
            assert record.validation.means == {"accuracy": 0.5}

    asyncio.run(story())


def test_orders_are_sent_only_after_the_attempt_is_written(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_network(tmp_path, Stored(), trouble := Trouble()) as network:
            combiner = await network.combiner(samples={}, silent=True)
            await network.start_session()
            trouble.away = lambda: StoreUnavailable("no store.")
            await combiner.attach(ANNA)
            await until(lambda: network.shell.patience.waiting_for)
            assert not [one for one in combiner.heard if isinstance(one, CellOrder | ValidationOrder)]
            trouble.away = None
            await until(lambda: combiner.orders)

    asyncio.run(story())
