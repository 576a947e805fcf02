"""Answers found once for all who ask, and kept for the last few."""

import asyncio

import pytest

from fedn_py.errors import PeerFault
from fedn_py.reducer.remembered import Remembered


class Finding:
    """Finds answers when it is let, and counts."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.begun: list[str] = []
        self.at_once = 0

    async def find(self, question: str) -> str:
        self.begun.append(question)
        self.at_once += 1
        assert self.at_once == 1
        await self.let.wait()
        self.at_once -= 1
        if question == "nonsense":
            raise PeerFault("no answer")
        return question.upper()


def test_many_who_ask_the_same_have_it_found_once() -> None:
    async def story() -> None:
        remembered, finding = Remembered[str](2), Finding()
        asking = [asyncio.create_task(remembered.answer("a", lambda: finding.find("a"))) for _ in range(5)]
        asking.append(asyncio.create_task(remembered.answer("b", lambda: finding.find("b"))))
        await asyncio.sleep(0)
        finding.let.set()
        assert await asyncio.gather(*asking) == ["A"] * 5 + ["B"]
        assert finding.begun == ["a", "b"]  # one after the other

    asyncio.run(story())


def test_only_the_last_few_are_kept() -> None:
    async def story() -> None:
        remembered, finding = Remembered[str](2), Finding()
        finding.let.set()
        for question in ("a", "b", "a", "c", "a", "b"):
            assert (
                await remembered.answer(question, lambda question=question: finding.find(question)) == question.upper()
            )  # type: ignore[misc]
        assert finding.begun == ["a", "b", "c", "b"]

    asyncio.run(story())


def test_fewer_than_may_be_kept_are_all_kept() -> None:
    async def story() -> None:
        remembered, finding = Remembered[str](8), Finding()
        finding.let.set()
        for question in "abcdabcd":
            await remembered.answer(question, lambda question=question: finding.find(question))  # type: ignore[misc]
        assert finding.begun == ["a", "b", "c", "d"]

    asyncio.run(story())


def test_a_fault_is_told_to_all_and_not_kept() -> None:
    async def story() -> None:
        remembered, finding = Remembered[str](2), Finding()
        finding.let.set()
        for _ in range(2):
            with pytest.raises(PeerFault):
                await remembered.answer("nonsense", lambda: finding.find("nonsense"))
        assert finding.begun == ["nonsense"] * 2

    asyncio.run(story())


def test_what_somebody_gave_up_waiting_for_is_found_all_the_same() -> None:
    async def story() -> None:
        remembered, finding = Remembered[str](2), Finding()
        asking = asyncio.create_task(remembered.answer("a", lambda: finding.find("a")))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        finding.let.set()
        assert await remembered.answer("a", lambda: finding.find("a")) == "A"
        assert finding.begun == ["a"]

    asyncio.run(story())
