"""How many transfers move at once: few where they are quick, so that buffers are few, and more where they are slow."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fedn_py.transport.chunks import CHUNK_BYTES
from fedn_py.transport.waiting_line import WaitingLine

QUICK = 4
"""So many quick transfers keep a machine busy; more of them only fill buffers, of some MiB each."""

_LOOKED_AT_EVERY_S = 0.05
_QUICK_BYTES_A_SECOND = 16 * 1024 * 1024
_LONGEST_WAIT_S = 5.0
_SEEN_AGAIN_EVERY = 20
"""Looks until the next one at a transfer without a turn: there may be many."""

_MOST_AT_ONCE = 12 * CHUNK_BYTES
"""What transfers should have on their way at once, all together."""

_SHARED_BY = 8
"""One takes so little of what the others leave: few have a whole chunk each, and of many none is left without."""

_SHARED_BY_QUICK = 2

_LEAST_AT_ONCE = 16 * 1024
"""A smaller piece would hold less than what its connection holds anyhow."""

_PROVED_BYTES = 16 * CHUNK_BYTES
"""The buffers of the machines between may take the first some MiB at once, however slow the line is."""


class Turn:
    """The turn of one transfer.

    Attributes:
        moved_bytes: all that have moved.
        is_over: whether it was given on, or has ended.
        is_slow: whether little had moved when it was looked at last.
        portion: how many bytes it has on its way at once.
    """

    def __init__(self, turns: "Turns", looked_at_every_s: float) -> None:
        self._turns, self._every_s = turns, looked_at_every_s
        self.moved_bytes = self._moved_before = 0
        self.is_over = self.is_slow = False
        self.portion = 0
        self._since = asyncio.get_running_loop().time()
        self._look_in(self._every_s)

    def moved(self, size: int) -> None:
        """Learn that so many bytes have moved."""
        self.moved_bytes += size

    def give_on(self) -> None:
        """Let another transfer have it, which is done once; this one goes on without it."""
        if not self.is_over:
            self.is_over = True
            self._turns.take_back()

    def take_portion(self, most: int, least: int = _LEAST_AT_ONCE) -> int:
        """Return how many bytes, of so many, it should have on its way at once from now on.

        All of them while few are under way, and a chunk divided evenly where not. One that has shown that it is quick
        takes half of what the others leave, and any other an eighth.

        Args:
            most: the rest of a chunk.
            least: it has so many, or all, whatever the others have.
        """
        has_shown = self.moved_bytes >= _PROVED_BYTES and not self.is_slow
        left = _MOST_AT_ONCE - (self._turns.on_the_way - self.portion)
        share = max(least, left // (_SHARED_BY_QUICK if has_shown else _SHARED_BY))
        self._set_portion(most if share >= most else 1 << (share.bit_length() - 1))
        return self.portion

    def end(self) -> None:
        """End the transfer."""
        self.give_on()
        self._next_look.cancel()
        self._set_portion(0)

    def _set_portion(self, size: int) -> None:
        self._turns.on_the_way += size - self.portion
        self.portion = size

    def _look_in(self, seconds: float) -> None:
        self._moved_before = self.moved_bytes
        self._next_look = asyncio.get_running_loop().call_later(seconds, self._look, seconds)

    def _look(self, seconds: float) -> None:
        self.is_slow = self.moved_bytes - self._moved_before <= _QUICK_BYTES_A_SECOND * seconds
        held_s = asyncio.get_running_loop().time() - self._since
        if self.is_slow or held_s >= self._turns.longest_s:
            self.give_on()
        self._look_in(self._every_s * (_SEEN_AGAIN_EVERY if self.is_over else 1))


class Turns:
    """Turns of transfers.

    A quick one keeps its turn, mostly to its end: more at once would get no further on this machine, and the memory
    that one has used is still at hand for the next. One that is slow gives its turn on and goes on without it: then it
    is its peer, or the network between, that it waits for, and the machine is free for others. Where many wait, quick
    ones give theirs on sooner, so that the last of them begins after some seconds.

    Args:
        quick: how many have a turn at once.
        most: how many are under way at once, slow ones included; None for any number.
        line: where they wait; None where any number may.
        looked_at_every_s: how often it is looked at whether one is slow.
        longest_wait_s: after so long the last of those who wait should have a turn.

    Attributes:
        on_the_way: the portions of all together, in bytes.
    """

    def __init__(
        self,
        quick: int = QUICK,
        *,
        most: int | None = None,
        line: WaitingLine | None = None,
        looked_at_every_s: float = _LOOKED_AT_EVERY_S,
        longest_wait_s: float = _LONGEST_WAIT_S,
    ) -> None:
        self._quick = asyncio.Semaphore(quick)
        self._n_quick, self._n_waiting, self.on_the_way = quick, 0, 0
        self._line = line
        self._all = asyncio.Semaphore(most) if most is not None else contextlib.nullcontext()
        self._every_s, self._longest_wait_s = looked_at_every_s, longest_wait_s

    @property
    def longest_s(self) -> float:
        """How long a turn may be kept, as things are now."""
        waiting = self._n_waiting + (0 if self._line is None else self._line.outside)
        return self._longest_wait_s * self._n_quick / max(1, waiting)

    @contextlib.asynccontextmanager
    async def taken(self, peer: str = "", what: str = "") -> AsyncIterator[Turn]:
        """Wait for a turn, and have it for the time of a transfer or until others should have it.

        Args:
            peer: whose transfer it is.
            what: which of its transfers.

        Raises:
            NotYourTurn: too many wait.
        """
        async with contextlib.AsyncExitStack() as held:
            with contextlib.nullcontext() if self._line is None else self._line.place(peer, what):
                await held.enter_async_context(self._all)
                self._n_waiting += 1
                try:
                    await self._quick.acquire()
                finally:
                    self._n_waiting -= 1
            turn = Turn(self, self._every_s)
            try:
                yield turn
            finally:
                turn.end()

    def take_back(self) -> None:
        """Let the next one have a turn."""
        self._quick.release()
