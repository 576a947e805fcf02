from collections.abc import Callable

import pytest
from hypothesis import settings

from fedn_py.model.dtypes import SIZES
from fedn_py.model.layout import ModelLayout, TensorSpec

settings.register_profile("fedn_py", deadline=None)  # a busy machine is no fault
settings.load_profile("fedn_py")


@pytest.fixture(scope="session")
def a_layout() -> Callable[..., ModelLayout]:
    """Builds the layout of a model from name=(dtype, count)."""

    def build(**tensors: tuple[str, int]) -> ModelLayout:
        position, specs = 100, []
        for name, (dtype, count) in tensors.items():
            end = position + count * SIZES[dtype]
            specs.append(TensorSpec(name, dtype, (count,), position, end))
            position = end
        return ModelLayout(tuple(specs), 100, position)

    return build
