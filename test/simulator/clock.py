"""Virtual time: a queue of what happens when, taken one after the other on one thread.

Two things due at the same instant happen in the order in which they were asked for, so a run depends on nothing
but its seed.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count


class Alarm:
    """Something that will happen, unless it is cancelled before."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Let it not happen; nothing if it has."""
        self.action = None


class Clock:
    """Seconds since the run began, and what is still to come.

    Attributes:
        now: seconds of virtual time.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, Alarm]] = []
        self._order = count()

    def after(self, delay_s: float, action: Callable[[], None]) -> Alarm:
        """Do ``action`` in ``delay_s`` seconds."""
        alarm = Alarm(action)
        heappush(self._queue, (self.now + delay_s, next(self._order), alarm))
        return alarm

    def advance(self) -> bool:
        """Go to the next thing that is due and do it; False if nothing is."""
        while self._queue:
            at, _, alarm = heappop(self._queue)
            if alarm.action is not None:
                self.now = at
                alarm.action()
                return True
        return False
