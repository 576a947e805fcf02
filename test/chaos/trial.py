"""One row of the tables of trials, and what came of it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.network import SMALL
from chaos.stage import Stage

from fedn_py.protocol.messages import Masking
from fedn_py.reducer.shown_rounds import RoundView


@dataclass(frozen=True, slots=True)
class Trial:
    """One row of the table.

    Attributes:
        does: what is done, and when.
        play: does it, while the session runs.
        must: what must hold beyond what always must, in words, and in code that returns what does not.
        gated: whether the trainings of the round that is hurt wait until ``play`` lets them go on, or it returns.
        size: parameters of the model.
        update_timeout_s: of the session.
        standby: whether a second reducer waits.
    """

    name: str
    masking: Masking
    does: str
    play: Callable[[Stage], None]
    must: str
    holds: Callable[[Stage, RoundView], Iterable[str]]
    gated: bool = False
    size: int = SMALL
    update_timeout_s: float = 40.0
    standby: bool = False

    @classmethod
    def of(  # noqa: PLR0917 - the columns of a table
        cls,
        masking: Masking,
        name: str,
        does: str,
        play: Callable[[Stage], None],
        must: str,
        holds: Callable[[Stage, RoundView], Iterable[str]],
        **more: Any,
    ) -> "Trial":
        """Return a row as the tables have it."""
        kind = "plain" if masking == "none" else "masked"
        return cls(f"{kind}, {name}", masking, does, play, must, holds, **more)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a trial.

    Attributes:
        seconds: of the whole trial. recovered_s: from the first thing that was done to the next commit.
        came: what the round that was hurt came to.
        faults: everything that must not be.
        history: its file, kept where there are faults.
    """

    name: str
    seconds: float
    recovered_s: float | None
    came: str
    faults: tuple[str, ...]
    history: Path
