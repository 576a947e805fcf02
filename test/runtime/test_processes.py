import asyncio
import gc
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedn_py.errors import OwnFault
from fedn_py.runtime.processes import DidNotStop, collect_garbage_seldom, explain, run_until_stopped


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


# ---- what a daemon keeps to itself

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: a process tells whether it can be dumped")
TELL = """
import ctypes, pathlib, resource
def tell(who):
    limits = pathlib.Path("/proc/self/limits").read_text().splitlines()
    core = next(line.split()[4] for line in limits if line.startswith("Max core file size"))
    print(who, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), core, flush=True)
"""
READABLE, PRIVATE = "1", "0"


def told(script: str, *arguments: str) -> list[list[str]]:
    """Run a program, and return whom it told of, whether that can be read by others, and the largest core of it."""
    command = [sys.executable, "-c", TELL + script, *arguments]
    ended = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60)
    lines = [line.split() for line in ended.stdout.splitlines() if line.startswith("told-")]
    assert lines, ended.stderr
    return lines


@ON_LINUX
def test_no_other_process_reads_a_private_one_and_what_that_starts_is_as_it_was() -> None:
    script = """
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
tell("told-before")
from fedn_py.runtime.processes import keep_memory_private
keep_memory_private()
tell("told-after")
import subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1] + "tell('told-child')"], check=True)
"""
    before, after, child = told(script, TELL)
    assert before[1] == READABLE
    assert after[1:] == [PRIVATE, "0"]
    assert child[1] == READABLE


@ON_LINUX
@pytest.mark.parametrize("role", ["reducer", "combiner", "client"])
def test_each_daemon_is_private_before_it_reads_its_settings(tmp_path: Path, role: str) -> None:
    script = """
import sys
from fedn_py.cli.main import main
try:
    main()
finally:
    tell("told-end")
"""
    ((_, dumpable, core),) = told(script, "run", role, "-c", str(tmp_path / "none.yaml"))
    assert (dumpable, core) == (PRIVATE, "0")


@ON_LINUX
def test_a_participant_is_private_too(tmp_path: Path) -> None:
    script = """
import sys
from fedn_py.client import Participant
try:
    Participant().run(sys.argv[1])
finally:
    tell("told-end")
"""
    ((_, dumpable, core),) = told(script, str(tmp_path / "none.yaml"))
    assert (dumpable, core) == (PRIVATE, "0")


def test_garbage_is_looked_for_seldom_and_not_in_what_was_there_before() -> None:
    before = gc.get_threshold()
    try:
        collect_garbage_seldom()
        assert gc.isenabled()
        assert all(after > usual for after, usual in zip(gc.get_threshold(), before, strict=True))
        assert gc.get_freeze_count() > 0
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
