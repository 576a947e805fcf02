"""Waiting out what passes: again and again, told each time, not for ever where there is a limit."""

import asyncio

import pytest

from fedn_py.errors import FednError, OwnFault, PeerFault
from fedn_py.runtime.waiting import wait_out


class Work:
    """Fails so many times, each time of the same fault."""

    def __init__(self, times: int, fault: FednError) -> None:
        self.left, self.fault, self.told = times, fault, list[int]()

    async def __call__(self) -> str:
        if self.left:
            self.left -= 1
            raise self.fault
        return "done"

    def waited_out(self, most_s: float = float("inf")) -> str:
        def waiting(fault: FednError, tries: int) -> None:
            assert fault is self.fault
            self.told.append(tries)

        async def main() -> str:
            return await wait_out(
                self, lambda fault: isinstance(fault, OwnFault), waiting, base_s=0.0, longest_s=0.0, most_s=most_s
            )

        return asyncio.run(main())


def test_what_passes_is_waited_for_and_each_try_is_told() -> None:
    work = Work(3, OwnFault("the store is away"))
    assert work.waited_out() == "done"
    assert work.told == [1, 2, 3]


def test_what_does_not_pass_is_raised_at_once() -> None:
    work = Work(1, PeerFault("no"))
    with pytest.raises(PeerFault):
        work.waited_out()
    assert work.told == []


def test_behind_the_limit_no_further_try_is_made() -> None:
    work = Work(5, OwnFault("the store is away"))
    with pytest.raises(OwnFault):
        work.waited_out(most_s=0.0)
    assert work.left == 4
