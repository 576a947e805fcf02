"""What the state machines of reducer, combiner and client share.

A machine is a function ``step(state, event) -> (state, effects)`` over frozen values. Events are past tense,
effects imperative; an effect's outcome comes back as an event. Effects are performed in the order given.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from fedn_py.errors import PeerFault

Event_co = TypeVar("Event_co", covariant=True)


class UnexpectedEvent(PeerFault):
    """An event came that the present state has no answer to; nothing has changed."""

    def __init__(self, state: object, event: object) -> None:
        super().__init__(f"{type(event).__name__} is not expected in {type(state).__name__}")


@dataclass(frozen=True, slots=True)
class StartTimer(Generic[Event_co]):
    """Post ``event`` after a while; the machine tells a stale one by what it names."""

    after_s: float
    event: Event_co
