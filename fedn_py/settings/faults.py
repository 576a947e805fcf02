"""What is wrong with settings: every fault, with its key, its place and what is allowed."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedn_py.errors import OwnFault


@dataclass(frozen=True, slots=True)
class SettingFault:
    """One thing that is wrong.

    Attributes:
        key: dotted name, empty when the fault is of the whole file or of a variable.
        origin: ``file:line``, ``variable NAME``, or the file where the key should be.
        text: what is wrong and what is allowed.
    """

    key: str
    origin: str
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.origin, self.key) if part) + (" " if not self.key else ": ") + self.text


class InvalidSettings(OwnFault):
    """Settings that a process cannot start with; all faults are in it.

    Attributes:
        faults: each with its place.
    """

    def __init__(self, faults: Sequence[SettingFault]) -> None:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        super().__init__(
            f"the settings have {count}:\n" + "\n".join(f"  {fault}" for fault in faults),
            remedy="Correct them and start again; config/ holds a template with every key for each role.",
        )
        self.faults = tuple(faults)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean X?`` for the known name nearest to this one, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
