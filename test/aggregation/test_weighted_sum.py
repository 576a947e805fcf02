"""Weighted FedAvg through tiers, against flat weighted FedAvg in exact fractions."""

import tracemalloc
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn_py.aggregation.weighted_sum import NoWeight, SumSpoiled, TooLittleMemory, WeightedSum, mean_chunks
from fedn_py.model.pieces import WrongLength, elements
from fedn_py.model.vector import NotFinite

Client = tuple[list[float], int]


def flat_fedavg(clients: list[Client]) -> list[Fraction]:
    """Return the definition: one sum over all clients, in exact arithmetic."""
    weight = sum(samples for _, samples in clients)
    columns = zip(*(update for update, _ in clients), strict=True)
    return [
        sum((Fraction(x) * samples for x, (_, samples) in zip(column, clients, strict=True)), Fraction(0)) / weight
        for column in columns
    ]


def tolerance(clients: list[Client]) -> list[float]:
    """Return 1e-12 of the mean of absolute values, which cancellation between clients does not shrink.

    Near the smallest floats there are, where they have fewer digits, it is 1e-300.
    """
    means = flat_fedavg([([abs(v) for v in update], n) for update, n in clients])
    return [max(1e-12 * float(mean), 1e-300) for mean in means]


def sum_of(clients: Iterable[Client], n_parameters: int, dtype: str = "<f4", portion: int = 2) -> WeightedSum:
    total = WeightedSum(n_parameters)
    for update, samples in clients:
        vector = np.array(update, dtype)
        total.add((vector[start : start + portion] for start in range(0, n_parameters, portion)), samples)
    return total


def cut(content: memoryview, size: int) -> Iterator[memoryview]:
    return (content[start : start + size] for start in range(0, len(content), size))


def mean_of(sums: list[WeightedSum], n_parameters: int, max_bytes: int = 24) -> list[float]:
    streams = [elements(cut(total.view(), max_bytes), "<f8") for total in sums]
    pieces = list(mean_chunks(streams, [total.weight for total in sums], n_parameters))
    return [x for piece in pieces for x in piece.tolist()]


@st.composite
def networks(draw: st.DrawFn) -> tuple[str, int, list[list[Client]]]:
    """Return an update type, a number of parameters, and clients spread over combiners."""
    dtype, n_parameters = draw(st.sampled_from(["<f4", "<f8"])), draw(st.integers(1, 7))
    values = st.floats(-1e6, 1e6, width=32 if dtype == "<f4" else 64)
    client = st.tuples(
        st.lists(values, min_size=n_parameters, max_size=n_parameters),
        st.one_of(st.integers(1, 1000), st.integers(1, 10**9)),
    )
    return dtype, n_parameters, draw(st.lists(st.lists(client, min_size=1, max_size=5), min_size=1, max_size=5))


@given(networks(), st.integers(1, 9), st.integers(8, 80))
def test_any_spread_over_combiners_gives_flat_weighted_fedavg(network, portion: int, max_bytes: int) -> None:
    dtype, n_parameters, cells = network
    sums = [sum_of(cell, n_parameters, dtype, portion) for cell in cells]

    found = mean_of(sums, n_parameters, max_bytes)

    clients = [client for cell in cells for client in cell]
    for value, expected, allowed in zip(found, flat_fedavg(clients), tolerance(clients), strict=True):
        assert abs(Fraction(value) - expected) <= allowed


def test_one_client_of_10_samples_against_seven_of_1000_counts_for_what_it_has() -> None:
    small: list[Client] = [([1.0, -1.0], 10)]
    large: list[Client] = [([float(i), 0.5], 1000) for i in range(7)]

    found = mean_of([sum_of(small, 2), sum_of(large, 2)], 2)

    assert found == pytest.approx([21010 / 7010, (3500 - 10) / 7010], rel=1e-15)
    assert found == pytest.approx([float(x) for x in flat_fedavg(small + large)], rel=1e-15)
    assert abs(found[0] - (1.0 + 3.0) / 2) > 0.9  # what equal weights for the combiners would give


def test_the_same_calls_give_the_same_bits() -> None:
    rng = np.random.default_rng(1)
    clients = [(rng.normal(size=50).tolist(), int(rng.integers(1, 1000))) for _ in range(20)]
    first, second = sum_of(clients, 50), sum_of(clients, 50, portion=7)
    assert first.view() == second.view()


def test_a_sum_counts_its_updates_and_their_weight() -> None:
    total = sum_of([([1.0], 3), ([5.0], 4)], 1)
    assert (total.count, total.weight) == (2, 7)
    assert total.view() == np.array([23.0], "<f8").tobytes()


def test_a_float32_update_is_weighted_in_float64() -> None:
    total = sum_of([([1 / 3], 10**9)], 1)
    assert total.view() == np.array([float(np.float32(1 / 3)) * 1e9], "<f8").tobytes()


def test_a_sum_is_looked_at_and_not_copied() -> None:
    total = sum_of([([1.0] * 9, 1)], 9)
    assert np.shares_memory(np.frombuffer(total.view(), "<f8"), np.frombuffer(total.view(), "<f8"))
    assert np.frombuffer(total.view(), "<f8").tolist() == [1.0] * 9
    assert WeightedSum(0).view() == b""


@pytest.mark.parametrize("length", [0, 2, 4])
def test_an_update_of_another_length_is_refused_and_the_sum_is_never_used_again(length: int) -> None:
    total = WeightedSum(3)
    with pytest.raises(WrongLength):
        total.add([np.ones(length, "<f4")], 1)
    with pytest.raises(SumSpoiled):
        total.add([np.ones(3, "<f4")], 1)
    with pytest.raises(SumSpoiled):
        total.view()
    assert total.count == 0


def test_an_update_that_breaks_off_spoils_the_sum() -> None:
    def breaking_off() -> Iterable[np.ndarray]:
        yield np.ones(1, "<f4")
        raise OSError

    total = WeightedSum(3)
    with pytest.raises(OSError):  # noqa: PT011
        total.add(breaking_off(), 1)
    with pytest.raises(SumSpoiled):
        total.view()


def test_a_sum_of_nothing_is_refused() -> None:
    with pytest.raises(NoWeight):
        mean_chunks([], [], 3)


@pytest.mark.parametrize("weights", [[0], [5, 0], [5, -1]])
def test_a_partial_aggregate_without_weight_is_refused_at_once(weights: list[int]) -> None:
    with pytest.raises(NoWeight):
        mean_chunks([iter([np.ones(3)]) for _ in weights], weights, 3)


@pytest.mark.parametrize("length", [0, 2, 4])
def test_a_partial_aggregate_of_another_length_is_named(length: int) -> None:
    with pytest.raises(WrongLength, match="partial aggregate 2 of 2"):
        list(mean_chunks([[np.ones(3)], [np.ones(length)]], [1, 1], 3))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_partial_aggregate_that_is_not_finite_is_named(value: float) -> None:
    with pytest.raises(NotFinite, match="partial aggregate 2 of 3"):
        list(mean_chunks([[np.ones(2)], [np.array([0.0, value])], [np.ones(2)]], [1, 1, 1], 2))


def test_a_mean_that_overflows_is_refused() -> None:
    with pytest.raises(NotFinite, match="the sum of the partial aggregates"):
        list(mean_chunks([[np.array([1.7e308])], [np.array([1.7e308])]], [1, 1], 1))


def test_a_model_without_parameters_has_an_empty_mean() -> None:
    assert mean_of([sum_of([([], 5)], 0)], 0) == []


def test_a_sum_too_large_for_any_memory_says_so() -> None:
    with pytest.raises(TooLittleMemory, match="8,000,000,000,000,000,000"):
        WeightedSum(10**18)


def test_memory_does_not_grow_with_the_number_of_updates_or_combiners() -> None:
    n_parameters = 2 * 1024 * 1024

    def an_update() -> Iterable[np.ndarray]:
        return elements((bytes(1024 * 1024) for _ in range(8)), "<f4")

    tracemalloc.start()
    total = WeightedSum(n_parameters)
    for _ in range(20):
        total.add(an_update(), 10)
    _, adding = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    streams = [elements(cut(total.view(), 1024 * 1024), "<f8") for _ in range(5)]
    for _ in mean_chunks(streams, [200] * 5, n_parameters):
        pass
    _, merging = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    accumulator = n_parameters * 8
    assert adding - accumulator < 5 * 1024 * 1024
    assert merging - accumulator < 14 * 1024 * 1024  # two chunks of 1 MiB for each stream
