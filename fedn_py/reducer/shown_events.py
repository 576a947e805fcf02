"""Events, as people and programs see them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class EventView:
    """Something that happened.

    Attributes:
        seq: counts the events of this network, from 1.
        kind: such as "client attached" or "round failed".
        subject: what it is about, such as session, round or client.
    """

    seq: int
    time: float
    kind: str
    severity: Severity
    text: str
    subject: Mapping[str, str] = field(default_factory=dict)
