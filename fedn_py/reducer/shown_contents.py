"""What is inside compute packages and models, as people see it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PackageFileView:
    """One file of a compute package; ``size`` in bytes, unpacked."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class TensorView:
    """One tensor of a model, and what its numbers are like.

    Attributes:
        dtype: the element type by its safetensors name, such as "F32".
        shape: () for a scalar.
        size: bytes.
        minimum, maximum, mean, deviation: of the finite elements; None where there are none, or the figure is beyond
            float64. ``deviation`` is the standard deviation.
        zeros: the share of elements that are 0, from 0 to 1.
        not_finite: how many elements are NaN or infinite.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    minimum: float | None
    maximum: float | None
    mean: float | None
    deviation: float | None
    zeros: float
    not_finite: int
