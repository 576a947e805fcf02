"""Weighted FedAvg over any number of combiners, equal to flat weighted FedAvg over all their clients.

A combiner adds its clients' updates, each times its weight (the client's samples), into one float64 vector. The
reducer divides the sum of the combiners' sums by the sum of their weights:

    mean = (sum over combiners of (sum over clients of weight * update)) / (sum over combiners and clients of weight)

A combiner's own mean is never formed, so it does not matter how clients are spread over combiners. The order of
addition is the order of the calls: the same calls give the same bits.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fedn_py.errors import OwnFault, PeerFault
from fedn_py.model.dtypes import Floats, all_finite
from fedn_py.model.pieces import PIECE, Cursor, Elements, WrongLength
from fedn_py.model.vector import NotFinite

_ADDED_AT_ONCE = 32_768
"""Elements: the product stays in a core's own cache until it is added."""


class NoWeight(PeerFault):
    """A mean over nothing: no update, or updates without a sample."""

    def __init__(self, weights: Sequence[int]) -> None:
        super().__init__(
            f"there is no mean of {len(weights)} partial aggregates with weights {list(weights)[:20]}",
            remedy="Leave out partial aggregates without clients; bring clients with samples online, and try again.",
        )


class TooLittleMemory(OwnFault):
    """The sum of the updates does not fit in memory."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"the weighted sum of this model's updates takes {size:,} bytes of memory, which are not to be had",
            remedy="Give this process more memory, or train a smaller model.",
        )


class SumSpoiled(OwnFault):
    """An update broke off while it was being added, so the sum is no longer the sum of anything."""

    def __init__(self) -> None:
        super().__init__(
            "an update broke off while it was being added; the sum cannot be used",
            remedy="Begin a new sum and add the updates again.",
        )


class WeightedSum:
    """The sum of weight * update over the updates added so far.

    Memory: 8 bytes a parameter and a few MiB, however many updates there are.

    Attributes:
        weight: the sum of the weights.
        count: how many updates are in the sum.

    Raises:
        TooLittleMemory: at its making.
    """

    __slots__ = ("_spoiled", "_values", "count", "weight")

    def __init__(self, n_parameters: int) -> None:
        try:
            self._values: Floats = np.zeros(n_parameters, dtype="<f8")
        except (MemoryError, ValueError) as fault:  # numpy's answer to a size beyond any address
            raise TooLittleMemory(n_parameters * 8) from fault
        self.weight = 0
        self.count = 0
        self._spoiled = False

    def add(self, update: Iterable[Elements], weight: int) -> None:
        """Add one update.

        What may be wrong with an update is looked for before (``admission.check_update``). Should it break off here
        nevertheless, the fault is raised and this sum refuses any further use.

        Args:
            update: float32 or float64[n_parameters] in pieces of any size.
            weight: at least 1.

        Raises:
            WrongLength: the update is shorter or longer than the sum.
            SumSpoiled: an earlier one broke off.
        """
        self._check_sound()
        self._spoiled = True
        position = 0
        scratch = np.empty(min(_ADDED_AT_ONCE, len(self._values)))
        for array in update:
            if position + len(array) > len(self._values):
                raise self._wrong_length(position + len(array))
            for start in range(0, len(array), _ADDED_AT_ONCE):
                piece = array[start : start + _ADDED_AT_ONCE]
                product, total = scratch[: len(piece)], self._values[position : position + len(piece)]
                np.copyto(product, piece)
                np.multiply(product, float(weight), product)
                np.add(total, product, total)
                position += len(piece)
        if position != len(self._values):
            raise self._wrong_length(position)
        self.weight += weight
        self.count += 1
        self._spoiled = False

    def view(self) -> memoryview:
        """Return the sum as float64[n_parameters], little-endian bytes, not copied: nothing is to be added after it.

        Raises:
            SumSpoiled: an update broke off.
        """
        self._check_sound()
        return self._values.data.cast("B") if len(self._values) else memoryview(b"")

    def _check_sound(self) -> None:
        if self._spoiled:
            raise SumSpoiled

    def _wrong_length(self, found: int) -> WrongLength:
        return WrongLength("an update, as float64,", found * 8, len(self._values) * 8)


def mean_chunks(sums: Sequence[Iterable[Elements]], weights: Sequence[int], n_parameters: int) -> Iterator[Floats]:
    """Return the weighted mean of all updates from the combiners' weighted sums, in pieces, reading each sum once.

    Args:
        sums: one stream per combiner, float64[n_parameters] in pieces of any size (``pieces.elements``).
        weights: the sum of the weights in each, at least 1.

    Raises:
        NoWeight: at once, where there are no sums or one has no weight.
        WrongLength: a sum is shorter or longer.
        NotFinite: the mean is not finite somewhere; names the partial aggregate that is not, counted from 1.
    """
    if not weights or min(weights) < 1:
        raise NoWeight(weights)
    cursors = [
        Cursor(stream, f"partial aggregate {number} of {len(weights)}", n_parameters * 8)
        for number, (stream, _) in enumerate(zip(sums, weights, strict=True), start=1)
    ]
    return _mean_chunks(cursors, sum(weights), n_parameters)


def _mean_chunks(cursors: Sequence[Cursor], weight: int, n_parameters: int) -> Iterator[Floats]:
    position = 0
    while position < n_parameters:
        # Where one has ended, its take below says so.
        width = max(1, min(PIECE, n_parameters - position, *(cursor.ready() for cursor in cursors)))
        parts = [cursor.take(width) for cursor in cursors]
        total: Floats = parts[0].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            for part in parts[1:]:
                total += part
        if not all_finite(total):
            raise NotFinite(_culprit(parts))
        total /= float(weight)
        yield total
        position += width
    for cursor in cursors:
        cursor.finish()


def _culprit(parts: Sequence[Elements]) -> str:
    for number, part in enumerate(parts, start=1):
        if not np.isfinite(part).all():
            return f"partial aggregate {number} of {len(parts)}"
    return "the sum of the partial aggregates"
