"""A package's resident worker: one process that keeps its libraries loaded and serves task after task.

The other side, and what the lines mean, is ``fedn_py.package.worker``. A worker that crashes or takes too long is
ended and started again with the next task.
"""

import asyncio
import contextlib
import json
import os
import secrets
import time
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedn_py.execution.entry_points import EntryPointFailed, EntryPointTimedOut, Finished, resolve_command
from fedn_py.execution.environment import PythonEnvironment
from fedn_py.execution.processes import LOG_BYTES, PackageProcess, start_process

_START_TIMEOUT_S = 300.0  # imports of large libraries from a cold disk
_LOG_GRACE_S = 1.0


class ResidentWorker:
    """Serves tasks one at a time; others wait.

    Args:
        words: the manifest's worker command.
        python: what ``python`` means as the first word.
        cwd: the package's folder.
        environment: all environment variables of the worker, FEDN_TASK apart.
        log_bytes: how much of its output is kept for each task.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        python: PythonEnvironment,
        cwd: Path,
        environment: Mapping[str, str],
        log_bytes: int = LOG_BYTES,
    ) -> None:
        self._words = words
        self._python, self._cwd, self._environment, self._log_bytes = python, cwd, environment, log_bytes
        self._running: _Running | None = None
        self._turn = asyncio.Lock()

    async def warm_up(self) -> None:
        """Start the worker, unless it runs, and return when it is ready for a task.

        Raises:
            EntryPointMissing, EntryPointFailed, EntryPointTimedOut: it did not become ready.
        """
        async with self._turn:
            await self._ready()

    async def run(self, entry_point: str, arguments: Sequence[str], *, task_file: Path, timeout_s: float) -> Finished:
        """Have one task served; the time to start the worker does not count.

        Raises:
            EntryPointMissing, EntryPointFailed, EntryPointTimedOut: each with the task's part of the log.
        """
        async with self._turn:
            running = await self._ready()
            began = time.monotonic()
            name = secrets.token_hex(8)
            request = {"id": name, "entry_point": entry_point, "arguments": list(arguments), "task": str(task_file)}
            running.process.log.begin(b"\x1e" + name.encode() + b"\n")
            answer = await self._guarded(entry_point, running, timeout_s, running.ask(request))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(running.process.log.marker_seen.wait(), _LOG_GRACE_S)
            log = running.process.log.text()
            if answer.get("id") != name:
                await self._stop()
                raise EntryPointFailed(entry_point, None, log, error="worker does not keep to its protocol")
            if answer.get("ok") is not True:
                error = f"failed: {str(answer.get('error', ''))[:500]}"
                raise EntryPointFailed(entry_point, None, log, error=error)
            return Finished(time.monotonic() - began, log)

    async def close(self) -> None:
        """End the worker, and with it whatever it is doing."""
        await self._stop()

    async def _ready(self) -> "_Running":
        if self._running is not None:
            return self._running
        command = resolve_command(
            "worker", self._words, python=self._python, cwd=self._cwd, environment=self._environment
        )
        running = await _Running.start(command, self._cwd, self._environment, self._log_bytes)
        self._running = running
        answer = await self._guarded("worker", running, _START_TIMEOUT_S, running.answer())
        if answer.get("ready") is not True:
            await self._stop()
            raise EntryPointFailed("worker", None, running.process.log.text(), error="does not keep to its protocol")
        return running

    async def _guarded(
        self, name: str, running: "_Running", timeout_s: float, answer: Awaitable[dict[str, Any] | None]
    ) -> dict[str, Any]:
        """Await an answer; a worker that gives none in time, or dies, or is no longer wanted, is ended."""
        try:
            async with asyncio.timeout(timeout_s):
                found = await answer
        except TimeoutError:
            await self._stop()
            raise EntryPointTimedOut(name, timeout_s, running.process.log.text()) from None
        except BaseException:
            await self._stop()
            raise
        if found is None:
            exit_code = await self._exit_code(running)
            raise EntryPointFailed(name, exit_code, running.process.log.text())
        return found

    async def _exit_code(self, running: "_Running") -> int | None:
        try:
            return await asyncio.wait_for(running.process.wait(), _LOG_GRACE_S)
        except TimeoutError:
            return None  # it has closed its channel and lives on
        finally:
            await self._stop()

    async def _stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            await running.stop()


class _Running:
    """A worker's process with its channel."""

    def __init__(self, process: PackageProcess, requests: int, answers: asyncio.StreamReader, pipe: Any) -> None:
        self.process = process
        self._requests, self._answers, self._pipe = requests, answers, pipe

    @classmethod
    async def start(
        cls, command: Sequence[str], cwd: Path, environment: Mapping[str, str], log_bytes: int
    ) -> "_Running":
        request_read, request_write = os.pipe()
        answer_read, answer_write = os.pipe()
        answers = asyncio.StreamReader()
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(answers), os.fdopen(answer_read, "rb", buffering=0)
        )
        try:
            process = await start_process(
                command, cwd=cwd, environment=environment, log_bytes=log_bytes, channel=(request_read, answer_write)
            )
        except BaseException:
            os.close(request_write)
            pipe.close()
            raise
        finally:
            os.close(request_read)
            os.close(answer_write)
        return cls(process, request_write, answers, pipe)

    async def ask(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            os.write(self._requests, json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            return None
        return await self.answer()

    async def answer(self) -> dict[str, Any] | None:
        """Return the worker's next line, None where its channel has ended, {} where it is no JSON object."""
        try:
            line = await self._answers.readline()
            found = json.loads(line) if line else None
        except (ValueError, RecursionError):
            return {}
        return found if found is None or isinstance(found, dict) else {}

    async def stop(self) -> None:
        os.close(self._requests)
        self._pipe.close()
        await self.process.end()
