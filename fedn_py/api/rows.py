"""Lists of views that become a table in one step: in a notebook, as flat dicts, or as a pandas DataFrame."""

import dataclasses
import html
import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from fedn_py.errors import OwnFault

Item = TypeVar("Item")

_SHOWN_AT_MOST = 200
_CELL_CHARACTERS = 200


class PandasMissing(OwnFault):
    """A DataFrame was asked for, and pandas is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "pandas is not installed here",
            remedy="Install it (pip install pandas), or use .records(), which needs nothing.",
        )


class Rows(list[Item]):
    """A list of views, such as rounds or clients, that is a table too.

    Example:
        >>> Rows([]).records()
        []
    """

    def records(self) -> list[dict[str, Any]]:
        """Return one flat dict for each view.

        A view inside a view, and what has names, becomes keys with dots: ``metrics.accuracy``. A list becomes one text
        of its parts' names or values.

        Example:
            >>> network.rounds(session.id).records()[0]["metrics.accuracy"]  # doctest: +SKIP
            0.93
        """
        return [dict(_flat("", view)) for view in self]

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame of the records; raises PandasMissing.

        Example:
            >>> network.rounds(session.id).to_pandas().plot(x="number", y="metrics.accuracy")  # doctest: +SKIP
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as fault:
            raise PandasMissing from fault
        return pandas.DataFrame.from_records(self.records())

    def _repr_html_(self) -> str:
        records = [dict(_flat("", view)) for view in self[:_SHOWN_AT_MOST]]
        columns = list(dict.fromkeys(name for record in records for name in record))
        head = _row("th", columns)
        body = "".join(_row("td", [record.get(name) for name in columns]) for record in records)
        more = f"<p>and {len(self) - len(records)} more</p>" if len(self) > len(records) else ""
        return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>{more}" if records else "<p>nothing here</p>"


def _flat(name: str, value: object) -> Iterator[tuple[str, Any]]:
    """Give the names and values of a view, what is inside it behind its name and a dot."""
    parts: Iterable[tuple[str, object]]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    elif isinstance(value, Mapping):
        parts = [(str(key), one) for key, one in value.items()]
    else:
        yield name, ", ".join(map(_text, value)) if isinstance(value, list | tuple) else value
        return
    for key, one in parts:
        yield from _flat(f"{name}.{key}" if name else key, one)


def _text(value: object) -> str:
    for name in ("name", "combiner"):
        if dataclasses.is_dataclass(value) and hasattr(value, name):
            return str(getattr(value, name))
    return str(value)


def _row(kind: str, cells: Iterable[object]) -> str:
    return "<tr>" + "".join(f"<{kind}>{html.escape(_short(cell))}</{kind}>" for cell in cells) + "</tr>"


def _short(cell: object) -> str:
    text = "" if cell is None else f"{cell:.6g}" if isinstance(cell, float) else str(cell)
    return text if len(text) <= _CELL_CHARACTERS else f"{text[:_CELL_CHARACTERS]}..."
