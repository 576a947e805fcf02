"""Starts fedn-py with the points of its role around its functions: python -m chaos.launch run ROLE -c FILE.

A point is armed by a file in CHAOS_FOLDER, named as the process is (CHAOS_NAME): the process that passes it renames the
file, so that whoever waits sees it and the next life passes unharmed, and then sends itself a signal.
CHAOS_THROUGH maps ports that a client dials to others. SIGUSR2 has the process say what it holds.
"""

import asyncio
import functools
import gc
import importlib
import inspect
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos.points import POINTS, Point


class Armed:
    """What one process does when it passes points."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._file, self._hit = folder / f"{name}.armed", folder / f"{name}.hit"
        self._passed: set[tuple[str, str]] = set()
        self._count = 0
        self._turn = threading.Lock()

    def passes(self, point: Point, passing: str) -> None:
        """Note a passing; does not return from the one that is waited for, unless the process goes on after a stop."""
        with self._turn:
            if passing and (point.name, passing) in self._passed:
                return
            self._passed.add((point.name, passing))
            try:
                wanted = json.loads(self._file.read_text())
            except FileNotFoundError:
                self._count = 0
                return
            if wanted["point"] != point.name or wanted["match"] not in passing:
                return
            self._count += 1
            if self._count < wanted["nth"]:
                return
            self._count = 0
            try:
                (self._folder / wanted["token"]).unlink()
            except FileNotFoundError:
                return  # another process was faster
            self._file.rename(self._hit)
        os.kill(os.getpid(), wanted["signal"])


def put_around(point: Point, armed: Armed) -> None:
    """Put a point around its function."""
    module_name, _, path = point.place.partition(":")
    owner: Any = importlib.import_module(module_name)
    *classes, name = path.split(".")
    for one in classes:
        owner = getattr(owner, one)
    setattr(owner, name, _wrapped(getattr(owner, name), point, armed))


def _wrapped(function: Callable[..., Any], point: Point, armed: Armed) -> Callable[..., Any]:
    signature = inspect.signature(function)

    def passing(arguments: tuple[Any, ...], named: dict[str, Any]) -> str | None:
        return point.passing(signature.bind(*arguments, **named).arguments)

    def check(found: str | None, when: str) -> None:
        if found is not None and point.when == when:
            armed.passes(point, found)

    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def generator(*arguments: Any, **named: Any) -> Any:
            async for piece in function(*arguments, **named):
                check(passing(arguments, named), "before")
                yield piece

        return generator
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def coroutine(*arguments: Any, **named: Any) -> Any:
            found = passing(arguments, named)
            check(found, "before")
            result = await function(*arguments, **named)
            check(found, "after")
            return result

        return coroutine

    @functools.wraps(function)
    def plain(*arguments: Any, **named: Any) -> Any:
        found = passing(arguments, named)
        check(found, "before")
        result = function(*arguments, **named)
        check(found, "after")
        return result

    return plain


def dial_through(ports: dict[str, int]) -> None:
    """Have a client dial other ports of this machine than it is told to."""
    from fedn_py.client import combiner_side

    secure_channel = combiner_side.secure_channel

    def through(address: str, authority_pem: bytes, token: str) -> Any:
        host, _, port = address.rpartition(":")
        return secure_channel(f"{host}:{ports.get(port, port)}", authority_pem, token)

    combiner_side.secure_channel = through


def say_what_is_held(file: Path) -> None:
    """Have SIGUSR2 write down how much this process holds."""
    from fedn_py.runtime import processes

    supervise, loops = processes._supervise, []

    async def supervised(*arguments: Any) -> None:
        loops.append(asyncio.get_running_loop())
        await supervise(*arguments)

    def say(number: int, frame: object) -> None:
        gc.collect()
        held = {
            "fds": len(os.listdir("/proc/self/fd")) - 1,  # noqa: PTH208 - the listing itself holds one
            "threads": threading.active_count(),
            "tasks": sum(len(asyncio.all_tasks(loop)) for loop in loops),
        }
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(held))
        partial.replace(file)

    processes._supervise = supervised
    signal.signal(signal.SIGUSR2, say)


def main() -> None:
    folder, name, role = Path(os.environ["CHAOS_FOLDER"]), os.environ["CHAOS_NAME"], sys.argv[2]
    armed = Armed(folder, name)
    for point in POINTS:
        if point.role == role:
            put_around(point, armed)
    if role == "client":
        dial_through(json.loads(os.environ.get("CHAOS_THROUGH", "{}")))
    say_what_is_held(folder / f"{name}.held")
    from fedn_py.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
