"""Long lists in pages: each begins behind a mark, and none loses or repeats an entry where many have the same place."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from fedn_py.errors import PeerFault
from fedn_py.reducer.control import Page
from fedn_py.reducer.ledger import Ledger
from fedn_py.store.ports import Collection

Entry = TypeVar("Entry")
Place = str | int

_LARGEST = 2**63 - 1


class InvalidMark(PeerFault):
    """What a page shall begin behind was not given by a page before it."""

    def __init__(self, mark: str) -> None:
        super().__init__(
            f"no page begins behind {mark[:80]!r}",
            remedy="Give as after what the page before had as next, or leave it out.",
        )


def number_in(mark: str) -> int:
    """Return the number that a mark is, or raise InvalidMark."""
    if not (mark.isascii() and mark.isdigit()) or len(mark) > len(str(_LARGEST)) or int(mark) > _LARGEST:
        raise InvalidMark(mark)
    return int(mark)


@dataclass(frozen=True, slots=True)
class Source(Generic[Entry]):
    """Documents that are entries of a list.

    Attributes:
        entry: what the list holds in a record's place.
        equals: only those with these indexed fields.
    """

    collection: Collection
    kind: type[Any]
    entry: Callable[[Any], Entry]
    equals: Mapping[str, Place] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Listing(Generic[Entry]):
    """A list in the order of an indexed field, then of a key that no two entries share.

    Attributes:
        order_by: the field, which all documents of all sources have.
        place: an entry's value of that field.
        key: an entry's key.
        read_place: a place as a mark has it, to what the field holds; raises InvalidMark.
    """

    sources: Sequence[Source[Entry]]
    order_by: str
    place: Callable[[Entry], Place]
    key: Callable[[Entry], str]
    read_place: Callable[[str], Place]
    descending: bool = False

    async def page(self, ledger: Ledger, after: str, limit: int) -> Page[Entry]:
        """Return the entries behind the mark ``after`` ("" for the first), at most ``limit`` of them.

        Raises:
            InvalidMark: ``after`` is none.
        """
        found: list[Entry] = []
        place: Place | None = None
        if after:
            text, _, key = after.rpartition("/")
            place = self.read_place(text)
            same = await self._read(ledger, {self.order_by: place})
            found = [entry for entry in same if (self.key(entry) < key if self.descending else self.key(entry) > key)]
        if len(found) <= limit:
            found += (await self._read(ledger, {}, after=place, limit=limit + 1))[: limit + 1 - len(found)]
        last = f"{self.place(found[limit - 1])}/{self.key(found[limit - 1])}" if len(found) > limit else None
        return Page(tuple(found[:limit]), last)

    async def _read(
        self, ledger: Ledger, equals: Mapping[str, Place], *, after: Place | None = None, limit: int = 0
    ) -> list[Entry]:
        found: list[Entry] = []
        for source in self.sources:
            records = await ledger.find(
                source.collection,
                source.kind,
                {**source.equals, **equals},
                order_by=self.order_by,
                descending=self.descending,
                limit=limit,
                after=after,
            )
            found += [source.entry(record) for record in records]
        # Two sorts, as the parts of the order are of two kinds: a sort keeps the order of equals.
        found.sort(key=self.key, reverse=self.descending)
        found.sort(key=self.place, reverse=self.descending)
        return found
