"""Model files: named tensors in the safetensors format, as numpy arrays.

The network averages float tensors (F16, BF16, F32, F64); integer and bool tensors keep the global model's values.
A trained model must hold the same tensors as the one it was trained from: names, dtypes and shapes.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fedn_py.errors import OwnFault

_DTYPES = "BOOL, I8, U8, I16, U16, F16, BF16, I32, U32, F32, I64, U64 and F64"


class UnreadableModel(OwnFault):
    """A file that should hold a model does not, or holds one that numpy cannot show."""


class InvalidTensors(OwnFault):
    """What should be saved as a model is not a mapping of names to numeric arrays."""


def load_model(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """Read a model file.

    Returns:
        the tensors by name. BF16 tensors come as ``ml_dtypes.bfloat16`` where that small library is installed
        (JAX brings it).

    Raises:
        UnreadableModel: no file is there, it is not safetensors, or it has BF16 tensors and ml_dtypes is missing.
    """
    try:
        return dict(load_file(path))
    except TypeError as fault:
        if "bfloat16" not in str(fault):
            raise
    except FileNotFoundError as fault:
        raise UnreadableModel(f"there is no model file {path}", remedy="Check the path.") from fault
    except (SafetensorError, OSError) as fault:
        raise UnreadableModel(
            f"{path} is not a model: {fault}", remedy="Give a file in the safetensors format, as save_model writes it."
        ) from fault
    return _load_with_bfloat16(path)


def save_model(path: str | os.PathLike[str], tensors: Mapping[str, npt.ArrayLike]) -> None:
    """Write a model file; it appears whole or not at all.

    Args:
        path: where to; an existing file is replaced.
        tensors: name to array. Dtypes are kept as they are: train in the dtypes that the model came in.

    Raises:
        InvalidTensors: there is no tensor, a name is no text, or an array is not numeric.
    """
    partial = Path(f"{os.fspath(path)}.partial")
    save_file(storable(tensors), partial)
    partial.replace(path)


def storable(tensors: Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[Any]]:
    """Return tensors as arrays that lie in memory as they would in a file; raises InvalidTensors."""
    if not tensors:
        raise InvalidTensors("a model needs at least one tensor, this one has none", remedy="Pass name: array pairs.")
    return {name: _storable(name, tensor) for name, tensor in tensors.items()}


def _storable(name: str, tensor: npt.ArrayLike) -> npt.NDArray[Any]:
    # safetensors copies memory as it lies: a transposed view would be stored in the wrong order. (ascontiguousarray
    # would turn a scalar into a vector.)
    array = np.asarray(tensor, order="C")
    if not isinstance(name, str) or not name:
        raise InvalidTensors(f"a tensor is named {name!r}", remedy="Name every tensor by a text that is not empty.")
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise InvalidTensors(
            f"tensor {name!r} has dtype {array.dtype}, which a model cannot hold",
            remedy=f"Use one of {_DTYPES}.",
        )
    return array


def _load_with_bfloat16(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    try:
        import ml_dtypes  # noqa: F401  (importing it teaches numpy the name bfloat16)
    except ImportError as fault:
        raise UnreadableModel(
            f"{path} has bfloat16 tensors, which numpy alone cannot show",
            remedy="Install ml_dtypes, or read the model with fedn_py.package.pytorch.",
        ) from fault
    return dict(load_file(path))
