"""PyTorch modules as model files: the ``state_dict``, parameters and buffers, under its own names.

Tensors go through PyTorch's own safetensors binding, so bfloat16 stays bfloat16. Integer buffers (the batch counter of
BatchNorm) are in the file too; the network keeps the global model's value for them. Tied parameters are written
once for each of their names, since averaging keeps equal tensors equal.
"""

import os
from typing import Any

from fedn_py.errors import MissingDependency


def load_into(module: Any, path: str | os.PathLike[str]) -> None:
    """Read a model file into a module; names and shapes must be those of its ``state_dict``."""
    tensors = _binding().load_file(path, device="cpu")
    module.load_state_dict(tensors, strict=True)


def save_from(module: Any, path: str | os.PathLike[str]) -> None:
    """Write a module's ``state_dict`` as a model file, from whichever device it is on."""
    # Copies on the CPU: the binding refuses tensors that share memory, and views that are not contiguous.
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}
    _binding().save_file(state, path)


def _binding() -> Any:
    try:
        import safetensors.torch as binding
    except ImportError as fault:
        raise MissingDependency(
            "PyTorch is not installed", remedy="Install it: python -m pip install 'fedn-py[torch]'"
        ) from fault
    return binding
