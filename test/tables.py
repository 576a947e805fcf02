"""What a machine does with every pair of phase and event, as a table that cannot forget one.

A table has a line for each event and a word for each phase: ``moves`` (the event belongs here), ``ignored`` (nothing
changes and nothing is said), ``refused`` (UnexpectedEvent), ``late`` (the fault of that name). Phases and events are
found in the code, so a new one makes its table incomplete.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from fedn_py.errors import PeerFault
from fedn_py.protocol.machine import UnexpectedEvent

Step = Callable[[Any, Any], tuple[Any, Sequence[Any]]]
Table = dict[tuple[str, str], str]


def read_table(text: str) -> Table:
    """Return {(event, phase): word} of a table whose first line names the phases."""
    head, *lines = [line.split() for line in text.strip().splitlines()]
    return {(line[0], phase): word for line in lines for phase, word in zip(head, line[1:], strict=True)}


def pairs_of(events: Any, phases: Any) -> set[tuple[str, str]]:
    """Return every pair of the two unions."""
    return {(event.__name__, phase.__name__) for event in get_args(events) for phase in get_args(phases)}


def outcome(step: Step, state: Any, event: Any) -> str:
    """Return what a machine does with an event; anything raised but UnexpectedEvent and Late is passed on."""
    try:
        after, effects = step(state, event)
    except UnexpectedEvent:
        return "refused"
    except PeerFault as fault:
        if fault.code != "Late":
            raise
        return "late"
    return "ignored" if after == state and not effects else "moves"


def by_name(values: Sequence[Any]) -> Mapping[str, Any]:
    """Return values by the names of their types."""
    return {type(value).__name__: value for value in values}
