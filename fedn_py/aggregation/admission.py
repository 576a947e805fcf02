"""Whether an update may be added to a sum: looked at whole before any of it is added."""

from collections.abc import Iterable

import numpy as np

from fedn_py.errors import PeerFault
from fedn_py.model.dtypes import Buffer
from fedn_py.model.layout import ModelLayout
from fedn_py.model.pieces import PIECE, Elements, WrongLength, elements
from fedn_py.model.vector import NotFinite

MAX_SAMPLES = 2**40
"""The largest weight of one update; a trillion."""

MAX_MAGNITUDE = 1e150
"""The largest value in an update. With MAX_SAMPLES and any number of clients a sum stays finite."""


class InvalidSamples(PeerFault):
    """A number of samples that cannot be the weight of an update."""

    def __init__(self, samples: int) -> None:
        super().__init__(
            f"an update cannot count for {samples} samples",
            remedy=f"Train must report num_samples as an integer from 1 to {MAX_SAMPLES:,}.",
        )
        self.samples = samples


def check_samples(samples: int) -> None:
    """Raise InvalidSamples unless this can be the weight of an update."""
    if not 1 <= samples <= MAX_SAMPLES:
        raise InvalidSamples(samples)


def check_size(size: int, layout: ModelLayout) -> None:
    """Raise WrongLength unless an update of this model has ``size`` bytes; to be asked before they are received."""
    if size != layout.update_size:
        raise WrongLength("the update", size, layout.update_size)


def check_update(chunks: Iterable[Buffer], layout: ModelLayout) -> None:
    """Read an update's bytes once and raise unless it may be added.

    Args:
        chunks: the update in ``layout.update_dtype``, cut anywhere.
        layout: the round's base model.

    Raises:
        WrongLength: it is shorter or longer than the model's float tensors.
        NotFinite: names the tensor with a value that is NaN, infinite or beyond MAX_MAGNITUDE.
    """
    position, expected = 0, layout.n_parameters
    item = int(layout.update_dtype[-1])
    for array in elements(chunks, layout.update_dtype):
        if position + len(array) > expected:
            raise WrongLength("the update", (position + len(array)) * item, layout.update_size)
        for start in range(0, len(array), PIECE):
            _check_values(array[start : start + PIECE], position + start, layout)
        position += len(array)
    if position != expected:
        raise WrongLength("the update", position * item, layout.update_size)


def _check_values(piece: Elements, position: int, layout: ModelLayout) -> None:
    # A bound beyond float32 would become infinite in its comparison with float32.
    bound = min(MAX_MAGNITUDE, float(np.finfo(piece.dtype).max))
    # Two passes that allocate nothing; false for NaN, which is the minimum of whatever holds it.
    if not (len(piece) == 0 or (np.minimum.reduce(piece) >= -bound and np.maximum.reduce(piece) <= bound)):
        within = np.abs(piece) <= bound
        tensor = layout.tensor_at(position + int(np.argmin(within)))
        raise NotFinite(f"the update of tensor {tensor.name!r}")
