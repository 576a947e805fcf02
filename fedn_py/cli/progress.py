"""Progress of long work: a bar at a terminal, else a plain line every ten seconds, always on standard error."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from fedn_py.api.network import is_settled
from fedn_py.cli.output import measures, note, size
from fedn_py.reducer.shown_rounds import RoundView
from fedn_py.reducer.shown_sessions import SessionView

PLAIN_EVERY_S = 10.0


@contextlib.contextmanager
def transferring(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show bytes done of bytes in all; yields what is to be told of them."""
    if sys.stderr.isatty():
        with _bar(label) as tell:
            yield tell
        return
    said = time.monotonic()

    def tell_plainly(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said >= PLAIN_EVERY_S:
            said = time.monotonic()
            note(f"{label}: {size(done)} of {size(total)}")

    yield tell_plainly


@contextlib.contextmanager
def _bar(label: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(label), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextlib.contextmanager
def watching() -> Iterator[Callable[[SessionView, list[RoundView]], None]]:
    """Show a session's rounds as they end, and what goes on between; yields what is to be told of them."""
    told: set[tuple[int, int]] = set()

    def tell_ended(rounds: list[RoundView]) -> None:
        for view in rounds:
            if (view.status == "failed" or is_settled(view)) and (view.number, view.attempt) not in told:
                told.add((view.number, view.attempt))
                note(round_line(view))

    if sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True)
        with console.status("waiting") as status:

            def tell(session: SessionView, rounds: list[RoundView]) -> None:
                tell_ended(rounds)
                status.update(session_line(session, rounds))

            yield tell
        return
    said = time.monotonic()

    def tell_plainly(session: SessionView, rounds: list[RoundView]) -> None:
        nonlocal said
        tell_ended(rounds)
        if time.monotonic() - said >= PLAIN_EVERY_S:
            said = time.monotonic()
            note(session_line(session, rounds))

    yield tell_plainly


def round_line(view: RoundView) -> str:
    """Return a round that has ended, in one line."""
    if view.status == "failed":
        return f"round {view.number}: failed in attempt {view.attempt}: {view.reason}"
    found = measures(view.metrics.items())
    clients = f"{len(view.clients)} clients, {view.samples} samples"
    hidden = f", masked ({view.masking.scheme})" if view.masking else ""
    return f"round {view.number}: {clients}{hidden}, {view.seconds:.1f} s{', ' + found if found else ''}"


def session_line(session: SessionView, rounds: list[RoundView]) -> str:
    """Return what a session does now, in one line."""
    line = f"{session.name}: {session.status}, {session.rounds_done} of {session.rounds_wanted} rounds"
    if rounds and rounds[-1].status == "running":
        live = rounds[-1]
        included = sum(cell.included for cell in live.progress)
        training = sum(cell.training for cell in live.progress)
        line += f"; round {live.number} {live.phase}: {included} clients in, {training} at work"
    return f"{line}; {session.reason}" if session.reason else line
