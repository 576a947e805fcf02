from typing import Any

import pytest

from fedn_py.identity import Digest, SessionId
from fedn_py.reducer.shown_measurements import MetricView, ValidationView
from fedn_py.web.ui.curves import Figure, Measurements, figures, spans

WHY = "2 clients gave it, and a mean is shown of at least 3"


def a_metric(name: str = "accuracy", mean: float | None = 0.5, **more: Any) -> MetricView:
    return MetricView(name, mean, 2, **more)


def spread(*values: float) -> dict[str, Any]:
    low, high = min(values), max(values)
    clients = dict(zip(("anna", "bert", "carl"), values, strict=False))
    return {"minimum": low, "lower_quartile": low, "upper_quartile": high, "maximum": high, "by_client": clients}


def measured(*rounds: tuple[int, tuple[MetricView, ...]], label: str = "one") -> Measurements:
    views = [
        ValidationView(SessionId("ab"), number, Digest("cd" * 32), True, 2, 20, 1.0, metrics)
        for number, metrics in rounds
    ]
    return Measurements(label, views)


def drawn(figure: Figure) -> dict[str, tuple[float | None, ...]]:
    return {one.name: one.values for one in figure.series}


def test_each_metric_has_a_figure_with_its_mean_by_round() -> None:
    first = measured((1, (a_metric(), a_metric("loss", 2.0))), (2, (a_metric(mean=0.75), a_metric("loss", 1.0))))
    accuracy, loss = figures("validation", first, None, ())
    assert (accuracy.name, accuracy.x, drawn(accuracy)) == ("accuracy", (1, 2), {"mean": (0.5, 0.75)})
    assert drawn(loss) == {"mean": (2.0, 1.0)}
    assert figures("training", first, None, ()) == ()


def test_what_clients_release_lies_in_a_band_and_their_own_curves_are_drawn_where_wanted() -> None:
    first = measured((1, (a_metric(**spread(0.25, 0.75)),)), (2, (a_metric(**spread(0.5)),)))
    (figure,) = figures("validation", first, None, ["bert", "nobody"])
    assert list(drawn(figure)) == ["mean", "smallest", "lower quartile", "upper quartile", "largest", "bert"]
    assert figure.bands == ((4, 1), (3, 2))
    for upper, lower in figure.bands:
        assert figure.series[upper].values[0] == 0.75
        assert figure.series[lower].values[0] == 0.25
    assert drawn(figure)["bert"] == (0.75, None)


def test_one_client_alone_is_no_band() -> None:
    (figure,) = figures("validation", measured((1, (a_metric(**spread(0.5)),))), None, ())
    assert (figure.bands, list(drawn(figure))) == ((), ["mean"])


def test_two_sessions_share_one_axis() -> None:
    first = measured((1, (a_metric(),)), (2, (a_metric(mean=0.75),)), label="a")
    second = measured((2, (a_metric(mean=0.25),)), (3, (a_metric(mean=0.5),)), label="b")
    (figure,) = figures("validation", first, second, ())
    assert figure.x == (1, 2, 3)
    assert drawn(figure) == {"mean of a": (0.5, 0.75, None), "mean of b": (None, 0.25, 0.5)}
    assert [one.dashed for one in figure.series] == [False, True]
    assert [(row.session, row.number) for row in figure.rows] == [("b", 3), ("a", 2), ("b", 2), ("a", 1)]


def test_hidden_means_are_told_together_with_their_reason_and_not_drawn() -> None:
    hidden = a_metric(mean=None, hidden=WHY)
    first = measured((1, (hidden,)), (2, (a_metric(),)), (3, (hidden,)), (4, (hidden,)))
    (figure,) = figures("validation", first, None, ())
    assert drawn(figure) == {"mean": (None, 0.5, None, None)}
    assert [(one.rounds, one.clients, one.why) for one in figure.hidden] == [("1, 3 to 4", 2, WHY)]
    (nothing,) = figures("validation", measured((1, (hidden,))), None, ())
    assert not nothing.is_drawn


def test_a_value_that_is_no_number_is_a_gap() -> None:
    (figure,) = figures("validation", measured((1, (a_metric(mean=float("nan")),)), (2, (a_metric(),))), None, ())
    assert drawn(figure) == {"mean": (None, 0.5)}


@pytest.mark.parametrize(
    ("numbers", "words"), [([], ""), ([3], "3"), ([1, 2], "1 to 2"), ([9, 3, 5, 6, 7, 8], "3, 5 to 9")]
)
def test_numbers_are_told_in_spans(numbers: list[int], words: str) -> None:
    assert spans(numbers) == words
