"""Running one entry point as a process of its own, within a time limit, and telling how it went."""

import asyncio
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedn_py.errors import PeerFault
from fedn_py.execution.environment import PythonEnvironment, find_program
from fedn_py.execution.processes import LOG_BYTES, start_process


class EntryPointFault(PeerFault):
    """A package did not do what it was asked to.

    Attributes:
        entry_point: which of its entry points.
        log: the last lines that it printed; the site decides whether they leave it.
    """

    def __init__(self, entry_point: str, message: str, *, log: str = "", remedy: str = "") -> None:
        super().__init__(f"the package's {entry_point} {message}", remedy=remedy)
        self.entry_point = entry_point
        self.log = log


class EntryPointFailed(EntryPointFault):
    """An entry point ended with an error.

    Attributes:
        exit_code: negative for the signal that ended it; None where a resident worker lives on.
    """

    def __init__(self, entry_point: str, exit_code: int | None, log: str, *, error: str = "") -> None:
        super().__init__(
            entry_point,
            error or _ending(exit_code),
            log=log,
            remedy="Its log says why; fedn-py package validate runs the package here.",
        )
        self.exit_code = exit_code


class EntryPointTimedOut(EntryPointFault):
    """An entry point was ended because it took too long."""

    def __init__(self, entry_point: str, timeout_s: float, log: str) -> None:
        super().__init__(
            entry_point,
            f"was not done after {timeout_s:g} s and has been ended",
            log=log,
            remedy="Train for fewer epochs, or raise the round's, the package's or the site's time limit.",
        )
        self.timeout_s = timeout_s


class EntryPointMissing(EntryPointFault):
    """There is no such entry point, or no program to run it with."""


@dataclass(frozen=True, slots=True)
class Finished:
    """An entry point that ended well.

    Attributes:
        log: the last lines that it printed.
    """

    seconds: float
    log: str


async def run_entry_point(
    entry_point: str,
    words: Sequence[str],
    *,
    python: PythonEnvironment,
    cwd: Path,
    environment: Mapping[str, str],
    timeout_s: float,
    log_bytes: int = LOG_BYTES,
) -> Finished:
    """Run a command to its end; whatever it started ends with it, also when this is cancelled.

    Args:
        entry_point: its name, for messages.
        words: the command and its arguments.
        python: what ``python`` means as the first word.
        cwd: the package's folder.
        environment: all of its environment variables.
        timeout_s: it is ended after that many seconds.
        log_bytes: how much of its output is kept.

    Raises:
        EntryPointMissing, EntryPointFailed, EntryPointTimedOut: each with the log.
    """
    command = resolve_command(entry_point, words, python=python, cwd=cwd, environment=environment)
    began = time.monotonic()
    process = await start_process(command, cwd=cwd, environment=environment, log_bytes=log_bytes)
    exit_code = None
    try:
        async with asyncio.timeout(timeout_s):
            exit_code = await process.wait()
    except TimeoutError:
        pass
    finally:
        await process.end()
    log = process.log.text()
    if exit_code is None:
        raise EntryPointTimedOut(entry_point, timeout_s, log)
    if exit_code != 0:
        raise EntryPointFailed(entry_point, exit_code, log)
    return Finished(time.monotonic() - began, log)


def resolve_command(
    entry_point: str, words: Sequence[str], *, python: PythonEnvironment, cwd: Path, environment: Mapping[str, str]
) -> list[str]:
    """Return the command with its program found, or raise EntryPointMissing."""
    program = find_program(words, python, cwd=cwd, path=environment.get("PATH", ""))
    if program is None:
        raise EntryPointMissing(
            entry_point,
            f"runs {words[0]!r}, which is not here or not executable",
            remedy="Put the program into the package, name it ./NAME and make it executable, or install it here.",
        )
    return [program, *words[1:]]


def _ending(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    return f"was ended by {name}" + (" (often for lack of memory)" if name == "SIGKILL" else "")
