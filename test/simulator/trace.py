"""A run written down so that two runs can be compared: every step, spelled the same in every process."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from hashlib import sha256
from typing import Any


def spelled(value: Any) -> str:
    """Spell a value; sets and mappings in sorted order, since theirs differs from process to process."""
    if is_dataclass(value) and not isinstance(value, type):
        inside = ", ".join(f"{field.name}={spelled(getattr(value, field.name))}" for field in fields(value))
        return f"{type(value).__name__}({inside})"
    if isinstance(value, frozenset | set):
        return "{" + ", ".join(sorted(spelled(item) for item in value)) + "}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(sorted(f"{spelled(k)}: {spelled(v)}" for k, v in value.items())) + "}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(spelled(item) for item in value) + ")"
    return repr(value)


class Trace:
    """The steps of a run.

    Attributes:
        lines: one each.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, now: float, node: object, what: str) -> None:
        """Write one line."""
        self.lines.append(f"{now:10.4f} {node!r:12} {what}")

    @property
    def digest(self) -> str:
        """The sha256 of all lines."""
        return sha256("\n".join(self.lines).encode()).hexdigest()
