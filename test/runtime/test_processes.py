import asyncio
import io
import os
import signal

import pytest

from fedn_py.errors import OwnFault
from fedn_py.runtime.processes import DidNotStop, explain, run_until_stopped


def test_a_signal_asks_the_process_to_stop_and_it_ends_in_good_order() -> None:
    ended = []

    async def main(stop: asyncio.Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        ended.append("in good order")

    run_until_stopped(main)
    assert ended == ["in good order"]


def test_a_second_signal_cuts_it_off() -> None:
    async def main(stop: asyncio.Event) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await stop.wait()
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

    with pytest.raises(DidNotStop):
        run_until_stopped(main, grace_s=60)


def test_a_process_that_does_not_stop_in_time_is_cut_off() -> None:
    async def main(stop: asyncio.Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    with pytest.raises(DidNotStop):
        run_until_stopped(main, grace_s=0.01)


def test_what_main_raises_comes_out() -> None:
    async def main(stop: asyncio.Event) -> None:
        raise OwnFault("the disk is full")

    with pytest.raises(OwnFault, match="disk"):
        run_until_stopped(main)


def test_a_fault_is_explained_with_its_remedy_and_without_a_traceback() -> None:
    stream = io.StringIO()
    explain(OwnFault("the disk is full", remedy="Make room."), stream, verbose=False)
    assert stream.getvalue() == "error: the disk is full\n  what to do: Make room.\n"


def test_the_traceback_is_there_for_those_who_ask() -> None:
    stream = io.StringIO()
    try:
        raise ZeroDivisionError("a bug")
    except ZeroDivisionError as fault:
        explain(fault, stream, verbose=True)
    assert "Traceback" in stream.getvalue()
