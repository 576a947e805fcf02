import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fedn_py.aggregation.metrics import MAX_NAMES, InvalidMetrics, MetricSums, check_metrics, merge, summarise

values = st.floats(-1e9, 1e9)
clients = st.tuples(st.dictionaries(st.sampled_from(["accuracy", "loss", "f1"]), values), st.integers(1, 10**6))


def flat_means(results: list[tuple[dict[str, float], int]]) -> dict[str, Fraction]:
    found = {}
    for name in {name for metrics, _ in results for name in metrics}:
        given_by = [(Fraction(metrics[name]), samples) for metrics, samples in results if name in metrics]
        found[name] = sum(value * samples for value, samples in given_by) / sum(samples for _, samples in given_by)
    return found


@given(st.lists(st.lists(clients, max_size=5), max_size=5))
def test_any_spread_over_combiners_gives_the_mean_over_all_clients(cells) -> None:
    found = merge(summarise(cell) for cell in cells).means()
    everybody = [client for cell in cells for client in cell]
    expected = flat_means(everybody)
    assert found.keys() == expected.keys()
    for name, mean in found.items():
        largest = max(abs(metrics.get(name, 0.0)) for metrics, _ in everybody)
        # Beside the smallest numbers there are, a step of them is more than any share of them.
        assert abs(Fraction(mean) - expected[name]) <= 1e-12 * largest + 5e-323


@given(st.lists(clients), st.randoms())
def test_the_order_of_clients_does_not_matter(results, order) -> None:
    shuffled = list(results)
    order.shuffle(shuffled)
    assert summarise(shuffled) == summarise(results)


def test_a_metric_counts_for_the_clients_that_gave_it() -> None:
    sums = summarise([({"accuracy": 1.0, "f1": 0.5}, 10), ({"accuracy": 0.0}, 30)])
    assert sums == MetricSums({"accuracy": 10.0, "f1": 5.0}, {"accuracy": 40, "f1": 10})
    assert sums.means() == {"accuracy": 0.25, "f1": 0.5}


def test_no_clients_have_no_metrics() -> None:
    assert summarise([]) == merge([]) == MetricSums()
    assert MetricSums().means() == {}


@pytest.mark.parametrize("value", [1, 0.5, -3, np.float32(0.25), np.int64(7), True * 1.0])
def test_a_number_is_a_metric(value: object) -> None:
    checked = check_metrics({"val accuracy@5 (µ)": value})
    assert type(checked["val accuracy@5 (µ)"]) is float


@pytest.mark.parametrize(
    "value", [None, "0.5", True, [1.0], {}, 1j, float("nan"), float("inf"), -float("inf"), 1e200, 10**400, -(10**200)]
)
def test_anything_else_is_no_metric(value: object) -> None:
    with pytest.raises(InvalidMetrics, match="'loss'") as caught:
        check_metrics({"loss": value})
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["", " ", " a", "a ", "a\nb", "\x1b[31m", "\u202e", "n" * 65, "\ud800", 7, None])
def test_a_name_must_be_short_and_printable(name: object) -> None:
    with pytest.raises(InvalidMetrics, match="cannot be the name"):
        check_metrics({name: 1.0})  # type: ignore[dict-item]


def test_there_are_at_most_64_metrics() -> None:
    assert len(check_metrics({f"m{i}": i for i in range(MAX_NAMES)})) == MAX_NAMES
    with pytest.raises(InvalidMetrics, match="65 metrics"):
        check_metrics({f"m{i}": i for i in range(MAX_NAMES + 1)})


@pytest.mark.parametrize(
    ("weighted_sums", "weights"),
    [({"a": 1.0}, {}), ({}, {"a": 1}), ({"a": 1.0}, {"a": 0}), ({"a": float("nan")}, {"a": 1})],
)
def test_sums_that_do_not_fit_their_weights_are_refused(weighted_sums, weights) -> None:
    with pytest.raises(InvalidMetrics):
        MetricSums(weighted_sums, weights)


def test_sums_too_large_to_be_added_are_refused() -> None:
    with pytest.raises(InvalidMetrics):
        merge([MetricSums({"a": 1.7e308}, {"a": 1})] * 2)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=2)
)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
@example({"a": 2**53 + 1})
def test_any_json_object_is_taken_or_refused_by_name(metrics: dict[str, Any]) -> None:
    try:
        checked = check_metrics(metrics)
    except InvalidMetrics:
        return
    assert checked == {name: float(value) for name, value in metrics.items()}
    assert json.loads(json.dumps(checked)) == checked
    assert summarise([(checked, 1)]).means() == checked
