"""The exit codes of every command; scripts may rely on them."""

from enum import IntEnum

from fedn_py.errors import FednError


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    NOT_FOUND = 5
    TIMED_OUT = 6


MEANING = {
    Exit.OK: "done",
    Exit.FAILED: "failed, for a reason that is told",
    Exit.USAGE: "the command, settings or profile is wrong",
    Exit.UNREACHABLE: "the reducer cannot be reached",
    Exit.REFUSED: "the reducer refused, or the token does not allow it",
    Exit.NOT_FOUND: "what was asked for is not there",
    Exit.TIMED_OUT: "what was waited for had not happened in time",
}


def exit_code(fault: FednError) -> Exit:
    """Return the exit code of a fault."""
    from fedn_py.api.faults import InvalidProfile, ReducerUnreachable, RemoteRefusal, WaitedTooLong
    from fedn_py.bench.faults import ImpossibleBench
    from fedn_py.cli.finding import Ambiguous, NotFound
    from fedn_py.settings.faults import InvalidSettings

    match fault:
        case RemoteRefusal():
            return _of_status(fault.status)
        case ReducerUnreachable():
            return Exit.UNREACHABLE
        case NotFound():
            return Exit.NOT_FOUND
        case WaitedTooLong():
            return Exit.TIMED_OUT
        case InvalidProfile() | InvalidSettings() | Ambiguous() | ImpossibleBench():
            return Exit.USAGE
        case _:
            return Exit.FAILED


def _of_status(status: int) -> Exit:
    if status == 404:
        return Exit.NOT_FOUND
    return Exit.FAILED if status >= 500 else Exit.REFUSED
