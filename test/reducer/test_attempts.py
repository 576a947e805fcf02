"""Attempts in their documents: one set for each context, one key at a time, and none that stays."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import masked_attempts as masked
import masked_world as world
import pytest
from builders import NORTH, PACKAGE, SEED, SOUTH
from masked_world import REDUCER

from fedn_py.identity import ClientName, Generation, SessionId
from fedn_py.protocol.masked.contexts import cell_terms
from fedn_py.protocol.masked.opening_work import Attempt
from fedn_py.protocol.masked.round_messages import CommitteeBody
from fedn_py.protocol.masked.signing import sign
from fedn_py.protocol.messages import RoundPlan
from fedn_py.reducer.attempts import AttemptAtHand, Attempts, SetChanged
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.newest_attempt import FILE_NAME, NewestAttemptFile
from fedn_py.reducer.patience import Patience
from fedn_py.reducer.records import RoundRecord, round_key
from fedn_py.reducer.round_records import CommittedElsewhere, KeyStillHeld
from fedn_py.reducer.state_key import StateKey, WrongStateKey
from fedn_py.store.memory import MemoryDocuments
from fedn_py.store.sqlite import open_sqlite

SESSION = SessionId("53" * 16)
SECRET = b"a secret of thirty-two bytes ..!"
KEY = round_key(SESSION, 1)
ATTEMPT = masked.work_of(masked.closed()).attempt


class Desk:
    """Attempts on a store of their own."""

    def __init__(self, folder: Path, documents: Any = None) -> None:
        self.documents = documents or MemoryDocuments()
        self.ledger = Ledger(self.documents, 1)
        patience = Patience(EventLog(self.ledger, 0), base_s=0.0)
        self.state_key = StateKey.at(folder / "state.key")
        self.newest_file = NewestAttemptFile(folder / FILE_NAME)
        self.patience = patience
        self.attempts = self.fresh()

    def fresh(self) -> Attempts:
        """As after a restart."""
        return Attempts(
            self.ledger,
            self.patience,
            self.state_key,
            newest_file=self.newest_file,
            deployment=world.DEPLOYMENT,
            name_of=lambda client: ClientName(client[:6]),
        )

    async def begin(self, number: int = 1) -> AttemptAtHand:
        plan = RoundPlan(SESSION, 1, 1, number, SEED, PACKAGE, "{}", "pet", 60.0)
        record = RoundRecord(plan, "running", Generation(1), (), started=1.0, attempt_started=1.0)
        at = an_attempt_at_hand(number)
        await self.attempts.begin(at, record, SECRET, ())
        return at

    async def record(self) -> RoundRecord:
        record = await self.ledger.get("rounds", KEY, RoundRecord)
        assert record is not None
        return record


def an_attempt_at_hand(number: int = 1, attempt: Attempt = ATTEMPT) -> AttemptAtHand:
    plan = sign(world.a_plan(), REDUCER)
    orders = {
        NORTH: sign(masked.NORTHERN_TERMS.order, REDUCER),
        SOUTH: sign(masked.SOUTHERN_TERMS.order, REDUCER),
    }
    terms = {name: cell_terms(world.DEPLOYMENT, plan.body, order.body) for name, order in orders.items()}
    body = CommitteeBody(masked.NORTHERN_TERMS.ctx0, world.the_rows(masked.NORTHERN_TERMS, masked.IN_NORTH))
    return AttemptAtHand(
        SESSION,
        plan,
        orders,
        terms,
        replace(attempt, attempt=number),
        committees={NORTH: body},
        streams={(masked.NORTHERN.ctx, b"m" * 32): SEED},
    )


def at_a_desk(folder: Path, story: Callable[[Desk], Awaitable[None]]) -> None:
    async def told() -> None:
        await story(Desk(folder))

    asyncio.run(told())


def test_an_attempt_is_taken_up_again_as_it_was_with_its_key(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        before = await desk.begin()
        again = desk.fresh()
        found = await again.needed(SESSION, 1, 1)
        assert (found.plan, found.orders, found.terms) == (before.plan, before.orders, before.terms)
        assert (found.attempt, found.committees, found.streams) == (before.attempt, before.committees, before.streams)
        assert await again.secret_of(found) == SECRET
        assert [cell.combiner for cell in (await desk.record()).masked.cells] == [NORTH, SOUTH]  # type: ignore

    at_a_desk(tmp_path, story)


def test_the_store_never_sees_the_key(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        await desk.begin()
        kept = json.dumps([one.text for one in desk.documents._collections["rounds"].values()])
        for shown in (SECRET.decode(), SECRET.hex(), base64.b64encode(SECRET).decode()):
            assert shown not in kept

    at_a_desk(tmp_path, story)


def test_another_state_key_opens_nothing(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        await desk.begin()
        desk.state_key = StateKey.at(tmp_path / "another.key")
        again = desk.fresh()
        with pytest.raises(WrongStateKey):
            await again.secret_of(await again.needed(SESSION, 1, 1))

    at_a_desk(tmp_path, story)


@pytest.mark.parametrize(
    "other",
    [
        {"included_hash": b"x" * 32},
        {"included_hash": None},
        {"ctx": b"x" * 32},
    ],
)
def test_a_set_that_is_stored_is_never_another_one(tmp_path: Path, other: dict[str, Any]) -> None:
    async def story(desk: Desk) -> None:
        at = await desk.begin()
        north, south = at.attempt.cells
        with pytest.raises(SetChanged):
            await desk.attempts.save(at, replace(at.attempt, cells=(replace(north, **other), south)))
        assert at.attempt.cells == (north, south)  # what is not stored is not at hand either: words are said of it
        assert (await desk.record()).document.of(1).attempt == an_attempt_at_hand().document().attempt  # type: ignore

    at_a_desk(tmp_path, story)


def test_an_opening_that_is_stored_is_not_forgotten(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        at = await desk.begin()
        opening = replace(at.attempt, stage="opening", opening=frozenset({masked.NORTHERN.ctx}))
        await desk.attempts.save(at, opening)
        with pytest.raises(SetChanged):
            await desk.attempts.save(at, replace(opening, stage="given up", opening=frozenset()))

    at_a_desk(tmp_path, story)


def test_an_attempt_that_is_not_in_the_document_is_not_saved(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        await desk.begin()
        with pytest.raises(CommittedElsewhere):
            await desk.attempts.save(an_attempt_at_hand(2), replace(ATTEMPT, attempt=2))
        with pytest.raises(CommittedElsewhere):
            await desk.fresh().needed(SESSION, 1, 2)

    at_a_desk(tmp_path, story)


def test_no_attempt_begins_while_the_key_of_the_one_before_is_there(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        first = await desk.begin()
        await desk.begin()  # the same once more, as after an answer that was lost
        with pytest.raises(KeyStillHeld):
            await desk.begin(2)
        await desk.attempts.unset_key(first)
        await desk.begin(2)
        document = (await desk.record()).document
        assert document is not None
        assert [kept.number for kept in document.attempts] == [1, 2]

    at_a_desk(tmp_path, story)


def test_a_key_that_was_unset_is_nowhere(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        at = await desk.begin()
        await desk.attempts.unset_key(at)
        assert at.round_secret is None
        assert (await desk.record()).document.round_key == ""  # type: ignore[union-attr]
        with pytest.raises(CommittedElsewhere):
            await desk.attempts.secret_of(at)
        again = desk.fresh()
        found = await again.needed(SESSION, 1, 1)
        with pytest.raises(CommittedElsewhere):
            await again.secret_of(found)

    at_a_desk(tmp_path, story)


def files_with(text: bytes, folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if text in path.read_bytes()]


def test_the_wrapped_key_is_in_no_file_of_the_state_folder_either(tmp_path: Path) -> None:
    async def story() -> None:
        documents = await open_sqlite(tmp_path / "documents.sqlite")
        desk = Desk(tmp_path, documents)
        at = await desk.begin()
        wrapped = (await desk.record()).document.round_key.encode()  # type: ignore[union-attr]
        await desk.attempts.save(at, replace(at.attempt, stage="given up", key="unsetting"))
        assert files_with(wrapped, tmp_path)
        await desk.attempts.unset_key(at)
        assert files_with(wrapped, tmp_path) == []
        await documents.close()

    asyncio.run(story())


def test_a_key_is_gone_only_when_it_is_read_back_as_gone(tmp_path: Path) -> None:
    """A store that acknowledges a write and loses it: nobody is released until it has it."""

    async def story(desk: Desk) -> None:
        at = await desk.begin()
        update, lies = desk.documents.update, 3

        async def losing(*arguments: Any, **how: Any) -> Any:
            nonlocal lies
            lies -= 1
            return "ok" if lies >= 0 else await update(*arguments, **how)

        desk.documents.update = losing  # type: ignore[method-assign]
        await desk.attempts.unset_key(at)
        assert lies == -1
        assert (await desk.record()).document.round_key == ""  # type: ignore[union-attr]

    at_a_desk(tmp_path, story)
