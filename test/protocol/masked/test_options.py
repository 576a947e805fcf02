"""What a session may choose of its masking, whatever its cells will be."""

from typing import Any

import pytest

from fedn_py.masking.fixed_point import Encoding
from fedn_py.protocol.masked.options import (
    ALWAYS_SUMMED,
    DEFAULT_N_MAX,
    GIVEN,
    MOST_CHOSEN,
    MaskedOptions,
    faults_of,
)
from fedn_py.protocol.masked.round_messages import MOST_METRICS, MetricBound


def test_nothing_is_wrong_with_the_defaults() -> None:
    assert list(faults_of(MaskedOptions())) == []


def test_nothing_is_wrong_with_the_largest_that_can_be() -> None:
    metrics = {f"{place:0>60}": 1e300 for place in range(MOST_CHOSEN)}
    largest = MaskedOptions(n_max=4_096, weight_cap=2**18, k=15, r=8, g_min=4_096, reopen="strict", metrics=metrics)
    assert list(faults_of(largest)) == []
    assert 2 * (len(ALWAYS_SUMMED) + MOST_CHOSEN) == MOST_METRICS
    for name, bound in metrics.items():
        MetricBound(GIVEN + name, bound).encode()


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"clip": 0.0}, "clip is 0.0"),
        ({"clip": float("inf")}, "clip is inf"),
        ({"clip": float("nan")}, "clip is nan"),
        ({"n_max": 2}, "n_max is 2"),
        ({"n_max": 4_097}, "n_max is 4097"),
        ({"n_max": -1}, "n_max is -1"),
        ({"weight_cap": 0}, "weight_cap 0"),
        ({"weight_cap": 2**24 + 1}, f"weight_cap 16777217 times n_max {DEFAULT_N_MAX} is 1073741888"),
        ({"weight_cap": 2**18 + 1, "n_max": 4_096}, "weight_cap 262145 times n_max 4096"),
        ({"weight_unit": 0}, "weight_unit is 0"),
        ({"k": 1}, "k is 1"),
        ({"k": 16}, "k is 16"),
        ({"k": -1}, "k is -1"),
        ({"r": 9}, "r is 9"),
        ({"r": -1}, "r is -1"),
        ({"g_min": 2}, "g_min is 2"),
        ({"g_min": 21, "n_max": 20}, "g_min is 21, must be 0 or from 3 to 20"),
        ({"reopen": "never"}, "reopen is 'never'"),
        ({"metrics": {"loss": 0.0}}, "bound of metric loss is 0.0"),
        ({"metrics": {"loss": float("nan")}}, "bound of metric loss is nan"),
        ({"metrics": {"": 1.0}}, "'' is no name"),
        ({"metrics": {"a\nb": 1.0}}, "is no name"),
        ({"metrics": {"x" * 61: 1.0}}, "is no name"),
        ({"metrics": {"has loss": 1.0}}, "'has loss' is no name"),
        ({"metrics": {"clip_fraction": 2.0}}, "clip_fraction is summed in every masked round"),
        ({"metrics": {f"m{place}": 1.0 for place in range(31)}}, "31 metrics"),
    ],
)
def test_what_cannot_be_is_named_with_its_numbers(chosen: dict[str, Any], says: str) -> None:
    (fault,) = faults_of(MaskedOptions(**chosen))
    assert says in fault


def test_all_faults_come_at_once() -> None:
    wrong = MaskedOptions(clip=0.0, weight_unit=0, k=1, r=9, g_min=1, reopen="x", metrics={"loss": -1.0})
    assert len(list(faults_of(wrong))) == 6


def test_what_is_not_wrong_makes_an_encoding() -> None:
    chosen = MaskedOptions(clip=0.25, weight_cap=2**24)
    assert list(faults_of(chosen)) == []
    Encoding(1_000, chosen.clip, DEFAULT_N_MAX, chosen.weight_cap, (1.0,), chosen.weight_unit)
