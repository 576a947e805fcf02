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


class NotYourTurn(PeerFault):
    """Many transfers wait already; this one is called when it may wait with them, and may come by itself later."""


class Reachable:
    """The peers that can be called, and how."""

    def __init__(self) -> None:
        self._tell: dict[str, Callable[[], None]] = {}

    @contextlib.contextmanager
    def by(self, peer: str, tell: Callable[[], None]) -> Iterator[None]:
        """Have a peer called by this until the context ends; the newest of several ways to the same one counts."""
        self._tell[peer] = tell
        try:
            yield
        finally:
            if self._tell.get(peer) is tell:
                del self._tell[peer]

    def call(self, peer: str) -> bool:
        """Call a peer; return whether it can be."""
        tell = self._tell.get(peer)
        if tell is not None:
            tell()
        return tell is not None


class WaitingLine:
    """A line of calls that is bounded, and the peers outside of it, who are called in the order in which they came.

    For one event loop.

    Args:
        call: tells a peer to come; returns whether it is there to be told.
        most: how many may be in line.
        comes_within_s: for so long a place is kept for one that was called.
    """

    def __init__(
        self, call: Callable[[str], bool], *, most: int = MOST_IN_LINE, comes_within_s: float = _COMES_WITHIN_S
    ) -> None:
        self._call, self._most, self._comes_within_s = call, most, comes_within_s
        self._in_line = 0
        self._outside: dict[str, None] = {}
        self._called: dict[str, asyncio.TimerHandle] = {}

    @property
    def in_line(self) -> int:
        """How many calls wait."""
        return self._in_line

    @property
    def outside(self) -> int:
        """How many peers wait to be called."""
        return len(self._outside)

    @contextlib.contextmanager
    def place(self, peer: str) -> Iterator[None]:
        """Stand in line until the context ends.

        Raises:
            NotYourTurn: there is no place; the peer is called when there is one.
        """
        self._enter(peer)
        try:
            yield
        finally:
            self._in_line -= 1
            self._call_next()

    def _enter(self, peer: str) -> None:
        if peer in self._called:
            self._called.pop(peer).cancel()
        elif not self._has_place:
            self._outside.setdefault(peer)  # who was there before keeps its place
            raise NotYourTurn(
                f"{self._most} transfers wait for their turn, and others to be called",
                remedy="Come when called, or after a while.",
            )
        self._outside.pop(peer, None)
        self._in_line += 1

    @property
    def _has_place(self) -> bool:
        return self._in_line + len(self._called) < self._most

    def _call_next(self) -> None:
        while self._outside and self._has_place:
            peer = next(iter(self._outside))
            del self._outside[peer]
            if self._call(peer):
                loop = asyncio.get_running_loop()
                self._called[peer] = loop.call_later(self._comes_within_s, self._give_up, peer)

    def _give_up(self, peer: str) -> None:
        del self._called[peer]
        self._call_next()
