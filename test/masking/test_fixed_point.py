"""Updates as integers: exact, unbiased, refused where they cannot be held."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.utils import randombytes_deterministic

from fedn_py.masking.fixed_point import (
    CannotHold,
    Encoder,
    Encoding,
    UnmaskCheckFailed,
    check_range,
    check_tail,
    decoded_mean,
    decoded_metrics,
)
from fedn_py.masking.keystream import CHUNK_WORDS, chunk_sizes
from fedn_py.model.vector import NotFinite

SEED = b"r" * 32


def encoded(encoding: Encoding, values: np.ndarray, samples: int = 1, metrics: tuple[float, ...] = ()) -> np.ndarray:
    encoder, out, start = Encoder(encoding, samples, metrics, SEED), np.empty(encoding.n_words, np.uint32), 0
    for number, size in enumerate(chunk_sizes(len(out))):
        encoder.chunk(number, values[start : start + size], out[start : start + size])
        start += size
    return out.view(np.int32)


def by_hand(encoding: Encoding, values: np.ndarray, samples: int) -> list[int]:
    """Encode one value after the other, as the formula is written."""
    stream = np.frombuffer(randombytes_deterministic(4 * len(values), SEED), "<u4")
    omega, s = min(samples, encoding.weight_cap) / encoding.weight_cap, encoding.largest / encoding.clip
    clipped = (min(max(float(x), -encoding.clip), encoding.clip) for x in values)
    return [math.floor(x * omega * s + int(r) * 2**-32) for x, r in zip(clipped, stream, strict=True)]


reals = st.floats(allow_nan=False, allow_infinity=False, width=32)
encodings = st.builds(
    Encoding,
    st.just(1),
    st.floats(1e-6, 1e6),
    n_max=st.integers(1, 10_000),
    weight_cap=st.integers(1, 100_000),
)


@given(encodings, st.lists(reals, min_size=1, max_size=50), st.integers(1, 200_000))
def test_words_are_those_of_the_formula(encoding: Encoding, values: list[float], samples: int) -> None:
    encoding = Encoding(len(values), encoding.clip, encoding.n_max, encoding.weight_cap)
    vector = np.array(values, np.float32)
    words = encoded(encoding, vector, samples)
    assert words[: len(values)].tolist() == by_hand(encoding, vector, samples)
    assert words[len(values)] == min(samples, encoding.weight_cap)
    assert not words[-8:].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [CHUNK_WORDS - 10, CHUNK_WORDS - 9, CHUNK_WORDS - 1, CHUNK_WORDS, CHUNK_WORDS + 1])
def test_lengths_across_a_border_of_chunks_are_the_formulas_too(length: int, dtype: type) -> None:
    encoding = Encoding(length, 0.5, 10, 100)
    vector = np.random.default_rng(1).normal(0, 0.3, length).astype(dtype)
    words = encoded(encoding, vector, 33)
    assert words[:length].tolist() == by_hand(encoding, vector, 33)
    assert words[length:].tolist() == [33] + [0] * 8


@pytest.mark.parametrize("special", [0.0, -0.0, 5e-324, -5e-324, 1e-310, np.float32(1e-45), 1e308, -1e308])
def test_zeros_denormals_and_huge_values_are_encoded(special: float) -> None:
    encoding = Encoding(1, 1.0, 10, 1)
    vector = np.array([special])
    assert encoded(encoding, vector)[:1].tolist() == by_hand(encoding, vector, 1)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 17, 40_000])
def test_what_is_not_finite_is_refused(special: float, place: int) -> None:
    vector = np.zeros(40_001, np.float32)
    vector[place] = special
    with pytest.raises(NotFinite):
        encoded(Encoding(len(vector), 1.0, 10, 1), vector)


def test_a_metric_that_is_not_finite_is_refused() -> None:
    with pytest.raises(NotFinite, match="metric 1"):
        Encoder(Encoding(1, 1.0, 3, 10, (1.0,)), 1, (math.nan,), SEED)


def test_clipped_values_are_counted_and_held_to_the_bound() -> None:
    encoding = Encoding(4, 0.25, 10, 1)
    encoder, out = Encoder(encoding, 1, (), SEED), np.empty(encoding.n_words, np.uint32)
    encoder.chunk(0, np.array([0.25, 0.26, -9.0, -0.25]), out)
    words = out.view(np.int32)[:4]
    assert encoder.clipped == 2
    assert words.tolist() == [encoding.largest, encoding.largest, -encoding.largest, -encoding.largest]


def test_samples_become_a_weight_of_at_least_one_and_at_most_the_cap() -> None:
    encoding = Encoding(1, 1.0, 3, 100)
    assert [encoding.weight(samples) for samples in (1, 99, 100, 101, 10**9)] == [1, 99, 100, 100, 100]
    by_the_hundred = Encoding(1, 1.0, 3, 100, weight_unit=100)
    assert [by_the_hundred.weight(samples) for samples in (1, 100, 101, 10**9)] == [1, 1, 2, 100]
    with pytest.raises(ValueError, match="0 samples"):
        encoding.weight(0)


def test_chunks_of_other_sizes_than_the_vectors_are_refused() -> None:
    encoding = Encoding(3, 1.0, 3, 1)
    encoder = Encoder(encoding, 1, (), SEED)
    for values, out in ((2, 12), (3, 11), (4, 12)):
        with pytest.raises(ValueError, match="chunk 0 is 12 words of 3 values"):
            encoder.chunk(0, np.zeros(values), np.empty(out, np.uint32))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"n_max": 0}, "n_max is 0"),
        ({"n_max": 2**30}, "n_max is 1073741824"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"clip": math.nan}, "clip is nan"),
        ({"clip": math.inf}, "clip is inf"),
        ({"weight_cap": 0}, "weight_cap 0"),
        ({"weight_cap": 2**30, "n_max": 2}, "weight_cap 1073741824 times n_max 2 is 2147483648"),
        ({"metric_bounds": (0.0,)}, "bound of a metric"),
        ({"weight_unit": 0}, "weight_unit is 0"),
        ({"n_parameters": 0}, "0 parameters"),
        ({"n_parameters": 2**32 - 9}, "4294967287 parameters"),
    ],
)
def test_a_plan_whose_sum_could_overflow_is_refused_with_its_numbers(changed: dict[str, float], named: str) -> None:
    terms = {"n_parameters": 4, "clip": 1.0, "n_max": 3, "weight_cap": 100, **changed}
    with pytest.raises(CannotHold, match=named):
        Encoding(**terms)  # type: ignore[arg-type]


@given(st.integers(1, 2**29))
def test_the_fullest_sum_leaves_the_bit_of_headroom_free(n_max: int) -> None:
    encoding = Encoding(1, 1.0, n_max, 1)
    assert encoding.word_bound(n_max) <= 2**30
    assert encoding.largest >= 1


def test_rounding_is_unbiased_and_fixed_by_its_seed() -> None:
    encoding = Encoding(200_000, 1.0, 2**20, 1)  # coarse steps, of 1/1022
    value = 0.3 / encoding.scale
    vector = np.full(200_000, value)
    words = encoded(encoding, vector)[:200_000]
    assert set(words.tolist()) == {0, 1}
    deviation = math.sqrt(0.3 * 0.7 / len(words))
    assert abs(words.mean() - 0.3) < 5 * deviation
    assert np.array_equal(words, encoded(encoding, vector)[:200_000])


def test_the_rounding_of_two_words_is_independent() -> None:
    vector = np.full(200_000, 0.5 / Encoding(1, 1.0, 2**20, 1).scale)
    bits = encoded(Encoding(200_000, 1.0, 2**20, 1), vector)[:200_000].astype(np.float64)
    assert abs(np.corrcoef(bits[:-1], bits[1:])[0, 1]) < 5 / math.sqrt(len(bits))


@given(
    st.lists(st.tuples(st.floats(-1, 1, width=32), st.integers(1, 300)), min_size=1, max_size=20),
    st.floats(1e-3, 1e3),
)
def test_the_mean_is_within_its_bound_of_the_exact_one(rows: list[tuple[float, int]], clip: float) -> None:
    encoding = Encoding(1, clip, len(rows), 200)
    total = np.zeros(encoding.n_words, np.int64)
    exact_sum, exact_weight = Fraction(0), Fraction(0)
    for value, samples in rows:
        total += encoded(encoding, np.array([value * clip]), samples)
        weight = min(samples, 200)
        exact_sum += Fraction(min(max(value * clip, -clip), clip)) * weight
        exact_weight += weight
    mean = decoded_mean(encoding, total[:1], int(total[1]))
    assert int(total[1]) == exact_weight
    error = abs(Fraction(float(mean[0])) - exact_sum / exact_weight)
    # A part in 2**50 for the roundings of float64 itself.
    assert (
        error
        <= Fraction(encoding.error_bound(len(rows), int(total[1]))) * (1 + Fraction(1, 2**20)) + Fraction(clip) / 2**50
    )


def test_metrics_come_out_as_weighted_means_in_their_own_units() -> None:
    encoding = Encoding(1, 0.01, 2, 100, (1.0, 50.0))
    total = np.zeros(encoding.n_words, np.uint32)
    for samples, metrics in ((100, (0.5, -20.0)), (50, (0.8, 90.0))):
        total += encoded(encoding, np.zeros(1), samples, metrics).view(np.uint32)
    tail = check_tail(encoding, 2, total[1:])
    accuracy, loss = decoded_metrics(encoding, tail.metrics, tail.weight)
    assert tail.weight == 150
    assert accuracy == pytest.approx(0.6, abs=1e-8)
    assert loss == pytest.approx((-20 * 100 + 50 * 50) / 150, abs=1e-6)  # 90 was clipped to its bound


@pytest.mark.parametrize("parameters", [5, CHUNK_WORDS - 4, CHUNK_WORDS - 2, CHUNK_WORDS - 1, CHUNK_WORDS])
def test_metrics_are_rounded_by_the_stream_s_own_words_at_their_places(parameters: int) -> None:
    encoding = Encoding(parameters, 1.0, 3, 10, (1.0, 2.0, 4.0))
    metrics = (0.123456789, -1.3, 3.7)
    # As if all were parameters; the weight has a word of the stream too, which is not used.
    values = np.array([*[0.25] * parameters, 0.0, metrics[0], metrics[1] / 2, metrics[2] / 4])
    words = encoded(encoding, values[:parameters], 7, metrics)
    expected = by_hand(encoding, values, 7)
    assert words[:parameters].tolist() == expected[:parameters]
    assert words[parameters + 1 : parameters + 4].tolist() == expected[parameters + 1 :]


def test_a_metric_per_bound_is_asked_for() -> None:
    with pytest.raises(ValueError, match="0 metrics for 1 bounds"):
        Encoder(Encoding(1, 1.0, 3, 10, (1.0,)), 1, (), SEED)


@pytest.mark.parametrize("guard", range(1, 9))
def test_every_guard_is_looked_at(guard: int) -> None:
    tail = np.array([3] + [0] * 8, np.uint32)
    tail[guard] = 1
    with pytest.raises(UnmaskCheckFailed) as refused:
        check_tail(Encoding(1, 1.0, 3, 100), 3, tail)
    assert refused.value.check == "guards"


@pytest.mark.parametrize("weight", [2, 301, 2**31, 2**32 - 1])
def test_a_weight_that_so_many_clients_cannot_have_is_refused(weight: int) -> None:
    tail = np.array([weight] + [0] * 8, np.uint32)
    with pytest.raises(UnmaskCheckFailed) as refused:
        check_tail(Encoding(1, 1.0, 3, 100), 3, tail)
    assert refused.value.check == "weight"


def test_words_are_held_to_what_so_many_clients_can_reach() -> None:
    encoding = Encoding(1, 1.0, 3, 100)
    bound = encoding.word_bound(2)
    check_range(encoding, 2, np.array([bound, -bound], np.int32))
    check_range(encoding, 2, np.empty(0, np.int32))
    for beyond in (bound + 1, -bound - 1, -(2**31)):
        with pytest.raises(UnmaskCheckFailed) as refused:
            check_range(encoding, 2, np.array([beyond], np.int32))
        assert refused.value.check == "range"
    metrics = Encoding(1, 1.0, 3, 100, (1.0,))
    with pytest.raises(UnmaskCheckFailed):
        check_tail(metrics, 2, np.array([2, bound + 1] + [0] * 8, np.uint32))
