"""Whether two models hold the same tensors: by name, type and shape, in whatever order."""

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from fedn_py.errors import PeerFault
from fedn_py.model.dtypes import dtype_of
from fedn_py.model.layout import ModelLayout, TensorSpec

_REMEDY = "Train must save every tensor of the model it was given, under its name, in its type and shape, and no other."


class MissingTensor(PeerFault):
    """A model lacks a tensor of the global model."""

    def __init__(self, tensor: str) -> None:
        super().__init__(f"the model has no tensor {tensor!r}, the global model has", remedy=_REMEDY)
        self.tensor = tensor


class UnexpectedTensor(PeerFault):
    """A model has a tensor that the global model lacks."""

    def __init__(self, tensor: str) -> None:
        super().__init__(f"the model has a tensor {tensor!r}, the global model has none", remedy=_REMEDY)
        self.tensor = tensor


class WrongDtype(PeerFault):
    """A tensor is of another element type than in the global model."""

    def __init__(self, tensor: str, found: str, expected: str) -> None:
        super().__init__(f"tensor {tensor!r} is of type {found}, in the global model of {expected}", remedy=_REMEDY)
        self.tensor, self.found, self.expected = tensor, found, expected


class WrongShape(PeerFault):
    """A tensor is of another shape than in the global model."""

    def __init__(self, tensor: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
        super().__init__(
            f"tensor {tensor!r} is of shape {list(found)}, in the global model of {list(expected)}", remedy=_REMEDY
        )
        self.tensor, self.found, self.expected = tensor, found, expected


def match_arrays(arrays: Mapping[str, npt.NDArray[Any]], base: ModelLayout) -> None:
    """Look whether arrays in memory are the tensors of a model.

    Raises:
        MissingTensor, UnexpectedTensor, WrongDtype, WrongShape: the first difference, in the base's order.
    """
    specs = tuple(
        TensorSpec(name, dtype_of(array) or array.dtype.name, array.shape, 0, 0) for name, array in arrays.items()
    )
    match_tensors(ModelLayout(specs, 0, 0), base)


def match_tensors(model: ModelLayout, base: ModelLayout) -> dict[str, TensorSpec]:
    """Return the model's tensors by name, once they are known to be those of the base.

    Raises:
        MissingTensor, UnexpectedTensor, WrongDtype, WrongShape: the first difference, in the base's order.
    """
    by_name = {tensor.name: tensor for tensor in model.tensors}
    for expected in base.tensors:
        found = by_name.get(expected.name)
        if found is None:
            raise MissingTensor(expected.name)
        if found.dtype != expected.dtype:
            raise WrongDtype(expected.name, found.dtype, expected.dtype)
        if found.shape != expected.shape:
            raise WrongShape(expected.name, found.shape, expected.shape)
    if len(by_name) > len(base.tensors):
        raise UnexpectedTensor(min(by_name.keys() - {tensor.name for tensor in base.tensors}))
    return by_name
