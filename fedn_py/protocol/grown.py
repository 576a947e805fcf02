"""What a machine's state gathers one by one, as a value that is cheap to make longer."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar, overload

Element = TypeVar("Element")


class Grown(Sequence[Element], Generic[Element]):
    """A sequence, equal to a tuple of the same; one that is made longer leaves the shorter one as it was.

    Each event of a machine makes a new state. A tuple would be copied whole for each client that is added to it, which
    for all of them together grows with their square. The longer one shares a list with the shorter one instead, of
    which each sees its own beginning; only who makes the same one longer a second time copies it.
    """

    __slots__ = ("_elements", "_size")

    def __init__(self, elements: Iterable[Element] = ()) -> None:
        self._elements = list(elements)
        self._size = len(self._elements)

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> Element: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Element, ...]: ...

    def __getitem__(self, index: int | slice) -> Element | tuple[Element, ...]:
        if isinstance(index, slice):
            return tuple(self)[index]
        return self._elements[range(self._size)[index]]

    def __iter__(self) -> Iterator[Element]:
        return iter(self._elements[: self._size])

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Grown | tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Grown({list(self)})"

    def and_(self, element: Element) -> "Grown[Element]":
        """Return one that has an element more."""
        longer: Grown[Element] = Grown.__new__(Grown)
        longer._elements = self._elements if len(self._elements) == self._size else list(self)
        longer._elements.append(element)
        longer._size = self._size + 1
        return longer
