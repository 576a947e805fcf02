"""Tables for spreadsheets (CSV, RFC 4180), safe to open: no name in them becomes a formula."""

import csv
import io
from collections.abc import AsyncGenerator, Iterator
from itertools import chain

from fedn_py.identity import SessionId
from fedn_py.reducer.control import Control
from fedn_py.reducer.shown_measurements import MetricView, ValidationView

VALIDATION_COLUMNS = ("session", "round", "model", "measured", "metric", "of", "value", "clients", "hidden")
"""``measured`` is validation or training, ``of`` mean or a client's name; ``hidden`` says why a mean has no value."""

_PAGE = 200
_BEGIN_A_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

Cell = str | int | float | None


async def validations_csv(control: Control, session: SessionId) -> AsyncGenerator[bytes, None]:
    """Give the measurements of all committed rounds of a session, a row for each mean and each client's value."""
    yield _lines([VALIDATION_COLUMNS])
    after: str | None = ""
    while after is not None:
        page = await control.validations(session, after=after, limit=_PAGE)
        yield _lines(chain.from_iterable(_rows(view) for view in page.items))
        after = page.next


def _rows(view: ValidationView) -> Iterator[tuple[Cell, ...]]:
    for measured, metrics in (("validation", view.metrics), ("training", view.training)):
        for metric in metrics:
            begin = (view.session, view.number, view.model, measured, metric.name)
            yield from ((*begin, *rest) for rest in _values(metric))


def _values(metric: MetricView) -> Iterator[tuple[Cell, ...]]:
    yield "mean", metric.mean, metric.clients, metric.hidden
    for client, value in metric.by_client.items():
        yield client, value, 1, ""


def _lines(rows: Iterator[tuple[Cell, ...]] | list[tuple[str, ...]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerows([_harmless(cell) for cell in row] for row in rows)
    return text.getvalue().encode()


def _harmless(cell: Cell) -> Cell:
    """Return a text so that no spreadsheet reads it as a formula; numbers stay."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_BEGIN_A_FORMULA) else cell
