from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn_py.aggregation.admission import (
    MAX_MAGNITUDE,
    MAX_SAMPLES,
    InvalidSamples,
    check_samples,
    check_size,
    check_update,
)
from fedn_py.aggregation.weighted_sum import WeightedSum
from fedn_py.model.layout import ModelLayout
from fedn_py.model.pieces import WrongLength, elements
from fedn_py.model.vector import NotFinite

Layouts = Callable[..., ModelLayout]


def in_chunks(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


@pytest.mark.parametrize("samples", [1, 1000, MAX_SAMPLES])
def test_a_number_of_samples_can_be_a_weight(samples: int) -> None:
    check_samples(samples)


@pytest.mark.parametrize("samples", [0, -1, MAX_SAMPLES + 1])
def test_no_samples_or_too_many_are_refused(samples: int) -> None:
    with pytest.raises(InvalidSamples, match=str(samples)):
        check_samples(samples)


def test_the_size_of_an_update_is_checked_before_its_bytes_come(a_layout: Layouts) -> None:
    layout = a_layout(a=("F16", 3), steps=("I64", 2))
    check_size(12, layout)
    with pytest.raises(WrongLength, match="has 13 bytes, not 12"):
        check_size(13, layout)


@pytest.mark.parametrize("dtype", ["F16", "F64"])
@pytest.mark.parametrize("chunk", [1, 5, 8, 1000])
def test_a_whole_finite_update_is_admitted(a_layout: Layouts, dtype: str, chunk: int) -> None:
    layout = a_layout(a=(dtype, 3), b=("BF16", 2))
    check_update(in_chunks(np.arange(5, dtype=layout.update_dtype).tobytes(), chunk), layout)


@pytest.mark.parametrize("size", [0, 4, 16, 19, 21, 24, 4000])
def test_a_shorter_or_longer_update_is_refused(a_layout: Layouts, size: int) -> None:
    with pytest.raises(WrongLength):
        check_update(in_chunks(bytes(size), 8), a_layout(a=("F32", 3), b=("F32", 2)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("index", "tensor"), [(0, "a"), (2, "a"), (3, "b"), (5, "c")])
@pytest.mark.parametrize("dtype", ["F32", "F64"])
def test_a_value_that_is_not_finite_is_refused_by_the_tensors_name(
    a_layout: Layouts, dtype: str, index: int, tensor: str, value: float
) -> None:
    layout = a_layout(a=(dtype, 3), steps=("I64", 9), b=("F16", 2), c=("F32", 1))
    update = np.zeros(6, layout.update_dtype)
    update[index] = value
    with pytest.raises(NotFinite, match=f"the update of tensor '{tensor}'"):
        check_update(in_chunks(update.tobytes(), 7), layout)


def test_values_that_could_make_the_sum_overflow_are_refused(a_layout: Layouts) -> None:
    layout = a_layout(a=("F64", 1))
    for value in (MAX_MAGNITUDE, -MAX_MAGNITUDE):
        check_update([np.array([value]).tobytes()], layout)
        with pytest.raises(NotFinite, match="'a'"):
            check_update([np.array([value * 1.01]).tobytes()], layout)


def test_the_largest_float32_is_admitted(a_layout: Layouts) -> None:
    check_update([np.array([np.finfo("<f4").max], "<f4").tobytes()], a_layout(a=("F32", 1)))


@given(st.binary(max_size=40), st.integers(1, 9), st.sampled_from(["F32", "F64"]), st.integers(0, 5))
def test_whatever_is_admitted_can_be_added(a_layout: Layouts, content: bytes, chunk: int, dtype: str, n: int) -> None:
    layout = a_layout(a=(dtype, n))
    try:
        check_update(in_chunks(content, chunk), layout)
    except (WrongLength, NotFinite):
        return
    total = WeightedSum(layout.n_parameters)
    total.add(elements(in_chunks(content, chunk), layout.update_dtype), MAX_SAMPLES)
    assert np.isfinite(np.frombuffer(total.view(), "<f8")).all()
