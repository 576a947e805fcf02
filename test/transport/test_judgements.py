"""Each upload is judged once, and what is remembered of it does not grow with what was said of it."""

import asyncio
import gc
import sys
import weakref
from dataclasses import replace

import pytest

from fedn_py.identity import Digest, Generation
from fedn_py.protocol.messages import UpdateHeader, UpdateReceipt
from fedn_py.transport.judgements import Judgements

HEADER = UpdateHeader(Generation(1), "0a" * 16, 48, Digest("00" * 32), 10, {"loss": 0.5}, "client")


class Work:
    """Judges, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    async def __call__(self) -> UpdateReceipt:
        self.times += 1
        return UpdateReceipt(accepted=True, reason="")


def test_the_same_upload_is_judged_once_and_another_header_of_it_anew() -> None:
    async def story() -> None:
        judgements, work = Judgements(), Work()
        await judgements.judge("client anna", HEADER, work)
        await judgements.judge("client anna", replace(HEADER), work)
        assert work.times == 1
        assert await judgements.known("client anna", replace(HEADER)) == UpdateReceipt(accepted=True, reason="")
        assert judgements.size_of("client anna", HEADER.upload_id) == 48
        assert await judgements.known("client anna", replace(HEADER, metrics={"loss": 0.25})) is None
        assert judgements.size_of("client anna", HEADER.upload_id) == 0

    asyncio.run(story())


def test_a_header_is_not_kept() -> None:
    async def story() -> None:
        header, judgements = replace(HEADER, metrics={"loss": 0.5}), Judgements()
        before = sys.getrefcount(header)
        await judgements.judge("client anna", header, Work())
        assert sys.getrefcount(header) == before

    asyncio.run(story())


def test_of_an_owner_the_latest_upload_is_remembered_and_of_many_owners_the_latest() -> None:
    async def story() -> None:
        judgements, work = Judgements(most=2), Work()
        later = replace(HEADER, upload_id="0b" * 16)
        for owner, header in (("client anna", HEADER), ("client anna", later), ("client bert", HEADER)):
            await judgements.judge(owner, header, work)
        assert judgements.size_of("client anna", HEADER.upload_id) == 0
        assert await judgements.known("client anna", later) is not None
        await judgements.judge("client cleo", HEADER, work)
        assert await judgements.known("client anna", later) is None
        assert await judgements.known("client bert", HEADER) is not None
        assert work.times == 4

    asyncio.run(story())


def test_of_a_judgement_that_is_made_no_task_is_kept() -> None:
    async def story() -> None:
        judgements, tasks = Judgements(), []

        async def work() -> UpdateReceipt:
            tasks.append(weakref.ref(asyncio.current_task()))
            return UpdateReceipt(accepted=True, reason="")

        await judgements.judge("client anna", HEADER, work)
        assert await judgements.known("client anna", HEADER) is not None
        gc.collect()
        assert tasks[0]() is None

    asyncio.run(story())


def test_who_comes_while_an_upload_is_judged_gets_the_same_answer_and_one_that_failed_is_judged_anew() -> None:
    async def story() -> None:
        judgements, gate, times = Judgements(), asyncio.Event(), 0

        async def work() -> UpdateReceipt:
            nonlocal times
            times += 1
            await gate.wait()
            if times == 1:
                raise ConnectionError
            return UpdateReceipt(accepted=True, reason="")

        both = [asyncio.ensure_future(judgements.judge("client anna", HEADER, work)) for _ in range(2)]
        await asyncio.sleep(0)
        assert judgements.size_of("client anna", HEADER.upload_id) == 48
        assert await judgements.known("client anna", replace(HEADER, metrics={})) is None
        gate.set()
        assert [type(one) for one in await asyncio.gather(*both, return_exceptions=True)] == [ConnectionError] * 2
        assert times == 1
        assert (await judgements.judge("client anna", HEADER, work)).accepted

    asyncio.run(story())


@pytest.mark.parametrize("first_to_end", ["older", "newer"])
@pytest.mark.parametrize("fault", [None, ConnectionError()])
def test_an_upload_that_is_judged_anew_meanwhile_has_two_answers_and_the_newer_one_is_remembered(
    fault: Exception | None, first_to_end: str
) -> None:
    newer = replace(HEADER, metrics={})

    async def story() -> None:
        judgements, may_end = Judgements(), {"older": asyncio.Event(), "newer": asyncio.Event()}

        async def judge_older() -> UpdateReceipt:
            await may_end["older"].wait()
            if fault is not None:
                raise fault
            return UpdateReceipt(accepted=False, reason="older")

        async def judge_newer() -> UpdateReceipt:
            await may_end["newer"].wait()
            return UpdateReceipt(accepted=True, reason="newer")

        answers = {}
        for name, header, work in (("older", HEADER, judge_older), ("newer", newer, judge_newer)):
            answers[name] = asyncio.ensure_future(judgements.judge("client anna", header, work))
            await asyncio.sleep(0)
        for name in sorted(may_end, key=lambda name: name != first_to_end):
            may_end[name].set()
            await asyncio.wait({answers[name]})
        assert (answers["older"].exception() or answers["older"].result()) == (
            fault or UpdateReceipt(accepted=False, reason="older")
        )
        assert answers["newer"].result().reason == "newer"
        known = await judgements.known("client anna", newer)
        assert known is not None
        assert known.reason == "newer"
        assert await judgements.known("client anna", HEADER) is None

    asyncio.run(story())
