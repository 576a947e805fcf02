"""Run as a script before each command: asks Linux to end this process when its parent ends, then becomes the command.

It imports little, since it stands in the way of every task. Doing the same between fork and exec of the parent itself
would run Python code in a copy of a process with many threads, which can hang, and gRPC's own code for forks, which
can crash.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Become ``arguments[2:]``, which gets the signal ``arguments[1]`` when its parent, ``arguments[0]``, ends."""
    parent, number, *command = arguments
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != int(parent):  # it ended before the request took hold
        sys.exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606  no shell is wanted
    except OSError as fault:
        sys.stderr.write(f"{command[0]}: {fault.strerror}\n")
        sys.exit(126)


if __name__ == "__main__":
    main(sys.argv[1:])
