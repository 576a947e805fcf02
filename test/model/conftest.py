"""Builders of model files, by hand: byte for byte what a test asks for."""

import json
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("fedn_py", deadline=None)  # a busy machine is no fault
settings.load_profile("fedn_py")

Tensor = tuple[str, tuple[int, ...], bytes]


def build_model_file(
    tensors: Mapping[str, Tensor], *, header_order: list[str] | None = None, padding: int = 0
) -> bytes:
    entries, position = {}, 0
    for name, (dtype, shape, content) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + len(content)]}
        position += len(content)
    header = json.dumps({name: entries[name] for name in header_order or entries}).encode() + b" " * padding
    return len(header).to_bytes(8, "little") + header + b"".join(content for _, _, content in tensors.values())


def build_f32_model(**tensors: list[float]) -> bytes:
    return build_model_file(
        {name: ("F32", (len(values),), np.array(values, "<f4").tobytes()) for name, values in tensors.items()}
    )


@pytest.fixture(scope="session")
def a_model_file() -> Callable[..., bytes]:
    """Builds a file from name -> (dtype, shape, content), the contents in the order given."""
    return build_model_file


@pytest.fixture(scope="session")
def an_f32_model() -> Callable[..., bytes]:
    """Builds a file of one-dimensional F32 tensors from name=[values]."""
    return build_f32_model
