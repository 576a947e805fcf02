"""Ctrl-C and SIGTERM, for programs that start processes of their own and end them in good order."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(Exception):
    """Ctrl-C or SIGTERM."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM raise Stopped, once: what they set off is not cut short by another one."""

    def stop(number: int, _frame: object) -> None:
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, signal.SIG_IGN)
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
