"""A stream at its server: who is silent is gone, who is idle says that it is there, and talk costs no timers."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from fuzz.quiet_loop import run

from fedn_py.transport.streams import END, Outbox, PeerSilent, converse


class Wire:
    """What a message is on the wire of a test."""

    def __init__(self, text: str) -> None:
        self.text = text

    def ByteSize(self) -> int:  # noqa: N802 - protobuf's name
        return len(self.text)


async def nothing(_: str) -> None:
    """Hear a message and do nothing about it."""


async def nowhere(_: Wire) -> None:
    """Write a message that nobody looks at."""


async def a_stream(
    read: Callable[[], Awaitable[object]],
    *,
    outbox: Outbox[str] | None = None,
    write: Callable[[Wire], Awaitable[None]] = nowhere,
    said: Callable[[str], Awaitable[None]] = nothing,
) -> None:
    """Serve a stream whose peer is gone after 30 s of silence, and hears something every 10 s."""
    await converse(
        peer="client anna",
        read=read,
        write=write,
        decode=str,
        encode=Wire,
        outbox=outbox or Outbox("client anna"),
        said=said,
        silence_s=30.0,
        idle_s=10.0,
        idle_message="here",
    )


def test_a_peer_that_says_something_in_time_is_not_silent_until_it_says_nothing_more() -> None:
    async def story() -> None:
        pauses = iter([25.0, 29.0, 25.0])

        async def read() -> str:
            await asyncio.sleep(next(pauses, 3_600.0))
            return "heard"

        with pytest.raises(PeerSilent):
            await a_stream(read)
        assert asyncio.get_running_loop().time() == pytest.approx(25 + 29 + 25 + 30)

    run(story())


def test_a_peer_is_not_silent_while_it_is_this_side_that_takes_its_time() -> None:
    async def story() -> None:
        coming = iter(["slow"])

        async def read() -> object:
            return next(coming, END)

        async def said(_: str) -> None:
            await asyncio.sleep(100.0)

        await a_stream(read, said=said)

    run(story())


def test_what_is_said_when_there_is_nothing_to_say_waits_for_its_time_since_the_last_message() -> None:
    async def story() -> None:
        outbox: Outbox[str] = Outbox("client anna")
        written: list[tuple[float, str]] = []

        async def read() -> object:
            await asyncio.sleep(6.0)
            outbox.send("task")
            await asyncio.sleep(21.0)
            return END

        async def write(wire: Wire) -> None:
            written.append((asyncio.get_running_loop().time(), wire.text))

        await a_stream(read, outbox=outbox, write=write)
        assert [(round(instant), text) for instant, text in written] == [(6, "task"), (16, "here"), (26, "here")]

    run(story())


def test_a_peer_that_does_not_read_is_not_told_again_and_again_that_we_are_here() -> None:
    async def story() -> None:
        outbox: Outbox[str] = Outbox("client anna", capacity=2)
        never = asyncio.Event()

        async def read() -> object:
            await asyncio.sleep(25.0)
            return "heard"

        async def write(_: object) -> None:
            await never.wait()

        talk = asyncio.ensure_future(a_stream(read, outbox=outbox, write=write))
        await asyncio.sleep(1_000.0)
        assert not talk.done()
        talk.cancel()

    run(story())
