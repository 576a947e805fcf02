"""Statistics of a model's tensors: exact where numbers are, whatever the pieces that the bytes come in."""

import itertools
import math
import statistics
from fractions import Fraction

import numpy as np
import pytest
from artifacts import a_model
from hypothesis import given
from hypothesis import strategies as st

from fedn_py.model.dtypes import FLOATS, SIZES, read_numbers, round_floats
from fedn_py.model.layout import ModelLayout, TensorSpec, head_size, parse_layout
from fedn_py.model.statistics import ModelStatistics, TensorStatistics

floats = st.floats(-1e6, 1e6, width=32)


def found_in(model: bytes, cuts: list[int]) -> tuple[TensorStatistics, ...]:
    """Return the statistics of a model whose tensors' bytes come cut at these places."""
    layout = parse_layout(model[: head_size(model[:8])], len(model))
    found = ModelStatistics(layout)
    body = model[layout.header_size :]
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    for begin, end in itertools.pairwise(places):
        found.add(body[begin:end])
    return found.tensors()


@given(
    st.lists(st.lists(floats, max_size=40), min_size=1, max_size=5),
    st.lists(st.integers(0, 2000), max_size=12),
    st.sampled_from(["F32", "F64"]),
)
def test_they_are_those_of_the_numbers_whatever_the_pieces(
    tensors: list[list[float]], cuts: list[int], dtype: str
) -> None:
    model = a_model({f"t{place}": (dtype, values) for place, values in enumerate(tensors)})
    for values, found in zip(tensors, found_in(model, cuts), strict=True):
        if not values:
            assert found == TensorStatistics(None, None, None, None, 0.0, 0)
            continue
        exact = [Fraction(value) for value in values]
        mean = sum(exact) / len(exact)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in exact) / len(exact))
        scale = max(1.0, *(abs(value) for value in values))
        assert (found.minimum, found.maximum) == (min(values), max(values))
        assert found.mean == pytest.approx(float(mean), abs=1e-12 * scale)
        assert found.deviation == pytest.approx(deviation, rel=1e-9, abs=1e-9 * scale)
        assert found.zeros == values.count(0.0) / len(values)
        assert found.not_finite == 0


def test_small_differences_far_from_zero_are_not_lost() -> None:
    values = [1e9 + place % 7 for place in range(1000)]
    (found,) = found_in(a_model({"w": ("F64", values)}), list(range(0, 8000, 731)))
    assert found.deviation == pytest.approx(statistics.pstdev(values), rel=1e-9)


def test_what_is_not_finite_is_counted_and_left_out() -> None:
    values = [math.nan, 1.0, math.inf, 0.0, -math.inf, 2.0]
    (found,) = found_in(a_model({"w": ("F32", values)}), [3, 9])
    assert (found.minimum, found.maximum, found.mean, found.not_finite) == (0.0, 2.0, 1.0, 3)
    assert found.zeros == 1 / 6
    (nothing,) = found_in(a_model({"w": ("F32", [math.nan, math.inf])}), [])
    assert nothing == TensorStatistics(None, None, None, None, 0.0, 2)


def test_figures_beyond_float64_are_none() -> None:
    (found,) = found_in(a_model({"w": ("F64", [1.7e308, -1.7e308, 1.7e308])}), [])
    assert (found.minimum, found.maximum, found.deviation) == (-1.7e308, 1.7e308, None)


@pytest.mark.parametrize("dtype", SIZES)
def test_every_type_is_read(dtype: str) -> None:
    values = [0.0, 1.0, 0.0, 1.0] if dtype == "BOOL" else [0.0, 1.0, 2.0, 5.0]
    numpy_types = {"BOOL": "?", "U": "<u", "I": "<i"}
    if dtype in FLOATS:
        content = round_floats(np.array(values), dtype) or b""
    else:
        kind = "?" if dtype == "BOOL" else f"{numpy_types[dtype[0]]}{SIZES[dtype]}"
        content = np.array(values).astype(kind).tobytes()
    assert read_numbers(content, dtype, 0, 4).tolist() == values
    spec = TensorSpec("t", dtype, (2, 2), 10, 10 + len(content))
    found = ModelStatistics(ModelLayout((spec,), 10, spec.end))
    for place in range(len(content)):  # a byte at a time
        found.add(content[place : place + 1])
    assert found.tensors()[0].mean == sum(values) / 4
    assert found.tensors()[0].maximum == max(values)


def test_negative_integers_are_negative() -> None:
    assert read_numbers(np.array([-3, 2], "<i2").tobytes(), "I16", 0, 2).tolist() == [-3.0, 2.0]


def test_more_than_the_layout_has_is_refused() -> None:
    model = a_model({"w": ("F32", [1.0])})
    layout = parse_layout(model, len(model))
    with pytest.raises(IndexError):
        ModelStatistics(layout).add(model[layout.header_size :] + b"x")
