"""A node: one process that owns one machine and performs its effects, and may be killed at any moment.

What a node does beside its machine follows the services: it decides nothing about a round.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from simulator.clock import Alarm
from simulator.network import Stream

from fedn_py.protocol.machine import StartTimer, UnexpectedEvent

if TYPE_CHECKING:
    from simulator.world import World

Step = Callable[[Any, Any], tuple[Any, Sequence[Any]]]


class Node:
    """What reducer, combiners and clients have in common.

    Attributes:
        state: the machine's present state.
        life: counts the lives of the process; what was begun in an earlier one never reaches a later one.
        up: the process exists, though it may be asleep.
        asleep: what waits for a process that is stopped and keeps its memory (SIGSTOP); None while it runs.
        rate: how many seconds its own clocks count in one of the world's.
    """

    def __init__(self, world: "World", name: str, step: Step) -> None:
        self.world, self.name = world, name
        self._step = step
        self.state: Any = None
        self.life = 0
        self.up = False
        self.asleep: list[Callable[[], None]] | None = None
        self.rate, self.wall_offset_s = world.chaos.clock_of(self)

    def __repr__(self) -> str:
        return self.name

    def later(self, delay_s: float, action: Callable[[], None]) -> Alarm:
        """Do something in a while by this node's own clock, if this life lasts."""
        life = self.life

        def act() -> None:
            if self.up and self.life == life:
                self.when_awake(action)

        return self.world.clock.after(delay_s / self.rate, act)

    def monotonic(self) -> float:
        """Return what this node's own clock says; it goes on while the process sleeps."""
        return self.world.clock.now * self.rate

    def wall(self) -> float:
        """Return what this node takes for the time of the day."""
        return self.monotonic() + self.wall_offset_s

    def when_awake(self, action: Callable[[], None]) -> None:
        """Do something now, or when the process runs again."""
        if self.asleep is None:
            action()
        else:
            life = self.life
            self.asleep.append(lambda: action() if self.up and self.life == life else None)

    def sleep(self) -> None:
        """Stop; memory, streams and what is on its way stay."""
        self.asleep = []

    def wake(self) -> None:
        """Go on where it was: all that came in the meantime is there now."""
        waiting, self.asleep = self.asleep or [], None
        for action in waiting:
            self.world.clock.after(0.0, lambda action=action: self.when_awake(action))  # type: ignore[misc]

    def start(self) -> None:
        """Begin a life with nothing in memory."""
        self.life += 1
        self.up, self.asleep = True, None
        self.begin()

    def crash(self) -> None:
        """Lose everything that is in memory; streams break."""
        self.up, self.asleep = False, None
        for stream in [stream for stream in self.world.streams if self in (stream.dialler, stream.listener)]:
            stream.break_off()

    def take(self, event: Any) -> bool:
        """Let the machine answer an event and perform its effects; False if the event was unexpected."""
        before = self.state
        try:
            after, effects = self._step(before, event)
        except UnexpectedEvent as unexpected:
            self.world.unexpected(self, event, unexpected)
            return False
        self.state = after
        self.world.stepped(self, before, event, effects)
        for effect in effects:
            if self.up and self.world.chaos.happens("crash between effects"):
                self.world.crash_for_a_while(self)
            if not self.up:
                break
            if isinstance(effect, StartTimer):
                self.later(effect.after_s, lambda event=effect.event: self.take(event))
            else:
                self.perform(effect)
        if effects and self.up and self.world.chaos.happens("crash between effects"):
            self.world.crash_for_a_while(self)
        return True

    # ---- what each role says for itself

    def begin(self) -> None:
        """Begin a life."""
        raise NotImplementedError

    def perform(self, effect: Any) -> None:
        """Do one effect."""
        raise NotImplementedError

    def heard(self, stream: Stream, message: Any) -> None:
        """Take a message from a stream."""
        raise NotImplementedError

    def stream_ended(self, stream: Stream) -> None:
        """Notice that a stream has ended."""
        raise NotImplementedError
