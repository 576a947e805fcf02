"""Stores that were restored from a backup: nobody is released on the word of a document that may be too old."""

import asyncio
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from awaiting import until
from masked_network import MaskedCombiner, a_masked_combiner, attempts_of, released, the_round
from masked_world import CLIENTS
from reducer_network import Network, OperatorFiles, Stored, a_network

from fedn_py.protocol.masked.round_messages import Included
from fedn_py.protocol.reducer_work import Failed, Paused
from fedn_py.reducer.newest_attempt import (
    FILE_NAME,
    NewestAttempt,
    NewestAttemptFile,
    NewestAttemptUnreadable,
    follow,
)

MUTE = {client.name for client in CLIENTS[:5]}


async def lives(scratch: Path, second_life: Callable[[Stored, Path], Stored]) -> tuple[Stored, list[MaskedCombiner]]:
    """Let a reducer open an attempt of which the stores were copied before; go on with what ``second_life`` gives."""
    files, stored, copied = OperatorFiles(scratch / "operator"), Stored(), Stored()
    async with a_network(scratch, stored, operator=files) as network:
        first = await a_masked_combiner(network, mute=set(MUTE))
        await network.start_session(masking="pet", clients_wanted=5, retry_delay_s=100.0)
        await until(lambda: first.words(Included))
        await network.settled()
        copied.documents = copy.deepcopy(stored.documents)
        copied.objects = stored.objects
        network.masked._commits.open = for_ever  # type: ignore
        await answer_all(network, first)
    restored = second_life(copied, files.folder / FILE_NAME)
    async with a_network(scratch, restored, operator=files) as network:
        second = await a_masked_combiner(network, cells=dict(first.cells), aborts=False, mute=set(MUTE))
        await network.reaches(Failed, Paused)
        await network.settled()
        await network.events.flush()
    return restored, [first, second]


async def for_ever(*_: Any) -> Any:
    await asyncio.Event().wait()


async def answer_all(network: Network, combiner: MaskedCombiner) -> None:
    combiner.mute.clear()
    ctx = next(iter(combiner.cells))
    for member in combiner.members():
        await combiner.pass_on(member, combiner.answer(member, ctx))
    await until(lambda: network.mailbox.state.work.attempt.stage == "opening")  # type: ignore
    await network.settled()


async def told(stored: Stored) -> list[str]:
    return [event.text for event in await stored.events() if event.kind == "stores.restored"]


def test_a_set_that_was_opened_after_the_backup_is_not_called_unopened(tmp_path: Path) -> None:
    async def story() -> None:
        stored, combiners = await lives(tmp_path, lambda copied, _: copied)
        (attempt,) = attempts_of(await the_round(stored))
        assert (attempt.stage, attempt.key, attempt.before_restore) == ("given up", "unset", True)
        assert released(*combiners) == set()
        (text,) = await told(stored)
        assert "round 1, attempt 1" in text
        assert "has begun to be opened" in text
        assert "--new-work" in text

    asyncio.run(story())


def test_it_stays_so_at_every_further_start(tmp_path: Path) -> None:
    async def story() -> None:
        stored, combiners = await lives(tmp_path, lambda copied, _: copied)
        async with a_network(tmp_path, stored, operator=OperatorFiles(tmp_path / "operator")) as network:
            third = await a_masked_combiner(network, cells=dict(combiners[0].cells), aborts=False, mute=set(MUTE))
            await network.reaches(Failed, Paused)
            await network.settled()
            assert released(third) == set()
        assert len(await told(stored)) == 1

    asyncio.run(story())


def test_an_attempt_that_the_documents_do_not_know_of_counts_too(tmp_path: Path) -> None:
    def another(copied: Stored, file: Path) -> Stored:
        named = json.loads(file.read_text())
        file.write_text(json.dumps({**named, "attempt": 2, "opening": False}))
        return copied

    async def story() -> None:
        stored, combiners = await lives(tmp_path, another)
        assert released(*combiners) == set()
        (text,) = await told(stored)
        assert "attempt 2" in text

    asyncio.run(story())


def test_another_plan_under_the_same_number_counts_too(tmp_path: Path) -> None:
    def another(copied: Stored, file: Path) -> Stored:
        file.write_text(json.dumps({**json.loads(file.read_text()), "plan": "00" * 32, "opening": False}))
        return copied

    async def story() -> None:
        stored, combiners = await lives(tmp_path, another)
        assert released(*combiners) == set()
        assert len(await told(stored)) == 1

    asyncio.run(story())


def test_without_the_file_nobody_of_a_session_under_way_is_released(tmp_path: Path) -> None:
    def without(copied: Stored, file: Path) -> Stored:
        file.unlink()
        return copied

    async def story() -> None:
        stored, combiners = await lives(tmp_path, without)
        assert released(*combiners) == set()
        (text,) = await told(stored)
        assert f"there is no file {FILE_NAME}" in text

    asyncio.run(story())


def test_after_an_ordinary_restart_clients_are_released(tmp_path: Path) -> None:
    async def story() -> None:
        files, stored = OperatorFiles(tmp_path / "operator"), Stored()
        async with a_network(tmp_path, stored, operator=files) as network:
            first = await a_masked_combiner(network, closes=False, mute=set(MUTE))
            await network.start_session(masking="pet", clients_wanted=5, retry_delay_s=100.0)
            await until(lambda: first.cells)
            await network.settled()
        async with a_network(tmp_path, stored, operator=files) as network:
            second = await a_masked_combiner(network, cells=dict(first.cells), aborts=False, mute=set(MUTE))
            await second.give_up(first.orders[0], "its spool is full")
            await network.reaches(Failed, Paused)
            await network.settled()
            await until(lambda: released(second))
            assert released(second) == {next(iter(first.cells))}
        assert await told(stored) == []

    asyncio.run(story())


def test_another_host_that_followed_while_the_first_one_lived_releases_clients_too(tmp_path: Path) -> None:
    async def story() -> None:
        files, stored = OperatorFiles(tmp_path / "operator"), Stored()
        file = NewestAttemptFile(files.folder / FILE_NAME)
        async with a_network(tmp_path, stored, operator=files) as network:
            await follow(network.ledger, file)
            assert file.read() == NewestAttempt()
            first = await a_masked_combiner(network, closes=False, mute=set(MUTE))
            await network.start_session(masking="pet", clients_wanted=5, retry_delay_s=100.0)
            await until(lambda: first.cells)
            await network.settled()
            named = file.read()
            file.path.unlink()  # the first host's own, which the other one has not
            await follow(network.ledger, file)
            assert file.read() == named
        async with a_network(tmp_path, stored, operator=files) as network:
            second = await a_masked_combiner(network, cells=dict(first.cells), aborts=False, mute=set(MUTE))
            await second.give_up(first.orders[0], "its spool is full")
            await network.reaches(Failed, Paused)
            await until(lambda: released(second))
        assert await told(stored) == []

    asyncio.run(story())


def test_a_host_that_knows_more_than_the_documents_does_not_forget_it(tmp_path: Path) -> None:
    async def story() -> None:
        files, stored = OperatorFiles(tmp_path / "operator"), Stored()
        async with a_network(tmp_path, stored, operator=files) as network:
            file = NewestAttemptFile(tmp_path / "other" / FILE_NAME)
            known = NewestAttempt("5e55", 7, 1, "ab" * 32)
            await file.write(known)
            await follow(network.ledger, file)
            assert file.read() == known

    asyncio.run(story())


def test_the_file_is_there_before_an_order_is_sent(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_network(tmp_path, operator=OperatorFiles(tmp_path / "operator")) as network:
            assert network.newest_file.read() == NewestAttempt()
            release = asyncio.Event()
            write = network.newest_file.write
            file = network.masked._attempts._newest_file  # type: ignore

            async def waiting(named: NewestAttempt) -> None:
                await release.wait()
                await write(named)

            file.write = waiting  # type: ignore
            combiner = await a_masked_combiner(network, silent=True)
            starting = asyncio.create_task(network.start_session(masking="pet", clients_wanted=5))
            await until(lambda: network.stored.documents._collections.get("rounds"))
            for _ in range(200):
                await asyncio.sleep(0)
            assert combiner.orders == []
            release.set()
            await starting
            await until(lambda: combiner.orders)
            named = network.newest_file.read()
            assert named is not None
            assert (named.round, named.attempt, named.opening) == (1, 1, False)

    asyncio.run(story())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"round": 1, "other": 2}'])
def test_a_damaged_file_is_named_with_its_way_out(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(NewestAttemptUnreadable, match=FILE_NAME):
        NewestAttemptFile(tmp_path / FILE_NAME).read()
