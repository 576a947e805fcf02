"""One task owns one machine: events wait in a mailbox, each is stepped, its effects are performed in order.

Rules it keeps:

- Nothing else changes the state; ``step`` is pure and runs to its end before the next event.
- Effects are performed in the order given. When one of them fails, those behind it are not performed.
- What performing an effect returns comes next, before events that wait.
- An unexpected event, and one that a peer may not cause, changes nothing: it is logged by name and told to whoever
  delivered it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Generic, TypeVar

import structlog

from fedn_py.errors import OwnFault, PeerFault
from fedn_py.protocol.machine import StartTimer, UnexpectedEvent

StateT = TypeVar("StateT")
EventT = TypeVar("EventT")
EffectT = TypeVar("EffectT")

Step = Callable[[StateT, EventT], tuple[StateT, Sequence[EffectT]]]
Perform = Callable[[EffectT], Awaitable[Iterable[EventT] | None]]

_log = structlog.get_logger("fedn_py.runtime.mailbox")


class MailboxClosed(OwnFault):
    """The task that owned this machine has ended, so it takes no more events."""


class Mailbox(Generic[StateT, EventT, EffectT]):
    """Owns one machine's state and runs it.

    Args:
        name: for the log.
        state: where the machine begins.
        step: the machine; raises UnexpectedEvent for what it has no answer to, another PeerFault for what it refuses.
        perform: does one effect and returns the events that come of it, if any. Long work belongs in ``spawn``.
            Effects of class StartTimer are done here and never reach it.
        on_fault: told of every other exception of ``step``, ``perform`` and spawned work; without it, ``run`` ends by
            raising the first.
    """

    def __init__(
        self,
        name: str,
        state: StateT,
        step: Step[StateT, EventT, EffectT],
        perform: Perform[EffectT, EventT],
        *,
        on_fault: Callable[[Exception], None] | None = None,
    ) -> None:
        self._name = name
        self._state = state
        self._step = step
        self._perform = perform
        self._on_fault = on_fault
        self._waiting: deque[tuple[EventT, asyncio.Future[None] | None]] = deque()
        self._wake = asyncio.Event()
        self._changed: asyncio.Future[StateT] | None = None
        self._timers: set[asyncio.TimerHandle] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._fault: Exception | None = None
        self._closed = False
        self._loop = asyncio.get_running_loop()

    @property
    def state(self) -> StateT:
        """The machine's present state."""
        return self._state

    def post(self, event: EventT) -> None:
        """Put an event at the end of the queue; from the loop's own thread. Nothing happens once it is closed."""
        if not self._closed:
            self._waiting.append((event, None))
            self._wake.set()

    async def deliver(self, event: EventT) -> None:
        """Put an event at the end of the queue and wait until its effects are performed.

        Raises:
            UnexpectedEvent: the machine has no answer to it; nothing has changed.
            PeerFault: the machine refuses it; nothing has changed.
            MailboxClosed: the machine takes no more events.
            Exception: what performing its effects raised.
        """
        if self._closed:
            raise MailboxClosed(f"{self._name} has stopped")
        answer: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((event, answer))
        self._wake.set()
        await answer

    def spawn(self, work: Coroutine[Any, Any, Iterable[EventT] | None]) -> asyncio.Task[None]:
        """Do long work beside the machine; the events that it returns are posted."""
        task = self._loop.create_task(self._spawned(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Cancelled before it began, nobody has awaited it; otherwise it has ended, and this does nothing.
        task.add_done_callback(lambda _: work.close())
        return task

    def start_timer(self, after_s: float, event: EventT) -> asyncio.TimerHandle:
        """Post an event after a while, unless the handle is cancelled or the mailbox closed before."""

        def ring() -> None:
            self._timers.discard(handle)
            self.post(event)

        handle = self._loop.call_later(after_s, ring)
        self._timers.add(handle)
        return handle

    async def changed(self) -> StateT:
        """Wait for the next change of state and return the new one; raises MailboxClosed when there is none."""
        if self._closed:
            raise MailboxClosed(f"{self._name} has stopped")
        if self._changed is None:
            self._changed = self._loop.create_future()
        return await asyncio.shield(self._changed)

    async def until(self, reached: Callable[[StateT], bool]) -> StateT:
        """Wait for a state that satisfies ``reached`` (perhaps the present one) and return it."""
        while not reached(self._state):
            # The state may have moved on again before this task runs, so the present one is asked, not the one told.
            await self.changed()
        return self._state

    async def run(self) -> None:
        """Take events until ``close``; raises what ``on_fault`` was not there to take."""
        try:
            while not self._closed:
                while self._waiting and not self._closed:
                    event, answer = self._waiting.popleft()
                    await self._take(event, answer)
                if self._fault is not None:
                    raise self._fault
                self._wake.clear()
                if not self._waiting and not self._closed:
                    await self._wake.wait()
        finally:
            await self._end()

    def close(self) -> None:
        """End ``run`` after the event at hand; timers, spawned work and waiting events are dropped."""
        self._closed = True
        self._wake.set()

    async def _take(self, event: EventT, answer: asyncio.Future[None] | None) -> None:
        try:
            state, effects = self._step(self._state, event)
        except UnexpectedEvent as unexpected:
            _log.info("unexpected event", machine=self._name, reason=unexpected.message)
            _fail(answer, unexpected)
            return
        except PeerFault as refused:
            _log.info("refused event", machine=self._name, reason=f"{refused.code}: {refused.message}")
            _fail(answer, refused)
            return
        except Exception as fault:
            _fail(answer, fault)
            self._report(fault)
            return
        self._enter(state)
        try:
            follow_ups = [next_event for effect in effects for next_event in await self._do(effect)]
        except Exception as fault:
            _fail(answer, fault)
            self._report(fault)
        else:
            self._waiting.extendleft((follow_up, None) for follow_up in reversed(follow_ups))
            if answer is not None and not answer.done():
                answer.set_result(None)

    async def _do(self, effect: EffectT) -> Iterable[EventT]:
        if isinstance(effect, StartTimer):
            self.start_timer(effect.after_s, effect.event)
            return ()
        return await self._perform(effect) or ()

    def _enter(self, state: StateT) -> None:
        if state is self._state:
            return
        self._state = state
        if self._changed is not None:
            self._changed.set_result(state)
            self._changed = None

    async def _spawned(self, work: Coroutine[Any, Any, Iterable[EventT] | None]) -> None:
        try:
            for event in await work or ():
                self.post(event)
        except Exception as fault:
            self._report(fault)

    def _report(self, fault: Exception) -> None:
        if self._on_fault is not None:
            self._on_fault(fault)
        elif self._fault is None:
            self._fault = fault
            self._wake.set()

    async def _end(self) -> None:
        self._closed = True
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        stopped = MailboxClosed(f"{self._name} has stopped")
        while self._waiting:
            _fail(self._waiting.popleft()[1], stopped)
        if self._changed is not None:
            self._changed.set_exception(stopped)
            self._changed.exception()  # Nobody need be waiting; without this it is logged as never retrieved.
            self._changed = None


def _fail(answer: asyncio.Future[None] | None, fault: Exception) -> None:
    if answer is not None and not answer.done():
        answer.set_exception(fault)
