"""What commands print: data on standard output, for people or as one JSON object; everything else on standard error."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence

SCHEMA_VERSION = 1


def print_data(data: object, human: Callable[[], None], *, as_json: bool) -> None:
    """Print data as JSON (``{"schema_version": 1, "data": ...}``) or the way people read it."""
    if as_json:
        from pydantic_core import to_jsonable_python

        print(json.dumps({"schema_version": SCHEMA_VERSION, "data": to_jsonable_python(data)}))
    else:
        human()


def print_fault(code: str, message: str, remedy: str) -> None:
    """Print a fault as JSON, where data was asked for as JSON."""
    fault = {"code": code, "message": message, "remedy": remedy}
    print(json.dumps({"schema_version": SCHEMA_VERSION, "error": fault}))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print a table, or say in words that there is nothing in it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    listed = [[_text(cell) for cell in row] for row in rows]
    if not listed:
        note(empty)
        return
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in listed:
        table.add_row(*row)
    # A pipe has no width: what reads it wants whole lines, not lines folded to 80 columns.
    width = None if sys.stdout.isatty() else 400
    Console(highlight=False, markup=False, width=width).print(table)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print names and values, a line each; what is empty is left out."""
    shown = [(name, _text(value)) for name, value in facts if value not in (None, "", (), {})]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{name:<{width}}  {value}")


def note(text: str) -> None:
    """Tell a person something beside the data."""
    print(text, file=sys.stderr, flush=True)


def hint(text: str) -> None:
    """Tell a person at a terminal what to do next."""
    if sys.stderr.isatty() and sys.stdout.isatty():
        note(f"Next: {text}")


def instant(seconds: float | None) -> str:
    """Return an instant (seconds since 1970) in this machine's time zone."""
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def size(count: int) -> str:
    """Return a number of bytes for people."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def short(digest: str | None) -> str:
    """Return the first letters of a digest or id, enough to tell it from others."""
    return (digest or "")[:12]


def measures(metrics: Iterable[tuple[str, float]]) -> str:
    """Return metrics in one line."""
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics)


def counted(samples: int | None) -> str:
    """Return how many samples an update is of, which in a masked round nobody knows."""
    return "masked" if samples is None else str(samples)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
