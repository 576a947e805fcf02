"""A package's process: a group of its own that ends as a whole, and the last of what it printed.

Only what is passed here reaches the process: its environment, and standard input and output. All other descriptors of
the client are closed in it. On Linux it ends with the client even when that is killed.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

LOG_BYTES = 16_384
_LAST_WORDS_S = 1.0  # for what is still in the pipe after the process has ended


class LogTail(asyncio.Protocol):
    """Keeps the last bytes that come through a pipe, and tells of lines that mark the end of a task's part."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._kept = bytearray()
        self._dropped = False
        self._marker = b""
        self.marker_seen = asyncio.Event()
        self.closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """Take what was printed."""
        self._kept += data
        if self._marker and self._marker in self._kept:
            self._kept = self._kept.replace(self._marker, b"")
            self._marker = b""
            self.marker_seen.set()
        if len(self._kept) > 2 * self._limit:
            self._trim()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the protocol's signature
        """Note that nothing more will come."""
        self.closed.set()
        self.marker_seen.set()

    def begin(self, marker: bytes) -> None:
        """Forget what was printed so far; ``marker_seen`` will be set once the marker has come."""
        self._kept.clear()
        self._dropped = False
        self._marker = marker
        self.marker_seen.clear()

    def text(self) -> str:
        """Return the last ``limit_bytes`` as text, without control characters other than line ends and tabs."""
        self._trim()
        text = self._kept.decode("utf-8", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
        plain = "".join(character for character in text if character in "\n\t" or character.isprintable())
        return f"[...]\n{plain}" if self._dropped else plain

    def _trim(self) -> None:
        if len(self._kept) > self._limit:
            del self._kept[: -self._limit]
            self._dropped = True


class PackageProcess:
    """A running command of a package.

    Attributes:
        log: what it printed, both to standard error and, without a channel, to standard output.
    """

    def __init__(self, process: asyncio.subprocess.Process, log: LogTail, log_pipe: asyncio.BaseTransport) -> None:
        self._process = process
        self._log_pipe = log_pipe
        self.log = log

    async def wait(self) -> int:
        """Return the exit code once the process has ended by itself; negative is the signal that ended it."""
        return await self._process.wait()

    async def end(self) -> None:
        """End the process and every other one of its group, and gather its last words."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # Those that it started are in its group, also after it has ended itself.
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        with contextlib.suppress(TimeoutError):
            # A process that left the group may hold the pipe open for as long as it likes.
            await asyncio.wait_for(self.log.closed.wait(), _LAST_WORDS_S)
        self._log_pipe.close()


async def start_process(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    log_bytes: int = LOG_BYTES,
    channel: tuple[int, int] | None = None,
) -> PackageProcess:
    """Start a command.

    Args:
        command: its first word is a path, or is looked up in the environment's PATH.
        cwd: its working folder.
        environment: all of its environment variables.
        log_bytes: how much of its output is kept.
        channel: descriptors for its standard input and output, which stay the caller's to close; None for nothing
            to read, and output that goes to the log.

    Raises:
        OSError: it cannot be started at all.
    """
    read_end, write_end = os.pipe()
    try:
        log = LogTail(log_bytes)
        loop = asyncio.get_running_loop()
        pipe, _ = await loop.connect_read_pipe(lambda: log, os.fdopen(read_end, "rb", buffering=0))
        try:
            process = await asyncio.create_subprocess_exec(
                *not_outliving_this(command),
                stdin=channel[0] if channel else asyncio.subprocess.DEVNULL,
                stdout=channel[1] if channel else write_end,
                stderr=write_end,
                cwd=cwd,
                env=dict(environment),
                start_new_session=True,
            )
        except BaseException:
            pipe.close()
            raise
    finally:
        os.close(write_end)
    return PackageProcess(process, log, pipe)


def not_outliving_this(command: Sequence[str], by: signal.Signals = signal.SIGKILL) -> list[str]:
    """Return how to run a command so that it gets a signal when this process ends, where the system can do it."""
    if sys.platform != "linux":
        return list(command)
    launcher = str(Path(__file__).with_name("child.py"))
    return [sys.executable, "-I", "-S", launcher, str(os.getpid()), str(int(by)), *command]
