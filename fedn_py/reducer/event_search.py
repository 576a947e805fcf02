"""Finding events among very many: forwards or backwards from a number, a bounded number read at a time.

The store finds events by kind, or else by severity, in the order of their numbers. All else is looked for among what
it gives, at most MOST_READ in one search; a search that has read so many says where the next one goes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedn_py.reducer.event_log import Severity
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.records import EventRecord

MOST_READ = 5_000
"""Events that one search reads from the store at most."""

_AT_A_TIME = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events are wanted; what is empty or None leaves all.

    Attributes:
        text: stands somewhere in the text or the kind, in upper or lower case.
        subject: each of these names has this value among what the event is about.
    """

    kind: str = ""
    severity: Severity | None = None
    text: str = ""
    subject: Mapping[str, str] = field(default_factory=dict)

    @property
    def by_store(self) -> Mapping[str, str]:
        """What the store is asked for: it has an index of each alone, and none of both."""
        if self.kind:
            return {"kind": self.kind}
        return {"severity": self.severity} if self.severity is not None else {}

    @property
    def is_found_by_store(self) -> bool:
        """Whether the store gives nothing but what is wanted."""
        return not (self.text or self.subject or (self.kind and self.severity))

    def accepts(self, event: EventRecord) -> bool:
        """Tell whether an event is wanted."""
        text = self.text.casefold()
        return (
            self.kind in {"", event.kind}
            and self.severity in {None, event.severity}
            and (text in event.text.casefold() or text in event.kind)
            and all(event.subject.get(name) == value for name, value in self.subject.items())
        )


@dataclass(frozen=True, slots=True)
class FoundEvents:
    """What one search found.

    Attributes:
        events: in the order of the search.
        first: the number of the first event that was read; None where there was none.
        next: where the next search goes on; None where all there is was read.
    """

    events: tuple[EventRecord, ...]
    first: int | None
    next: int | None


async def search(ledger: Ledger, wanted: EventFilter, *, begin: int | None, backwards: bool, limit: int) -> FoundEvents:
    """Look for events beyond number ``begin`` (None: from the end that the search comes from), at most ``limit``."""
    found: list[EventRecord] = []
    mark, first, read = begin, None, 0
    while read < MOST_READ:
        size = limit - len(found) if wanted.is_found_by_store else min(_AT_A_TIME, MOST_READ - read)
        events = await ledger.find(
            "events", EventRecord, wanted.by_store, order_by="seq", descending=backwards, limit=size, after=mark
        )
        read += len(events)
        for event in events:
            mark = event.seq
            first = mark if first is None else first
            found += [event] if wanted.accepts(event) else []
            if len(found) == limit:
                return FoundEvents(tuple(found), first, mark)
        if len(events) < size:
            return FoundEvents(tuple(found), first, None)
    return FoundEvents(tuple(found), first, mark)
