"""Who waits for a turn with a call open, and who waits without one until it is called: an open call is dear."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from fedn_py.errors import PeerFault

MOST_IN_LINE = 128
"""Calls that wait at once, of some 27 KiB each: as many transfers as keep quick ones busy for a second or two, in which
busy clients hear that they are called."""

_COMES_WITHIN_S = 10.0
"""Who was called and has not come after so long keeps no place for itself."""

_FEW_PART = 8
"""Where no more than this part of the line is taken, hardly any call waits."""

_Transfer = tuple[str, str]
"""Whose it is, and which of theirs."""


class NotYourTurn(PeerFault):
    """Many transfers wait already; this one is called when it may wait with them, and may come by itself later."""


class Reachable:
    """The peers that can be called, and how."""

    def __init__(self) -> None:
        self._tell: dict[str, Callable[[], bool]] = {}

    @contextlib.contextmanager
    def by(self, peer: str, tell: Callable[[], bool]) -> Iterator[None]:
        """Have a peer called by this until the context ends; the newest of several ways to the same one counts.

        Args:
            tell: tells the peer, and returns whether it can be told.
        """
        self._tell[peer] = tell
        try:
            yield
        finally:
            if self._tell.get(peer) is tell:
                del self._tell[peer]

    def call(self, peer: str) -> bool:
        """Call a peer; return whether it can be told."""
        tell = self._tell.get(peer)
        return tell is not None and tell()


class WaitingLine:
    """A line of calls that is bounded, and transfers outside of it, called in the order in which they came.

    A place is kept for one that was called, so that no newcomer takes it; but not where hardly any call waits: what
    was called may have nothing to bring any more.

    For one event loop.

    Args:
        call: tells a peer to come with what was refused; returns whether it is there to be told.
        most: how many may be in line.
        comes_within_s: for so long a place is kept.
    """

    def __init__(
        self, call: Callable[[str], bool], *, most: int = MOST_IN_LINE, comes_within_s: float = _COMES_WITHIN_S
    ) -> None:
        self._call, self._most, self._comes_within_s = call, most, comes_within_s
        self._few = max(1, most // _FEW_PART)
        self._in_line = 0
        self._outside: dict[_Transfer, None] = {}
        self._called: dict[_Transfer, asyncio.TimerHandle] = {}

    @property
    def in_line(self) -> int:
        """How many calls wait."""
        return self._in_line

    @property
    def outside(self) -> int:
        """How many transfers wait to be called."""
        return len(self._outside)

    @contextlib.contextmanager
    def place(self, peer: str, what: str) -> Iterator[None]:
        """Stand in line until the context ends.

        Args:
            peer: whose transfer it is.
            what: which of its transfers.

        Raises:
            NotYourTurn: there is no place; the peer is called when there is one.
        """
        self._enter((peer, what))
        try:
            yield
        finally:
            self._in_line -= 1
            self._call_next()

    def _enter(self, transfer: _Transfer) -> None:
        if transfer in self._called:
            self._called.pop(transfer).cancel()
            has_place = self._in_line < self._most
        else:
            has_place = self._has_place or self._in_line < self._few
        if not has_place:
            self._outside.setdefault(transfer)  # what was there before keeps its place
            raise NotYourTurn(
                f"{self._in_line} transfers wait for their turn, and others to be called",
                remedy="Come when called, or after a while.",
            )
        self._outside.pop(transfer, None)
        self._in_line += 1

    @property
    def _has_place(self) -> bool:
        return self._in_line + len(self._called) < self._most

    def _call_next(self) -> None:
        while self._outside and self._has_place:
            transfer = next(iter(self._outside))
            del self._outside[transfer]
            if self._call(transfer[0]):
                loop = asyncio.get_running_loop()
                self._called[transfer] = loop.call_later(self._comes_within_s, self._give_up, transfer)

    def _give_up(self, transfer: _Transfer) -> None:
        del self._called[transfer]
        self._call_next()
