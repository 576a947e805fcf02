"""One process that serves many tasks, and the small command line of a package written in one file.

The worker speaks JSON lines with the client: requests on its standard input, answers on its standard output. What the
author's code prints must not fall between the answers, so the worker keeps both channels to itself and points
file descriptor 1 at standard error and file descriptor 0 at nothing, before it runs anything else.

The worker says ``{"ready": true}``. A request is ``{"id", "entry_point", "arguments", "task"}``, where task is the
path for FEDN_TASK; its answer is ``{"id", "ok", "error"}``. After each answer the line ``\\x1e<id>`` ends that
task's part of the log on standard error. The end of the input ends the worker.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from fedn_py.errors import OwnFault

EntryPoints = Mapping[str, Callable[..., object]]


class UnknownEntryPoint(OwnFault):
    """A package was asked for an entry point that it does not have."""

    def __init__(self, name: str, known: EntryPoints) -> None:
        super().__init__(
            f"this package has no entry point {name!r}", remedy=f"It has {', '.join(sorted(known))} and serve."
        )


def main(entry_points: EntryPoints, arguments: list[str] | None = None) -> None:
    """Run one entry point as the command line says: ``train IN_MODEL OUT_MODEL``, or ``serve`` for the worker.

    Args:
        entry_points: name to function; a function gets the command's paths as text.
        arguments: the command line without the program's name; None takes that of the process.
    """
    words = sys.argv[1:] if arguments is None else arguments
    name = words[0] if words else ""
    if name == "serve":
        serve(entry_points)
    elif name in entry_points:
        entry_points[name](*words[1:])
    else:
        raise UnknownEntryPoint(name, entry_points)


def serve(entry_points: EntryPoints) -> None:
    """Serve tasks until the client closes the channel; an entry point that raises ends its task, not the worker."""
    requests, answers = _private_channels()
    _say(answers, {"ready": True})
    for line in requests:
        request = json.loads(line)
        error = _run(entry_points, request)
        _say(answers, {"id": request["id"], "ok": not error, "error": error})
        os.write(2, b"\x1e" + str(request["id"]).encode() + b"\n")


def _private_channels() -> tuple[BinaryIO, BinaryIO]:
    sys.stdout.flush()
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return os.fdopen(requests, "rb"), os.fdopen(answers, "wb", buffering=0)


def _say(answers: BinaryIO, answer: Mapping[str, Any]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    answers.write(json.dumps(answer).encode() + b"\n")


def _run(entry_points: EntryPoints, request: Mapping[str, Any]) -> str:
    """Run one request; return what went wrong, or an empty text."""
    os.environ["FEDN_TASK"] = request["task"]
    name = request["entry_point"]
    try:
        if name not in entry_points:
            raise UnknownEntryPoint(name, entry_points)
        entry_points[name](*request["arguments"])
    except SystemExit as leaving:  # a script's way to end is the end of the task here
        return "" if leaving.code in (None, 0) else f"exited with {leaving.code}"
    except Exception as fault:  # whatever the author's code raises is the answer to this task
        traceback.print_exc()
        return f"{type(fault).__name__}: {fault}"
    return ""
