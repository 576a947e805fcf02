"""A line of calls is bounded; who is outside of it is called in order, and by no means forgotten."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

import pytest
from awaiting import until

from fedn_py.transport.call_ups import CallUps
from fedn_py.transport.waiting_line import NotYourTurn, Reachable, WaitingLine

LONG_S = 1_000.0


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(10):
            await story()

    asyncio.run(whole())


class Line:
    """A line of two places, who was called, and who is there to be called."""

    def __init__(self, *, comes_within_s: float = LONG_S) -> None:
        self.called: list[str] = []
        self.away: set[str] = set()
        self.line = WaitingLine(self._call, most=2, comes_within_s=comes_within_s)

    def stands(self, peer: str, what: str = "update") -> ExitStack:
        """Have a peer stand in line; closing what it returns takes it out of it."""
        place = ExitStack()
        place.enter_context(self.line.place(peer, what))
        return place

    def is_refused(self, peer: str, what: str = "update") -> bool:
        try:
            self.stands(peer, what).close()
        except NotYourTurn:
            return True
        return False

    def _call(self, peer: str) -> bool:
        if peer in self.away:
            return False
        self.called.append(peer)
        return True


def test_beyond_its_places_peers_are_refused_and_called_in_the_order_in_which_they_came() -> None:
    async def story() -> None:
        at = Line()
        first, second = at.stands("anna"), at.stands("bert")
        assert [at.is_refused(peer) for peer in ("carl", "dora", "carl", "emil")] == [True] * 4
        assert (at.line.in_line, at.line.outside) == (2, 3)
        first.close()
        assert at.called == ["carl"]
        second.close()
        assert at.called == ["carl", "dora"]
        assert at.line.outside == 1

    run(story)


def test_the_place_of_one_that_was_called_is_kept_for_it() -> None:
    async def story() -> None:
        at = Line()
        first, second = at.stands("anna"), at.stands("bert")
        assert at.is_refused("carl")
        first.close()
        assert at.is_refused("emil")
        third = at.stands("carl")
        assert at.called == ["carl"]
        third.close()
        assert at.called == ["carl", "emil"]
        second.close()

    run(story)


def test_who_is_called_and_does_not_come_leaves_the_place_to_the_next() -> None:
    async def story() -> None:
        at = Line(comes_within_s=0.05)
        first, second = at.stands("anna"), at.stands("bert")
        assert at.is_refused("carl")
        assert at.is_refused("dora")
        first.close()
        assert at.called == ["carl"]
        await until(lambda: at.called != ["carl"])
        assert at.called == ["carl", "dora"]
        assert at.line.in_line == 1
        assert at.is_refused("carl")
        second.close()

    run(story)


def test_places_that_are_kept_do_not_keep_others_out_of_an_empty_line() -> None:
    async def story() -> None:
        at = Line()
        first, second = at.stands("anna"), at.stands("bert")
        assert [at.is_refused(peer) for peer in ("carl", "dora", "emil")] == [True] * 3
        first.close()
        second.close()
        assert at.called == ["carl", "dora"]
        third = at.stands("emil")
        assert at.line.outside == 0
        assert at.is_refused("anna")
        fourth = at.stands("carl")
        assert at.is_refused("dora")  # it was called, but the line is full now
        third.close()
        fourth.close()
        assert at.called == ["carl", "dora", "anna", "dora"]

    run(story)


def test_each_transfer_of_a_peer_waits_for_itself() -> None:
    async def story() -> None:
        at = Line()
        first, second = at.stands("anna"), at.stands("bert")
        assert [at.is_refused("carl", what) for what in ("update", "stream")] == [True] * 2
        assert at.is_refused("dora")
        first.close()
        assert at.is_refused("carl", "stream")
        third = at.stands("carl", "update")
        third.close()
        second.close()
        assert at.called == ["carl", "carl", "dora"]

    run(story)


def test_who_is_not_there_to_be_called_is_passed_over() -> None:
    async def story() -> None:
        at = Line()
        first, second = at.stands("anna"), at.stands("bert")
        assert at.is_refused("carl")
        assert at.is_refused("dora")
        at.away.add("carl")
        first.close()
        assert at.called == ["dora"]
        assert at.line.outside == 0
        second.close()

    run(story)


def test_a_peer_that_leaves_the_line_by_a_fault_frees_its_place() -> None:
    async def story() -> None:
        at = Line()
        with pytest.raises(asyncio.CancelledError), at.line.place("anna", "update"):
            raise asyncio.CancelledError
        assert at.line.in_line == 0

    run(story)


def test_a_call_that_came_before_it_is_waited_for_counts() -> None:
    async def story() -> None:
        calls = CallUps()
        seen = calls.count
        calls.came()
        await calls.beyond(seen, LONG_S)

    run(story)


def test_all_who_wait_hear_a_call() -> None:
    async def story() -> None:
        calls = CallUps()
        waiting = [asyncio.ensure_future(calls.beyond(calls.count, LONG_S)) for _ in range(3)]
        await asyncio.sleep(0)
        calls.came()
        await asyncio.gather(*waiting)

    run(story)


def test_a_call_that_does_not_come_is_not_waited_for_longer_than_said() -> None:
    async def story() -> None:
        calls = CallUps()
        await calls.beyond(calls.count, 0.001)
        assert calls.count == 0

    run(story)


def test_a_peer_is_called_where_it_came_last_until_it_is_gone_or_cannot_be_told() -> None:
    reachable, told = Reachable(), list[str]()

    def tell(word: str, is_heard: bool) -> bool:
        told.append(word)
        return is_heard

    with reachable.by("anna", lambda: tell("old", True)):
        with reachable.by("anna", lambda: tell("new", True)):
            assert reachable.call("anna")
            assert not reachable.call("bert")
        assert not reachable.call("anna")
    with reachable.by("anna", lambda: tell("ended", False)):
        assert not reachable.call("anna")
    assert told == ["new", "ended"]
