import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from fedn_py.errors import PeerFault
from fedn_py.protocol.machine import StartTimer, UnexpectedEvent
from fedn_py.runtime.mailbox import Mailbox, MailboxClosed

Effect = str | StartTimer[str]
Box = Mailbox[tuple[str, ...], str, Effect]


def step(state: tuple[str, ...], event: str) -> tuple[tuple[str, ...], list[Effect]]:
    """Remember every event; words make effects."""
    if event == "nonsense":
        raise UnexpectedEvent(state, event)
    if event == "forged":
        raise PeerFault(event)
    if event == "broken":
        raise ZeroDivisionError(event)
    if event == "later":
        return (*state, event), [StartTimer(0.0, "rang")]
    if event.startswith("do "):
        return (*state, event), list(event.removeprefix("do ").split())
    return (*state, event), []


@dataclass
class Performed:
    effects: list[str]
    outcome: Callable[[str], Iterable[str]] = lambda effect: ()

    async def __call__(self, effect: Effect) -> Iterable[str]:
        assert isinstance(effect, str)
        self.effects.append(effect)
        return self.outcome(effect)


def run(story: Callable[[Box, Performed], Coroutine[Any, Any, None]], **options: Any) -> Performed:
    performed = Performed([])

    async def main() -> None:
        box: Box = Mailbox("machine", (), step, performed, **options)
        task = asyncio.create_task(box.run())
        try:
            await asyncio.wait_for(story(box, performed), 20)
        finally:
            box.close()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    return performed


def test_events_are_taken_one_by_one_in_their_order() -> None:
    async def story(box: Box, _: Performed) -> None:
        for event in ("a", "b", "c"):
            box.post(event)
        assert await box.until(lambda state: len(state) == 3) == ("a", "b", "c")

    run(story)


def test_effects_are_performed_in_the_order_given_before_a_delivery_returns() -> None:
    async def story(box: Box, performed: Performed) -> None:
        await box.deliver("do save send tell")
        assert performed.effects == ["save", "send", "tell"]

    run(story)


def test_what_comes_of_an_effect_is_the_next_event() -> None:
    async def story(box: Box, performed: Performed) -> None:
        performed.outcome = lambda effect: [f"{effect}d"]
        box.post("do save close")
        box.post("waiting")
        await box.until(lambda state: len(state) == 4)
        assert box.state == ("do save close", "saved", "closed", "waiting")

    run(story)


def test_an_effect_that_fails_keeps_those_behind_it_from_being_performed() -> None:
    faults: list[Exception] = []

    def fail(effect: str) -> Iterable[str]:
        if effect == "save":
            raise OSError("no space left")
        return ()

    async def story(box: Box, performed: Performed) -> None:
        performed.outcome = fail
        with pytest.raises(OSError, match="no space"):
            await box.deliver("do save send")
        assert performed.effects == ["save"]
        await box.deliver("do on")

    run(story, on_fault=faults.append)
    assert [str(fault) for fault in faults] == ["no space left"]


def test_what_a_peer_may_not_cause_changes_nothing_and_ends_nothing() -> None:
    async def story(box: Box, _: Performed) -> None:
        with pytest.raises(PeerFault, match="forged"):
            await box.deliver("forged")
        box.post("forged")
        await box.deliver("a")
        assert box.state == ("a",)

    run(story)


def test_an_unexpected_event_changes_nothing_and_is_told_to_who_delivered_it() -> None:
    async def story(box: Box, _: Performed) -> None:
        with pytest.raises(UnexpectedEvent):
            await box.deliver("nonsense")
        box.post("nonsense")
        await box.deliver("a")
        assert box.state == ("a",)

    run(story)


def test_a_fault_of_the_machine_ends_the_task_when_nobody_takes_it() -> None:
    async def main() -> None:
        box: Box = Mailbox("machine", (), step, Performed([]))
        box.post("broken")
        with pytest.raises(ZeroDivisionError):
            await box.run()
        with pytest.raises(MailboxClosed):
            await box.deliver("a")

    asyncio.run(main())


def test_spawned_work_runs_beside_the_machine_and_posts_what_it_returns() -> None:
    async def story(box: Box, _: Performed) -> None:
        finish = asyncio.Event()

        async def work() -> list[str]:
            await finish.wait()
            return ["done"]

        box.spawn(work())
        await box.deliver("meanwhile")
        finish.set()
        assert await box.until(lambda state: "done" in state) == ("meanwhile", "done")

    run(story)


def test_a_fault_of_spawned_work_is_told() -> None:
    async def main() -> None:
        box: Box = Mailbox("machine", (), step, Performed([]))

        async def work() -> list[str]:
            raise OSError("gone")

        box.spawn(work())
        with pytest.raises(OSError, match="gone"):
            await box.run()

    asyncio.run(main())


def test_a_timer_posts_its_event() -> None:
    async def story(box: Box, performed: Performed) -> None:
        box.post("later")
        assert await box.until(lambda state: len(state) == 2) == ("later", "rang")
        assert performed.effects == []

    run(story)


def test_a_closed_mailbox_drops_its_timers_work_and_waiting_events() -> None:
    async def main() -> None:
        box: Box = Mailbox("machine", (), step, Performed([]))
        running = asyncio.create_task(box.run())
        cancelled = asyncio.Event()

        async def work() -> list[str]:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            return ["never"]

        box.spawn(work())
        timer = box.start_timer(3600, "never")
        await box.deliver("a")
        waiting = asyncio.create_task(box.changed())
        await asyncio.sleep(0)
        box.close()
        await running
        assert cancelled.is_set()
        assert timer.cancelled()
        with pytest.raises(MailboxClosed):
            await waiting
        box.post("b")
        assert box.state == ("a",)

    asyncio.run(main())


def test_spawned_work_that_is_cancelled_before_it_begins_is_put_away(recwarn: pytest.WarningsRecorder) -> None:
    async def work() -> None:
        raise AssertionError("it never begins")

    async def story(box: Box, _: Performed) -> None:
        task = box.spawn(work())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(story)
    gc.collect()
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]
