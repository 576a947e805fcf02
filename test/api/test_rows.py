"""Lists of views as tables: flat, complete, and harmless in a page."""

import sys
from dataclasses import dataclass, field

import pytest

from fedn_py.api.rows import PandasMissing, Rows


@dataclass(frozen=True)
class Inner:
    name: str
    samples: int | None


@dataclass(frozen=True)
class View:
    number: int
    metrics: dict[str, float] = field(default_factory=dict)
    clients: tuple[Inner, ...] = ()
    best: Inner | None = None
    shape: tuple[int, ...] = ()


ROWS = Rows(
    [
        View(1, {"accuracy": 0.5}, (Inner("anna", 10), Inner("bert", None)), Inner("anna", 10), (2, 3)),
        View(2, {"loss": 1.0}),
    ]
)


def test_what_is_inside_a_view_gets_a_name_with_dots_and_a_list_is_one_text() -> None:
    assert ROWS.records() == [
        {
            "number": 1,
            "metrics.accuracy": 0.5,
            "clients": "anna, bert",
            "best.name": "anna",
            "best.samples": 10,
            "shape": "2, 3",
        },
        {"number": 2, "metrics.loss": 1.0, "clients": "", "best": None, "shape": ""},
    ]
    assert Rows([]).records() == []


def test_they_are_a_list_as_any_other() -> None:
    assert ROWS[0].number == 1
    assert [view.number for view in ROWS] == [1, 2]
    assert Rows([1, 2]) == [1, 2]


def test_a_page_shows_them_as_a_table() -> None:
    shown = ROWS._repr_html_()
    assert "<th>metrics.accuracy</th><th>clients</th>" in shown
    assert "<td>anna, bert</td>" in shown
    assert shown.count("<tr>") == 3
    assert "nothing here" in Rows([])._repr_html_()


def test_nothing_in_them_becomes_markup() -> None:
    evil = "<script>alert('x')</script>\"&"
    shown = Rows([View(1, {evil: 0.5}, (Inner(evil, 1),))])._repr_html_()
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&quot;&amp;") == 2


def test_a_long_list_and_a_long_text_are_cut_in_a_page_alone() -> None:
    rows = Rows([Inner("x" * 1_000, number) for number in range(500)])
    shown = rows._repr_html_()
    assert shown.count("<tr>") == 201
    assert "and 300 more" in shown
    assert "x" * 201 not in shown
    assert len(rows.records()) == 500
    assert len(rows.records()[0]["name"]) == 1_000


def test_they_become_a_data_frame() -> None:
    pandas = pytest.importorskip("pandas")
    frame = ROWS.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["number"]) == [1, 2]
    assert frame["metrics.accuracy"][0] == 0.5
    assert frame["metrics.accuracy"].isna()[1]


def test_without_pandas_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(PandasMissing) as caught:
        ROWS.to_pandas()
    assert "pip install pandas" in caught.value.remedy
