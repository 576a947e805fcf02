"""What lies between the nodes: ordered streams that break, and calls whose request or answer may be lost.

A stream keeps its order, as gRPC's do; between streams anything may overtake anything. When a stream breaks, all
that is in flight on it is lost and each end notices in its own time: for a while it may be open on one side only.
A message may come a second time, later, which stands for every kind of repeated delivery.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fedn_py.protocol.messages import AttachedClients, ClientHello, ClientWelcome, CombinerHello

if TYPE_CHECKING:
    from simulator.nodes import Node
    from simulator.world import World

SAID_ONCE = (AttachedClients, ClientHello, ClientWelcome, CombinerHello)
"""What tells of the present moment and would be false later: a stream delivers it in order, once."""


class Stream:
    """One bidirectional stream between the present lives of two nodes.

    Attributes:
        listener: the node that was dialled.
    """

    def __init__(self, world: "World", dialler: "Node", listener: "Node") -> None:
        self.dialler, self.listener = dialler, listener
        self._world = world
        self._lives = {dialler: dialler.life, listener: listener.life}
        self._free_at = {dialler: 0.0, listener: 0.0}
        self._told = {dialler: False, listener: False}
        self.broken = False

    def other(self, node: "Node") -> "Node":
        """Return the node at the other end."""
        return self.listener if node is self.dialler else self.dialler

    def send(self, sender: "Node", message: Any) -> None:
        """Send to the other end, behind all that was sent before."""
        world, receiver = self._world, self.other(sender)
        at = max(world.clock.now + world.chaos.latency_s(), self._free_at[receiver])
        self._free_at[receiver] = at
        world.clock.after(at - world.clock.now, lambda: self._deliver(receiver, message))
        if not isinstance(message, SAID_ONCE) and world.chaos.happens("message repeated"):
            world.clock.after(
                at - world.clock.now + world.chaos.uniform(0, 10), lambda: self._deliver(receiver, message)
            )

    def break_off(self) -> None:
        """Lose all that is in flight; both ends notice, one perhaps long before the other."""
        if self.broken:
            return
        self.broken = True
        self._world.forget_stream(self)
        for end in (self.dialler, self.listener):
            self._world.clock.after(self._world.chaos.notice_s(), lambda end=end: self._tell_ended(end))

    def _is_here(self, end: "Node") -> bool:
        return end.up and end.life == self._lives[end]

    def _deliver(self, receiver: "Node", message: Any) -> None:
        if not self.broken and self._is_here(receiver):
            receiver.when_awake(lambda: None if self.broken else receiver.heard(self, message))

    def _tell_ended(self, end: "Node") -> None:
        if self._is_here(end) and not self._told[end]:
            self._told[end] = True
            end.when_awake(lambda: end.stream_ended(self))


class Call:
    """One call with one answer; whoever asks learns the answer, or that none came, never both.

    Args:
        ask: does the call at the callee; it is given what answers it.
        answered: told of the answer.
        broken: told that there is none.
    """

    def __init__(
        self,
        world: "World",
        caller: "Node",
        callee: "Node",
        *,
        ask: Callable[[Callable[[Any], None]], None],
        answered: Callable[[Any], None],
        broken: Callable[[], None],
    ) -> None:
        self._world, self._answered = world, answered
        self._caller, self._callee, self._lives = caller, callee, (caller.life, callee.life)
        self._ended = False
        self._alarm = caller.later(world.chaos.uniform(5, 15), lambda: self._end(broken))
        if callee.up and not world.chaos.happens("request lost"):
            world.clock.after(world.chaos.latency_s(), lambda: self._ask(ask))

    def forget(self) -> None:
        """Want no answer any more; the callee may do its work all the same."""
        self._ended = True
        self._alarm.cancel()

    def _ask(self, ask: Callable[[Callable[[Any], None]], None]) -> None:
        if self._callee.up and self._callee.life == self._lives[1]:
            self._callee.when_awake(lambda: ask(self._answer))

    def _answer(self, answer: Any) -> None:
        if not self._world.chaos.happens("answer lost"):
            self._world.clock.after(self._world.chaos.latency_s(), lambda: self._end(lambda: self._answered(answer)))

    def _end(self, tell: Callable[[], None]) -> None:
        if not self._ended and self._caller.up and self._caller.life == self._lives[0]:
            self.forget()
            self._caller.when_awake(tell)
