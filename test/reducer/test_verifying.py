"""An object is read to its end; what is wrong with it is said and told."""

import asyncio
from typing import Literal

import pytest
from kept_trail import Kept, digest_of
from unruly_store import Trouble, UnrulyObjects

from fedn_py.reducer.catalogue import Catalogue
from fedn_py.reducer.control_faults import UnknownObject
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.records import EventRecord
from fedn_py.reducer.shown_objects import VerificationView
from fedn_py.reducer.verifying import verified
from fedn_py.store.memory import MemoryObjects

LARGE = bytes(40 * 1024**2)


async def read(kept: Kept, content: bytes, objects: object = None) -> tuple[list[VerificationView], list[str]]:
    events = await EventLog.open(kept.ledger)
    steps = [step async for step in verified(objects or kept.objects, digest_of(content), events)]  # type: ignore[arg-type]
    await events.flush()
    told = await kept.ledger.find("events", EventRecord, {"kind": "object.damaged"})
    return steps, [event.text for event in told]


def test_a_whole_object_is_read_to_its_end_in_steps() -> None:
    async def story() -> None:
        kept = Kept()
        await kept.put(LARGE)
        steps, told = await read(kept, LARGE)
        assert [(step.done >> 20, step.outcome) for step in steps] == [(16, "reading"), (32, "reading"), (40, "whole")]
        assert {step.size for step in steps} == {len(LARGE)}
        assert told == []

    asyncio.run(story())


@pytest.mark.parametrize("outcome", ["missing", "corrupt"])
def test_what_is_wrong_is_said_and_told_with_the_way_out(outcome: Literal["missing", "corrupt"]) -> None:
    async def story() -> None:
        kept = Kept()
        digest = await kept.put(b"model")
        assert isinstance(kept.objects, MemoryObjects)
        if outcome == "missing":
            del kept.objects.contents[digest]
        else:
            kept.objects.contents[digest] = b"m0del"
        steps, told = await read(kept, b"model")
        assert steps[-1].outcome == outcome
        assert "--objects-only" in steps[-1].fault
        assert told == [steps[-1].fault]

    asyncio.run(story())


def test_a_store_that_is_away_says_nothing_of_the_object() -> None:
    async def story() -> None:
        kept, trouble = Kept(), Trouble()
        await kept.put(b"model")
        trouble.begin(2, "fails")
        steps, told = await read(kept, b"model", UnrulyObjects(kept.objects, trouble))
        assert [step.outcome for step in steps] == ["unknown"]
        assert told == []

    asyncio.run(story())


def test_only_models_and_packages_are_looked_at() -> None:
    async def story() -> None:
        kept = Kept()
        await kept.begin()
        models = await kept.trained()
        catalogue = Catalogue(kept.ledger, kept.objects, await EventLog.open(kept.ledger), None)  # type: ignore[arg-type]
        for digest in (*models, digest_of(b"package")):
            await catalogue.check_known(digest)
        partial = await kept.put(b"a partial aggregate")
        with pytest.raises(UnknownObject, match=partial):
            await catalogue.check_known(partial)

    asyncio.run(story())
