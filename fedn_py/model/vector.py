"""Between model files and update vectors, a piece at a time.

The **update vector** of a model is its float tensors (F16, BF16, F32, F64), each flattened row by row, one after the
other in the order of their bytes in the global model's file. An update is (new model - global model), computed as in
float64 and stored in ``layout.update_dtype``. A new global model is (global model + mean update), computed in float64
and rounded once to each tensor's own type.

**Integer and bool tensors keep the values of the global model**, whatever a client's training did to them: there is
no mean of step counters, vocabulary indices or masks that is right for all of them.

No function holds more than a few MiB beside what it was given, and none keeps a view into a model between two
pieces, so that a memory-mapped file can be closed at any time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedn_py.errors import PeerFault
from fedn_py.model.dtypes import SIZES, Buffer, Floats, all_finite, floats_of, read_floats, round_floats, singles
from fedn_py.model.layout import ModelLayout, TensorSpec
from fedn_py.model.matching import match_tensors
from fedn_py.model.pieces import PIECE, Cursor, Elements

Tensor = npt.NDArray[Any]


class NotFinite(PeerFault):
    """A value that is NaN, infinite or too large for its type.

    Attributes:
        place: where it is, for people: mostly a tensor.
    """

    def __init__(self, place: str) -> None:
        super().__init__(
            f"{place} holds a value that is NaN, infinite or too large",
            remedy="Training has diverged: lower the learning rate, clip gradients, or look for bad rows in the data.",
        )
        self.place = place


def difference(
    new: Buffer, base: Buffer, new_layout: ModelLayout, base_layout: ModelLayout, *, first: int = 0
) -> Iterator[Elements]:
    """Return the update that leads from the base model to the new one, in pieces of ``base_layout.update_dtype``.

    The two are compared at once, the values as the pieces are drawn. Tensors are found by name: their order in the
    new file does not matter.

    Args:
        first: element to begin with.

    Raises:
        MissingTensor, UnexpectedTensor, WrongDtype, WrongShape: the new model does not have the base's tensors.
        NotFinite: names the tensor with a value, or a difference, that is not finite in the update's type.
    """
    by_name = match_tensors(new_layout, base_layout)

    def change(tensor: TensorSpec, start: int, count: int) -> Elements:
        found = by_name[tensor.name]
        if _in_singles(tensor, base_layout):
            place, base_place = found.begin + 4 * start, tensor.begin + 4 * start
            return np.subtract(singles(new, place, count), singles(base, base_place, count))
        return _rounded(_read(new, found, start, count) - _read(base, tensor, start, count), base_layout)

    return _difference(change, base_layout, first)


def difference_in_memory(
    new: Mapping[str, Tensor], base: Buffer, base_layout: ModelLayout, *, first: int = 0
) -> Iterator[Elements]:
    """Return the update that leads from the base model to tensors in memory, in pieces; as ``difference`` otherwise.

    Args:
        new: tensors as the base has them, which is looked at before (``match_arrays``).
        first: element to begin with.

    Raises:
        NotFinite: names the tensor with a difference that is not finite in the update's type.
    """
    flat = {tensor.name: new[tensor.name].reshape(-1) for tensor in base_layout.float_tensors}

    def change(tensor: TensorSpec, start: int, count: int) -> Elements:
        found = flat[tensor.name][start : start + count]
        if _in_singles(tensor, base_layout):
            return np.subtract(found, singles(base, tensor.begin + 4 * start, count))
        return _rounded(floats_of(found) - _read(base, tensor, start, count), base_layout)

    return _difference(change, base_layout, first)


def _difference(
    change: Callable[[TensorSpec, int, int], Elements], base_layout: ModelLayout, first: int
) -> Iterator[Elements]:
    for tensor in base_layout.float_tensors:
        for start, count in _pieces(tensor.count, first):
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                piece = change(tensor, start, count)
            if not all_finite(piece):
                raise NotFinite(f"tensor {tensor.name!r}")
            yield piece
        first = max(0, first - tensor.count)


def _in_singles(tensor: TensorSpec, base_layout: ModelLayout) -> bool:
    """Say whether a tensor's difference may be taken in float32.

    It is the same to the last bit: a difference of two float32, rounded to float64 and from there to float32, is the
    difference rounded once, as float64 has more than twice the digits and two to spare.
    """
    return tensor.dtype == "F32" and base_layout.update_dtype == "<f4"


def _rounded(change: Floats, base_layout: ModelLayout) -> Elements:
    rounded: Elements = change.astype(base_layout.update_dtype, copy=False)
    return rounded


def apply_mean(base: Buffer, base_layout: ModelLayout, mean: Iterable[Elements]) -> Iterator[bytes]:
    """Yield the file of the next global model: the base with the mean update added.

    It has the base's header, byte for byte, so the order of tensors stays the same from model to model.

    Args:
        mean: float64[n_parameters] in pieces of any size.

    Raises:
        NotFinite: names the tensor that does not stay finite in its own type.
        WrongLength: the mean has another length; what was yielded so far is no model.
    """
    cursor = Cursor(mean, "the mean update", base_layout.sum_size)
    yield from _copy(base, 0, base_layout.header_size)
    for tensor in base_layout.tensors:
        if not tensor.is_float:
            yield from _copy(base, tensor.begin, tensor.end)
            continue
        start = 0
        while start < tensor.count:
            change = cursor.take(min(PIECE, tensor.count - start))
            values = _read(base, tensor, start, len(change))
            with np.errstate(over="ignore", invalid="ignore"):
                values += change
            stored = round_floats(values, tensor.dtype)
            if stored is None:
                raise NotFinite(f"tensor {tensor.name!r} of the new global model")
            yield stored
            start += len(change)
    cursor.finish()


def check_finite(buffer: Buffer, layout: ModelLayout) -> None:
    """Raise NotFinite, naming the tensor, unless every float of a model file is finite."""
    for tensor in layout.float_tensors:
        for start, count in _pieces(tensor.count):
            if not all_finite(_read(buffer, tensor, start, count)):
                raise NotFinite(f"tensor {tensor.name!r}")


def _pieces(count: int, first: int = 0) -> Iterator[tuple[int, int]]:
    for start in range(first, count, PIECE):
        yield start, min(PIECE, count - start)


def _read(buffer: Buffer, tensor: TensorSpec, start: int, count: int) -> Floats:
    return read_floats(buffer, tensor.dtype, tensor.begin + start * SIZES[tensor.dtype], count)


def _copy(buffer: Buffer, begin: int, end: int) -> Iterator[bytes]:
    for start in range(begin, end, PIECE * 8):
        yield bytes(memoryview(buffer)[start : min(start + PIECE * 8, end)])
