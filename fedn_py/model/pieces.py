"""Vectors as streams: from bytes cut anywhere to arrays, and from arrays cut anywhere to portions of one's own."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from fedn_py.errors import PeerFault
from fedn_py.model.dtypes import Buffer

Elements = npt.NDArray[np.floating]

PIECE = 131_072
"""Elements in one piece at most: 1 MiB as float64."""


class WrongLength(PeerFault):
    """A vector of another length than the model's.

    Attributes:
        found, expected: bytes; of a stream that is too long, ``found`` is what was read before it was refused.
    """

    def __init__(self, what: str, found: int, expected: int) -> None:
        super().__init__(
            f"{what} has {found:,} bytes, not {expected:,}",
            remedy="It was made from another global model, or not sent whole: make it from the round's own model.",
        )
        self.found, self.expected = found, expected


def elements(chunks: Iterable[Buffer], dtype: str) -> Iterator[Elements]:
    """Turn a stream of bytes, cut anywhere, into arrays of a float type without copying more than the cut elements.

    Args:
        dtype: '<f4' or '<f8'.

    Raises:
        WrongLength: the last element is not whole.
    """
    size, rest, seen = np.dtype(dtype).itemsize, b"", 0
    for chunk in chunks:
        view = memoryview(chunk).cast("B")
        seen += len(view)
        if rest:
            missing = size - len(rest)
            rest, view = rest + bytes(view[:missing]), view[missing:]
            if len(rest) < size:
                continue
            yield np.frombuffer(rest, dtype)
        whole = len(view) - len(view) % size
        if whole:
            yield np.frombuffer(view[:whole], dtype)
        rest = bytes(view[whole:])
    if rest:
        raise WrongLength("a vector", seen, seen - len(rest) + size)


class Cursor:
    """Takes elements from a stream of arrays in other portions than it comes in, and holds it to its length.

    Args:
        what: names the stream in a WrongLength.
        size: bytes that the whole stream must have, at 8 an element.
    """

    __slots__ = ("_array", "_arrays", "_size", "_taken", "_what")

    def __init__(self, arrays: Iterable[Elements], what: str, size: int) -> None:
        self._arrays = iter(arrays)
        self._array: Elements = np.empty(0)
        self._what, self._size, self._taken = what, size, 0

    def ready(self) -> int:
        """Return how many elements can be taken in one piece: none only where the stream has ended."""
        while not len(self._array):
            array = next(self._arrays, None)
            if array is None:
                return 0
            self._array = array
        return len(self._array)

    def take(self, most: int) -> Elements:
        """Return the next elements, at least one and at most ``most``, or raise WrongLength where none is left."""
        count = min(most, self.ready())
        if not count:
            raise WrongLength(self._what, self._taken * 8, self._size)
        piece, self._array = self._array[:count], self._array[count:]
        self._taken += count
        return piece

    def finish(self) -> None:
        """Raise WrongLength where anything is left."""
        if self.ready():
            raise WrongLength(self._what, (self._taken + self.ready()) * 8, self._size)


def gathered(arrays: Iterable[Elements], count: int) -> Iterator[list[Elements]]:
    """Gather a stream of arrays, however it is cut, into groups of ``count`` elements together; the last has fewer."""
    group: list[Elements] = []
    missing = count
    for array in arrays:
        rest = array
        while len(rest):
            group.append(rest[:missing])
            rest, missing = rest[missing:], missing - len(group[-1])
            if not missing:
                yield group
                group, missing = [], count
    if group:
        yield group
