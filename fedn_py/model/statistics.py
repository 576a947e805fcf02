"""What the numbers in a model are like, tensor by tensor, from a stream of the file's bytes cut anywhere.

Memory: some ten times one piece and a few words a tensor, whatever the size of the model.
"""

import math
from dataclasses import dataclass

import numpy as np

from fedn_py.model.dtypes import SIZES, Floats, read_numbers
from fedn_py.model.layout import ModelLayout, TensorSpec


@dataclass(frozen=True, slots=True)
class TensorStatistics:
    """What the elements of one tensor are like; of its finite ones, where nothing else is said.

    Attributes:
        minimum, maximum, mean, deviation: None where there is no finite element, or the figure is beyond float64.
            ``deviation`` is the standard deviation over all of them, not an estimate from a sample.
        zeros: the share of all elements that are 0, from 0 to 1.
        not_finite: how many elements are NaN or infinite.
    """

    minimum: float | None
    maximum: float | None
    mean: float | None
    deviation: float | None
    zeros: float
    not_finite: int


class ModelStatistics:
    """Takes the bytes behind a model's header, in order, and gives the statistics of its tensors.

    Integers beyond 2**53 are taken for the nearest float64.
    """

    def __init__(self, layout: ModelLayout) -> None:
        self._tensors = layout.tensors
        self._tallies = [_Tally() for _ in layout.tensors]
        self._at = layout.header_size
        self._open = 0
        self._rest = b""  # of an element that is not whole yet

    def add(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; raises IndexError for more than the layout has."""
        view = memoryview(piece).cast("B")
        while view:
            tensor = self._tensors[self._open]
            part, view = view[: tensor.end - self._at], view[tensor.end - self._at :]
            self._take(tensor, part)
            self._at += len(part)
            if self._at == tensor.end:
                self._open += 1

    def _take(self, tensor: TensorSpec, part: memoryview) -> None:
        content = self._rest + bytes(part) if self._rest else part
        count = len(content) // SIZES[tensor.dtype]
        self._rest = bytes(content[count * SIZES[tensor.dtype] :])
        if count:
            self._tallies[self._open].add(read_numbers(content, tensor.dtype, 0, count))

    def tensors(self) -> tuple[TensorStatistics, ...]:
        """Return the statistics of what came so far, in the order of the layout."""
        return tuple(tally.statistics() for tally in self._tallies)


class _Tally:
    """Mean and squared distances from it, merged piece by piece: no sum of squares loses the small differences."""

    __slots__ = ("_count", "_finite", "_maximum", "_mean", "_minimum", "_squares", "_zeros")

    def __init__(self) -> None:
        self._count = self._finite = self._zeros = 0
        self._minimum, self._maximum = math.inf, -math.inf
        self._mean = self._squares = 0.0

    def add(self, values: Floats) -> None:
        self._count += len(values)
        finite = np.isfinite(values)
        if not finite.all():
            values = values[finite]
        if not len(values):
            return
        self._zeros += len(values) - int(np.count_nonzero(values))
        self._minimum = min(self._minimum, float(values.min()))
        self._maximum = max(self._maximum, float(values.max()))
        with np.errstate(over="ignore", invalid="ignore"):  # what is too large is no figure in the end
            self._merge(values)

    def _merge(self, values: Floats) -> None:
        mean = np.float64(values.mean())
        before, count = self._finite, len(values)
        self._finite += count
        apart = mean - self._mean
        self._squares += float(np.square(values - mean).sum() + apart * apart * (before * count / self._finite))
        self._mean += float(apart * (count / self._finite))

    def statistics(self) -> TensorStatistics:
        deviation = math.sqrt(self._squares / self._finite) if self._finite and self._squares >= 0 else math.nan
        return TensorStatistics(
            minimum=_figure(self._minimum),
            maximum=_figure(self._maximum),
            mean=_figure(self._mean) if self._finite else None,
            deviation=_figure(deviation),
            zeros=self._zeros / self._count if self._count else 0.0,
            not_finite=self._count - self._finite,
        )


def _figure(value: float) -> float | None:
    return value if math.isfinite(value) else None
