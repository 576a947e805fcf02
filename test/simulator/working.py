"""Nodes with more than one machine, and work beside them that takes virtual time.

Work is a generator: it yields how many seconds it takes to go on, or the signal that it waits for, and may return
events. It stands for a task of the services, and ends with the life that began it. A coroutine of the services whose
only awaits are a simulated store's is work too (``awaited``).
"""

from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any, cast

from simulator.nodes import Node, Step

from fedn_py.errors import PeerFault


class Crashed(Exception):
    """The process at hand is gone: whatever it was about to do does not happen."""


class Signal:
    """Something that work can wait for; once it is fired, nobody waits any more."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []

    def wait(self, action: Callable[[], None]) -> None:
        """Do something when it is fired."""
        self._waiting.append(action)

    def fire(self) -> None:
        """Let everybody go on who waits."""
        waiting, self._waiting = self._waiting, []
        for action in waiting:
            action()


Work = Generator["float | Signal", None, Any]


class Pause:
    """What a simulated adapter awaits: seconds, or a signal."""

    def __init__(self, wanted: "float | Signal") -> None:
        self._wanted = wanted

    def __await__(self) -> "Generator[float | Signal, None, None]":
        yield self._wanted


def awaited(coroutine: Coroutine[Any, Any, Any]) -> Work:
    """Run a coroutine of the services as work; raises what it raises."""
    return (yield from cast("Work", coroutine.__await__()))


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


class WorkingNode(Node):
    """A node that does work beside its machine."""

    def spawn(self, work: Work, ended: Callable[[Any], None] = lambda _: None) -> None:
        """Do work beside the machines, and tell what it returned."""
        life = self.life

        def go_on() -> None:
            if not self.up or self.life != life:
                return
            try:
                wanted = next(work)
            except StopIteration as done:
                ended(done.value)
                return
            if isinstance(wanted, Signal):
                wanted.wait(lambda: self.later(0.0, go_on))
            else:
                self.later(wanted, go_on)

        go_on()

    def take(self, event: Any) -> bool:
        """Let the node's own machine answer an event; what is refused by name changes nothing."""
        try:
            taken = super().take(event)
        except PeerFault as fault:
            self.world.refused(self, event, fault)
            return False
        self.still_up()
        return taken

    def still_up(self) -> None:
        """Raise Crashed where this process is gone."""
        if not self.up:
            raise Crashed

    def perhaps_crash(self, fault: str = "crash between effects") -> None:
        """Crash now and then; raises Crashed."""
        if self.world.chaos.happens(fault):
            self.world.crash_for_a_while(self)
        self.still_up()

    def perhaps_sleep(self, fault: str) -> Work:
        """Be stopped now and then, to go on from here when the process runs again."""
        if self.world.chaos.happens(fault):
            self.world.sleep_for_a_while(self)
            yield 0.0


class Part:
    """A machine that a node owns beside its own.

    Args:
        name: for the trace.
        perform: does one effect.

    Attributes:
        state: the machine's present state.
    """

    def __init__(self, node: WorkingNode, name: str, state: Any, step: Step, perform: Callable[[Any], None]) -> None:
        self._node, self._name, self._step, self._perform = node, name, step, perform
        self._life = node.life
        self.state = state
        self.closed = False

    def __repr__(self) -> str:
        return f"{self._node!r}/{self._name}"

    def take(self, event: Any) -> None:
        """Let the machine answer an event and perform its effects.

        Raises:
            PeerFault: it is refused; nothing has changed.
            Crashed: the process was lost on the way.
        """
        if self.closed:
            return
        self.state, effects = self._step(self.state, event)
        self._node.world.part_stepped(self, self._node, event, effects)  # type: ignore[attr-defined]
        self.perform(effects)

    def perform(self, effects: Sequence[Any]) -> None:
        """Perform effects in their order."""
        for effect in effects:
            self._node.perhaps_crash()
            self._perform(effect)
        if effects:
            self._node.perhaps_crash()

    def offer(self, event: Any) -> bool:
        """Let the machine answer an event if it likes; False where it refuses."""
        try:
            self.take(event)
        except PeerFault as fault:
            self._node.world.refused(self, event, fault)
            return False
        return True

    def later(self, after_s: float, event: Any) -> None:
        """Let the machine hear of an event in a while."""
        self._node.later(after_s, lambda: self.offer(event))
