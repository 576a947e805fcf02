"""Keras models as tensors: ``model.weights`` in their order, without optimiser state, metrics and random seeds.

Tensor names are the place and the variable's own name (``0000.kernel``, ``0001.bias``): Keras numbers layers anew
for each model built in a process, so a layer's name is not the same everywhere, its place is.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedn_py.errors import OwnFault
from fedn_py.package.models import load_model, save_model


class OtherWeights(OwnFault):
    """A model file with other tensors than the Keras model it should go into."""


def get_tensors(model: Any) -> dict[str, npt.NDArray[Any]]:
    """Return a built model's weights by name; non-trainable ones such as running means are among them."""
    return {name: np.asarray(weight) for name, weight in zip(_names(model), model.get_weights(), strict=True)}


def set_tensors(model: Any, tensors: Mapping[str, npt.ArrayLike]) -> None:
    """Put weights into a built model.

    Raises:
        OtherWeights: the names are not those of this model's weights.
    """
    names = _names(model)
    if set(names) != set(tensors):
        missing = sorted(set(names) ^ set(tensors))
        raise OtherWeights(
            f"these tensors are in the file or in the Keras model but not in both: {', '.join(missing[:5])}",
            remedy="Build the same network as the one that made the seed model.",
        )
    model.set_weights([np.asarray(tensors[name]) for name in names])


def load_into(model: Any, path: str | os.PathLike[str]) -> None:
    """Read a model file into a built Keras model; see ``set_tensors``."""
    set_tensors(model, load_model(path))


def save_from(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a Keras model's weights as a model file."""
    save_model(path, get_tensors(model))


def _names(model: Any) -> list[str]:
    return [f"{place:04d}.{weight.name}" for place, weight in enumerate(model.weights)]
