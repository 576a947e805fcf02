"""How many transfers move at once: few where they are quick, so that buffers are few, and more where they are slow."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fedn_py.transport.chunks import CHUNK_BYTES

QUICK = 4
"""So many quick transfers keep a machine busy; more of them only fill buffers, of some MiB each."""

_LOOKED_AT_EVERY_S = 0.05
_QUICK_BYTES_A_SECOND = 16 * 1024 * 1024
_LONGEST_WAIT_S = 5.0
_SILENT_S = 5.0
"""Who has not begun after so long is slow like any other."""

_SLOW_BYTES = 8 * CHUNK_BYTES
"""What slow transfers may have on their way at once, all together."""

_LEAST_AT_ONCE = 16 * 1024
"""A smaller piece would hold less than what its connection holds anyhow."""

_PROVED_BYTES = 16 * CHUNK_BYTES
"""The buffers of the machines between may take the first some MiB at once, however slow the line is."""


class Turn:
    """The turn of one transfer.

    Attributes:
        moved_bytes: all that have moved.
        is_over: whether it was given on, or has ended.
    """

    def __init__(self, turns: "Turns", looked_at_every_s: float) -> None:
        self._turns, self._every_s = turns, looked_at_every_s
        self.moved_bytes = self._moved_before = 0
        self.is_over = False
        self._since = asyncio.get_running_loop().time()
        self._go_on()

    def moved(self, size: int) -> None:
        """Learn that so many bytes have moved."""
        self.moved_bytes += size

    def end(self) -> None:
        """Keep it no longer."""
        self.is_over = True
        self._next_look.cancel()

    @property
    def held_s(self) -> float:
        """Seconds since it was taken."""
        return asyncio.get_running_loop().time() - self._since

    def _go_on(self) -> None:
        self._moved_before = self.moved_bytes
        self._next_look = asyncio.get_running_loop().call_later(self._every_s, self._look)

    def _look(self) -> None:
        is_quick = self.moved_bytes - self._moved_before > _QUICK_BYTES_A_SECOND * self._every_s
        if self._turns.may_keep(self, is_quick=is_quick):
            self._go_on()
        else:
            self._turns.give_on(self)


class Turns:
    """Turns of transfers.

    A quick one keeps its turn, mostly to its end: more at once would get no further on this machine, and the memory
    that one has used is still at hand for the next. One that is slow gives its turn on and goes on without it: then it
    is its peer, or the network between, that it waits for, and the machine is free for others. Where many wait, quick
    ones give theirs on sooner, so that the last of them begins after some seconds.

    Args:
        quick: how many have a turn at once.
        most: how many are under way at once, slow ones included; None for any number.
        most_silent: how many may go on without a turn though nothing of them has come yet; for some seconds, then they
            are slow like any other. Their peers are busy, and may all send at the same moment. None for any number.
        looked_at_every_s: how often it is looked at whether one is slow.
        longest_wait_s: after so long the last of those who wait should have a turn.
    """

    def __init__(
        self,
        quick: int = QUICK,
        *,
        most: int | None = None,
        most_silent: int | None = None,
        looked_at_every_s: float = _LOOKED_AT_EVERY_S,
        longest_wait_s: float = _LONGEST_WAIT_S,
    ) -> None:
        self._quick = asyncio.Semaphore(quick)
        self._n_quick, self._n_waiting = quick, 0
        self._all = asyncio.Semaphore(most) if most is not None else contextlib.nullcontext()
        self._most_silent = most_silent
        self._every_s, self._longest_wait_s = looked_at_every_s, longest_wait_s
        self._slow: set[Turn] = set()

    @contextlib.asynccontextmanager
    async def taken(self) -> AsyncIterator[Turn]:
        """Wait for a turn, and have it for the time of a transfer or until others should have it."""
        async with self._all:
            self._n_waiting += 1
            try:
                await self._quick.acquire()
            finally:
                self._n_waiting -= 1
            turn = Turn(self, self._every_s)
            try:
                yield turn
            finally:
                if turn in self._slow:
                    self._slow.remove(turn)
                else:
                    turn.end()
                    self._quick.release()

    def at_once(self, turn: Turn) -> int:
        """Return how many bytes a transfer should have on its way at once: a chunk, or less where many are slow.

        There, one that has its turn has to show first that it is quick.
        """
        if not turn.is_over and turn.moved_bytes >= _PROVED_BYTES:
            return CHUNK_BYTES
        return min(CHUNK_BYTES, max(_LEAST_AT_ONCE, _SLOW_BYTES // max(1, len(self._slow))))

    def may_keep(self, turn: Turn, *, is_quick: bool) -> bool:
        """Say whether a turn that was looked at stays where it is."""
        if is_quick:
            return turn.held_s < self._longest_wait_s * self._n_quick / max(1, self._n_waiting)
        if self._most_silent is None or not _is_silent(turn):
            return False
        return sum(map(_is_silent, self._slow)) >= self._most_silent

    def give_on(self, turn: Turn) -> None:
        """Let the next one have a turn; the transfer that had it is a slow one from now on."""
        turn.end()
        self._slow.add(turn)
        self._quick.release()


def _is_silent(turn: Turn) -> bool:
    return not turn.moved_bytes and turn.held_s < _SILENT_S
