"""What the sandbox shows: a live table on a terminal, plain lines elsewhere."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fedn_py.api.network import is_settled
from fedn_py.reducer.absences import without_times
from fedn_py.reducer.shown_rounds import RoundView
from fedn_py.reducer.shown_sessions import SessionView


class Screen:
    """Shows a session's rounds as they go; a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=False) if console.is_terminal else None
        self._told: set[tuple[int, int, str]] = set()
        self._waiting = ""

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, session: SessionView, rounds: Sequence[RoundView]) -> None:
        """Show how far the session is."""
        if self._live is not None:
            self._live.update(Group(_table(session, rounds), _line(session)))
            return
        gist = without_times(session.reason)
        if gist and gist != self._waiting:
            self._say(f"waiting: {session.reason}")
        self._waiting = gist
        for one in rounds:
            self._tell(session, one)

    def _tell(self, session: SessionView, one: RoundView) -> None:
        if one.status == "done" and not is_settled(one):
            return  # its metrics come with its validation
        key = (one.number, one.attempt, one.status)
        if key in self._told:
            return
        self._told.add(key)
        what = f"round {one.number}/{session.rounds_wanted}"
        if one.status == "running":
            self._say(f"{what}: started, attempt {one.attempt}")
        elif one.status == "failed":
            self._say(f"{what}: failed: {one.reason}")
        else:
            counts = f"{len(one.clients)} clients, {one.samples} samples, {one.seconds:.1f} s"
            self._say(f"{what}: {counts}, {_metrics(one) or 'not validated'}")

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _table(session: SessionView, rounds: Sequence[RoundView]) -> Table:
    table = Table(
        title=f"{session.name}: {session.rounds_done} of {session.rounds_wanted} rounds", title_justify="left"
    )
    for heading in ("round", "state", "clients in", "samples", "seconds", "metrics"):
        table.add_column(heading)
    for one in rounds:
        included = len(one.clients) or sum(progress.included for progress in one.progress)
        asked = included + sum(progress.training for progress in one.progress)
        clients = str(included) if one.status == "done" or not asked else f"{included} of {asked}"
        state = one.phase if one.status == "running" or one.phase == "validating" else one.status
        table.add_row(
            str(one.number), state, clients, str(one.samples or ""), f"{one.seconds:.1f}", _metrics(one) or one.reason
        )
    return table


def _line(session: SessionView) -> Text:
    return Text(f"{session.status}: {session.reason}" if session.reason else session.status)


def _metrics(one: RoundView) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in sorted(one.metrics.items()))
