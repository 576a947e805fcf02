"""The sandbox's processes: real ones, as a deployment would start them, with their output in files."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fedn_py.errors import OwnFault
from fedn_py.execution.processes import not_outliving_this
from fedn_py.runtime.desk import ProcessView

Found = TypeVar("Found")

STOP_WITHIN_S = 4.0
_LOG_LINES = 15


class ProcessEnded(OwnFault):
    """A process of the sandbox ended by itself."""

    def __init__(self, name: str, code: int, log: Path) -> None:
        super().__init__(
            f"{name} ended with exit code {code}; the last lines of {log}:\n{tail(log)}",
            remedy="Correct what it says and start the sandbox again.",
        )


class NotUp(OwnFault):
    """What processes were to bring about did not come in time."""


@dataclass(frozen=True, slots=True)
class Child:
    """One running process."""

    role: str
    name: str
    process: subprocess.Popen[bytes]
    log: Path


class Children:
    """Starts processes and ends all of them. One thread starts and kills, others may look."""

    def __init__(self) -> None:
        self._children: dict[str, Child] = {}
        self._lost: set[str] = set()

    def start(self, role: str, name: str, settings: Path, log: Path, environ: Mapping[str, str]) -> None:
        """Start a process of a role with its settings file."""
        command = [sys.executable, "-m", "fedn_py", "run", role, "-c", str(settings)]
        self.start_command(role, name, command, log, environ)

    def start_command(
        self, role: str, name: str, command: Sequence[str], log: Path, environ: Mapping[str, str]
    ) -> None:
        """Start any process."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - our own program
                not_outliving_this(command, signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environ),
                start_new_session=True,  # Ctrl-C is for the sandbox, which ends its processes in order
            )
        self._children[name] = Child(role, name, process, log)
        self._lost.discard(name)

    def living(self) -> list[Child]:
        """Return the processes that have not ended."""
        return [child for child in list(self._children.values()) if child.process.poll() is None]

    def views(self) -> tuple[ProcessView, ...]:
        """Return all processes, those that have ended too."""
        children = list(self._children.values())
        return tuple(ProcessView(child.role, child.name, child.process.poll()) for child in children)

    def kill(self, name: str) -> bool:
        """End a process and all that it started, as a power cut would; return whether it was running."""
        process = self._children[name].process
        if process.poll() is not None:
            return False
        _cut_off(process)
        return True

    def check(self) -> None:
        """Raise ProcessEnded if one of them has ended."""
        for child in list(self._children.values()):
            code = child.process.poll()
            if code is not None:
                raise ProcessEnded(child.name, code, child.log)

    def awaited(self, what: str, look: Callable[[], Found | None], *, within_s: float, every_s: float) -> Found:
        """Look until there is something to see.

        Raises:
            ProcessEnded: one of the processes has ended.
            NotUp: there was nothing in time.
        """
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            self.check()
            found = look()
            if found is not None:
                return found
            time.sleep(every_s)
        logs = ", ".join(sorted({str(child.log.parent) for child in self._children.values()}))
        raise NotUp(
            f"{what} did not come up within {within_s:g} s",
            remedy=f"Look into {logs or 'its log'}; a slow machine may want fewer clients.",
        )

    def newly_lost(self) -> list[str]:
        """Return, once each, what there is to say of combiners and clients that have ended: the network goes on.

        Raises:
            ProcessEnded: the reducer has, and nothing goes on without it.
        """
        told = []
        for child in list(self._children.values()):
            code = child.process.poll()
            if code is None or child.name in self._lost:
                continue
            if child.role == "reducer":
                raise ProcessEnded(child.name, code, child.log)
            self._lost.add(child.name)
            told.append(f"{child.name} ended with exit code {code}; the others go on. Its log: {child.log}")
        return told

    def stop(self) -> None:
        """End all processes: asked first, cut off after a few seconds."""
        living = [child.process for child in self.living()]
        for process in living:
            process.terminate()
        deadline = time.monotonic() + STOP_WITHIN_S
        for process in living:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _cut_off(process)
        self._children.clear()
        self._lost.clear()


def _cut_off(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started, packages' workers too, which lead groups of their own."""
    started = descendants(process.pid)
    for pid in (process.pid, *started):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def descendants(pid: int) -> list[int]:
    """Return the processes that one has started, and those that they have, where the system tells."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            # The name before it may hold anything, the last bracket ends it.
            parent = int(status.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    found = [pid]
    for one in found:
        found.extend(children.get(one, []))
    return found[1:]


def tail(log: Path) -> str:
    """Return the last lines of a log file."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(f"    {line}" for line in lines[-_LOG_LINES:])
