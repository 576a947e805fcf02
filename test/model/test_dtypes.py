"""Float types against exact fractions: every finite value of a 16-bit type is listed, and the nearest one looked up."""

from bisect import bisect_left
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn_py.model.dtypes import read_floats, round_floats


def bfloat16_value(bits: int) -> Fraction:
    """Return the value by the definition of the format: sign, 8 bits of exponent, 7 of fraction."""
    exponent, fraction = bits >> 7 & 0xFF, bits & 0x7F
    magnitude = (
        Fraction(128 + fraction) * Fraction(2) ** (exponent - 134) if exponent else fraction * Fraction(2) ** -133
    )
    return -magnitude if bits >> 15 else magnitude


def float16_value(bits: int) -> Fraction:
    exponent, fraction = bits >> 10 & 0x1F, bits & 0x3FF
    magnitude = (
        Fraction(1024 + fraction) * Fraction(2) ** (exponent - 25) if exponent else fraction * Fraction(2) ** -24
    )
    return -magnitude if bits >> 15 else magnitude


POSITIVE = {
    "BF16": [bfloat16_value(bits) for bits in range(0x7F80)],
    "F16": [float16_value(bits) for bits in range(0x7C00)],
}


def nearest_bits(value: float, dtype: str) -> int | None:
    """Return the bits of the nearest value, ties to the even one; None beyond half a step above the largest."""
    values, exact = POSITIVE[dtype], abs(Fraction(value))
    above = bisect_left(values, exact)
    if above == len(values):
        half_step = (values[-1] - values[-2]) / 2
        if exact - values[-1] >= half_step:
            return None
        bits = above - 1
    elif above == 0:
        bits = 0
    else:
        down, up = exact - values[above - 1], values[above] - exact
        bits = above - 1 if down < up or (down == up and (above - 1) % 2 == 0) else above
    return bits | (0x8000 if np.signbit(value) else 0)


finite_floats = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def awkward_floats(draw: st.DrawFn, dtype: str) -> float:
    """Values on, just below and just above the middle between two neighbours, where rounding twice goes wrong."""
    values = POSITIVE[dtype]
    index = draw(st.integers(0, len(values) - 2))
    middle = float((values[index] + values[index + 1]) / 2)
    nudged = draw(
        st.sampled_from([middle, np.nextafter(middle, 0), np.nextafter(middle, np.inf), middle * (1 + 2**-30)])
    )
    return float(nudged) * draw(st.sampled_from([1, -1]))


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_a_16_bit_float_is_rounded_once_to_the_nearest_with_ties_to_even(dtype: str) -> None:
    @given(st.one_of(finite_floats, awkward_floats(dtype), st.floats(-70000, 70000), st.floats(3.3e38, 3.5e38)))
    def check(value: float) -> None:
        stored = round_floats(np.array([value]), dtype)
        expected = nearest_bits(value, dtype)
        assert (None if stored is None else int.from_bytes(stored, "little")) == expected

    check()


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_every_finite_16_bit_float_is_read_exactly_and_written_back_unchanged(dtype: str) -> None:
    positive = np.arange(len(POSITIVE[dtype]), dtype="<u2")
    stored = np.concatenate([positive, positive | 0x8000]).astype("<u2").tobytes()

    values = read_floats(stored, dtype, 0, len(stored) // 2)

    assert [Fraction(value) for value in values[: len(positive)]] == POSITIVE[dtype]
    assert round_floats(values, dtype) == stored


@given(finite_floats)
def test_a_float32_is_rounded_to_the_nearest(value: float) -> None:
    stored = round_floats(np.array([value]), "F32")
    if stored is None:
        assert abs(value) > float(np.finfo(np.float32).max)
        return
    found = np.frombuffer(stored, "<f4")[0]
    with np.errstate(over="ignore"):
        neighbours = [np.nextafter(found, np.float32(np.inf)), np.nextafter(found, np.float32(-np.inf))]
    error = abs(Fraction(float(found)) - Fraction(value))
    assert all(error <= abs(Fraction(float(other)) - Fraction(value)) for other in neighbours if np.isfinite(other))


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32", "F64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_never_written(dtype: str, value: float) -> None:
    assert round_floats(np.array([1.0, value]), dtype) is None


@pytest.mark.parametrize(("dtype", "value"), [("F16", 65520.0), ("BF16", 3.4e38), ("F32", 3.5e38)])
def test_a_value_too_large_for_its_type_is_never_written(dtype: str, value: float) -> None:
    assert round_floats(np.array([value]), dtype) is None
    assert round_floats(np.array([-value]), dtype) is None


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32", "F64"])
def test_reading_starts_at_any_byte(dtype: str) -> None:
    stored = round_floats(np.array([1.5, -2.0, 0.25]), dtype)
    assert stored is not None
    assert list(read_floats(b"xyz" + stored, dtype, 3, 3)) == [1.5, -2.0, 0.25]


def test_what_is_read_is_a_copy_that_leaves_the_buffer_free() -> None:
    buffer = bytearray(np.array([1.0, 2.0]).tobytes())
    values = read_floats(buffer, "F64", 0, 2)
    buffer.clear()  # raises BufferError where a view is left
    assert list(values) == [1.0, 2.0]
